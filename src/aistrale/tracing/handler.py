"""One OpenTelemetry span for every call, and its metrics.

No global provider is set: an application's own is used, or the one a client was given; our recorders
keep and send the span whether there is one or not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from opentelemetry import metrics, trace

from aistrale.contract import Call, CallbackHandler
from aistrale.logs import warn_once_a_minute
from aistrale.models import Attempt, Completion, CompletionRequest, Embedding, EmbeddingRequest
from aistrale.spans import STORED_KEY
from aistrale.tracing.attributes import (
    Attributes,
    attempt_attributes,
    error_type,
    is_cancelled,
    result_attributes,
    start_attributes,
    where,
)
from aistrale.tracing.content import input_content, output_content
from aistrale.tracing.metrics import Metrics
from aistrale.tracing.recorder import Recorder
from aistrale.tracing.tracer import Enclosure, OpenSpan, Tracer, enclosures

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class TelemetryHandler(CallbackHandler):
    """Records each call as an inference span, with its attempts as events, and sends the trace context on.

    The context goes as W3C `traceparent` and `tracestate` headers, never as baggage: that is the caller's own.

    tracer_provider, meter_provider: where to, instead of the application's global ones. recorders: where to
    besides. capture_content: whether spans hold what was said and answered; None leaves that to
    CAPTURE_VARIABLE, whose default is no.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        capture_content: bool | None = None,
        recorders: Iterable[Recorder] = (),
    ) -> None:
        self._tracer = Tracer(tracer_provider, recorders, asks=False)  # on_start does
        self._metrics = Metrics(meter_provider)
        self._capture = _captures() if capture_content is None else capture_content

    def on_start(self, call: Call) -> None:
        if enclosures:
            call.request = _enclosed(call.request, self._tracer.enclosure)
        place = where(call)
        span = self._tracer.start(_name(call), "client", start_attributes(call, place), call.request.options.parent)
        call.state[self] = span, place
        call.trace_id, call.sending = call.trace_id or span.trace_id, call.sending or span.as_current
        if "traceparent" not in map(str.lower, call.headers):  # else the caller sends on another, or a handler before
            span.send_on(call.headers)
        if self._capture and span.is_recording and isinstance(call.request, CompletionRequest):
            span.set(dict(input_content(call.request)))

    def on_attempt(self, call: Call, attempt: Attempt) -> None:
        span: OpenSpan = call.state[self][0]
        if call.stored_key is not None and span.is_recording:
            span.add_to(STORED_KEY, f"{call.provider}/{call.stored_key}")
        if attempt.error is None and len(call.attempts) == 1:
            return  # the usual case: one attempt, which is the call, and the span says all of it
        if span.is_recording:
            span.event("aistrale.attempt", attempt_attributes(attempt, len(call.attempts)))
            if attempt.opened_circuit:
                span.event("aistrale.provider_failed", attempt_attributes(attempt, len(call.attempts)))

    def on_end(self, call: Call, result: Completion | Embedding) -> None:
        span: OpenSpan = call.state[self][0]
        if span.is_recording:
            span.set(self._outcome(call, result))
            span.end(cost=result.reported_cost)
        self._metrics.record(call, result.latency, result.usage, result)

    def on_error(self, call: Call, error: BaseException) -> None:
        span: OpenSpan = call.state[self][0]
        kind = None if is_cancelled(error) else error_type(error)
        if span.is_recording:
            span.set(self._outcome(call, call.partial))
            if kind is None:
                span.set({"aistrale.cancelled": True})
            # A provider's message may quote the prompt.
            cost = call.partial.reported_cost if call.partial is not None else None
            span.end(kind, str(error) if self._capture else None, cost)
        self._metrics.record_failure(call, kind)

    def _outcome(self, call: Call, result: Completion | Embedding | None) -> Attributes:
        attributes = {} if result is None else result_attributes(result)
        span, planned = call.state[self]
        if (place := where(call)) is not planned:  # a fallback led it elsewhere
            attributes.update(place)
            span.rename(_name(call))
        if self._capture and isinstance(result, Completion):
            attributes["gen_ai.output.messages"] = output_content(result)
        return attributes


def _enclosed(request: CompletionRequest | EmbeddingRequest, within: Enclosure) -> CompletionRequest | EmbeddingRequest:
    """A request that says what it is part of, as far as it said nothing else."""
    if not any(within):
        return request
    options = request.options
    session, user = options.session_id or within.session_id, options.user_id or within.user_id
    parent = options.parent or within.parent
    return replace(request, options=replace(options, parent=parent, session_id=session, user_id=user))


def _name(call: Call) -> str:
    return f"{call.operation} {call.model}"


def _captures() -> bool:
    """Whether CAPTURE_VARIABLE wants content in spans, by the values the conventions give it."""
    wanted = os.environ.get(CAPTURE_VARIABLE, "").strip().upper()
    if wanted in ("SPAN_ONLY", "SPAN_AND_EVENT", "TRUE"):
        return True
    if wanted not in ("", "NO_CONTENT", "FALSE"):
        said = "no content is captured: %s is %s, and content goes into spans alone (SPAN_ONLY)"
        warn_once_a_minute(CAPTURE_VARIABLE, said, CAPTURE_VARIABLE, wanted)
    return False
