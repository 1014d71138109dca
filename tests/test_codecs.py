"""What the recordings do not hold: how codecs read the rarer answers, whole and in pieces."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from answers import Streamed, read, read_stream, without_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import sent

from aistrale.exceptions import APIError, ContentFilterError, InvalidRequestError, RateLimitError, ServerError
from aistrale.models import Completion, Message, ToolCall, Usage

DONE = "data: [DONE]\n\n"

# OpenAI and compatible: answers


def body(*messages: dict[str, Any], reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"role": "assistant", **message}, "finish_reason": reason}
        for index, message in enumerate(messages)
    ]
    return {"id": "c-1", "object": "chat.completion", "model": "m", "choices": choices, **more}


def event(delta: dict[str, Any] | None = None, index: int = 0, reason: str | None = None, **more: Any) -> Any:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": reason}]
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **more}


def openai(message: dict[str, Any], *deltas: dict[str, Any], reason: str = "stop") -> tuple[Completion, Streamed]:
    """The reading of a message, the same whether it comes whole or in these deltas."""
    whole = read("openai", body(message, reason=reason))
    streamed = read_stream("openai", *map(event, deltas), event({}, reason=reason), DONE)
    assert without_raw(streamed.completion) == without_raw(whole)
    assert streamed.complete
    assert streamed.ended
    assert streamed.text() == whole.text
    assert streamed.reasoning() == (whole.reasoning or "")
    assert [(c.id, c.name, c.arguments) for c in whole.tool_calls] == streamed.calls()
    return whole, streamed


def test_several_choices_stay_apart() -> None:
    """With n=2, pieces of both come as they are made, and each choice has its text and its finish reason."""
    whole = read("openai", body({"content": "One."}, {"content": "Two."}))
    streamed = read_stream(
        "openai",
        event({"role": "assistant", "content": "T"}, 1),
        event({"role": "assistant", "content": "On"}),
        event({"content": "wo."}, 1),
        event({}, 1, "stop"),
        event({"content": "e."}),
        event({}, 0, "stop"),
        DONE,
    )
    assert [(choice.index, choice.message.text, choice.finish_reason) for choice in whole.choices] == [
        (0, "One.", "stop"),
        (1, "Two.", "stop"),
    ]
    assert without_raw(streamed.completion) == without_raw(whole)
    assert (streamed.text(0), streamed.text(1)) == ("One.", "Two.")
    assert whole.text == "One."


def test_how_likely_tokens_were_comes_with_them() -> None:
    """The same whole and in pieces, of each choice."""
    likely = [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []} for word in ("Hi", "!")]
    choice = body({"content": "Hi!"})
    choice["choices"][0]["logprobs"] = {"content": likely, "refusal": None}
    pieces = [event({"content": token["token"]}) for token in likely]
    for piece, token in zip(pieces, likely, strict=True):
        piece["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    streamed = read_stream("openai", *pieces, event({}, reason="stop"), DONE)
    assert read("openai", choice).choices[0].logprobs == {"content": likely, "refusal": None}
    assert streamed.completion.choices == read("openai", choice).choices


@pytest.mark.parametrize("odd", ["Hi", [1], 0.5])
def test_log_probabilities_of_another_shape_break_no_stream(odd: Any) -> None:
    """They are passed over."""
    piece = event({"content": "Hi"}, reason="stop")
    piece["choices"][0]["logprobs"] = odd
    assert read_stream("openai", piece, DONE).completion.text == "Hi"


def test_what_json_does_not_know_is_read_from_a_stream() -> None:
    """Some servers cut a character in two, say NaN, or give arguments as objects, with numbers of any size."""
    likely = {"content": [{"token": "Hi", "logprob": float("nan")}]}
    halves = [event({"content": half}) for half in ("\ud83d", "\ude00")]
    halves[0]["choices"][0]["logprobs"] = likely
    large = {"id": 12345678901234567890123}
    call = {"index": 0, "id": "call_1", "function": {"name": "find", "arguments": large}}
    streamed = read_stream("openai", *halves, event({"tool_calls": [call]}), event({}, reason="tool_calls"), DONE)
    (choice,) = streamed.completion.choices
    assert choice.message.text.encode("utf-16", "surrogatepass").decode("utf-16") == "\U0001f600"
    assert math.isnan((choice.logprobs or {})["content"][0]["logprob"])
    assert [call.arguments for call in choice.message.tool_calls] == [json.dumps(large)]


def test_a_refusal_is_not_the_text() -> None:
    """A refusal stands beside the content, which is null."""
    refused, _ = openai(
        {"content": None, "refusal": "I will not."},
        {"role": "assistant", "content": None, "refusal": ""},
        {"refusal": "I will"},
        {"refusal": " not."},
    )
    assert (refused.text, refused.refusal, refused.finish_reason) == ("", "I will not.", "stop")


def test_a_list_of_parts_is_text_and_reasoning() -> None:
    """Mistral's reasoning models answer in parts, of which some are thoughts."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}, {"type": "text", "text": "Yes."}]}
    parts = [thinking, {"type": "text", "text": "Ro"}, {"type": "reference", "reference_ids": [1]}]
    answer, _ = openai(
        {"content": [*parts, {"type": "text", "text": "me."}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Yes."}]}]},
        {"content": [{"type": "text", "text": "Ro"}, {"type": "reference", "reference_ids": [1]}]},
        {"content": "me."},
    )
    assert (answer.text, answer.reasoning) == ("Rome.", "Hm. Yes.")


def test_a_free_text_tool_is_called_with_text() -> None:
    """A custom tool's input is no JSON."""
    answer, _ = openai(
        {"tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}]},
        {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": ""}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": "SELECT"}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": " 1"}}]},
        reason="tool_calls",
    )
    assert answer.tool_calls == (ToolCall("a", "sql", "SELECT 1", "custom"),)


def test_a_function_call_is_a_tool_call() -> None:
    """`function_call` preceded tools; it has no id, so it is given one, the same each time."""
    answer, _ = openai(
        {"content": None, "function_call": {"name": "ping", "arguments": '{"a": 1}'}},
        {"role": "assistant", "content": None, "function_call": {"name": "ping", "arguments": ""}},
        {"function_call": {"arguments": '{"a"'}},
        {"function_call": {"arguments": ": 1}"}},
        reason="function_call",
    )
    (call,) = answer.tool_calls
    assert (call.name, call.args, answer.finish_reason) == ("ping", {"a": 1}, "tool_calls")
    assert call.id


PING = {"name": "ping", "arguments": "{}"}
PONG = {"name": "pong", "arguments": '{"a":1}'}
CALLS: dict[str, tuple[list[Any], list[Any]]] = {
    "numbered": (
        [{"id": "a", "type": "function", "function": PING}, {"id": "b", "type": "function", "function": PONG}],
        [
            [{"index": 0, "id": "a", "type": "function", "function": {"name": "ping", "arguments": ""}}],
            [{"index": 0, "function": {"arguments": "{}"}}],
            [{"index": 1, "id": "b", "type": "function", "function": {"name": "pong", "arguments": ""}}],
            [{"index": 1, "function": {"arguments": '{"a"'}}],
            [{"index": 1, "function": {"arguments": ":1}"}}],
        ],
    ),
    "interleaved": (
        [{"id": "a", "type": "function", "function": PING}, {"id": "b", "type": "function", "function": PONG}],
        [
            [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "ping"}},
                {"index": 1, "id": "b", "type": "function", "function": {"name": "pong", "arguments": '{"a"'}},
            ],
            [{"index": 0, "function": {"arguments": "{}"}}, {"index": 1, "function": {"arguments": ":1}"}}],
        ],
    ),
    "whole, with the id in every piece": (
        [{"id": "a", "type": "function", "function": PING}],
        [
            [{"index": 0, "id": "a", "type": "function", "function": {"name": "ping", "arguments": "{"}}],
            [{"index": 0, "id": "a", "type": "function", "function": {"name": None, "arguments": "}"}}],
        ],
    ),
    "without an id": (
        [{"type": "function", "function": PING}, {"type": "function", "function": PONG}],
        [
            [{"index": 0, "type": "function", "function": {"name": "ping", "arguments": "{}"}}],
            [{"index": 1, "type": "function", "function": PONG}],
        ],
    ),
    "without an index": (
        [{"id": "a", "type": "function", "function": PING}, {"id": "b", "type": "function", "function": PONG}],
        [
            [{"id": "a", "type": "function", "function": {"name": "ping", "arguments": "{"}}],
            [{"function": {"arguments": "}"}}],
            [{"id": "b", "type": "function", "function": {"name": "pong", "arguments": '{"a"'}}],
            [{"id": "b", "function": {"arguments": ":1}"}}],
        ],
    ),
    "without either": (
        [{"function": PING}, {"function": PONG}],
        [
            [{"function": {"name": "ping", "arguments": "{"}}],
            [{"function": {"arguments": "}"}}],
            [{"function": PONG}],
        ],
    ),
    "all at index 0": (
        [{"id": "a", "type": "function", "function": PING}, {"id": "b", "type": "function", "function": PONG}],
        [
            [{"index": 0, "id": "a", "type": "function", "function": PING}],
            [{"index": 0, "id": "b", "type": "function", "function": {"name": "pong", "arguments": '{"a"'}}],
            [{"index": 0, "function": {"arguments": ":1}"}}],
        ],
    ),
    "with arguments as an object": (
        [{"id": "a", "type": "function", "function": {"name": "pong", "arguments": {"a": 1}}}],
        [[{"index": 0, "id": "a", "type": "function", "function": {"name": "pong", "arguments": {"a": 1}}}]],
    ),
    "with null arguments": (
        [{"id": "a", "type": "function", "function": {"name": "ping", "arguments": None}}],
        [[{"index": 0, "id": "a", "type": "function", "function": {"name": "ping", "arguments": None}}]],
    ),
    "with something to send back": (
        [{"id": "a", "type": "function", "function": PING, "extra_content": {"google": {"thought_signature": "s"}}}],
        [
            [
                {
                    "index": 0,
                    "id": "a",
                    "type": "function",
                    "function": PING,
                    "extra_content": {"google": {"thought_signature": "s"}},
                }
            ]
        ],
    ),
}


@pytest.mark.parametrize(("calls", "pieces"), CALLS.values(), ids=CALLS.keys())
def test_calls_come_together_however_a_server_marks_them(calls: list[Any], pieces: list[Any]) -> None:
    """Ids and indexes may be missing or repeated: whole and in pieces, the calls are the same."""
    answer, _ = openai(
        {"content": None, "tool_calls": calls}, *({"tool_calls": piece} for piece in pieces), reason="tool_calls"
    )
    names = [call["function"]["name"] for call in calls]
    assert [(call.name, call.args) for call in answer.tool_calls] == [
        (name, {"a": 1} if name == "pong" else {}) for name in names
    ]
    assert len({call.id for call in answer.tool_calls}) == len(calls)
    assert [call.extra for call in answer.tool_calls] == [
        {key: value for key, value in call.items() if key == "extra_content"} for call in calls
    ]


REASONING: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "reasoning_content": ({"reasoning_content": "Hm."}, [{"reasoning_content": "H"}, {"reasoning_content": "m."}]),
    "reasoning": ({"reasoning": "Hm."}, [{"reasoning": "H"}, {"reasoning": "m."}]),
    "both, alike": (
        {"reasoning": "Hm.", "reasoning_content": "Hm."},
        [{"reasoning": "H", "reasoning_content": "H"}, {"reasoning": "m.", "reasoning_content": "m."}],
    ),
    "one empty": (
        {"reasoning_content": "", "reasoning": "Hm."},
        [{"reasoning_content": "", "reasoning": "H"}, {"reasoning_content": "", "reasoning": "m."}],
    ),
    "details beside": (
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0}]},
        [
            {"reasoning": "H", "reasoning_details": [{"type": "reasoning.text", "text": "H", "index": 0}]},
            {"reasoning": "m.", "reasoning_details": [{"type": "reasoning.text", "text": "m.", "index": 0}]},
        ],
    ),
    "details alone": (
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0}]},
        [
            {"reasoning_details": [{"type": "reasoning.text", "text": "H", "index": 0}]},
            {"reasoning_details": [{"type": "reasoning.text", "text": "m.", "index": 0}]},
        ],
    ),
    "a summary": (
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm.", "index": 0}], "reasoning": "Hm."},
        [{"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm.", "index": 0}], "reasoning": "Hm."}],
    ),
}


