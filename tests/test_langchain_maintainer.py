"""What would convince somebody who maintains LangChain, point by point; each is tested in full where it belongs."""

import asyncio
import json
import pickle
import re
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import test_langchain_standard as standard
from callers import steps_of_ours
from keeping import on_sqlite
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core import exceptions as langchain
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps, loads
from langchain_core.outputs import LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from model_behaviour import behave
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import printed, run_program
from pydantic import BaseModel
from upstream import END_OF_BODY, HANG, Gate, Request, Step, Upstream, completion, events, failure, plain, stream

import aistrale
from aistrale import prompts
from aistrale.store.store import Store
from aistrale_langchain import AistraleCallbackHandler, AistraleLLM, ChatAistrale, prompt_from_store
from aistrale_langchain.runs import runs

TESTS = Path(__file__).parent
SECRET = "sk-very-secret-0123456789"
NAMESPACES = ["aistrale_langchain"]
JSON = dict[str, Any]

both_kinds = pytest.mark.parametrize("kind", [ChatAistrale, AistraleLLM])
in_beta = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")


def options(upstream: Upstream, **more: Any) -> dict[str, Any]:
    given = {"model": "gpt-test", "provider": "openai", "api_key": SECRET, "base_url": upstream.url, "max_retries": 0}
    return {**given, **more}


# 1, 2


def switches(suite: type[Any]) -> dict[str, bool]:
    """What a suite of LangChain's can be told that a model has, and whether it was told so."""
    words = re.compile(r"(has|supports|returns|enable)_")
    made = suite()
    found = {name: getattr(made, name) for name in dir(suite) if words.match(name)}
    return {name: value for name, value in found.items() if isinstance(value, bool)}


def test_01_both_standard_suites_pass_without_xfail(upstream: Upstream) -> None:
    """With every feature on, none of LangChain's tests replaced or excused, over connections that are kept."""
    for suite in (standard.TestUnit, standard.TestIntegration):
        own = [name for name in vars(suite) if name.startswith("test_")]
        assert own == []
        marks = [mark.name for name in dir(suite) for mark in getattr(getattr(suite, name), "pytestmark", ())]
        assert "xfail" not in marks
    on = switches(standard.TestIntegration)
    assert [name for name, is_on in on.items() if not is_on] == []
    assert len(on) > 12

    upstream.default = behave
    model = ChatAistrale(**options(upstream))
    for _ in range(3):
        model.invoke("Hello")
        list(model.stream("Hello"))
    assert upstream.accepted == 1


def test_01_the_time_of_a_stream_is_replayed_from_a_cassette_that_is_committed() -> None:
    """LangChain's own `test_stream_time`: what was recorded is here, without a key."""
    (cassette,) = TESTS.glob("cassettes/**/*test_stream_time.*")
    assert cassette.stat().st_size > 0
    assert b"authorization" not in cassette.read_bytes().lower()


@in_beta
@both_kinds
def test_02_no_secret_is_written(upstream: Upstream, kind: Any) -> None:
    """Serialized, a model names the variable that its key is in; shown, it has stars. It is loaded with its key."""
    snapshot = (TESTS / "__snapshots__" / "test_langchain_standard.ambr").read_text()
    assert "AISTRALE_API_KEY" in snapshot
    assert not re.search(r"\b[sa]k-\w", snapshot)

    model = kind(**options(upstream))
    model.invoke("Hello")
    written = dumps(model)
    assert json.loads(written)["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": ["AISTRALE_API_KEY"]}
    for shown in (written, repr(model), str(model), repr(model.model_dump()), model.model_dump_json()):
        assert SECRET not in shown
    again = loads(
        written, secrets_map={"AISTRALE_API_KEY": SECRET}, allowed_objects=[kind], valid_namespaces=NAMESPACES
    )
    again.invoke("Hello")
    assert [request.headers["authorization"] for request in upstream.requests] == [f"Bearer {SECRET}"] * 2


