"""What was said and answered, as the semantic conventions shape it; only where it was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from opentelemetry.util.types import AttributeValue

from aistrale.exceptions import OutputError
from aistrale.models import Completion, CompletionRequest, Message, ToolCall


def input_content(request: CompletionRequest) -> Iterator[tuple[str, AttributeValue]]:
    system = [m for m in request.messages if m.role in ("system", "developer")]
    if system:
        parts = [part for message in system for part in _parts(message)]
        yield "gen_ai.system_instructions", json.dumps(parts, ensure_ascii=False)
    said = [{"role": m.role, "parts": _parts(m)} for m in request.messages if m not in system]
    yield "gen_ai.input.messages", json.dumps(said, ensure_ascii=False)
    if request.tools:
        yield "gen_ai.tool.definitions", json.dumps(request.tools, ensure_ascii=False)


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
        parts += [
            {"type": "text", "content": part["text"]} if part["type"] == "text" else part for part in message.content
        ]
    elif message.content:
        parts.append({"type": "text", "content": message.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": _arguments(call)}
        for call in message.tool_calls
    ]
    return parts


def _arguments(call: ToolCall) -> Any:
    try:
        return call.args
    except OutputError:
        return call.arguments
