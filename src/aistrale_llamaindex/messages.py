"""LlamaIndex's messages as the contract's, and answers as LlamaIndex's responses, whole or growing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

from llama_index.core.base.llms.types import (
    BaseContentBlock,
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from aistrale.exceptions import OutputError
from aistrale.models import JSON, Chunk, Completion, Message, ReasoningBlock, ToolCall
from aistrale.providers.history import from_kept, to_kept, with_first_call
from aistrale_llamaindex.blocks import blocks_of, content_of

KEPT = "aistrale"
"""The key of `additional_kwargs` under which an answer is kept whole that says more than LlamaIndex has fields for."""

_ROLES = {MessageRole.CHATBOT: "assistant", MessageRole.MODEL: "assistant"}


# To the contract


def messages_of(messages: Iterable[ChatMessage]) -> list[Message]:
    """What is sent. An answer goes back to its provider as that gave it, unless it was changed since.

    Raises InvalidRequestError for content that no model takes.
    """
    return [_message_of(message) for message in messages]


def _message_of(message: ChatMessage) -> Message:
    role = _ROLES.get(message.role, message.role.value)
    if role == "assistant":
        return _answer_of(message)
    more = message.additional_kwargs
    extra: JSON = {"is_error": True} if role == "tool" and more.get("is_error") else {}
    return Message(
        role, content_of(message.blocks), more.get("name"), tool_call_id=more.get("tool_call_id"), extra=extra
    )


def _answer_of(message: ChatMessage) -> Message:
    told = [block for block in message.blocks if not isinstance(block, ThinkingBlock | ToolCallBlock)]
    as_read = Message(
        "assistant",
        content_of(told) or None,
        message.additional_kwargs.get("name"),
        tuple(_calls_of(message)),
        reasoning_blocks=tuple(_reasoning_of(message.blocks)),
    )
    kept = from_kept(message.additional_kwargs.get(KEPT))
    return as_read if kept is None or not _say_the_same(as_read, kept) else replace(kept, name=as_read.name)


def _say_the_same(one: Message, other: Message) -> bool:
    def calls(message: Message) -> list[tuple[str, str, Any]]:
        return [(call.id, call.name, _arguments(call)) for call in message.tool_calls]

    return one.text == other.text and calls(one) == calls(other) and one.reasoning == other.reasoning


def _calls_of(message: ChatMessage) -> Iterator[ToolCall]:
    """A message's calls, from its blocks; in messages of earlier releases, from beside them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        arguments = block.tool_kwargs
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        yield ToolCall(block.tool_call_id or "", block.tool_name, text)
    if not blocks and (calls := message.additional_kwargs.get("tool_calls")):
        dicts = [call if isinstance(call, Mapping) else call.model_dump() for call in calls]
        yield from Message.from_dict({"role": "assistant", "tool_calls": dicts}).tool_calls


def _reasoning_of(blocks: Iterable[BaseContentBlock]) -> Iterator[ReasoningBlock]:
    for block in blocks:
        if isinstance(block, ThinkingBlock):
            about = block.additional_information
            signature, origin = about.get("signature"), about.get("origin")
            if block.content or signature:
                yield ReasoningBlock(block.content or "", signature, origin=origin)


# From the contract


def role_and_content(message: Message) -> ChatMessage:
    """Any message of a conversation, as LlamaIndex has it."""
    if message.role == "assistant":
        return message_of(message)
    known = {"name": message.name, "tool_call_id": message.tool_call_id, "is_error": message.extra.get("is_error")}
    more = {name: value for name, value in known.items() if value is not None}
    return ChatMessage(role=message.role, blocks=[*blocks_of(message.content)], additional_kwargs=more)


def message_of(message: Message) -> ChatMessage:
    """An answer as LlamaIndex's message: thoughts, content and calls as blocks."""
    more: JSON = {}
    if message.tool_calls:  # LlamaIndex looks for these as well
        more["tool_calls"] = [call_as_dict(call) for call in message.tool_calls]
    if message.refusal:
        more["refusal"] = message.refusal
    if (kept := to_kept(message)) is not None:
        more[KEPT] = kept
    blocks = [
        *map(_thought, message.reasoning_blocks),
        *blocks_of(message.content),
        *map(_call, message.tool_calls),
    ]
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=more)


def _thought(block: ReasoningBlock) -> ThinkingBlock:
    about = {"signature": block.signature, "origin": block.origin}
    known = {name: value for name, value in about.items() if value is not None}
    return ThinkingBlock(content=block.text, additional_information=known)


def _call(call: ToolCall) -> ToolCallBlock:
    return ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=_arguments(call))


def _arguments(call: ToolCall) -> Any:
    """The arguments parsed; as they came while they are no object yet."""
    try:
        return call.args if isinstance(call.args, dict) else call.arguments
    except OutputError:
        return call.arguments


def call_as_dict(call: ToolCall) -> JSON:
    """A call as OpenAI shapes it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def keep_first_call(message: ChatMessage) -> None:
    """Take all calls out of an answer but the first."""
    calls = [at for at, block in enumerate(message.blocks) if isinstance(block, ToolCallBlock)]
    if len(calls) < 2:
        return
    message.blocks = [block for at, block in enumerate(message.blocks) if at not in calls[1:]]
    more = message.additional_kwargs
    if "tool_calls" in more:
        more["tool_calls"] = more["tool_calls"][:1]
    if kept := more.get(KEPT):
        more[KEPT] = with_first_call(kept)


def response_of(completion: Completion, **more: Any) -> ChatResponse:
    """An answer as a chat's response."""
    return ChatResponse(
        message=message_of(completion.message),
        raw=raw_of(completion),
        logprobs=logprobs_of(completion),
        additional_kwargs={**about(completion), **more.pop("additional_kwargs", {})},
        **more,
    )


def completion_of(completion: Completion, **more: Any) -> CompletionResponse:
    """An answer as a completion's response."""
    return CompletionResponse(
        text=completion.text,
        raw=raw_of(completion),
        logprobs=logprobs_of(completion),
        additional_kwargs=about(completion),
        **more,
    )


def logprobs_of(completion: Completion) -> list[list[LogProb]] | None:
    """For each token of an answer the likeliest there could have been, itself alone where no others are told of."""
    told = completion.choices[0].logprobs if completion.choices else None
    if not told:
        return None
    try:
        return _logprobs(told)
    except (KeyError, TypeError, AttributeError, ValueError):  # of another shape: `raw` has them as they came
        return None


def _logprobs(told: JSON) -> list[list[LogProb]]:
    if "content" in told:  # OpenAI's
        return [
            [_logprob(other, "logprob") for other in token.get("top_logprobs") or (token,)]
            for token in told["content"] or ()
        ]
    chosen, others = told.get("chosenCandidates") or (), told.get("topCandidates") or ()  # Google's
    return [
        [_logprob(other, "logProbability") for other in (among or {}).get("candidates") or (token,)]
        for token, among in zip_longest(chosen, others)
    ]


def _logprob(token: Mapping[str, Any], name: str) -> LogProb:
    return LogProb(token=token["token"], logprob=token[name], bytes=token.get("bytes") or [])


def raw_of(completion: Completion) -> JSON:
    """What the provider answered, with the tokens by OpenAI's names, which LlamaIndex's counters look for."""
    usage = completion.usage
    if usage is None:
        return dict(completion.raw)
    own = completion.raw.get("usage")
    counts = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    return {**completion.raw, "usage": {**(own if isinstance(own, Mapping) else {}), **counts}}


def about(completion: Completion) -> JSON:
    """Which model answered, of which provider, how it ended, what it took, and where its trace is."""
    choice, usage = next(iter(completion.choices), None), completion.usage
    found = {
        "model": completion.model,
        "provider": completion.provider,
        "finish_reason": choice.finish_reason if choice else None,
        "trace_id": completion.trace_id,
        "prompt_tokens": usage.input_tokens if usage else None,
        "completion_tokens": usage.output_tokens if usage else None,
        "total_tokens": usage.total_tokens if usage else None,
        "cached": completion.cached or None,
    }
    return {name: value for name, value in found.items() if value is not None}


Response_co = TypeVar("Response_co", ChatResponse, CompletionResponse, covariant=True)


class Growing(Protocol[Response_co]):
    """A streamed answer, as far as it has come. Of several answers, it is the first."""

    def add(self, chunk: Chunk) -> Response_co | None:
        """All there is with one more piece; None where it holds nothing for LlamaIndex."""

    def whole(self, completion: Completion) -> Response_co:
        """The end: all that is known of the answer, and nothing new of its text."""


@dataclass(slots=True)
class GrowingText:
    """The answer to a prompt."""

    text: str = ""

    def add(self, chunk: Chunk) -> CompletionResponse | None:
        if chunk.index or not (chunk.text or chunk.reasoning):
            return None
        self.text += chunk.text
        return CompletionResponse(text=self.text, delta=chunk.text, additional_kwargs=_thinking(chunk))

    def whole(self, completion: Completion) -> CompletionResponse:
        return completion_of(completion, delta="")


@dataclass(slots=True)
class GrowingChat:
    """The answer to messages. calls_once: of several calls it is the first, where a provider was not to make more."""

    calls_once: bool = False
    text: str = ""
    reasoning: str = ""
    calls: dict[int, ToolCall] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> ChatResponse | None:
        if chunk.index or not (chunk.text or chunk.reasoning or chunk.tool_calls):
            return None
        self.text += chunk.text
        self.reasoning += chunk.reasoning
        for piece in chunk.tool_calls:
            known = self.calls.get(piece.index, ToolCall("", "", ""))
            self.calls[piece.index] = replace(
                known,
                id=piece.id or known.id,
                name=known.name + (piece.name or ""),
                arguments=known.arguments + piece.arguments,
            )
        calls: Sequence[ToolCall] = [self.calls[index] for index in sorted(self.calls)]
        if self.calls_once:
            calls = calls[:1]
        blocks: list[BaseContentBlock] = [ThinkingBlock(content=self.reasoning)] if self.reasoning else []
        if self.text:
            blocks.append(TextBlock(text=self.text))
        blocks += map(_call, calls)
        more = {"tool_calls": [call_as_dict(call) for call in calls]} if calls else {}
        return ChatResponse(
            message=ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=more),
            delta=chunk.text,
            additional_kwargs=_thinking(chunk),
        )

    def whole(self, completion: Completion) -> ChatResponse:
        response = response_of(completion, delta="")
        if self.calls_once:
            keep_first_call(response.message)
        return response


def _thinking(chunk: Chunk) -> JSON:
    return {"thinking_delta": chunk.reasoning} if chunk.reasoning else {}
