"""What OpenAI is sent, and what those who speak its protocol: https://platform.openai.com/docs/api-reference/chat."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
import wording
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import Is, snapshot
from sdk_types import misfits
from shapes import (
    BARE_TOOL,
    KEY,
    PNG,
    SCHEMA_TOOL,
    Weather,
    added,
    after_a_call,
    body_of,
    file,
    image,
    result,
    route_to,
    sent,
    sent_to_embed,
    user,
)
from strategies import json_values, messages

from aistrale.exceptions import InvalidRequestError
from aistrale.http import encode_json
from aistrale.models import Message, ReasoningBlock, ToolCall
from aistrale.providers.anthropic import decode_content
from aistrale.providers.google import decode_parts
from aistrale.providers.openai import decode_embedding_request, decode_request, encode_body

MODEL = "openai/gpt-4o"


def test_a_request_is_posted_with_its_key() -> None:
    """Address, headers and the smallest body there is."""
    assert wording.posted(MODEL, "Authorization", "Bearer ") == snapshot(
        (
            "POST",
            "https://api.openai.com/v1/chat/completions",
            {"Content-Type": "application/json"},
            {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
        )
    )


def test_a_stream_is_asked_for_its_usage() -> None:
    """Without being asked, OpenAI counts no tokens in a stream."""
    assert sent(MODEL, stream=True).url == sent(MODEL).url
    assert json.loads(sent(MODEL, stream=True).body) == {
        **body_of(MODEL),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_users_stream_options_are_joined_with_ours() -> None:
    """`extra_body` is laid over what we would send, key by key; that it streams is not the caller's to say."""
    body = body_of(MODEL, stream=True, extra_body={"stream_options": {"include_obfuscation": False}, "stream": False})
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert body["stream"] is True


CONVERSATIONS = {
    "every role": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": "Hello."},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "content": "Why?"},
    ],
    "calls and results": after_a_call(result("a", "Rain"), result("b", [{"type": "text", "text": "Sun"}])),
    "an old function call": wording.AN_OLD_CALL,
    "a call of a free-text tool": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}],
        },
        result("a", "1"),
    ],
    "image, audio and files": user(
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        image("https://pictures.example/a.png"),
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}},
        wording.A_PDF,
        file(file_id="file-1"),
    ),
    "a refusal in parts": wording.A_REFUSAL,
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_openai_shaped_messages_are_sent_as_they_are(messages: list[Any]) -> None:
    """It is the shape we take, so nothing is lost, added or moved."""
    assert body_of(MODEL, messages)["messages"] == messages


def test_parts_of_another_type_go_through() -> None:
    """Compatible providers have more types of parts than OpenAI; what they mean is theirs."""
    messages = user({"type": "document_url", "document_url": "https://files.example/a.pdf"})
    assert json.loads(sent("mistral/any", messages).body)["messages"] == messages