@both_kinds
@pytest.mark.parametrize("variable", ["AISTRALE_API_KEY", "OPENAI_API_KEY"])
def test_02_no_secret_of_the_environment_is_pickled(
    upstream: Upstream, kind: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a pickle is read there is an environment as well, and the key is taken from that: the provider's own."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-provider")
    monkeypatch.setenv(variable, SECRET)
    given = options(upstream)
    del given["api_key"]
    model = kind(**given)
    model.invoke("Hello")
    pickled = pickle.dumps(model)
    assert SECRET.encode() not in pickled
    other = SECRET.replace("0123", "9876")
    monkeypatch.setenv(variable, other)
    pickle.loads(pickled).invoke("Hello")
    sent = [SECRET, other] if variable == "OPENAI_API_KEY" else ["sk-of-provider"] * 2
    assert [request.headers["authorization"] for request in upstream.requests] == [f"Bearer {key}" for key in sent]


# 3

ONE_MODEL = """
import asyncio, os, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from aistrale_langchain import ChatAistrale

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=sys.argv[1], max_retries=0)

async def ask():
    return (await model.ainvoke("Hello")).text, "".join([chunk.text async for chunk in model.astream("Hello")])

print([asyncio.run(ask()) for _ in range(3)])
with ThreadPoolExecutor(3) as pool:
    print([answer.text for answer in pool.map(model.invoke, ["Hello"] * 3)])
pid = os.fork()
if not pid:
    os._exit(asyncio.run(ask()) != ("Hello", "Hello") or model.invoke("Hello").text != "Hello")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), model.invoke("Hello").text)
"""


def test_03_one_model_serves_event_loops_threads_and_forks(upstream: Upstream) -> None:
    """The same object, one after the other, and nothing is said of it."""
    done = run_program(ONE_MODEL, cwd=TESTS, arguments=(upstream.url,))
    assert (done.returncode, done.stderr) == (0, "")
    loops, threads, fork = done.stdout.splitlines()
    assert loops == str([("Hello", "Hello")] * 3)
    assert threads == str(["Hello"] * 3)
    assert fork == "0 Hello"
    upstream.wait_until_open(0)


# 4


def added(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


async def streamed(model: Any, prompt: Any, /, **given: Any) -> Any:
    return added([chunk async for chunk in model.astream(prompt, **given)])


async def of_async_events(model: Any, prompt: Any, /, **given: Any) -> Any:
    return await (await model.astream_events(prompt, version="v3", **given))


ANSWERS: dict[str, Callable[..., Any]] = {
    "invoke": lambda model, prompt, /, **given: model.invoke(prompt, **given),
    "stream": lambda model, prompt, /, **given: added(list(model.stream(prompt, **given))),
    "ainvoke": lambda model, prompt, /, **given: asyncio.run(model.ainvoke(prompt, **given)),
    "astream": lambda model, prompt, /, **given: asyncio.run(streamed(model, prompt, **given)),
    "events": lambda model, prompt, /, **given: model.stream_events(prompt, version="v3", **given).output,
    "async events": lambda model, prompt, /, **given: asyncio.run(of_async_events(model, prompt, **given)),
}
every_way = pytest.mark.parametrize("way", ANSWERS)
WAYS_OF_TEXT = ["invoke", "stream", "ainvoke", "astream"]


class Told(BaseCallbackHandler):
    """What handlers are told of a call."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.result = LLMResult(generations=[])

    def on_chat_model_start(self, *args: Any, metadata: dict[str, Any] | None = None, **more: Any) -> None:
        self.model = (metadata or {}).get("ls_model_name")

    def on_llm_start(self, *args: Any, metadata: dict[str, Any] | None = None, **more: Any) -> None:
        self.model = (metadata or {}).get("ls_model_name")

    def on_llm_end(self, response: LLMResult, **more: Any) -> None:
        self.result = response


@in_beta
@every_way
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_04_usage_and_model_are_the_same_whichever_way(upstream: Upstream, way: str, version: str) -> None:
    """Tokens once, with what of them was cached and reasoned; handlers are told the same."""
    upstream.default = behave
    told = Told()
    answer = ANSWERS[way](
        ChatAistrale(**options(upstream, output_version=version)), "Hello", config={"callbacks": [told]}
    )
    assert answer.text == "Hello there, how can I help you today?"
    assert answer.usage_metadata == {
        "input_tokens": 10,
        "output_tokens": 14,
        "total_tokens": 24,
        "input_token_details": {"cache_read": 1, "cache_creation": 1},
        "output_token_details": {"reasoning": 1},
    }
    assert answer.response_metadata["model_name"] == "gpt-test"
    assert (answer.response_metadata["model_provider"], answer.response_metadata["provider"]) == ("aistrale", "openai")
    assert answer.response_metadata["finish_reason"] == "stop"
    (((generation,),),) = (told.result.generations,)
    assert generation.message.usage_metadata == answer.usage_metadata  # type: ignore[union-attr]
    assert told.model == "gpt-test"


@in_beta
@every_way
def test_04_another_model_is_told_truthfully(upstream: Upstream, way: str) -> None:
    """One that a call asks for, and one that the provider made of it."""
    exporter, provider = recorded()
    model = ChatAistrale(**options(upstream, client_options={"tracer_provider": provider}))

    def renamed(request: Request) -> list[Step]:
        return behave(Request(request.path, request.headers, {**request.body, "model": "gpt-other-2026"}, 0))

    upstream.will(renamed)
    told = Told()
    answer = ANSWERS[way](model, "Hello", model="gpt-other", config={"callbacks": [told]})
    assert upstream.requests[0].body["model"] == "gpt-other"
    assert answer.response_metadata["model_name"] == "gpt-other-2026"
    assert told.model == "gpt-other"
    (span,) = exporter.get_finished_spans()
    named = {name: value for name, value in (span.attributes or {}).items() if name.endswith(".model")}
    assert named == {"gen_ai.request.model": "gpt-other", "gen_ai.response.model": "gpt-other-2026"}


@pytest.mark.parametrize("way", WAYS_OF_TEXT)
def test_04_a_text_model_tells_the_same(upstream: Upstream, way: str) -> None:
    """To handlers: its answers are mere texts."""
    upstream.default = behave
    told = Told()
    ANSWERS[way](AistraleLLM(**options(upstream)), "Hello", model="gpt-other", config={"callbacks": [told]})
    (((generation,),),) = (told.result.generations,)
    info = generation.generation_info or {}
    assert (info["model_name"], info["finish_reason"]) == ("gpt-other", "stop")
    assert info["usage_metadata"]["total_tokens"] == 24
    assert told.model == "gpt-other"


# 5


@tool
def multiply(a: int, b: int) -> int:
    """The product of two numbers."""
    return a * b


THOUGHT = "Six times seven."


class OpenAIShaped:
    """A provider in OpenAI's words, whose reasoning is in a field of its own."""

    def __init__(self, field: str, *pieces: JSON) -> None:
        self._field, self._pieces = field, pieces

    def answer(self, request: Request) -> list[Step]:
        if request.body["messages"][-1]["role"] == "tool":
            return stream("Forty-two.") if request.body.get("stream") else plain(completion("Forty-two."))
        arguments = {"name": "multiply", "arguments": '{"a": 6, "b": 7}'}
        call = {"id": "call_1", "type": "function", "function": arguments}
        if not request.body.get("stream"):
            whole: JSON = {"role": "assistant", "content": None, "tool_calls": [call]}
            for piece in self._pieces:
                for name, value in piece.items():
                    whole[name] = value if name not in whole else joined(whole[name], value)
            choice = {"index": 0, "message": whole, "finish_reason": "tool_calls"}
            return plain({**completion(), "choices": [choice]})
        deltas = [*self._pieces, {"tool_calls": [{"index": 0, **call}]}, {}]
        choices = [{"index": 0, "delta": delta, "finish_reason": None if delta else "tool_calls"} for delta in deltas]
        told = [{"id": "c-1", "model": "gpt-test", "choices": [choice]} for choice in choices]
        return [*events(*(json.dumps(each).encode() for each in told), b"[DONE]"), END_OF_BODY]

    def returned(self, body: JSON) -> Any:
        return body["messages"][1][self._field]


def joined(first: Any, second: Any) -> Any:
    """Two pieces of a message as one: texts one after the other, entries by their index."""
    if isinstance(first, str):
        return first + second
    return [{**first[0], **second[0], "text": first[0]["text"] + second[0].get("text", "")}]


class AnthropicShaped:
    """A provider in Anthropic's words, whose reasoning is a block with a signature."""

    def answer(self, request: Request) -> list[Step]:
        head: JSON = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test"}
        usage = {"input_tokens": 3, "output_tokens": 2}
        blocks: list[JSON] = [
            {"type": "thinking", "thinking": THOUGHT, "signature": "sig"},
            {"type": "tool_use", "id": "call_1", "name": "multiply", "input": {"a": 6, "b": 7}},
        ]
        reason = "tool_use"
        if isinstance(request.body["messages"][-1]["content"], list) and len(request.body["messages"]) > 1:
            blocks, reason = [{"type": "text", "text": "Forty-two."}], "end_turn"
        if not request.body.get("stream"):
            return plain({**head, "content": blocks, "stop_reason": reason, "usage": usage})
        told: list[JSON] = [{"type": "message_start", "message": {**head, "content": [], "usage": usage}}]
        for index, block in enumerate(blocks):
            told += list(self._pieces(index, block))
        told += [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}, {"type": "message_stop"}]
        return [*events(*(json.dumps(each).encode() for each in told)), END_OF_BODY]

    @staticmethod
    def _pieces(index: int, block: JSON) -> Iterator[JSON]:
        emptied: JSON = {"thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}, "text": {"text": ""}}
        deltas: JSON = {
            "thinking": [
                {"type": "thinking_delta", "thinking": THOUGHT[:4]},
                {"type": "thinking_delta", "thinking": THOUGHT[4:]},
                {"type": "signature_delta", "signature": "sig"},
            ],
            "tool_use": [{"type": "input_json_delta", "partial_json": json.dumps(block.get("input"))}],
            "text": [{"type": "text_delta", "text": block.get("text")}],
        }
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **emptied[block["type"]]}}
        for delta in deltas[block["type"]]:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}

    def returned(self, body: JSON) -> Any:
        return body["messages"][1]["content"][0]


