"""Spans of real calls are held to the semantic conventions, and the conventions' table to OpenTelemetry's package."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from callers import ASYNC_STREAM, KEY, SYNC, SYNC_STREAM, Calling, Way, our_ways
from conventions import ATTRIBUTES, BESIDES, OPERATIONS, OPT_IN, REFERENCE, VALUES, type_of, violations
from keeping import charging
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, session_attributes, user_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
from opentelemetry.trace import SpanKind, Status, StatusCode
from programs import run_program
from shapes import PNG, SCHEMA_TOOL, call, file, image, result
from tenacity import wait_none
from upstream import CLOSE, Upstream, completion, events, failure, plain

import aistrale
from aistrale.providers import provider_names, telemetry_name
from aistrale.templates import StoredPrompt

AT_ONCE = aistrale.RetryPolicy(max_retries=2, wait=wait_none())


class Recording(SpanProcessor):
    """A provider of a test's own, the spans that ended in it, and what each of them said when it began."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._began: dict[int, set[str]] = {}
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.provider.add_span_processor(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._began[span.get_span_context().span_id] = set(span.attributes or {})

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """The only span there is."""
        (span,) = self.spans
        return span

    def came_late(self, span: ReadableSpan) -> set[str]:
        """The attributes that a sampler wanted to see, and that came after it was asked."""
        expected, context = type_of(span), span.get_span_context()
        assert expected is not None
        assert context is not None
        return (set(expected.at_start) & set(span.attributes or {})) - self._began[context.span_id]


@pytest.fixture
def recording() -> Iterator[Recording]:
    """Whatever happens to a call, what a sampler decides by is there when its span begins."""
    recording = Recording()
    yield recording
    assert [recording.came_late(span) for span in recording.spans] == [set() for _ in recording.spans]
    recording.provider.shutdown()


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


# Golden spans

ASKED: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "max_tokens": 100,
    "stop": "END",
    "seed": 7,
    "n": 2,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "user": "ada",
    "tags": ["nightly"],
    "metadata": {"feature": "search", "attempt": 2},
}
"""Whatever of a request has an attribute."""


@our_ways
def test_a_chat(calling: Calling, recording: Recording, way: Way) -> None:
    """Whole and streamed, sync and async."""
    calling(way, tracer_provider=recording.provider).ask()

    assert violations(recording.span) == []
    assert ("gen_ai.response.time_to_first_chunk" in attributes_of(recording.span)) == way.streamed


@our_ways
def test_a_chat_that_asks_for_everything(calling: Calling, recording: Recording, way: Way) -> None:
    """Every request option that has an attribute."""
    calling(way, tracer_provider=recording.provider).ask(**ASKED)

    assert violations(recording.span) == []
    requested = {name for name in attributes_of(recording.span) if name.startswith("gen_ai.request.")}
    assert {name for name in ATTRIBUTES if name.startswith("gen_ai.request.")} - requested == {
        "gen_ai.request.encoding_formats",  # of embeddings
        *(() if way.streamed else ("gen_ai.request.stream",)),
    }


def test_a_number_is_a_double_also_where_it_was_given_as_an_integer(calling: Calling, recording: Recording) -> None:
    """People write temperature=0; a backend that has seen a double under this name takes no integer."""
    calling(SYNC, tracer_provider=recording.provider).ask(
        temperature=0, top_p=1, frequency_penalty=1, presence_penalty=-1
    )

    assert violations(recording.span) == []


def test_a_chat_with_a_stored_prompt(calling: Calling, recording: Recording) -> None:
    """Its name, and its version as a text."""
    prompt = StoredPrompt("greeting", 3, "Hello {{name}}", {}, None, (), datetime.now(UTC))

    calling(SYNC, tracer_provider=recording.provider).ask(prompt, variables={"name": "Ada"})

    assert violations(recording.span) == []
    assert attributes_of(recording.span)["gen_ai.prompt.version"] == "3"


def test_a_chat_of_a_session(calling: Calling, recording: Recording) -> None:
    """A name that somebody gave is a conversation's id; an id of our own making is none."""
    client = calling(SYNC, tracer_provider=recording.provider).client

    client.session("thread-7").run("Hello")
    client.session().run("Hello")

    assert [violations(span) for span in recording.spans] == [[], []]
    assert [attributes_of(span).get("gen_ai.conversation.id") for span in recording.spans] == ["thread-7", None]