@pytest.mark.parametrize(("message", "deltas"), REASONING.values(), ids=REASONING.keys())
def test_reasoning_is_read_wherever_a_provider_puts_it(message: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
    """Under each of its names, whole and in pieces, once."""
    answer, _ = openai({"content": "Rome.", **message}, *deltas, {"content": "Rome."})
    assert answer.reasoning == "Hm."


TEXT: dict[str, Any] = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
ENCRYPTED: dict[str, Any] = {"type": "reasoning.encrypted", "data": "opaque", "format": "anthropic-claude-v1"}


def test_details_of_reasoning_are_put_together_and_sent_back() -> None:
    """Pieces with one index are one detail, its signature arrives last, and the whole goes back unchanged."""
    details = [{**TEXT, "text": "Hm. Yes.", "signature": "sig"}, {**ENCRYPTED, "index": 1, "id": "rs_1"}]
    answer, streamed = openai(
        {"content": "Rome.", "reasoning": "Hm. Yes.", "reasoning_details": details},
        {"reasoning": "Hm.", "reasoning_details": [{**TEXT, "text": "Hm.", "signature": None}]},
        {"reasoning": " Yes.", "reasoning_details": [{**TEXT, "text": " Yes."}]},
        {"reasoning_details": [{**TEXT, "signature": "sig"}]},
        {"reasoning_details": [{**ENCRYPTED, "index": 1, "id": "rs_1"}]},
        {"content": "Rome."},
    )
    assert [(block.text, block.signature, block.data, block.detail) for block in answer.message.reasoning_blocks] == [
        ("Hm. Yes.", "sig", None, details[0]),
        ("", None, "opaque", details[1]),
    ]
    history = [Message("user", "Hi"), streamed.completion.message]
    assert sent_back(history, "openrouter")["reasoning_details"] == details


def test_details_of_two_kinds_are_two_even_at_one_index() -> None:
    """OpenAI's models by way of OpenRouter: the summary and the ciphertext of one item share its index."""
    summary = {"type": "reasoning.summary", "summary": "Hm. Yes.", "format": "openai-responses-v1", "index": 0}
    opaque = {"type": "reasoning.encrypted", "data": "opaque", "format": "openai-responses-v1", "index": 0}
    answer, _ = openai(
        {"content": "Rome.", "reasoning": "Hm. Yes.", "reasoning_details": [summary, opaque]},
        {"reasoning": "Hm.", "reasoning_details": [{**summary, "summary": "Hm."}]},
        {"reasoning": " Yes.", "reasoning_details": [{**summary, "summary": " Yes."}]},
        {"reasoning_details": [opaque]},
        {"content": "Rome."},
    )
    assert [block.detail for block in answer.message.reasoning_blocks] == [summary, opaque]


def sent_back(history: list[Message], provider: str) -> Any:
    """The last message of a conversation, as it is sent."""
    return json.loads(sent(f"{provider}/any", history).body)["messages"][-1]


def test_deepseeks_reasoning_is_sent_back() -> None:
    """Its tool loop wants `reasoning_content` back: https://api-docs.deepseek.com/guides/thinking_mode."""
    answer, _ = openai(
        {
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "a", "type": "function", "function": PING}],
        },
        {"reasoning_content": "Hm."},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": PING}]},
        reason="tool_calls",
    )
    assert sent_back([Message("user", "Hi"), answer.message], "deepseek")["reasoning_content"] == "Hm."