DETAIL = {"type": "reasoning.text", "index": 0}
PROVIDERS: dict[str, tuple[Any, Any]] = {
    "deepseek": (
        OpenAIShaped("reasoning_content", {"reasoning_content": THOUGHT[:4]}, {"reasoning_content": THOUGHT[4:]}),
        THOUGHT,
    ),
    "openrouter": (
        OpenAIShaped(
            "reasoning_details",
            {"reasoning": THOUGHT[:4], "reasoning_details": [{**DETAIL, "text": THOUGHT[:4]}]},
            {"reasoning": THOUGHT[4:], "reasoning_details": [{**DETAIL, "text": THOUGHT[4:]}]},
            {"reasoning_details": [{**DETAIL, "signature": "sig"}]},
        ),
        [{**DETAIL, "text": THOUGHT, "signature": "sig"}],
    ),
    "anthropic": (AnthropicShaped(), {"type": "thinking", "thinking": THOUGHT, "signature": "sig"}),
}
"""How a provider answers, and what of its reasoning it has to be sent back."""


async def last_of(states: AsyncIterator[Any]) -> Any:
    return [state async for mode, state in states if mode == "values"][-1]


LOOPS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda agent, given: agent.invoke(given),
    "ainvoke": lambda agent, given: asyncio.run(agent.ainvoke(given)),
    "stream": lambda agent, given: [
        state for mode, state in agent.stream(given, stream_mode=["messages", "values"]) if mode == "values"
    ][-1],
    "astream": lambda agent, given: asyncio.run(last_of(agent.astream(given, stream_mode=["messages", "values"]))),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("way", LOOPS)
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_05_reasoning_goes_through_a_tool_loop(upstream: Upstream, provider: str, way: str, version: str) -> None:
    """It is a block of the agent's message, once, and goes back to the provider as that wants it, signature and all."""
    shape, wanted = PROVIDERS[provider]
    upstream.default = shape.answer
    model = ChatAistrale(**options(upstream, provider=provider, output_version=version))
    said = LOOPS[way](create_agent(model, [multiply]), {"messages": [("user", "What is 6 * 7?")]})["messages"]

    assert [message.type for message in said] == ["human", "ai", "tool", "ai"]
    assert (said[2].content, said[3].text) == ("42", "Forty-two.")
    thoughts = [block for block in said[1].content_blocks if block["type"] == "reasoning"]
    assert "".join(block["reasoning"] for block in thoughts) == THOUGHT
    is_in_content = any(isinstance(part, dict) and part["type"] == "reasoning" for part in said[1].content)
    assert is_in_content == (version == "v1")
    first, second = upstream.requests
    assert bool(first.body.get("stream")) == way.endswith("stream")
    assert shape.returned(second.body) == wanted


