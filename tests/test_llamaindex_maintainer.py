"""What would convince somebody who maintains LlamaIndex, point by point; each is tested in full where it belongs."""

import asyncio
import gc
import json
import logging
import os
import pickle
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from callers import assert_holds_no_key, everything_shown, steps_of_ours
from llama_index.core import Document, Settings, SimpleKeywordTableIndex, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CitationQueryEngine, RouterQueryEngine, TransformQueryEngine
from llama_index.core.selectors import PydanticSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from model_behaviour import behave
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from packaging.requirements import Requirement
from programs import run_program
from test_llamaindex import ADD, ANSWER, CHATS, COMPLETIONS, COPIES, SECRET, WITH_TOOLS, options, user
from test_llamaindex_engines import asked, chatted
from upstream import (
    BOUND,
    CLOSE,
    END_OF_BODY,
    Gate,
    Request,
    Step,
    Upstream,
    completion,
    events,
    failure,
    plain,
    stream,
)

import aistrale
from aistrale_llamaindex import AistraleEmbedding, AistraleLLM, instrument, uninstrument
from aistrale_llamaindex.steps import steps

TESTS = Path(__file__).parent
ROOT = TESTS.parent
JSON = dict[str, Any]
DOCUMENTS = [Document(text="Whales are mammals that live in the sea."), Document(text="Trouts are fish.")]

EIGHT = [*CHATS, *COMPLETIONS]
every_way = pytest.mark.parametrize("way", EIGHT)
of_workflows = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""LlamaIndex's own agents use what pydantic and their workflows will take away."""


def call(llm: Any, way: str, text: str = "Hello", **more: Any) -> Any:
    """The last response of a call, whichever of the eight ways it is made."""
    return CHATS[way](llm, user(text), **more) if way in CHATS else COMPLETIONS[way](llm, text, **more)


# 1

LOCAL = ("127.0.0.1", "::1", "localhost")
WAYS = ("sync", "async", "streamed", "async streamed")


@pytest.fixture
def alone(own_loop: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing but this machine can be reached or looked up, no key is about, and no setting is left behind."""
    connect, look_up, tried = socket.socket.connect, socket.getaddrinfo, []

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            tried.append(address)
            raise OSError(address)
        connect(self, address)

    def only_known(host: Any, *more: Any, **named: Any) -> Any:
        if host not in LOCAL:
            tried.append(host)
            raise socket.gaierror(host)
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    monkeypatch.setattr(socket, "getaddrinfo", only_known)
    assert not [name for name in os.environ if name.endswith("_API_KEY")]
    yield
    Settings._llm = Settings._embed_model = None
    assert tried == []


def vectors(embed_model: Any) -> Any:
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)


def router(llm: Any, embed_model: Any, streaming: bool) -> Any:
    """Of three engines the last, which is what the model says."""
    engine = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm, streaming=streaming)
    tools = [QueryEngineTool.from_defaults(engine, name=name, description=name) for name in ("whales", "trouts", "all")]
    return RouterQueryEngine.from_defaults(tools, llm=llm, selector=PydanticSingleSelector.from_defaults(llm=llm))


QUERY_ENGINES: dict[str, Callable[[Any, Any, bool], Any]] = {
    "summary": lambda llm, embed_model, streaming: SummaryIndex.from_documents(DOCUMENTS).as_query_engine(
        llm=llm, streaming=streaming
    ),
    "vectors": lambda llm, embed_model, streaming: vectors(embed_model).as_query_engine(llm=llm, streaming=streaming),
    "keywords": lambda llm, embed_model, streaming: SimpleKeywordTableIndex.from_documents(
        DOCUMENTS, llm=llm
    ).as_query_engine(llm=llm, streaming=streaming),
    "router": router,
    "citations": lambda llm, embed_model, streaming: CitationQueryEngine.from_args(
        vectors(embed_model), llm=llm, streaming=streaming
    ),
    "an answer first": lambda llm, embed_model, streaming: TransformQueryEngine(
        vectors(embed_model).as_query_engine(llm=llm, streaming=streaming), HyDEQueryTransform(llm=llm)
    ),
}
CHAT_ENGINES = {mode.value: mode for mode in (ChatMode.SIMPLE, ChatMode.CONTEXT, ChatMode.CONDENSE_PLUS_CONTEXT)}


async def _run(agent: FunctionAgent) -> str:
    return str(await agent.run("What is 2 + 3?"))


@of_workflows
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (kind, way)
        for kind in (*QUERY_ENGINES, *CHAT_ENGINES, "agent")
        for way in WAYS
        if kind != "agent" or "async" in way
    ],
)
def test_01_what_is_built_with_it_answers_offline_and_without_a_key(upstream: Upstream, kind: str, way: str) -> None:
    """Query engines, chat engines and an agent; whole where nothing is streamed, and streamed where it is."""
    upstream.default = behave
    given: Any = {"provider": "vllm", "base_url": upstream.url, "max_retries": 0}
    llm, embed_model = AistraleLLM(model="mine", **given), AistraleEmbedding(model="my-vectors", **given)
    streaming = way.endswith("streamed")
    if kind in QUERY_ENGINES:
        said = asked(QUERY_ENGINES[kind](llm, embed_model, streaming), way)
    elif kind in CHAT_ENGINES:
        memory = ChatMemoryBuffer.from_defaults(token_limit=2000, llm=llm)
        engine = vectors(embed_model).as_chat_engine(chat_mode=CHAT_ENGINES[kind], llm=llm, memory=memory)
        said = chatted(engine, way, "Where do whales live?")
    else:
        said = asyncio.run(_run(FunctionAgent(tools=[ADD], llm=llm, streaming=streaming)))
    assert said == ANSWER
    assert bool(upstream.requests[-1].body.get("stream")) == streaming
    assert not [request for request in upstream.requests if "authorization" in request.headers]


# 2


class Events(BaseEventHandler):
    """What LlamaIndex says that happens."""

    found: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **more: Any) -> None:
        self.found.append(event)

    def named(self, *endings: str) -> list[Any]:
        return [event for event in self.found if event.class_name().endswith(endings)]


class Entered(NullSpanHandler):
    """What LlamaIndex enters."""

    found: list[str] = Field(default_factory=list)
    given: list[str] = Field(default_factory=list)

    def span_enter(self, id_: str, bound_args: Any, instance: Any = None, *more: Any, **named: Any) -> None:
        self.found.append(id_)
        self.given.append(f"{bound_args} {instance!r} {instance}")


@pytest.fixture
def told() -> Iterator[tuple[Events, Entered]]:
    """LlamaIndex's own instrumentation, listened to."""
    root, listening = get_dispatcher(), (Events(), Entered())
    root.add_event_handler(listening[0])
    root.add_span_handler(listening[1])
    yield listening
    root.event_handlers = [handler for handler in root.event_handlers if handler is not listening[0]]
    root.span_handlers = [handler for handler in root.span_handlers if handler is not listening[1]]


class Traced(SpanProcessor):
    """A tracer provider and the spans it was told of; LlamaIndex's steps are among them."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self.provider.add_span_processor(self)
        self.started = 0
        self.ended: list[ReadableSpan] = []
        self._changed = threading.Condition()

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        with self._changed:
            self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        with self._changed:
            self.ended.append(span)
            self._changed.notify_all()

    def wait_until_ended(self, number: int) -> None:
        """Return once so many spans have ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ended) >= number, BOUND), [span.name for span in self.ended]