def test_a_spoken_answer_can_be_named_in_the_next_turn() -> None:
    """Its audio arrives in pieces, and its id is what the next turn names it by."""
    audio = {"id": "audio_1", "data": "YWJj", "transcript": "Hello", "expires_at": 1}
    answer, _ = openai(
        {"content": None, "audio": audio},
        {"audio": {"id": "audio_1", "transcript": "Hel"}},
        {"audio": {"transcript": "lo"}},
        {"audio": {"data": "YW"}},
        {"audio": {"data": "Jj", "expires_at": 1}},
    )
    assert answer.message.extra["audio"] == audio
    assert sent_back([Message("user", "Hi"), answer.message], "openai")["audio"] == {"id": "audio_1"}


def test_sources_stay_with_the_answer() -> None:
    """Citations and pictures that a provider adds are kept where it put them."""
    annotations = [{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}]
    answer, _ = openai({"content": "A.", "annotations": annotations}, {"content": "A."}, {"annotations": annotations})
    assert answer.message.extra == {"annotations": annotations}


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("error", "error"),
        ("insufficient_system_resource", "error"),
        ("eos", "stop"),
        ("", None),
        (None, None),
    ],
)
def test_each_finish_reason_has_one_of_our_names(reason: str | None, ours: str | None) -> None:
    """What a provider calls an ordinary end in its own word is an ordinary end."""
    assert read("openai", body({"content": "Hi"}, reason=reason)).finish_reason == ours