OPTIONS: list[tuple[dict[str, Any], Any]] = [
    ({"max_tokens": 100}, snapshot({"max_tokens": 100})),
    ({"stop": "END"}, snapshot({"stop": "END"})),
    (
        {"stop": ["END", "STOP"], "n": 2, "seed": 7, "user": "u-1"},
        snapshot({"stop": ["END", "STOP"], "seed": 7, "n": 2, "user": "u-1"}),
    ),
    (
        {"temperature": 0, "top_p": 0.9, "frequency_penalty": 0.1, "presence_penalty": 0.2},
        snapshot({"temperature": 0, "top_p": 0.9, "frequency_penalty": 0.1, "presence_penalty": 0.2}),
    ),
    ({"metadata": {"team": "a"}}, snapshot({})),
    ({"metadata": {"team": "a"}, "extra_body": {"store": True}}, snapshot({"metadata": {"team": "a"}, "store": True})),
    (
        {"extra_body": {"logit_bias": {"1": 2}, "temperature": 1}, "temperature": 0.5},
        snapshot({"temperature": 1, "logit_bias": {"1": 2}}),
    ),
    (
        {"response_format": Weather},
        snapshot(
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "Weather", "schema": Is(wording.STRICT_WEATHER), "strict": True},
                }
            }
        ),
    ),
    (
        {"response_format": {"title": "my answer", "type": "object", "properties": {}}},
        snapshot(
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "my_answer",
                        "schema": {"title": "my answer", "type": "object", "properties": {}},
                    },
                }
            }
        ),
    ),
    ({"response_format": {"type": "json_object"}}, snapshot({"response_format": {"type": "json_object"}})),
    (
        {"tools": wording.TOOLS},
        snapshot(
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "get_weather",
                            "description": "The weather of a city.",
                            "parameters": Is(wording.GET_WEATHER),
                        },
                    },
                    {
                        "type": "function",
                        "function": {
                            "name": "Weather",
                            "description": "Report the weather.",
                            "parameters": Is(wording.WEATHER),
                        },
                    },
                    {
                        "type": "function",
                        "function": {
                            "name": "get_time",
                            "description": "The time of day.",
                            "parameters": Is(wording.GET_TIME),
                        },
                    },
                    {"type": "function", "function": {"name": "ping"}},
                ]
            }
        ),
    ),
    (
        {"tools": [{"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}]},
        snapshot({"tools": [{"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}]}),
    ),
]


@pytest.mark.parametrize(("options", "wanted"), OPTIONS, ids=[str([*options]) for options, _ in OPTIONS])
def test_an_option_is_sent_under_its_name(options: dict[str, Any], wanted: Any) -> None:
    """Options are OpenAI's own; metadata goes along only with `store`, without which it is refused."""
    assert added(MODEL, **options) == wanted


def test_a_providers_own_tool_goes_through() -> None:
    """A tool of a type OpenAI's chat does not have is the provider's to judge."""
    tool = {"type": "openrouter:web_search", "parameters": {"max_results": 3}}
    assert json.loads(sent("openrouter/any", tools=[tool]).body)["tools"] == [tool]


CHOICES: list[tuple[dict[str, Any], Any]] = [
    ({"tool_choice": "auto"}, snapshot({"tool_choice": "auto"})),
    ({"tool_choice": "none"}, snapshot({"tool_choice": "none"})),
    (
        {"tool_choice": "required", "parallel_tool_calls": False},
        snapshot({"tool_choice": "required", "parallel_tool_calls": False}),
    ),
    (
        {"tool_choice": "any", "parallel_tool_calls": True},
        snapshot({"tool_choice": "required", "parallel_tool_calls": True}),
    ),
    ({"tool_choice": "get_time"}, snapshot({"tool_choice": {"type": "function", "function": {"name": "get_time"}}})),
    (
        {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
        snapshot({"tool_choice": {"type": "function", "function": {"name": "get_time"}}}),
    ),
    (
        {"tool_choice": {"type": "custom", "custom": {"name": "sql"}}},
        snapshot({"tool_choice": {"type": "custom", "custom": {"name": "sql"}}}),
    ),
]


@pytest.mark.parametrize(("options", "wanted"), CHOICES, ids=[str(options) for options, _ in CHOICES])
def test_a_tool_is_chosen(options: dict[str, Any], wanted: Any) -> None:
    """Words as they are, a tool's name in OpenAI's shape, and its shape as it is."""
    body = body_of(MODEL, tools=[SCHEMA_TOOL], **options)
    assert {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body} == wanted


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.6-luna", "gpt-6-astra", "gpt-6.1-terra"]
)
def test_reasoning_models_get_the_newer_limit(provider: str, model: str) -> None:
    """They refuse `max_tokens`: https://platform.openai.com/docs/guides/reasoning."""
    options = added(f"{provider}/{model}", max_tokens=100, reasoning_effort="low")
    assert options == {"max_completion_tokens": 100, "reasoning_effort": "low"}


def test_a_limit_under_both_names_is_sent_once() -> None:
    """Where `extra_body` gives the newer name, the older is not sent beside it."""
    request, _ = decode_request(
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "max_completion_tokens": 9}
    )
    body = encode_body(request, route_to("openai/gpt-5"), stream=False)
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body


# Requests that were OpenAI's to begin with

request_bodies = st.builds(
    lambda known, extra, messages: {**extra, **known, "messages": messages},
    st.fixed_dictionaries(
        {"model": st.just("any")},
        optional={
            "temperature": st.none() | st.floats(0, 2) | st.integers(0, 2),
            "top_k": st.none() | st.integers(1, 9),
            "max_tokens": st.none() | st.integers(1, 9),
            "max_completion_tokens": st.none() | st.integers(1, 9),
            "stop": st.none() | st.text() | st.lists(st.text()),
            "n": st.none() | st.integers(1, 3),
            "tools": st.none() | st.just([SCHEMA_TOOL, BARE_TOOL]),
            "tool_choice": st.none() | st.sampled_from(["auto", {"type": "function", "function": {"name": "ping"}}]),
            "response_format": st.none() | st.just({"type": "json_object"}),
            "metadata": st.none() | st.dictionaries(st.text(), st.text()),
            "user": st.none() | st.text(),
            "stream": st.none() | st.just(False),
        },
    ),
    st.dictionaries(st.sampled_from(["logit_bias", "reasoning", "x"]), json_values),
    st.lists(messages, max_size=3).map(lambda some: [*some, {"role": "user", "content": "Hi"}]),
)


@given(request_bodies)
def test_any_request_survives_reading_and_writing(body: dict[str, Any]) -> None:
    """To a provider without quirks, every field goes on as it came: known or not, null or not."""
    request, stream = decode_request(body)
    sent_on = json.loads(encode_json(encode_body(request, route_to("vllm/any"), stream=stream)))
    assert sent_on == {**body, "messages": [with_content(message) for message in body["messages"]]}


def with_content(message: dict[str, Any]) -> dict[str, Any]:
    """An answer that says nothing, not even by a call, says the empty text: it must have content."""
    is_empty = message["role"] == "assistant" and "content" not in message and not message.get("tool_calls")
    return {**message, "content": ""} if is_empty else message


def test_what_openais_sdk_writes_of_an_answer_is_taken_back() -> None:
    """`message.model_dump()` is how many keep their history: it says null for all there was not."""
    from openai.types.chat import ChatCompletionMessage

    dumped = ChatCompletionMessage(role="assistant", content="Rome.", annotations=[]).model_dump()
    body = json.loads(sent(MODEL, [Message("user", "Hi"), Message.from_dict(dumped), Message("user", "So?")]).body)
    assert body["messages"][1] == {key: value for key, value in dumped.items() if key != "annotations"}


MALFORMED: list[dict[str, Any]] = [
    {},
    {"messages": None},
    {"messages": "Hi"},
    {"messages": 7},
    {"messages": ["Hi"]},
    {"messages": [{"role": "user", "content": "Hi"}], "tools": 7},
    {"messages": [{"role": "user", "content": "Hi"}], "tools": {"type": "function"}},
    {"messages": [{"role": "user", "content": "Hi"}], "model": 7},
    {"messages": [{"role": "user", "content": "Hi"}], "temperature": "hot"},
]


@pytest.mark.parametrize("body", MALFORMED, ids=str)
def test_a_malformed_request_is_refused(body: dict[str, Any]) -> None:
    """As the caller's mistake, whatever it is."""
    with pytest.raises(InvalidRequestError):
        decode_request(body)


@pytest.mark.parametrize("inputs", [None, 7, "", [], {"a": 1}, [None], [{}]], ids=str)
def test_a_malformed_request_to_embed_is_refused(inputs: Any) -> None:
    """The same for embeddings."""
    with pytest.raises(InvalidRequestError):
        decode_embedding_request({"input": inputs})


# Departures


@pytest.mark.parametrize("provider", ["openai", "azure", "groq", "mistral"])
def test_top_k_is_not_sent_to_who_refuses_it(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    """OpenAI has no `top_k` and refuses unknown arguments, as do these: it only tunes, so a log line will do."""
    with caplog.at_level(logging.WARNING, "aistrale"):
        assert added(f"{provider}/any", top_k=40) == {}
    assert "top_k" in caplog.text


@pytest.mark.parametrize("provider", ["openrouter", "together", "vllm", "ollama", "huggingface"])
def test_top_k_is_sent_to_who_takes_it(provider: str) -> None:
    """Open models are sampled with it."""
    assert json.loads(sent(f"{provider}/any", top_k=40).body)["top_k"] == 40


def test_mistral_knows_some_fields_by_other_names(caplog: pytest.LogCaptureFixture) -> None:
    """`seed` is `random_seed`; `user` is refused, so left out and logged; usage comes unasked.

    Source: https://docs.mistral.ai/api/endpoint/chat.
    """
    with caplog.at_level(logging.WARNING, "aistrale"):
        body = json.loads(sent("mistral/mistral-small-latest", stream=True, seed=7, user="u-1", max_tokens=9).body)
    assert body == snapshot(
        {
            "model": "mistral-small-latest",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 9,
            "random_seed": 7,
            "stream": True,
        }
    )
    assert "user" in caplog.text


def test_mistral_gets_a_limit_under_the_only_name_it_knows() -> None:
    """`max_completion_tokens`, which OpenAI's clients send, is refused by Mistral: it is `max_tokens` there."""
    request, _ = decode_request({"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 9})
    body = encode_body(request, route_to("mistral/any"), stream=False)
    assert (body.get("max_tokens"), "max_completion_tokens" in body) == (9, False)


def test_mistral_is_not_told_a_users_name() -> None:
    """Its messages of users have no `name`, and one that has is refused."""
    named = {"role": "user", "content": "Hi", "name": "ann"}
    assert body_of("mistral/any", [named])["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("id", ["abcDEF123", "call_0123456789abcdef", "toolu_01", "", "functions.get_weather:0"])
def test_mistrals_tool_ids_have_nine_characters(id: str) -> None:
    """A fitting id stays, any other becomes one that fits, the same for the call and its result."""
    messages = body_of("mistral/any", after_a_call(result(id, "Sun")))["messages"]
    used = messages[1]["tool_calls"][0]["id"]
    assert used == messages[2]["tool_call_id"]
    assert len(used) == 9
    assert used.isalnum()
    assert used == id or len(id) != 9


def test_ids_that_are_made_to_fit_stay_apart() -> None:
    """Two calls of one turn do not get the same id."""
    messages = body_of("mistral/any", after_a_call(result("call_a", "Sun"), result("call_b", "Rain")))["messages"]
    assert len({call["id"] for call in messages[1]["tool_calls"]}) == 2


DETAILS = {"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1", "index": 0}
THOUGHT = Message(
    "assistant",
    None,
    tool_calls=(ToolCall("call_1", "ping"),),
    reasoning_blocks=(ReasoningBlock("Hm.", "s", None, DETAILS),),
)


def assistant_turn(model: str, message: Message) -> Any:
    return json.loads(sent(model, wording.going_on(message)).body)["messages"][1]


REASONING: list[tuple[str, Any]] = [
    (
        "openai",
        snapshot(
            {
                "role": "assistant",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}],
            }
        ),
    ),
    (
        "deepseek",
        snapshot(
            {
                "role": "assistant",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}],
                "reasoning_content": "Hm.",
                "content": None,
            }
        ),
    ),
    (
        "openrouter",
        snapshot(
            {
                "role": "assistant",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}],
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "Hm.",
                        "signature": "s",
                        "format": "anthropic-claude-v1",
                        "index": 0,
                    }
                ],
            }
        ),
    ),
    (
        "ollama",
        snapshot(
            {
                "role": "assistant",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}],
                "reasoning": "Hm.",
            }
        ),
    ),
    (
        "groq",
        snapshot(
            {
                "role": "assistant",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": "{}"}}],
            }
        ),
    ),
    (
        "mistral",
        snapshot(
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "74196fe72", "type": "function", "function": {"name": "ping", "arguments": "{}"}}
                ],
            }
        ),
    ),
]


