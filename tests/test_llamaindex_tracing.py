"""What LlamaIndex does, as spans: one trace a request, spans that last as long as their streams, and none left open."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import ChatMessage, CompletionResponse, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from model_behaviour import behave
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from programs import printed
from upstream import CLOSE, HANG, Gate, Upstream, completion, events, failure, plain, stream
from workflows.errors import WorkflowCancelledByUser

import aistrale
from aistrale import BudgetExceededError, budgets, telemetry
from aistrale_llamaindex import (
    AistraleCallbackHandler,
    AistraleEmbedding,
    AistraleLLM,
    instrument,
    uninstrument,
)
from aistrale_llamaindex.steps import MOST_STEPS, Steps, steps

ANSWER = "Hello there, how can I help you today?"
DOCUMENTS = [Document(text="Whales are mammals."), Document(text="Trouts are fish.")]


class Spans:
    """A provider and what it was told."""

    def __init__(self) -> None:
        self.provider, self._exporter = TracerProvider(), InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def finished(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def trees(self) -> list[str]:
        """The spans of each trace, in the order of their start, each below its parent."""

        def below(parent: int | None, trace: int, depth: int) -> Iterator[str]:
            for span in sorted(self.finished, key=lambda span: span.start_time or 0):
                if span.context.trace_id == trace and (span.parent and span.parent.span_id) == parent:
                    yield "  " * depth + span.name
                    yield from below(span.context.span_id, trace, depth + 1)

        return ["\n".join(below(None, trace, 0)) for trace in {span.context.trace_id: None for span in self.finished}]

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.finished if span.name == name]
        return span


@pytest.fixture
def spans(own_loop: None) -> Iterator[Spans]:
    found = Spans()
    instrument(found.provider)
    yield found
    uninstrument()
    gc.collect()
    assert len(steps) == 0


def options(upstream: Upstream, spans: Spans | None = None, **more: Any) -> dict[str, Any]:
    known = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url, "max_retries": 0}
    client = {} if spans is None else {"client_options": {"tracer_provider": spans.provider}}
    return {**known, **client, **more}


def engine(upstream: Upstream, spans: Spans, **more: Any) -> Any:
    """A query engine over two documents, whose model and vectors are ours."""
    upstream.default = behave
    uninstrument()
    embed_model = AistraleEmbedding(**options(upstream, model="embed-test"))
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)
    instrument(spans.provider)
    embed_model.client_options = {"tracer_provider": spans.provider}
    return index.as_query_engine(llm=AistraleLLM(**options(upstream, spans)), **more)


async def _read(answer: Any) -> str:
    return "".join([text async for text in answer.response_gen])


async def _aquery(asked: Any) -> str:
    return await _read(await asked.aquery("Where?"))


def normal(tree: str) -> str:
    """Without the steps that differ from one way to another."""
    lines = [line.replace("asynthesize", "synthesize") for line in tree.splitlines()]
    return "\n".join(line.strip() for line in lines if "RefineProgram" not in line)


WANTED = """\
invoke_workflow RetrieverQueryEngine
retrieval VectorIndexRetriever
embeddings embed-test
chain CompactAndRefine.synthesize
chat gpt-test"""
WAYS: dict[str, tuple[bool, Callable[[Any], str]]] = {
    "query": (False, lambda asked: str(asked.query("Where?"))),
    "aquery": (False, lambda asked: str(asyncio.run(asked.aquery("Where?")))),
    "query, streamed": (True, lambda asked: "".join(asked.query("Where?").response_gen)),
    "aquery, streamed": (True, lambda asked: asyncio.run(_aquery(asked))),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_query_is_one_trace(upstream: Upstream, spans: Spans, way: str) -> None:
    """Retrieval, synthesis and our own calls in it, each once."""
    streaming, ask = WAYS[way]
    assert ask(engine(upstream, spans, streaming=streaming)) == ANSWER
    gc.collect()
    (tree,) = spans.trees
    assert normal(tree) == WANTED
    assert {span.status.is_ok or span.status.is_unset for span in spans.finished} == {True}


def test_a_streamed_span_lasts_as_long_as_its_stream(upstream: Upstream, spans: Spans) -> None:
    """The query's as well, though LlamaIndex left it long before."""
    asked, gate = engine(upstream, spans, streaming=True), Gate()
    answered = [*stream("One ", "two")]
    upstream.default = lambda request: (
        behave(request) if request.path.endswith("/embeddings") else [*answered[:-3], gate, *answered[-3:]]
    )
    answer = asked.query("Where?")
    assert next(answer.response_gen) == "One "
    assert {span.name for span in spans.finished} == {"retrieval VectorIndexRetriever", "embeddings embed-test"}
    gate.open()
    assert "".join(answer.response_gen) == "two"
    assert normal(spans.trees[0]) == WANTED
    ends = {span.name: span.end_time or 0 for span in spans.finished}
    assert ends["invoke_workflow RetrieverQueryEngine"] >= ends["chat gpt-test"]


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_is_left_is_cancelled(upstream: Upstream, spans: Spans, read: int) -> None:
    """Begun or not: its spans end once, and not as errors."""
    answer = engine(upstream, spans, streaming=True).query("Where?")
    for _ in range(read):
        next(answer.response_gen)
    del answer
    gc.collect()
    assert len(steps) == 0
    names = [span.name for span in spans.finished]
    assert len(names) == len(set(names)) == 4 + read
    assert [span.status.is_ok or span.status.is_unset for span in spans.finished] == [True] * len(names)
    if read:
        assert dict(spans.named("chat gpt-test").attributes or {})["aistrale.cancelled"] is True