def test_an_answer_the_filter_took_is_empty() -> None:
    """Azure leaves the message out."""
    answer = read("azure", {"choices": [{"index": 0, "finish_reason": "content_filter"}]})
    assert (answer.text, answer.finish_reason, answer.model) == ("", "content_filter", "asked-model")


def test_a_stream_is_whole_without_its_last_word() -> None:
    """Some servers leave `[DONE]` out: a finish reason says as much, though more may come."""
    streamed = read_stream("openai", event({"content": "Hi"}), event({}, reason="stop"))
    assert (streamed.complete, streamed.ended) == (True, False)
    cut = read_stream("openai", event({"content": "Hi"}))
    assert (cut.complete, cut.completion.text, cut.completion.finish_reason) == (False, "Hi", None)


# OpenAI and compatible: usage and cost


USAGES: dict[str, tuple[dict[str, Any], Usage]] = {
    "openai": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 15},
        },
        Usage(10, 20, 4, 0, 15),
    ),
    "xai, reasoning beside": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 30,
            "completion_tokens_details": {"reasoning_tokens": 15},
        },
        Usage(10, 20, 0, 0, 15),
    ),
    "openrouter, cache written": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 8},
        },
        Usage(10, 5, 0, 8),
    ),
    "deepseek": ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 7}, Usage(10, 5, 7)),
    "together": ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 7}, Usage(10, 5, 7)),
    "mistral": ({"prompt_tokens": 10, "completion_tokens": 5, "num_cached_tokens": 7}, Usage(10, 5, 7)),
    "voyage": ({"total_tokens": 10}, Usage(10)),
    "nulls": (
        {
            "prompt_tokens": 10,
            "completion_tokens": None,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        Usage(10),
    ),
}


@pytest.mark.parametrize(("usage", "ours"), USAGES.values(), ids=USAGES.keys())
def test_tokens_are_counted_alike(usage: dict[str, Any], ours: Usage) -> None:
    """Output includes reasoning and input the cached, wherever the provider counts them; a stream says the same."""
    assert read("openai", body({"content": "Hi"}, usage=usage)).usage == ours
    streamed = read_stream(
        "openai", event({"content": "Hi"}, usage=None), event({}, reason="stop"), event(usage=usage), DONE
    )
    assert streamed.completion.usage == ours
    assert [chunk.usage for chunk in streamed.chunks if chunk.usage] == [ours]


def test_groqs_count_comes_in_a_place_of_its_own() -> None:
    """Its streams carry it in `x_groq`, in the last chunk, and the first has that field for its id."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    streamed = read_stream(
        "groq", event({"content": "Hi"}, x_groq={"id": "r"}), event({}, reason="stop", x_groq={"usage": usage}), DONE
    )
    assert streamed.completion.usage == Usage(10, 5)


COSTS: list[tuple[dict[str, Any], Decimal | None]] = [
    ({"cost": 0.000123}, Decimal("0.000123")),
    ({"cost": 1.5e-07}, Decimal("0.00000015")),
    ({"cost": 0.1}, Decimal("0.1")),
    ({"cost": 0}, Decimal("0")),
    ({"cost": None}, None),
    ({"cost": {"total_cost": 1}}, None),
    ({"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.5}}, Decimal("0.01")),
    ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, Decimal("0.21")),
    ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, Decimal("0.01")),
    ({"cost": 0.01, "is_byok": True, "cost_details": None}, Decimal("0.01")),
]


@pytest.mark.parametrize(("usage", "cost"), COSTS)
def test_a_cost_is_exact(usage: dict[str, Any], cost: Decimal | None) -> None:
    """The provider's figure to the digit; with a key of one's own, the upstream's on top."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, **usage}
    assert read("openrouter", body({"content": "Hi"}, usage=usage)).cost == cost
    streamed = read_stream("openrouter", event({"content": "Hi"}, reason="stop"), event(usage=usage), DONE)
    assert streamed.completion.cost == cost


