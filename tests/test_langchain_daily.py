"""What a daily user of LangChain does with our models: their runs say whose they are, however they are asked."""

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Any

import pytest
from keeping import charging
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage, trim_messages
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.graph import START, MessagesState, StateGraph
from model_behaviour import behave
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tenacity import wait_none
from upstream import END_OF_BODY, Step, Upstream, completion, events, failure, plain

import aistrale
from aistrale import BudgetExceededError, RetryPolicy, budgets, telemetry
from aistrale_langchain import AistraleCallbackHandler, AistraleLLM, ChatAistrale

both_kinds = pytest.mark.parametrize("kind", [ChatAistrale, AistraleLLM])


class Spans:
    """A provider and what it was told."""

    def __init__(self) -> None:
        self.provider, self._exporter = TracerProvider(), InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.handler = AistraleCallbackHandler(self.provider)

    @property
    def finished(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def of(self, operation: str) -> dict[str, Any]:
        """The attributes of the only span of a kind."""
        found = [dict(each.attributes or {}) for each in self.finished]
        (span,) = [each for each in found if each.get("gen_ai.operation.name") == operation]
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def behaving(upstream: Upstream) -> Upstream:
    upstream.default = behave
    return upstream


def options(upstream: Upstream, **more: Any) -> dict[str, Any]:
    known = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url, "max_retries": 0}
    return {**known, **more}


# Whose a run is


async def _stream(model: Any, prompt: Any, config: Any = None) -> None:
    async for _ in model.astream(prompt, config):
        pass


WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "invoke": lambda model, prompt, config: model.invoke(prompt, config),
    "stream": lambda model, prompt, config: list(model.stream(prompt, config)),
    "ainvoke": lambda model, prompt, config: asyncio.run(model.ainvoke(prompt, config)),
    "astream": lambda model, prompt, config: asyncio.run(_stream(model, prompt, config)),
}
every_way = pytest.mark.parametrize("way", WAYS)
WHOSE = {"session_id": "s-1", "user_id": "ada"}


def assert_said(span: dict[str, Any], *tags: str) -> None:
    assert (span["session.id"], span["user.id"], span["aistrale.tags"]) == ("s-1", "ada", tags)


@every_way
@both_kinds
@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_says_whose_it_is(behaving: Upstream, spans: Spans, kind: Any, way: str, streaming: bool) -> None:
    """Asked whole or in a stream, also where a model streams inside."""
    more = {"streaming": streaming} if kind is ChatAistrale else {}
    model = kind(**options(behaving, client_options={"tracer_provider": spans.provider}, **more))
    WAYS[way](model, "Hello", {"metadata": WHOSE, "tags": ["a"]})
    assert_said(spans.of("chat"), "a")


@every_way
@both_kinds
def test_a_model_says_whose_its_runs_are(behaving: Upstream, spans: Spans, kind: Any, way: str) -> None:
    """Tags and metadata that it was made with; a run's own are added."""
    model = kind(**options(behaving, client_options={"tracer_provider": spans.provider}, tags=["made"], metadata=WHOSE))
    WAYS[way](model, "Hello", {"tags": ["asked"]})
    assert_said(
        {**spans.of("chat"), "aistrale.tags": tuple(sorted(spans.of("chat")["aistrale.tags"]))}, "asked", "made"
    )


@pytest.mark.parametrize("mode", ["values", "messages"])
@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_node_says_whose_its_model_is_asked_for(behaving: Upstream, spans: Spans, way: str, mode: str) -> None:
    """However the graph is streamed."""
    model = ChatAistrale(**options(behaving, client_options={"tracer_provider": spans.provider}))
    asked = ChatPromptTemplate([("placeholder", "{messages}")]) | model.with_config(tags=["writer"], metadata=WHOSE)

    async def anode(state: MessagesState) -> Any:
        return {"messages": [await asked.ainvoke({"messages": state["messages"]})]}

    def node(state: MessagesState) -> Any:
        return {"messages": [asked.invoke({"messages": state["messages"]})]}

    built = StateGraph(MessagesState)
    built.add_node("writer", RunnableLambda(node, afunc=anode))
    built.add_edge(START, "writer")
    graph: Any = built.compile()

    async def awaited() -> None:
        async for _ in graph.astream({"messages": [("user", "Hello")]}, stream_mode=mode):
            pass

    if way == "astream":
        asyncio.run(awaited())
    else:
        list(graph.stream({"messages": [("user", "Hello")]}, stream_mode=mode))
    assert_said(spans.of("chat"), "writer")


