"""A user's own `httpx.AsyncClient` as a transport, used as it is."""

from __future__ import annotations

import asyncio

import httpx

from aistrale.http import DEFAULT_TIMEOUT, HTTPRequest, Timeout
from aistrale.transport.base import DRAIN_SECONDS, AsyncResponse, raise_timeout
from aistrale.transport.sync_http import client_timeout, typed_errors


class HTTPXAsyncClientTransport:
    """Sends through the user's client: its pool, proxies, hooks, and its timeout unless a call names one."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def send(self, request: HTTPRequest, timeout: Timeout | None) -> AsyncResponse:
        shown = timeout or DEFAULT_TIMEOUT
        deadline = None if shown.total is None else asyncio.get_running_loop().time() + shown.total
        try:
            with typed_errors(request.url, shown):
                message = self._client.build_request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    content=request.body,
                    timeout=client_timeout(timeout),
                )
                async with asyncio.timeout_at(deadline):
                    answer = await self._client.send(message, stream=True)
        except TimeoutError as error:
            raise_timeout(error, f"No answer from {httpx.URL(request.url).host}", shown.total)
        return HTTPXAsyncResponse(answer, request.url, shown, deadline)

    async def aclose(self) -> None:
        """The client is the user's to close."""


class HTTPXAsyncResponse:
    """An httpx answer as an AsyncResponse."""

    def __init__(self, answer: httpx.Response, url: str, timeout: Timeout, deadline: float | None) -> None:
        self.status = answer.status_code
        self.headers = answer.headers
        self._answer, self._url, self._timeout, self._deadline = answer, url, timeout, deadline
        self._pieces = answer.aiter_bytes()

    async def read(self, limit: int | None = None) -> bytes:
        pieces, size = [], 0
        while piece := await self.read_some():
            pieces.append(piece)
            size += len(piece)
            if limit is not None and size >= limit:
                await self.aclose()
                break
        return b"".join(pieces)

    async def read_some(self) -> bytes:
        try:
            with typed_errors(self._url, self._timeout):
                async with asyncio.timeout_at(self._deadline):
                    async for piece in self._pieces:
                        if piece:
                            return piece
        except TimeoutError as error:
            raise_timeout(error, f"No answer from {httpx.URL(self._url).host}", self._timeout.total)
        return b""

    async def drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                async for _ in self._pieces:
                    pass
        except (TimeoutError, httpx.HTTPError):
            await self.aclose()

    async def aclose(self) -> None:
        await self._answer.aclose()

    def abandon(self) -> None:
        self._closing = asyncio.ensure_future(self._answer.aclose())  # kept, or the loop might forget it