# OpenAI and compatible: any answer, cut anywhere

texts = st.text(max_size=12)
arguments = st.one_of(st.just("{}"), st.dictionaries(texts, st.integers() | texts, max_size=3).map(json.dumps))
functions = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    st.sampled_from(["ping", "pong"]),
    arguments,
)
customs = st.builds(lambda input: {"type": "custom", "custom": {"name": "sql", "input": input}}, texts)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """An assistant message as OpenAI and its kind shape it."""
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | texts)}
    for key in draw(st.sets(st.sampled_from(["refusal", "reasoning_content", "reasoning"]), max_size=2)):
        message[key] = draw(texts.filter(bool))
    if calls := draw(st.lists(functions | customs, max_size=3)):
        message["tool_calls"] = [{"id": f"call_{place}", **call} for place, call in enumerate(calls)]
    if draw(st.booleans()):
        details = draw(st.lists(texts.filter(bool), min_size=1, max_size=2))
        message["reasoning_details"] = [
            {"type": "reasoning.text", "text": text, "index": index, "signature": "s"}
            for index, text in enumerate(details)
        ]
    return message


def cut(draw: st.DrawFn, text: str) -> list[str]:
    """`text` in pieces, one at least."""
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@st.composite
def deltas(draw: st.DrawFn, message: dict[str, Any]) -> list[dict[str, Any]]:
    """Deltas that add up to a message: of each key in order, the keys among each other in any."""
    tracks: list[list[dict[str, Any]]] = [[{"role": "assistant", "content": None}]]
    for key, value in message.items():
        if isinstance(value, str) and key != "role":
            tracks.append([{key: piece} for piece in cut(draw, value)])
    for index, call in enumerate(message.get("tool_calls", ())):
        kind, field = ("custom", "input") if "custom" in call else ("function", "arguments")
        first, *others = cut(draw, call[kind][field])
        head = {**call, "index": index, kind: {**call[kind], field: first}}
        tracks.append(
            [{"tool_calls": [piece]} for piece in (head, *({"index": index, kind: {field: o}} for o in others))]
        )
    for detail in message.get("reasoning_details", ()):
        first, *others = cut(draw, detail["text"])
        pieces = [
            {**detail, "text": first, "signature": None},
            *({"index": detail["index"], "text": o} for o in others),
        ]
        tracks.append(
            [{"reasoning_details": [piece]} for piece in (*pieces, {"index": detail["index"], "signature": "s"})]
        )
    return interleaved(draw, tracks)


def interleaved(draw: st.DrawFn, tracks: list[list[Any]]) -> list[Any]:
    """The entries of all tracks, those of each in their order; calls and details begin in the order of their index."""
    mixed: list[Any] = []
    tracks = [track for track in tracks if track]
    while tracks:
        opening = min((place for place, track in enumerate(tracks) if is_new(track[0])), default=None)
        choices = [place for place, track in enumerate(tracks) if not is_new(track[0]) or place == opening]
        track = tracks[draw(st.sampled_from(choices))]
        mixed.append(track.pop(0))
        tracks = [track for track in tracks if track]
    return mixed


def is_new(delta: dict[str, Any]) -> bool:
    """It begins a call or a detail, of which the order counts."""
    return any("type" in piece for key in ("tool_calls", "reasoning_details") for piece in delta.get(key) or ())


@given(st.data())
@settings(max_examples=200)
def test_an_answer_is_the_same_however_it_is_streamed(data: st.DataObject) -> None:
    """Every choice, in deltas cut anywhere and mixed in any order, reads as the body it adds up to."""
    answers = data.draw(st.lists(messages(), min_size=1, max_size=2))
    usage = data.draw(st.none() | st.just({"prompt_tokens": 3, "completion_tokens": 4, "cost": 0.1}))
    reason = data.draw(st.sampled_from(["stop", "length", "tool_calls"]))
    events = data.draw(mixed_events(answers, reason))
    more = {} if usage is None else {"usage": usage}
    whole = read("openai", body(*answers, reason=reason, **more))
    streamed = read_stream("openai", *events, *([event(usage=usage)] if usage else []), DONE)
    assert without_raw(streamed.completion) == without_raw(whole)
    for choice in whole.choices:
        assert streamed.text(choice.index) == choice.message.text
        assert streamed.calls(choice.index) == [(c.id, c.name, c.arguments) for c in choice.message.tool_calls]


