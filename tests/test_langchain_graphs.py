"""LangGraph under AistraleCallbackHandler: what a graph does is one OpenTelemetry trace that looks like the graph."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from langsmith import Client
from model_behaviour import behave
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from upstream import Upstream, plain

import aistrale
from aistrale_langchain import AistraleCallbackHandler, AistraleLLM, ChatAistrale, instrument, uninstrument
from aistrale_langchain.runs import runs

QUESTION: dict[str, Any] = {"messages": [("user", "How is the weather?")]}


class Spans:
    """The spans that an application's own provider was given, and what makes them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("application")
        self.handler = AistraleCallbackHandler(self.provider)

    @property
    def finished(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.finished if span.name == name]

    @property
    def trees(self) -> list[str]:
        """Each trace as an indented text, by its start: a line for a span, with what became of it if that was not well.

        A trace has one root, and every span a parent that ended as well.
        """
        below: dict[int | None, list[ReadableSpan]] = {}
        for span in sorted(self.finished, key=lambda span: span.start_time or 0):
            below.setdefault(span.parent.span_id if span.parent else None, []).append(span)
        known = {span.context.span_id for span in self.finished}
        assert not {parent for parent in below if parent is not None} - known, "a span's parent never ended"

        def lines(span: ReadableSpan, depth: int) -> Iterator[str]:
            yield "  " * depth + told(span)
            for child in below.get(span.context.span_id, ()):
                assert child.context.trace_id == span.context.trace_id
                yield from lines(child, depth + 1)

        return ["\n".join(lines(root, 0)) for root in below.get(None, ())]

    @property
    def tree(self) -> str:
        """The only trace there is."""
        assert len(self.trees) == 1, "\n\n".join(["there is not one trace:", *self.trees])
        return self.trees[0]

    def forget(self) -> None:
        self._exporter.clear()


def told(span: ReadableSpan) -> str:
    attributes: Mapping[str, Any] = span.attributes or {}
    name = span.name + " (cancelled)" * bool(attributes.get("aistrale.cancelled"))
    return name if span.status.status_code is StatusCode.UNSET else f"{name} ({attributes['error.type']})"


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Whatever is done with them, no run is open in the end, and the caller's span is current as before."""
    made, before = Spans(), trace.get_current_span()
    yield made
    assert trace.get_current_span() is before
    assert len(runs) == 0
    made.provider.shutdown()


def model(upstream: Upstream, spans: Spans, **client_options: Any) -> ChatAistrale:
    return ChatAistrale(**options(upstream, spans, **client_options))


def options(upstream: Upstream, spans: Spans, **client_options: Any) -> dict[str, Any]:
    upstream.default = behave
    return {
        "model": "gpt-test",
        "provider": "openai",
        "api_key": "sk-test",
        "base_url": upstream.url,
        "max_retries": 0,
        "client_options": {"tracer_provider": spans.provider, **client_options},
    }


# A graph with whatever graphs have


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


def is_async(way: str) -> bool:
    return way.startswith("a")


def node(way: str, ask: Any) -> Any:
    """A node that asks a model, in sync code or in async code."""

    def act(state: MessagesState) -> dict[str, Any]:
        return {"messages": [ask.invoke(state["messages"])]}

    async def act_async(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await ask.ainvoke(state["messages"])]}

    return act_async if is_async(way) else act


def calls_or_ends(state: MessagesState) -> str:
    """Where to go from the model: a conditional edge."""
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else END


def graph(way: str, asked: ChatAistrale) -> Any:
    """A node of plain code, and a subgraph that goes from the model to its tools and back by a conditional edge."""
    agent = StateGraph(MessagesState)
    agent.add_node("model", node(way, asked.bind_tools([weather])))
    agent.add_node("tools", ToolNode([weather]))
    agent.add_edge(START, "model")
    agent.add_conditional_edges("model", calls_or_ends)
    agent.add_edge("tools", "model")
    whole = StateGraph(MessagesState)
    whole.add_node("prepare", lambda state: {"messages": []})
    whole.add_node("agent", agent.compile())
    whole.add_edge(START, "prepare")
    whole.add_edge("prepare", "agent")
    return whole.compile()