@pytest.mark.parametrize(("provider", "wanted"), REASONING, ids=[name for name, _ in REASONING])
def test_reasoning_goes_back_to_who_wants_it(provider: str, wanted: Any) -> None:
    """Under each provider's name for it, and to no other: most refuse a field they do not know."""
    assert assistant_turn(f"{provider}/any", THOUGHT) == wanted


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        (ReasoningBlock("Hm.", "s"), snapshot({"type": "reasoning.text", "text": "Hm.", "signature": "s"})),
        (ReasoningBlock("Hm."), snapshot({"type": "reasoning.text", "text": "Hm.", "signature": None})),
        (ReasoningBlock(data="opaque"), {"type": "reasoning.encrypted", "data": "opaque"}),
    ],
    ids=["signed", "plain", "encrypted"],
)
def test_reasoning_of_another_provider_is_shaped_for_openrouter(block: ReasoningBlock, wanted: Any) -> None:
    """Its details say of what kind they are: https://openrouter.ai/docs/use-cases/reasoning-tokens."""
    turn = assistant_turn("openrouter/any", Message("assistant", "Rome.", reasoning_blocks=(block,)))
    assert turn["reasoning_details"] == [wanted]


# History of other providers

FOREIGN = {
    "anthropic": decode_content(
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Köln"}},
        ]
    ),
    "google": decode_parts(
        [{"functionCall": {"name": "get_weather", "args": {"city": "Köln"}}, "thoughtSignature": "c2ln"}], "r-1", 0
    ),
}


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        (
            "anthropic",
            snapshot(
                {
                    "role": "assistant",
                    "content": "Looking.",
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'},
                        }
                    ],
                }
            ),
        ),
        (
            "google",
            snapshot(
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1872d4cdc7207384",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'},
                        }
                    ],
                }
            ),
        ),
    ],
    ids=["anthropic", "google"],
)
def test_another_providers_answer_becomes_a_message(provider: str, wanted: Any) -> None:
    """Text and calls in OpenAI's shape, which its types allow; what only that provider reads stays out."""
    message = FOREIGN[provider]
    assert assistant_turn(MODEL, message) == wanted
    assert misfits("openai", json.loads(sent(MODEL, [Message("user", "Hi"), message]).body)) == []


