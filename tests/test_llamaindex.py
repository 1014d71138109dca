"""AistraleLLM and AistraleEmbedding by LlamaIndex's contracts: all eight methods, tools, shapes, blocks and copies."""

import asyncio
import base64
import json
import os
import pickle
import threading
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    ChatResponse,
    DocumentBlock,
    ImageBlock,
    LogProb,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.core.types import PydanticProgramMode
from model_behaviour import behave
from opentelemetry.sdk.trace import TracerProvider
from programs import printed
from upstream import END_OF_BODY, HANG, Upstream, completion, events, failure, plain

import aistrale
from aistrale import telemetry
from aistrale_llamaindex import AistraleEmbedding, AistraleLLM

ANSWER = "Hello there, how can I help you today?"
SECRET = "sk-very-secret-0123456789"


def options(upstream: Upstream, **more: Any) -> dict[str, Any]:
    known = {"model": "gpt-test", "provider": "openai", "api_key": SECRET, "base_url": upstream.url, "max_retries": 0}
    return {**known, **more}


@pytest.fixture
def llm(upstream: Upstream) -> AistraleLLM:
    upstream.default = behave
    return AistraleLLM(**options(upstream))


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(content=text)]


# The eight methods


async def _last(stream: Any) -> Any:
    return [response async for response in await stream][-1]


CHATS: dict[str, Callable[..., ChatResponse]] = {
    "chat": lambda llm, messages, **more: llm.chat(messages, **more),
    "achat": lambda llm, messages, **more: asyncio.run(llm.achat(messages, **more)),
    "stream_chat": lambda llm, messages, **more: list(llm.stream_chat(messages, **more))[-1],
    "astream_chat": lambda llm, messages, **more: asyncio.run(_last(llm.astream_chat(messages, **more))),
}
COMPLETIONS: dict[str, Callable[..., Any]] = {
    "complete": lambda llm, prompt, **more: llm.complete(prompt, **more),
    "acomplete": lambda llm, prompt, **more: asyncio.run(llm.acomplete(prompt, **more)),
    "stream_complete": lambda llm, prompt, **more: list(llm.stream_complete(prompt, **more))[-1],
    "astream_complete": lambda llm, prompt, **more: asyncio.run(_last(llm.astream_complete(prompt, **more))),
}
every_chat = pytest.mark.parametrize("way", CHATS)
every_completion = pytest.mark.parametrize("way", COMPLETIONS)


def test_importing_it_loads_no_framework(tmp_path: Path) -> None:
    """Not before a name is used."""
    program = """
        import sys
        import aistrale_llamaindex
        print("llama_index" in sys.modules, *dir(aistrale_llamaindex))
    """
    names = "AistraleCallbackHandler AistraleEmbedding AistraleLLM instrument prompt_from_store prompt_to_store"
    assert printed(program, cwd=tmp_path) == f"False {names} uninstrument\n"


def test_the_paths_of_the_ecosystem_lead_to_the_same() -> None:
    """`llama_index.llms.<name>`, beside the core in one namespace."""
    from llama_index.embeddings import aistrale as embeddings
    from llama_index.llms import aistrale as llms

    assert (llms.AistraleLLM, embeddings.AistraleEmbedding) == (AistraleLLM, AistraleEmbedding)


def test_it_is_what_the_core_asks_for() -> None:
    """A custom model that calls functions, by a name that is its class's."""
    assert issubclass(AistraleLLM, CustomLLM)
    assert issubclass(AistraleLLM, FunctionCallingLLM)
    assert AistraleLLM.class_name() == AistraleLLM.__name__
    assert AistraleEmbedding.class_name() == AistraleEmbedding.__name__
    own = vars(AistraleLLM)
    assert {*CHATS, *COMPLETIONS, "metadata"} <= own.keys()