@st.composite
def mixed_events(draw: st.DrawFn, answers: list[dict[str, Any]], reason: str) -> list[Any]:
    """The events of all choices, mixed."""
    tracks = [
        [*(event(delta, index) for delta in draw(deltas(answer))), event({}, index, reason)]
        for index, answer in enumerate(answers)
    ]
    mixed = []
    while tracks := [track for track in tracks if track]:
        mixed.append(draw(st.sampled_from(tracks)).pop(0))
    return mixed


# Anthropic


def message(*blocks: Any, reason: str | None = "end_turn", usage: Any = None) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": list(blocks),
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 10, "output_tokens": 5},
    }


def opened(**usage: int) -> dict[str, Any]:
    start = message(reason=None, usage={"input_tokens": 10, "output_tokens": 1, **usage})
    return {"type": "message_start", "message": start}


def block(index: int, start: Any, *pieces: Any) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces),
        {"type": "content_block_stop", "index": index},
    ]


def closed(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5, **usage}},
        {"type": "message_stop"},
    ]


def text_delta(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": text}


def json_delta(text: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": text}


THINKING = {"type": "thinking", "thinking": "Hm. Yes.", "signature": "sig"}
REDACTED = {"type": "redacted_thinking", "data": "opaque"}
CITATION = {"type": "web_search_result_location", "url": "https://a.example", "cited_text": "A", "encrypted_index": "e"}
CITED = {"type": "text", "text": "A.", "citations": [CITATION]}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Köln"}}


def test_blocks_add_up_to_the_message_they_are_pieces_of() -> None:
    """Thinking, redacted thinking, server tools, cited text and calls: streamed, each block is as it would be whole."""
    whole = read("anthropic", message(THINKING, REDACTED, SEARCH, FOUND, CITED, CALL, reason="tool_use"))
    streamed = read_stream(
        "anthropic",
        opened(),
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm."},
            {"type": "thinking_delta", "thinking": " Yes."},
            {"type": "signature_delta", "signature": "sig"},
        ),
        *block(1, REDACTED),
        *block(2, {**SEARCH, "input": {}}, json_delta(""), json_delta('{"query": "a"}')),
        *block(3, FOUND),
        *block(4, {"type": "text", "text": ""}, {"type": "citations_delta", "citation": CITATION}, text_delta("A.")),
        *block(5, {**CALL, "input": {}}, json_delta('{"city": '), json_delta('"K\u00f6ln"}')),
        *closed("tool_use"),
    )
    assert streamed.completion == whole
    assert (streamed.text(), streamed.reasoning()) == ("A.", "Hm. Yes.")
    assert [(id, name, json.loads(text)) for id, name, text in streamed.calls()] == [
        ("toolu_1", "get_weather", {"city": "Köln"})
    ]
    assert [(block.text, block.signature, block.data) for block in whole.message.reasoning_blocks] == [
        ("Hm. Yes.", "sig", None),
        ("", None, "opaque"),
    ]
    assert whole.tool_calls == (ToolCall("toolu_1", "get_weather", '{"city": "Köln"}'),)
    assert whole.raw["content"][4]["citations"] == [CITATION]
    assert whole.text == "A."


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("yet_unknown", "stop"),
        (None, None),
    ],
)
def test_each_stop_reason_has_one_of_our_names(reason: str | None, ours: str | None) -> None:
    """The provider's own word stays in `raw`."""
    answer = read("anthropic", message({"type": "text", "text": "Hi"}, reason=reason))
    assert (answer.finish_reason, answer.raw["stop_reason"]) == (ours, reason)


def test_input_that_was_cut_off_is_kept_as_far_as_it_came() -> None:
    """At `max_tokens` a call may end within its JSON: its arguments are the text, and reading them says so."""
    streamed = read_stream(
        "anthropic", opened(), *block(0, {**CALL, "input": {}}, json_delta('{"city": "Ro')), *closed("max_tokens")
    )
    (call,) = streamed.completion.tool_calls
    assert (call.arguments, streamed.completion.finish_reason) == ('{"city": "Ro', "length")


def test_a_call_without_arguments_has_none() -> None:
    """Its block starts with an empty input, and no piece of JSON follows."""
    streamed = read_stream("anthropic", opened(), *block(0, {**CALL, "input": {}}), *closed("tool_use"))
    assert streamed.completion.tool_calls[0].args == {}


def test_the_last_count_of_tokens_stands() -> None:
    """Counts in `message_delta` are of the whole answer: server tools add to the input as it goes on."""
    streamed = read_stream(
        "anthropic",
        opened(cache_read_input_tokens=100, cache_creation_input_tokens=20),
        *block(0, {"type": "text", "text": ""}, text_delta("Hi")),
        *closed(
            input_tokens=50, output_tokens=30, cache_read_input_tokens=200, server_tool_use={"web_search_requests": 1}
        ),
    )
    assert streamed.completion.usage == Usage(50 + 200 + 20, 30, 200, 20)
    assert streamed.completion.raw["usage"]["server_tool_use"] == {"web_search_requests": 1}


def test_a_null_count_takes_nothing_back() -> None:
    """Proxies write null for what they do not count."""
    streamed = read_stream(
        "anthropic", opened(), *block(0, {"type": "text", "text": ""}, text_delta("Hi")), *closed(input_tokens=None)
    )
    assert streamed.completion.usage == Usage(10, 5)