def test_a_chat_whose_tokens_have_parts(upstream: Upstream, calling: Calling, recording: Recording) -> None:
    """Read from a cache, and spent on reasoning: both are within the totals."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 80},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    upstream.will(plain({**completion(), "usage": usage}))

    calling(SYNC, tracer_provider=recording.provider).ask()

    assert violations(recording.span) == []
    assert attributes_of(recording.span)["gen_ai.usage.reasoning.output_tokens"] == 40


def test_a_chat_whose_provider_counts_parts_beside_the_total(
    upstream: Upstream, calling: Calling, recording: Recording
) -> None:
    """Anthropic does; in the span they are within it all the same."""
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 128_955,
        "cache_creation_input_tokens": 1_253,
        "output_tokens": 503,
    }
    upstream.will(plain({"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": usage}))

    calling(SYNC, provider="anthropic", tracer_provider=recording.provider).ask()

    assert violations(recording.span) == []
    assert attributes_of(recording.span)["gen_ai.usage.cache_write.input_tokens"] == 1_253


@pytest.mark.parametrize("dollars", [0.25, 0, 1], ids=str)
def test_a_chat_that_says_what_it_cost(
    upstream: Upstream, calling: Calling, recording: Recording, dollars: float
) -> None:
    """The only number beside the tokens, and a double whatever the provider wrote."""
    upstream.will(charging(dollars))

    calling(SYNC, tracer_provider=recording.provider).ask()

    assert violations(recording.span) == []
    assert attributes_of(recording.span)["gen_ai.usage.cost"] == dollars


EMBEDDED = {"data": [{"index": 0, "embedding": [1.0]}], "model": "embed-test", "usage": {"prompt_tokens": 4}}


def test_embeddings(upstream: Upstream, calling: Calling, recording: Recording) -> None:
    """What has no output has no output tokens."""
    upstream.will(plain(EMBEDDED))

    calling(SYNC, tracer_provider=recording.provider).client.embed("Hello", model="embed-test", dimensions=1)

    assert violations(recording.span) == []


async def test_embeddings_in_async_code(upstream: Upstream, recording: Recording) -> None:
    """The same."""
    upstream.will(plain(EMBEDDED))
    options: dict[str, Any] = {"provider": "openai", "base_url": upstream.url, "api_key": KEY}

    async with aistrale.AsyncClient(**options, tracer_provider=recording.provider) as client:
        await client.embed("Hello", model="embed-test")

    assert violations(recording.span) == []


@our_ways
@pytest.mark.parametrize("code", ["model_not_found", None], ids=str)
def test_an_error(upstream: Upstream, calling: Calling, recording: Recording, way: Way, code: str | None) -> None:
    """Its type is the provider's code, or the exception's name where that gives none."""
    upstream.will(failure(404, "There is no such model.", code))

    with pytest.raises(aistrale.NotFoundError):
        calling(way, tracer_provider=recording.provider).ask()

    assert violations(recording.span) == []


@our_ways
def test_a_retried_call(upstream: Upstream, calling: Calling, recording: Recording, way: Way) -> None:
    """Its attempts are events, whose attributes are the conventions' as well."""
    upstream.will(failure(500), [CLOSE])

    calling(way, tracer_provider=recording.provider, retry=AT_ONCE).ask()

    assert violations(recording.span) == []
    assert [event.name for event in recording.span.events] == ["aistrale.attempt"] * 3


def test_a_call_that_a_fallback_answered(upstream: Upstream, calling: Calling, recording: Recording) -> None:
    """The span is named after the model it says was asked."""
    upstream.will(failure(401))

    calling(SYNC, tracer_provider=recording.provider, fallbacks=["openai/gpt-other"]).ask()

    assert violations(recording.span) == []
    assert attributes_of(recording.span)["gen_ai.request.model"] == "gpt-other"


@our_ways
def test_a_cached_answer(calling: Calling, recording: Recording, way: Way) -> None:
    """It cost nothing, and its tokens are another span's."""
    caller = calling(way, tracer_provider=recording.provider, cache=True)

    caller.ask()
    caller.ask()

    first, cached = recording.spans
    assert violations(first) == []
    assert violations(cached) == []
    assert attributes_of(cached)["aistrale.cached"] is True


@pytest.mark.parametrize("way", [SYNC_STREAM, ASYNC_STREAM], ids=str)
def test_a_stream_that_breaks_off(upstream: Upstream, calling: Calling, recording: Recording, way: Way) -> None:
    """An error, and what had arrived."""
    upstream.will(events("One ", "two ", CLOSE))

    with pytest.raises(aistrale.StreamInterruptedError):
        calling(way, tracer_provider=recording.provider).ask()

    assert violations(recording.span) == []
    assert attributes_of(recording.span)["gen_ai.response.id"] == "chatcmpl-1"


