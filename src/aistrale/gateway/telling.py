"""Handlers are told of a call, and what goes wrong in them is not the call's fault."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

from aistrale.contract import CallbackHandler, hears
from aistrale.exceptions import AistraleError
from aistrale.gateway.actions import Await

logger = logging.getLogger("aistrale")


class Audience:
    """The handlers of a call, and which of them are told of what; each as it is when it is given to a client or call.

    starting, errors: those that hear of the start, and of a failure, each with its place among all of them.
    """

    __slots__ = ("attempts", "ends", "errors", "handlers", "starting", "tokens")

    def __init__(self, handlers: Sequence[CallbackHandler]) -> None:
        self.handlers = handlers
        self.starting, self.errors = (
            [(place, handler) for place, handler in enumerate(handlers) if hears(handler, event)]
            for event in ("on_start", "on_error")
        )
        self.attempts, self.tokens, self.ends = (
            [handler for handler in handlers if hears(handler, event)] for event in ("on_attempt", "on_token", "on_end")
        )


def tell(handler: CallbackHandler, event: str, *arguments: Any) -> Await | None:
    """Tell a handler of an event; what is left to wait for if it is async, else None.

    An AistraleError at the start refuses the call, and is raised; anything else a handler raises is logged.
    """
    try:
        told = getattr(handler, event)(*arguments)
    except Exception as error:  # noqa: BLE001 - a watcher's fault is not the call's
        _judge(handler, event, error)
        return None
    return Await(handler, event, told) if told is not None and inspect.isawaitable(told) else None


async def heard(action: Await) -> None:
    """Wait for an async handler, under the same rule."""
    try:
        await action.told
    except Exception as error:  # noqa: BLE001 - a watcher's fault is not the call's
        _judge(action.handler, action.event, error)


def _judge(handler: CallbackHandler, event: str, error: Exception) -> None:
    if event == "on_start" and isinstance(error, AistraleError):
        raise error
    name = f"{type(handler).__name__}.{event}"
    logger.warning("the callback handler %s raised %s; the call goes on", name, type(error).__name__, exc_info=error)