@pytest.mark.usefixtures("keeping")
@every_way
def test_a_budget_counts_and_stops_calls_that_stream(upstream: Upstream, way: str) -> None:
    """Of the session that the run is of, not of the one around it."""
    budgets.set("s-1", 0.01, session="s-1", hard=True)
    upstream.default = lambda request: spoken(0.02) if request.body.get("stream") else charging(0.02)
    model = ChatAistrale(**options(upstream, provider="openrouter"), streaming=True)
    chain: Any = RunnableLambda(lambda _: WAYS[way](model, "x", {"metadata": {"session_id": "s-1"}}))
    chain.invoke("x", {"metadata": {"session_id": "outer"}})
    with pytest.raises(BudgetExceededError):
        chain.invoke("x", {"metadata": {"session_id": "outer"}})
    assert len(upstream.requests) == 1


def spoken(dollars: float) -> list[Step]:
    """A streamed answer that says what it cost."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-test"}
    said = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "cost": dollars}
    told = [{**head, "choices": [said]}, {**head, "choices": [], "usage": usage}]
    return [*events(*[json.dumps(each).encode() for each in told], b"[DONE]"), END_OF_BODY]


# Several answers


@pytest.mark.parametrize("way", ["stream", "astream"])
@both_kinds
def test_a_stream_of_several_answers_is_refused(behaving: Upstream, kind: Any, way: str) -> None:
    """They would be mingled."""
    with pytest.raises(aistrale.InvalidRequestError, match="A stream is of one answer"):
        WAYS[way](kind(**options(behaving), n=2), "Hello", None)
    assert behaving.requests == []


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_several_answers_are_asked_for_whole(behaving: Upstream, way: str) -> None:
    """Also of a model that streams where it can."""
    answer = WAYS[way](ChatAistrale(**options(behaving), n=2, streaming=True), "Hello", None)
    assert answer.text == "Hello there, how can I help you today?"
    (request,) = behaving.requests
    assert (request.body["n"], request.body.get("stream")) == (2, None)


# Options of a call


def test_a_calls_own_limit_of_tokens_is_the_only_one(behaving: Upstream) -> None:
    """By either name."""
    model = ChatAistrale(**options(behaving), max_tokens=10)
    for given in ({}, {"max_tokens": 5}, {"max_completion_tokens": 5}):
        model.invoke("Hello", **given)
    limits = [
        {name: value for name, value in request.body.items() if name.startswith("max_")}
        for request in behaving.requests
    ]
    assert [list(limit.values()) for limit in limits] == [[10], [5], [5]]


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}"


CHOICES = {
    "weather": {"type": "function", "function": {"name": "weather"}},
    "any": "required",
    True: "required",
    "auto": "auto",
    "none": "none",
    False: None,
    None: None,
}


@pytest.mark.parametrize(("chosen", "sent"), CHOICES.items())
def test_which_tool_is_to_be_called(behaving: Upstream, chosen: Any, sent: Any) -> None:
    """As LangChain says it, and as OpenAI does."""
    ChatAistrale(**options(behaving)).bind_tools([weather], tool_choice=chosen).invoke("Umbrella?")
    assert behaving.requests[0].body.get("tool_choice") == sent


async def _chunks(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


ANSWERS: dict[str, Callable[[Any, str], Any]] = {
    "invoke": lambda model, prompt: model.invoke(prompt),
    "stream": lambda model, prompt: reduce(add, model.stream(prompt)),
    "ainvoke": lambda model, prompt: asyncio.run(model.ainvoke(prompt)),
    "astream": lambda model, prompt: reduce(add, asyncio.run(_chunks(model.astream(prompt)))),
}


@pytest.mark.parametrize("version", ["v0", "v1"])
@every_way
def test_two_tools_are_called_at_once(upstream: Upstream, way: str, version: Any) -> None:
    """Whose arguments come in turns in a stream; the results go back each to its call."""
    calls: list[Any] = [
        {
            "id": f"call_{city}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for city in ("Oslo", "Rome")
    ]

    def answer(request: Any) -> list[Step]:
        if request.body.get("stream"):
            return mingled(calls)
        whole = completion("")
        whole["choices"][0] |= {
            "message": {"role": "assistant", "content": None, "tool_calls": calls},
            "finish_reason": "tool_calls",
        }
        return plain(whole)

    upstream.default = answer
    model = ChatAistrale(**options(upstream), output_version=version).bind_tools([weather], parallel_tool_calls=True)

    said: Any = ANSWERS[way](model, "Umbrellas?")
    assert [(call["id"], call["args"]) for call in said.tool_calls] == [
        ("call_Oslo", {"city": "Oslo"}),
        ("call_Rome", {"city": "Rome"}),
    ]
    upstream.default = behave
    results = [ToolMessage(weather(call["args"]["city"]), tool_call_id=call["id"]) for call in said.tool_calls]
    model.invoke([HumanMessage("Umbrellas?"), said, *results])
    sent = upstream.requests[-1].body["messages"]
    assert upstream.requests[0].body["parallel_tool_calls"] is True
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_Oslo", "call_Rome"]
    assert [(message["tool_call_id"], message["content"]) for message in sent[2:]] == [
        ("call_Oslo", "Sunny in Oslo"),
        ("call_Rome", "Sunny in Rome"),
    ]


def mingled(calls: list[dict[str, Any]]) -> list[Step]:
    """Calls in a stream, a piece of each in turn."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-test"}

    def piece(*told: Any, reason: str | None = None) -> bytes:
        delta = {"tool_calls": list(told)} if told else {}
        return json.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}).encode()

    found = [
        piece({"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}})
        for index, call in enumerate(calls)
    ]
    texts = [call["function"]["arguments"] for call in calls]
    for at in range(0, max(map(len, texts)), 4):
        found += [
            piece({"index": index, "function": {"arguments": text[at : at + 4]}})
            for index, text in enumerate(texts)
            if text[at : at + 4]
        ]
    return [*events(*found, piece(reason="tool_calls"), b"[DONE]"), END_OF_BODY]


@every_way
@both_kinds
def test_retries_and_fallbacks_are_the_cores(behaving: Upstream, kind: Any, way: str) -> None:
    """One run and one span, whatever it took."""
    behaving.will(failure(503), failure(503))
    spans, at_once = Spans(), RetryPolicy(max_retries=1, wait=wait_none())
    made: Any = {"tracer_provider": spans.provider, "retry": at_once}
    model = kind(**options(behaving, max_retries=None, fallbacks=["gpt-other"], client_options=made))
    WAYS[way](model, "Hello", None)
    assert [request.body["model"] for request in behaving.requests] == ["gpt-test", "gpt-test", "gpt-other"]
    assert spans.of("chat")["gen_ai.response.model"] == "gpt-other"


# Counting tokens


@both_kinds
def test_tokens_are_estimated(behaving: Upstream, kind: Any) -> None:
    """Four characters each, with no other package."""
    model = kind(**options(behaving))
    assert model.get_num_tokens("x" * 41) == 11
    few, many = ([HumanMessage("word " * words)] for words in (10, 1000))
    assert 10 <= model.get_num_tokens_from_messages(few) < 50 < model.get_num_tokens_from_messages(many) < 2000
    assert model.get_num_tokens_from_messages(few, [weather]) > model.get_num_tokens_from_messages(few)
    assert behaving.requests == []


def test_what_trims_messages_takes_the_model(behaving: Upstream) -> None:
    """The oldest go first."""
    told = [HumanMessage("word " * 100) for _ in range(10)]
    model = ChatAistrale(**options(behaving))
    assert trim_messages(told, max_tokens=300, token_counter=model) == told[-2:]


@both_kinds
def test_who_counts_tokens_himself_is_asked(behaving: Upstream, kind: Any) -> None:
    """Which LangChain's models all take."""
    model = kind(**options(behaving), custom_get_token_ids=lambda text: [1] * len(text))
    assert model.get_num_tokens("abc") == 3
    assert model.get_num_tokens_from_messages([HumanMessage("abc")]) == len("Human: abc")


# The tracer, and models of others


async def test_other_handlers_hear_of_foreign_text_models_beside_ours(spans: Spans) -> None:
    """LangChain forgets of them where one is inline, as ours is (langchain issue 39633)."""

    async def told(callbacks: list[BaseCallbackHandler]) -> list[str]:
        model, config = FakeListLLM(responses=["a"]), {"callbacks": callbacks}
        return [event["event"] async for event in model.astream_events("x", config, version="v2")]  # type: ignore[arg-type]

    assert await told([spans.handler]) == await told([])
    collector = RunCollectorCallbackHandler()
    chain = RunnableLambda(lambda text: text) | FakeListLLM(responses=["a"])
    await chain.ainvoke("x", {"callbacks": [collector, spans.handler]})
    assert [run.name for run in collector.traced_runs] == ["RunnableSequence"]
    assert [run.name for run in collector.traced_runs[0].child_runs] == ["RunnableLambda", "FakeListLLM"]
    tree = {span.name: span.parent and span.parent.span_id for span in spans.finished}
    assert tree["text_completion"] is not None


class Reporting(GenericFakeChatModel):
    """A model of another package, which says whose it is as that does."""

    whose: str = "anthropic"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.whose, "ls_model_type": "chat", "ls_model_name": "claude-sonnet-4-5"}


def took(**details: int) -> AIMessage:
    usage = UsageMetadata(
        input_tokens=1000, output_tokens=1000, total_tokens=2000, input_token_details=InputTokenDetails(**details)
    )
    about = {"model_name": "claude-sonnet-4-5", "stop_reason": "end_turn"}
    return AIMessage("Sunny", response_metadata=about, usage_metadata=usage)


@pytest.mark.usefixtures("keeping")
def test_what_a_foreign_model_writes_into_its_cache_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the price of that, a quarter more than other input; and it is told why the answer ended."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")
    config: Any = {"callbacks": [AistraleCallbackHandler()]}
    for message in (took(), took(cache_creation=900)):
        Reporting(messages=iter([message])).invoke("Hello", config)
    written, plainly = telemetry.query()
    assert (plainly.cost, written.cost) == (Decimal("0.018"), Decimal("0.018675"))
    assert written.usage is not None
    assert written.usage.cache_write_tokens == 900
    assert written.attributes["gen_ai.response.finish_reasons"] == ["end_turn"]