@pytest.mark.parametrize("streaming", [False, True])
def test_an_error_is_on_every_span_that_it_leaves(upstream: Upstream, spans: Spans, streaming: bool) -> None:
    """Of a refused call, and in the middle of a stream."""
    asked = engine(upstream, spans, streaming=streaming)
    broken = events(b'{"choices": [{"index": 0, "delta": {"content": "One "}}]}', CLOSE)
    upstream.default = lambda request: (
        behave(request) if request.path.endswith("/embeddings") else broken if streaming else failure(400)
    )
    with pytest.raises(aistrale.AistraleError):
        str(asked.query("Where?"))
    gc.collect()
    assert len(steps) == 0
    assert not spans.named("chat gpt-test").status.is_ok
    if not streaming:
        assert not spans.named("invoke_workflow RetrieverQueryEngine").status.is_unset


def add(a: int, b: int) -> int:
    """Add two numbers, with the help of a model."""
    aistrale.run("Hello", provider="echo")
    return a + b


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of LlamaIndex's own
@pytest.mark.usefixtures("keeping")
def test_an_agent_is_one_trace(upstream: Upstream, own_loop: None) -> None:
    """With its steps and tools, what the tools call, and its session."""
    upstream.default = behave
    instrument()
    agent = FunctionAgent(tools=[add], llm=AistraleLLM(**options(upstream)), name="adder")

    async def run() -> Any:
        with instrument_tags({"session_id": "s-1", "user_id": "ada"}):
            return await agent.run("What is 2 + 3?")

    assert str(asyncio.run(run())) == ANSWER
    uninstrument()
    found = telemetry.query()
    assert {span.trace_id for span in found} == {found[0].trace_id}
    assert {(span.session_id, span.user_id) for span in found} == {("s-1", "ada")}
    (root,) = telemetry.trace(found[0].trace_id)
    assert [(depth, span.name) for depth, span in root.walk()] == [
        (0, "invoke_agent adder"),
        (1, "chain BaseWorkflowAgent.run_agent_step"),
        (2, "chat gpt-test"),
        (1, "chain BaseWorkflowAgent.call_tool"),
        (2, "execute_tool add"),
        (3, "chat echo"),
        (1, "chain BaseWorkflowAgent.run_agent_step"),
        (2, "chat gpt-test"),
    ]
    assert {group.key: group.calls for group in telemetry.summary("surface")} == {"llamaindex": 2, "sdk": 1}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of LlamaIndex's own
