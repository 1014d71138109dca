"""What of an answer LangChain's messages have fields for, what is kept beside them, and how it goes back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, InvalidToolCall
from langchain_core.messages.tool import ToolCall as LangChainToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call

from aistrale.exceptions import InvalidRequestError, OutputError
from aistrale.models import JSON, Message, ReasoningBlock, ToolCall
from aistrale.providers.history import from_kept, to_kept
from aistrale_langchain.parts import content_of

_KEPT = "aistrale"
"""The key of `additional_kwargs` under which an answer is kept whole that says more than LangChain has fields for."""


def beyond_fields(message: Message) -> JSON:
    """`additional_kwargs`: what an answer holds that LangChain has no field for, so that it goes back with it."""
    more: JSON = {}
    if message.reasoning:
        more["reasoning_content"] = message.reasoning
    if message.refusal:
        more["refusal"] = message.refusal
    if (kept := to_kept(message)) is not None:
        more[_KEPT] = kept
    return more


def calls_as_fields(calls: Iterable[ToolCall]) -> tuple[list[LangChainToolCall], list[InvalidToolCall]]:
    """`tool_calls` and `invalid_tool_calls`."""
    valid: list[LangChainToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in map(_call, calls):
        if call["type"] == "tool_call":
            valid.append(call)
        else:
            invalid.append(call)
    return valid, invalid


def _call(call: ToolCall) -> LangChainToolCall | InvalidToolCall:
    """A call, or an invalid one if its arguments are no object."""
    try:
        args = call.args
        if not isinstance(args, dict):
            raise OutputError(f"The arguments of the call to {call.name!r} are no object", text=call.arguments)
    except OutputError as error:
        return invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=str(error))
    return tool_call(name=call.name, args=args, id=call.id)


def answer_of(message: AIMessage) -> Message:
    """What is sent of an earlier answer: all that was kept, if the message still says what it was made of."""
    kept = from_kept(message.additional_kwargs.get(_KEPT))
    known = kept or Message("assistant")
    content = content_of(message)
    calls = tuple(_calls_of(message, known.tool_calls))
    reasoning = tuple(_reasoning_of(message))
    if kept and _text_of(reasoning) == _text_of(known.reasoning_blocks):
        reasoning = known.reasoning_blocks
    as_read = Message("assistant", content or None, message.name, calls, reasoning_blocks=reasoning)
    if kept and _say_the_same(as_read, kept):
        return replace(kept, name=message.name)
    return as_read if content else replace(as_read, refusal=message.additional_kwargs.get("refusal"))


def _say_the_same(one: Message, other: Message) -> bool:
    return (
        _plain(one.content) == _plain(other.content)
        and one.reasoning_blocks == other.reasoning_blocks
        and len(one.tool_calls) == len(other.tool_calls)
        and all(call in one.tool_calls for call in other.tool_calls)  # LangChain has the invalid ones last
    )


def _plain(content: str | list[JSON] | None) -> str | list[JSON]:
    """Content, as a text if it is no more than that."""
    if isinstance(content, list) and all(part.keys() == {"type", "text"} for part in content):
        return "".join(part["text"] for part in content)
    return content or ""


def _calls_of(message: AIMessage, known: Iterable[ToolCall]) -> Iterator[ToolCall]:
    """A message's calls; those that were not changed, as they came."""
    for call in (*message.tool_calls, *message.invalid_tool_calls):
        same = next((ours for ours in known if _is_same(_call(ours), call)), None)
        yield same or ToolCall(call["id"] or "", call["name"] or "", _arguments(call["args"]))


def _is_same(ours: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    return all(ours[field] == call[field] for field in ("id", "name", "args"))


def _arguments(args: JSON | str | None) -> str:
    if not isinstance(args, dict):  # of an invalid call, as they came
        return args or ""
    text = json.dumps(args, ensure_ascii=False)
    # Half a surrogate pair, which a model may give, can only be sent escaped.
    return json.dumps(args) if _SURROGATE.search(text) else text


_SURROGATE = re.compile("[\ud800-\udfff]")


def _reasoning_of(message: AIMessage) -> Iterator[ReasoningBlock]:
    """Reasoning in any shape, with its signature, if it has one and says whose that is."""
    origin = message.response_metadata.get("model_provider")
    try:
        blocks = message.content_blocks
    except ValueError as error:  # of an image without an address, for one
        raise InvalidRequestError(f"The content of an earlier answer cannot be read: {error}") from error
    for block in blocks:
        match _unwrapped(block):
            case {"type": "reasoning", "reasoning": str(text), "extras": {"signature": str(signature)}}:
                yield ReasoningBlock(text, signature, origin=origin)
            case {"type": "thinking", "thinking": str(text), "signature": str(signature)}:
                yield ReasoningBlock(text, signature, origin="anthropic")
            case {"type": "reasoning", "reasoning": str(text)} | {"type": "thinking", "thinking": str(text)} if text:
                yield ReasoningBlock(text)
            case {"type": "redacted_thinking", "data": str(data)}:
                yield ReasoningBlock(data=data, origin="anthropic")


def _unwrapped(block: Any) -> Any:
    match block:
        case {"type": "non_standard", "value": value}:
            return value
    return block


def _text_of(reasoning: Iterable[ReasoningBlock]) -> str:
    return "".join(block.text for block in reasoning)
