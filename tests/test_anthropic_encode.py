"""What Anthropic is sent: https://docs.anthropic.com/en/api/messages."""

import json
import logging
from typing import Any

import pytest
import wording
from inline_snapshot import Is, snapshot
from pydantic import BaseModel, Field
from shapes import (
    SCHEMA_TOOL,
    Weather,
    added,
    after_a_call,
    body_of,
    file,
    image,
    result,
    sent,
    sent_to_embed,
    user,
)

from aistrale.exceptions import InvalidRequestError
from aistrale.models import Message, ReasoningBlock, ToolCall
from aistrale.providers.anthropic import decode_content
from aistrale.providers.google import decode_parts

MODEL = "anthropic/claude-sonnet-4-5"


def test_a_request_is_posted_with_key_and_version() -> None:
    """Address, headers and the smallest body there is: a limit is always sent, for the API requires one."""
    assert wording.posted(MODEL, "x-api-key") == snapshot(
        (
            "POST",
            "https://api.anthropic.com/v1/messages",
            {"Content-Type": "application/json", "anthropic-version": "2023-06-01"},
            {
                "model": "claude-sonnet-4-5",
                "max_tokens": 16384,
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
            },
        )
    )


def test_a_stream_is_asked_for_in_the_body() -> None:
    """The address is the same; usage comes unasked."""
    assert sent(MODEL, stream=True).url == sent(MODEL).url
    assert body_of(MODEL, stream=True) == {**body_of(MODEL), "stream": True}


@pytest.mark.parametrize("base", ["https://proxy.example/a", "https://proxy.example/a/", "https://proxy.example/a/v1"])
def test_the_base_url_may_end_in_its_version_or_not(base: str) -> None:
    """The SDK of Anthropic takes it without, most others with it."""
    assert sent(MODEL, base_url=base).url == "https://proxy.example/a/v1/messages"