def test_a_workflow_of_agents_tells_whose_turn_it_was(upstream: Upstream, spans: Spans, own_loop: None) -> None:
    """Each turn is its agent's."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, spans))
    agents = [FunctionAgent(tools=[add], llm=llm, name=name, description=name) for name in ("adder", "teller")]

    async def run() -> Any:
        return await AgentWorkflow(agents=agents, root_agent="adder").run("What is 2 + 3?")

    assert str(asyncio.run(run())) == ANSWER
    (tree,) = spans.trees
    assert tree.splitlines() == [
        "invoke_workflow AgentWorkflow",
        "  invoke_agent adder",
        "    chat gpt-test",
        "  chain AgentWorkflow.call_tool",
        "    execute_tool add",
        "  invoke_agent adder",
        "    chat gpt-test",
    ]


class Patient:
    """Somebody's own step, which makes do without an answer."""

    def __init__(self, llm: AistraleLLM) -> None:
        self._llm = llm

    @get_dispatcher("patience").span
    async def ask(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._llm.achat([ChatMessage(content="Hello")]), 0.05)


def test_a_step_that_makes_do_without_an_answer_went_well(upstream: Upstream, spans: Spans) -> None:
    """It was not cancelled, the call was."""
    upstream.default = [HANG]
    asyncio.run(Patient(AistraleLLM(**options(upstream, spans))).ask())
    told = {span.name: (span.attributes or {}).get("aistrale.cancelled") for span in spans.finished}
    assert told == {"chat gpt-test": True, "chain Patient.ask": None}


def test_what_a_provider_says_of_a_prompt_is_in_no_span(upstream: Upstream, spans: Spans) -> None:
    """Its message may quote it."""
    secret = "MY SECRET PROMPT"
    upstream.default = lambda request: failure(400, f"your prompt {secret!r} is too long")
    llm = AistraleLLM(**options(upstream, spans))
    with pytest.raises(aistrale.InvalidRequestError, match=secret):
        SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm).query(secret)
    assert sum(span.status.status_code is StatusCode.ERROR for span in spans.finished) > 2
    assert secret not in "".join(span.to_json() for span in spans.finished)


@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.usefixtures("keeping")
def test_a_stream_lies_below_the_span_it_was_asked_for_in(upstream: Upstream, instrumented: bool) -> None:
    """Wherever it is read, and with the session that is named there."""
    upstream.default, spans = behave, Spans()
    if instrumented:
        instrument(spans.provider)
    tracer = spans.provider.get_tracer("app")
    llm = AistraleLLM(**options(upstream, spans))
    with tracer.start_as_current_span("request"):
        stream = llm.stream_chat([ChatMessage(content="Hello")])
    with tracer.start_as_current_span("response"), instrument_tags({"session_id": "s-1"}):
        list(stream)
    uninstrument()
    call = spans.named("chat gpt-test")
    assert call.parent is not None
    assert call.parent.span_id == spans.named("request").context.span_id
    assert (call.attributes or {}).get("session.id") == ("s-1" if instrumented else None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of LlamaIndex's own
@pytest.mark.parametrize("by", ["task", "run"])
def test_an_agent_that_is_cancelled_is_so_in_every_span(
    upstream: Upstream, spans: Spans, own_loop: None, by: str
) -> None:
    """Though LlamaIndex says of its steps that they went well."""
    upstream.default = [HANG]
    agent = FunctionAgent(tools=[add], llm=AistraleLLM(**options(upstream, spans)), name="adder")

    async def run() -> None:
        running = agent.run("What is 2 + 3?")
        await asyncio.to_thread(upstream.wait_for_requests, 1)
        if by == "run":
            await running.cancel_run()
        else:
            running.cancel()
        with pytest.raises((asyncio.CancelledError, WorkflowCancelledByUser)):
            await running

    asyncio.run(run())
    told = {span.name: (span.attributes or {}).get("aistrale.cancelled") for span in spans.finished}
    assert told == {
        "invoke_agent adder": True,
        "chain BaseWorkflowAgent.run_agent_step": True,
        "chat gpt-test": True,
    }
    assert len(steps) == 0


@pytest.mark.usefixtures("keeping")
def test_a_budget_of_a_session_counts(upstream: Upstream, own_loop: None) -> None:
    """By what `instrument_tags` say."""
    body = completion("Hello")
    upstream.default = lambda request: plain({**body, "usage": {**body["usage"], "cost": 0.02}})
    budgets.set("s-1", 0.01, session="s-1", hard=True)
    instrument()
    llm = AistraleLLM(**options(upstream, provider="openrouter"))
    with instrument_tags({"session_id": "s-1"}):
        llm.complete("Hello")
        with pytest.raises(BudgetExceededError):
            llm.complete("Hello")
    uninstrument()
    assert llm.complete("Hello").text == "Hello"


def test_traces_of_requests_at_once_do_not_mix(upstream: Upstream, spans: Spans) -> None:
    """Under `gather`, and in threads."""
    asked = engine(upstream, spans)

    async def together() -> None:
        await asyncio.gather(*(asked.aquery("Where?") for _ in range(5)))

    asyncio.run(together())
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: asked.query("Where?"), range(5)))
    assert [normal(tree) for tree in spans.trees] == [WANTED] * 10