def test_a_stream_left_early(calling: Calling, recording: Recording) -> None:
    """The caller had enough: no error."""
    with calling(SYNC, tracer_provider=recording.provider).client.stream("One two three") as answered:
        next(answered)

    assert violations(recording.span) == []


# Content

CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Umbrella?"}, image(PNG), file(file_id="file-1")]},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [call("call_1", "get_time", zone="Europe/Rome")]},
    result("call_1", "Noon."),
    {"role": "user", "content": "So?"},
]


@our_ways
def test_a_call_with_content_captured(calling: Calling, recording: Recording, way: Way) -> None:
    """Shaped as the conventions' schemas want it, of whatever parts a conversation has."""
    calling(way, tracer_provider=recording.provider, capture_content=True).ask(CONVERSATION)

    assert violations(recording.span, content=True) == []
    captured = OPT_IN & set(attributes_of(recording.span))
    assert captured == {"gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages"}


def test_a_call_with_reasoning_and_a_tool_call_captured(
    upstream: Upstream, calling: Calling, recording: Recording
) -> None:
    """Of an answer that is more than its text."""
    answer = completion(finish_reason="tool_calls")
    answer["choices"][0]["message"] |= {"reasoning_content": "Hm.", "tool_calls": [call("call_1", "get_time")]}
    upstream.will(plain(answer))

    calling(SYNC, provider="deepseek", tracer_provider=recording.provider, capture_content=True).ask()

    assert violations(recording.span, content=True) == []
    (message,) = json.loads(attributes_of(recording.span)["gen_ai.output.messages"])
    assert [part["type"] for part in message["parts"]] == ["reasoning", "text", "tool_call"]


def test_a_call_with_its_tools_captured(calling: Calling, recording: Recording) -> None:
    """A definition has its type and its name side by side, whatever shape the provider wants it in."""
    calling(SYNC, tracer_provider=recording.provider, capture_content=True).ask(tools=[SCHEMA_TOOL])

    assert violations(recording.span, content=True) == []


@our_ways
def test_a_call_without_content(calling: Calling, recording: Recording, way: Way) -> None:
    """The default: the same conversation leaves none of its words behind."""
    calling(way, tracer_provider=recording.provider).ask(CONVERSATION, tools=[SCHEMA_TOOL])

    assert violations(recording.span) == []


# Agents and tools, whose spans go to an application's global provider

PLANNING = """
    import json
    import sys
    from contextlib import suppress

    from conventions import violations
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    from aistrale import Client, telemetry

    client = Client(provider="openai", model="gpt-test", api_key="sk-test", base_url=sys.argv[1])
    with telemetry.agent("planner", description="Plans a day", session="s1", user="ada", tags=["nightly"]):
        client.run("Plan my day")
        with telemetry.tool("calendar", call_id="call_1", description="Looks up a day"):
            pass
    with suppress(LookupError), telemetry.agent("planner"), telemetry.tool("calendar"):
        raise LookupError("no such day")

    print(json.dumps([[span.name, span.kind.name, violations(span)] for span in exporter.get_finished_spans()]))
"""


def test_agents_and_tools(upstream: Upstream, tmp_path: Path) -> None:
    """At work and failing, with a call between them."""
    here = str(Path(__file__).parent)

    done = run_program(PLANNING, cwd=tmp_path, env={"PYTHONPATH": here}, arguments=(upstream.url,))

    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        ["chat gpt-test", "CLIENT", []],
        ["execute_tool calendar", "INTERNAL", []],
        ["invoke_agent planner", "INTERNAL", []],
        ["execute_tool calendar", "INTERNAL", []],
        ["invoke_agent planner", "INTERNAL", []],
    ]


# The validator

A_CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-test",
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.stream": True,
    "gen_ai.request.stop_sequences": ("END",),
    "gen_ai.output.type": "json",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.cache_read.input_tokens": 60,
    "gen_ai.usage.cache_write.input_tokens": 40,
    "gen_ai.usage.reasoning.output_tokens": 50,
    "gen_ai.usage.cost": 0.0,
    "gen_ai.prompt.name": "greeting",
    "gen_ai.prompt.version": "3",
    "gen_ai.conversation.id": "thread-7",
    "server.address": "127.0.0.1",
    "server.port": 80,
    "session.id": "thread-7",
    "user.id": "ada",
    "aistrale.surface": "sdk",
}
A_TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "calendar", "gen_ai.tool.type": "function"}
ERROR, OK = Status(StatusCode.ERROR), Status(StatusCode.OK)