GRAPH = """\
invoke_workflow LangGraph
  chain prepare
  chain agent
    chain LangGraph
      chain model
        chat gpt-test
        chain calls_or_ends
      chain tools
        execute_tool weather
      chain model
        chat gpt-test
        chain calls_or_ends"""


every_way = pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream", "astream_events"])
sync_and_async = pytest.mark.parametrize("way", ["invoke", "ainvoke"])


def run(way: str, chain: Any, given: Any, config: Any) -> Any:
    """Run a graph, or any other runnable, one way or another; at no step is another span current than before.

    The result is the answer, unless it was streamed.
    """
    before = trace.get_current_span()
    if is_async(way):
        return asyncio.run(run_async(way, chain, given, config))
    if way == "invoke":
        return chain.invoke(given, config)
    for _ in chain.stream(given, config):
        assert trace.get_current_span() is before
    return None


async def run_async(way: str, chain: Any, given: Any, config: Any) -> Any:
    before, answer = trace.get_current_span(), None
    if way == "ainvoke":
        answer = await chain.ainvoke(given, config)
    elif way == "astream":
        async for _ in chain.astream(given, config):
            assert trace.get_current_span() is before
    else:
        async for _ in chain.astream_events(given, config, version="v2"):
            assert trace.get_current_span() is before
    assert trace.get_current_span() is before
    return answer


# The tree


@every_way
def test_a_graph_is_one_trace(upstream: Upstream, spans: Spans, way: str) -> None:
    """Nodes, the subgraph, conditional edges, tools and models, each below what ran it."""
    run(way, graph(way, model(upstream, spans)), QUESTION, {"callbacks": [spans.handler]})
    assert spans.tree == GRAPH


@every_way
def test_a_graph_lies_below_the_callers_span(upstream: Upstream, spans: Spans, way: str) -> None:
    """Which is current again, and still, whatever was run."""
    with spans.tracer.start_as_current_span("request") as outer:
        run(way, graph(way, model(upstream, spans)), QUESTION, {"callbacks": [spans.handler]})
        assert trace.get_current_span() is outer
    assert spans.tree == "\n".join(["request", *(f"  {line}" for line in GRAPH.splitlines())])


@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_a_batch_of_graphs_is_a_trace_each(upstream: Upstream, spans: Spans, way: str) -> None:
    """Though they run at the same time: each call is in the trace, and of the session, of its own input."""
    configs: Any = [{"callbacks": [spans.handler], "metadata": {"session_id": f"s-{number}"}} for number in range(5)]
    asked = graph(way, model(upstream, spans))
    if way == "batch":
        asked.batch([QUESTION] * 5, configs)
    else:
        asyncio.run(asked.abatch([QUESTION] * 5, configs))
    assert spans.trees == [GRAPH] * 5
    sessions = {(span.context.trace_id, (span.attributes or {}).get("session.id")) for span in spans.finished}
    assert len(sessions) == 5
    assert {session for _, session in sessions} == {f"s-{number}" for number in range(5)}


@pytest.mark.parametrize("way", ["batch", "abatch"])
@pytest.mark.parametrize("kind", [ChatAistrale, AistraleLLM])
def test_a_batch_of_chains_is_a_trace_each(upstream: Upstream, spans: Spans, kind: Any, way: str) -> None:
    """A text model's, too, which LangChain hands all of a batch at once."""
    chain = ChatPromptTemplate([("user", "Say {word}")]) | kind(**options(upstream, spans))
    words, config = [{"word": word} for word in "abc"], {"callbacks": [spans.handler]}
    _ = chain.batch(words, config) if way == "batch" else asyncio.run(chain.abatch(words, config))
    assert spans.trees == ["invoke_workflow RunnableSequence\n  chain ChatPromptTemplate\n  chat gpt-test"] * 3