@pytest.fixture
def traced(own_loop: None) -> Iterator[Traced]:
    found = Traced()
    instrument(found.provider)
    yield found
    uninstrument()


def traced_by(found: Traced, upstream: Upstream, **more: Any) -> AistraleLLM:
    return AistraleLLM(**options(upstream, client_options={"tracer_provider": found.provider}, **more))


@every_way
def test_02_a_call_is_one_span_and_one_pair_of_events(
    upstream: Upstream, traced: Traced, told: tuple[Events, Entered], way: str
) -> None:
    """By LlamaIndex's instrumentation, by its older callbacks, and by ours, all of them at once."""
    upstream.default = behave
    debug = LlamaDebugHandler(print_trace_on_end=False)
    call(traced_by(traced, upstream, callback_manager=CallbackManager([debug])), way)
    heard, entered = told
    (id,) = entered.found
    assert id.startswith(f"AistraleLLM.{way}-")
    start, *between, end = [event for event in heard.found if event.class_name().startswith("LLM")]
    kind = "LLMChat" if way in CHATS else "LLMCompletion"
    assert [start.class_name(), end.class_name()] == [f"{kind}StartEvent", f"{kind}EndEvent"]
    assert {event.class_name() for event in between} == ({f"{kind}InProgressEvent"} if "stream" in way else set())
    assert {event.span_id for event in (start, *between, end)} == {id}
    if "stream" in way:
        assert len(between) == len(ANSWER.split()) + 1  # the last one has the tokens
    ((begun, ended),) = debug.get_event_pairs(CBEventType.LLM)
    assert begun.id_ == ended.id_
    assert [span.name for span in traced.ended] == ["chat gpt-test"]
    assert (traced.started, len(steps)) == (1, 0)


@pytest.mark.parametrize("way", WITH_TOOLS)
def test_02_a_call_with_tools_is_one_as_well(
    upstream: Upstream, traced: Traced, told: tuple[Events, Entered], way: str
) -> None:
    """Whatever LlamaIndex enters on the way to it."""
    upstream.default = behave
    WITH_TOOLS[way](traced_by(traced, upstream), [ADD], "2 + 3?")
    heard, _ = told
    assert [event.class_name() for event in heard.named("StartEvent", "EndEvent")] == [
        "LLMChatStartEvent",
        "LLMChatEndEvent",
    ]
    assert [span.name for span in traced.ended] == ["chat gpt-test"]


# 3

STREAMS: dict[str, Any] = {
    "stream_chat": user("Hello"),
    "stream_complete": "Hello",
    "astream_chat": user("Hello"),
    "astream_complete": "Hello",
}
LEFT = ("closed", "collected", "cancelled")
ENDS = ("read", *LEFT, "error")
ROUNDS = 1250


def _end(streamed: Any, end: str, gate: Gate) -> None:
    """Read what is left of a stream, or leave it; nobody else holds on to it."""
    match end:
        case "read":
            gate.open()
            list(streamed)
        case "closed":
            streamed.close()
        case "error":
            gate.open()
            with pytest.raises(aistrale.AistraleError):
                list(streamed)


async def _aend(streamed: Any, end: str, gate: Gate) -> None:
    match end:
        case "read":
            gate.open()
            assert [response async for response in streamed]
        case "closed":
            await streamed.aclose()
        case "cancelled":
            reading = asyncio.ensure_future(anext(streamed))
            await asyncio.to_thread(gate.wait_until_reached)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        case "error":
            gate.open()
            with pytest.raises(aistrale.AistraleError):
                assert [response async for response in streamed]