def test_a_call_without_words_says_so_to_deepseek() -> None:
    """DeepSeek wants `content` in every message, null beside calls, and refuses one that leaves it out."""
    assert assistant_turn("deepseek/any", FOREIGN["google"])["content"] is None


@pytest.mark.parametrize(("provider", "kept"), [("openrouter", True), ("groq", False), ("mistral", False)])
def test_annotations_go_back_only_to_who_reads_them(provider: str, kept: bool) -> None:
    """OpenRouter spares itself the parsing of a file it annotated; strict servers refuse a field they do not know.

    Source: https://openrouter.ai/docs/features/multimodal/pdfs, "Skip Parsing Costs".
    """
    annotations = [{"type": "file", "file": {"hash": "h"}}]
    turn = assistant_turn(f"{provider}/any", Message("assistant", "Rome.", extra={"annotations": annotations}))
    assert turn == {"role": "assistant", "content": "Rome."} | ({"annotations": annotations} if kept else {})


def test_a_spoken_answer_is_named_not_sent_again() -> None:
    """OpenAI keeps it for an hour: https://platform.openai.com/docs/guides/audio."""
    spoken = Message("assistant", None, extra={"audio": {"id": "audio_1", "data": "YQ==", "transcript": "Hi"}})
    body = body_of(MODEL, [Message("user", "Hi"), spoken, Message("user", "Again?")])
    assert body["messages"][1] == snapshot({"role": "assistant", "audio": {"id": "audio_1"}, "content": ""})