CONVERSATIONS = {
    "system": (
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        snapshot(("Be brief.", [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])),
    ),
    "system and developer, wherever they stand": (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": "Be kind."},
        ],
        snapshot(
            (
                """\
Be brief.

Be kind.\
""",
                [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            )
        ),
    ),
    "system parts with a cache mark": (
        [
            {
                "role": "system",
                "content": [{"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "user", "content": "Hi"},
        ],
        snapshot(
            (
                [{"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}],
                [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            )
        ),
    ),
    "neighbours of one role": (
        [
            {"role": "user", "content": "One"},
            {"role": "user", "content": "Two", "name": "ann"},
            {"role": "assistant", "content": "Three"},
            {"role": "assistant", "content": "Four"},
            {"role": "user", "content": "Five"},
        ],
        snapshot(
            (
                None,
                [
                    {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]},
                    {
                        "role": "assistant",
                        "content": [{"type": "text", "text": "Three"}, {"type": "text", "text": "Four"}],
                    },
                    {"role": "user", "content": [{"type": "text", "text": "Five"}]},
                ],
            )
        ),
    ),
    "a refusal": (
        wording.A_REFUSAL,
        snapshot(
            (
                None,
                [
                    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "I will not."}]},
                    {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
                ],
            )
        ),
    ),
    "an empty answer": (
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "Hello?"},
        ],
        snapshot(
            (None, [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Hello?"}]}])
        ),
    ),
}


@pytest.mark.parametrize(("messages", "wanted"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_a_conversation_becomes_alternating_turns(messages: list[Any], wanted: Any) -> None:
    """System texts stand apart, results are the user's, and neighbours of one role are one turn."""
    body = body_of(MODEL, messages)
    assert (body.get("system"), body["messages"]) == wanted


RESULTS: dict[str, tuple[list[Any], Any]] = {
    "parallel": (
        wording.PARALLEL,
        snapshot(
            [
                {"type": "tool_result", "tool_use_id": "a", "content": "Rain"},
                {"type": "tool_result", "tool_use_id": "b", "content": "Sun"},
            ]
        ),
    ),
    "followed by a question": (
        wording.WITH_A_QUESTION,
        snapshot(
            [{"type": "tool_result", "tool_use_id": "a", "content": "Rain"}, {"type": "text", "text": "And tomorrow?"}]
        ),
    ),
    "empty": ([result("a", "")], snapshot([{"type": "tool_result", "tool_use_id": "a"}])),
    "an object": (
        wording.AN_OBJECT,
        snapshot([{"type": "tool_result", "tool_use_id": "a", "content": '{"celsius": 20}'}]),
    ),
    "an error": (
        [result("a", "No such city", is_error=True)],
        snapshot([{"type": "tool_result", "tool_use_id": "a", "content": "No such city", "is_error": True}]),
    ),
    "in parts": (
        wording.IN_PARTS,
        snapshot(
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "content": [
                        {"type": "text", "text": "Map:"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1hZ2U="}},
                    ],
                }
            ]
        ),
    ),
}


@pytest.mark.parametrize(("results", "wanted"), RESULTS.values(), ids=RESULTS.keys())
def test_results_are_one_turn_of_the_user(results: list[Any], wanted: Any) -> None:
    """All results of a turn's calls come first in the next, and whatever the user says after them."""
    turns = body_of(MODEL, after_a_call(*results))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[-1]["content"] == wanted


PARTS = {
    "image as data": (
        wording.AN_IMAGE,
        snapshot({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1hZ2U="}}),
    ),
    "image at an address": (
        image("https://pictures.example/a.webp"),
        snapshot({"type": "image", "source": {"type": "url", "url": "https://pictures.example/a.webp"}}),
    ),
    "image with a cache mark": (
        {**wording.AN_IMAGE, "cache_control": {"type": "ephemeral"}},
        snapshot(
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "aW1hZ2U="},
                "cache_control": {"type": "ephemeral"},
            }
        ),
    ),
    "pdf as data": (
        wording.A_PDF,
        snapshot(
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
                "title": "a.pdf",
            }
        ),
    ),
    "pdf as bare base64": (
        file(filename="a.pdf", file_data="cGRm"),
        snapshot(
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
                "title": "a.pdf",
            }
        ),
    ),
    "pdf at an address": (
        file(file_data="https://files.example/a.pdf"),
        snapshot({"type": "document", "source": {"type": "url", "url": "https://files.example/a.pdf"}}),
    ),
    "document of mistral": (
        {"type": "document_url", "document_url": "https://files.example/a.pdf"},
        snapshot({"type": "document", "source": {"type": "url", "url": "https://files.example/a.pdf"}}),
    ),
    "pdf as its own model dumps it": (
        file(file_id=None, file_data="cGRm"),
        snapshot({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"}}),
    ),
    "uploaded pdf": (
        file(file_id="file_1", filename="a.pdf"),
        snapshot({"type": "document", "source": {"type": "file", "file_id": "file_1"}, "title": "a.pdf"}),
    ),
    "part of anthropic's own": (
        {
            "type": "search_result",
            "source": "https://a.example",
            "title": "A",
            "content": [{"type": "text", "text": "Found."}],
        },
        snapshot(
            {
                "type": "search_result",
                "source": "https://a.example",
                "title": "A",
                "content": [{"type": "text", "text": "Found."}],
            }
        ),
    ),
}


@pytest.mark.parametrize(("part", "wanted"), PARTS.values(), ids=PARTS.keys())
def test_a_part_becomes_a_block(part: Any, wanted: Any) -> None:
    """Images and documents are put into Anthropic's shape; a type of its own goes through."""
    body = body_of(MODEL, user({"type": "text", "text": "Look:"}, part))
    assert body["messages"][0]["content"][1] == wanted


def test_a_text_file_is_sent_as_text() -> None:
    """Base64 is for PDF only: https://docs.anthropic.com/en/docs/build-with-claude/files#file-types-and-content-blocks."""
    part = file(filename="notes.txt", file_data="data:text/plain;base64,bm90ZXM=")
    source = body_of(MODEL, user(part))["messages"][0]["content"][0]["source"]
    assert source == {"type": "text", "media_type": "text/plain", "data": "notes"}


OPTIONS: list[tuple[dict[str, Any], Any]] = [
    ({"max_tokens": 100}, snapshot({"max_tokens": 100})),
    ({"stop": "END"}, snapshot({"stop_sequences": ["END"]})),
    ({"stop": ["END", "STOP"]}, snapshot({"stop_sequences": ["END", "STOP"]})),
    ({"temperature": 0.5, "top_p": 0.9, "top_k": 40}, snapshot({"temperature": 0.5, "top_p": 0.9, "top_k": 40})),
    ({"user": "u-1"}, snapshot({"metadata": {"user_id": "u-1"}})),
    ({"n": 1}, snapshot({})),
    (
        {"extra_body": {"metadata": {"user_id": "u-2"}, "service_tier": "auto"}, "user": "u-1"},
        snapshot({"metadata": {"user_id": "u-2"}, "service_tier": "auto"}),
    ),
    (
        {"response_format": Weather},
        snapshot({"output_config": {"format": {"type": "json_schema", "schema": Is(wording.STRICT_WEATHER)}}}),
    ),
    (
        {
            "response_format": {
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {}}}},
            }
        },
        snapshot(
            {
                "output_config": {
                    "format": {
                        "type": "json_schema",
                        "schema": {
                            "type": "object",
                            "properties": {
                                "a": {
                                    "type": "array",
                                    "items": {"type": "object", "properties": {}, "additionalProperties": False},
                                }
                            },
                            "additionalProperties": False,
                        },
                    }
                }
            }
        ),
    ),
    ({"response_format": {"type": "text"}}, snapshot({})),
    (
        {"tools": wording.TOOLS},
        snapshot(
            {
                "tools": [
                    {
                        "name": "get_weather",
                        "description": "The weather of a city.",
                        "input_schema": Is(wording.GET_WEATHER),
                    },
                    {"name": "Weather", "description": "Report the weather.", "input_schema": Is(wording.WEATHER)},
                    {"name": "get_time", "description": "The time of day.", "input_schema": Is(wording.GET_TIME)},
                    {"name": "ping", "input_schema": {"type": "object", "properties": {}}},
                ]
            }
        ),
    ),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]},
        snapshot({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]}),
    ),
    (
        {"tools": [{**SCHEMA_TOOL, "cache_control": {"type": "ephemeral"}}]},
        snapshot(
            {
                "tools": [
                    {
                        "name": "get_time",
                        "description": "The time of day.",
                        "input_schema": Is(wording.GET_TIME),
                        "cache_control": {"type": "ephemeral"},
                    }
                ]
            }
        ),
    ),
]