# 6


def test_06_the_cache_tells_a_calls_options_apart(upstream: Upstream) -> None:
    """What was answered at one temperature is not the answer at another, sync and async (langchain issue 40403)."""

    async def ask(llm: AistraleLLM) -> None:
        for temperature in (0, 1, 0):
            await llm.ainvoke("Hello", temperature=temperature)

    def asked_sync(llm: AistraleLLM) -> None:
        for temperature in (0, 1, 0):
            llm.invoke("Hello", temperature=temperature)

    asked_sync(AistraleLLM(**options(upstream, cache=InMemoryCache())))
    asyncio.run(ask(AistraleLLM(**options(upstream, cache=InMemoryCache()))))
    assert [request.body["temperature"] for request in upstream.requests] == [0, 1, 0, 1]


@pytest.mark.parametrize("way", WAYS_OF_TEXT)
def test_06_no_callbacks_are_no_callbacks(upstream: Upstream, way: str) -> None:
    """An empty list of them is one, whichever way."""
    assert ANSWERS[way](AistraleLLM(**options(upstream)), "Hello", config={"callbacks": []}) == "Hello"


@pytest.mark.parametrize("way", ["batch", "abatch", "generate", "agenerate"])
def test_06_a_batch_is_asked_at_once(upstream: Upstream, way: str) -> None:
    """All of it has been sent before anything is answered."""
    llm, gate = AistraleLLM(**options(upstream)), Gate()
    upstream.default = lambda request: [gate, *plain(completion(request.body["messages"][0]["content"]))]

    def ask() -> Any:
        answer = getattr(llm, way)(["a", "b", "c"])
        return asyncio.run(answer) if way.startswith("a") else answer

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        upstream.wait_for_requests(3)
        gate.open()
        result = answer.result()
    texts = [each[0].text for each in result.generations] if isinstance(result, LLMResult) else result
    assert texts == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["generate", "agenerate"])
