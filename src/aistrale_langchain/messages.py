"""LangChain's messages as the contract's, and answers as LangChain's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCall as LangChainToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk

from aistrale.exceptions import OutputError
from aistrale.models import Choice, Chunk, Completion, Message, ReasoningBlock, ToolCall, Usage

PROVIDER = "aistrale"
"""The provider that messages name; which one answered is in `response_metadata["provider"]`."""

_REASONING = "reasoning_blocks"
_EXTRAS = "tool_call_extras"


# To the contract


def messages_of(messages: Iterable[BaseMessage]) -> list[Message]:
    """What is sent. Content blocks of any version are taken; Anthropic's own parts go to Anthropic as they are."""
    return [_message_of(message) for message in messages]


def _message_of(message: BaseMessage) -> Message:
    name = message.name
    match message:
        case HumanMessage():
            return Message("user", _content_of(message), name)
        case SystemMessage():
            role = message.additional_kwargs.get("__openai_role__", "system")
            return Message(role, _content_of(message), name)
        case AIMessage():
            return _answer_of(message)
        case ToolMessage():
            extra = {"is_error": True} if message.status == "error" else {}
            return Message("tool", _content_of(message), name, tool_call_id=message.tool_call_id, extra=extra)
        case FunctionMessage():
            return Message("function", _content_of(message), name)
        case ChatMessage():
            return Message(message.role, _content_of(message), name)
    return Message.from_dict(convert_to_openai_messages(message))


def _answer_of(message: AIMessage) -> Message:
    extras = message.additional_kwargs.get(_EXTRAS) or {}
    calls = [
        ToolCall(call["id"] or "", call["name"], json.dumps(call["args"]), extra=extras.get(call["id"]) or {})
        for call in message.tool_calls
    ]
    calls += [ToolCall(call["id"] or "", call["name"] or "", call["args"] or "") for call in message.invalid_tool_calls]
    return Message(
        "assistant",
        _content_of(message) or None,
        message.name,
        tuple(calls),
        refusal=message.additional_kwargs.get("refusal"),
        reasoning_blocks=tuple(_reasoning_of(message)),
    )


def _reasoning_of(message: AIMessage) -> Iterator[ReasoningBlock]:
    """As the provider wants it back, if it was ours; else its text."""
    if blocks := message.additional_kwargs.get(_REASONING):
        yield from (ReasoningBlock(**block) for block in blocks)
        return
    for block in message.content_blocks:
        if block["type"] == "reasoning" and block.get("reasoning"):
            yield ReasoningBlock(block["reasoning"])


_NOT_CONTENT = frozenset(("reasoning", "thinking", "redacted_thinking", "tool_use", "tool_call", "tool_call_chunk"))


def _content_of(message: BaseMessage) -> str | list[dict[str, Any]]:
    """Text, or parts in OpenAI's shape."""
    if isinstance(message.content, str):
        return message.content
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in message.content]
    parts = [part for part in parts if part.get("type") not in _NOT_CONTENT]
    if not parts:
        return ""
    return [_part_of(part) for part in parts]


def _part_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part in OpenAI's shape: LangChain's blocks of any version and Anthropic's become that, others stay."""
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": part["text"]}
    if kind not in ("image", "audio", "video", "file", "document"):
        return dict(part)
    source = part.get("source")
    given = {**part, **(source if isinstance(source, Mapping) else {})}  # Anthropic's have theirs there
    mime = given.get("mime_type") or given.get("media_type") or _USUAL.get(kind, "application/octet-stream")
    data = given.get("base64") or given.get("data")
    address = f"data:{mime};base64,{data}" if data else given.get("url")
    match kind:
        case "image" | "video" if address:
            return {"type": f"{kind}_url", f"{kind}_url": {"url": address}}
        case "audio" if data:
            return {
                "type": "input_audio",
                "input_audio": {"data": data, "format": _AUDIO.get(mime, mime.split("/")[-1])},
            }
    return {"type": "file", "file": _file(given, address)}


