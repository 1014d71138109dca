"""The span and the metrics of each call, and what must never be in them.

Source of the names: the OpenTelemetry semantic conventions for generative AI, as `SCHEMA_URL` pins them.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, TraceState
from programs import printed, run_program
from scripted import Provider, answer, broken_stream, failure, hanging, json_answer, stream
from shapes import PDF, PNG, file, image, user
from tenacity import wait_fixed
from upstream import Upstream

import aistrale
from aistrale import AsyncClient, Client, RetryPolicy
from aistrale.tracing.attributes import SCHEMA_URL
from aistrale.tracing.handler import CAPTURE_VARIABLE, TelemetryHandler

_NAMES = """
    gen_ai.operation.name gen_ai.provider.name gen_ai.request.model server.address server.port
    gen_ai.request.stream gen_ai.request.temperature gen_ai.request.top_p gen_ai.request.top_k
    gen_ai.request.max_tokens gen_ai.request.seed gen_ai.request.stop_sequences gen_ai.request.frequency_penalty
    gen_ai.request.presence_penalty gen_ai.request.choice.count gen_ai.request.reasoning.level
    gen_ai.response.id gen_ai.response.model gen_ai.response.finish_reasons gen_ai.response.time_to_first_chunk
    gen_ai.output.type gen_ai.usage.input_tokens gen_ai.usage.output_tokens gen_ai.usage.cache_read.input_tokens
    gen_ai.usage.cache_write.input_tokens gen_ai.usage.reasoning.output_tokens gen_ai.conversation.id
    gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions gen_ai.tool.definitions
    error.type http.response.status_code gen_ai.token.type
    """
CONVENTIONS = frozenset(_NAMES.split())
LANGFUSE = frozenset(("gen_ai.usage.cost", "session.id", "user.id"))
"""What the conventions have no name for; Langfuse reads these."""

PLACE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "server.address": "api.openai.com",
    "server.port": 443,
}
"""Where a scripted chat goes, as its span and its metrics say it."""
ANSWERED = {
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 3,
    "gen_ai.usage.output_tokens": 2,
}
"""What its span says of a scripted answer."""
POINT_NAMES = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type")


def is_a_known_name(name: str) -> bool:
    return name in CONVENTIONS | LANGFUSE or name.startswith("aistrale.")


class Recorder:
    """Tracer and meter providers of a test's own, and what they were told."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])

    @property
    def options(self) -> dict[str, Any]:
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only span there is."""
        (span,) = self.spans
        return span

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics by name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        (resource,) = data.resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}

    def points(self, name: str) -> dict[str, Any]:
        """A metric's data points, by operation, provider, model and what tokens they count."""
        points = self.metrics[name].data.data_points
        named = {" ".join(p.attributes[key] for key in POINT_NAMES if key in p.attributes): p for p in points}
        assert len(named) == len(points)
        return named

    def shutdown(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Every name in its spans is one of the conventions, or plainly ours."""
    recorder = Recorder()
    yield recorder
    for span in recorder.spans:
        if span.instrumentation_scope.name != "aistrale":
            continue
        names = set(span.attributes).union(*(event.attributes for event in span.events))
        assert not {name for name in names if not is_a_known_name(name)}
    recorder.shutdown()


def told(span: ReadableSpan) -> dict[str, Any]:
    """What a span says, without its times and ids."""
    return {
        "name": span.name,
        "kind": span.kind.name,
        "attributes": timeless(span.attributes),
        "events": [(event.name, timeless(event.attributes)) for event in span.events],
        "status": span.status.status_code.name,
    }


def timeless(attributes: Any) -> dict[str, Any]:
    changing = ("aistrale.attempt.seconds", "gen_ai.response.time_to_first_chunk")
    return {key: "a time" if key in changing else value for key, value in sorted(attributes.items())}


def a_chat(
    attributes: Mapping[str, Any], *events: Mapping[str, Any], answered: bool = True, status: str = "UNSET"
) -> dict[str, Any]:
    """What the span of a scripted chat tells: what each of them does, and `attributes`. Its events are attempts."""
    common = {"aistrale.surface": "sdk", **PLACE, **(ANSWERED if answered else {})}
    return {
        "name": "chat gpt-4o",
        "kind": "CLIENT",
        "attributes": {**common, **attributes},
        "events": [("aistrale.attempt", event) for event in events],
        "status": status,
    }


def an_attempt(number: int, model: str = "openai/gpt-4o", **failure: Any) -> dict[str, Any]:
    """What the event of an attempt tells; `failure` is its error's type and status, if it failed."""
    provider, _, name = model.partition("/")
    names = {"error": "error.type", "status": "http.response.status_code"}
    return {
        "aistrale.attempt.number": number,
        "aistrale.attempt.seconds": "a time",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": name,
        **{names[key]: value for key, value in failure.items()},
    }


# Golden spans


def test_the_span_of_a_chat(recorder: Recorder) -> None:
    """Request, response and usage, under the conventions' names; an only attempt is no event of its own."""
    client = Provider(answer()).client(**recorder.options)

    client.run("Hello", temperature=0.5, max_tokens=100, stop="END", seed=7, reasoning_effort="low", user="ada")

    assert told(recorder.span) == snapshot(
        {
            "name": "chat gpt-4o",
            "kind": "CLIENT",
            "attributes": {
                "aistrale.surface": "sdk",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.max_tokens": 100,
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.request.reasoning.level": "low",
                "gen_ai.request.seed": 7,
                "gen_ai.request.stop_sequences": ("END",),
                "gen_ai.request.temperature": 0.5,
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.response.id": "chatcmpl-1",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 3,
                "gen_ai.usage.output_tokens": 2,
                "server.address": "api.openai.com",
                "server.port": 443,
                "user.id": "ada",
            },
            "events": [],
            "status": "UNSET",
        }
    )


def test_the_span_of_a_stream(recorder: Recorder) -> None:
    """The same as of a whole answer, and when its first chunk came."""
    client = Provider(stream("One ", "two")).client(**recorder.options)

    client.stream("Count.").until_done()

    assert told(recorder.span) == a_chat(
        {"gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": "a time"}
    )


def test_the_span_of_an_answer_that_calls_a_tool(recorder: Recorder) -> None:
    """The finish reason tells."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    scripted = answer(None, finish_reason="tool_calls", tool_calls=[call])
    client = Provider(scripted).client(**recorder.options)

    client.run("Umbrella?", response_format={"type": "json_object"})

    assert told(recorder.span) == a_chat(
        {"gen_ai.output.type": "json", "gen_ai.response.finish_reasons": ("tool_calls",)}
    )


def test_the_span_of_embeddings(recorder: Recorder) -> None:
    """An operation of its own."""
    body = {"data": [{"index": 0, "embedding": [1.0]}], "model": "m", "usage": {"prompt_tokens": 4}}
    client = Provider(json_answer(body)).client(**recorder.options)

    client.embed("Hello", model="openai/text-embedding-3-small")

    assert told(recorder.span) == snapshot(
        {
            "name": "embeddings text-embedding-3-small",
            "kind": "CLIENT",
            "attributes": {
                "aistrale.surface": "sdk",
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "text-embedding-3-small",
                "gen_ai.response.model": "m",
                "gen_ai.usage.input_tokens": 4,
                "server.address": "api.openai.com",
                "server.port": 443,
            },
            "events": [],
            "status": "UNSET",
        }
    )


def test_the_span_of_a_call_that_failed(recorder: Recorder) -> None:
    """One span whatever the attempts; each is an event in it."""
    client = Provider(failure(429)).client(**recorder.options, max_retries=2)

    with pytest.raises(aistrale.RateLimitError):
        client.run("Hello")

    attempts = [an_attempt(number, error="RateLimitError", status=429) for number in (1, 2, 3)]
    assert told(recorder.span) == a_chat({"error.type": "RateLimitError"}, *attempts, answered=False, status="ERROR")


def test_the_span_of_a_call_that_a_fallback_answered(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says who answered in the end; its events say who was asked."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    anthropic = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "model": "claude-sonnet-4-5"}
    provider = Provider(failure(401), json_answer({**anthropic, "usage": {"input_tokens": 3, "output_tokens": 1}}))
    client = provider.client(**recorder.options, fallbacks=["anthropic/claude-sonnet-4-5"])

    client.run("Hello")

    span = a_chat(
        {
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.response.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 1,
            "server.address": "api.anthropic.com",
        },
        an_attempt(1, error="AuthenticationError", status=401),
        an_attempt(2, "anthropic/claude-sonnet-4-5"),
        answered=False,
    )
    assert told(recorder.span) == {**span, "name": "chat claude-sonnet-4-5"}


def test_a_fallback_past_an_open_circuit_is_told_of_as_well(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first provider was not even asked, so the span is the second's alone."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk")
    breaker = aistrale.CircuitBreaker(threshold=1)
    provider = Provider(failure(500), answer())
    client = provider.client(**recorder.options, max_retries=0, breaker=breaker)
    with pytest.raises(aistrale.ServerError):
        client.run("Hello")

    client.run("Hello", fallbacks=["groq/llama-3.3-70b-versatile"])

    place = ("gen_ai.provider.name", "gen_ai.request.model", "server.address")
    assert [recorder.spans[1].attributes[key] for key in place] == [
        "groq",
        "llama-3.3-70b-versatile",
        "api.groq.com",
    ]


def test_the_span_of_a_cached_answer(recorder: Recorder) -> None:
    """It says so, costs nothing and counts no token a second time."""
    client = Provider(answer()).client(**recorder.options, cache=True)

    client.run("Hello")
    client.run("Hello")

    named = {name: value for name, value in ANSWERED.items() if name.startswith("gen_ai.response.")}
    assert told(recorder.spans[1]) == a_chat(
        {**named, "aistrale.cached": True, "gen_ai.usage.cost": 0.0}, answered=False
    )


def test_the_span_of_a_stream_left_early(recorder: Recorder) -> None:
    """The caller left: that is no error."""
    client = Provider(stream("One ", "two ", "three")).client(**recorder.options)

    with client.stream("Count.") as answered:
        next(answered)

    assert told(recorder.span) == a_chat(
        {
            "aistrale.cancelled": True,
            "gen_ai.request.stream": True,
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.time_to_first_chunk": "a time",
        },
        answered=False,
    )


async def test_the_span_of_a_cancelled_call(recorder: Recorder) -> None:
    """Cancellation is no error either."""
    asked = asyncio.Event()
    options: dict[str, Any] = {"model": "openai/gpt-4o", "api_key": "k", **recorder.options}
    task = asyncio.create_task(AsyncClient(**options, http_client=hanging(asked.set)).run("Hello"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert recorder.span.status.status_code is trace.StatusCode.UNSET
    assert recorder.span.attributes["aistrale.cancelled"] is True
    assert "error.type" not in recorder.span.attributes


def test_the_span_of_a_stream_that_broke(recorder: Recorder) -> None:
    """An error, with what had arrived."""
    client = Provider(broken_stream("One ")).client(**recorder.options)

    with pytest.raises(aistrale.StreamInterruptedError):
        client.stream("Count.").until_done()

    assert recorder.span.status.status_code is trace.StatusCode.ERROR
    assert recorder.span.attributes["error.type"] == "StreamInterruptedError"
    assert recorder.span.attributes["gen_ai.response.id"] == "chatcmpl-1"


def test_a_providers_own_code_is_the_error_type(recorder: Recorder) -> None:
    """As the conventions ask; the name of the exception where it gives none."""
    body = {"error": {"message": "No.", "code": "model_not_found"}}
    with pytest.raises(aistrale.NotFoundError):
        Provider(json_answer(body, 404)).client(**recorder.options).run("Hello")

    assert recorder.span.attributes["error.type"] == "model_not_found"


def test_a_named_session_is_a_conversation_and_a_nameless_one_is_not(recorder: Recorder) -> None:
    """`gen_ai.conversation.id` holds a real id only, never one that was made up."""
    client = Client(provider="echo", **recorder.options)
    nameless = client.session()
    client.session("thread-7").run("Hello")
    nameless.run("Hello")

    named, unnamed = recorder.spans
    assert (named.attributes["session.id"], named.attributes["gen_ai.conversation.id"]) == ("thread-7", "thread-7")
    assert unnamed.attributes["session.id"] == nameless.id
    assert "gen_ai.conversation.id" not in unnamed.attributes


def test_metadata_is_in_the_span_under_our_own_prefix(recorder: Recorder) -> None:
    """Texts, numbers and truth values; what a span cannot hold is left out."""
    metadata = {"feature": "search", "attempt": 2, "beta": True, "nested": {"a": 1}}

    Client(provider="echo", **recorder.options).run("Hello", metadata=metadata)

    ours = {key: value for key, value in recorder.span.attributes.items() if "metadata" in key}
    assert ours == {
        "aistrale.metadata.feature": "search",
        "aistrale.metadata.attempt": 2,
        "aistrale.metadata.beta": True,
    }


def test_the_surface_says_which_layer_was_called(recorder: Recorder) -> None:
    """The SDK's own calls, or an adapter's."""
    Client(provider="echo", **recorder.options).run("Hello")
    Client(provider="echo", surface="cli", **recorder.options).run("Hello")

    assert [span.attributes["aistrale.surface"] for span in recorder.spans] == ["sdk", "cli"]


def test_every_request_option_has_its_attribute(recorder: Recorder) -> None:
    """All that the conventions have a name for."""
    options: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 100,
        "stop": ["a", "b"],
        "seed": 7,
        "n": 2,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "reasoning_effort": "low",
    }
    Client(provider="echo", **recorder.options).run("Hello", **options)

    sent = {key: value for key, value in recorder.span.attributes.items() if key.startswith("gen_ai.request.")}
    assert sent == {
        "gen_ai.request.model": "echo",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.stop_sequences": ("a", "b"),
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.request.reasoning.level": "low",
    }


# Usage and cost


def test_anthropics_cached_tokens_are_part_of_the_input(recorder: Recorder) -> None:
    """Anthropic counts them beside its input, the conventions within: 130,213, never 260,421."""
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 128_955,
        "cache_creation_input_tokens": 1_253,
        "output_tokens": 503,
    }
    body = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": usage}
    client = Provider(json_answer(body)).client(model="anthropic/claude-sonnet-4-5", **recorder.options)

    assert client.run("Hello").usage.total_tokens == 130_716

    assert {key: value for key, value in recorder.span.attributes.items() if "usage" in key} == {
        "gen_ai.usage.input_tokens": 130_213,
        "gen_ai.usage.cache_read.input_tokens": 128_955,
        "gen_ai.usage.cache_write.input_tokens": 1_253,
        "gen_ai.usage.output_tokens": 503,
    }


def test_a_cost_the_provider_reports_is_in_the_span(recorder: Recorder) -> None:
    """One that is not known is not there, and is not 0."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    provider = Provider(answer(usage={**usage, "cost": 0.25}), answer(usage=usage))
    client = provider.client(model="openrouter/auto", **recorder.options)

    client.run("Hello")
    client.run("Hello")

    assert [span.attributes.get("gen_ai.usage.cost") for span in recorder.spans] == [0.25, None]


# Its place among other spans


async def test_the_span_is_a_child_of_the_callers_and_leaves_that_current(recorder: Recorder) -> None:
    """During a stream, too: what the caller's loop does is not the call's."""
    tracer = recorder.tracer_provider.get_tracer("application")
    provider = Provider(answer(), answer(), stream("One ", "two"))
    with tracer.start_as_current_span("outer") as outer:
        provider.client(**recorder.options).run("Hello")
        await provider.async_client(**recorder.options).run("Hello")
        for _ in provider.client(**recorder.options).stream("Hello"):
            assert trace.get_current_span() is outer
        async for _ in provider.async_client(**recorder.options).stream("Hello"):
            assert trace.get_current_span() is outer
        assert trace.get_current_span() is outer

    *calls, _ = recorder.spans
    assert len(calls) == 4
    assert {span.parent.span_id for span in calls} == {outer.get_span_context().span_id}
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_providers_own_records_can_be_found_by_the_trace(recorder: Recorder) -> None:
    """`traceparent` is sent with every attempt and names the span; baggage, which may hold anything, is not sent."""
    provider = Provider(failure(500), answer())
    token = context.attach(baggage.set_baggage("customer", "secret"))
    completion = provider.client(**recorder.options).run("Hello")
    context.detach(token)

    ids = recorder.span.get_span_context()
    expected = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"
    assert [request.headers["traceparent"] for request in provider.requests] == [expected, expected]
    assert not any("baggage" in request.headers for request in provider.requests)
    assert completion.trace_id == f"{ids.trace_id:032x}"


def test_a_call_has_a_trace_id_even_where_nothing_records() -> None:
    """So that the provider's records of it can be found; every call has another."""
    provider = Provider(answer())
    client = provider.client()

    one, two = client.run("Hello"), client.run("Hello")

    assert one.trace_id != two.trace_id
    assert [request.headers["traceparent"].split("-")[1] for request in provider.requests] == [
        one.trace_id,
        two.trace_id,
    ]


class Declining(Tracer):
    """Somebody's own, which makes no span of what is not sampled."""

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        return trace.INVALID_SPAN

    start_as_current_span = None  # type: ignore[assignment]


class DecliningProvider(trace.TracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return Declining()


@pytest.mark.parametrize("flags", [0, 1])
def test_a_provider_that_makes_no_span_leaves_the_trace_as_it_is(flags: int) -> None:
    """Whether it is recorded was decided where it began, and it goes on below the same span."""
    provider, above = Provider(answer()), SpanContext(3, 4, is_remote=False, trace_flags=TraceFlags(flags))
    with trace.use_span(NonRecordingSpan(above)):
        provider.client(tracer_provider=DecliningProvider()).run("Hello")

    (request,) = provider.requests
    version, trace_id, span_id, sent = request.headers["traceparent"].split("-")
    assert (version, trace_id, sent) == ("00", f"{3:032x}", f"{flags:02x}")
    assert span_id != f"{4:016x}"


@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
def test_a_callers_own_trace_context_is_sent_alone(recorder: Recorder, name: str) -> None:
    """Whatever its case: two of them would be one trace too many, and our `tracestate` would not be of theirs."""
    provider, theirs = Provider(answer()), f"00-{'1' * 32}-{'2' * 16}-01"
    state = TraceState([("vendor", "ours")])
    above = SpanContext(3, 4, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    with trace.use_span(NonRecordingSpan(above)):
        provider.client(**recorder.options).run("Hello", extra_headers={name: theirs})

    (request,) = provider.requests
    assert request.headers.get_list("traceparent") == [theirs]
    assert "tracestate" not in request.headers


def test_telemetry_false_leaves_a_client_unobserved(recorder: Recorder) -> None:
    """No span, no metric, no header."""
    provider = Provider(answer())
    provider.client(**recorder.options, telemetry=False).run("Hello")

    assert recorder.spans == []
    assert recorder.metrics == {}
    assert "traceparent" not in provider.requests[0].headers


def test_the_scope_names_the_library_and_the_conventions(recorder: Recorder) -> None:
    """Readers can tell by which version of the conventions the names are meant."""
    Client(provider="echo", **recorder.options).run("Hello")

    scope = recorder.span.instrumentation_scope
    assert (scope.name, scope.version, scope.schema_url) == ("aistrale", aistrale.__version__, SCHEMA_URL)


# Content

SECRET = "the combination is 12-34-56"


def everything(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json()))


def test_no_content_is_in_spans_or_logs(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """Of an answer, a stream, a failure, a retry and a fallback, at DEBUG and by default."""
    messages = [{"role": "system", "content": SECRET}, {"role": "user", "content": SECRET}]
    tool = {"type": "function", "function": {"name": "f", "description": SECRET}}
    options: dict[str, Any] = {"tools": [tool], "response_format": {"title": SECRET, "type": "object"}}
    provider = Provider(answer(SECRET), stream(SECRET), broken_stream(SECRET), failure(500), failure(400))
    client = provider.client(**recorder.options, fallbacks=["openai/gpt-5-mini"])

    with caplog.at_level(logging.DEBUG):
        client.run(messages, **options)
        client.stream(messages, **options).until_done()
        with pytest.raises(aistrale.StreamInterruptedError):
            client.stream(messages, **options).until_done()
        with pytest.raises(aistrale.InvalidRequestError):
            client.run(messages, **options)
        client.embed(SECRET, provider="echo")

    assert len(recorder.spans) == 5
    assert SECRET not in "".join(everything(span) for span in recorder.spans)
    assert SECRET not in caplog.text
    assert SECRET not in str([record.__dict__ for record in caplog.records])


async def test_no_content_and_no_key_is_in_the_logs_of_the_libraries_below(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Over real connections, sync and async, with every logger at DEBUG."""
    options: dict[str, Any] = {"provider": "openai", "base_url": upstream.url, "api_key": "sk-very-secret"}
    client, async_client = Client(**options), AsyncClient(**options)

    with caplog.at_level(logging.DEBUG):
        client.run(SECRET)
        client.stream(SECRET).until_done()
        await async_client.run(SECRET)
        await async_client.stream(SECRET).until_done()
        client.close()
        await async_client.aclose()

    logged = str([record.__dict__ for record in caplog.records])
    assert SECRET not in logged
    assert "sk-very-secret" not in logged


def test_an_error_that_quotes_the_prompt_brings_no_content_into_the_span(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Providers repeat what they refuse; the caller's error may say so, the span may not."""
    client = Provider(failure(400, f"Invalid value: '{SECRET}'")).client(**recorder.options)

    with caplog.at_level(logging.DEBUG), pytest.raises(aistrale.InvalidRequestError, match=SECRET):
        client.run(SECRET)

    assert SECRET not in everything(recorder.span)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_content_is_in_the_span_where_it_was_asked_for(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """By `capture_content=True`, or by the conventions' own variable; in the documented parts."""
    if how == "environment":
        monkeypatch.setenv(CAPTURE_VARIABLE, "SPAN_ONLY")
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Umbrella?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    tool = {"type": "function", "function": {"name": "weather"}}
    options = {"capture_content": True} if how == "argument" else {}

    Provider(answer("Yes.")).client(**recorder.options, **options).run(messages, tools=[tool])

    content = {
        key: json.loads(recorder.span.attributes[key])
        for key in ("gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages")
    }
    assert content == snapshot(
        {
            "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
            "gen_ai.input.messages": [
                {"role": "user", "parts": [{"type": "text", "content": "Umbrella?"}]},
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Oslo"}}],
                },
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "Rain."}]},
            ],
            "gen_ai.output.messages": [
                {"role": "assistant", "parts": [{"type": "text", "content": "Yes."}], "finish_reason": "stop"}
            ],
        }
    )
    assert json.loads(recorder.span.attributes["gen_ai.tool.definitions"]) == [{"type": "function", **tool["function"]}]


def captured(recorder: Recorder, prompt: Any) -> list[Any]:
    """The messages in the span of a call that captures content."""
    Provider(answer()).client(**recorder.options, capture_content=True).run(prompt)
    messages: list[Any] = json.loads(recorder.span.attributes["gen_ai.input.messages"])
    return messages


MEDIA: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an image as data": (
        image(PNG),
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aW1hZ2U="},
    ),
    "an image as Anthropic has it": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1hZ2U="}},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aW1hZ2U="},
    ),
    "an image at an address": (
        image("https://pictures.example/a.webp?size=1"),
        {
            "type": "uri",
            "modality": "image",
            "mime_type": "image/webp",
            "uri": "https://pictures.example/a.webp?size=1",
        },
    ),
    "audio": (
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "mp3"}},
        {"type": "blob", "modality": "audio", "mime_type": "audio/mpeg", "content": "YQ=="},
    ),
    "a file's data": (
        file(filename="a.pdf", file_data=PDF),
        {"type": "blob", "mime_type": "application/pdf", "content": "cGRm"},
    ),
    "a file's id": (
        file(filename="a.csv", file_id="file-1"),
        {"type": "file", "mime_type": "text/csv", "file_id": "file-1"},
    ),
}