def test_a_sync_node_may_ask_within_an_async_graph(upstream: Upstream, spans: Spans) -> None:
    """LangGraph runs it in a thread; its call is below it all the same."""
    asked = model(upstream, spans)
    built = StateGraph(MessagesState)
    built.add_node("model", lambda state: {"messages": [asked.invoke(state["messages"])]})
    built.add_edge(START, "model")
    run("ainvoke", built.compile(), QUESTION, {"callbacks": [spans.handler]})
    assert spans.tree == "invoke_workflow LangGraph\n  chain model\n    chat gpt-test"


@sync_and_async
def test_nodes_that_run_at_once_keep_their_own_calls(upstream: Upstream, spans: Spans, way: str) -> None:
    """Three branches, each with a call below it."""
    built = StateGraph(MessagesState)
    for name in ("one", "two", "three"):
        built.add_node(name, node(way, model(upstream, spans)))
        built.add_edge(START, name)
    run(way, built.compile(), QUESTION, {"callbacks": [spans.handler]})
    assert Counter(spans.tree.splitlines()) == {
        "invoke_workflow LangGraph": 1,
        "  chain one": 1,
        "  chain two": 1,
        "  chain three": 1,
        "    chat gpt-test": 3,
    }
    assert len({span.parent.span_id for span in spans.named("chat gpt-test") if span.parent}) == 3


@sync_and_async
def test_a_graph_is_traced_without_being_told_to(upstream: Upstream, spans: Spans, way: str) -> None:
    """`instrument()` does it for all, until `uninstrument()`."""
    asked = graph(way, model(upstream, spans))
    instrument(spans.handler)
    try:
        run(way, asked, QUESTION, {})
    finally:
        uninstrument()
    assert spans.tree == GRAPH
    spans.forget()
    run(way, asked, QUESTION, {})
    assert spans.trees == ["chat gpt-test"] * 2


def test_given_twice_it_tells_of_each_run_once(upstream: Upstream, spans: Spans) -> None:
    """Installed everywhere, and asked for besides."""
    instrument(spans.handler)
    try:
        graph("invoke", model(upstream, spans)).invoke(QUESTION, {"callbacks": [spans.handler]})
    finally:
        uninstrument()
    assert spans.tree == GRAPH


# Calls to models


@every_way
def test_each_call_is_counted_once(upstream: Upstream, spans: Spans, way: str) -> None:
    """There are as many inference spans as requests, and only they have tokens; each is what its request names."""
    run(way, graph(way, model(upstream, spans)), QUESTION, {"callbacks": [spans.handler]})
    calls = spans.named("chat gpt-test")
    sent = [request.headers["traceparent"].split("-") for request in upstream.requests]
    assert sorted((f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}") for call in calls) == sorted(
        (trace_id, span_id) for _, trace_id, span_id, _ in sent
    )
    with_tokens = [span for span in spans.finished if any("usage" in name for name in span.attributes or {})]
    assert with_tokens == calls
    assert {call.kind for call in calls} == {trace.SpanKind.CLIENT}


class Instrumented(httpx.HTTPTransport):
    """A transport as an instrumentation of httpx leaves it: with a span around each request, below the current one."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__(verify=False)
        self._tracer = tracer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._tracer.start_as_current_span("POST", kind=trace.SpanKind.CLIENT):
            return super().handle_request(request)


class AsyncInstrumented(httpx.AsyncHTTPTransport):
    """The same for async code."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__(verify=False)
        self._tracer = tracer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with self._tracer.start_as_current_span("POST", kind=trace.SpanKind.CLIENT):
            return await super().handle_async_request(request)


