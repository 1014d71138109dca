"""Requests from sync code, over httpx: its transport for our own pool, or a client of the user's."""

from __future__ import annotations

import codecs
import math
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NoReturn, cast

import httpx

from aistrale.exceptions import ConfigurationError
from aistrale.forks import gate
from aistrale.http import DEFAULT_TIMEOUT, HTTPRequest, Timeout
from aistrale.transport.base import (
    DRAIN_SECONDS,
    Response,
    raise_bad_url,
    raise_broken,
    raise_timeout,
    raise_undecodable,
    raise_unreachable,
)
from aistrale.transport.environment import proxy_for, ssl_context
from aistrale.transport.watchdog import watchdog
from aistrale.version import USER_AGENT

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
_COMMON_HEADERS = {"Accept-Encoding": "gzip, deflate", "User-Agent": USER_AGENT}


class HTTPXTransport:
    """Our own pool. One for all threads, so that short-lived threads find its connections still open.

    It is made at the first request of a process; a child after a fork makes its own and leaves its
    parent's sockets alone. tls: makes the context of its TLS connections, by default the environment's.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext] = ssl_context) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str | None], httpx.HTTPTransport] = {}
        self._routes: dict[str, httpx.HTTPTransport] = {}
        self._pid = os.getpid()
        self._inherited: list[object] = []

    def send(self, request: HTTPRequest, timeout: Timeout | None) -> Response:
        timeout = timeout or DEFAULT_TIMEOUT
        started = time.monotonic()
        with typed_errors(request.url, timeout):
            message = _message(request, timeout)
            answer = self._pool_for(message.url).handle_request(message)
        # What is not compressed need not pass through a decoder.
        pieces = answer.iter_bytes() if "content-encoding" in answer.headers else _as_sent(answer)
        return HTTPXResponse(answer, pieces, request.url, timeout, started)

    def close(self) -> None:
        with self._lock:
            pools, self._pools, self._routes = self._pools, {}, {}
        if self._pid == os.getpid():
            for pool in pools.values():
                pool.close()

    def _pool_for(self, url: httpx.URL) -> httpx.HTTPTransport:
        if self._pid != os.getpid():
            self._forget_parent()
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        return self._routes.get(origin) or self._add_route(origin, url.scheme)

    def _add_route(self, origin: str, scheme: str) -> httpx.HTTPTransport:
        if scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(scheme)
        proxy = proxy_for(origin)
        with gate.undivided(), self._lock:
            # What is imported only now, by httpx and where a host's name is first looked up, no fork may tear apart.
            codecs.lookup("idna")
            pool = self._pools.get((scheme, proxy))
            if pool is None:
                # A context costs tens of milliseconds and plain HTTP needs none.
                verify = self._tls() if scheme == "https" or proxy else False
                pool = httpx.HTTPTransport(verify=verify, limits=_LIMITS, proxy=proxy)
                self._pools[scheme, proxy] = pool
                weakref.finalize(self, _close_in, os.getpid(), pool)
            self._routes[origin] = pool
        return pool

    def _forget_parent(self) -> None:
        """After a fork: the pools' locks and sockets are the parent's, so neither use nor close them."""
        self._inherited.append((self._pools, self._lock))
        self._lock = threading.Lock()
        self._pools, self._routes, self._pid = {}, {}, os.getpid()


def _close_in(pid: int, pool: httpx.HTTPTransport) -> None:
    if os.getpid() == pid:
        pool.close()


class HTTPXClientTransport:
    """A user's own `httpx.Client`, used as it is: its pool, proxies, hooks, and its timeout unless a call names one."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, request: HTTPRequest, timeout: Timeout | None) -> Response:
        shown = timeout or DEFAULT_TIMEOUT
        started = time.monotonic()
        with typed_errors(request.url, shown):
            message = self._client.build_request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                timeout=client_timeout(timeout),
            )
            answer = self._client.send(message, stream=True)
        return HTTPXResponse(answer, answer.iter_bytes(), request.url, shown, started)

    def close(self) -> None:
        """The client is the user's to close."""


def client_timeout(timeout: Timeout | None) -> httpx.Timeout | httpx._client.UseClientDefault:
    """Our limits in httpx's terms; None leaves the client's own."""
    return httpx.Timeout(**_limits(timeout)) if timeout else httpx.USE_CLIENT_DEFAULT