def a_span(attributes: Mapping[str, Any], schema: str = REFERENCE, **fields: Any) -> ReadableSpan:
    """A span as an exporter gets it; attributes that are None are left out."""
    scope = InstrumentationScope("aistrale", "1", schema)
    given = {name: value for name, value in attributes.items() if value is not None}
    return ReadableSpan(**{"attributes": given, "instrumentation_scope": scope, **fields})


def a_chat(attributes: Mapping[str, Any] | None = None, **fields: Any) -> ReadableSpan:
    """A flawless chat's, but for what is changed in it."""
    return a_span({**A_CHAT, **(attributes or {})}, **{"name": "chat gpt-test", "kind": SpanKind.CLIENT, **fields})


def a_tool(attributes: Mapping[str, Any] | None = None, **fields: Any) -> ReadableSpan:
    """A flawless tool's, but for what is changed in it."""
    named = {"name": "execute_tool calendar", "kind": SpanKind.INTERNAL}
    return a_span({**A_TOOL, **(attributes or {})}, **{**named, **fields})


def with_event(attributes: Mapping[str, Any]) -> ReadableSpan:
    return a_chat(events=[Event("aistrale.attempt", attributes)])


FLAWED: dict[str, tuple[ReadableSpan, list[str]]] = {
    "another name": (a_chat(name="chat"), ["the name is 'chat', not 'chat gpt-test'"]),
    "another model than its name's": (
        a_chat({"gen_ai.request.model": "gpt-other"}),
        ["the name is 'chat gpt-test', not 'chat gpt-other'"],
    ),
    "another kind": (a_chat(kind=SpanKind.INTERNAL), ["the kind is INTERNAL, not CLIENT"]),
    "another kind of tool": (a_tool(kind=SpanKind.CLIENT), ["the kind is CLIENT, not INTERNAL"]),
    "another version": (a_chat(schema="https://x/1"), [f"the schema is https://x/1, not {REFERENCE}"]),
    "no operation": (
        a_chat({"gen_ai.operation.name": None}),
        ["gen_ai.operation.name is None, which is no operation"],
    ),
    "an unknown operation": (
        a_chat({"gen_ai.operation.name": "completion"}),
        ["gen_ai.operation.name is 'completion', which is no operation"],
    ),
    "no provider": (a_chat({"gen_ai.provider.name": None}), ["gen_ai.provider.name is missing"]),
    "no model": (a_chat({"gen_ai.request.model": None}), ["gen_ai.request.model is missing"]),
    "no tool": (a_tool({"gen_ai.tool.name": None}), ["gen_ai.tool.name is missing"]),
    "a renamed attribute": (
        a_chat({"gen_ai.response.id": None, "gen_ai.response.identifier": "chatcmpl-1"}),
        ["gen_ai.response.identifier is no name of the conventions"],
    ),
    "a deprecated attribute": (a_chat({"gen_ai.system": "openai"}), ["gen_ai.system is no name of the conventions"]),
    "an attribute of another namespace": (a_chat({"llm.model": "m"}), ["llm.model is no name of the conventions"]),
    "an attribute of other spans": (
        a_chat({"gen_ai.tool.name": "calendar"}),
        ["gen_ai.tool.name does not belong on such a span"],
    ),
    "a model's attribute on a tool": (
        a_tool({"gen_ai.usage.input_tokens": 3}),
        ["gen_ai.usage.input_tokens does not belong on such a span"],
    ),
    "another number": (
        a_chat({"gen_ai.usage.total_tokens": 150}),
        ["gen_ai.usage.total_tokens is no name of the conventions, and Langfuse would count it as tokens"],
    ),
    "an integer for a double": (
        a_chat({"gen_ai.request.temperature": 1}),
        ["gen_ai.request.temperature is 1, not a double"],
    ),
    "a double for an integer": (
        a_chat({"gen_ai.usage.output_tokens": 50.0}),
        ["gen_ai.usage.output_tokens is 50.0, not a whole number"],
    ),
    "a truth value for an integer": (a_chat({"server.port": True}), ["server.port is True, not a whole number"]),
    "a number for a text": (a_chat({"gen_ai.prompt.version": 3}), ["gen_ai.prompt.version is 3, not a text"]),
    "an integer as a cost": (a_chat({"gen_ai.usage.cost": 0}), ["gen_ai.usage.cost is 0, not a double"]),
    "a text for a list": (
        a_chat({"gen_ai.response.finish_reasons": "stop"}),
        ["gen_ai.response.finish_reasons is 'stop', not a list"],
    ),
    "a list of numbers for one of texts": (
        a_chat({"gen_ai.request.stop_sequences": (1,)}),
        ["gen_ai.request.stop_sequences[0] is 1, not a text"],
    ),
    "an unknown output": (
        a_chat({"gen_ai.output.type": "json_schema"}),
        ["gen_ai.output.type is 'json_schema', which is none of its values"],
    ),
    "a stream that is none": (
        a_chat({"gen_ai.request.stream": False}),
        ["gen_ai.request.stream is False, which is none of its values"],
    ),
    "a first chunk of no stream": (
        a_chat({"gen_ai.request.stream": None}),
        ["gen_ai.response.time_to_first_chunk is there without gen_ai.request.stream"],
    ),
    "a port of no server": (a_chat({"server.address": None}), ["server.port is there without server.address"]),
    "a server without a port": (a_chat({"server.port": None}), ["server.address is there without server.port"]),
    "a version of no prompt": (
        a_chat({"gen_ai.prompt.name": None}),
        ["gen_ai.prompt.version is there without gen_ai.prompt.name"],
    ),
    "parts of the input beside its total": (
        a_chat({"gen_ai.usage.input_tokens": 99}),
        ["gen_ai.usage.input_tokens is 99, and its parts are 100"],
    ),
    "parts of the output beside its total": (
        a_chat({"gen_ai.usage.output_tokens": 10}),
        ["gen_ai.usage.output_tokens is 10, and its parts are 50"],
    ),
    "a part of no total": (
        a_chat({"gen_ai.usage.output_tokens": None}),
        ["gen_ai.usage.reasoning.output_tokens is there without gen_ai.usage.output_tokens"],
    ),
    "an error without a type": (a_chat(status=ERROR), ["the status is an error, and there is no error.type"]),
    "a type without an error": (
        a_chat({"error.type": "timeout"}),
        ["there is an error.type, and the status is no error"],
    ),
    "a message for a type": (
        a_chat({"error.type": "No such model"}, status=ERROR),
        ["error.type is a message, not a type"],
    ),
    "a status of OK": (a_chat(status=OK), ["the status is OK, which only an application may say"]),
    **{
        f"a conversation of our own making ({id})": (
            a_chat({"gen_ai.conversation.id": id}),
            ["gen_ai.conversation.id looks like a generated one"],
        )
        for id in ("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "4bf92f3577b34da6a3ce929d0e0e4736")
    },
    "content": (
        a_chat({"gen_ai.input.messages": "[]"}),
        ["gen_ai.input.messages is content, and nobody opted in"],
    ),
    "a tool's content": (
        a_tool({"gen_ai.tool.call.arguments": "{}"}),
        ["gen_ai.tool.call.arguments is content, and nobody opted in"],
    ),
    "an event of other names": (with_event({"model": "gpt-test"}), ["model is no name of the conventions"]),
    "an event of other types": (
        with_event({"http.response.status_code": "429"}),
        ["http.response.status_code is '429', not a whole number"],
    ),
    "an event with content": (
        with_event({"gen_ai.output.messages": "[]"}),
        ["gen_ai.output.messages is content, and nobody opted in"],
    ),
    "two flaws": (
        a_chat({"gen_ai.provider.name": None}, kind=SpanKind.SERVER),
        ["the kind is SERVER, not CLIENT", "gen_ai.provider.name is missing"],
    ),
}


@pytest.mark.parametrize(("span", "expected"), FLAWED.values(), ids=FLAWED.keys())
def test_what_departs_from_the_conventions_is_told(span: ReadableSpan, expected: list[str]) -> None:
    """That, and nothing else."""
    assert violations(span) == expected


MISSHAPEN: dict[str, tuple[str, Any, list[str]]] = {
    "no JSON": ("gen_ai.input.messages", "Hello", ["gen_ai.input.messages is no JSON"]),
    "no list": ("gen_ai.input.messages", {}, ["gen_ai.input.messages is {}, not a list"]),
    "a text for a message": (
        "gen_ai.input.messages",
        ["Hello"],
        ["gen_ai.input.messages[0] is 'Hello', not an object"],
    ),
    "a message of OpenAI's": (
        "gen_ai.output.messages",
        [{"role": "assistant", "content": "Hello"}],
        ["gen_ai.output.messages[0] has no parts"],
    ),
    "a message of nobody": (
        "gen_ai.input.messages",
        [{"role": None, "parts": []}],
        ["gen_ai.input.messages[0].role is None, not a text"],
    ),
    "a part of OpenAI's": (
        "gen_ai.input.messages",
        [{"role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
        ["gen_ai.input.messages[0].parts[0] has no content"],
    ),
    "a tool's result under its old name": (
        "gen_ai.input.messages",
        [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "result": "Noon."}]}],
        ["gen_ai.input.messages[0].parts[0] has no response"],
    ),
    "instructions as messages": (
        "gen_ai.system_instructions",
        [{"role": "system", "parts": []}],
        ["gen_ai.system_instructions[0] has no type"],
    ),
    "a tool of OpenAI's": (
        "gen_ai.tool.definitions",
        [{"type": "function", "function": {"name": "calendar"}}],
        ["gen_ai.tool.definitions[0] has no name"],
    ),
}