CHAIN_OVER_HTTP = """\
invoke_workflow RunnableSequence
  chain ChatPromptTemplate
  chat gpt-test
    POST"""


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_request_is_below_the_call_it_is_of(upstream: Upstream, spans: Spans, way: str) -> None:
    """Where HTTP is instrumented as well, its spans are in the same trace, below the model's."""
    with httpx.Client(transport=Instrumented(spans.tracer)) as own:
        chain = ChatPromptTemplate([("user", "Say {word}")]) | model(upstream, spans, http_client=own)
        run(way, chain, {"word": "cheese"}, {"callbacks": [spans.handler]})
    assert spans.tree == CHAIN_OVER_HTTP


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_async_request_is_below_the_call_it_is_of(upstream: Upstream, spans: Spans, streamed: bool) -> None:
    """In async code, too, and the span of the caller's task stays current throughout."""
    before = trace.get_current_span()
    async with httpx.AsyncClient(transport=AsyncInstrumented(spans.tracer)) as own:
        chain = ChatPromptTemplate([("user", "Say {word}")]) | model(upstream, spans, http_client=own)
        if streamed:
            async for _ in chain.astream({"word": "cheese"}, {"callbacks": [spans.handler]}):
                assert trace.get_current_span() is before
        else:
            await chain.ainvoke({"word": "cheese"}, {"callbacks": [spans.handler]})
    assert trace.get_current_span() is before
    assert spans.tree == CHAIN_OVER_HTTP


# Leaving a node is no error, failing is


def assert_nothing_failed(spans: Spans) -> None:
    assert spans.finished
    assert {span.status.status_code for span in spans.finished} == {StatusCode.UNSET}
    assert not [span for span in spans.finished if "error.type" in (span.attributes or {})]


@contextmanager
def thread(spans: Spans) -> Iterator[dict[str, Any]]:
    """The configuration of a conversation that can be taken up again; nothing in it fails."""
    yield {"callbacks": [spans.handler], "configurable": {"thread_id": "t-1"}}
    assert_nothing_failed(spans)


def asks_a_human(state: MessagesState) -> dict[str, Any]:
    return {"messages": [("user", interrupt("Shall I?"))]}


@sync_and_async
def test_an_interrupt_is_no_error(upstream: Upstream, spans: Spans, way: str) -> None:
    """Neither where it stops nor where it goes on; all of each run is in its trace."""
    built = StateGraph(MessagesState)
    built.add_node("human", asks_a_human)
    built.add_node("model", node(way, model(upstream, spans)))
    built.add_edge(START, "human")
    built.add_edge("human", "model")
    asked = built.compile(InMemorySaver())
    with thread(spans) as config:
        stopped = run(way, asked, QUESTION, config)
        assert stopped["__interrupt__"][0].value == "Shall I?"
        assert spans.tree == "invoke_workflow LangGraph\n  chain human"
        spans.forget()
        answer = run(way, asked, Command(resume="Do."), config)
        assert [message.text for message in answer["messages"]][1:] == ["Do.", "Hello there, how can I help you today?"]
        assert spans.tree == "invoke_workflow LangGraph\n  chain human\n  chain model\n    chat gpt-test"


@sync_and_async
def test_an_interrupt_deep_inside_is_no_error(upstream: Upstream, spans: Spans, way: str) -> None:
    """In a tool of a subgraph: it passes through five spans."""

    @tool
    def permission(city: str) -> str:
        """Ask whether to go there."""
        return str(interrupt(f"Go to {city}?"))

    agent = StateGraph(MessagesState)
    agent.add_node("model", node(way, model(upstream, spans).bind_tools([permission])))
    agent.add_node("tools", ToolNode([permission]))
    agent.add_edge(START, "model")
    agent.add_edge("model", "tools")
    whole = StateGraph(MessagesState)
    whole.add_node("agent", agent.compile())
    whole.add_edge(START, "agent")
    asked = whole.compile(InMemorySaver())
    deep = "invoke_workflow LangGraph\n  chain agent\n    chain LangGraph"
    with thread(spans) as config:
        run(way, asked, QUESTION, config)
        called = "      chain model\n        chat gpt-test\n      chain tools\n        execute_tool permission"
        assert spans.tree == f"{deep}\n{called}"
        spans.forget()
        answer = run(way, asked, Command(resume="Go."), config)
        assert answer["messages"][-1].content == "Go."
        assert spans.tree == f"{deep}\n      chain tools\n        execute_tool permission"


