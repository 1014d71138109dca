"""One OpenTelemetry span for every call, and its metrics.

Source: the OpenTelemetry semantic conventions for generative AI (SCHEMA_URL), and `gen_ai.usage.cost`,
`session.id` and `user.id` where Langfuse looks for them. No global provider is set: an application's own
is used, or the one a client was given, and where there is neither, nothing is recorded.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from aistrale.contract import Call, CallbackHandler
from aistrale.exceptions import APIError, OutputError
from aistrale.models import Attempt, Completion, CompletionRequest, Embedding, Message, ToolCall, Usage
from aistrale.providers import find_profile
from aistrale.version import __version__

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The version of the conventions these names are from."""

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_SECONDS = [0.01 * 2**power for power in range(14)]
_TOKENS = [4**power for power in range(14)]
_REQUEST_ATTRIBUTES = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "output_limit": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "n": "gen_ai.request.choice.count",
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "user": "user.id",
}

Attributes: TypeAlias = dict[str, AttributeValue]


class TelemetryHandler(CallbackHandler):
    """Records each call as an inference span, with its attempts as events, and sends the trace context on.

    The context goes as W3C `traceparent` and `tracestate` headers, never as baggage: that is the caller's own.

    tracer_provider, meter_provider: where to, instead of the application's global ones.
    capture_content: whether spans hold what was said and answered; None leaves that to CAPTURE_VARIABLE,
    whose default is no.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        capture_content: bool | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("aistrale", __version__, tracer_provider, SCHEMA_URL)
        self._metrics = _Metrics(meter_provider)
        if capture_content is None:
            capture_content = os.environ.get(CAPTURE_VARIABLE, "").upper() in (
                "SPAN_ONLY",
                "SPAN_AND_EVENT",
                "TRUE",
            )
        self._capture = capture_content

    def on_start(self, call: Call) -> None:
        span = self._tracer.start_span(
            f"{call.operation} {call.model}", kind=trace.SpanKind.CLIENT, attributes=_start_attributes(call)
        )
        call.state[self] = (span, _where(call))
        context = span.get_span_context()
        if context.is_valid:
            call.trace_id = f"{context.trace_id:032x}"
            parent = f"00-{call.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"
            call.headers.setdefault("traceparent", parent)
            if context.trace_state:
                call.headers["tracestate"] = context.trace_state.to_header()
        else:
            # Nothing records, but the call still has an id by which the upstream's records can be found.
            call.trace_id = f"{random.getrandbits(128) or 1:032x}"
            parent = f"00-{call.trace_id}-{random.getrandbits(64) or 1:016x}-00"
            call.headers.setdefault("traceparent", parent)
        if self._capture and span.is_recording() and isinstance(call.request, CompletionRequest):
            span.set_attributes(dict(_input_content(call.request)))

    def on_attempt(self, call: Call, attempt: Attempt) -> None:
        if attempt.error is None and len(call.attempts) == 1:
            return  # the usual case: one attempt, which is the call, and the span says all of it
        span, _ = call.state[self]
        if span.is_recording():
            span.add_event("aistrale.attempt", _attempt_attributes(attempt, len(call.attempts)))

    def on_end(self, call: Call, result: Completion | Embedding) -> None:
        span, start = call.state[self]
        if span.is_recording():
            span.set_attributes(_result_attributes(result))
            if _where(call) is not start:  # a fallback led it elsewhere
                span.set_attributes(_where(call))
            if self._capture and isinstance(result, Completion):
                span.set_attribute("gen_ai.output.messages", _output_content(result))
            span.end()
        self._metrics.record(call, result.latency, result.usage, result)

    def on_error(self, call: Call, error: BaseException) -> None:
        span, start = call.state[self]
        kind = None if _is_cancelled(error) else _error_type(error)
        if span.is_recording():
            if call.partial is not None:
                span.set_attributes(_result_attributes(call.partial))
                if self._capture:
                    span.set_attribute("gen_ai.output.messages", _output_content(call.partial))
            if _where(call) is not start:
                span.set_attributes(_where(call))
            if kind is None:
                span.set_attribute("aistrale.cancelled", True)
            else:
                span.set_attribute("error.type", kind)
                # A provider's message may quote the prompt.
                span.set_status(trace.StatusCode.ERROR, str(error) if self._capture else None)
            span.end()
        self._metrics.record_failure(call, kind)


def _is_cancelled(error: BaseException) -> bool:
    """The caller left; nothing failed."""
    return isinstance(error, GeneratorExit | asyncio.CancelledError | KeyboardInterrupt)


def _error_type(error: BaseException) -> str:
    return (isinstance(error, APIError) and error.code) or type(error).__name__


def _start_attributes(call: Call) -> Attributes:
    request = call.request
    options = request.options
    attributes: Attributes = {
        "gen_ai.operation.name": call.operation,
        **_where(call),
        "aistrale.surface": options.surface,
    }
    if options.session_id:
        attributes["session.id"] = options.session_id
    if options.conversation_id:
        attributes["gen_ai.conversation.id"] = options.conversation_id
    if isinstance(request, CompletionRequest):
        _add_request(attributes, request, call.stream)
    return attributes


def _where(call: Call) -> Attributes:
    """Where the call goes; the same object for the same place."""
    return _place(call.provider, call.model, call.base_url)


@lru_cache(maxsize=256)
def _place(provider: str, model: str, base_url: str) -> Attributes:
    parts = urlsplit(base_url)
    attributes: Attributes = {"gen_ai.provider.name": _provider_name(provider), "gen_ai.request.model": model}
    if parts.hostname:
        attributes["server.address"] = parts.hostname
        attributes["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    return attributes


def _add_request(attributes: Attributes, request: CompletionRequest, stream: bool) -> None:
    for field, name in _REQUEST_ATTRIBUTES.items():
        if (value := getattr(request, field)) is not None:
            attributes[name] = value
    if stream:
        attributes["gen_ai.request.stream"] = True
    if request.stop:
        attributes["gen_ai.request.stop_sequences"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if request.response_format is not None:
        attributes["gen_ai.output.type"] = "text" if request.response_format["type"] == "text" else "json"
    for key, entry in (request.metadata or {}).items():
        if isinstance(entry, str | bool | int | float):
            attributes[f"aistrale.metadata.{key}"] = entry


def _attempt_attributes(attempt: Attempt, number: int) -> Attributes:
    attributes: Attributes = {
        "aistrale.attempt.number": number,
        "aistrale.attempt.seconds": attempt.seconds,
        "gen_ai.provider.name": _provider_name(attempt.provider),
        "gen_ai.request.model": attempt.model,
    }
    if attempt.error is not None:
        attributes["error.type"] = _error_type(attempt.error)
        if isinstance(attempt.error, APIError) and attempt.error.status is not None:
            attributes["http.response.status_code"] = attempt.error.status
    return attributes


def _result_attributes(result: Completion | Embedding) -> Attributes:
    attributes: Attributes = {"gen_ai.response.model": result.model}
    if isinstance(result, Completion):
        if result.id:
            attributes["gen_ai.response.id"] = result.id
        if reasons := [choice.finish_reason for choice in result.choices if choice.finish_reason]:
            attributes["gen_ai.response.finish_reasons"] = reasons
        if result.time_to_first_token is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = result.time_to_first_token
        if result.cached:  # its tokens were used, and are counted, by the call that filled the cache
            return {**attributes, "aistrale.cached": True, "gen_ai.usage.cost": 0.0}
    if result.usage is not None:
        _add_usage(attributes, result.usage)
    if result.cost is not None:
        attributes["gen_ai.usage.cost"] = float(result.cost)
    return attributes


def _add_usage(attributes: Attributes, usage: Usage) -> None:
    attributes["gen_ai.usage.input_tokens"] = usage.input_tokens
    attributes["gen_ai.usage.output_tokens"] = usage.output_tokens
    if usage.cache_read_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        attributes["gen_ai.usage.cache_write.input_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens


@lru_cache(maxsize=256)
def _provider_name(provider: str) -> str:
    profile = find_profile(provider)
    return (profile.telemetry_name if profile else None) or provider


# Content, only where it was asked for


def _input_content(request: CompletionRequest) -> Iterator[tuple[str, AttributeValue]]:
    system = [m for m in request.messages if m.role in ("system", "developer")]
    if system:
        parts = [part for message in system for part in _parts(message)]
        yield "gen_ai.system_instructions", json.dumps(parts, ensure_ascii=False)
    said = [{"role": m.role, "parts": _parts(m)} for m in request.messages if m not in system]
    yield "gen_ai.input.messages", json.dumps(said, ensure_ascii=False)
    if request.tools:
        yield "gen_ai.tool.definitions", json.dumps(request.tools, ensure_ascii=False)


def _output_content(result: Completion) -> str:
    said = [
        {"role": "assistant", "parts": _parts(choice.message), "finish_reason": choice.finish_reason}
        for choice in result.choices
    ]
    return json.dumps(said, ensure_ascii=False)


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.text}]
    parts: list[dict[str, Any]] = []
    if message.reasoning:
        parts.append({"type": "reasoning", "content": message.reasoning})
    if isinstance(message.content, list):
        parts += [
            {"type": "text", "content": part["text"]} if part["type"] == "text" else part for part in message.content
        ]
    elif message.content:
        parts.append({"type": "text", "content": message.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": _arguments(call)}
        for call in message.tool_calls
    ]
    return parts


def _arguments(call: ToolCall) -> Any:
    try:
        return call.args
    except OutputError:
        return call.arguments


# Metrics


class _Metrics:
    """The client metrics of the conventions; instruments of an application without a meter provider do nothing."""

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        meter = metrics.get_meter("aistrale", __version__, provider, SCHEMA_URL)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long a call took",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "How long a stream took to its first chunk",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens used", explicit_bucket_boundaries_advisory=_TOKENS
        )

    def record(self, call: Call, seconds: float, usage: Usage | None, result: Completion | Embedding) -> None:
        labels = _labels(call)
        self._duration.record(seconds, labels)
        completion = result if isinstance(result, Completion) else None
        if completion is not None and completion.time_to_first_token is not None:
            self._first.record(completion.time_to_first_token, labels)
        if usage is not None and not (completion is not None and completion.cached):
            self._tokens.record(usage.input_tokens, {**labels, "gen_ai.token.type": "input"})
            self._tokens.record(usage.output_tokens, {**labels, "gen_ai.token.type": "output"})

    def record_failure(self, call: Call, kind: str | None) -> None:
        labels = _labels(call) if kind is None else {**_labels(call), "error.type": kind}
        self._duration.record(time.perf_counter() - call.started, labels)


def _labels(call: Call) -> Attributes:
    return {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": _provider_name(call.provider),
        "gen_ai.request.model": call.model,
    }