@pytest.mark.parametrize(("name", "value", "expected"), MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_content_of_another_shape_is_told(name: str, value: Any, expected: list[str]) -> None:
    """Where somebody opted in, it is read: as JSON text, and as the structure that some SDKs keep."""
    text = value if isinstance(value, str) else json.dumps(value)

    assert violations(a_chat({name: text}), content=True) == expected
    assert violations(a_chat({name: value}), content=True) == expected


FLAWLESS = {"chat": a_chat(), "tool": a_tool(), "failed tool": a_tool({"error.type": "KeyError"}, status=ERROR)}


@pytest.mark.parametrize("span", FLAWLESS.values(), ids=FLAWLESS.keys())
def test_what_conforms_is_left_alone(span: ReadableSpan) -> None:
    """The spans that the flaws were put into have none."""
    assert violations(span) == []


def test_what_a_sampler_wanted_to_see_and_came_late_is_told() -> None:
    """The finished span does not show it."""
    recording = Recording()
    span = recording.provider.get_tracer("late").start_span("chat gpt-test", attributes={"server.port": 80})
    span.set_attributes(A_CHAT)
    span.end()

    assert recording.came_late(recording.span) == {"gen_ai.provider.name", "gen_ai.request.model", "server.address"}
    recording.provider.shutdown()


# The table

SINCE_THEN = {
    "gen_ai.prompt.version",
    "gen_ai.request.reasoning.level",
    "gen_ai.usage.cache_write.input_tokens",
}
"""Names that the conventions got after they left the core ones, with which the package ends."""


def names_in(*modules: Any) -> set[str]:
    """The attributes that modules of the package name."""
    return {value for module in modules for name, value in vars(module).items() if name.isupper()}


def test_every_name_is_one_of_the_package() -> None:
    """But for those that are younger; the general ones are in its other modules."""
    generative = names_in(gen_ai_attributes)
    general = names_in(error_attributes, http_attributes, server_attributes, session_attributes, user_attributes)
    assert set(ATTRIBUTES) - generative - general == SINCE_THEN
    assert set(BESIDES) - generative - general == {"gen_ai.usage.cost"}


def test_no_name_is_one_that_the_package_calls_replaced() -> None:
    """Its source alone says so, and of the others that they have moved."""
    source = inspect.getsource(gen_ai_attributes)
    told = re.findall(r'^GEN_AI_\w+: Final = "(.+)"\n"""\nDeprecated: (\w+)', source, re.MULTILINE)
    assert {name for name, _ in told} == names_in(gen_ai_attributes)
    replaced = {name for name, what in told if what != "Moved"}
    assert "gen_ai.system" in replaced
    assert not replaced & set(ATTRIBUTES)


def test_the_values_are_those_of_the_package() -> None:
    """Only planning is younger."""
    operations = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert operations | {"plan"} == OPERATIONS
    assert set(VALUES["gen_ai.output.type"]) == {each.value for each in gen_ai_attributes.GenAiOutputTypeValues}


def test_providers_that_the_conventions_know_are_called_as_they_call_them() -> None:
    """Those that they do not know go by our names."""
    known = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert {telemetry_name(name) for name in provider_names()} - known == {
        *("cerebras", "huggingface", "llamacpp", "ollama", "openrouter", "together", "vllm"),
        *("aistrale", "compatible", "echo"),
    }