class HTTPXResponse:
    """An httpx answer as a Response.

    httpx knows no limit of a whole answer, and cannot shorten a read that has begun: where one is due,
    the socket is shut down under it.
    """

    def __init__(
        self, answer: httpx.Response, pieces: Iterator[bytes], url: str, timeout: Timeout, started: float
    ) -> None:
        self.status = answer.status_code
        self.headers = answer.headers
        self._answer, self._pieces = answer, pieces
        self._url, self._timeout = url, timeout
        self._deadline = math.inf if timeout.total is None else started + timeout.total
        self._call_off: Callable[[], object] = _do_nothing
        if timeout.total is not None:
            self._limit(max(0.0, self._deadline - time.monotonic()))

    def read(self, limit: int | None = None) -> bytes:
        pieces, size = [], 0
        while piece := self.read_some():
            pieces.append(piece)
            size += len(piece)
            if limit is not None and size >= limit:
                self.close()
                break
        return b"".join(pieces)

    def read_some(self) -> bytes:
        try:
            for piece in self._pieces:
                if piece:
                    return piece
        except httpx.HTTPError as error:
            self._call_off()
            self._check_deadline(error)
            raise_typed(error, self._url, self._timeout)
        self._call_off()
        self._check_deadline(None)
        return b""

    def drain(self) -> None:
        """Read the end of the body, so that the connection can be used again.

        It has mostly arrived already; a server that holds the connection open after its last word must
        not hold the caller.
        """
        self._call_off()
        if not self._limit(DRAIN_SECONDS):
            self.close()
            return
        try:
            for _ in self._pieces:
                pass
        except httpx.HTTPError:
            self._answer.close()
        finally:
            self._call_off()

    def close(self) -> None:
        self._call_off()
        self._answer.close()

    def _limit(self, seconds: float) -> bool:
        """Shut the socket down in `seconds`, unless called off; False if there is no socket."""
        stream = self._answer.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is None:
            return False
        self._call_off = watchdog.watch(seconds, lambda: connection.shutdown(socket.SHUT_RDWR))
        return True

    def _check_deadline(self, error: BaseException | None) -> None:
        if time.monotonic() >= self._deadline:
            cause = error or TimeoutError("the answer was not whole in time")
            raise_timeout(cause, f"No whole answer from {_parse(self._url).host}", self._timeout.total)


def _as_sent(answer: httpx.Response) -> Iterator[bytes]:
    """A body piece by piece, without what httpx's own `iter_raw` counts and cuts: streams come in small pieces."""
    if answer.is_closed:
        raise httpx.StreamClosed
    yield from cast(httpx.SyncByteStream, answer.stream)
    answer.close()


def _message(request: HTTPRequest, timeout: Timeout) -> httpx.Request:
    """A request in httpx's terms."""
    url, body, extensions = _parse(request.url), request.body, {"timeout": _limits(timeout)}
    given = set(map(str.lower, request.headers))
    headers = {**_COMMON_HEADERS, **request.headers}
    if not given.isdisjoint(("accept-encoding", "user-agent")):  # in whatever case
        headers = {name: value for name, value in _COMMON_HEADERS.items() if name.lower() not in given}
        headers.update(request.headers)
    if request.method != "POST" or not given.isdisjoint(_FRAMING):
        return httpx.Request(request.method, url, headers=headers, content=body, extensions=extensions)
    # As httpx would add them to what is posted; it looks for them in all the others first.
    headers = {"Host": url.netloc.decode("ascii"), **headers, "Content-Length": str(len(body))}
    message = httpx.Request(request.method, url, headers=headers, stream=httpx.ByteStream(body), extensions=extensions)
    message.read()  # so that `content` is there for whoever watches httpx
    return message


_FRAMING = frozenset(("host", "content-length", "transfer-encoding"))
"""Headers that say where a request goes and how long it is."""


def _do_nothing() -> None: ...


@lru_cache(maxsize=256)
def _parse(url: str) -> httpx.URL:
    return httpx.URL(url)


def _limits(timeout: Timeout) -> dict[str, float | None]:
    """Our limits as httpx has them, which knows no total: each step is bounded by it."""
    connect, read = (_least(seconds, timeout.total) for seconds in (timeout.connect, timeout.read))
    return {"connect": connect, "read": read, "write": read, "pool": connect}


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


@contextmanager
def typed_errors(url: str, timeout: Timeout) -> Iterator[None]:
    """Turn httpx's errors into ours."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise_typed(error, url, timeout)


def raise_typed(error: httpx.HTTPError | httpx.InvalidURL, url: str, timeout: Timeout) -> NoReturn:
    """Raise the error of ours that httpx's stands for."""
    match error:
        case httpx.ConnectTimeout():
            raise_timeout(error, f"No connection to {_parse(url).host}", _limits(timeout)["connect"])
        case httpx.TimeoutException():
            raise_timeout(error, f"No answer from {_parse(url).host}", _limits(timeout)["read"])
        case httpx.DecodingError():
            raise_undecodable(error)
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            raise_bad_url(url)
        case httpx.LocalProtocolError():
            # Its message may repeat a header's value, which may be the key.
            raise ConfigurationError("A header of the request cannot be sent: look for odd characters") from None
        case httpx.ConnectError() | httpx.ProxyError():
            raise_unreachable(error, url)
        case _:
            raise_broken(error)
