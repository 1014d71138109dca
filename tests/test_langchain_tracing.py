"""AistraleCallbackHandler: one trace of whatever runs, and nothing left of what was cancelled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from keeping import ON, charging
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnableSequence
from langchain_core.tools import StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from model_behaviour import behave
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import printed
from upstream import HANG, Upstream

import aistrale
from aistrale import AsyncClient, Client, budgets, telemetry
from aistrale_langchain import AistraleCallbackHandler, AistraleEmbeddings, ChatAistrale, instrument, uninstrument
from aistrale_langchain.runs import MOST_RUNS, Run, Runs, runs

PROMPT = ChatPromptTemplate([("user", "Say {word}")])


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ON.items():
        monkeypatch.setenv(name, value)
    yield
    assert len(runs) == 0


def model(upstream: Upstream, **more: Any) -> ChatAistrale:
    return ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=upstream.url, max_retries=0, **more)


def tree() -> list[tuple[int, str, str]]:
    """The spans of the only trace: depth, name and status."""
    spans = telemetry.query()
    (trace_id,) = {span.trace_id for span in spans}
    return [(depth, span.name, span.status) for root in telemetry.trace(trace_id) for depth, span in root.walk()]


@pytest.mark.usefixtures("keeping")
def test_what_each_surface_used_is_a_summary(upstream: Upstream) -> None:
    """The SDK's own calls and those of LangChain, whole and streamed, with what they cost."""
    upstream.will(*(charging(cost) for cost in (0.25, 0.125, 0.125, 0.25, 0.125)))
    client = Client(model="gpt-test", provider="openai", api_key="sk", base_url=upstream.url)
    chain = PROMPT | model(upstream)
    client.run("Hello")
    chain.invoke({"word": "cheese"})
    client.run("Hello")
    "".join(str(piece.content) for piece in chain.stream({"word": "cheese"}))
    asyncio.run(chain.ainvoke({"word": "cheese"}))

    found = telemetry.summary(by="surface")
    assert {(group.key, group.calls, group.usage.total_tokens, group.cost) for group in found} == {
        ("sdk", 2, 10, Decimal("0.375")),
        ("langchain", 3, 15, Decimal("0.5")),
    }
    assert [group.key for group in telemetry.summary(by="surface", surface="langchain")] == ["langchain"]


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_a_chain_is_one_trace(upstream: Upstream, way: str) -> None:
    """With the model's own span below it, once; the caller's current span stays what it was."""
    chain = PROMPT | model(upstream) | StrOutputParser()
    config: Any = {"callbacks": [AistraleCallbackHandler()]}
    before = trace.get_current_span()

    async def streamed() -> str:
        return "".join([piece async for piece in chain.astream({"word": "cheese"}, config)])

    ask: Any = {
        "invoke": lambda: chain.invoke({"word": "cheese"}, config),
        "stream": lambda: "".join(chain.stream({"word": "cheese"}, config)),
        "ainvoke": lambda: asyncio.run(chain.ainvoke({"word": "cheese"}, config)),
        "astream": lambda: asyncio.run(streamed()),
    }[way]
    assert ask() == "Say cheese"
    found = tree()
    assert found[0] == (0, "invoke_workflow RunnableSequence", "ok")
    assert found.count((1, "chat gpt-test", "ok")) == 1
    assert [depth for depth, name, _ in found if name.startswith("chat")] == [1]
    assert trace.get_current_span() is before


def test_tools_and_foreign_models_are_traced(upstream: Upstream) -> None:
    """And what fails says so."""

    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        raise ValueError(city)

    foreign = FakeListChatModel(responses=["sunny"])

    def act(_: object) -> str:
        foreign.invoke("Hello")
        return str(weather.invoke({"city": "Paris"}))

    with pytest.raises(ValueError, match="Paris"):
        RunnableLambda(act).invoke("go", {"callbacks": [AistraleCallbackHandler()]})
    assert [entry[0] for entry in tree()] == [0, 1, 1]
    assert [(name.split()[0], status) for _, name, status in tree()] == [
        ("invoke_workflow", "error"),
        ("chat", "ok"),
        ("execute_tool", "error"),
    ]