def test_events_and_blocks_yet_unknown_are_passed_over() -> None:
    """Anthropic may add types of events, blocks and deltas; their contents stay in `raw`."""
    new = {"type": "novelty", "title": "A"}
    streamed = read_stream(
        "anthropic",
        opened(),
        'event: novelty\ndata: {"type": "novelty"}\n\n',
        *block(0, new, {"type": "novelty_delta", "body": "B"}),
        *block(1, {"type": "text", "text": ""}, text_delta("Hi")),
        *closed(),
    )
    assert streamed.completion.text == "Hi"
    assert streamed.completion.raw["content"][0] == {**new, "body": "B"}


# Google


def answer(*parts: Any, reason: str | None = "STOP", index: int = 0, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": index}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "responseId": "r-1", "modelVersion": "gemini", **more}


def test_parts_add_up_to_the_answer_they_are_pieces_of() -> None:
    """Texts and thoughts join their like, and a signature stays with the part it closed."""
    call = {"functionCall": {"name": "get_weather", "args": {"city": "Köln"}}, "thoughtSignature": "c2ln"}
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "totalTokenCount": 22}
    parts = [{"text": "Hm. Yes.", "thought": True}, {"text": "Looking."}, call]
    whole = read("google", answer(*parts, usageMetadata=usage))
    streamed = read_stream(
        "google",
        answer({"text": "Hm.", "thought": True}, reason=None, usageMetadata={"promptTokenCount": 10}),
        answer({"text": " Yes.", "thought": True}, {"text": "Look"}, reason=None),
        answer({"text": "ing."}, reason=None),
        answer(call, usageMetadata=usage),
    )
    assert without_raw(streamed.completion) == without_raw(whole)
    assert streamed.completion.raw["candidates"][0]["content"]["parts"] == parts
    assert (whole.text, whole.reasoning, whole.finish_reason) == ("Looking.", "Hm. Yes.", "tool_calls")
    assert whole.usage == Usage(10, 12, 0, 0, 7)
    assert (streamed.text(), streamed.reasoning()) == ("Looking.", "Hm. Yes.")
    assert streamed.calls() == [(c.id, c.name, c.arguments) for c in whole.tool_calls]


def test_googles_log_probabilities_add_up() -> None:
    """Lists go on, and the sum is one of all pieces."""
    tokens = [{"token": word, "logProbability": -0.5} for word in ("Hi", "!")]
    whole = answer({"text": "Hi!"})
    whole["candidates"][0]["logprobsResult"] = {"chosenCandidates": tokens, "logProbabilitySum": -1.0}
    pieces = [answer({"text": token["token"]}, reason=None) for token in tokens]
    for piece, token in zip(pieces, tokens, strict=True):
        piece["candidates"][0]["logprobsResult"] = {"chosenCandidates": [token], "logProbabilitySum": -0.5}
    streamed = read_stream("google", *pieces, answer())
    assert read("google", whole).choices[0].logprobs == whole["candidates"][0]["logprobsResult"]
    assert streamed.completion.choices == read("google", whole).choices


def test_a_signature_closes_the_text_before_it() -> None:
    """It may come by itself, in a part whose text is empty; the text it signs is what came before."""
    streamed = read_stream(
        "google",
        answer({"text": "Ro"}, reason=None),
        answer({"text": "me."}, reason=None),
        answer({"text": "", "thoughtSignature": "c2ln"}),
    )
    assert streamed.completion.raw["candidates"][0]["content"]["parts"] == [
        {"text": "Rome.", "thoughtSignature": "c2ln"}
    ]


def test_parallel_calls_of_one_name_are_told_apart() -> None:
    """Gemini 2 gives calls no ids: each is given one, the same whether they come in one piece or in two."""
    calls = [{"functionCall": {"name": "get_weather", "args": {"city": city}}} for city in ("Rome", "Paris")]
    whole = read("google", answer(*calls))
    streamed = read_stream("google", answer(calls[0], reason=None), answer(calls[1]))
    assert without_raw(streamed.completion) == without_raw(whole)
    assert len({call.id for call in whole.tool_calls}) == 2
    assert streamed.calls() == [(call.id, call.name, call.arguments) for call in whole.tool_calls]


def test_two_candidates_stay_apart() -> None:
    """With n=2, each candidate has its text, its reason and its index."""
    both = {"candidates": [answer({"text": "One"})["candidates"][0], answer({"text": "Two"}, index=1)["candidates"][0]]}
    whole = read("google", {**both, "responseId": "r-1"})
    streamed = read_stream(
        "google",
        answer({"text": "O"}, reason=None),
        answer({"text": "Tw"}, index=1, reason=None),
        answer({"text": "ne"}),
        answer({"text": "o"}, index=1),
    )
    assert [choice.message.text for choice in whole.choices] == ["One", "Two"]
    assert [choice.message.text for choice in streamed.completion.choices] == ["One", "Two"]
    assert (streamed.text(0), streamed.text(1)) == ("One", "Two")


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("UNEXPECTED_TOOL_CALL", "error"),
        ("OTHER", "error"),
        ("FINISH_REASON_UNSPECIFIED", None),
    ],
)
def test_an_answer_that_was_broken_off_has_a_reason(reason: str, ours: str | None) -> None:
    """Google leaves the content out where its filter or a malformed call left none; a stream says the same."""
    body = {"candidates": [{"finishReason": reason, "index": 0}], "usageMetadata": {"promptTokenCount": 3}}
    whole = read("google", body)
    assert (whole.text, whole.finish_reason, whole.usage) == ("", ours, Usage(3))
    streamed = read_stream("google", body)
    assert without_raw(streamed.completion) == without_raw(whole)
    assert streamed.complete is (ours is not None)


