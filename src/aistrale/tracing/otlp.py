"""Spans to an OpenTelemetry collector, or to an Aistrale server: OTLP over HTTP.

Source: the OTLP 1.x specification, and the OpenTelemetry environment variables for exporters.
"""

from __future__ import annotations

import gzip
import os
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aistrale.exceptions import AistraleError, APIError, ConfigurationError, NetworkError, ServerError
from aistrale.forks import gate
from aistrale.http import HTTPRequest, Timeout, check_header, host_of, retry_after_seconds
from aistrale.logs import warn_once_a_minute
from aistrale.prices import PriceBook, is_table_loaded, load_table
from aistrale.spans import Span
from aistrale.store.peek import own_prices
from aistrale.tracing.recorder import Recorder
from aistrale.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from aistrale.transport.sync_http import HTTPXTransport

_RETRYABLE = frozenset((429, 502, 503, 504))
_LONGEST_PAUSE = 30.0
_LONGEST_ASKED = 300.0
"""Seconds; whatever Retry-After says."""

EXIT_TIMEOUT = Timeout(connect=0.5, read=1.0, total=1.0)


class OTLPSink:
    """Posts spans to one address. What it cannot deliver waits, while there is room, for a later try."""

    batch = 512
    set_aside = 0

    def __init__(self, url: str, headers: tuple[tuple[str, str], ...], timeout: float, compress: bool) -> None:
        self._url, self._headers = url, dict(headers)
        self.name = host_of(url)
        self.obstacle: Exception | None = None
        self._timeout = Timeout(connect=min(timeout, 10.0), read=timeout, total=timeout)
        self._compress = compress
        self._transport: HTTPXTransport | None = None
        self._again_at, self._pause = 0.0, 1.0

    def deliver(self, spans: list[Span], *, at_exit: bool) -> int:
        if time.monotonic() < self._again_at:
            raise NetworkError(f"{self.name} did not take spans just now and is left alone for a while")
        try:
            refused = self._post(_encoded(spans, at_exit), len(spans), EXIT_TIMEOUT if at_exit else self._timeout)
        except AistraleError as error:
            asked = error.retry_after if isinstance(error, APIError) else None
            self._again_at = time.monotonic() + (self._pause if asked is None else min(asked, _LONGEST_ASKED))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self.obstacle = error
            raise
        self._again_at, self._pause, self.obstacle = 0.0, 1.0, None
        return refused

    def due_in(self) -> float | None:
        return None

    def delivered(self) -> None:
        """Nobody is told."""

    def give_up(self, spans: list[Span]) -> int:
        return len(spans)

    def _post(self, body: bytes, number: int, timeout: Timeout) -> int:
        """Send so many spans; the result is how many of them were refused for good."""
        if self._transport is None:
            with gate.undivided():
                from aistrale.transport.sync_http import HTTPXTransport

            self._transport = HTTPXTransport()
        headers = {"Content-Type": "application/x-protobuf", **self._headers}
        if self._compress:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        response = self._transport.send(HTTPRequest("POST", self._url, headers, body), timeout)
        answer = response.read(65_536)
        if response.status in _RETRYABLE:
            pause = retry_after_seconds(response.headers)
            raise ServerError(f"{self.name} answered {response.status}", status=response.status, retry_after=pause)
        if 200 <= response.status < 300:
            refused, why = _refused(answer)
        else:
            # The specification forbids another try: the same spans would be refused again.
            refused, why = number, f"{response.status} {answer[:200]!r}"
        if refused:
            warn_once_a_minute(self.name, "%s refused %d of %d spans: %s", self.name, refused, number, why)
        return max(0, min(refused, number))


