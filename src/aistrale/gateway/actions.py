"""What a flow asks of its driver: everything in which sync and async code differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from aistrale.contract import CallbackHandler
from aistrale.http import HTTPRequest, Timeout
from aistrale.models import Chunk
from aistrale.providers import Route


@dataclass(slots=True)
class Send:
    """Send a request, within a context; the result is the response, its head read."""

    request: HTTPRequest
    route: Route
    timeout: Timeout | None
    within: AbstractContextManager[Any]


@dataclass(slots=True)
class Read:
    """Read the rest of a body; the result is bytes."""

    response: Any
    limit: int | None = None


@dataclass(slots=True)
class ReadSome:
    """Read what comes next; the result is bytes, empty at the end."""

    response: Any


@dataclass(slots=True)
class Drain:
    """Wait shortly for the end of a body whose content is over."""

    response: Any


@dataclass(slots=True)
class Close:
    """Let go of a response, read or not."""

    response: Any


@dataclass(slots=True)
class Wait:
    seconds: float


@dataclass(slots=True)
class Consult:
    """Call what may wait for a disk or a database; the result is its own."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(slots=True)
class Await:
    """Wait for what an async handler does at an event."""

    handler: CallbackHandler
    event: str
    told: Awaitable[Any]


@dataclass(slots=True)
class Emit:
    """Hand chunks to the caller of a stream."""

    chunks: list[Chunk]


Action: TypeAlias = Send | Read | ReadSome | Drain | Close | Wait | Consult | Await | Emit
