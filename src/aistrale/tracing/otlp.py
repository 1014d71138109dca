"""Spans to an OpenTelemetry collector and to an Aistrale server: OTLP over HTTP.

Source: the OTLP 1.x specification.
"""

from __future__ import annotations

import gzip
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from aistrale.exceptions import AistraleError, APIError, NetworkError, ServerError
from aistrale.forks import gate
from aistrale.http import HTTPRequest, Timeout, host_of, retry_after_seconds
from aistrale.logs import warn_once_a_minute
from aistrale.prices import PriceBook, is_table_loaded, load_table
from aistrale.spans import Span
from aistrale.store.peek import own_prices
from aistrale.tracing.destinations import Destination, collector, server
from aistrale.tracing.recorder import Recorder
from aistrale.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from aistrale.transport.sync_http import HTTPXTransport

_RETRYABLE = frozenset((429, 502, 503, 504))
_LONGEST_PAUSE = 30.0
_LONGEST_ASKED = 300.0
"""Seconds; whatever Retry-After says."""

_LOADING_SECONDS = 2.0
"""Who has less does not wait for the price table, which may take one: better a span without its cost than none."""


class OTLPSink:
    """Posts spans to one destination. What it cannot deliver waits, while there is room, for a later try."""

    batch = 512
    set_aside = 0
    is_local = False

    def __init__(self, to: Destination) -> None:
        self._to = to
        self.name = host_of(to.url)
        self.obstacle: Exception | None = None
        self._timeout = Timeout(connect=min(to.timeout, 10.0), read=to.timeout, total=to.timeout)
        self._transport: HTTPXTransport | None = None
        self._again_at, self._pause = 0.0, 1.0

    def deliver(self, spans: list[Span], *, within: float | None) -> int:
        if within is None and time.monotonic() < self._again_at:
            raise NetworkError(f"{self.name} did not take spans just now and is left alone for a while")
        try:
            began = time.monotonic()
            body = _encoded(spans, has_time=within is None or within > _LOADING_SECONDS)
            left = None if within is None else within - (time.monotonic() - began)
            refused = self._post(body, len(spans), self._timeout_within(left))
        except AistraleError as error:
            asked = error.retry_after if isinstance(error, APIError) else None
            self._again_at = time.monotonic() + (self._pause if asked is None else min(asked, _LONGEST_ASKED))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self.obstacle = error
            self._forget_certificates()
            raise
        self._again_at, self._pause, self.obstacle = 0.0, 1.0, None
        return refused

    def due_in(self) -> float | None:
        return None

    def delivered(self) -> None:
        """Nobody is told."""

    def after_fork(self) -> None:
        """It keeps nothing for later."""

    def put_by(self, spans: list[Span]) -> int:
        return len(spans)

    def end(self, seconds: float) -> None:
        """Nothing goes on beside deliveries."""

    def _timeout_within(self, seconds: float | None) -> Timeout:
        """For one who waits so long: a third of it is left to say how it went."""
        if seconds is None or self._timeout.total is None or seconds > 1.5 * self._timeout.total:
            return self._timeout
        seconds = max(0.01, seconds)
        return Timeout(connect=seconds / 3, read=seconds / 1.5, total=seconds / 1.5)

    def _post(self, body: bytes, number: int, timeout: Timeout) -> int:
        """Send so many spans; the result is how many of them were refused for good."""
        if self._transport is None:
            with gate.undivided():
                from aistrale.transport.sync_http import HTTPXTransport

            self._transport = HTTPXTransport() if self._to.tls is None else HTTPXTransport(self._to.tls.context)
        headers = {"Content-Type": "application/x-protobuf", **dict(self._to.headers)}
        if self._to.compress:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        response = self._transport.send(HTTPRequest("POST", self._to.url, headers, body), timeout)
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

    def _forget_certificates(self) -> None:
        """Read their files anew at the next try: they may have been renewed."""
        if self._to.tls is not None and self._transport is not None:
            self._transport.close()
            self._transport = None


def _refused(answer: bytes) -> tuple[int, str]:
    """How many spans a collector took no part of, and why, as its partial success says."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:  # JSON, or nothing that is meant: the status has said that all went well
        return 0, ""
    return partial.rejected_spans, partial.error_message


def _encoded(spans: list[Span], *, has_time: bool) -> bytes:
    with gate.undivided():
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    if has_time:
        load_table()
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


class _Sampling(Recorder):
    """Records the traces that a destination takes."""

    def __init__(self, to: Destination) -> None:
        super().__init__(OTLPSink(to), yields=to.yields)
        self._to = to

    def record(self, span: Span) -> None:
        if self._to.takes(span.trace_id):
            super().record(span)


_recorders: dict[Destination, Recorder] = {}
_lock = threading.Lock()


def otlp_recorders(api_url: str | None, api_key: str | None) -> list[Recorder]:
    """The recorders of this process for the server at `api_url` and for the collector that the environment names.

    Where both are one address, the server's is the only one: it would have each span twice. Raises ConfigurationError
    for variables that make no sense.
    """
    found = [server(api_url, api_key)] if api_url else []
    named = collector()
    if named is not None and named.url not in [to.url for to in found]:
        found.append(named)
    with _lock:
        return [_recorder(to) for to in found]


def _recorder(to: Destination) -> Recorder:
    recorder = _recorders.get(to)
    if recorder is None:
        recorder = _recorders[to] = _Sampling(to)
    return recorder
