"""A recorded answer goes back to its provider in the next turn as it came, and to any other in its words."""

import json
from itertools import chain
from typing import Any

import pytest
from sdk_types import misfits

from aistrale.models import Completion, CompletionRequest, Message
from aistrale.providers import Route, codec_of, find_profile

from .exchanges import Exchange, params
from .oracles import content_blocks
from .readings import read
from .test_encode import PROVIDER_AT

OPENAI, ANTHROPIC, GOOGLE = params("openai.chat"), params("anthropic.messages"), params("google.generate")


def is_worth_sending_back(exchange: Exchange | None) -> bool:
    """It holds more than text: calls to be answered, or reasoning that its provider wants back."""
    if exchange is None:
        return True
    answer = read(exchange)
    return isinstance(answer, Completion) and bool(answer.tool_calls or answer.message.reasoning_blocks)


def only(parameters: list[Any]) -> list[Any]:
    return [parameter for parameter in parameters if is_worth_sending_back(parameter.values[0])]


def next_request(exchange: Exchange, provider: str) -> dict[str, Any]:
    """The body of the request that follows an answer, its calls answered, to `provider`."""
    answer = read(exchange)
    assert isinstance(answer, Completion)
    results = [Message("tool", '{"done": true}', tool_call_id=call.id) for call in answer.tool_calls]
    question, more = Message("user", "Go."), Message("user", "Go on.")
    profile = find_profile(provider)
    assert profile is not None
    request = CompletionRequest(messages=(question, answer.message, *results, more))
    route = Route(profile, answer.model, "https://provider.example", "sk-secret")
    body: dict[str, Any] = json.loads(codec_of(profile.protocol).encode(request, route, stream=False).body)
    return body


@pytest.mark.parametrize("exchange", only(ANTHROPIC))
def test_anthropic_gets_its_blocks_back(exchange: Exchange) -> None:
    """Thinking with its signature, server tools and their results: every block as Anthropic's SDK holds it."""
    turns = next_request(exchange, "anthropic")["messages"]
    assert turns[1] == {"role": "assistant", "content": content_blocks(exchange)}
    if not exchange.streamed:
        assert turns[1]["content"] == json.loads(exchange.response)["content"]


@pytest.mark.parametrize("exchange", only(GOOGLE))
def test_google_gets_its_parts_back(exchange: Exchange) -> None:
    """Every call and every signature in its order, and all text; unstreamed, the very parts."""
    sent = next_request(exchange, "google")["contents"][1]
    parts = recorded_parts(exchange)
    assert sent["role"] == "model"
    if not exchange.streamed:
        assert sent["parts"] == parts
    for of_part in (function_call, thought_signature):
        assert list(map(of_part, filter(of_part, sent["parts"]))) == list(map(of_part, filter(of_part, parts)))
    for thought in (True, False):
        assert text_of(sent["parts"], thought) == text_of(parts, thought)


def recorded_parts(exchange: Exchange) -> list[dict[str, Any]]:
    lines = exchange.response.splitlines() if exchange.streamed else [exchange.response.replace("\n", "")]
    bodies = [json.loads(line.removeprefix("data: ")) for line in lines if line.strip()]
    return list(chain.from_iterable(body["candidates"][0].get("content", {}).get("parts", []) for body in bodies))


def function_call(part: dict[str, Any]) -> Any:
    return "functionCall" in part and part


def thought_signature(part: dict[str, Any]) -> Any:
    return part.get("thoughtSignature")


def text_of(parts: list[dict[str, Any]], thought: bool) -> str:
    return "".join(part.get("text", "") for part in parts if part.get("thought", False) is thought)


@pytest.mark.parametrize("exchange", only(OPENAI))
def test_openai_shaped_calls_go_back_as_they_came(exchange: Exchange) -> None:
    """Text, and calls with their ids and their arguments to the letter, each followed by its result."""
    _, turn, *results, _ = next_request(exchange, PROVIDER_AT.get(exchange.host, "vllm"))["messages"]
    answer = read(exchange)
    assert isinstance(answer, Completion)
    message = answer.raw["choices"][0]["message"] if exchange.streamed else recorded_message(exchange)
    assert turn["role"] == "assistant"
    assert not isinstance(message.get("content"), str) or turn["content"] == message["content"]
    calls = turn.get("tool_calls", [])
    assert [(call["id"], call["function"]) for call in calls] == [
        (call["id"], call["function"]) for call in message.get("tool_calls") or function_calls(message, calls)
    ]
    assert [result["tool_call_id"] for result in results] == [call["id"] for call in calls]


def recorded_message(exchange: Exchange) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(exchange.response)["choices"][0]["message"]
    return message


def function_calls(message: dict[str, Any], calls: list[Any]) -> list[Any]:
    """What preceded tool calls, a call without an id, as one with the id we made up."""
    return [{"id": calls[0]["id"], "function": message["function_call"]}] if message.get("function_call") else []


@pytest.mark.parametrize("exchange", only(OPENAI))
def test_reasoning_goes_back_where_it_is_wanted(exchange: Exchange) -> None:
    """DeepSeek's text and OpenRouter's details as they came; nobody else is sent any."""
    turn = next_request(exchange, PROVIDER_AT.get(exchange.host, "vllm"))["messages"][1]
    wanted = {"deepseek": "reasoning_content", "openrouter": "reasoning_details", "ollama": "reasoning"}
    field = wanted.get(PROVIDER_AT.get(exchange.host, ""))
    sent = {key: value for key, value in turn.items() if key.startswith("reasoning")}
    told = recorded_message(exchange).get(field) if field and not exchange.streamed else None
    assert sent == ({field: told} if told else {})


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "mistral"])
@pytest.mark.parametrize("exchange", only([*OPENAI, *ANTHROPIC, *GOOGLE]))
def test_any_answer_can_go_to_any_provider(exchange: Exchange, provider: str) -> None:
    """A conversation can be carried on elsewhere, calls and all, in a shape that the provider's SDK allows."""
    body = next_request(exchange, provider)
    answer = read(exchange)
    assert isinstance(answer, Completion)
    sent = json.dumps(body, ensure_ascii=False)
    for call in answer.tool_calls:
        assert call.name in sent
    if provider != exchange.api.partition(".")[0]:
        assert misfits(provider, body) == []
        assert "redacted_thinking" not in sent  # encrypted by another, and readable to nobody else
