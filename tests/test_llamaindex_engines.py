"""AistraleLLM in what people build with LlamaIndex: query engines, chat engines and agents, offline."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import (
    Document,
    Settings,
    SimpleKeywordTableIndex,
    SummaryIndex,
    TreeIndex,
    VectorStoreIndex,
)
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.response_synthesizers.type import ResponseMode
from llama_index.core.selectors import LLMSingleSelector
from model_behaviour import behave
from upstream import Request, Step, Upstream, completion, plain, stream

from aistrale_llamaindex import AistraleEmbedding, AistraleLLM

ANSWER = "Hello there, how can I help you today?"
DOCUMENTS = [
    Document(text="Whales are mammals that live in the sea."),
    Document(text="Trouts are fish that live in rivers."),
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody but this machine is asked, and no setting is left behind."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    yield
    Settings._llm = Settings._embed_model = None


def options(upstream: Upstream, **more: Any) -> dict[str, Any]:
    known = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url, "max_retries": 0}
    return {**known, **more}


@pytest.fixture
def llm(upstream: Upstream, own_loop: None) -> AistraleLLM:
    upstream.default = behave
    return AistraleLLM(**options(upstream))


@pytest.fixture
def embed_model(upstream: Upstream) -> AistraleEmbedding:
    upstream.default = behave
    return AistraleEmbedding(**options(upstream, model="embed-test"))


async def _text_of(response: Any) -> str:
    return "".join([text async for text in response.response_gen])


def asked(engine: Any, way: str, question: str = "Where do whales live?") -> str:
    """What an engine says, asked in one of four ways."""
    if way.endswith("streamed"):
        response = asyncio.run(_aquery(engine, question)) if way.startswith("async") else engine.query(question)
        return response if isinstance(response, str) else "".join(response.response_gen)
    return str(asyncio.run(engine.aquery(question)) if way == "async" else engine.query(question))


async def _aquery(engine: Any, question: str) -> str:
    return await _text_of(await engine.aquery(question))


WAYS = ("sync", "async", "streamed", "async streamed")
every_way = pytest.mark.parametrize("way", WAYS)
MODES = [
    *(ResponseMode.REFINE, ResponseMode.COMPACT, ResponseMode.SIMPLE_SUMMARIZE, ResponseMode.TREE_SUMMARIZE),
    *(ResponseMode.ACCUMULATE, ResponseMode.COMPACT_ACCUMULATE, ResponseMode.GENERATION),
]
UNSTREAMED = (ResponseMode.ACCUMULATE, ResponseMode.COMPACT_ACCUMULATE)
"""LlamaIndex streams none of these."""


# Query engines


@pytest.mark.parametrize(
    ("mode", "way"),
    [(mode, way) for mode in MODES for way in WAYS if mode not in UNSTREAMED or not way.endswith("streamed")],
)
def test_a_summary_index(llm: AistraleLLM, upstream: Upstream, mode: ResponseMode, way: str) -> None:
    """In every mode of response."""
    engine = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(
        llm=llm, response_mode=mode, streaming=way.endswith("streamed")
    )
    said = asked(engine, way)
    assert ANSWER in said
    sent = "".join(str(request.body["messages"]) for request in upstream.requests)
    assert ("Whales are mammals" in sent) == (mode != ResponseMode.GENERATION)  # which looks at no document
    assert "Where do whales live?" in sent


@every_way
def test_a_vector_index(llm: AistraleLLM, embed_model: AistraleEmbedding, upstream: Upstream, way: str) -> None:
    """Whose vectors are ours as well."""
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)
    engine = index.as_query_engine(llm=llm, similarity_top_k=1, streaming=way.endswith("streamed"))
    assert asked(engine, way) == ANSWER
    paths = [request.path.rpartition("/")[2] for request in upstream.requests]
    assert paths == ["embeddings", "embeddings", "completions"]
    assert upstream.requests[0].body["input"] == [document.text for document in DOCUMENTS]


@every_way
@pytest.mark.parametrize("kind", [SimpleKeywordTableIndex, TreeIndex])
def test_other_indexes(llm: AistraleLLM, embed_model: AistraleEmbedding, kind: Any, way: str) -> None:
    """Keywords, and a tree that the model chooses in."""
    index = kind.from_documents(DOCUMENTS, llm=llm)
    more = {"retriever_mode": "all_leaf"} if kind is TreeIndex else {}
    engine = index.as_query_engine(llm=llm, streaming=way.endswith("streamed"), **more)
    assert asked(engine, way) == ANSWER


def test_the_settings_name_the_model(llm: AistraleLLM, embed_model: AistraleEmbedding) -> None:
    """Once for all."""
    Settings.llm, Settings.embed_model = llm, embed_model
    assert str(VectorStoreIndex.from_documents(DOCUMENTS).as_query_engine().query("Where do whales live?")) == ANSWER


class Animal(BaseModel):
    """An animal."""

    name: str
    legs: int


@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_engine_that_answers_in_a_shape(llm: AistraleLLM, way: str) -> None:
    """`output_cls`."""
    engine = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(
        llm=llm, output_cls=Animal, response_mode=ResponseMode.COMPACT
    )
    response: Any = asyncio.run(engine.aquery("Which?")) if way == "async" else engine.query("Which?")
    assert response.response == Animal(name="text", legs=3)


def test_a_selector_chooses(upstream: Upstream) -> None:
    """By what the model says in JSON."""
    upstream.default = lambda request: plain(completion('[{"choice": 2, "reason": "It is about fish."}]'))
    selector = LLMSingleSelector.from_defaults(llm=AistraleLLM(**options(upstream)))
    chosen = selector.select(["about whales", "about fish"], "Where do trouts live?")
    assert chosen.ind == 1


# Chat engines


def chatted(engine: Any, way: str, message: str) -> str:
    async def streamed() -> str:
        response = await engine.astream_chat(message)
        return "".join([text async for text in response.async_response_gen()])

    ways: dict[str, Callable[[], Any]] = {
        "sync": lambda: str(engine.chat(message)),
        "async": lambda: str(asyncio.run(engine.achat(message))),
        "streamed": lambda: "".join(engine.stream_chat(message).response_gen),
        "async streamed": lambda: asyncio.run(streamed()),
    }
    return str(ways[way]())


@every_way
@pytest.mark.parametrize(
    "mode", [ChatMode.SIMPLE, ChatMode.CONTEXT, ChatMode.CONDENSE_QUESTION, ChatMode.CONDENSE_PLUS_CONTEXT]
)
def test_a_chat_engine(
    llm: AistraleLLM, embed_model: AistraleEmbedding, upstream: Upstream, mode: ChatMode, way: str
) -> None:
    """In each mode, with what was said before."""
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)
    memory = ChatMemoryBuffer.from_defaults(token_limit=2000, llm=llm)
    more = {"streaming": True} if mode == ChatMode.CONDENSE_QUESTION and way.endswith("streamed") else {}
    engine = index.as_chat_engine(chat_mode=mode, llm=llm, memory=memory, **more)
    for question in ("Where do whales live?", "And trouts?"):
        assert chatted(engine, way, question) == ANSWER
    sent = "".join(str(request.body.get("messages")) for request in upstream.requests)
    assert "And trouts?" in sent


# Agents

of_workflows = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""LlamaIndex's own agents use what pydantic and their workflows will take away."""


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@of_workflows
@pytest.mark.parametrize("streaming", [False, True])
def test_an_agent_calls_its_functions(llm: AistraleLLM, upstream: Upstream, streaming: bool) -> None:
    """And answers once it has their results."""
    agent = FunctionAgent(tools=[add], llm=llm, streaming=streaming, system_prompt="Be exact.")

    async def run() -> Any:
        return await agent.run("What is 2 + 3?")

    answer = asyncio.run(run())
    assert str(answer) == ANSWER
    assert [str(call.tool_output) for call in answer.tool_calls] == ["6"]
    first, second = upstream.requests
    assert [message["role"] for message in first.body["messages"]] == ["system", "user"]
    assert [message["role"] for message in second.body["messages"]] == ["system", "user", "assistant", "tool"]
    assert bool(first.body.get("stream")) == streaming