@every_way
def test_a_command_to_the_graph_above_is_no_error(upstream: Upstream, spans: Spans, way: str) -> None:
    """It leaves the subgraph as an exception does, and is none."""

    def leave(state: MessagesState) -> Command[str]:
        return Command(goto="model", graph=Command.PARENT)

    inner = StateGraph(MessagesState)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    whole = StateGraph(MessagesState)
    whole.add_node("inner", inner.compile())
    whole.add_node("model", node(way, model(upstream, spans)))
    whole.add_edge(START, "inner")
    run(way, whole.compile(), QUESTION, {"callbacks": [spans.handler]})
    assert_nothing_failed(spans)
    assert spans.tree == (
        "invoke_workflow LangGraph\n  chain inner\n    chain LangGraph\n      chain leave\n"
        "  chain model\n    chat gpt-test"
    )


@every_way
def test_a_failure_is_an_error_all_the_way_up(upstream: Upstream, spans: Spans, way: str) -> None:
    """And only there: what had gone well before stays well."""
    asked = graph(way, model(upstream, spans))
    upstream.will(behave, plain({"error": {"message": "Slow down"}}, 429))
    with pytest.raises(aistrale.RateLimitError):
        run(way, asked, QUESTION, {"callbacks": [spans.handler]})
    failed = "(RateLimitError)"
    assert (
        spans.tree
        == f"""\
invoke_workflow LangGraph {failed}
  chain prepare
  chain agent {failed}
    chain LangGraph {failed}
      chain model
        chat gpt-test
        chain calls_or_ends
      chain tools
        execute_tool weather
      chain model {failed}
        chat gpt-test {failed}"""
    )


# Among others


def posting_to(upstream: Upstream) -> LangChainTracer:
    """LangChain's own tracer; it sends its runs to a server of the test's, each as it begins and ends."""
    upstream.default = plain({})
    return LangChainTracer(client=Client(api_url=upstream.url, api_key="ls-test", auto_batch_tracing=False))


def posted(upstream: Upstream) -> str:
    """The runs that LangChain's tracer has sent, as a tree; all of them have ended, none in an error."""
    told = [request.body for request in upstream.requests]
    begun = {run["id"]: run for run in told if not run.get("end_time")}
    ended = {run["id"]: run for run in told if run.get("end_time")}
    assert begun.keys() == ended.keys()
    assert not [run["error"] for run in ended.values() if run.get("error")]

    def lines(parent: str | None, depth: int) -> Iterator[str]:
        for run in begun.values():
            if run.get("parent_run_id") == parent:
                yield "  " * depth + run["name"]
                yield from lines(run["id"], depth + 1)

    return "\n".join(lines(None, 0))


LANGCHAINS = (
    GRAPH.replace("invoke_workflow ", "")
    .replace("chain ", "")
    .replace("execute_tool ", "")
    .replace("chat gpt-test", "ChatAistrale")
)


@every_way
@pytest.mark.parametrize("first", ["ours", "LangChain's"])
def test_langchains_own_tracer_is_told_the_same(
    upstream: Upstream, other_upstream: Upstream, spans: Spans, way: str, first: str
) -> None:
    """Whoever comes first: both draw the same tree, and neither disturbs the other."""
    handlers: list[Any] = [spans.handler, posting_to(other_upstream)]
    run(
        way,
        graph(way, model(upstream, spans)),
        QUESTION,
        {"callbacks": handlers if first == "ours" else handlers[::-1]},
    )
    assert spans.tree == GRAPH
    assert posted(other_upstream) == LANGCHAINS