@pytest.mark.parametrize(("part", "wanted"), MEDIA.values(), ids=MEDIA.keys())
def test_media_are_captured_as_the_conventions_shape_them(
    recorder: Recorder, part: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """Data, an address or an id, each a type of part, which also says what kind of medium it is."""
    ((text, medium),) = (message["parts"] for message in captured(recorder, user({"type": "text", "text": "?"}, part)))
    assert text == {"type": "text", "content": "?"}
    assert medium == {"modality": medium["modality"], **wanted}


def test_a_medium_that_cannot_be_read_is_captured_as_it_is(recorder: Recorder) -> None:
    """Whether it is well formed is the provider's to say: capturing content fails no call."""
    part = image("data:image/svg+xml,<svg/>")
    assert captured(recorder, user(part)) == [{"role": "user", "parts": [part]}]


def test_parts_that_are_no_media_are_captured_as_they_are(recorder: Recorder) -> None:
    """The conventions allow types of one's own."""
    part = {"type": "search_result", "title": "A", "content": [{"type": "text", "text": "Found."}]}
    assert captured(recorder, user(part)) == [{"role": "user", "parts": [part]}]


@pytest.mark.parametrize("value", ["NO_CONTENT", "EVENT_ONLY", "", "false"])
def test_other_values_of_the_variable_keep_content_out(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Only those that name the span put content there."""
    monkeypatch.setenv(CAPTURE_VARIABLE, value)
    Client(provider="echo", **recorder.options).run(SECRET)
    assert SECRET not in everything(recorder.span)


CAPTURING = """
    import logging
    logging.basicConfig(format="%(levelname)s %(message)s")
    import aistrale
    for _ in range(2):
        aistrale.Client(provider="echo").run("Hello")
"""


def test_content_that_was_wanted_in_events_is_warned_of(tmp_path: Path) -> None:
    """Once, however many clients there are: it goes into spans alone, so nothing is captured."""
    done = run_program(CAPTURING, cwd=tmp_path, env={CAPTURE_VARIABLE: "EVENT_ONLY"})
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(f"WARNING no content is captured: {CAPTURE_VARIABLE} is EVENT_ONLY")
    assert "content goes into spans alone" in warning


@pytest.mark.parametrize("variables", [{}, {CAPTURE_VARIABLE: "NO_CONTENT"}], ids=["unset", "NO_CONTENT"])
def test_whoever_wants_no_content_is_not_warned(tmp_path: Path, variables: dict[str, str]) -> None:
    """It is the default, and one of the conventions' values."""
    assert run_program(CAPTURING, cwd=tmp_path, env=variables).stderr == ""


def test_an_argument_overrides_the_variable(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """`capture_content=False` is a word of the application's."""
    monkeypatch.setenv(CAPTURE_VARIABLE, "SPAN_ONLY")
    Client(provider="echo", capture_content=False, **recorder.options).run(SECRET)
    assert SECRET not in everything(recorder.span)


# Metrics


def test_the_metrics_of_a_stream(recorder: Recorder) -> None:
    """Duration, time to the first chunk and tokens, in the conventions' buckets."""
    completion = Provider(stream("One ", "two")).client(**recorder.options).stream("Count.").until_done()

    metrics = recorder.metrics
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "gen_ai.client.token.usage": "{token}",
    }
    duration = recorder.points("gen_ai.client.operation.duration")["chat openai gpt-4o"]
    assert (duration.count, duration.sum) == (1, completion.latency)
    assert duration.explicit_bounds == pytest.approx([0.01 * 2**power for power in range(14)])
    first = recorder.points("gen_ai.client.operation.time_to_first_chunk")["chat openai gpt-4o"]
    assert first.sum == completion.time_to_first_token
    tokens = recorder.points("gen_ai.client.token.usage")
    assert {key: point.sum for key, point in tokens.items()} == {
        "chat openai gpt-4o input": 3,
        "chat openai gpt-4o output": 2,
    }
    assert tokens["chat openai gpt-4o input"].explicit_bounds == tuple(4**power for power in range(14))


def test_a_metric_says_where_and_which_model_answered(recorder: Recorder) -> None:
    """The server and the model of the response as well: the conventions recommend them."""
    Provider(stream("One ", "two")).client(**recorder.options).stream("Count.").until_done()

    labels = {**PLACE, "gen_ai.response.model": "gpt-4o-2024-08-06"}
    found = {name: [dict(p.attributes) for p in metric.data.data_points] for name, metric in recorder.metrics.items()}
    assert found == {
        "gen_ai.client.operation.duration": [labels],
        "gen_ai.client.operation.time_to_first_chunk": [labels],
        "gen_ai.client.token.usage": [{**labels, "gen_ai.token.type": kind} for kind in ("input", "output")],
    }


def test_the_metrics_of_a_fallback_are_of_where_it_led(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the span is: provider, model and server are those of the answer."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk")
    client = Provider(failure(401), answer()).client(**recorder.options, fallbacks=["groq/llama-3.3-70b-versatile"])
    client.run("Hello")

    (point,) = recorder.points("gen_ai.client.operation.duration").values()
    assert point.attributes == {
        **PLACE,
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "llama-3.3-70b-versatile",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "server.address": "api.groq.com",
    }


def test_metrics_use_the_conventions_names(recorder: Recorder) -> None:
    """Those of their attributes, too."""
    client = Provider(answer(), failure(400)).client(**recorder.options)
    client.run("Hello")
    with pytest.raises(aistrale.InvalidRequestError):
        client.run("Hello")

    names = {name for m in recorder.metrics.values() for point in m.data.data_points for name in point.attributes}
    assert names <= CONVENTIONS


def test_a_cached_answer_counts_no_tokens(recorder: Recorder) -> None:
    """They were counted when they were used."""
    client = Provider(answer()).client(**recorder.options, cache=True)
    client.run("Hello")
    client.run("Hello")

    assert recorder.points("gen_ai.client.token.usage")["chat openai gpt-4o input"].sum == 3
    assert recorder.points("gen_ai.client.operation.duration")["chat openai gpt-4o"].count == 2


def test_a_failed_calls_duration_holds_its_pauses(recorder: Recorder) -> None:
    """It is how long the caller waited, as it is of calls that succeed; and it says what failed."""
    client = Provider(failure(429)).client(**recorder.options, retry=RetryPolicy(max_retries=1, wait=wait_fixed(0.05)))
    with pytest.raises(aistrale.RateLimitError):
        client.run("Hello")

    (point,) = recorder.points("gen_ai.client.operation.duration").values()
    assert point.attributes == {**PLACE, "error.type": "RateLimitError"}
    assert point.sum >= 0.05


def test_the_duration_of_a_stream_left_early_is_how_long_it_was_read(recorder: Recorder) -> None:
    """And it counts as no error."""
    answered = Provider(stream("One ", "two")).client(**recorder.options).stream("Count.")
    started = time.perf_counter()
    next(answered)
    elapsed = time.perf_counter() - started
    time.sleep(0.02)  # the caller reads the first chunk
    answered.close()

    (point,) = recorder.points("gen_ai.client.operation.duration").values()
    assert "error.type" not in point.attributes
    assert point.sum >= elapsed


# The application's own providers


def test_no_global_provider_is_set(tmp_path: Path) -> None:
    """Not by importing, by running or by using the handler: that is the application's to do."""
    program = """
        import asyncio
        from opentelemetry import metrics, trace

        before = trace.get_tracer_provider(), metrics.get_meter_provider()
        import aistrale

        handler = aistrale.TelemetryHandler()
        aistrale.run("Hello", provider="echo", callbacks=[handler])
        aistrale.stream("Hello", provider="echo").until_done()
        asyncio.run(aistrale.run_async("Hello", provider="echo"))
        print((trace.get_tracer_provider(), metrics.get_meter_provider()) == before)
        print(trace._TRACER_PROVIDER, metrics._internal._METER_PROVIDER)
    """
    assert printed(program, cwd=tmp_path) == "True\nNone None\n"


def test_a_global_provider_that_is_set_later_is_used(tmp_path: Path) -> None:
    """An application may well set up its telemetry after its first call."""
    program = """
        import aistrale

        aistrale.run("Hello", provider="echo")

        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
        metrics.set_meter_provider(MeterProvider([reader]))

        aistrale.run("Hello", provider="echo")
        print([span.name for span in exporter.get_finished_spans()])
        (resource,) = reader.get_metrics_data().resource_metrics
        print(sorted(metric.name for scope in resource.scope_metrics for metric in scope.metrics))
    """
    assert printed(program, cwd=tmp_path) == (
        "['chat echo']\n['gen_ai.client.operation.duration', 'gen_ai.client.token.usage']\n"
    )


def test_telemetry_off_loads_no_opentelemetry(tmp_path: Path) -> None:
    """`AISTRALE_TELEMETRY=off` is off."""
    program = """
        import sys
        import aistrale

        aistrale.run("Hello", provider="echo")
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """
    assert printed(program, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "off"}) == "[]\n"


def test_a_telemetry_handler_may_be_one_of_several(recorder: Recorder) -> None:
    """Beside the client's own, on another provider: two spans of one call."""
    other = Recorder()
    handler = aistrale.TelemetryHandler(other.tracer_provider, other.meter_provider, capture_content=True)

    Client(provider="echo", **recorder.options).run("Hello", callbacks=[handler])

    assert "gen_ai.input.messages" not in recorder.span.attributes
    assert "gen_ai.input.messages" in other.span.attributes
    other.shutdown()


def test_a_faulty_exporter_does_not_harm_the_call() -> None:
    """Telemetry that fails is logged, and the answer is given."""

    class Faulty(SimpleSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("no disk")

    provider = TracerProvider()
    provider.add_span_processor(Faulty(InMemorySpanExporter()))

    assert Client(provider="echo", tracer_provider=provider).run("Hello").text == "Hello"
    provider.shutdown()


def test_ids_repeat_for_nobody_who_seeds(tmp_path: Path) -> None:
    """As data scientists do, first thing in a script."""
    program = """
        import random
        from aistrale import Client
        client = Client(provider="echo")
        for _ in range(2):
            random.seed(0)
            print(client.run("Hello").trace_id)
    """
    seen = [*printed(program, cwd=tmp_path).split(), *printed(program, cwd=tmp_path).split()]
    assert len(set(seen)) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_ids_repeat_for_no_child(tmp_path: Path) -> None:
    """Each goes on with numbers of its own, its parent's other children among those it has not."""
    program = """
        import os
        from aistrale.ids import random_bits
        for _ in range(3):
            if not (child := os.fork()):
                print(random_bits(128), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        print(random_bits(128))
    """
    assert len(set(printed(program, cwd=tmp_path).split())) == 4


def test_trace_ids_sort_by_time() -> None:
    """So that an index of them grows at its end; no two of one millisecond are the same."""
    before = time.time_ns() // 1_000_000
    traces = [Client(provider="echo").run("Hello").trace_id or "" for _ in range(50)]
    after = time.time_ns() // 1_000_000

    moments = [int(trace, 16) >> 80 for trace in traces]
    assert moments == sorted(moments)
    assert before <= moments[0] <= moments[-1] <= after
    assert len({trace[12:] for trace in traces}) == 50


def test_two_handlers_leave_each_other_alone(recorder: Recorder) -> None:
    """The answer names the trace, and requests the span, of the first: that of the client."""
    client = Client(provider="echo", **recorder.options)
    with_another = client.run("Hello", callbacks=[TelemetryHandler(TracerProvider())])
    assert with_another.trace_id == f"{recorder.span.context.trace_id:032x}"