@pytest.mark.parametrize("method", ["complete", "stream_complete", "chat", "stream_chat"])
def test_a_foreign_model_has_a_span_of_its_own(spans: Spans, method: str) -> None:
    """As long as its stream."""
    prompt: Any = "one two three" if "complete" in method else [ChatMessage(content="one two three")]
    answer = getattr(MockLLM(max_tokens=3), method)(prompt)
    if method.startswith("stream"):
        assert spans.finished == ()
        list(answer)
    operation = "text_completion" if "complete" in method else "chat"
    (span,) = [dict(span.attributes or {}) for span in spans.finished]
    assert (span["gen_ai.operation.name"], span["aistrale.surface"]) == (operation, "llamaindex")


class Mine(AistraleLLM):
    """Somebody's own, by a name of its own."""

    @classmethod
    def class_name(cls) -> str:
        return "Mine"


class Animal(BaseModel):
    """An animal."""

    name: str


def test_a_call_has_one_span_whoever_makes_it(upstream: Upstream, spans: Spans) -> None:
    """A class of somebody's own, and a model that answers in a shape."""
    upstream.default = behave
    mine = Mine(**options(upstream, spans))
    mine.complete("Hello")
    mine.as_structured_llm(Animal).complete("Hello")
    assert sum(span.name.startswith("chat") for span in spans.finished) == len(upstream.requests) == 2


@pytest.mark.parametrize("kind", [Mine, AistraleLLM])
def test_a_callback_manager_knows_ours_by_any_name(upstream: Upstream, kind: type[AistraleLLM]) -> None:
    """Their calls have one span each."""
    upstream.default, spans = behave, Spans()
    model = kind(
        **options(upstream, spans), callback_manager=CallbackManager([AistraleCallbackHandler(spans.provider)])
    )
    model.complete("Hello")
    model.chat([ChatMessage(content="Hello")])
    assert [span.name for span in spans.finished] == ["chat gpt-test"] * 2