def _refused(answer: bytes) -> tuple[int, str]:
    """How many spans a collector took no part of, and why, as its partial success says."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:  # JSON, or nothing that is meant: the status has said that all went well
        return 0, ""
    return partial.rejected_spans, partial.error_message


def _encoded(spans: list[Span], at_exit: bool) -> bytes:
    with gate.undivided():
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    if not at_exit:
        load_table()
    # While a process ends there is no time to load it: better a span without its cost than none.
    book = PriceBook(own_prices()) if is_table_loaded() else None
    encoded: bytes = encode_spans([_readable(span, book) for span in spans]).SerializeToString()
    return encoded


def _readable(span: Span, book: PriceBook | None) -> ReadableSpan:
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    flags, trace_id = TraceFlags(TraceFlags.SAMPLED), int(span.trace_id, 16)
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(trace_id, int(span.parent_id, 16), False, flags)
    attributes = {_clean(key): _clean(value) for key, value in span.attributes.items()}
    cost = span.cost
    if cost is None and book is not None:
        cost = getattr(book.cost(span), "amount", None)
    if cost is not None:
        attributes["gen_ai.usage.cost"] = float(cost)
    return ReadableSpan(
        _clean(span.name),
        SpanContext(trace_id, int(span.span_id, 16), False, flags),
        parent,
        _resource(),
        attributes,
        [
            Event(event.name, {key: _clean(value) for key, value in event.attributes.items()}, event.time)
            for event in span.events
        ],
        kind=SpanKind[span.kind.upper()],
        status=Status(StatusCode.ERROR if span.status == "error" else StatusCode.UNSET),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=_scope(),
    )


def _clean(value: Any) -> Any:
    """A value as protobuf can say it, which knows no lone surrogates."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    return [_clean(entry) for entry in value] if isinstance(value, list | tuple) else value


@cache
def _resource() -> Any:
    """What the process is, as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say.

    Not by Resource.create, which asks its detectors in threads that cannot be had while a process ends.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {"service.name": "unknown_service", "telemetry.sdk.name": "aistrale", "telemetry.sdk.language": "python"}
    return Resource({**ours, "telemetry.sdk.version": __version__}).merge(OTELResourceDetector().detect())


@cache
def _scope() -> Any:
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from aistrale.tracing.attributes import SCHEMA_URL

    return InstrumentationScope("aistrale", __version__, SCHEMA_URL)


_recorders: dict[tuple[Any, ...], Recorder] = {}
_lock = threading.Lock()


def otlp_recorder(api_url: str | None, api_key: str | None) -> Recorder | None:
    """The recorder of this process for the server at `api_url`, else for the collector the environment names.

    None if there is neither. Raises ConfigurationError for variables that make no sense.
    """
    found = _server(api_url, api_key) if api_url else _collector()
    if found is None:
        return None
    with _lock:
        recorder = _recorders.get(found)
        if recorder is None:
            recorder = _recorders[found] = Recorder(OTLPSink(*found), yields=not api_url)
    return recorder


def _server(api_url: str, api_key: str | None) -> tuple[str, tuple[tuple[str, str], ...], float, bool]:
    headers = (("Authorization", f"Bearer {api_key}"),) if api_key else ()
    return f"{api_url.rstrip('/')}/v1/traces", headers, 10.0, True


def _collector() -> tuple[str, tuple[tuple[str, str], ...], float, bool] | None:
    url = _variable("ENDPOINT", whole=True)
    if url is None or _is_disabled():
        return None
    protocol = _variable("PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        warn_once_a_minute(url, "no spans are sent: OTEL_EXPORTER_OTLP_PROTOCOL is %s, and not http/protobuf", protocol)
        return None
    timeout = _variable("TIMEOUT") or "10"
    try:
        seconds = float(timeout)
    except ValueError:
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_TIMEOUT must be a number of seconds, not {timeout!r}") from None
    return url, tuple(_headers(_variable("HEADERS") or "")), seconds, _variable("COMPRESSION") == "gzip"


def _is_disabled() -> bool:
    exporter, disabled = os.environ.get("OTEL_TRACES_EXPORTER", ""), os.environ.get("OTEL_SDK_DISABLED", "")
    return exporter.strip() == "none" or disabled.strip().lower() == "true"


def _variable(name: str, *, whole: bool = False) -> str | None:
    """A variable of the exporter: the one for traces goes before the one for all signals."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    common = os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()
    if whole and common:
        common = f"{common.rstrip('/')}/v1/traces"
    return own or common or None


def _headers(text: str) -> list[tuple[str, str]]:
    """`name=value` pairs, percent-encoded, between commas."""
    pairs = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = entry.partition("=")
        pair = name.strip(), unquote(value.strip())
        check_header(*pair)
        pairs.append(pair)
    return pairs
