"""ChatAistrale and AistraleLLM in LangChain's hands, beyond its own suites."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core import exceptions as langchain
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompts import PromptTemplate
from model_behaviour import behave
from programs import printed
from upstream import Gate, Upstream, completion, failure, plain

import aistrale
from aistrale_langchain import AistraleEmbeddings, AistraleLLM, ChatAistrale


def options(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "model": "gpt-test",
        "provider": "openai",
        "api_key": "sk-test",
        "base_url": upstream.url,
        "max_retries": 0,
        **more,
    }


@pytest.fixture
def behaving(upstream: Upstream) -> Upstream:
    upstream.default = behave
    return upstream


def test_importing_it_loads_no_framework_and_reads_nothing(tmp_path: Any) -> None:
    """Not before a name is used."""
    program = """
        import os, sys
        before = dict(os.environ)
        import aistrale_langchain
        print("langchain_core" in sys.modules, dict(os.environ) == before, sorted(dir(aistrale_langchain))[:2])
    """
    assert printed(program, cwd=tmp_path) == "False True ['AistraleCallbackHandler', 'AistraleEmbeddings']\n"


# Chat


def everything(model: ChatAistrale, prompt: str) -> list[AIMessage]:
    """An answer by each way to one."""

    def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        return whole

    async def awaited() -> list[AIMessage]:
        return [await model.ainvoke(prompt), added([chunk async for chunk in model.astream(prompt)])]

    return [model.invoke(prompt), added(list(model.stream(prompt))), *asyncio.run(awaited())]


def test_every_way_to_an_answer_says_the_same_of_it(behaving: Upstream) -> None:
    """Text, usage once, model, provider and how it ended."""
    answers = everything(ChatAistrale(**options(behaving)), "Hello")
    assert {answer.text for answer in answers} == {"Hello there, how can I help you today?"}
    assert all(answer.usage_metadata == answers[0].usage_metadata for answer in answers)
    for answer in answers:
        told = {name: answer.response_metadata[name] for name in ("model_name", "model_provider", "finish_reason")}
        assert told == {"model_name": "gpt-test", "model_provider": "aistrale", "finish_reason": "stop"}


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_reasoning_goes_through_a_tool_loop(upstream: Upstream, version: Any) -> None:
    """In both versions of content, it is a block, and goes back to the provider with its signature."""
    detail = {"type": "reasoning.text", "text": "Six times seven.", "signature": "sig", "index": 0}
    call = {"id": "call_1", "type": "function", "function": {"name": "multiply", "arguments": '{"a": 6, "b": 7}'}}
    answer = {**completion(), "model": "gpt-test"}
    message = {"role": "assistant", "content": None, "reasoning": "Six times seven.", "reasoning_details": [detail]}
    answer["choices"] = [{"index": 0, "message": {**message, "tool_calls": [call]}, "finish_reason": "tool_calls"}]
    upstream.will(plain(answer))
    model = ChatAistrale(**options(upstream, provider="openrouter"), output_version=version)

    said = model.invoke("What is 6 * 7?")
    assert [block["reasoning"] for block in said.content_blocks if block["type"] == "reasoning"] == ["Six times seven."]
    model.invoke([HumanMessage("What is 6 * 7?"), said, ToolMessage("42", tool_call_id="call_1")])

    sent = upstream.requests[-1].body["messages"]
    assert sent[1]["tool_calls"][0]["function"]["name"] == "multiply"
    assert sent[1]["reasoning_details"] == [detail]
    assert sent[2]["content"] == "42"


ERRORS = [
    (400, langchain.ModelInvalidRequestError),
    (401, langchain.ModelAuthenticationError),
    (403, langchain.ModelPermissionDeniedError),
    (404, langchain.ModelNotFoundError),
    (429, langchain.ModelRateLimitError),
    (500, langchain.ModelAPIError),
    (503, langchain.ModelAPIError),
]


@pytest.mark.parametrize(("status", "kind"), ERRORS)
@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_errors_are_langchains_and_ours(upstream: Upstream, status: int, kind: type[Exception], way: str) -> None:
    """Caught as either; they hold the answer and can be pickled."""
    model = ChatAistrale(**options(upstream))
    upstream.will(failure(status, "It went wrong"))

    async def streamed() -> None:
        _ = [chunk async for chunk in model.astream("Hello")]

    ask: Any = {
        "invoke": lambda: model.invoke("Hello"),
        "stream": lambda: list(model.stream("Hello")),
        "ainvoke": lambda: asyncio.run(model.ainvoke("Hello")),
        "astream": lambda: asyncio.run(streamed()),
    }[way]
    with pytest.raises(kind) as caught:
        ask()
    error: Any = caught.value
    assert isinstance(error, aistrale.APIError)
    assert error.response.status_code == status
    assert error.response.json()["error"]["message"] == "It went wrong"
    assert type(pickle.loads(pickle.dumps(error))) is type(error)
    assert error.is_retryable == (status in (429, 500, 503))


def test_a_prompt_that_is_too_long_is_an_overflow(upstream: Upstream) -> None:
    """Which summarization catches."""
    upstream.will(failure(400, "too long", "context_length_exceeded"))
    with pytest.raises(langchain.ContextOverflowError):
        ChatAistrale(**options(upstream)).invoke("Hello")


def test_a_model_can_be_pickled_and_shows_no_key(behaving: Upstream) -> None:
    """Used before or not."""
    model = ChatAistrale(**options(behaving, api_key="sk-very-secret"))
    model.invoke("Hello")
    again = pickle.loads(pickle.dumps(model))
    assert again.invoke("Hello").text == model.invoke("Hello").text
    assert "very-secret" not in f"{model!r} {model} {again!r}"


def test_one_model_serves_many_event_loops(behaving: Upstream) -> None:
    """A script that calls asyncio.run again and again."""
    model = ChatAistrale(**options(behaving))
    assert len({asyncio.run(model.ainvoke("Hello")).text for _ in range(3)}) == 1


# Text


def test_a_chain_of_prompt_model_and_parser(upstream: Upstream) -> None:
    """The first thing people write."""
    chain = PromptTemplate.from_template("Say {word}") | AistraleLLM(**options(upstream)) | StrOutputParser()
    assert chain.invoke({"word": "cheese"}) == "Say cheese"
    assert asyncio.run(chain.ainvoke({"word": "cheese"})) == "Say cheese"
    assert "".join(chain.stream({"word": "cheese"})) == "Say cheese"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_batch_is_asked_at_once_and_each_has_its_usage(upstream: Upstream, way: str) -> None:
    """All of it has been sent before anything is answered; the answers come in order."""
    llm, gate = AistraleLLM(**options(upstream)), Gate()
    upstream.will(*[lambda request: [gate, *plain(completion(request.body["messages"][0]["content"]))]] * 3)

    def ask() -> LLMResult:
        prompts = ["a", "b", "c"]
        return llm.generate(prompts) if way == "sync" else asyncio.run(llm.agenerate(prompts))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        upstream.wait_for_requests(3)
        gate.open()
        result = answer.result()

    assert [each[0].text for each in result.generations] == ["a", "b", "c"]
    infos = [each[0].generation_info or {} for each in result.generations]
    assert [info["usage_metadata"]["total_tokens"] for info in infos] == [5, 5, 5]
    assert (result.llm_output or {})["token_usage"]["total_tokens"] == 15


def test_no_callbacks_are_no_callbacks(upstream: Upstream) -> None:
    """An empty list of them is one."""
    llm = AistraleLLM(**options(upstream))
    assert llm.invoke("Hello", config={"callbacks": []}) == "Hello"
    assert asyncio.run(llm.ainvoke("Hello", config={"callbacks": []})) == "Hello"


@pytest.mark.parametrize("change", ["copied", "assigned", "deeply copied"])
def test_a_model_of_other_settings_calls_by_them(behaving: Upstream, change: str) -> None:
    """Also if it was used before."""
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url)
    model.invoke("Hello")
    if change == "assigned":
        model.model = "gpt-other"
    else:
        model = model.model_copy(update={"model": "gpt-other"}, deep=change == "deeply copied")
    assert model.invoke("Hello").response_metadata["model_name"] == "gpt-other"


def test_the_servers_key_goes_to_no_provider(behaving: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """AISTRALE_API_KEY is for who serves them; a provider gets its own."""
    monkeypatch.setenv("AISTRALE_API_KEY", "ak-server")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    ChatAistrale(model="openai/gpt-test", base_url=behaving.url).invoke("Hello")
    AistraleEmbeddings(model="openai/bge-m3", base_url=behaving.url).embed_query("Hello")
    chat, vectors = behaving.requests
    assert [chat.headers["authorization"], vectors.headers["authorization"]] == ["Bearer sk-provider"] * 2
    assert vectors.body["model"] == "bge-m3"


def test_a_tool_that_failed_is_told_to_openai_in_its_own_words(behaving: Upstream) -> None:
    """It knows no field for that."""
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url)
    call = {"name": "f", "args": {}, "id": "call_1"}
    model.invoke(
        [("user", "Hello"), AIMessage("", tool_calls=[call]), ToolMessage("no", tool_call_id="call_1", status="error")]
    )
    assert behaving.requests[-1].body["messages"][-1] == {"role": "tool", "content": "no", "tool_call_id": "call_1"}


def test_what_is_no_setting_is_an_option_or_a_mistake(behaving: Upstream) -> None:
    """Neither is passed over."""
    options: dict[str, Any] = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": behaving.url}
    AistraleLLM(**options, reasoning_effort="low").invoke("Hello")
    assert behaving.requests[-1].body["reasoning_effort"] == "low"
    for kind in (ChatAistrale, AistraleLLM, AistraleEmbeddings):
        with pytest.raises((TypeError, ValueError), match="temprature"):
            kind(**options, temprature=0.2)


def test_providers_own_tools_stay_as_they_are(behaving: Upstream) -> None:
    """Their type says whose they are."""
    own = {"type": "web_search", "search_context_size": "low"}
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url)
    assert model.bind_tools([own]).kwargs["tools"] == [own]  # type: ignore[attr-defined]


def test_a_stream_is_of_one_answer(behaving: Upstream) -> None:
    """Two at once would be one text."""
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url, n=2)
    with pytest.raises(aistrale.InvalidRequestError, match="one answer"):
        list(model.stream("Hello"))


def test_an_answer_without_a_choice_is_empty(upstream: Upstream) -> None:
    """As filters leave it."""
    empty = {"id": "1", "object": "chat.completion", "model": "m", "choices": [], "usage": {"prompt_tokens": 3}}
    options: dict[str, Any] = {"model": "m", "provider": "openai", "api_key": "sk", "base_url": upstream.url}
    upstream.will(plain(empty), plain(empty))
    answer = ChatAistrale(**options).invoke("Hello")
    assert (answer.content, (answer.usage_metadata or {}).get("input_tokens")) == ("", 3)
    assert AistraleLLM(**options).invoke("Hello") == ""


def test_headers_are_shown_to_nobody(behaving: Upstream) -> None:
    """They may hold a secret."""
    model = ChatAistrale(model="openai/m", api_key="sk", base_url=behaving.url, extra_headers={"X-Key": "hush"})
    assert "hush" not in f"{model!r} {model._get_invocation_params()}"
    model.invoke("Hello")
    assert behaving.requests[-1].headers["x-key"] == "hush"