@pytest.mark.parametrize(("options", "wanted"), OPTIONS, ids=[str([*options]) for options, _ in OPTIONS])
def test_an_option_is_put_into_anthropics_words(options: dict[str, Any], wanted: Any) -> None:
    """Each option in Anthropic's words, and nothing besides."""
    assert added(MODEL, **options) == wanted


class Limits(BaseModel):
    """A type with constraints."""

    age: int = Field(ge=0, le=150)
    names: list[str] = Field(min_length=2, max_length=5)
    code: str = Field(pattern="^[A-Z]+$", max_length=8)


def test_constraints_the_api_refuses_are_left_to_the_reader() -> None:
    """Bounds are no part of the JSON schema Anthropic takes; pydantic checks them on the answer anyway."""
    schema = json.dumps(body_of(MODEL, response_format=Limits)["output_config"]["format"]["schema"])
    for keyword in ("minimum", "maximum", "maxItems", "maxLength"):
        assert keyword not in schema


CHOICES: list[tuple[dict[str, Any], Any]] = [
    ({"tool_choice": "auto"}, snapshot({"type": "auto"})),
    ({"tool_choice": "none"}, snapshot({"type": "none"})),
    ({"tool_choice": "required"}, snapshot({"type": "any"})),
    ({"tool_choice": "any"}, snapshot({"type": "any"})),
    ({"tool_choice": "get_time"}, snapshot({"type": "tool", "name": "get_time"})),
    (
        {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
        snapshot({"type": "tool", "name": "get_time"}),
    ),
    ({"tool_choice": {"type": "tool", "name": "get_time"}}, snapshot({"type": "tool", "name": "get_time"})),
    ({"parallel_tool_calls": False}, snapshot({"type": "auto", "disable_parallel_tool_use": True})),
    ({"parallel_tool_calls": True}, snapshot(None)),
    (
        {"parallel_tool_calls": False, "tool_choice": "required"},
        snapshot({"type": "any", "disable_parallel_tool_use": True}),
    ),
    ({"parallel_tool_calls": False, "tool_choice": "none"}, snapshot({"type": "none"})),
]


@pytest.mark.parametrize(("options", "wanted"), CHOICES, ids=[str(options) for options, _ in CHOICES])
def test_a_tool_choice_is_put_into_anthropics_words(options: dict[str, Any], wanted: Any) -> None:
    """Every way to choose a tool, and one call at a time as part of it."""
    assert body_of(MODEL, tools=[SCHEMA_TOOL], **options).get("tool_choice") == wanted


THINKING: list[tuple[str, str, int | None, Any]] = [
    (
        "claude-sonnet-4-5-20250929",
        "minimal",
        None,
        snapshot({"max_tokens": 17408, "thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": None}),
    ),
    (
        "claude-sonnet-4-5",
        "low",
        None,
        snapshot({"max_tokens": 17408, "thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": None}),
    ),
    (
        "claude-3-7-sonnet-latest",
        "medium",
        None,
        snapshot({"max_tokens": 20480, "thinking": {"type": "enabled", "budget_tokens": 4096}, "output_config": None}),
    ),
    (
        "claude-haiku-4-5",
        "high",
        None,
        snapshot({"max_tokens": 32768, "thinking": {"type": "enabled", "budget_tokens": 16384}, "output_config": None}),
    ),
    (
        "claude-haiku-4-5",
        "high",
        8000,
        snapshot({"max_tokens": 8000, "thinking": {"type": "enabled", "budget_tokens": 4000}, "output_config": None}),
    ),
    (
        "claude-haiku-4-5",
        "none",
        None,
        snapshot({"max_tokens": 16384, "thinking": {"type": "disabled"}, "output_config": None}),
    ),
    (
        "claude-opus-4-6",
        "minimal",
        None,
        snapshot({"max_tokens": 16384, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    ),
    (
        "claude-opus-4-6",
        "high",
        8000,
        snapshot({"max_tokens": 8000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ),
    (
        "claude-opus-4-6",
        "max",
        None,
        snapshot({"max_tokens": 16384, "thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
    ),
    (
        "claude-opus-4-6",
        "none",
        None,
        snapshot({"max_tokens": 16384, "thinking": {"type": "disabled"}, "output_config": None}),
    ),
]


@pytest.mark.parametrize(("model", "effort", "limit", "wanted"), THINKING)
def test_an_effort_becomes_a_budget_or_stays_one(model: str, effort: str, limit: int | None, wanted: Any) -> None:
    """Older models think by a budget, which a given limit includes and the default limit is raised by."""
    body = body_of(f"anthropic/{model}", reasoning_effort=effort, max_tokens=limit)
    assert {name: body.get(name) for name in ("max_tokens", "thinking", "output_config")} == wanted


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-opus-5", "claude-opus-5-5", "claude-sonnet-5-5"])
def test_newer_models_are_not_sent_what_only_tunes(model: str, caplog: pytest.LogCaptureFixture) -> None:
    """From Claude Opus 4.7 on, sampling parameters are refused: left out and logged, as elsewhere."""
    tuned = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    assert added(f"anthropic/{model}", **tuned) == {}
    assert {record.args[0] for record in caplog.records if record.args} == set(tuned)


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "claude-haiku-4-5", "kimi-k2", "deepseek-v4-flash"])
def test_other_models_are_tuned_as_asked(model: str) -> None:
    """Those before, and those of other makers who speak Anthropic's protocol."""
    tuned = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    assert added(f"anthropic/{model}", **tuned) == tuned


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-fable-5-1", "claude-sonnet-5-5", "claude-mythos-5"])
def test_a_model_that_always_thinks_is_not_told_not_to(model: str) -> None:
    """`thinking: disabled` is refused by models that cannot do without; the lowest effort is the least they do."""
    assert body_of(f"anthropic/{model}", reasoning_effort="none").get("thinking") != {"type": "disabled"}


MOST_TOKENS = {
    "claude-3-haiku-20240307": 4096,
    "claude-3-7-sonnet-20250219": 64_000,
    "claude-opus-4-20250514": 32_000,
    "claude-opus-4-1": 32_000,
    "claude-sonnet-4-20250514": 64_000,
    "claude-haiku-4-5": 64_000,
    "claude-opus-4-5": 64_000,
}
"""The longest answer of each model: https://docs.anthropic.com/en/docs/about-claude/models/overview."""


@pytest.mark.parametrize("effort", [None, "low", "medium", "high", "xhigh"])
@pytest.mark.parametrize("model", MOST_TOKENS)
def test_the_default_limit_is_one_the_model_takes(model: str, effort: str | None) -> None:
    """A limit above a model's own is refused, so what we choose unasked must not be above it."""
    assert body_of(f"anthropic/{model}", reasoning_effort=effort)["max_tokens"] <= MOST_TOKENS[model]


@pytest.mark.parametrize("limit", [1, 1000, 1024, 1025, 2000, 2048, 100_000])
def test_thinking_leaves_room_for_an_answer(limit: int) -> None:
    """`budget_tokens` must be at least 1024 and less than `max_tokens`; where that cannot be, nothing thinks."""
    body = body_of(MODEL, reasoning_effort="low", max_tokens=limit)
    thinking = body.get("thinking", {"type": "disabled"})
    assert body["max_tokens"] == limit
    assert thinking["type"] == "disabled" or 1024 <= thinking["budget_tokens"] < limit


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ("Hello", {"n": 2}, "one answer a call"),
    ("Hello", {"response_format": {"type": "json_object"}}, "schema"),
    ("Hello", {"reasoning_effort": "extreme"}, "reasoning_effort"),
    ("Hello", {"tools": [{"type": "custom", "custom": {"name": "sql"}}]}, "free-text"),
    (user({"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}}), {}, "audio"),
    (user({"type": "video_url", "video_url": {"url": "https://a.example/a.mp4"}}), {}, "video"),
    (user({"type": "image_url", "image_url": {}}), {}, "image_url"),
    (user(image("data:image/png,raw")), {}, "data URL"),
]


@pytest.mark.parametrize(("prompt", "options", "why"), REFUSED, ids=[why for *_, why in REFUSED])
def test_what_anthropic_cannot_do_is_said_before_sending(prompt: Any, options: dict[str, Any], why: str) -> None:
    """A request that cannot be put into Anthropic's words is refused here, with the reason."""
    with pytest.raises(InvalidRequestError, match=why):
        sent(MODEL, prompt, **options)


def test_anthropic_has_no_embeddings() -> None:
    """Whoever asks it for embeddings is sent elsewhere."""
    with pytest.raises(InvalidRequestError, match="no embeddings"):
        sent_to_embed(MODEL, "a")


def test_a_prompt_without_a_turn_is_refused() -> None:
    """Instructions alone make no conversation: the API wants at least one message."""
    with pytest.raises(InvalidRequestError):
        sent(MODEL, [{"role": "system", "content": "Be brief."}])


def test_options_that_only_tune_are_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Seed and penalties have no counterpart; a log line says so."""
    with caplog.at_level(logging.WARNING, "aistrale"):
        assert added(MODEL, seed=1, frequency_penalty=0.1, presence_penalty=0.2) == {}
    assert {record.args[0] for record in caplog.records if record.args} == {
        "seed",
        "frequency_penalty",
        "presence_penalty",
    }


# History


BLOCKS = [
    {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
    {"type": "redacted_thinking", "data": "opaque"},
    {"type": "text", "text": "Looking.", "citations": None},
    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
]


def assistant_turn(message: Message, model: str = MODEL) -> Any:
    messages = body_of(model, wording.going_on(message))["messages"]
    return messages[1]["content"]


def test_its_own_answer_goes_back_block_by_block() -> None:
    """Signatures, redacted thinking and the order of blocks are the provider's, and unchanged."""
    assert assistant_turn(decode_content(BLOCKS)) == BLOCKS


def test_an_answer_the_caller_changed_goes_back_as_changed() -> None:
    """What the caller wrote over counts; the thinking before it is still signed."""
    own = decode_content(BLOCKS)
    changed = Message(
        "assistant",
        "Edited.",
        tool_calls=own.tool_calls,
        reasoning_blocks=own.reasoning_blocks,
        provider_content=own.provider_content,
    )
    assert assistant_turn(changed) == snapshot(
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
            {"type": "redacted_thinking", "data": "opaque"},
            {"type": "text", "text": "Edited."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
        ]
    )


def test_another_providers_answer_becomes_blocks() -> None:
    """Text and calls are put into blocks; reasoning that nobody signed is left out."""
    assert assistant_turn(wording.foreign(ReasoningBlock("Hm."))) == snapshot(
        [
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Rome"}},
            {"type": "tool_use", "id": "call_2", "name": "ping", "input": {}},
        ]
    )


def test_reasoning_another_provider_signed_stays_out() -> None:
    """Anthropic refuses a signature that is not its own: invalid `signature` in `thinking` block."""
    parts = [{"text": "Hm.", "thought": True, "thoughtSignature": "of-google"}, {"text": "Rome."}]
    assert assistant_turn(decode_parts(parts, "r", 0)) == [{"type": "text", "text": "Rome."}]


@pytest.mark.parametrize(
    ("format", "kept"), [("anthropic-claude-v1", True), ("google-gemini-v1", False), ("openai-responses-v1", False)]
)
@pytest.mark.parametrize("kind", ["reasoning.text", "reasoning.encrypted"])
def test_reasoning_by_way_of_openrouter_counts_if_it_was_claudes(kind: str, format: str, kept: bool) -> None:
    """OpenRouter names whose reasoning a detail is; only Claude's own may go back to Claude."""
    detail = {"type": kind, "format": format, "index": 0}
    detail |= {"text": "Hm.", "signature": "s"} if kind == "reasoning.text" else {"data": "opaque"}
    block = ReasoningBlock(detail.get("text", ""), detail.get("signature"), detail.get("data"), detail)  # type: ignore[arg-type]
    turn = assistant_turn(Message("assistant", "Rome.", reasoning_blocks=(block,)))
    assert [entry["type"] for entry in turn if entry["type"] != "text"] == (
        [{"reasoning.text": "thinking", "reasoning.encrypted": "redacted_thinking"}[kind]] if kept else []
    )


@pytest.mark.parametrize("id", ["functions.get_weather:0", "", "call|1"])
def test_a_foreign_id_is_made_to_fit(id: str) -> None:
    """Tool ids must match ^[a-zA-Z0-9_-]+$; a result still finds its call."""
    messages = body_of(MODEL, after_a_call(result(id, "Sunny")))["messages"]
    used, named = messages[1]["content"][0]["id"], messages[2]["content"][0]["tool_use_id"]
    assert used == named
    assert used.replace("_", "a").replace("-", "a").isalnum()
    assert used.isascii()


@pytest.mark.parametrize("arguments", wording.NO_OBJECTS)
def test_arguments_that_are_no_object_go_back_all_the_same(arguments: str) -> None:
    """`input` must be an object: a call cut off or gone wrong must not end the conversation."""
    turn = assistant_turn(Message("assistant", tool_calls=(ToolCall("call_1", "get_weather", arguments),)))
    assert isinstance(turn[0]["input"], dict)


def test_its_own_call_that_was_cut_off_goes_back_as_an_object() -> None:
    """A stream may end within the input of a call, at `max_tokens`; the block goes back all the same."""
    cut = [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": '{"city": "Ro'}]
    assert isinstance(assistant_turn(decode_content(cut))[0]["input"], dict)


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_blank_text_block_is_not_sent(text: str) -> None:
    """Models now and then give a blank text beside a call, and the API refuses it: text must be non-empty."""
    blocks = [{"type": "text", "text": text}, BLOCKS[-1]]
    assert assistant_turn(decode_content(blocks)) == [BLOCKS[-1]]
    foreign = Message("assistant", text, tool_calls=(ToolCall("toolu_1", "get_weather", '{"city": "Rome"}'),))
    assert assistant_turn(foreign) == [BLOCKS[-1]]


def test_a_legacy_function_call_and_its_result_still_match() -> None:
    """`function_call` and the role `function` preceded tools; they are a call and its result."""
    messages = body_of(MODEL, wording.AN_OLD_CALL)["messages"]
    assert [turn["content"][0]["type"] for turn in messages] == ["text", "tool_use", "tool_result"]
    assert messages[1]["content"][0]["id"] == messages[2]["content"][0]["tool_use_id"]