@every_chat
def test_every_chat_says_the_same(llm: AistraleLLM, way: str) -> None:
    """Text, tokens, model and how it ended."""
    response = CHATS[way](llm, user("Hello"))
    assert response.message.content == ANSWER
    told = response.additional_kwargs
    assert (told["model"], told["provider"], told["finish_reason"]) == ("gpt-test", "openai", "stop")
    assert response.raw is not None
    usage = response.raw["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (told["prompt_tokens"], told["completion_tokens"])
    assert usage["total_tokens"] == told["total_tokens"] > 0


@every_completion
def test_every_completion_says_the_same(llm: AistraleLLM, way: str) -> None:
    """As a chat of one message."""
    response = COMPLETIONS[way](llm, "Hello")
    assert response.text == ANSWER
    assert response.raw["usage"]["total_tokens"] == response.additional_kwargs["total_tokens"] > 0


def test_a_stream_grows(llm: AistraleLLM) -> None:
    """Each response holds what there is, and what is new."""
    chats, texts = list(llm.stream_chat(user("Hello"))), list(llm.stream_complete("Hello"))
    assert "".join(chat.delta or "" for chat in chats) == "".join(text.delta or "" for text in texts) == ANSWER
    sofar = ""
    for chat, text in zip(chats, texts, strict=True):
        sofar += chat.delta or ""
        assert (chat.message.content, text.text) == (sofar, sofar)


@pytest.mark.parametrize("way", ["stream_chat", "stream_complete"])
def test_a_stream_that_is_left_closes_its_connection(upstream: Upstream, way: str) -> None:
    """At once."""
    upstream.default = events("One ", HANG)
    prompt: Any = user("Hello") if way == "stream_chat" else "Hello"
    stream = getattr(AistraleLLM(**options(upstream)), way)(prompt)
    assert next(stream).delta == "One "
    stream.close()
    upstream.wait_until_open(0)


@every_chat
def test_reasoning_is_a_block_and_goes_back(upstream: Upstream, way: str) -> None:
    """With all that its provider wants of it."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, model="reasoner", provider="deepseek"))
    response = CHATS[way](llm, user("What is 6 * 7?"))
    (thought,) = [block for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    assert (thought.content, response.message.content) == ("Six times seven.", "Forty-two.")
    llm.chat([*user("What is 6 * 7?"), response.message, *user("Sure?")])
    assert upstream.requests[-1].body["messages"][1]["reasoning_content"] == "Six times seven."


@every_chat
def test_errors_are_ours(upstream: Upstream, way: str) -> None:
    """As everywhere else."""
    upstream.default = lambda request: failure(429)
    with pytest.raises(aistrale.RateLimitError):
        CHATS[way](AistraleLLM(**options(upstream)), user("Hello"))


def test_options_of_the_model_and_of_the_call(llm: AistraleLLM, upstream: Upstream) -> None:
    """The call's own go before; what nobody knows is refused before anything is sent."""
    made = AistraleLLM(**options(upstream, temperature=0.5, max_tokens=7, additional_kwargs={"seed": 1, "top_p": 0.5}))
    made.complete("Hello", temperature=0, seed=2)
    body = upstream.requests[-1].body
    assert (body["temperature"], body["seed"], body["top_p"]) == (0, 2, 0.5)
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    with pytest.raises(TypeError, match="temprature"):
        made.complete("Hello", temprature=0)
    assert len(upstream.requests) == 1


def test_three_event_loops_one_after_the_other(llm: AistraleLLM) -> None:
    """A script that calls asyncio.run again and again."""
    assert {asyncio.run(llm.acomplete("Hello")).text for _ in range(3)} == {ANSWER}


def test_a_server_is_asked_as_it_is_documented(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AistraleLLM(api_url=..., model=..., provider=...)`: the server finds the provider."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")
    llm = AistraleLLM(api_url=f"http://{upstream.host}", model="gpt-4", provider="openai", api_key="ak-server")
    assert llm.complete("cheese").text == "cheese"
    (request,) = upstream.requests
    assert (request.path, request.body["model"]) == ("/v1/chat/completions", "openai/gpt-4")
    assert request.headers["authorization"] == "Bearer ak-server"


@pytest.mark.usefixtures("keeping")
def test_the_books_say_llamaindex(llm: AistraleLLM) -> None:
    """Whole and streamed, once each."""
    llm.complete("Hello")
    list(llm.stream_chat(user("Hello")))
    asyncio.run(llm.achat(user("Hello")))
    (found,) = telemetry.summary(by="surface")
    assert (found.key, found.calls) == ("llamaindex", 3)


# What is known of the model


@pytest.mark.parametrize(
    ("named", "window"),
    [
        ({"model": "openai/gpt-4o"}, 128_000),
        ({"model": "gpt-4o", "provider": "openai"}, 128_000),
        ({"model": "gpt-4o", "provider": "openai", "context_window": 10}, 10),
        ({"model": "gpt-4o", "provider": "openai", "api_url": "http://localhost:16000"}, 128_000),
        ({"model": "of-my-own", "provider": "vllm"}, 3900),
        ({"provider": "echo"}, 3900),
    ],
)
def test_a_context_window_is_that_of_the_model(named: dict[str, Any], window: int) -> None:
    """Any name is taken; LlamaIndex's own default where nothing is known."""
    metadata = AistraleLLM(**named).metadata
    assert metadata.context_window == window
    assert metadata.is_chat_model
    assert metadata.is_function_calling_model


# Tools


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, None),
        ({"tool_required": True}, "required"),
        ({"tool_choice": "none", "tool_required": True}, "none"),
        ({"tool_choice": "add"}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_which_tool_is_to_be_called(llm: AistraleLLM, upstream: Upstream, given: Any, sent: Any) -> None:
    """As LlamaIndex says it; the history stays what it was."""
    history = user("Hello")
    llm.chat_with_tools([ADD], "2 + 3?", chat_history=history, **given)
    body = upstream.requests[0].body
    assert body.get("tool_choice") == sent
    assert body["parallel_tool_calls"] is False
    assert [message["content"] for message in body["messages"]] == ["Hello", "2 + 3?"]
    assert len(history) == 1


def test_without_tools_nothing_is_said_of_them(llm: AistraleLLM, upstream: Upstream) -> None:
    """Providers refuse an empty list."""
    llm.chat_with_tools([], "Hello", tool_required=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & upstream.requests[0].body.keys()


WITH_TOOLS: dict[str, Callable[..., ChatResponse]] = {
    "chat_with_tools": lambda llm, *given, **more: llm.chat_with_tools(*given, **more),
    "achat_with_tools": lambda llm, *given, **more: asyncio.run(llm.achat_with_tools(*given, **more)),
    "stream_chat_with_tools": lambda llm, *given, **more: list(llm.stream_chat_with_tools(*given, **more))[-1],
    "astream_chat_with_tools": lambda llm, *given, **more: asyncio.run(
        _last(llm.astream_chat_with_tools(*given, **more))
    ),
}


@pytest.mark.parametrize("way", WITH_TOOLS)
def test_a_tool_is_called_and_its_result_goes_back(llm: AistraleLLM, upstream: Upstream, way: str) -> None:
    """By its id."""
    response = WITH_TOOLS[way](llm, [ADD], "2 + 3?", tool_required=True)
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_id, call.tool_name, call.tool_kwargs) == ("call_1", "add", {"a": 3, "b": 3})
    result = ChatMessage(role="tool", content="6", additional_kwargs={"tool_call_id": call.tool_id})
    assert llm.chat([*user("2 + 3?"), response.message, result]).message.content == ANSWER
    asked, called, told = upstream.requests[-1].body["messages"]
    assert [asked["content"], told["content"], told["tool_call_id"]] == ["2 + 3?", "6", "call_1"]
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"a": 3, "b": 3}


def test_several_calls_where_one_is_wanted(upstream: Upstream) -> None:
    """The first; all of them where they are."""
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "add", "arguments": f'{{"a": {n}, "b": {n}}}'}}
        for n in (1, 2)
    ]
    body = completion("")
    body["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": calls},
        "finish_reason": "tool_calls",
    }
    upstream.default = lambda request: plain(body)
    llm = AistraleLLM(**options(upstream))
    for allowed, expected in ((False, ["2"]), (True, ["2", "4"])):
        answer = llm.predict_and_call([ADD], "Add", allow_parallel_tool_calls=allowed)
        assert [str(source) for source in answer.sources] == expected


@pytest.mark.parametrize("allowed", [False, True])
def test_several_calls_in_a_stream_where_one_is_wanted(upstream: Upstream, allowed: bool) -> None:
    """The first from the beginning to the end; all of them where they are."""
    called = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 1}'}}
    calls = [{"index": n, "id": f"call_{n}", **called} for n in (0, 1)]
    told = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]} for call in calls]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    upstream.default = [*events(*[json.dumps(each).encode() for each in (*told, end)], b"[DONE]"), END_OF_BODY]
    llm = AistraleLLM(**options(upstream))
    found = list(llm.stream_chat_with_tools([ADD], "Add", allow_parallel_tool_calls=allowed))
    counts = [len(response.message.additional_kwargs["tool_calls"]) for response in found]
    assert counts == ([1, 2, 2] if allowed else [1, 1, 1])
    assert all(
        count == sum(isinstance(block, ToolCallBlock) for block in response.message.blocks)
        for count, response in zip(counts, found, strict=True)
    )


@pytest.mark.parametrize("way", ["stream_chat", "astream_chat"])
def test_a_stream_sends_what_it_was_asked(llm: AistraleLLM, upstream: Upstream, way: str) -> None:
    """Whatever becomes of the list until it is read."""
    messages = user("Hello")

    async def read() -> None:
        stream = await llm.astream_chat(messages)
        messages.append(ChatMessage(content="And?"))
        assert [response async for response in stream]

    if way == "astream_chat":
        asyncio.run(read())
    else:
        stream = llm.stream_chat(messages)
        messages.append(ChatMessage(content="And?"))
        list(stream)
    assert [message["content"] for message in upstream.requests[0].body["messages"]] == ["Hello"]


def test_of_two_calls_that_are_alike_one_is_kept(upstream: Upstream) -> None:
    """Beside it as well."""
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 1}'}}
    body = completion("")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    upstream.default = lambda request: plain(body)
    message = AistraleLLM(**options(upstream)).chat_with_tools([ADD], "Add").message
    assert [block.block_type for block in message.blocks] == ["tool_call"]
    assert len(message.additional_kwargs["tool_calls"]) == 1


def test_the_signature_of_a_call_that_is_kept_goes_back(upstream: Upstream) -> None:
    """Google signs the first of several calls, and refuses it without."""
    calls = [
        {"functionCall": {"name": "add", "args": {"a": 1, "b": 1}}, "thoughtSignature": "c2lnbmVk"},
        {"functionCall": {"name": "add", "args": {"a": 2, "b": 2}}},
    ]
    said = {"candidates": [{"content": {"role": "model", "parts": calls}, "finishReason": "STOP", "index": 0}]}
    upstream.default = lambda request: plain({**said, "modelVersion": "gemini-test", "responseId": "r-1"})
    llm = AistraleLLM(**options(upstream, model="gemini-3-pro", provider="google"))
    message = llm.chat_with_tools([ADD], "Add").message
    (block,) = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    result = ChatMessage(role="tool", content="2", additional_kwargs={"tool_call_id": block.tool_call_id})
    llm.chat([*user("Add"), message, result])
    (sent,) = upstream.requests[-1].body["contents"][1]["parts"]
    assert sent == calls[0]


@every_chat
def test_how_likely_tokens_were(upstream: Upstream, way: str) -> None:
    """Of each the likeliest there were, as LlamaIndex has it."""
    likely = [
        {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []},
        {
            "token": "!",
            "logprob": -0.5,
            "bytes": [33],
            "top_logprobs": [{"token": "?", "logprob": -1.5, "bytes": [63]}],
        },
    ]
    body = completion("Hi!")
    body["choices"][0]["logprobs"] = {"content": likely}
    piece = {"index": 0, "delta": {"content": "Hi!"}, "logprobs": {"content": likely}, "finish_reason": "stop"}
    streamed = [*events(json.dumps({"choices": [piece]}).encode(), b"[DONE]"), END_OF_BODY]
    upstream.default = lambda request: streamed if request.body.get("stream") else plain(body)
    response = CHATS[way](AistraleLLM(**options(upstream)), user("Hello"), extra_body={"logprobs": True})
    assert response.logprobs == [
        [LogProb(token="Hi", logprob=-0.25, bytes=[72, 105])],
        [LogProb(token="?", logprob=-1.5, bytes=[63])],
    ]


def test_googles_log_probabilities_are_told_alike(upstream: Upstream) -> None:
    """The chosen token alone where no others are listed."""
    tokens = [{"token": "Hi", "tokenId": 1, "logProbability": -0.25}]
    top = [{"candidates": [*tokens, {"token": "Ho", "tokenId": 2, "logProbability": -2.5}]}]
    said: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    llm = AistraleLLM(**options(upstream, model="gemini-test", provider="google"))
    for told, expected in (({}, ["Hi"]), ({"topCandidates": top}, ["Hi", "Ho"])):
        said["logprobsResult"] = {"chosenCandidates": tokens, **told}
        upstream.default = plain({"candidates": [said]})
        (likeliest,) = llm.complete("Hello").logprobs or ()
        assert [entry.token for entry in likeliest] == expected


@pytest.mark.parametrize(
    "told",
    [
        *({"content": [{"token": "Hi"}]}, {"content": [{"token": "Hi", "logprob": None}]}, {"content": [None]}),
        *({"content": [{"token": "Hi", "logprob": -1.0, "top_logprobs": {"a": 1}}]}, {"content": "Hi"}, ["Hi"], "Hi"),
        *({"content": [{"token": "Hi", "logprob": -1.0, "bytes": "61"}]}, {"tokens": ["Hi"], "token_logprobs": [-1.0]}),
    ],
)
def test_log_probabilities_of_another_shape_cost_no_answer(upstream: Upstream, told: Any) -> None:
    """`raw` has them as they came."""
    body = completion("Hi")
    body["choices"][0]["logprobs"] = told
    upstream.default = plain(body)
    response = AistraleLLM(**options(upstream)).complete("Hello")
    assert (response.text, response.logprobs or None) == ("Hi", None)
    assert response.raw["choices"][0]["logprobs"] == told


@pytest.mark.parametrize("way", ["stream_complete", "astream_complete"])
def test_thoughts_of_a_completion_are_told_as_they_come(upstream: Upstream, way: str) -> None:
    """Beside its text."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, model="reasoner", provider="deepseek"))

    async def collected() -> list[Any]:
        return [response async for response in await llm.astream_complete("think")]

    found = list(llm.stream_complete("think")) if way == "stream_complete" else asyncio.run(collected())
    thoughts = "".join(response.additional_kwargs.get("thinking_delta", "") for response in found)
    assert (thoughts, found[-1].text) == ("Six times seven.", "Forty-two.")
    assert "".join(response.delta or "" for response in found) == "Forty-two."


@pytest.mark.parametrize("way", ["stream_chat", "stream_complete"])
def test_of_several_answers_a_stream_is_of_the_first(upstream: Upstream, way: str) -> None:
    """They are not mingled."""
    told = [(0, "A"), (1, "X"), (0, "B"), (1, "Y")]
    pieces = [json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode() for index, text in told]
    ends = [json.dumps({"choices": [{"index": n, "delta": {}, "finish_reason": "stop"}]}).encode() for n in (0, 1)]
    upstream.default = [*events(*pieces, *ends, b"[DONE]"), END_OF_BODY]
    prompt: Any = user("Hello") if way == "stream_chat" else "Hello"
    found = list(getattr(AistraleLLM(**options(upstream)), way)(prompt, n=2))
    assert "".join(response.delta or "" for response in found) == "AB"


def test_no_call_is_an_error_where_one_was_wanted(llm: AistraleLLM) -> None:
    """With what the model said instead."""
    response = llm.chat(user("Hello"))
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(aistrale.OutputError) as caught:
        llm.get_tool_calls_from_response(response)
    assert caught.value.text == ANSWER


# Structured output


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


JOKE = Joke(setup="text", punchline="text")
ABOUT = PromptTemplate("A joke about {what}")


async def _last_shape(llm: AistraleLLM, prompt: Any) -> Any:
    return [shape async for shape in await llm.astream_structured_predict(Joke, prompt, what="cats")][-1]


SHAPES: dict[str, Callable[[AistraleLLM, Any], Any]] = {
    "structured_predict": lambda llm, prompt: llm.structured_predict(Joke, prompt, what="cats"),
    "astructured_predict": lambda llm, prompt: asyncio.run(llm.astructured_predict(Joke, prompt, what="cats")),
    "stream_structured_predict": lambda llm, prompt: list(llm.stream_structured_predict(Joke, prompt, what="cats"))[-1],
    "astream_structured_predict": lambda llm, prompt: asyncio.run(_last_shape(llm, prompt)),
}


@pytest.mark.parametrize("way", SHAPES)
@pytest.mark.parametrize("prompt", [ABOUT, ChatPromptTemplate([ChatMessage(content="A joke about {what}")])])
def test_a_shape_is_filled_in(upstream: Upstream, way: str, prompt: Any) -> None:
    """In its four forms: the tool has to be called, and the system prompt is heeded."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, system_prompt="Be funny."))
    assert SHAPES[way](llm, prompt).model_dump() == JOKE.model_dump()
    (request,) = upstream.requests
    assert request.body["tool_choice"] == "required"
    sent = [(message["role"], message["content"]) for message in request.body["messages"]]
    assert sent == [("system", "Be funny."), ("user", "A joke about cats")]


@pytest.mark.parametrize("way", SHAPES)
def test_the_system_prompt_stands_before_a_templates_own(upstream: Upstream, way: str) -> None:
    """In sync code and in async."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, system_prompt="Be funny."))
    SHAPES[way](llm, ChatPromptTemplate([ChatMessage(role="system", content="Of {what}"), ChatMessage(content="Go")]))
    sent = [(message["role"], message["content"]) for message in upstream.requests[0].body["messages"]]
    assert sent == [("system", "Be funny."), ("system", "Of cats"), ("user", "Go")]


def test_a_prediction_by_itself_is_the_same_in_async_code(upstream: Upstream) -> None:
    """Which is told of no system prompt."""
    upstream.default = behave
    llm = AistraleLLM(**options(upstream, system_prompt="Be funny."))
    llm.predict_and_call([ADD], "2 + 3?")
    asyncio.run(llm.apredict_and_call([ADD], "2 + 3?"))
    first, second = (request.body["messages"] for request in upstream.requests)
    assert first == second


@pytest.mark.parametrize("way", ["complete", "acomplete"])
def test_a_model_that_answers_in_a_shape(llm: AistraleLLM, way: str) -> None:
    """`as_structured_llm`."""
    response = COMPLETIONS[way](llm.as_structured_llm(Joke), "A joke about cats")
    assert json.loads(response.text) == JOKE.model_dump()
    assert response.raw == JOKE


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # LlamaIndex calls it
@every_chat
def test_a_model_that_chats_in_a_shape(llm: AistraleLLM, way: str) -> None:
    """Streamed as well."""
    response = CHATS[way](llm.as_structured_llm(Joke), user("A joke about cats"))
    assert response.raw is not None
    assert response.raw.model_dump() == JOKE.model_dump()


def test_a_shape_by_text(upstream: Upstream) -> None:
    """Of a model that calls no functions."""
    upstream.default = lambda request: plain(completion(JOKE.model_dump_json()))
    for more in ({"is_function_calling_model": False}, {"pydantic_program_mode": PydanticProgramMode.LLM}):
        llm = AistraleLLM(**options(upstream, **more))
        assert llm.structured_predict(Joke, ABOUT, what="cats") == JOKE
        assert "tools" not in upstream.requests[-1].body


# Content


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_content_blocks_are_sent(llm: AistraleLLM, upstream: Upstream, tmp_path: Path) -> None:
    """From data, from a file and by address; what cannot be read is refused."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 mine")
    blocks: list[Any] = [
        TextBlock(text="Look"),
        ImageBlock(image=PNG),
        ImageBlock(path=tmp_path / "a.png", detail="low"),
        ImageBlock(url="https://pictures.example/a.webp"),
        AudioBlock(audio=b"RIFF____WAVEfmt ", format="wav"),
        DocumentBlock(path=tmp_path / "a.pdf", title="mine.pdf"),
    ]
    llm.chat([ChatMessage(blocks=blocks)])
    text, data, file, address, audio, document = upstream.requests[0].body["messages"][0]["content"]
    inline = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert text == {"type": "text", "text": "Look"}
    assert data == {"type": "image_url", "image_url": {"url": inline}}
    assert file == {"type": "image_url", "image_url": {"url": inline, "detail": "low"}}
    assert address == {"type": "image_url", "image_url": {"url": "https://pictures.example/a.webp"}}
    assert base64.b64decode(audio["input_audio"]["data"]) == b"RIFF____WAVEfmt "
    assert document["file"]["filename"] == "mine.pdf"
    assert base64.b64decode(document["file"]["file_data"].partition(",")[2]) == b"%PDF-1.4 mine"
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(aistrale.InvalidRequestError, match="ImageBlock cannot be read"):
        llm.chat([ChatMessage(blocks=[ImageBlock(path=tmp_path / "a.png")])])


def test_a_file_is_not_waited_for_in_the_loop(llm: AistraleLLM, tmp_path: Path) -> None:
    """One that comes slowly, as from a network's disk."""
    slow, goes_on, told = tmp_path / "slow.png", threading.Event(), []
    slow.write_bytes(PNG)
    block = ImageBlock(path=slow)  # which takes nothing but a file
    slow.unlink()
    os.mkfifo(slow)

    def write() -> None:
        told.append(goes_on.wait(10))
        slow.write_bytes(PNG)

    async def ask() -> ChatResponse:
        asking = asyncio.create_task(llm.achat([ChatMessage(blocks=[block])]))
        await asyncio.sleep(0)
        goes_on.set()
        return await asking

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert asyncio.run(ask()).message.content == ANSWER
    writer.join()
    assert told == [True]


def test_a_cache_point_marks_what_is_before_it(upstream: Upstream) -> None:
    """As Anthropic has it."""
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
    said = {"content": [{"type": "text", "text": "Hi"}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    upstream.default = lambda request: plain({**answer, **said})
    llm = AistraleLLM(**options(upstream, model="claude-test", provider="anthropic"))
    point = CachePoint(cache_control={"type": "ephemeral", "ttl": "1h"})
    llm.chat([ChatMessage(blocks=[TextBlock(text="long"), point, TextBlock(text="short")])])
    long, short = upstream.requests[0].body["messages"][0]["content"]
    assert long == {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert short == {"type": "text", "text": "short"}


def test_an_answer_that_was_changed_goes_back_as_it_now_reads(llm: AistraleLLM, upstream: Upstream) -> None:
    """Calls that were made up as well."""
    message = llm.chat(user("Hello")).message
    message.blocks = [TextBlock(text="Changed"), ToolCallBlock(tool_call_id="c", tool_name="add", tool_kwargs={"a": 1})]
    llm.chat([*user("Hello"), message, ChatMessage(role="tool", content="1", additional_kwargs={"tool_call_id": "c"})])
    sent = upstream.requests[-1].body["messages"][1]
    assert sent["content"] == "Changed"
    assert sent["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}


# Copies, and what they show


COPIES: dict[str, Callable[[AistraleLLM], AistraleLLM]] = {
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),
    "deepcopy": deepcopy,
    "from_dict": lambda llm: AistraleLLM.from_dict({**llm.to_dict(), "api_key": SECRET}),
    "from_json": lambda llm: AistraleLLM.from_json(llm.to_json(), api_key=SECRET),
    "model_copy": lambda llm: llm.model_copy(),
}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_works(llm: AistraleLLM, copied: str, used: bool) -> None:
    """Of a model that was used or not, in both kinds of code."""
    if used:
        llm.complete("Hello")
        asyncio.run(llm.acomplete("Hello"))
    again = COPIES[copied](llm)
    assert again.complete("Hello").text == asyncio.run(again.acomplete("Hello")).text == ANSWER
    assert again.model == "gpt-test"


def test_what_cannot_be_pickled_is_left_out_and_told_of(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    """The other options come along, and the model that was pickled keeps all of them."""
    upstream.default = behave
    mixed = {"tracer_provider": TracerProvider(), "extra_headers": {"X-Team": "search"}}
    llm = AistraleLLM(**options(upstream), client_options=mixed)
    again = pickle.loads(pickle.dumps(llm))
    assert again.client_options == {"extra_headers": {"X-Team": "search"}}
    assert "a pickled AistraleLLM goes without tracer_provider" in caplog.text
    assert "tracer_provider" in llm.client_options
    for model in (llm, again):
        assert model.complete("Hello").text == ANSWER
    assert [request.headers["x-team"] for request in upstream.requests] == ["search", "search"]


def test_a_copys_options_are_its_own(upstream: Upstream) -> None:
    """Setting them changes no other model."""
    llm = AistraleLLM(**options(upstream), client_options={"extra_headers": {"X-Team": "search"}})
    for again in (copy(llm), deepcopy(llm), llm.model_copy()):
        again.client_options["extra_headers"] = {"X-Team": "ads"}
    assert llm.client_options == {"extra_headers": {"X-Team": "search"}}


@pytest.mark.parametrize("kind", [AistraleLLM, AistraleEmbedding])
@pytest.mark.parametrize(
    ("name", "hint"),
    [("api_base", "did you mean 'base_url'"), ("modle", "did you mean 'model'"), ("zzz", "goes into client_options")],
)
def test_an_option_there_is_not_is_refused(kind: Any, name: str, hint: str) -> None:
    """LlamaIndex would pass over it, and over where the call was to go."""
    with pytest.raises(ValueError, match=f"there is no option '{name}'; .*{hint}"):
        kind(**{name: "http://my-proxy/v1"})


@pytest.mark.parametrize("kind", [AistraleLLM, AistraleEmbedding])
def test_a_password_in_an_address_is_shown_to_nobody(kind: Any) -> None:
    """Nor written."""
    model = kind(model="m", base_url="http://ada:secretpw@models.example/v1", api_url="http://ada:secretpw@host")
    assert "secretpw" not in f"{model!r} {model} {model.to_dict()} {model.to_payload()} {model.to_json()}"
    assert "models.example" in repr(model)
    assert pickle.loads(pickle.dumps(model)).base_url == "http://ada:secretpw@models.example/v1"


def test_copies_have_connections_of_their_own(upstream: Upstream) -> None:
    """Which they keep, whatever the others ask; what a client is made with is not copied."""
    upstream.default = behave
    one = AistraleLLM(**options(upstream, client_options={"tracer_provider": TracerProvider()}))
    two, three = one.model_copy(update={"model": "gpt-other"}), deepcopy(one)
    for _ in range(5):
        for llm in (one, two, three):
            llm.complete("Hello")
    assert upstream.accepted == 3
    assert three.client_options["tracer_provider"] is one.client_options["tracer_provider"]


def test_a_setting_that_is_changed_holds(llm: AistraleLLM, upstream: Upstream) -> None:
    """From the next call on."""
    llm.complete("Hello")
    llm.model = "gpt-other"
    llm.complete("Hello")
    assert [request.body["model"] for request in upstream.requests] == ["gpt-test", "gpt-other"]


def test_its_key_is_shown_to_nobody(llm: AistraleLLM, upstream: Upstream) -> None:
    """Neither in what is written, nor to handlers."""
    llm.complete("Hello")
    assert upstream.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    shown = [repr(llm), str(llm), llm.to_dict(), llm.to_json(), llm.to_payload(), llm.metadata]
    assert SECRET not in str(shown)
    payload = llm.to_payload()
    assert (payload["model"], payload["provider"], payload["temperature"]) == ("gpt-test", "openai", None)


@pytest.mark.parametrize("way", [*CHATS, *COMPLETIONS])
def test_llamaindexes_own_counter_counts(upstream: Upstream, way: str) -> None:
    """The tokens that the provider counted, streamed too, and a call once."""
    upstream.default = behave
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = AistraleLLM(**options(upstream), callback_manager=CallbackManager([counter]))
    if way in CHATS:
        response: Any = CHATS[way](llm, user("Hello"))
    else:
        response = COMPLETIONS[way](llm, "Hello")
    assert len(counter.llm_token_counts) == 1
    assert response.raw is not None
    usage = response.raw["usage"]
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )


# Embeddings


EMBEDDING: dict[str, Callable[[AistraleEmbedding, list[str]], list[list[float]]]] = {
    "one by one": lambda model, texts: [model.get_text_embedding(text) for text in texts],
    "queries": lambda model, texts: [model.get_query_embedding(text) for text in texts],
    "together": lambda model, texts: model.get_text_embedding_batch(texts),
    "async one by one": lambda model, texts: [asyncio.run(model.aget_text_embedding(text)) for text in texts],
    "async queries": lambda model, texts: [asyncio.run(model.aget_query_embedding(text)) for text in texts],
    "async together": lambda model, texts: asyncio.run(model.aget_text_embedding_batch(texts)),
}


def embedding(upstream: Upstream, **more: Any) -> AistraleEmbedding:
    upstream.default = behave
    return AistraleEmbedding(**options(upstream, model="embed-test", **more))


@pytest.mark.parametrize("way", EMBEDDING)
def test_vectors_come_in_the_order_of_the_texts(upstream: Upstream, way: str) -> None:
    """Their first number is the length of the text."""
    vectors = EMBEDDING[way](embedding(upstream), ["a", "bb", "ccc"])
    assert [vector[0] for vector in vectors] == [1.0, 2.0, 3.0]
    assert len(upstream.requests) == (1 if way.endswith("together") else 3)


@pytest.mark.parametrize("way", ["together", "async together"])
def test_a_request_has_as_many_texts_as_the_provider_takes(upstream: Upstream, way: str) -> None:
    """However many LlamaIndex hands over."""
    model = embedding(upstream, provider="together")
    assert len(EMBEDDING[way](model, ["x"] * 70)) == 70
    assert [len(request.body["input"]) for request in upstream.requests] == [32, 32, 6]


def test_embeddings_without_a_model_are_of_the_same_one_in_every_copy(upstream: Upstream) -> None:
    """The provider's usual one, and none that is called unknown."""
    upstream.default = behave
    model = AistraleEmbedding(**options(upstream, model=None))
    read = AistraleEmbedding.from_dict({**model.to_dict(), "api_key": SECRET})
    for each in (model, deepcopy(model), pickle.loads(pickle.dumps(model)), read):
        each.get_query_embedding("abc")
    assert {request.body["model"] for request in upstream.requests} == {"text-embedding-3-small"}
    assert len(upstream.requests) == 4


@pytest.mark.parametrize("name", ["model", "model_name"])
def test_another_model_is_another_by_both_names(upstream: Upstream, name: str) -> None:
    """Whichever of them is set."""
    model = embedding(upstream)
    upstream.default = behave
    setattr(model, name, "embed-large")
    assert (model.model, model.model_name) == ("embed-large", "embed-large")
    model.get_query_embedding("abc")
    assert upstream.requests[-1].body["model"] == "embed-large"


def test_embeddings_are_named_and_copied(upstream: Upstream) -> None:
    """By LlamaIndex's name for the model as well."""
    model = AistraleEmbedding(**{**options(upstream), "model": None, "model_name": "embed-test"}, dimensions=3)
    upstream.default = behave
    assert (model.model, model.model_name) == ("embed-test", "embed-test")
    for again in (model, deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.get_query_embedding("abc")[0] == 3.0
    assert {request.body["dimensions"] for request in upstream.requests} == {3}
    assert SECRET not in f"{model!r} {model.to_dict()} {model.to_payload()}"