def test_what_is_cancelled_leaves_nothing_behind(upstream: Upstream) -> None:
    """Neither a run nor an error."""
    chain = PROMPT | model(upstream)

    async def give_up() -> None:
        for _ in range(20):
            upstream.will([HANG])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(chain.ainvoke({"word": "x"}, {"callbacks": [AistraleCallbackHandler()]}), 0.05)

    asyncio.run(give_up())
    assert {span.status for span in telemetry.query()} == {"ok"}


def test_it_can_be_installed_everywhere(upstream: Upstream) -> None:
    """And taken away again."""
    chain = PROMPT | model(upstream)
    instrument()
    try:
        chain.invoke({"word": "one"})
    finally:
        uninstrument()
    chain.invoke({"word": "two"})
    names = sorted(span.name for span in telemetry.query())
    assert names == [
        *("chain ChatPromptTemplate", "chat gpt-test", "chat gpt-test", "invoke_workflow RunnableSequence"),
    ]


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream", "in a graph"])
@pytest.mark.parametrize("traced", [True, False])
def test_a_call_says_whose_it_is(upstream: Upstream, way: str, traced: bool) -> None:
    """Session, user and tags, as the configuration of the run has them; LangChain's own tags are no one's."""
    config: Any = {"metadata": {"session_id": "s-1", "user_id": "ada"}, "tags": ["nightly"]}
    if traced:
        config["callbacks"] = [AistraleCallbackHandler()]
    asked, chain = model(upstream), PROMPT | model(upstream)

    async def streamed() -> None:
        async for _ in asked.astream("Say cheese", config):
            pass

    ask: Any = {
        "invoke": lambda: chain.invoke({"word": "cheese"}, config),
        "stream": lambda: list(asked.stream("Say cheese", config)),
        "ainvoke": lambda: asyncio.run(chain.ainvoke({"word": "cheese"}, config)),
        "astream": lambda: asyncio.run(streamed()),
        "in a graph": lambda: list(graph_of(asked).stream({"messages": ["Say"]}, config, stream_mode="messages")),
    }[way]
    ask()
    (span,) = (span for span in telemetry.query() if span.name == "chat gpt-test")
    assert (span.session_id, span.user_id, span.tags) == ("s-1", "ada", ("nightly",))


def graph_of(asked: ChatAistrale) -> Any:
    """A graph of one node."""
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda state: {"messages": [asked.invoke(state["messages"])]})
    graph.add_edge(START, "ask")
    return graph.compile()


# Calls that LangChain knows nothing of


class Calls(NamedTuple):
    """One call for sync code and for async code; it does not say what it is part of."""

    ask: Callable[[], object]
    ask_async: Callable[[], Awaitable[object]]


def calls(upstream: Upstream, **client_options: Any) -> dict[str, Calls]:
    """What people call in their chains, whatever the surface."""
    upstream.default = behave
    options: Any = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url}
    client = Client(**options, **client_options)
    both = AsyncClient.sharing(client)
    vectors = AistraleEmbeddings(**options, client_options=client_options)
    return {
        "aistrale": Calls(lambda: aistrale.run("Hi", **options), lambda: aistrale.run_async("Hi", **options)),
        "a client": Calls(lambda: client.run("Hi"), lambda: both.run("Hi")),
        "a stream": Calls(lambda: client.stream("Hi").until_done(), lambda: both.stream("Hi").until_done()),
        "embeddings": Calls(lambda: vectors.embed_query("Hi"), lambda: vectors.aembed_documents(["Hi", "there"])),
    }


every_call = pytest.mark.parametrize("call", ["aistrale", "a client", "a stream", "embeddings"])


class Searching(BaseRetriever):
    """A retriever that makes a call of its own, after it has asked another, if there is one."""

    call: Calls
    inner: BaseRetriever | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if self.inner is not None:
            self.inner.invoke(query, {"callbacks": run_manager.get_child()})
        self.call.ask()
        return []


class AsyncSearching(Searching):
    """The same, written for async code, too."""

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if self.inner is not None:
            await self.inner.ainvoke(query, {"callbacks": run_manager.get_child()})
        await self.call.ask_async()
        return []