@pytest.mark.parametrize(
    ("way", "end"), [(way, end) for way in STREAMS for end in ENDS if way[0] == "a" or end != "cancelled"]
)
def test_03_a_span_lasts_as_long_as_its_stream_and_is_exported_once(
    upstream: Upstream, traced: Traced, way: str, end: str
) -> None:
    """However that ends: what was left or cancelled is no error."""
    gate = Gate()
    head, *others = stream("One ", "two")
    upstream.default = [head, others[0], gate, *([CLOSE] if end == "error" else others[1:])]
    llm = traced_by(traced, upstream)

    def sync() -> None:
        streamed = getattr(llm, way)(STREAMS[way])
        assert next(streamed).delta == "One "
        assert (traced.started, traced.ended) == (1, [])
        if end != "collected":
            _end(streamed, end, gate)
        del streamed

    async def asynchronous() -> None:
        streamed = await getattr(llm, way)(STREAMS[way])
        assert (await anext(streamed)).delta == "One "
        assert (traced.started, traced.ended) == (1, [])
        if end != "collected":
            await _aend(streamed, end, gate)
        del streamed
        gc.collect()
        await asyncio.to_thread(traced.wait_until_ended, 1)

    asyncio.run(asynchronous()) if way.startswith("a") else sync()
    gc.collect()
    (span,) = traced.ended
    attributes = dict(span.attributes or {})
    assert attributes.get("aistrale.cancelled", False) == (end in LEFT)
    assert span.status.is_ok == (end != "error")
    assert ("error.type" in attributes) == (end == "error")
    assert (traced.started, len(steps)) == (1, 0)


@pytest.mark.parametrize("way", STREAMS)
def test_03_a_stream_that_is_never_read_asks_nobody(upstream: Upstream, traced: Traced, way: str) -> None:
    """And leaves nothing open."""

    async def leave() -> None:
        await getattr(traced_by(traced, upstream), way)(STREAMS[way])

    if way.startswith("a"):
        asyncio.run(leave())
    else:
        getattr(traced_by(traced, upstream), way)(STREAMS[way])
    gc.collect()
    assert (traced.started, upstream.requests, len(steps)) == (0, [], 0)


def test_03_ten_thousand_calls_leave_no_span_open(upstream: Upstream, traced: Traced) -> None:
    """Whole, read, closed or forgotten, sync and async: as many spans end as began."""
    upstream.default = lambda request: stream("a ", "b") if request.body.get("stream") else plain(completion("a b"))
    llm = traced_by(traced, upstream)

    async def asynchronous() -> None:
        for _ in range(ROUNDS):
            await llm.acomplete("Hello")
            assert [response async for response in await llm.astream_complete("Hello")]
            left = await llm.astream_complete("Hello")
            await anext(left)
            await left.aclose()
            forgotten = await llm.astream_complete("Hello")
            await anext(forgotten)
            del forgotten
        await asyncio.to_thread(traced.wait_until_ended, 8 * ROUNDS)

    for _ in range(ROUNDS):
        llm.complete("Hello")
        assert list(llm.stream_complete("Hello"))
        left = llm.stream_complete("Hello")
        next(left)
        left.close()
        next(llm.stream_complete("Hello"))
    asyncio.run(asynchronous())
    assert (traced.started, len(traced.ended), len(steps)) == (10_000, 10_000, 0)
    assert len({span.context.span_id for span in traced.ended}) == 10_000


# 4

AT_ONCE = 8


def counted(request: Request) -> list[Step]:
    """An answer that took as many tokens as the question says, whole or streamed."""
    (number,) = {int(found) for found in re.findall(r"of (\d+) tokens", str(request.body["messages"]))}
    usage = {"prompt_tokens": number, "completion_tokens": 2 * number, "total_tokens": 3 * number}
    if not request.body.get("stream"):
        return plain({**completion("Sea."), "usage": usage})
    told = [
        {"model": "gpt-test", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"model": "gpt-test", "choices": [], "usage": usage},
    ]
    return [*events("In ", "the ", "sea.", *(json.dumps(each).encode() for each in told), b"[DONE]"), END_OF_BODY]