def _file(given: Mapping[str, Any], address: str | None) -> dict[str, Any]:
    extras = {**(given.get("metadata") or {}), **(given.get("extras") or {})}
    name = given.get("filename") or given.get("name") or given.get("title") or extras.get("filename") or "file"
    identifier = given.get("file_id") or (given.get("id") if given.get("source_type") == "id" else None)
    return {"file_id": identifier} if identifier else {"filename": name, "file_data": address}


_USUAL = {"image": "image/jpeg", "video": "video/mp4", "document": "application/pdf", "file": "application/pdf"}
_AUDIO = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}


# From the contract


def answer(completion: Completion, choice: Choice) -> AIMessage:
    """A choice as LangChain's message, usage and all."""
    message = choice.message
    valid, invalid = _calls(message.tool_calls)
    return AIMessage(
        content=_text(message),
        additional_kwargs=_more(message),
        response_metadata=metadata(completion, choice),
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(completion.usage),
        id=None,
    )


def piece(chunk: Chunk) -> AIMessageChunk | None:
    """A piece of a streamed answer; None if it holds nothing for LangChain."""
    known = {"model_provider": PROVIDER}
    if not (chunk.reasoning or chunk.tool_calls):  # most are text alone, and each field that is named takes time
        return AIMessageChunk(content=chunk.text, response_metadata=known) if chunk.text else None
    return AIMessageChunk(
        content=chunk.text,
        additional_kwargs={"reasoning_content": chunk.reasoning} if chunk.reasoning else {},
        response_metadata=known,
        tool_call_chunks=[
            tool_call_chunk(name=call.name, args=call.arguments, id=call.id, index=call.index)
            for call in chunk.tool_calls
        ],
    )


def end(completion: Completion) -> AIMessageChunk:
    """The last piece: what is known once the answer is whole."""
    choice = completion.choices[0] if completion.choices else Choice(completion.message, None)
    more = _more(choice.message)
    more.pop("reasoning_content", None)  # it was streamed
    return AIMessageChunk(
        content="",
        additional_kwargs=more,
        response_metadata=metadata(completion, choice),
        usage_metadata=usage_metadata(completion.usage),
        chunk_position="last",
    )


def metadata(completion: Completion, choice: Choice) -> dict[str, Any]:
    """Which model answered, of which provider, how it ended, and where its trace is."""
    found: dict[str, Any] = {
        "model_name": completion.model,
        "model_provider": PROVIDER,
        "provider": completion.provider,
        "finish_reason": choice.finish_reason,
        "id": completion.id,
        "trace_id": completion.trace_id,
    }
    known: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    if completion.cached:
        known["cached"] = True
    return known


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """Tokens by LangChain's names: totals that include the parts, as ours."""
    if usage is None:
        return None
    found = UsageMetadata(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, total_tokens=usage.total_tokens
    )
    given = InputTokenDetails()
    if usage.cache_read_tokens:
        given["cache_read"] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        given["cache_creation"] = usage.cache_write_tokens
    if given:
        found["input_token_details"] = given
    if usage.reasoning_tokens:
        found["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
    return found


def _text(message: Message) -> str | list[str | dict[str, Any]]:
    if isinstance(message.content, list) and any(part["type"] != "text" for part in message.content):
        return list(message.content)
    return message.text


def _more(message: Message) -> dict[str, Any]:
    """What a message holds that LangChain has no field for, so that it goes back to the provider with it."""
    more: dict[str, Any] = {}
    if message.reasoning:
        more["reasoning_content"] = message.reasoning
    if any(block.signature or block.data or block.detail for block in message.reasoning_blocks):
        more[_REASONING] = [asdict(block) for block in message.reasoning_blocks]
    if extras := {call.id: call.extra for call in message.tool_calls if call.extra}:
        more[_EXTRAS] = extras
    if message.refusal:
        more["refusal"] = message.refusal
    return more


def _calls(calls: Iterable[ToolCall]) -> tuple[list[LangChainToolCall], list[InvalidToolCall]]:
    valid: list[LangChainToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        try:
            args = call.args
            if not isinstance(args, dict):
                raise OutputError(f"The arguments of the call to {call.name!r} are no object", text=call.arguments)
        except OutputError as error:
            invalid.append(invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=str(error)))
        else:
            valid.append(tool_call(name=call.name, args=args, id=call.id))
    return valid, invalid
