"""The two drivers of a flow: what a flow asks for is done here, blocking or awaiting."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aistrale.gateway.actions import Action, Await, Close, Consult, Drain, Emit, Read, ReadSome, Send, Wait
from aistrale.gateway.flow import Flow, Left
from aistrale.gateway.telling import heard
from aistrale.models import Chunk
from aistrale.providers import Profile
from aistrale.transport.base import AsyncTransport, Transport


class Driver:
    """Performs a flow from sync code. `run` goes to its end, or to the next chunks of a stream."""

    def __init__(self, flow: Flow, transport_of: Callable[[Profile], Transport]) -> None:
        self._flow = flow
        self._transport_of = transport_of

    @property
    def is_busy(self) -> bool:
        """Whether the flow itself is running: it is telling a handler, who asks."""
        return inspect.getgeneratorstate(self._flow) == inspect.GEN_RUNNING

    def run(self, error: BaseException | None = None) -> list[Chunk] | None:
        """The next chunks; None once the flow has ended, with its `result`. `error` is thrown into it first."""
        outcome: Any = None
        try:
            while True:
                action = self._flow.send(outcome) if error is None else self._flow.throw(error)
                if type(action) is Emit:
                    return action.chunks
                outcome = error = None
                try:
                    outcome = self._perform(action)
                except BaseException as raised:  # noqa: BLE001 - the flow decides, and lets pass what is not its own
                    error = raised
        except StopIteration as stop:
            self.result = stop.value
            return None
        finally:
            del error

    def _perform(self, action: Action) -> Any:
        match action:
            case ReadSome(response):
                return response.read_some()
            case Send(request, route, timeout, within):
                with within:
                    return self._transport_of(route.profile).send(request, timeout)
            case Read(response, limit):
                return response.read(limit)
            case Drain(response):
                response.drain()
            case Close(response):
                response.close()
            case Wait(seconds):
                time.sleep(seconds)
            case Consult(function, arguments):
                return function(*arguments)
        return None


class AsyncDriver:
    """Performs a flow from async code, as Driver does from sync code."""

    def __init__(self, flow: Flow, transport_of: Callable[[Profile], AsyncTransport]) -> None:
        self._flow = flow
        self._transport_of = transport_of

    async def run(self, error: BaseException | None = None) -> list[Chunk] | None:
        """The next chunks; None once the flow has ended, with its `result`. `error` is thrown into it first."""
        outcome: Any = None
        try:
            while True:
                action = self._flow.send(outcome) if error is None else self._flow.throw(error)
                if type(action) is Emit:
                    return action.chunks
                outcome = error = None
                try:
                    outcome = await self._perform(action)
                except BaseException as raised:  # noqa: BLE001 - the flow decides, and lets pass what is not its own
                    error = raised
        except StopIteration as stop:
            self.result = stop.value
            return None
        finally:
            del error

    async def _perform(self, action: Action) -> Any:
        match action:
            case ReadSome(response):
                return await response.read_some()
            case Send(request, route, timeout, within):
                with within:
                    return await self._transport_of(route.profile).send(request, timeout)
            case Read(response, limit):
                return await response.read(limit)
            case Await():
                await heard(action)
            case Drain(response):
                await response.drain()
            case Close(response):
                await response.aclose()
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Consult(function, arguments):
                return await asyncio.to_thread(function, *arguments)
        return None

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the flow where nothing can be awaited: handlers hear of it now, `loop` closes what is open."""

        def later(function: Callable[..., Any], *arguments: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed, and its sockets with it
                loop.call_soon_threadsafe(function, *arguments)

        with suppress(Left, StopIteration):
            action = self._flow.throw(Left())
            while True:
                match action:
                    case Await():
                        later(_as_task, loop, action)
                    case Close(response):
                        later(response.abandon)
                action = self._flow.send(None)


def _as_task(loop: asyncio.AbstractEventLoop, action: Await) -> None:
    task = loop.create_task(heard(action))
    _tasks.add(task)  # or the loop might forget it
    task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()