def test_06_each_prompt_has_its_usage(upstream: Upstream, way: str) -> None:
    """Its own, and LangChain's total is that of all."""
    upstream.default = behave
    words = ["a", "b" * 40, "c" * 80]
    alone = [AistraleLLM(**options(upstream)).generate([word]).generations[0][0] for word in words]
    answer = getattr(AistraleLLM(**options(upstream)), way)(words)
    together = asyncio.run(answer) if way == "agenerate" else answer
    usages = [(each[0].generation_info or {})["usage_metadata"] for each in together.generations]
    assert usages == [(each.generation_info or {})["usage_metadata"] for each in alone]
    assert len({usage["input_tokens"] for usage in usages}) == 3
    assert together.llm_output["token_usage"]["total_tokens"] == sum(usage["total_tokens"] for usage in usages)


def test_06_one_failure_of_a_batch_is_one_failure(upstream: Upstream) -> None:
    """Where exceptions are wanted as results, the other prompts have theirs."""
    upstream.default = lambda request: (
        failure(400) if request.body["messages"][0]["content"] == "b" else plain(completion("fine"))
    )
    llm = AistraleLLM(**options(upstream))
    for results in (
        llm.batch(["a", "b", "c"], return_exceptions=True),
        asyncio.run(llm.abatch(["a", "b", "c"], return_exceptions=True)),
    ):
        assert [results[0], results[2]] == ["fine", "fine"]
        error: Any = results[1]
        assert isinstance(error, langchain.ModelInvalidRequestError)