@pytest.mark.parametrize(
    ("told", "named"),
    [
        *[("google_genai", "gcp.gemini"), ("google_vertexai", "gcp.vertex_ai"), ("amazon_bedrock", "aws.bedrock")],
        *[("azure", "azure.ai.openai"), ("mistral", "mistral_ai"), ("xai", "x_ai"), ("acme", "acme")],
    ],
)
def test_a_provider_has_one_name(spans: Spans, told: str, named: str) -> None:
    """That of the semantic conventions, which our own models' spans have, whatever LangChain calls it."""
    Reporting(messages=iter([took()]), whose=told).invoke("Hello", {"callbacks": [spans.handler]})
    assert spans.of("chat")["gen_ai.provider.name"] == named


def test_tags_are_on_every_span(behaving: Upstream, spans: Spans) -> None:
    """Those that somebody gave, of whatever runs."""
    chain = ChatPromptTemplate([("user", "{x}")]) | Reporting(messages=iter([took()]))
    chain.invoke({"x": "Hello"}, {"callbacks": [spans.handler], "tags": ["a"]})
    assert [dict(span.attributes or {})["aistrale.tags"] for span in spans.finished] == [("a",)] * 3


def test_a_copy_of_a_model_has_the_same_handler(behaving: Upstream, spans: Spans) -> None:
    """Whose locks cannot be copied."""
    copied = deepcopy(ChatAistrale(**options(behaving), callbacks=[spans.handler]))
    assert copied.callbacks == [spans.handler]
    assert copied.invoke("Hello").text


def test_what_is_no_message_is_refused(behaving: Upstream) -> None:
    """By an error of ours that names it."""
    with pytest.raises(aistrale.InvalidRequestError, match="RemoveMessage"):
        ChatAistrale(**options(behaving)).invoke([HumanMessage("Hello"), RemoveMessage("1")])
