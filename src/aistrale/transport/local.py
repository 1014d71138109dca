"""Answers made in process, with the manners of a network's: for providers that need none, such as echo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from aistrale.http import HTTPRequest, Responder, Timeout


class LocalTransport:
    """A Transport over a Responder."""

    def __init__(self, respond: Responder) -> None:
        self._respond = respond

    def send(self, request: HTTPRequest, timeout: Timeout | None) -> LocalResponse:
        return LocalResponse(self._respond(request))

    def close(self) -> None: ...


class LocalResponse:
    """An answer in the making. A first piece that is an event makes it an event stream."""

    status = 200

    def __init__(self, pieces: Iterator[tuple[float, bytes]]) -> None:
        self._pieces = pieces
        self._first: tuple[float, bytes] | None = next(pieces)
        is_stream = self._first is not None and self._first[1].startswith(b"data:")
        kind = "text/event-stream" if is_stream else "application/json"
        self.headers: Mapping[str, str] = MappingProxyType({"content-type": kind})

    def read(self, limit: int | None = None) -> bytes:
        return b"".join(iter(self.read_some, b""))

    def read_some(self) -> bytes:
        seconds, piece = self.next_piece()
        if seconds:
            time.sleep(seconds)
        return piece

    def next_piece(self) -> tuple[float, bytes]:
        """The next piece and how long it takes to come; an empty one at the end."""
        piece = self._first or next(self._pieces, (0.0, b""))
        self._first = None
        return piece

    def drain(self) -> None: ...

    def close(self) -> None:
        self._pieces = iter(())


class AsyncLocalTransport:
    """An AsyncTransport over a Responder."""

    def __init__(self, respond: Responder) -> None:
        self._respond = respond

    async def send(self, request: HTTPRequest, timeout: Timeout | None) -> AsyncLocalResponse:
        return AsyncLocalResponse(LocalResponse(self._respond(request)))

    async def aclose(self) -> None: ...


class AsyncLocalResponse:
    """LocalResponse for async code."""

    def __init__(self, answer: LocalResponse) -> None:
        self.status, self.headers = answer.status, answer.headers
        self._answer = answer

    async def read(self, limit: int | None = None) -> bytes:
        pieces = []
        while piece := await self.read_some():
            pieces.append(piece)
        return b"".join(pieces)

    async def read_some(self) -> bytes:
        seconds, piece = self._answer.next_piece()
        if seconds:
            await asyncio.sleep(seconds)
        return piece

    async def drain(self) -> None: ...

    async def aclose(self) -> None:
        self._answer.close()

    def abandon(self) -> None:
        self._answer.close()
