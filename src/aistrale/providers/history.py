"""What a conversation's earlier tool calls need before another provider takes them back."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, NoReturn

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON, CompletionRequest, Message, ToolCall

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
