"""What a conversation's earlier answers and their tool calls need before a provider takes them back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from hashlib import sha256
from typing import Any, NoReturn

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON, CompletionRequest, Message, ToolCall

_PLAIN_PARTS = (
    *({"type", "text"}, {"type", "id", "name", "input"}),  # Anthropic's
    *({"text"}, {"functionCall"}),  # Google's
)
"""The fields of parts of an answer that a text and the calls say all of."""

_PLAIN_ID = re.compile(r"[a-zA-Z0-9_-]+")


def made_up_id(response_id: str | None, index: int, position: int) -> str:
    """An id for a tool call that came without one: the same for the same call, streamed or not."""
    return "call_" + sha256(f"{response_id}/{index}/{position}".encode()).hexdigest()[:16]


def fit_id(identifier: str, length: int | None = None) -> str:
    """`identifier` if it is plain (and of the length asked for), else one made from it.

    It is the same each time, so that a result still finds its call.
    """
    if length is None:
        is_fit = _PLAIN_ID.fullmatch(identifier) is not None
    else:
        is_fit = len(identifier) == length and identifier.isascii() and identifier.isalnum()
    digest = sha256(identifier.encode()).hexdigest()
    return identifier if is_fit else digest[:length] if length else f"call_{digest[:16]}"


def in_writing(message: Message) -> Message:
    """An answer that was only spoken as its transcript: nobody but OpenAI knows what the id of its sound stands for."""
    audio = message.extra.get("audio")
    if message.content or not isinstance(audio, dict) or not isinstance(audio.get("transcript"), str):
        return message
    extra = {key: value for key, value in message.extra.items() if key != "audio"}
    return replace(message, content=audio["transcript"], extra=extra)


def holds_more(message: Message) -> bool:
    """Whether an answer's text, its readable reasoning and its calls are not all that its provider wants back."""
    return bool(
        message.extra
        or any(block.signature or block.data or block.detail for block in message.reasoning_blocks)
        or any(call.extra or call.type == "custom" for call in message.tool_calls)
        or any(map(_holds_more, message.provider_content.values()))
    )


def to_kept(message: Message) -> JSON | None:
    """An answer whole, as a framework's message may carry it along; None if that message's own fields say all of it."""
    if not holds_more(message):
        return None
    return {key: value for key, value in message.to_dict(complete=True).items() if key != "role"}


def from_kept(kept: Any) -> Message | None:
    """The answer that was kept; None for what was changed, or is of another release."""
    if kept is None:
        return None
    try:
        return Message.from_dict({**kept, "role": "assistant"})
    except (InvalidRequestError, TypeError):
        return None


def with_first_call(kept: JSON) -> JSON:
    """An answer that was kept, as it were had it called one tool."""
    own = {protocol: _with_first_call(content) for protocol, content in (kept.get("provider_content") or {}).items()}
    more = {"provider_content": own} if own else {}
    return {**kept, "tool_calls": (kept.get("tool_calls") or [])[:1], **more}


def _with_first_call(own: Any) -> Any:
    if isinstance(own, dict):
        return {**own, "parts": _with_first_call(own.get("parts"))}
    if not isinstance(own, list):
        return own
    _, *others = [at for at, part in enumerate(own) if _is_call(part)] or (None,)
    return [part for at, part in enumerate(own) if at not in others]


def _is_call(part: Any) -> bool:
    return isinstance(part, dict) and ("functionCall" in part or part.get("type") == "tool_use")


def _holds_more(own: Any) -> bool:
    """Whether a protocol's own content does; what is of an unknown protocol may."""
    parts = own.get("parts") if isinstance(own, dict) else own
    return not isinstance(parts, list) or not all(map(_is_plain, parts))


def _is_plain(part: Any) -> bool:
    if not isinstance(part, dict) or {key for key, value in part.items() if value is not None} not in _PLAIN_PARTS:
        return False
    return "id" not in part.get("functionCall", ())


def calls_of(message: Message) -> tuple[ToolCall, ...]:
    """The tool calls of a message, OpenAI's older `function_call` among them: its result names it by its name."""
    legacy = message.extra.get("function_call")
    if not isinstance(legacy, dict) or not legacy.get("name"):
        return message.tool_calls
    return (*message.tool_calls, ToolCall(legacy["name"], legacy["name"], legacy.get("arguments") or ""))


def arguments_object(call: ToolCall) -> JSON:
    """A call's arguments as the object that protocols other than OpenAI's want.

    Arguments that are none (cut off, or gone wrong) are wrapped: they must not end the conversation.
    """
    if not call.arguments.strip():
        return {}
    value = strict_json(call.arguments, call.arguments)
    return value if isinstance(value, dict) else {"arguments": value}


def strict_json(text: str, otherwise: Any) -> Any:
    """`text` parsed, or `otherwise` if it is no JSON; NaN and Infinity are none, though Python takes them."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return otherwise


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def check_has_turn(turns: list[JSON], request: CompletionRequest, provider: str) -> None:
    """Raise InvalidRequestError if nothing but a system prompt is said, which only OpenAI's protocol allows."""
    if not turns and request.messages:
        raise InvalidRequestError(f"{provider} needs a message of the user beside the system prompt")
