"""What was said and answered, as the semantic conventions shape it; only where it was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from opentelemetry.util.types import AttributeValue

from aistrale.exceptions import InvalidRequestError, OutputError
from aistrale.models import Completion, CompletionRequest, Message, ToolCall
from aistrale.providers.parts import media_of, neutral_parts

_SYSTEM = ("system", "developer")


def input_content(request: CompletionRequest) -> Iterator[tuple[str, AttributeValue]]:
    instructions = [part for m in request.messages if m.role in _SYSTEM for part in _parts(m)]
    if instructions:
        yield "gen_ai.system_instructions", json.dumps(instructions, ensure_ascii=False)
    said = [{"role": m.role, "parts": _parts(m)} for m in request.messages if m.role not in _SYSTEM]
    yield "gen_ai.input.messages", json.dumps(said, ensure_ascii=False)
    if request.tools:
        yield "gen_ai.tool.definitions", json.dumps([*map(_definition, request.tools)], ensure_ascii=False)


def _definition(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool, its type and its name side by side."""
    function = tool.get("function")
    return {"type": tool.get("type", "function"), **function} if isinstance(function, dict) else tool


def output_content(result: Completion) -> str:
    said = [
        {"role": "assistant", "parts": _parts(choice.message), "finish_reason": choice.finish_reason}
        for choice in result.choices
    ]
    return json.dumps(said, ensure_ascii=False)


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.text}]
    parts: list[dict[str, Any]] = []
    if message.reasoning:
        parts.append({"type": "reasoning", "content": message.reasoning})
    if isinstance(message.content, list):
        # What an answer's own tools did is shown as it came, though it is sent to no other provider.
        parts += [_part(neutral) for part in message.content for neutral in neutral_parts(part) or [part]]
    elif message.content:
        parts.append({"type": "text", "content": message.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": _arguments(call)}
        for call in message.tool_calls
    ]
    return parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a content: a text or a medium as the conventions shape it, any other as it is."""
    if part["type"] == "text":
        return {"type": "text", "content": part["text"]}
    try:
        medium = media_of(part)
    except InvalidRequestError:  # whether it is well formed is the provider's to say
        return part
    if medium is None:
        return part
    shown = {"modality": "document" if medium.kind == "file" else medium.kind, "mime_type": medium.mime_type}
    if medium.file_id is not None:
        return {"type": "file", **shown, "file_id": medium.file_id}
    if medium.url is not None:
        return {"type": "uri", **shown, "uri": medium.url}
    return {"type": "blob", **shown, "content": medium.data}


def _arguments(call: ToolCall) -> Any:
    try:
        return call.args
    except OutputError:
        return call.arguments