def place(where: str, call: Calls) -> Any:
    """A runnable with a call somewhere inside it."""

    def act(state: Any) -> dict[str, Any]:
        call.ask()
        return {"messages": []}

    async def act_async(state: Any) -> dict[str, Any]:
        await call.ask_async()
        return {"messages": []}

    def generate(states: Iterator[Any]) -> Iterator[Any]:
        for state in states:
            yield act(state)

    async def generate_async(states: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for state in states:
            yield await act_async(state)

    graph = StateGraph(MessagesState)
    graph.add_node("step", RunnableLambda(act, act_async, name="step"))
    graph.add_edge(START, "step")
    whatever = RunnableLambda(lambda state: {"state": "Hi"})
    places: dict[str, Any] = {
        "a function": whatever | RunnableLambda(act, act_async, name="step"),
        "a function without async code": whatever | RunnableLambda(act, name="step"),
        "a generator": whatever | RunnableGenerator(generate, generate_async, name="step"),
        "a node": graph.compile(),
        "a tool": whatever | StructuredTool.from_function(act, act_async, "step", "Take it."),
        "a retriever": whatever | (lambda state: "Hi") | AsyncSearching(call=call, name="step"),
        "a retriever without async code": whatever | (lambda state: "Hi") | Searching(call=call, name="step"),
    }
    return places[where]


every_place = pytest.mark.parametrize(
    "where",
    [
        *("a function", "a function without async code", "a generator", "a node", "a tool"),
        *("a retriever", "a retriever without async code"),
    ],
)
sync_and_async = pytest.mark.parametrize("way", ["invoke", "ainvoke"])


def go(way: str, chain: Any, config: Any, given: Any = None) -> None:
    given = given or {"messages": [("user", "Hello")]}
    _ = asyncio.run(chain.ainvoke(given, config)) if way == "ainvoke" else chain.invoke(given, config)


def parents() -> list[tuple[str, str | None]]:
    """The calls to models that are in the books, by their start, and what each lies below."""
    spans = sorted(telemetry.query(), key=lambda span: span.start)
    names = {span.span_id: span.name for span in spans}
    return [(span.operation, names.get(span.parent_id or "")) for span in spans if span.is_inference]


@every_place
@every_call
@sync_and_async
def test_a_call_lies_in_the_run_it_is_made_in(upstream: Upstream, way: str, where: str, call: str) -> None:
    """Through whatever surface: in one trace, and with the run's session and user."""
    config: Any = {"callbacks": [AistraleCallbackHandler()], "metadata": {"session_id": "s-1", "user_id": "ada"}}
    go(way, place(where, calls(upstream)[call]), config)
    ((_, above),) = parents()
    assert above is not None
    assert above.endswith("step")
    assert len({span.trace_id for span in telemetry.query()}) == 1
    assert {(span.session_id, span.user_id) for span in telemetry.query()} == {("s-1", "ada")}


@every_place
@sync_and_async
def test_no_context_is_attached_for_that(upstream: Upstream, way: str, where: str) -> None:
    """The span that is current stays the caller's; a call is below the run all the same."""
    seen: list[trace.Span] = []
    inner = calls(upstream)["a client"]

    async def look_async() -> None:
        seen.append(trace.get_current_span())
        await inner.ask_async()

    def look() -> None:
        seen.append(trace.get_current_span())
        inner.ask()

    outer = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(outer):
        go(way, place(where, Calls(look, look_async)), {"callbacks": [AistraleCallbackHandler()]})
    assert seen == [outer]
    ((_, above),) = parents()
    assert (above or "").endswith("step")
    assert {span.trace_id for span in telemetry.query()} == {f"{1:032x}"}


@every_place
@sync_and_async
def test_a_span_of_the_applications_own_is_nearer(upstream: Upstream, way: str, where: str) -> None:
    """One that it has made current within the run; session and user are the run's nevertheless."""
    exporter, provider = recorded()
    inner = calls(upstream, tracer_provider=provider)["a client"]
    tracer = provider.get_tracer("application")

    def within() -> None:
        with tracer.start_as_current_span("own"):
            inner.ask()

    async def within_async() -> None:
        with tracer.start_as_current_span("own"):
            await inner.ask_async()

    config: Any = {"callbacks": [AistraleCallbackHandler(provider)], "metadata": {"session_id": "s-1"}}
    with tracer.start_as_current_span("request"):
        go(way, place(where, Calls(within, within_async)), config)
    made = {span.name: span for span in exporter.get_finished_spans()}
    call, own, request = made["chat gpt-test"], made["own"], made["request"]
    assert (call.parent, own.parent) == (own.context, request.context)
    assert (call.attributes or {})["session.id"] == "s-1"


@every_place
@sync_and_async
def test_so_does_a_tool_that_the_application_tells_of(upstream: Upstream, way: str, where: str) -> None:
    """`telemetry.tool` lies in the run, and the call in the tool."""
    inner = calls(upstream)["a client"]

    def within() -> None:
        with telemetry.tool("own"):
            inner.ask()

    async def within_async() -> None:
        with telemetry.tool("own"):
            await inner.ask_async()

    go(way, place(where, Calls(within, within_async)), {"callbacks": [AistraleCallbackHandler()]})
    *_, step, own, call = tree()
    assert step[1].endswith("step")
    assert [own, call] == [(step[0] + 1, "execute_tool own", "ok"), (step[0] + 2, "chat gpt-test", "ok")]


@sync_and_async
def test_a_retriever_is_the_place_again_after_another(upstream: Upstream, way: str) -> None:
    """Of the one that it asked first; and what is called after both lies in neither."""
    ask = calls(upstream)["embeddings"]
    both = AsyncSearching(call=ask, inner=AsyncSearching(call=ask, name="inner"), name="outer")

    async def act_async(given: object) -> None:
        await both.ainvoke("Hi")
        await ask.ask_async()

    def act(given: object) -> None:
        both.invoke("Hi")
        ask.ask()

    go(way, RunnableLambda(act, act_async, name="act"), {"callbacks": [AistraleCallbackHandler()]})
    assert [above for _, above in parents()] == ["retrieval inner", "retrieval outer", "invoke_workflow act"]


@sync_and_async
def test_a_chain_in_a_retriever_is_the_place(upstream: Upstream, way: str) -> None:
    """For what is called in it, also if nobody told it that it is part of a retriever's run."""
    ask = calls(upstream)["a client"]
    inner = RunnableLambda(lambda _: ask.ask(), lambda _: ask.ask_async(), name="inner")
    within = Calls(lambda: inner.invoke("Hi"), lambda: inner.ainvoke("Hi"))
    instrument()
    try:
        go(way, AsyncSearching(call=within, name="outer"), {}, "Hi")
    finally:
        uninstrument()
    assert parents() == [("chat", "invoke_workflow inner")]


def test_a_call_beside_a_run_is_its_own_trace(upstream: Upstream) -> None:
    """As one is that is made between the pieces of a chain's stream, or after it."""
    ask, config = calls(upstream)["a client"], {"callbacks": [AistraleCallbackHandler()]}
    for _ in (RunnableLambda(lambda given: given) | (lambda given: given)).stream("Hi", config):  # type: ignore[arg-type]
        ask.ask()
    ask.ask()
    assert parents() == [("chat", None)] * 2


@every_call
def test_a_call_says_whose_it_is_without_a_tracer(upstream: Upstream, call: str) -> None:
    """As models do; what it says itself goes before."""
    aistrale.configure(provider="echo")
    config: Any = {"metadata": {"session_id": "s-1", "user_id": "ada"}}
    AistraleEmbeddings(model="echo/echo").embed_query("From here on, LangChain is heeded")
    RunnableLambda(lambda _: calls(upstream)[call].ask()).invoke("Hi", config)
    with aistrale.session("s-2") as session:
        RunnableLambda(lambda _: session.run("Hi")).invoke("Hi", config)
    found = [(span.session_id, span.user_id) for span in sorted(telemetry.query(), key=lambda span: span.start)]
    assert found == [(None, None), ("s-1", "ada"), ("s-2", "ada")]


def test_a_budget_of_a_session_counts_such_calls(upstream: Upstream) -> None:
    """And refuses them once it is used up."""
    budgets.set("s-1", 0.01, session="s-1", hard=True)
    upstream.will(charging(0.02))
    client = Client(model="gpt-test", provider="openrouter", api_key="sk", base_url=upstream.url)
    chain: Any = RunnableLambda(lambda _: client.run("Hello"))
    config: Any = {"callbacks": [AistraleCallbackHandler()], "metadata": {"session_id": "s-1"}}
    chain.invoke("Hi", config)
    with pytest.raises(aistrale.BudgetExceededError):
        chain.invoke("Hi", config)


def test_calls_without_langchain_ask_nobody(tmp_path: Path) -> None:
    """The core has one look at an empty list, and loads nothing."""
    program = """
        import sys
        import aistrale
        from aistrale.tracing.tracer import enclosures
        aistrale.run("Hello", provider="echo")
        print(enclosures, "langchain_core" in sys.modules)
        import aistrale_langchain.callbacks
        print(enclosures)
    """
    assert printed(program, cwd=tmp_path) == "[] False\n[]\n"


# Handlers of ours beside each other


def recorded() -> tuple[InMemorySpanExporter, TracerProvider]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


def drawn(spans: Iterable[ReadableSpan]) -> list[str]:
    """The traces of an application's provider, a line for a span; each has a root, and all of its spans a parent."""
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        below.setdefault(span.parent.span_id if span.parent else None, []).append(span)

    def lines(parent: int | None, depth: int) -> Iterator[str]:
        for span in below.pop(parent, []):
            cancelled = " (cancelled)" * bool((span.attributes or {}).get("aistrale.cancelled"))
            yield "  " * depth + span.name + cancelled
            yield from lines(span.context.span_id, depth + 1)

    found = list(lines(None, 0))
    assert not below, "a span's parent is not there"
    return found


def nested(upstream: Upstream, **client_options: Any) -> Any:
    """A chain in a chain, with a call of each kind."""
    vectors = calls(upstream, **client_options)["embeddings"]
    inner = RunnableLambda(lambda _: vectors.ask(), lambda _: vectors.ask_async(), name="inner")
    return PROMPT | model(upstream, client_options=client_options) | StrOutputParser() | inner


NESTED = [
    "invoke_workflow RunnableSequence",
    *("  chain ChatPromptTemplate", "  chat gpt-test", "  chain StrOutputParser", "  chain inner"),
    "    embeddings gpt-test",
]
WITHOUT_CALLS = [line for line in NESTED if "gpt-test" not in line]
WORD = {"word": "cheese"}


def in_books() -> list[str]:
    return ["  " * depth + name for depth, name, _ in tree()]


@sync_and_async
@pytest.mark.parametrize("how", ["both passed", "one installed", "one of the step's own"])
def test_handlers_that_send_to_the_same_place_make_one_span(upstream: Upstream, way: str, how: str) -> None:
    """Of each run, however many of them hear of it."""
    first, second = AistraleCallbackHandler(), AistraleCallbackHandler()
    chain = nested(upstream)
    match how:
        case "both passed":
            go(way, chain, {"callbacks": [first, second]}, WORD)
        case "one installed":
            instrument(first)
            try:
                go(way, chain, {"callbacks": [second]}, WORD)
            finally:
                uninstrument()
        case _:
            *before, step = chain.steps
            go(way, RunnableSequence(*before, step.with_config(callbacks=[first])), {"callbacks": [second]}, WORD)
    assert in_books() == NESTED


class Counting(SpanProcessor):
    """How many spans were started."""

    started = 0

    def on_start(self, span: object, parent_context: object = None) -> None:
        self.started += 1


@sync_and_async
def test_handlers_of_the_same_provider_start_a_span_once(upstream: Upstream, way: str) -> None:
    """And it ends."""
    (exporter, provider), counting = recorded(), Counting()
    provider.add_span_processor(counting)
    handlers = [AistraleCallbackHandler(provider), AistraleCallbackHandler(provider)]
    go(way, nested(upstream, tracer_provider=provider), {"callbacks": handlers}, WORD)
    assert drawn(exporter.get_finished_spans()) == NESTED
    assert counting.started == len(NESTED)


@sync_and_async
@pytest.mark.parametrize("own", [0, 1])
def test_handlers_of_different_providers_each_have_their_spans(upstream: Upstream, way: str, own: int) -> None:
    """Whoever is first; calls lie in the traces of the provider that they go to, and the books have everything once."""
    found = [recorded(), recorded()]
    handlers = [AistraleCallbackHandler(provider) for _, provider in found]
    go(way, nested(upstream, tracer_provider=found[own][1]), {"callbacks": handlers}, WORD)
    assert drawn(found[own][0].get_finished_spans()) == NESTED
    assert drawn(found[1 - own][0].get_finished_spans()) == WITHOUT_CALLS
    spans = telemetry.query()
    assert len(spans) == len(NESTED)
    assert len({span.span_id for span in spans}) == len(NESTED)


@sync_and_async
@pytest.mark.parametrize("order", ["first", "last", "alone"])
def test_the_books_and_calls_agree_beside_another_provider(upstream: Upstream, way: str, order: str) -> None:
    """Where calls go to the books alone, these have one whole trace."""
    exporter, provider = recorded()
    usual, other = AistraleCallbackHandler(), AistraleCallbackHandler(provider)
    handlers = {"first": [other, usual], "last": [usual, other], "alone": [other]}[order]
    go(way, nested(upstream), {"callbacks": handlers}, WORD)
    assert in_books() == NESTED
    assert drawn(exporter.get_finished_spans()) == WITHOUT_CALLS


@sync_and_async
def test_a_handler_of_a_step_begins_a_trace_of_its_own(upstream: Upstream, way: str) -> None:
    """Where nobody has told its provider of what the step is part of."""
    outer, inner = recorded(), recorded()
    *before, step = nested(upstream).steps
    local = step.with_config(callbacks=[AistraleCallbackHandler(inner[1])])
    go(way, RunnableSequence(*before, local), {"callbacks": [AistraleCallbackHandler(outer[1])]}, WORD)
    assert drawn(outer[0].get_finished_spans()) == WITHOUT_CALLS
    assert drawn(inner[0].get_finished_spans()) == ["chain inner"]


def test_the_end_of_a_run_is_its_only_one() -> None:
    """However often it is told, by whichever handler; what was open below it was cancelled."""
    found = [recorded(), recorded()]
    handlers = [AistraleCallbackHandler(provider) for _, provider in found]
    root, child = uuid4(), uuid4()
    for handler in handlers:
        handler.on_chain_start(None, {}, run_id=root, name="root")
    for handler in handlers:
        handler.on_chain_start(None, {}, run_id=child, parent_run_id=root, name="child")
    for handler in handlers[::-1] * 2:
        handler.on_chain_end({}, run_id=root)
        handler.on_chain_error(ValueError(), run_id=child)
    for exporter, _ in found:
        assert drawn(exporter.get_finished_spans()) == ["invoke_workflow root", "  chain child (cancelled)"]


def test_runs_are_forgotten_for_all_handlers_at_once() -> None:
    """Those that nobody ends are as many as they are for one."""
    found = [recorded(), recorded()]
    handlers = [AistraleCallbackHandler(provider) for _, provider in found]
    begun = [uuid4() for _ in range(MOST_RUNS + 1)]
    for run_id in begun:
        for handler in handlers:
            handler.on_tool_start(None, "", run_id=run_id, name="look")
    assert len(runs) == MOST_RUNS
    for exporter, _ in found:
        assert drawn(exporter.get_finished_spans()) == ["execute_tool look (cancelled)"]
    for run_id in begun:
        handlers[0].on_tool_end("", run_id=run_id)
    assert [len(exporter.get_finished_spans()) for exporter, _ in found] == [len(begun)] * 2


def test_the_applications_provider_is_the_one_that_calls_go_to(tmp_path: Path) -> None:
    """Though another handler comes first: its traces are whole, and so are the books."""
    program = """
        from langchain_core.runnables import RunnableLambda
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        import aistrale
        from aistrale import telemetry
        from aistrale_langchain import AistraleCallbackHandler, instrument

        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        instrument()
        other = AistraleCallbackHandler(TracerProvider())
        chain = RunnableLambda(lambda _: aistrale.run("Hello", provider="echo").text, name="chain")
        chain.invoke("Hello", {"callbacks": [other]})
        call, run = exporter.get_finished_spans()
        print(call.name, call.parent == run.context, run.name, run.parent)
        (root,) = telemetry.trace(f"{run.context.trace_id:032x}")
        print([(depth, span.name) for depth, span in root.walk()], len(telemetry.query()))
    """
    said, kept = printed(program, cwd=tmp_path, env=ON).splitlines()
    assert said == "chat echo True invoke_workflow chain None"
    assert kept == "[(0, 'invoke_workflow chain'), (1, 'chat echo')] 2"


def test_a_run_at_work_is_not_forgotten() -> None:
    """Where too many are open, it is those in which nothing has begun for longest that nobody will end."""
    found, root, child = Runs(), uuid4(), uuid4()
    found.begin(root, Run(None))
    for _ in range(MOST_RUNS - 1):
        assert found.begin(uuid4(), Run(None)) == []
    assert len(found.begin(child, Run(root))) == 1
    found.begin(uuid4(), Run(None))
    assert len(found) == MOST_RUNS
    assert len(found.end(root)) == 2