def test_an_empty_answer_has_empty_content() -> None:
    """An assistant message needs content or calls."""
    assert assistant_turn(MODEL, Message("assistant")) == {"role": "assistant", "content": ""}


# Addresses


BASES = [
    ("openai", "https://proxy.example/v1/", snapshot("https://proxy.example/v1/chat/completions")),
    (
        "azure",
        "https://r.openai.azure.com",
        snapshot("https://r.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
    ),
    (
        "azure",
        "https://r.openai.azure.com/openai/",
        snapshot("https://r.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
    ),
    (
        "azure",
        "https://r.openai.azure.com/?api-version=2025-01-01-preview",
        snapshot(
            "https://r.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2025-01-01-preview"
        ),
    ),
    (
        "azure",
        "https://r.openai.azure.com/openai/v1",
        snapshot("https://r.openai.azure.com/openai/v1/chat/completions"),
    ),
    (
        "azure",
        "https://r.openai.azure.com/openai/v1/?api-version=preview",
        snapshot("https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview"),
    ),
    (
        "azure",
        "https://r.openai.azure.com/openai/deployments/other",
        snapshot("https://r.openai.azure.com/openai/deployments/other/chat/completions?api-version=2024-10-21"),
    ),
    (
        "azure",
        "https://gateway.example/team/openai/deployments/other?api-version=2024-06-01",
        snapshot("https://gateway.example/team/openai/deployments/other/chat/completions?api-version=2024-06-01"),
    ),
]


@pytest.mark.parametrize(("provider", "base", "wanted"), BASES, ids=[base for _, base, _ in BASES])
def test_the_base_url_makes_the_address(provider: str, base: str, wanted: str) -> None:
    """Azure's older API has the deployment in its path and its version in the query; the newer has neither."""
    assert sent(f"{provider}/my gpt", base_url=base).url == wanted


def test_azure_takes_its_key_in_a_header_of_its_own() -> None:
    """And nothing in `Authorization`, which would mean another kind of identity."""
    headers = sent("azure/my-gpt", base_url="https://r.openai.azure.com").headers
    assert headers == {"Content-Type": "application/json", "api-key": KEY}


def test_no_key_sends_no_header() -> None:
    """Local servers run without one."""
    route = replace(route_to("ollama/any"), api_key=None)
    assert route.request("http://localhost:11434", b"").headers == {"Content-Type": "application/json"}


@pytest.mark.parametrize("provider", ["openai", "azure", "mistral"])
def test_texts_to_embed_are_sent_as_they_are(provider: str) -> None:
    """One text or several, with what was asked for besides."""
    request = sent_to_embed(f"{provider}/embedder", ["a", "b"], dimensions=8, extra_body={"encoding_format": "base64"})
    assert request.url.split("?")[0].endswith("/embeddings")
    assert json.loads(request.body) == {
        "model": "embedder",
        "input": ["a", "b"],
        "dimensions": 8,
        "encoding_format": "base64",
    }
