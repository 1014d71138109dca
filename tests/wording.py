"""What the encoders of all protocols are given, each to put it into its provider's words.

Snapshots name what no provider words otherwise, the schemas: `Is(WEATHER)`.
"""

import json
from typing import Any

from shapes import BARE_TOOL, KEY, PDF, PNG, SCHEMA_TOOL, Weather, file, get_weather, image, result, sent

from aistrale.models import JSON, Message, ReasoningBlock, ToolCall

# Tools and types, and the schemas that are made of them

TOOLS = [get_weather, Weather, SCHEMA_TOOL, BARE_TOOL]

GET_WEATHER: JSON = {
    "additionalProperties": False,
    "properties": {
        "city": {"description": "Where", "title": "City", "type": "string"},
        "days": {"default": 1, "title": "Days", "type": "integer"},
    },
    "required": ["city"],
    "type": "object",
}
GET_TIME: JSON = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
WEATHER: JSON = {
    "description": "Report the weather.",
    "properties": {
        "city": {"title": "City", "type": "string"},
        "celsius": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None, "title": "Celsius"},
    },
    "required": ["city"],
    "title": "Weather",
    "type": "object",
}
STRICT_WEATHER: JSON = {
    "description": "Report the weather.",
    "properties": {
        "city": {"title": "City", "type": "string"},
        "celsius": {"anyOf": [{"type": "number"}, {"type": "null"}], "title": "Celsius"},
    },
    "required": ["city", "celsius"],
    "title": "Weather",
    "type": "object",
    "additionalProperties": False,
}
"""The same as the type of an answer: every field is required, and there are no others."""

# Media and conversations

AN_IMAGE = image(PNG)
A_PDF = file(filename="a.pdf", file_data=PDF)

A_REFUSAL: list[JSON] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]},
    {"role": "user", "content": "Why?"},
]
AN_OLD_CALL: list[JSON] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "function_call": {"name": "ping", "arguments": "{}"}},
    {"role": "function", "name": "ping", "content": "pong"},
]

PARALLEL = [result("a", "Rain"), result("b", "Sun")]
WITH_A_QUESTION = [result("a", "Rain"), {"role": "user", "content": "And tomorrow?"}]
AN_OBJECT = [result("a", '{"celsius": 20}')]
IN_PARTS = [result("a", [{"type": "text", "text": "Map:"}, AN_IMAGE])]

NO_OBJECTS = ['{"city": "Ro', "[1]", '"Rome"', "not JSON"]
"""Arguments of a call that was cut off or went wrong."""


def foreign(block: ReasoningBlock) -> Message:
    """Another provider's answer: reasoning, text and two calls."""
    calls = ToolCall("call_1", "get_weather", '{"city":"Rome"}'), ToolCall("call_2", "ping", "")
    return Message("assistant", "Looking.", tool_calls=calls, reasoning_blocks=(block,))


def going_on(message: Message) -> list[Message]:
    """A conversation that goes on after an answer, whose calls have results."""
    results = [Message("tool", "Sunny", tool_call_id=call.id) for call in message.tool_calls]
    return [Message("user", "Weather?"), message, *results, Message("user", "So?")]


# What is made of them


def posted(model: str, header: str, scheme: str = "") -> tuple[str, str, dict[str, str], Any]:
    """Method, address, headers and body of the smallest request, less the header that must hold the key."""
    request = sent(model)
    headers = dict(request.headers)
    assert headers.pop(header) == f"{scheme}{KEY}"
    return request.method, request.url, headers, json.loads(request.body)