class Listener(AsyncCallbackHandler):
    """Somebody else's handler, which is async and not run inline: what it has heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, UUID]] = []

    async def on_chain_start(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("chain start", run_id))

    async def on_chain_end(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("chain end", run_id))

    async def on_chat_model_start(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("model start", run_id))

    async def on_llm_start(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("model start", run_id))

    async def on_llm_end(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("model end", run_id))

    async def on_tool_start(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("tool start", run_id))

    async def on_tool_end(self, *args: Any, run_id: UUID, **more: Any) -> None:
        self.heard.append(("tool end", run_id))

    @property
    def counts(self) -> Counter[str]:
        return Counter(event for event, _ in self.heard)


@every_way
def test_a_foreign_async_handler_hears_all_it_would_hear_alone(upstream: Upstream, spans: Spans, way: str) -> None:
    """Each run begins and ends once for it, whether ours is there or not."""
    asked, alone, beside = graph(way, model(upstream, spans)), Listener(), Listener()
    run(way, asked, QUESTION, {"callbacks": [alone]})
    spans.forget()
    run(way, asked, QUESTION, {"callbacks": [spans.handler, beside]})
    assert beside.counts == alone.counts
    assert beside.counts["model start"] == beside.counts["model end"] == 2
    begun, ended = ({run_id for event, run_id in beside.heard if event.endswith(end)} for end in ("start", "end"))
    assert begun == ended
    assert spans.tree == GRAPH


@every_way
def test_a_foreign_async_handler_hears_of_a_text_model(upstream: Upstream, spans: Spans, way: str) -> None:
    """Of its start, too (langchain issue 39633)."""
    listener = Listener()
    run(way, AistraleLLM(**options(upstream, spans)), "Hello", {"callbacks": [spans.handler, listener]})
    assert listener.counts == {"model start": 1, "model end": 1}
    assert spans.tree == "chat gpt-test"


async def test_the_events_of_a_text_model_are_the_same_beside_ours(upstream: Upstream, spans: Spans) -> None:
    """LangChain's `astream_events` listens by such a handler: it says what it would say without ours."""
    asked = ChatPromptTemplate([("user", "Say {word}")]) | AistraleLLM(**options(upstream, spans))

    async def told(callbacks: list[Any]) -> list[tuple[Any, ...]]:
        config: Any = {"callbacks": callbacks, "tags": ["a"], "metadata": {"user_id": "ada"}}
        found = [event async for event in asked.astream_events({"word": "cheese"}, config, version="v2")]
        return [(event["event"], event["name"], event["tags"], event["metadata"]) for event in found]

    alone, beside = await told([]), await told([spans.handler])
    assert beside == alone
    assert {"on_llm_start", "on_llm_stream", "on_llm_end"} < {event for event, *_ in alone}


# Models of other packages


@every_way
def test_a_foreign_model_has_a_span_of_its_own(upstream: Upstream, spans: Spans, way: str) -> None:
    """Beside ours, in the node that asks it."""
    built = StateGraph(MessagesState)
    built.add_node("foreign", node(way, FakeListChatModel(responses=["Sunny"])))
    built.add_node("ours", node(way, model(upstream, spans)))
    built.add_edge(START, "foreign")
    built.add_edge("foreign", "ours")
    run(way, built.compile(), QUESTION, {"callbacks": [spans.handler]})
    assert spans.tree == "invoke_workflow LangGraph\n  chain foreign\n    chat\n  chain ours\n    chat gpt-test"


class Reporting(GenericFakeChatModel):
    """A model that says what it is and what it took, as those of LangChain's partners do."""

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "acme", "ls_model_type": "chat", "ls_model_name": "acme-1", "ls_temperature": 0.5}


@sync_and_async
def test_a_foreign_model_tells_what_it_took(spans: Spans, way: str) -> None:
    """Its provider, model, temperature, tokens and how it ended, by the names of the conventions."""
    said = AIMessage(
        "Sunny",
        response_metadata={"model_name": "acme-1-2026", "finish_reason": "stop"},
        usage_metadata={
            "input_tokens": 7,
            "output_tokens": 5,
            "total_tokens": 12,
            "input_token_details": {"cache_read": 4},
            "output_token_details": {"reasoning": 2},
        },
    )
    run(way, Reporting(messages=iter([said])), "Hello", {"callbacks": [spans.handler], "metadata": {"user_id": "ada"}})
    (span,) = spans.finished
    assert (span.name, span.kind) == ("chat acme-1", trace.SpanKind.CLIENT)
    assert dict(span.attributes or {}) == {
        "aistrale.surface": "langchain",
        "user.id": "ada",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "acme-1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "acme-1-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }
