"""LangChain's messages as the contract's, and answers as LangChain's messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON, Choice, Chunk, Completion, Message, Usage
from aistrale_langchain.answers import answer_of, beyond_fields, calls_as_fields
from aistrale_langchain.parts import content_of, parts_of

PROVIDER = "aistrale"
"""The provider that messages name; which one answered is in `response_metadata["provider"]`."""


# To the contract


def messages_of(messages: Iterable[BaseMessage]) -> list[Message]:
    """What is sent. Content blocks of any version and of Anthropic's own shape are taken.

    An answer goes back to its provider as that gave it, unless it was changed since: then as it now reads. Raises
    InvalidRequestError for what is no message.
    """
    return [sent for message in messages for sent in _sent_as(message)]


def _sent_as(message: BaseMessage) -> Iterator[Message]:
    name = message.name
    match message:
        case HumanMessage():
            yield from _asked(message)
        case SystemMessage():
            role = message.additional_kwargs.get("__openai_role__", "system")
            yield Message(role, content_of(message), name)
        case AIMessage():
            yield answer_of(message)
        case ToolMessage():
            extra = {"is_error": True} if message.status == "error" else {}
            yield Message("tool", content_of(message), name, tool_call_id=message.tool_call_id, extra=extra)
        case FunctionMessage():
            yield Message("function", content_of(message), name)
        case ChatMessage():
            yield Message(message.role, content_of(message), name)
        case _:
            try:
                yield Message.from_dict(convert_to_openai_messages(message))
            except ValueError as error:  # such as RemoveMessage, which is for a graph
                raise InvalidRequestError(f"{type(message).__name__} is no message that a model is sent") from error


def _asked(message: HumanMessage) -> Iterator[Message]:
    """What a user says. Anthropic has the results of tools among it: they are messages of their own."""
    content = content_of(message)
    if isinstance(content, str):
        yield Message("user", content, message.name)
        return
    results = [part for part in content if part.get("type") == "tool_result"]
    yield from map(_result_of, results)
    if len(results) < len(content):
        yield Message("user", [part for part in content if part.get("type") != "tool_result"], message.name)


def _result_of(part: JSON) -> Message:
    content = part.get("content")
    extra: JSON = {key: part[key] for key in ("is_error", "cache_control") if key in part}
    return Message(
        "tool",
        parts_of(content) if isinstance(content, list) else content,
        tool_call_id=part.get("tool_use_id"),
        extra=extra,
    )


# From the contract


def answer(completion: Completion, choice: Choice) -> AIMessage:
    """A choice as LangChain's message, usage and all."""
    message = choice.message
    valid, invalid = calls_as_fields(message.tool_calls)
    return AIMessage(
        content=_text(message),
        additional_kwargs=beyond_fields(message),
        response_metadata=metadata(completion, choice),
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(completion.usage),
        id=None,
    )


def piece(chunk: Chunk) -> ChatGenerationChunk | None:
    """A piece of a streamed answer; None if it holds nothing for LangChain."""
    if not (chunk.reasoning or chunk.tool_calls):  # most are text alone
        return _piece_of_text(chunk.text) if chunk.text else None
    message = AIMessageChunk(
        content=chunk.text,
        additional_kwargs={"reasoning_content": chunk.reasoning} if chunk.reasoning else {},
        response_metadata={"model_provider": PROVIDER},
        tool_call_chunks=[
            tool_call_chunk(name=call.name, args=call.arguments, id=call.id, index=call.index)
            for call in chunk.tool_calls
        ],
    )
    return ChatGenerationChunk(message=message)


def _piece_of_text(text: str) -> ChatGenerationChunk:
    """What the classes make of a text, in a third of their time: they check each piece, which is known to be right.

    It is made as pickle makes it. No piece shares a list or a dict with another.
    """
    message, generation = _new(AIMessageChunk), _new(ChatGenerationChunk)
    fields = _FIELDS | {name: kind() for name, kind in _CONTAINERS.items()}
    fields |= {"content": text, "response_metadata": {"model_provider": PROVIDER}}
    known = {"content", "response_metadata"}
    message.__setstate__({**_STATE, "__dict__": fields, "__pydantic_fields_set__": known, "__pydantic_extra__": {}})
    told = {**_PIECE_FIELDS, "text": text, "message": message}
    generation.__setstate__({**_PIECE_STATE, "__dict__": told, "__pydantic_fields_set__": {"text", "message"}})
    return generation


_new = object.__new__
_EMPTY = AIMessageChunk(content="", response_metadata={"model_provider": PROVIDER})
_STATE, _FIELDS = _EMPTY.__getstate__(), dict(vars(_EMPTY))
_CONTAINERS = {name: type(value) for name, value in _FIELDS.items() if isinstance(value, list | dict)}
_PIECE = ChatGenerationChunk(message=_EMPTY)
_PIECE_STATE, _PIECE_FIELDS = _PIECE.__getstate__(), dict(vars(_PIECE))


def end(completion: Completion) -> ChatGenerationChunk:
    """The last piece: what is known once the answer is whole."""
    choice = completion.choices[0] if completion.choices else Choice(completion.message, None)
    more = beyond_fields(choice.message)
    more.pop("reasoning_content", None)  # it was streamed
    message = AIMessageChunk(
        content="",
        additional_kwargs=more,
        response_metadata=metadata(completion, choice),
        usage_metadata=usage_metadata(completion.usage),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message)


def metadata(completion: Completion, choice: Choice) -> dict[str, Any]:
    """Which model answered, of which provider, how it ended, and where its trace is."""
    found: dict[str, Any] = {
        "model_name": completion.model,
        "model_provider": PROVIDER,
        "provider": completion.provider,
        "finish_reason": choice.finish_reason,
        "logprobs": choice.logprobs,
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


def _text(message: Message) -> str | list[str | JSON]:
    if isinstance(message.content, list) and any(part["type"] != "text" for part in message.content):
        return list(message.content)
    return message.text