# 7

FAILURES: dict[str, tuple[type[langchain.ModelError], type[aistrale.AistraleError], int | None, list[Step]]] = {
    "401": (langchain.ModelAuthenticationError, aistrale.AuthenticationError, 401, failure(401)),
    "403": (langchain.ModelPermissionDeniedError, aistrale.PermissionDeniedError, 403, failure(403)),
    "404": (langchain.ModelNotFoundError, aistrale.NotFoundError, 404, failure(404)),
    "429": (langchain.ModelRateLimitError, aistrale.RateLimitError, 429, failure(429)),
    "500": (langchain.ModelAPIError, aistrale.ServerError, 500, failure(500)),
    "503": (langchain.ModelAPIError, aistrale.ServerError, 503, failure(503)),
    "too long": (
        langchain.ContextOverflowError,
        aistrale.ContextLengthError,
        400,
        failure(400, "too long", "context_length_exceeded"),
    ),
    "timeout": (langchain.ModelTimeoutError, aistrale.RequestTimeoutError, None, [HANG]),
}
"""What goes wrong: LangChain's error, ours, the status that it tells, and the answer."""


@both_kinds
@pytest.mark.parametrize("way", WAYS_OF_TEXT)
@pytest.mark.parametrize("what", FAILURES)
def test_07_errors_are_langchains(upstream: Upstream, kind: Any, way: str, what: str) -> None:
    """Both LangChain's and ours, with the provider's response; one that never came is none."""
    theirs, ours, status, answer = FAILURES[what]
    upstream.will(answer)
    model = kind(**options(upstream, timeout=aistrale.Timeout(read=0.2)))
    with pytest.raises(theirs) as caught:
        ANSWERS[way](model, "Hello")
    assert isinstance(caught.value, ours)
    error: Any = caught.value
    assert error.is_retryable == (what in ("429", "500", "503", "timeout"))
    if status is None:
        assert error.response is None
    else:
        assert error.response.status_code == status
        assert error.response.json()["error"]["type"] == "some_error"


# 8


class Report(BaseModel):
    """What there is to say of a city's weather."""

    city: str
    celsius: int


AGENTS: dict[str, Callable[[Any, Any], Any]] = {name: LOOPS[name] for name in ("invoke", "ainvoke")}


@pytest.mark.parametrize("way", AGENTS)
@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy, None])
def test_08_an_agent_answers_in_a_shape(upstream: Upstream, way: str, strategy: Any) -> None:
    """By the provider's structured output, by a tool, or by what its profile says: the former."""
    upstream.default = behave
    shape = Report if strategy is None else strategy(Report)
    agent: Any = create_agent(ChatAistrale(**options(upstream, model="gpt-4o")), [], response_format=shape)
    answer = AGENTS[way](agent, {"messages": [("user", "How is the weather?")]})
    assert answer["structured_response"] == Report(city="text", celsius=3)
    sent = upstream.requests[0].body
    assert ("response_format" in sent, "tools" in sent) == (
        (False, True) if strategy is ToolStrategy else (True, False)
    )


