"""The values codecs and transports hand each other: requests, timeouts and server-sent events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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


_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_LONGEST_WAIT = 1e9
"""Seconds; a header may name any number, and what is longer than this is as good as for ever."""


def seconds_in(number: str) -> float | None:
    """A number of seconds in a header or a body; None if it is no such number."""
    return min(float(number), _LONGEST_WAIT) if _NUMBER.fullmatch(number) else None


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How long the answer asks to wait: `retry-after-ms`, or Retry-After in seconds or as a date.

    Source: RFC 9110, section 10.2.3. None if it does not say, or not so that one can read it.
    """
    milliseconds, value = headers.get("retry-after-ms", "").strip(), headers.get("retry-after", "").strip()
    if (asked := seconds_in(milliseconds)) is not None:
        return asked / 1000
    if (asked := seconds_in(value)) is not None:
        return asked
    try:
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, OverflowError, TypeError):
        return None


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. Raises TypeError or ValueError for what JSON cannot say (NaN, lone surrogates)."""
    return _encode(value).encode()