@of_workflows
@pytest.mark.parametrize("streaming", [False, True])
def test_an_agent_that_thinks_aloud(upstream: Upstream, streaming: bool) -> None:
    """ReAct: a tool by text, then the answer."""
    said = [
        'Thought: I need a tool.\nAction: add\nAction Input: {"a": 2, "b": 3}',
        "Thought: I can answer without using any more tools.\nAnswer: It is 5.",
    ]

    def answer(request: Request) -> list[Step]:
        text = said[sum("Observation" in str(message["content"]) for message in request.body["messages"][1:])]
        return stream(*text.splitlines(keepends=True)) if request.body.get("stream") else plain(completion(text))

    upstream.default = answer
    agent = ReActAgent(tools=[add], llm=AistraleLLM(**options(upstream)), streaming=streaming)

    async def run() -> Any:
        return await agent.run("What is 2 + 3?")

    found = asyncio.run(run())
    assert str(found) == "It is 5."
    assert [str(call.tool_output) for call in found.tool_calls] == ["5"]


@of_workflows
def test_a_workflow_of_agents(llm: AistraleLLM) -> None:
    """One hands over to another."""
    first = FunctionAgent(name="adder", description="Adds.", tools=[add], llm=llm)
    second = FunctionAgent(name="teller", description="Tells.", tools=[add], llm=llm)
    workflow = AgentWorkflow(agents=[first, second], root_agent="adder")

    async def run() -> Any:
        return await workflow.run(user_msg="What is 2 + 3?")

    assert str(asyncio.run(run())) == ANSWER


async def test_an_event_loop_is_never_kept_waiting(upstream: Upstream) -> None:
    """Others run while a query engine asks."""
    from upstream import Gate

    gate = Gate()
    upstream.default = lambda request: [gate, *plain(completion("Sea."))]
    engine = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=AistraleLLM(**options(upstream)))
    task = asyncio.create_task(engine.aquery("Where?"))
    await asyncio.to_thread(upstream.wait_for_requests, 1)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    gate.open()
    assert str(await task) == "Sea."