@pytest.mark.parametrize("way", WAYS)
def test_04_no_trace_bleeds_into_another(upstream: Upstream, traced: Traced, way: str) -> None:
    """One engine asked by many at the same time, in threads and under `gather`: each has its own spans and session."""
    gate, tracer = Gate(), traced.provider.get_tracer("application")
    upstream.default = lambda request: [gate, *counted(request)]
    index = SummaryIndex.from_documents(DOCUMENTS)
    traced.ended.clear()
    engine = index.as_query_engine(llm=traced_by(traced, upstream), streaming=way.endswith("streamed"))

    @contextmanager
    def request(number: int) -> Iterator[str]:
        with tracer.start_as_current_span(str(number)), instrument_tags({"session_id": f"s-{number}"}):
            yield f"A question of {number} tokens?"

    def ask(number: int) -> None:
        with request(number) as question:
            response = engine.query(question)
            assert "ea." in (str(response) if way == "sync" else "".join(response.response_gen))

    async def ask_async(number: int) -> None:
        with request(number) as question:
            response: Any = await engine.aquery(question)
            if hasattr(response, "response_gen"):
                assert "".join([text async for text in response.response_gen]) == "In the sea."

    async def together() -> None:
        await asyncio.gather(*(ask_async(number) for number in range(1, AT_ONCE + 1)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asking = [pool.submit(ask, number) for number in range(1, AT_ONCE + 1)] if "async" not in way else []
        asking += [pool.submit(asyncio.run, together())] if "async" in way else []
        upstream.wait_for_requests(AT_ONCE)
        gate.open()
        for each in asking:
            each.result()
    gc.collect()

    traces: dict[int, list[ReadableSpan]] = {}
    for span in traced.ended:
        traces.setdefault(span.context.trace_id, []).append(span)
    assert len(traces) == AT_ONCE
    shapes = set()
    for spans in traces.values():
        (root,) = [span for span in spans if span.parent is None]
        inner = [dict(span.attributes or {}) for span in spans if span is not root]
        assert {attributes["session.id"] for attributes in inner} == {f"s-{root.name}"}
        tokens = [attributes.get("gen_ai.usage.input_tokens") for attributes in inner]
        assert [number for number in tokens if number] == [int(root.name)]
        shapes.add(tuple(sorted(span.name for span in spans if span is not root)))
    (shape,) = shapes
    assert {"chat gpt-test", "invoke_workflow RetrieverQueryEngine"} <= set(shape)
    assert len(steps) == 0


# 5

COUNTED = {way: 100 * number for number, way in enumerate(EIGHT, 1)}
"""The tokens of the question that is asked in each way."""


def ask_all(llm: AistraleLLM) -> None:
    for way, number in COUNTED.items():
        call(llm, way, f"A question of {number} tokens?")


def test_05_llamaindexes_counter_shows_the_providers_tokens(
    upstream: Upstream, own_loop: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of calls in all eight ways and of a streamed query, and none that it would have made up."""
    upstream.default = counted
    counter = TokenCountingHandler(tokenizer=lambda text: [0] * 9999)
    monkeypatch.setattr(Settings, "_callback_manager", CallbackManager([counter]))
    llm = AistraleLLM(**options(upstream, callback_manager=Settings.callback_manager))
    ask_all(llm)
    engine = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm, streaming=True)
    assert "".join(engine.query("A question of 7 tokens?").response_gen) == "In the sea."
    found = [(event.prompt_token_count, event.completion_token_count) for event in counter.llm_token_counts]
    assert found == [(number, 2 * number) for number in (*COUNTED.values(), 7)]
    assert counter.total_llm_token_count == 3 * (sum(COUNTED.values()) + 7)


OFFICIAL = """
import json, sys
from types import SimpleNamespace
from llama_index.observability.otel import LlamaIndexOpenTelemetry
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
LlamaIndexOpenTelemetry(span_exporter=exporter, span_processor="simple").start_registering()
from aistrale_llamaindex import AistraleLLM
from test_llamaindex_maintainer import COUNTED, call
from test_llamaindex import options

llm = AistraleLLM(**options(SimpleNamespace(url=sys.argv[1])))
for way, number in COUNTED.items():
    exporter.clear()
    call(llm, way, f"A question of {number} tokens?")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    ours, theirs = spans.pop("chat gpt-test"), spans.pop(f"AistraleLLM.{way}")
    ends = [dict(event.attributes) for event in theirs.events if event.name.endswith("EndEvent")]
    used = "response.raw.usage."
    print(json.dumps([
        way,
        [ours.attributes["gen_ai.usage.input_tokens"], ours.attributes["gen_ai.usage.output_tokens"]],
        [[end[used + "prompt_tokens"], end[used + "completion_tokens"]] for end in ends],
        ours.parent is not None and ours.parent.span_id == theirs.context.span_id,
        sorted(spans),
    ]))
"""


def test_05_the_official_opentelemetry_handler_shows_them(upstream: Upstream) -> None:
    """On its own span of a call that is whole; ours is below it, streamed too.

    Its spans of streams end before these begin, and what comes later it drops: ours, in the same export, have them.
    """
    upstream.default = counted
    environment = {"AISTRALE_TELEMETRY": "otlp"}
    done = run_program(OFFICIAL, cwd=TESTS, arguments=(upstream.url,), env=environment, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    for line, (way, number) in zip(done.stdout.splitlines(), COUNTED.items(), strict=True):
        tokens, is_whole = [number, 2 * number], "stream" not in way
        assert json.loads(line) == [way, tokens, [tokens] if is_whole else [], True, []]


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # it calls that, and loses the span if it fails
def test_05_openinference_shows_them(upstream: Upstream, own_loop: None) -> None:
    """Streamed too, with the model and how it ended, whichever way."""
    upstream.default = counted
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)
    try:
        ask_all(AistraleLLM(**options(upstream, client_options={"tracer_provider": TracerProvider()})))
    finally:
        LlamaIndexInstrumentor().uninstrument()
    wanted = ("model_name", "finish_reason", "token_count.prompt", "token_count.completion", "token_count.total")
    found = {
        span.name: [dict(span.attributes or {})[f"llm.{name}"] for name in wanted]
        for span in exporter.get_finished_spans()
    }
    assert found == {
        f"AistraleLLM.{way}": ["gpt-test", "stop", number, 2 * number, 3 * number] for way, number in COUNTED.items()
    }


# 6

ONE_MODEL = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from aistrale_llamaindex import AistraleEmbedding, AistraleLLM
from llama_index.core.llms import ChatMessage

given = {"provider": "openai", "api_key": "sk", "base_url": sys.argv[1], "max_retries": 0}
llm, embed_model = AistraleLLM(model="gpt-test", **given), AistraleEmbedding(model="embed-test", **given)

async def ask():
    messages = [ChatMessage(content="Hello")]
    whole = (await llm.acomplete("Hello")).text, (await llm.achat(messages)).message.content
    texts = "".join([response.delta async for response in await llm.astream_complete("Hello")])
    chats = "".join([response.delta async for response in await llm.astream_chat(messages)])
    return {*whole, texts, chats}, (await embed_model.aget_query_embedding("Hello"))[0]

for _ in range(3):
    print(asyncio.run(ask()), llm.complete("Hello").text)
with ThreadPoolExecutor(3) as pool:
    print([answer.text for answer in pool.map(llm.complete, ["Hello"] * 3)])
"""


def test_06_three_event_loops_one_after_the_other(upstream: Upstream) -> None:
    """One model and one of embeddings for all, sync calls and threads between: nothing is said, or left open."""
    upstream.default = behave
    done = run_program(ONE_MODEL, cwd=TESTS, arguments=(upstream.url,), timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    *loops, threads = done.stdout.splitlines()
    assert loops == [f"({ {ANSWER}!r}, 5.0) {ANSWER}"] * 3
    assert threads == str([ANSWER] * 3)
    upstream.wait_until_open(0)


async def _of_engine(llm: AistraleLLM) -> str:
    return str(await SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm).aquery("Where?"))


async def _read(streamed: Any) -> str:
    return "".join([response.delta or "" async for response in await streamed])


async def _chat(llm: AistraleLLM) -> str:
    return str((await llm.achat(user("Hello"))).message.content)


async def _complete(llm: AistraleLLM) -> str:
    return (await llm.acomplete("Hello")).text


async def _with_tools(llm: AistraleLLM) -> str:
    return str((await llm.achat_with_tools([ADD], "Hello")).message.content)


ASYNC: dict[str, Callable[[AistraleLLM], Any]] = {
    "achat": _chat,
    "acomplete": _complete,
    "astream_chat": lambda llm: _read(llm.astream_chat(user("Hello"))),
    "astream_complete": lambda llm: _read(llm.astream_complete("Hello")),
    "achat_with_tools": _with_tools,
    "aquery": _of_engine,
}


@pytest.mark.parametrize("way", ASYNC)
async def test_06_the_event_loop_is_never_blocked(upstream: Upstream, way: str) -> None:
    """A slow answer goes on each time the heart has beaten ten times more: one that kept the loop would never end."""
    gates = [Gate() for _ in range(5)]
    upstream.default = lambda request: slowly(
        stream("Sea.") if request.body.get("stream") else plain(completion("Sea."))
    )

    def slowly(steps: list[Step]) -> list[Step]:
        data = b"".join(step for step in steps if isinstance(step, bytes))
        size = -(-len(data) // len(gates))
        return [step for at, gate in enumerate(gates) for step in (gate, data[at * size : (at + 1) * size])]

    beats = []
    asking = asyncio.ensure_future(ASYNC[way](AistraleLLM(**options(upstream, timeout=BOUND))))

    async def beat() -> None:
        for gate in gates:
            await asyncio.to_thread(gate.wait_until_reached)
            for _ in range(10):
                await asyncio.sleep(0)
                beats.append(asking.done())
            gate.open()

    said, _ = await asyncio.gather(asking, beat())
    assert said == "Sea."
    assert beats == [False] * 10 * len(gates)


# 7


@every_way
@pytest.mark.parametrize("of_environment", [False, True])
def test_07_the_key_is_nowhere_to_be_seen(
    upstream: Upstream,
    traced: Traced,
    told: tuple[Events, Entered],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    of_environment: bool,
) -> None:
    """In nothing that a model shows, that LlamaIndex tells its handlers, old or new, of spans, logs and errors."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    more = {"api_key": None} if of_environment else {}
    llm = traced_by(traced, upstream, callback_manager=CallbackManager([debug]), **more)
    embed_model = AistraleEmbedding(**options(upstream, model="embed-test", **more))
    upstream.default = behave
    with caplog.at_level(logging.DEBUG):
        call(llm, way)
        embed_model.get_text_embedding("Hello")
        upstream.default = lambda request: failure(401, f"Incorrect API key provided: {SECRET}")
        with pytest.raises(aistrale.AuthenticationError) as caught:
            call(llm, way)
    assert [request.headers["authorization"] for request in upstream.requests] == [f"Bearer {SECRET}"] * 3
    heard, entered = told
    shown = [
        text
        for model in (llm, embed_model)
        for text in (repr(model), str(model), model.to_dict(), model.to_json(), model.model_dump(), model.to_payload())
    ]
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 2
    assert len(heard.named("StartEvent")) == 3
    assert len(traced.ended) == 2
    shown += [event.payload for event in debug.get_events()]
    shown += [event.model_dump() for event in heard.found] + entered.given
    shown += [span.to_json() for span in traced.ended] + [llm.metadata, caplog.text]
    assert_holds_no_key(f"{shown}\n{everything_shown(caught.value)}", SECRET)


# 8


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


def bodies(llm: AistraleLLM, upstream: Upstream) -> list[tuple[str, JSON]]:
    """The key and the body of the requests that a model makes, called every way."""
    before = len(upstream.requests)
    answers = {call(llm, way).raw["model"] for way in EIGHT}
    llm.chat_with_tools([ADD], "2 + 3?", tool_required=True)
    assert llm.structured_predict(Joke, PromptTemplate("A joke")).setup == "text"
    assert answers == {"gpt-test"}
    return [(request.headers["authorization"], request.body) for request in upstream.requests[before:]]


@pytest.mark.parametrize("copied", COPIES)
def test_08_a_copy_asks_as_its_original_does(upstream: Upstream, copied: str) -> None:
    """With all settings, in all ways; and so does the original afterwards."""
    upstream.default = behave
    llm = AistraleLLM(
        **options(
            upstream, temperature=0.5, max_tokens=9, timeout=BOUND, system_prompt="Be brief.", context_window=1000
        ),
        additional_kwargs={"seed": 7, "metadata": {"of": "mine"}},
    )
    wanted = bodies(llm, upstream)
    assert len(wanted) == 10
    assert {(key, body["seed"], body["temperature"]) for key, body in wanted} == {(f"Bearer {SECRET}", 7, 0.5)}
    copy = COPIES[copied](llm)
    assert bodies(copy, upstream) == wanted
    assert copy.metadata == llm.metadata
    copy.additional_kwargs["seed"] = 8
    if copied != "model_copy":  # pydantic's, which is shallow
        assert bodies(llm, upstream) == wanted


UNPICKLING = """
import asyncio, pickle, sys
llm, embed_model = pickle.loads(bytes.fromhex(sys.argv[1]))
print(llm.complete("Hello").text, asyncio.run(llm.acomplete("Hello")).text, embed_model.get_query_embedding("abc")[0])
"""


def test_08_a_pickle_works_where_it_is_read(upstream: Upstream, tmp_path: Path) -> None:
    """In another process, which has imported nothing: models that were used, with their keys."""
    upstream.default = behave
    models = AistraleLLM(**options(upstream)), AistraleEmbedding(**options(upstream, model="embed-test"))
    models[0].complete("Hello")
    asyncio.run(models[0].acomplete("Hello"))
    models[1].get_query_embedding("Hello")
    done = run_program(UNPICKLING, cwd=tmp_path, arguments=(pickle.dumps(models).hex(),), timeout=110)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{ANSWER} {ANSWER} 3.0\n")
    assert {request.headers["authorization"] for request in upstream.requests} == {f"Bearer {SECRET}"}


@pytest.mark.parametrize("kind", [AistraleLLM, AistraleEmbedding])
def test_08_a_model_is_made_again_from_its_dict(upstream: Upstream, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is JSON and has no key: that is given again, or is in the environment."""
    upstream.default = behave
    written = json.dumps(kind(**options(upstream)).to_dict())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-environment")
    for more in ({}, {"api_key": SECRET}):
        again = kind.from_dict({**json.loads(written), **more})
        assert (
            again.complete("Hello").text == ANSWER if kind is AistraleLLM else again.get_query_embedding("abc")[0] == 3
        )
    sent = [request.headers["authorization"] for request in upstream.requests]
    assert sent == ["Bearer sk-of-environment", f"Bearer {SECRET}"]


# 9

SUBTRACT = FunctionTool.from_defaults(lambda a, b: a - b, name="subtract", description="Subtract.")
BY_NAME = {"type": "function", "function": {"name": "subtract"}}
CHOICES: list[tuple[JSON, Any, bool]] = [
    ({}, None, False),
    ({"tool_required": True}, "required", False),
    ({"tool_required": False, "allow_parallel_tool_calls": True}, None, True),
    ({"tool_choice": "auto", "tool_required": True}, "auto", False),
    ({"tool_choice": "none"}, "none", False),
    ({"tool_choice": "subtract", "allow_parallel_tool_calls": True}, BY_NAME, True),
    ({"tool_choice": BY_NAME}, BY_NAME, False),
]
"""What is said of tools, which choice is sent, and whether several may be called."""

with_tools = pytest.mark.parametrize("way", WITH_TOOLS)


def history() -> list[ChatMessage]:
    """A conversation in which a tool was called."""
    called = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 1}'}}
    return [
        ChatMessage(role="system", content="Be exact."),
        ChatMessage(content="1 + 1?"),
        ChatMessage(role="assistant", content=None, additional_kwargs={"tool_calls": [called]}),
        ChatMessage(role="tool", content="2", additional_kwargs={"tool_call_id": "c"}),
    ]


@with_tools
@pytest.mark.parametrize(("given", "choice", "are_several"), CHOICES)
def test_09_what_is_said_of_tools_is_sent(
    upstream: Upstream, way: str, given: JSON, choice: Any, are_several: bool
) -> None:
    """In each of the four ways; the history and the message stay what they were."""
    upstream.default = behave
    past, question = history(), ChatMessage(content="3 - 2?")
    before, asked_before = deepcopy(past), deepcopy(question)
    WITH_TOOLS[way](AistraleLLM(**options(upstream)), [ADD, SUBTRACT], question, chat_history=past, **given)
    (request,) = upstream.requests
    assert request.body.get("tool_choice") == choice
    assert request.body["parallel_tool_calls"] is are_several
    assert [tool["function"]["name"] for tool in request.body["tools"]] == ["add", "subtract"]
    assert [message["role"] for message in request.body["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert (past, question) == (before, asked_before)


@with_tools
def test_09_no_tools_are_not_spoken_of(upstream: Upstream, way: str) -> None:
    """Whatever else is said of them."""
    upstream.default = behave
    past = history()
    more = {"tool_required": True, "allow_parallel_tool_calls": True}
    response = WITH_TOOLS[way](AistraleLLM(**options(upstream)), [], "Hello", chat_history=past, **more)
    assert response.message.content == ANSWER
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & upstream.requests[0].body.keys()
    assert past == history()


def two_calls(request: Request) -> list[Step]:
    """Calls of `add` with 1 and 1 and of `subtract` with 2 and 2, whole or streamed."""
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": f'{{"a": {n}, "b": {n}}}'}}
        for n, name in ((1, "add"), (2, "subtract"))
    ]
    if not request.body.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return plain({**completion(), "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    deltas: list[JSON] = [{"tool_calls": [{"index": index, **each}]} for index, each in enumerate(calls)]
    pieces = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return [*events(*(json.dumps(each).encode() for each in (*pieces, last)), b"[DONE]"), END_OF_BODY]


@with_tools
def test_09_parallel_calls_are_all_there(upstream: Upstream, way: str) -> None:
    """Each with its id and arguments, as blocks and as LlamaIndex reads them, and all go back."""
    upstream.default = two_calls
    llm = AistraleLLM(**options(upstream))
    response = WITH_TOOLS[way](llm, [ADD, SUBTRACT], "Both", allow_parallel_tool_calls=True)
    found = [
        (found.tool_id, found.tool_name, found.tool_kwargs) for found in llm.get_tool_calls_from_response(response)
    ]
    assert found == [("call_1", "add", {"a": 1, "b": 1}), ("call_2", "subtract", {"a": 2, "b": 2})]
    assert [each["id"] for each in response.message.additional_kwargs["tool_calls"]] == ["call_1", "call_2"]
    results = [ChatMessage(role="tool", content="0", additional_kwargs={"tool_call_id": f"call_{n}"}) for n in (1, 2)]
    llm.chat([*user("Both"), response.message, *results])
    _, answer, *told = upstream.requests[-1].body["messages"]
    assert (
        [each["id"] for each in answer["tool_calls"]] == [each["tool_call_id"] for each in told] == ["call_1", "call_2"]
    )


@pytest.mark.parametrize("is_async", [False, True])
def test_09_one_call_where_one_is_wanted(upstream: Upstream, is_async: bool) -> None:
    """By `predict_and_call` as well, which calls as many as it may."""
    upstream.default = two_calls
    llm, past = AistraleLLM(**options(upstream)), history()
    for several, results in ((False, ["2"]), (True, ["2", "0"])):
        given: Any = {"chat_history": past, "allow_parallel_tool_calls": several}
        answer: Any = (
            asyncio.run(llm.apredict_and_call([ADD, SUBTRACT], "Both", **given))
            if is_async
            else llm.predict_and_call([ADD, SUBTRACT], "Both", **given)
        )
        assert [str(source) for source in answer.sources] == results
    assert past == history()


# 10


class Ingredient(BaseModel):
    """What goes into it."""

    name: str
    grams: int


class Recipe(BaseModel):
    """How to cook something."""

    title: str
    ingredients: list[Ingredient]


RECIPE = Recipe(title="text", ingredients=[Ingredient(name="text", grams=3)])
ABOUT = PromptTemplate("How is {what} cooked?")


async def _all(streamed: Any) -> list[Any]:
    return [deepcopy(shape) async for shape in await streamed]


FORMS: dict[str, Callable[[AistraleLLM], list[Any]]] = {
    "structured_predict": lambda llm: [llm.structured_predict(Recipe, ABOUT, what="rice")],
    "astructured_predict": lambda llm: [asyncio.run(llm.astructured_predict(Recipe, ABOUT, what="rice"))],
    "stream_structured_predict": lambda llm: [
        deepcopy(shape) for shape in llm.stream_structured_predict(Recipe, ABOUT, what="rice")
    ],
    "astream_structured_predict": lambda llm: asyncio.run(
        _all(llm.astream_structured_predict(Recipe, ABOUT, what="rice"))
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_10_a_shape_is_filled_in_and_the_system_prompt_heeded(upstream: Upstream, form: str) -> None:
    """In four forms, whatever is in it: the tool has to be called, and what is streamed of it grows."""
    upstream.default = behave
    found = FORMS[form](AistraleLLM(**options(upstream, system_prompt="Be a cook.")))
    assert found[-1].model_dump() == RECIPE.model_dump()
    if form.startswith(("stream", "astream")):
        sizes = [len(shape.model_dump_json(exclude_none=True)) for shape in found]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
    (request,) = upstream.requests
    assert (request.body["tool_choice"], bool(request.body.get("stream"))) == ("required", "stream" in form)
    sent = [(message["role"], message["content"]) for message in request.body["messages"]]
    assert sent == [("system", "Be a cook."), ("user", "How is rice cooked?")]


@pytest.mark.parametrize("form", FORMS)
def test_10_a_model_without_functions_fills_it_in_by_text(upstream: Upstream, form: str) -> None:
    """The system prompt is heeded there, too."""
    text = RECIPE.model_dump_json()
    upstream.default = lambda request: (
        stream(*re.findall(r".{1,9}", text)) if request.body.get("stream") else plain(completion(text))
    )
    llm = AistraleLLM(**options(upstream, system_prompt="Be a cook.", is_function_calling_model=False))
    assert FORMS[form](llm)[-1].model_dump() == RECIPE.model_dump()
    (request,) = upstream.requests
    assert "tools" not in request.body
    first, *_ = request.body["messages"]
    assert (first["role"], first["content"]) == ("system", "Be a cook.")


# 11

NAMES = ["gpt-99-2031-01-01", "ft:gpt-4o:acme::Ab12", "acme/llama-7b-instruct", "models/of:mine@v2", "модель 1", "o9"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", NAMES)
def test_11_any_name_of_a_model_is_taken(upstream: Upstream, name: str) -> None:
    """And sent as it stands, by all that LlamaIndex does with a model: none is looked up before it may be used."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, model=name))
    assert (llm.metadata.model_name, llm.metadata.is_function_calling_model) == (name, True)
    for way in EIGHT:
        call(llm, way)
    llm.chat_with_tools([ADD], "2 + 3?")
    llm.structured_predict(Joke, PromptTemplate("A joke"))
    assert asked(SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm), "sync") == ANSWER
    assert {request.body["model"] for request in upstream.requests} == {name}
    assert len(upstream.requests) == 11


# 12


BENCH = """
import json, sys
from benchmarks import report, sections, upstream
from benchmarks.worker import WORKLOADS

of = sections.LLAMAINDEX
lengths = {}
for name in (of.one, of.chunks):
    with WORKLOADS[name].openers[of.ours](sys.argv[1]) as ready:
        lengths[name] = ready.call()
print(json.dumps({
    "is measured": sections.SECTIONS["llamaindex"] is sections.llamaindex,
    "workloads": [of.name, of.ours, of.one, of.chunks],
    "beside": {name: sorted(WORKLOADS[name].openers) for name in (of.one, of.chunks)},
    "lengths": lengths,
    "is streamed": WORKLOADS[of.chunks].text == "".join(upstream.PIECES),
    "chunks": len(upstream.PIECES),
    "bars": {bar.figure: [bar.limit, bar.holds.__name__] for bar in report.BARS if bar.figure.startswith(of.name)},
}))
"""


def test_12_the_bench_measures_a_call_and_a_stream_of_100_chunks(upstream: Upstream) -> None:
    """By what it was promised: `complete` costs at most 0.3 ms over LlamaIndex's own 72 us. Times are its matter."""

    def answer(request: Request) -> list[Step]:
        return stream(*["word "] * 100) if request.body.get("stream") else plain(completion("One word."))

    upstream.default = answer
    done = run_program(BENCH, cwd=ROOT, arguments=(upstream.url,), env={"AISTRALE_TELEMETRY": "otlp"}, timeout=110)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["is measured"]
    assert found["workloads"] == ["llamaindex", "AistraleLLM", "complete", "stream_complete"]
    assert found["beside"] == {
        "complete": ["AistraleLLM", "OpenAI", "bare", "httpx"],
        "stream_complete": ["AistraleLLM", "OpenAI", "bare"],
    }
    assert (found["is streamed"], found["chunks"]) == (True, 100)
    assert found["lengths"] == {"complete": len("One word."), "stream_complete": len("word ") * 100}
    assert [bool(request.body.get("stream")) for request in upstream.requests] == [False, True]
    bars = found["bars"]
    assert bars["llamaindex over httpx"] == [300 + 72, "le"]
    assert {name: holds for name, (_, holds) in bars.items() if name != "llamaindex over httpx"} == {
        "llamaindex complete": "ge",
        "llamaindex stream_complete": "ge",
        "llamaindex acomplete": "ge",
        "llamaindex complete over floor": "le",
        "llamaindex stream_complete over floor": "le",
    }
    assert bars["llamaindex complete over floor"] == [300, "le"]
    assert bars["llamaindex stream_complete over floor"] == [3000, "le"]


@pytest.mark.parametrize("way", ["stream_chat", "stream_complete"])
def test_12_a_chunk_takes_few_steps(upstream: Upstream, way: str) -> None:
    """From the bytes of an event to LlamaIndex's response, and the same for each."""

    def read(words: int) -> int:
        upstream.will(stream(*["word "] * words))
        return steps_of_ours(lambda: call(llm, way))

    llm = AistraleLLM(**options(upstream))
    read(10)
    first, second, third = (read(words) for words in (100, 200, 400))
    assert (second - first) / 100 <= 40
    assert (third - second) / 200 <= 40


# 13

TYPED = """
from llama_index.core.base.llms.types import ChatMessage, LLMMetadata
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from opentelemetry.sdk.trace import TracerProvider

from aistrale_llamaindex import (
    AistraleCallbackHandler,
    AistraleEmbedding,
    AistraleLLM,
    instrument,
    prompt_from_store,
    prompt_to_store,
    uninstrument,
)
from llama_index.embeddings.aistrale import AistraleEmbedding as SameEmbedding
from llama_index.llms.aistrale import AistraleLLM as SameLLM

llm = AistraleLLM(model="openai/gpt-4o", temperature=0.5, max_tokens=3, fallbacks=["a/b"], system_prompt="Be brief.")
embed_model = AistraleEmbedding(model="openai/text-embedding-3-small", dimensions=3)
as_theirs: tuple[FunctionCallingLLM, BaseEmbedding, BaseCallbackHandler] = (llm, embed_model, AistraleCallbackHandler())
as_same: tuple[SameLLM, SameEmbedding] = (llm, embed_model)
metadata: LLMMetadata = llm.metadata
temperature: float | None = llm.temperature
vectors: list[list[float]] = embed_model.get_text_embedding_batch(["one"])
template: BasePromptTemplate = prompt_from_store("qa@2")
prompt_to_store("qa", PromptTemplate("Say {word}"), labels=["production"])
instrument(TracerProvider())
uninstrument()


async def ask() -> list[str | None]:
    chat, text = await llm.achat([ChatMessage(content="Hello")]), llm.complete("Hello")
    streamed = [response.delta async for response in await llm.astream_complete("Hello")]
    return [chat.message.content, text.text, *streamed]
"""
MISTYPED = {
    "AistraleLLM(model=1)": "arg-type",
    "AistraleLLM(modle='x')": "call-arg",
    "AistraleEmbedding(dimensions='3')": "arg-type",
    "llm.nonsense": "attr-defined",
    "instrument('x')": "arg-type",
    "prompt_from_store(1)": "arg-type",
    "number: str = embed_model.get_text_embedding('x')": "assignment",
}


@pytest.mark.timeout(300)  # mypy reads all of LlamaIndex when it does so for the first time
def test_13_its_types_are_there(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """By mypy's strictest: what is right passes, and what is wrong is found."""
    (tmp_path / "typed.py").write_text(TYPED)
    mistakes = "\n".join(MISTYPED)
    (tmp_path / "mistyped.py").write_text(
        f"from aistrale_llamaindex import *\nfrom typed import embed_model, llm\n{mistakes}\n"
    )
    cache = request.config.cache
    assert cache is not None
    arguments = ("--strict", "--cache-dir", str(cache.mkdir("mypy-llamaindex")), "typed.py", "mistyped.py")
    program = "import sys; from mypy.main import main; main(args=sys.argv[1:], clean_exit=True)"
    done = run_program(program, cwd=tmp_path, arguments=arguments, timeout=280)
    found = re.findall(r"^(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    lines = [("mistyped", str(number), code) for number, code in enumerate(MISTYPED.values(), 3)]
    assert found == lines, done.stdout + done.stderr


def test_13_it_asks_for_the_core_it_was_made_for() -> None:
    """And for nothing else of LlamaIndex's."""
    declared = [Requirement(line) for line in requires("aistrale") or ()]
    needed = [each for each in declared if each.marker and each.marker.evaluate({"extra": "llamaindex"})]
    (core,) = [each for each in needed if not each.marker or not each.marker.evaluate({"extra": ""})]
    assert (core.name, str(core.specifier)) == ("llama-index-core", "<0.15,>=0.14.3")
    assert core.specifier.contains(version("llama-index-core"))
    refused = [number for number in ("0.14.2", "0.14.3", "0.14.99", "0.15.0") if not core.specifier.contains(number)]
    assert refused == ["0.14.2", "0.15.0"]
