"""The values a call is made of."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import messages

from aistrale.exceptions import InvalidRequestError, OutputError
from aistrale.models import (
    CallOptions,
    Choice,
    Chunk,
    Completion,
    CompletionRequest,
    Embedding,
    EmbeddingRequest,
    Message,
    ReasoningBlock,
    ToolCall,
    Usage,
)

# Messages


@given(messages)
def test_a_message_survives_reading_and_writing(message: dict[str, Any]) -> None:
    """Every key, known or not, null or not; and the dict that was given is left alone."""
    before = copy.deepcopy(message)
    assert Message.from_dict(message).to_dict() == before
    assert message == before


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Hi", "tool_calls": []},
        {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "assistant", "tool_calls": [{"id": None, "function": {"name": "f", "arguments": "{}"}}]},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}", "parsed": None}}
            ],
        },
    ],
    ids=["no calls", "a call without an id", "a null id", "more in a function"],
)
def test_oddities_survive_reading_and_writing(message: dict[str, Any]) -> None:
    """What servers and SDKs leave out or add goes back as it came."""
    assert Message.from_dict(message).to_dict() == message


def test_what_has_a_field_is_in_it_and_the_rest_in_extra() -> None:
    """Nulls included, so that they go back as nulls."""
    call = {"id": "a", "function": {"name": "ping", "arguments": "{}"}, "index": 0}
    message = Message.from_dict({"role": "assistant", "content": None, "tool_calls": [call], "prefix": True})
    assert message.content is None
    assert message.tool_calls == (ToolCall("a", "ping", "{}", "", {"index": 0}),)
    assert message.extra == {"content": None, "prefix": True}


BAD_MESSAGES: list[tuple[Any, str]] = [
    ("Hi", "must be a dict or a Message"),
    ({"content": "Hi"}, "needs a 'role'"),
    ({"role": "human", "content": "Hi"}, "Unknown role 'human'"),
    ({"role": "user", "content": 7}, "a string or a list of parts"),
    ({"role": "user", "content": {"type": "text"}}, "a string or a list of parts"),
    ({"role": "user", "content": ["Hi"]}, "a dict with a 'type'"),
    ({"role": "user", "content": [{"text": "Hi"}]}, "a dict with a 'type'"),
    ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "A tool call needs"),
    ({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}, "A tool call needs"),
    ({"role": "assistant", "tool_calls": ["f"]}, "A tool call needs"),
    ({"role": "assistant", "tool_calls": [{"id": "a", "type": None, "function": None}]}, "A tool call needs"),
    ({"role": "assistant", "tool_calls": 7}, "tool_calls"),
]


@pytest.mark.parametrize(("message", "why"), BAD_MESSAGES, ids=[str(message) for message, _ in BAD_MESSAGES])
def test_what_is_no_message_is_refused(message: Any, why: str) -> None:
    """With what was wanted, and without showing what was given."""
    with pytest.raises(InvalidRequestError, match=why):
        Message.from_dict(message)


HI = Message("user", "Hi")


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("Hi", [HI]),
        (HI, [HI]),
        ({"role": "user", "content": "Hi"}, [HI]),
        ([HI, {"role": "user", "content": "Hi"}], [HI, HI]),
        ((HI,), [HI]),
        ([], []),
    ],
    ids=["text", "message", "dict", "list", "tuple", "nothing"],
)
def test_a_prompt_is_a_text_a_message_or_a_conversation(prompt: Any, wanted: list[Message]) -> None:
    """What people pass, as messages."""
    assert Message.list_of(prompt) == wanted


@pytest.mark.parametrize("prompt", [None, 7, b"Hi", {1, 2}, ["Hi"]])
def test_anything_else_is_no_prompt(prompt: Any) -> None:
    """Refused before anything is sent."""
    with pytest.raises(InvalidRequestError):
        Message.list_of(prompt)


def test_the_text_of_a_message_is_that_of_all_its_parts() -> None:
    """Pictures and the like have none."""
    picture = {"type": "image_url", "image_url": {"url": "https://a.example"}}
    assert Message("user", [{"type": "text", "text": "a"}, picture, {"type": "text", "text": "b"}]).text == "ab"
    assert Message("assistant").text == ""


def test_the_reasoning_of_a_message_is_what_can_be_read_of_it() -> None:
    """Encrypted reasoning cannot, and none is None."""
    blocks = (ReasoningBlock("Hm. "), ReasoningBlock(data="opaque"), ReasoningBlock("Yes.", "signature"))
    assert Message("assistant", reasoning_blocks=blocks).reasoning == "Hm. Yes."
    assert Message("assistant", reasoning_blocks=blocks[1:2]).reasoning is None


# Tool calls


@pytest.mark.parametrize(
    ("arguments", "args"), [('{"a": 1}', {"a": 1}), ("", {}), (" \n", {}), ("[1]", [1]), ('"a"', "a"), ("null", None)]
)
def test_arguments_are_parsed_when_asked_for(arguments: str, args: Any) -> None:
    """No text means no arguments."""
    assert ToolCall("a", "ping", arguments).args == args


def test_arguments_that_are_no_json_are_the_models_fault() -> None:
    """The error names the tool and holds the text."""
    with pytest.raises(OutputError, match="'ping'") as caught:
        _ = ToolCall("a", "ping", '{"a": ').args
    assert caught.value.text == '{"a": '


# Requests

BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"model": 7}, "model must be a name"),
    ({"temperature": "hot"}, "temperature must be a number"),
    ({"temperature": True}, "temperature must be a number"),
    ({"top_k": 1.5}, "top_k must be a whole number"),
    ({"max_tokens": "9"}, "max_tokens must be a whole number"),
    ({"max_tokens": 0}, "max_tokens must be at least 1"),
    ({"max_completion_tokens": -1}, "max_tokens must be at least 1"),
    ({"stop": 7}, "stop must be a text or a list of texts"),
    ({"stop": ["END", 7]}, "stop must be a text or a list of texts"),
    ({"n": 0}, "n must be"),
    ({"tool_choice": 7}, "tool_choice must be"),
    ({"reasoning_effort": 7}, "reasoning_effort must be"),
    ({"metadata": "a"}, "metadata must be a dict"),
    ({"extra": []}, "extra must be a dict"),
    ({"tools": ({"type": "function"},)}, "A tool needs a name"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"messages": ()}, "The prompt is empty"),
    ({"messages": (Message("user", ""), Message("user"))}, "The prompt is empty"),
]


@pytest.mark.parametrize(("fields", "why"), BAD_FIELDS, ids=[str(fields) for fields, _ in BAD_FIELDS])
def test_what_no_provider_could_take_is_refused_at_once(fields: dict[str, Any], why: str) -> None:
    """By the name of the field, before anything is sent."""
    with pytest.raises(InvalidRequestError, match=why):
        CompletionRequest(**{"messages": (HI,), **fields})


def test_a_call_or_an_old_field_is_content_too() -> None:
    """A message without text may still say something."""
    CompletionRequest(messages=(Message("assistant", tool_calls=(ToolCall("a", "ping"),)),))
    CompletionRequest(messages=(Message("assistant", extra={"function_call": {"name": "ping"}}),))


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
    ],
)
def test_the_limit_has_two_names(fields: dict[str, int], limit: int | None) -> None:
    """The newer one counts."""
    assert CompletionRequest(messages=(HI,), **fields).output_limit == limit  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"max_retries": -1}, {"max_retries": True}, {"max_retries": 1.5}, {"fallbacks": "a"}]
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, Any]) -> None:
    """A text is no list of names, and a negative number no number of retries."""
    with pytest.raises(InvalidRequestError):
        CallOptions(**options)


def test_a_key_is_not_shown() -> None:
    """Neither are headers, which may hold one."""
    shown = repr(CallOptions(api_key="sk-secret", headers={"Authorization": "Bearer sk-secret"}))
    assert "sk-secret" not in shown


# Usage

usages = st.builds(Usage, *[st.integers(0, 10**9)] * 5)


@given(usages, usages, usages)
def test_usage_adds_up(a: Usage, b: Usage, c: Usage) -> None:
    """Field by field, in any order; the total is input and output, which include the rest."""
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a
    assert (a + b).total_tokens == a.total_tokens + b.total_tokens
    assert (a + b).reasoning_tokens == a.reasoning_tokens + b.reasoning_tokens


# Completions


def test_a_completion_speaks_for_its_first_choice() -> None:
    """Text, calls, reasoning, refusal and finish reason."""
    message = Message(
        "assistant",
        "Hi",
        tool_calls=(ToolCall("a", "ping"),),
        refusal="No.",
        reasoning_blocks=(ReasoningBlock("Hm."),),
    )
    completion = Completion((Choice(message, "stop"), Choice(HI, "length", 1)), "m")
    assert (str(completion), completion.text, completion.reasoning) == ("Hi", "Hi", "Hm.")
    assert (completion.refusal, completion.finish_reason) == ("No.", "stop")
    assert completion.tool_calls == message.tool_calls
    assert completion.message is message


def test_a_completion_without_choices_is_empty() -> None:
    """Some servers answer so; nothing breaks."""
    empty = Completion((), "m")
    assert (empty.text, empty.tool_calls, empty.finish_reason, empty.reasoning) == ("", (), None, None)


def test_an_answer_is_parsed_if_a_format_was_asked_for() -> None:
    """Else there is nothing to parse it as."""
    completion = Completion((Choice(Message("assistant", '{"a": 1}'), "stop"),), "m")
    assert completion.parsed is None
    completion.output_type = dict
    assert completion.parsed == {"a": 1}
    completion.output_type = list[int]
    with pytest.raises(OutputError):
        _ = completion.parsed


def test_values_can_be_copied_and_pickled() -> None:
    """They cross threads and processes."""
    message = Message("assistant", "Hi", tool_calls=(ToolCall("a", "ping"),), provider_content={"anthropic": []})
    for value in (message, Completion((Choice(message, "stop"),), "m"), Usage(1), Chunk("a"), CallOptions()):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value


# Embeddings


@pytest.mark.parametrize("inputs", ["", (), ("a", ""), ("a", None), (1.5,), ([],)])
def test_there_must_be_something_to_embed(inputs: Any) -> None:
    """An empty text among many is as wrong as none at all."""
    with pytest.raises(InvalidRequestError):
        EmbeddingRequest(inputs=inputs)


def test_texts_and_token_ids_can_be_embedded() -> None:
    """But only texts are texts."""
    assert EmbeddingRequest(inputs="a").texts == ["a"]
    assert EmbeddingRequest(inputs=("a", "b")).texts == ["a", "b"]
    assert EmbeddingRequest(inputs=(0, 1)).inputs == (0, 1)
    with pytest.raises(InvalidRequestError, match="token ids"):
        _ = EmbeddingRequest(inputs=([0, 1],)).texts


def test_an_embedding_is_the_sequence_of_its_vectors() -> None:
    """In the order of the texts."""
    embedding = Embedding([[1.0], [2.0]], "m")
    assert (len(embedding), list(embedding), embedding[1], embedding.vector) == (2, [[1.0], [2.0]], [2.0], [1.0])


def test_a_message_can_be_stored_whole() -> None:
    """Reasoning and the provider's own content too, so that a tool loop goes on after it was stored."""
    block = ReasoningBlock("Hm.", "sig", origin="anthropic")
    message = Message("assistant", "Hi", reasoning_blocks=(block,), provider_content={"anthropic": [{"type": "text"}]})
    stored = json.loads(json.dumps(message.to_dict(complete=True)))
    assert Message.from_dict(stored) == message
