"""What a transport does: send one request, hand its answer over piece by piece.

Transports raise RequestTimeoutError, NetworkError, ServerError (a body that does not decode as its
Content-Encoding says) and ConfigurationError (a URL or header that cannot be sent), nothing else.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import NoReturn, Protocol

from aistrale.exceptions import ConfigurationError, NetworkError, RequestTimeoutError, ServerError
from aistrale.http import HTTPRequest, Timeout, host_of
from aistrale.transport.environment import proxy_for

DRAIN_SECONDS = 1.0
"""How long the end of a stream's body is waited for once its content has ended."""


class Response(Protocol):
    """An answer whose head has arrived. Close it, or read it to its end: then its connection is used again."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def read(self, limit: int | None = None) -> bytes:
        """The rest of the body, decompressed; after `limit` bytes the rest is given up."""

    def read_some(self) -> bytes:
        """What has arrived next, decompressed; empty at the end."""

    def drain(self) -> None:
        """Wait for the end of a body whose content is over, at most DRAIN_SECONDS."""

    def close(self) -> None: ...


class Transport(Protocol):
    """Sends requests from sync code; safe to share between threads, and usable after a fork."""

    def send(self, request: HTTPRequest, timeout: Timeout | None) -> Response: ...

    def close(self) -> None: ...


class AsyncResponse(Protocol):
    """`Response` for async code."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self, limit: int | None = None) -> bytes: ...

    async def read_some(self) -> bytes: ...

    async def drain(self) -> None: ...

    async def aclose(self) -> None: ...

    def abandon(self) -> None:
        """Close without waiting; called by the event loop."""


class AsyncTransport(Protocol):
    """Sends requests from async code, in whatever event loop it is called."""

    async def send(self, request: HTTPRequest, timeout: Timeout | None) -> AsyncResponse: ...

    async def aclose(self) -> None: ...


def raise_timeout(error: BaseException, what: str, seconds: float | None) -> NoReturn:
    limit = f" within {seconds:g} s" if seconds else ""
    raise RequestTimeoutError(f"{what}{limit}. Raise `timeout`, or look whether the provider is up.") from error


def raise_unreachable(error: BaseException, url: str) -> NoReturn:
    """For a connection that could not be made; names the proxy, if the environment sets one for this address."""
    proxy = proxy_for(url)
    way = f"{host_of(url)} through the proxy {host_of(proxy)}" if proxy else host_of(url)
    if _is_untrusted(error):
        advice = "If the certificate is your own proxy's or server's, name its authority's file in SSL_CERT_FILE."
    else:
        advice = "Check the base URL, the network and the proxy settings."
    raise NetworkError(f"Cannot connect to {way}: {error or type(error).__name__}. {advice}") from error


def _is_untrusted(error: BaseException | None) -> bool:
    """Whether a certificate that could not be verified lies at the bottom of an error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def raise_broken(error: BaseException) -> NoReturn:
    said = str(error).rstrip(".") or type(error).__name__
    raise NetworkError(
        f"The connection broke before the answer was whole: {said[:500]}. "
        "Try again; if it keeps breaking, check the base URL and what stands in between."
    ) from error


def raise_undecodable(error: BaseException) -> NoReturn:
    raise ServerError(
        "The answer's body does not decode as its Content-Encoding says; a proxy may have garbled it."
    ) from error


def raise_bad_url(url: str) -> NoReturn:
    raise ConfigurationError(
        f"The base URL is no address one can call: {host_of(url)!r}. It must start with http:// or https://."
    ) from None