def test_a_generator_of_somebodys_own_is_a_step_to_its_end(upstream: Upstream, spans: Spans) -> None:
    """All calls in it lie below it, not the first alone."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, spans))

    class Reporter:
        @get_dispatcher("reports").span
        def report(self, *prompts: str) -> Iterator[str]:
            for prompt in prompts:
                yield "".join(response.delta or "" for response in llm.stream_complete(prompt))

    assert list(Reporter().report("One", "Two")) == [ANSWER, ANSWER]
    assert spans.trees == ["chain Reporter.report\n  chat gpt-test\n  chat gpt-test"]
    assert "aistrale.cancelled" not in (spans.named("chain Reporter.report").attributes or {})
    assert len(steps) == 0


class Leaving(MockLLM):
    """Takes the tracer away in the middle of a query."""

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        uninstrument()
        return CompletionResponse(text="Hello")


def test_what_is_open_when_the_tracer_goes_ends(spans: Spans) -> None:
    """As cancelled, the query as well."""
    SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=Leaving()).query("x")
    assert len(steps) == 0
    root = dict(spans.named("invoke_workflow RetrieverQueryEngine").attributes or {})
    assert root["aistrale.cancelled"] is True


def test_a_tool_by_itself(spans: Spans) -> None:
    """By its name."""
    FunctionTool.from_defaults(lambda a: a, name="echo", description="Echo.").call(a=1)
    (span,) = spans.finished
    assert span.name == "execute_tool echo"


def test_ten_thousand_calls_leave_nothing_behind(spans: Spans) -> None:
    """Neither an open step nor a map that grows."""
    llm = MockLLM()
    for _ in range(5000):
        llm.complete("x")
        list(llm.stream_complete("x"))
    assert len(steps) == 0
    assert len(spans.finished) == 10_000


def test_steps_that_never_end_are_forgotten(spans: Spans) -> None:
    """The oldest, beyond so many."""
    some = Steps()
    for number in range(MOST_STEPS + 10):
        some.begin(str(number), None, None)
    assert len(some) == MOST_STEPS
    assert "0" not in some


def test_it_can_be_taken_away(upstream: Upstream, own_loop: None) -> None:
    """And put in place twice, which is as once."""
    found = Spans()
    instrument(found.provider)
    instrument(found.provider)
    llm = MockLLM()
    llm.complete("x")
    assert len(found.finished) == 1
    uninstrument()
    llm.complete("x")
    SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm).query("x")
    assert len(found.finished) == 1
    assert len(steps) == 0


def test_the_tracer_loads_no_core(tmp_path: Any) -> None:
    """Which takes seconds."""
    program = """
        import sys
        from aistrale_llamaindex import instrument
        instrument()
        print("llama_index.core" in sys.modules)
    """
    assert printed(program, cwd=tmp_path) == "False\n"


# The older callbacks


def watched(upstream: Upstream, spans: Spans, **more: Any) -> Any:
    """The same query engine, told by a callback manager."""
    upstream.default = behave
    Settings.callback_manager = CallbackManager([AistraleCallbackHandler(spans.provider)])
    embed_model = AistraleEmbedding(**options(upstream, spans, model="embed-test"))
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)
    return index.as_query_engine(llm=AistraleLLM(**options(upstream, spans)), **more)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """None is left behind."""
    yield
    Settings._callback_manager = None


CALLED_BACK = """\
invoke_workflow query
  retrieval
    embeddings embed-test
  chain synthesize
    chat gpt-test"""


@pytest.mark.parametrize("way", ["query", "aquery"])
def test_a_callback_manager_tells_of_a_query(upstream: Upstream, own_loop: None, way: str) -> None:
    """Retrieval, synthesis and our own calls in it, each once."""
    spans = Spans()
    assert WAYS[way][1](watched(upstream, spans)) == ANSWER
    assert spans.trees[-1] == CALLED_BACK
    assert len(steps) == 0


def test_both_together_are_as_one(upstream: Upstream, spans: Spans) -> None:
    """A query is told of once, by the one that knows more."""
    asked = watched(upstream, spans)
    before = len(spans.finished)
    assert asked.query("Where?").response == ANSWER
    (tree,) = [tree for tree in spans.trees if "RetrieverQueryEngine" in tree]
    assert normal(tree) == WANTED
    assert len(spans.finished) - before == len(tree.splitlines())


@pytest.mark.parametrize("method", ["complete", "stream_complete", "chat", "stream_chat"])
def test_a_callback_manager_tells_of_a_foreign_model(method: str) -> None:
    """When its stream is over."""
    spans = Spans()
    prompt: Any = "one two three" if "complete" in method else [ChatMessage(content="one two three")]
    manager = CallbackManager([AistraleCallbackHandler(spans.provider)])
    answer = getattr(MockLLM(max_tokens=3, callback_manager=manager), method)(prompt)
    if method.startswith("stream"):
        assert spans.finished == ()
        list(answer)
    assert spans.finished
    assert len(steps) == 0


@pytest.mark.parametrize("streaming", [False, True])
def test_a_callback_manager_tells_of_errors(upstream: Upstream, own_loop: None, streaming: bool) -> None:
    """And of streams that are left; nothing stays open."""
    spans = Spans()
    asked = watched(upstream, spans, streaming=streaming)
    if streaming:
        answer = asked.query("Where?")
        next(answer.response_gen)
        del answer
    else:
        upstream.default = lambda request: behave(request) if "embeddings" in request.path else failure(400)
        with pytest.raises(aistrale.InvalidRequestError):
            asked.query("Where?")
        failed = {span.name for span in spans.finished if not span.status.is_unset}
        assert failed == {"chat gpt-test", "chain synthesize"}
    gc.collect()
    assert len(steps) == 0