@pytest.mark.parametrize("way", AGENTS)
def test_08_an_agent_sums_up_what_grows_too_long_for_its_model(upstream: Upstream, way: str) -> None:
    """At a fraction of what the model's profile says it reads: 128,000 tokens."""
    upstream.default = behave
    model = ChatAistrale(**options(upstream, model="gpt-4o"))
    assert (model.profile or {})["max_input_tokens"] == 128_000
    summing_up: Any = SummarizationMiddleware(model, trigger=("fraction", 0.01), keep=("messages", 1))
    agent: Any = create_agent(model, [], middleware=[summing_up])

    def conversation(tokens: int) -> JSON:
        return {"messages": [("user", "word " * tokens), ("ai", "Yes."), ("user", "And now?")]}

    few = AGENTS[way](agent, conversation(500))["messages"]
    assert [message.type for message in few] == ["human", "ai", "human", "ai"]
    assert len(upstream.requests) == 1
    many = AGENTS[way](agent, conversation(2000))["messages"]
    assert [message.type for message in many] == ["human", "human", "ai"]
    assert "Hello there, how can I help you today?" in many[0].text
    summary, question = upstream.requests[1:]
    assert "word word" in json.dumps(summary.body)
    assert "word word" not in json.dumps(question.body)


# 9


def recorded() -> tuple[InMemorySpanExporter, TracerProvider]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


@pytest.mark.parametrize("way", AGENTS)
def test_09_a_graph_is_one_trace_and_an_interrupt_no_error(upstream: Upstream, way: str) -> None:
    """Below the caller's span, which stays current; no run is left open."""
    exporter, provider = recorded()
    chain: Any = ChatPromptTemplate([("user", "Say {word}")]) | ChatAistrale(
        **options(upstream, client_options={"tracer_provider": provider})
    )

    def ask(state: MessagesState) -> JSON:
        return {"messages": [chain.invoke({"word": interrupt("Which?")})]}

    async def ask_async(state: MessagesState) -> JSON:
        return {"messages": [await chain.ainvoke({"word": interrupt("Which?")})]}

    built = StateGraph(MessagesState)
    built.add_node("model", ask if way == "invoke" else ask_async)
    built.add_edge(START, "model")
    config: Any = {"callbacks": [AistraleCallbackHandler(provider)], "configurable": {"thread_id": "t-1"}}
    graph: Any = built.compile(InMemorySaver()).with_config(config)

    with provider.get_tracer("application").start_as_current_span("outer") as outer:
        AGENTS[way](graph, {"messages": [("user", "Hello")]})
        assert trace.get_current_span() is outer
        answer = AGENTS[way](graph, Command(resume="cheese"))
        assert trace.get_current_span() is outer
    assert answer["messages"][-1].text == "Say cheese"
    assert len(runs) == 0

    spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
    names = {span.context.span_id: span.name for span in spans}
    assert [(span.name, names[span.parent.span_id] if span.parent else None) for span in spans] == [
        ("outer", None),
        ("invoke_workflow LangGraph", "outer"),
        ("chain model", "invoke_workflow LangGraph"),
        ("invoke_workflow LangGraph", "outer"),
        ("chain model", "invoke_workflow LangGraph"),
        ("chain RunnableSequence", "chain model"),
        ("chain ChatPromptTemplate", "chain RunnableSequence"),
        ("chat gpt-test", "chain RunnableSequence"),
    ]
    assert {span.status.status_code for span in spans} == {trace.StatusCode.UNSET}


# 10


def test_10_a_chunk_takes_few_steps(upstream: Upstream) -> None:
    """From the bytes of an event to LangChain's message, and the same for each."""

    def read(words: int) -> int:
        upstream.will(stream(*["word "] * words))
        return steps_of_ours(lambda: list(model.stream("Hello")))

    model = ChatAistrale(**options(upstream))
    read(10)
    assert (read(300) - read(100)) / 200 <= 40