def test_a_blocked_prompt_is_an_empty_answer() -> None:
    """No candidate comes, only feedback on the prompt: the answer was withheld, whole or streamed."""
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    whole, streamed = read("google", body), read_stream("google", body)
    assert (whole.text, whole.finish_reason) == ("", "content_filter")
    assert without_raw(streamed.completion) == without_raw(whole)
    assert streamed.complete


def test_a_body_that_is_no_answer_is_not_taken_for_one() -> None:
    """An object without candidates, counts or feedback is something else's."""
    with pytest.raises(KeyError):
        read("google", {"message": "Welcome"})


# Errors in a stream that began well


def anthropic_error(kind: str) -> list[Any]:
    return [opened(), f'event: error\ndata: {{"type":"error","error":{{"type":"{kind}","message":"No."}}}}\n\n']


def openai_error(**error: Any) -> list[Any]:
    return [event({"content": "Hi"}), {"error": {"message": "No.", **error}}]


def google_error(code: int, status: str) -> list[Any]:
    return [answer({"text": "Hi"}, reason=None), {"error": {"code": code, "message": "No.", "status": status}}]


STREAM_ERRORS: dict[str, tuple[str, list[Any], type[APIError], int | None]] = {
    "anthropic, overloaded": ("anthropic", anthropic_error("overloaded_error"), ServerError, 529),
    "anthropic, rate limit": ("anthropic", anthropic_error("rate_limit_error"), RateLimitError, 429),
    "anthropic, internal": ("anthropic", anthropic_error("api_error"), ServerError, 500),
    "anthropic, timeout": ("anthropic", anthropic_error("timeout_error"), ServerError, 504),
    "openai, internal": ("openai", openai_error(type="server_error", code=None), ServerError, 500),
    "openai, rate limit": ("openai", openai_error(type="tokens", code="rate_limit_exceeded"), RateLimitError, 429),
    "openai, quota": (
        "openai",
        openai_error(type="insufficient_quota", code="insufficient_quota"),
        RateLimitError,
        429,
    ),
    "openai, filter": ("openai", openai_error(code="content_filter"), ContentFilterError, None),
    "openrouter, upstream": (
        "openrouter",
        [{**event({"content": ""}, reason="error"), "error": {"code": 502, "message": "No."}}],
        ServerError,
        502,
    ),
    "groq, tool": (
        "groq",
        openai_error(type="invalid_request_error", code="tool_use_failed"),
        InvalidRequestError,
        None,
    ),
    "vllm": ("vllm", openai_error(type="BadRequestError", code=400), InvalidRequestError, 400),
    "a mere text": ("together", [{"error": "No."}], ServerError, None),
    "google, overloaded": ("google", google_error(503, "UNAVAILABLE"), ServerError, 503),
    "google, rate limit": ("google", google_error(429, "RESOURCE_EXHAUSTED"), RateLimitError, 429),
    "google, in a list": ("google", [json.dumps(google_error(400, "INVALID_ARGUMENT")[1:])], InvalidRequestError, 400),
}


@pytest.mark.parametrize(("provider", "events", "kind", "status"), STREAM_ERRORS.values(), ids=STREAM_ERRORS.keys())
def test_an_error_in_a_stream_is_the_error_it_names(
    provider: str, events: list[Any], kind: type[APIError], status: int | None
) -> None:
    """HTTP said 200 before the error was known: the code says which error it is, and whether to try again."""
    events = [f"data: {event}\n\n" if isinstance(event, str) and event.startswith("[") else event for event in events]
    with pytest.raises(kind, match=r"No\.") as caught:
        read_stream(provider, *events)
    assert type(caught.value) is kind
    assert status is None or caught.value.status == status


def test_signs_of_life_are_no_content() -> None:
    """Comments, pings and empty deltas keep a connection open and say nothing."""
    streamed = read_stream(
        "openrouter",
        ": OPENROUTER PROCESSING\n\n",
        event({"role": "assistant", "content": ""}),
        ": keep-alive\n\n",
        event(),
        event({"content": "Hi"}),
        event({}, reason="stop"),
        DONE,
    )
    assert [chunk.text for chunk in streamed.chunks] == ["Hi", ""]
    streamed = read_stream(
        "anthropic",
        opened(),
        'event: ping\ndata: {"type": "ping"}\n\n',
        *block(0, {"type": "text", "text": ""}, text_delta("Hi")),
        *closed(),
    )
    assert [chunk.text for chunk in streamed.chunks] == ["Hi", ""]
