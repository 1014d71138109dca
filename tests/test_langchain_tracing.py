"""AistraleCallbackHandler: one trace of whatever runs, and nothing left of what was cancelled."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from keeping import ON
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry import trace
from upstream import HANG, Upstream

from aistrale import telemetry
from aistrale_langchain import AistraleCallbackHandler, ChatAistrale, instrument, uninstrument
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


def test_a_run_at_work_is_not_forgotten() -> None:
    """Where too many are open, it is those in which nothing has begun for longest that nobody will end."""
    found, root, child = Runs(), uuid4(), uuid4()
    found.begin(root, Run(None, None, None))
    for _ in range(MOST_RUNS - 1):
        assert found.begin(uuid4(), Run(None, None, None)) == []
    assert len(found.begin(child, Run(None, None, root))) == 1
    found.begin(uuid4(), Run(None, None, None))
    assert len(found) == MOST_RUNS
    assert len(found.end(root)) == 2
