"""Requests from async code, over aiohttp.

httpx's async pool collapses under concurrency (measured: `make bench`), so the async side has another
engine behind the same small interface; a user's own `httpx.AsyncClient` is taken too (async_httpx).
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import NoReturn

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from aistrale.http import DEFAULT_TIMEOUT, HTTPRequest, Timeout
from aistrale.transport.base import (
    DRAIN_SECONDS,
    AsyncResponse,
    raise_bad_url,
    raise_broken,
    raise_timeout,
    raise_undecodable,
    raise_unreachable,
)
from aistrale.transport.environment import proxy_for, ssl_context
from aistrale.version import USER_AGENT

MAX_CONNECTIONS = 512
"""In one event loop. Calls beyond it wait for their turn; the usual limit of open files is 1,024."""
_KEEPALIVE_SECONDS = 30.0


class AiohttpTransport:
    """A pool for each event loop it is used in, made at the first request there and closed with the loop.

    A child after a fork runs event loops of its own, and so has pools of its own.
    """

    def __init__(self) -> None:
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    async def send(self, request: HTTPRequest, timeout: Timeout | None) -> AsyncResponse:
        timeout = timeout or DEFAULT_TIMEOUT
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or pool.closed:
            self._forget_closed_loops()
            pool = self._pools[loop] = _Pool(partial(self._pools.pop, loop, None))
            await pool.close_with_loop()
        try:
            url, origin = _parse(request.url)
            answer = await pool.session.request(
                request.method,
                url,
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                proxy=pool.proxy_of(origin),
                ssl=ssl_context() if origin.startswith("https") else True,
                timeout=_limits(timeout),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            _raise_typed(error, request.url, timeout)
        pool.answers.add(answer)
        return AiohttpResponse(answer, request.url, timeout)

    def _forget_closed_loops(self) -> None:
        """Those that ended without shutting down their async generators: a pool holds its loop, so it must go."""
        for loop in [loop for loop in self._pools if loop.is_closed()]:
            self._pools.pop(loop, None)

    async def aclose(self) -> None:
        """Close this loop's pool. Another loop's closes with that loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()


class _Pool:
    """One event loop's connections."""

    def __init__(self, forget: Callable[[], object]) -> None:
        self._forget = forget
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=_KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate"},
        )
        self.answers: weakref.WeakSet[aiohttp.ClientResponse] = weakref.WeakSet()
        self._proxies: dict[str, str | None] = {}
        self._end = self._wait_for_end()
        self._pid = os.getpid()
        # A client that is forgotten while its loop runs: the session is not, until it was closed.
        of_loop = weakref.ref(asyncio.get_running_loop())
        weakref.finalize(self, _close_soon, of_loop, self.session, self._pid).atexit = False

    @property
    def closed(self) -> bool:
        return self.session.closed or self._pid != os.getpid()

    def proxy_of(self, origin: str) -> str | None:
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(origin)
        return self._proxies[origin]

    async def close_with_loop(self) -> None:
        """Have the loop close the session when it shuts down: it finishes the async generators it has started."""
        await anext(self._end)

    async def close(self) -> None:
        await self._end.aclose()

    async def _wait_for_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._forget()
            for answer in list(self.answers):  # one that outlives its loop can no longer be closed, and says so
                answer.close()
            await self.session.close()


def _close_soon(of_loop: weakref.ref[asyncio.AbstractEventLoop], session: aiohttp.ClientSession, pid: int) -> None:
    loop = of_loop()
    if loop is not None and not session.closed and pid == os.getpid():
        with suppress(RuntimeError):  # it is closed, and its connections with it
            loop.call_soon_threadsafe(_close_in, loop, session)


def _close_in(loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
    closing = loop.create_task(session.close())
    _closing.add(closing)  # an event loop forgets tasks that nobody remembers
    closing.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()


class AiohttpResponse:
    """An aiohttp answer as an AsyncResponse."""

    def __init__(self, answer: aiohttp.ClientResponse, url: str, timeout: Timeout) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._answer, self._url, self._timeout = answer, url, timeout

    async def read(self, limit: int | None = None) -> bytes:
        if limit is None:
            try:
                return await self._answer.read()
            except (aiohttp.ClientError, OSError) as error:
                _raise_typed(error, self._url, self._timeout)
        pieces, size = [], 0
        while piece := await self.read_some():
            pieces.append(piece)
            size += len(piece)
            if size >= limit:
                await self.aclose()
                break
        return b"".join(pieces)

    async def read_some(self) -> bytes:
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            _raise_typed(error, self._url, self._timeout)

    async def drain(self) -> None:
        """Read the end of the body, so that the connection can be used again, unless that takes too long."""
        content = self._answer.content
        if content.at_eof():
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not content.at_eof():
                    await content.readany()
        except (TimeoutError, aiohttp.ClientError):
            await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else drop it."""
        self._answer.close()

    def abandon(self) -> None:
        self._answer.close()


@lru_cache(maxsize=256)
def _parse(url: str) -> tuple[URL, str]:
    """A URL, and its scheme, host and port as text."""
    parsed = URL(url, encoded=True)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise aiohttp.InvalidURL(url)
    return parsed, str(parsed.origin())


@lru_cache(maxsize=64)
def _limits(timeout: Timeout) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=timeout.total, connect=None, sock_connect=timeout.connect, sock_read=timeout.read
    )


def _raise_typed(error: Exception, url: str, timeout: Timeout) -> NoReturn:
    """Raise the error of ours that aiohttp's stands for."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            raise_timeout(error, f"No connection to {URL(url).host}", timeout.connect)
        case TimeoutError():  # aiohttp's others derive from it, and the total limit raises it plainly
            raise_timeout(error, f"No answer from {URL(url).host}", timeout.total or timeout.read)
        case aiohttp.ClientConnectorError():
            raise_unreachable(error, url)
        case aiohttp.ClientPayloadError() if isinstance(error.__cause__, ContentEncodingError):
            raise_undecodable(error)
        case aiohttp.ClientResponseError():  # itself holds the request's headers, so its cause is chained
            raise_broken(error.__cause__ or error)
        case aiohttp.InvalidURL() | ValueError():
            raise_bad_url(url)
        case _:
            raise_broken(error)