def test_10_a_tracer_does_nothing_for_a_token() -> None:
    """But say that it is inline, as often as LangChain asks; where a foreign model streams in async code."""
    config: Any = {"callbacks": [AistraleCallbackHandler(TracerProvider())]}

    async def read(letters: int) -> None:
        async for _ in FakeListChatModel(responses=["x" * letters]).astream("Hello", config):
            pass

    asyncio.run(read(10))
    first, second = (steps_of_ours(lambda: asyncio.run(read(letters))) for letters in (100, 300))  # noqa: B023
    assert 0 < second - first <= 3 * 200


# 11

HARD = 'Reply to <{{who}}> & co. as {"name": "{{ who }}", "n": {}, "of": [{"a": {}}]} {{!who}} $x \\n }{ <br/>'
VALUES = ["<b>Ada & Co.</b>", '{"a": {"b": []}}', "{who} {{who}} {}", 'say "hi" \\ \n\t', ""]


@on_sqlite
@both_kinds
@pytest.mark.parametrize("who", VALUES)
def test_11_a_stored_prompt_is_sent_byte_for_byte(store: Store, upstream: Upstream, kind: Any, who: str) -> None:
    """JSON, braces and `<>`, in the prompt and in what is put into it: the provider gets what the store renders."""
    prompts.create("text", HARD)
    prompts.create("chat", [{"role": "system", "content": HARD}, {"role": "user", "content": "{} <{{who}}>"}])
    model = kind(**options(upstream))
    (prompt_from_store("text") | model).invoke({"who": who})
    asyncio.run((prompt_from_store("text") | model).ainvoke({"who": who}))
    (sync, asynchronous) = (request.body["messages"] for request in upstream.requests)
    assert sync == asynchronous == [{"role": "user", "content": prompts.render("text", {"who": who})}]
    if kind is ChatAistrale:
        (prompt_from_store("chat") | model).invoke({"who": who})
        rendered: Any = prompts.render("chat", {"who": who})
        wanted = [{"role": message.role, "content": message.content} for message in rendered]
        assert upstream.requests[-1].body["messages"] == wanted


# 12

IMPORTING = """
import json, os, sys

def refuse(event, arguments):
    if event.partition(".")[0] == "socket" and event != "socket.__new__" or event in ("os.putenv", "os.unsetenv"):
        raise AssertionError(f"{event} {arguments}")

before = dict(os.environ)
sys.addaudithook(refuse)
import aistrale_langchain
for name in aistrale_langchain.__all__:
    getattr(aistrale_langchain, name)
aistrale_langchain.ChatAistrale(model="openai/gpt-4o", api_key="sk")
assert dict(os.environ) == before
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
DECLARED = """
import json
from importlib.metadata import requires
print(json.dumps(requires("aistrale")))
"""
UNWANTED = {
    *("langchain", "langchain_classic", "langchain_community", "langchain_openai", "openai"),
    *("wrapt", "forbiddenfruit", "gorilla", "litellm", "openinference", "traceloop"),
}


def test_12_importing_it_reaches_for_nothing(tmp_path: Path) -> None:
    """No network and no change to the environment, all of it imported and a model made; no patching, no SDK."""
    loaded = set(json.loads(printed(IMPORTING, cwd=tmp_path)))
    assert {"langchain_core", "aistrale_langchain"} <= loaded
    assert not loaded & UNWANTED


def test_12_it_depends_on_langchain_core_alone(tmp_path: Path) -> None:
    """Neither on `langchain`, nor on a provider's package, nor on one that patches others."""
    declared = [line.partition(";") for line in json.loads(printed(DECLARED, cwd=tmp_path))]
    named = [(re.split(r"[^\w.-]", line.strip())[0].replace("-", "_"), extra.strip()) for line, _, extra in declared]
    assert [name for name, extra in named if re.search(r"extra == .langchain.", extra)] == ["langchain_core"]
    assert not {name for name, _ in named} & UNWANTED
