"""The values codecs and transports hand each other: requests, timeouts and server-sent events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aistrale.exceptions import ConfigurationError

DEFAULT_CONNECT_SECONDS = 10.0
DEFAULT_READ_SECONDS = 600.0
"""Reasoning models may think for minutes before the first byte."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """One request, ready to be sent: `url` absolute, `body` already encoded."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Responder: TypeAlias = Callable[[HTTPRequest], Iterator[tuple[float, bytes]]]
"""Answers a request in process: a JSON body, or an event stream in pieces, each after so many seconds."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Time limits of one attempt, in seconds; None means no limit. Retries and fallbacks are attempts of their own.

    connect: until a connection stands.
    read: between two arrivals of bytes, the first included.
    total: from sending to the last byte of the answer. In sync code the answer's head counts as one
    arrival: an upstream that sends its head byte by byte stretches the total, one that does so with the
    body does not.
    """

    connect: float | None = DEFAULT_CONNECT_SECONDS
    read: float | None = DEFAULT_READ_SECONDS
    total: float | None = None

    @classmethod
    def of(cls, value: float | Timeout | None, *, stream: bool) -> Timeout:
        """What a user's `timeout=` means, for each attempt.

        A number bounds the whole answer. A stream may well flow for longer than one would wait for
        silence, so there it bounds the time between two arrivals.
        """
        if value is None:
            return DEFAULT_TIMEOUT
        if isinstance(value, Timeout):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigurationError(f"timeout must be a positive number of seconds or a Timeout, not {value!r}")
        return cls(min(value, DEFAULT_CONNECT_SECONDS), value, None if stream else value)


DEFAULT_TIMEOUT = Timeout()


@dataclass(slots=True)
class ServerSentEvent:
    """One event of a `text/event-stream` (WHATWG HTML, section 9.2)."""

    event: str
    data: str


def host_of(url: str) -> str:
    """The scheme, host and port of a URL, without credentials, path or query, fit to be shown."""
    scheme, mark, rest = url.partition("://")
    host = rest.split("/", 1)[0].rsplit("@", 1)[-1]
    return f"{scheme}{mark}{host}" if mark else url.split("/", 1)[0]


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def check_header(name: Any, value: Any) -> None:
    """Raise ConfigurationError for a header that cannot be sent (RFC 9110, section 5), without showing its value."""
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name of a header")
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise ConfigurationError(f"The header {name} must be a text of ASCII characters in one line")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. Raises TypeError or ValueError for what JSON cannot say (NaN, lone surrogates)."""
    return _encode(value).encode()
