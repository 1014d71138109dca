"""An upstream that behaves as a model does which has tools and structured output: what LangChain's own suite needs."""

import json
import re
from collections.abc import Iterator
from typing import Any

from upstream import END_OF_BODY, Request, Step, events, plain

JSON = dict[str, Any]


def behave(request: Request) -> list[Step]:
    """Answer as asked: with a tool call, with JSON of a shape, or with text; streamed or not."""
    body = request.body
    if request.path.endswith("/embeddings"):
        return plain(_vectors(body))
    message = _message(body)
    if body.get("stream"):
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        return _streamed(body["model"], message, _usage(body, message) if wants_usage else None)
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    choices = [{"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": reason}]
    head = {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"]}
    return plain({**head, "choices": choices, "usage": _usage(body, message)})


def _message(body: JSON) -> JSON:
    tools, choice = body.get("tools"), body.get("tool_choice")
    last = body["messages"][-1]
    wants_call = (
        choice == "required" or isinstance(choice, dict) or (choice in (None, "auto") and last["role"] == "user")
    )
    if tools and choice != "none" and wants_call:
        named = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["function"]["name"]
        tool = next(tool["function"] for tool in tools if tool["function"]["name"] == named)
        arguments = json.dumps(_example(tool["parameters"], _said(body)))
        return {
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": named, "arguments": arguments}}]
        }
    shape = body.get("response_format") or {}
    if shape.get("type") == "json_schema":
        return {"content": json.dumps(_example(shape["json_schema"]["schema"], _said(body)))}
    if shape.get("type") == "json_object":
        return {"content": json.dumps({"setup": "Why did the cat sit?", "punchline": "To be on the mat."})}
    if choice is None and "reason" in body.get("model", ""):
        return {"content": "Forty-two.", "reasoning_content": "Six times seven."}
    return {"content": "Hello there, how can I help you today?"}


def _said(body: JSON) -> str:
    return json.dumps(body["messages"], ensure_ascii=False)


def _example(schema: JSON, said: str, root: JSON | None = None) -> Any:
    """A value that fits a JSON schema."""
    root = root or schema
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return _example(target, said, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], said, root)
    match schema.get("type", "object"):
        case "object":
            return {name: _named(name, entry, said, root) for name, entry in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema.get("items", {"type": "string"}), said, root)]
        case "integer" | "number":
            return 3
        case "boolean":
            return True
        case "null":
            return None
    return "text"


def _named(name: str, schema: JSON, said: str, root: JSON) -> Any:
    if name == "customer_name" and (
        quoted := re.search(r"user name is \\?['\"]?(\w+)", said) or re.search(r"'(\w+)'", said)
    ):
        return quoted[1]
    return _example(schema, said, root)


def _usage(body: JSON, message: JSON) -> JSON:
    given, said = len(_said(body)) // 4 + 1, len(json.dumps(message)) // 4 + 1
    return {
        "prompt_tokens": given,
        "completion_tokens": said,
        "total_tokens": given + said,
        "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def _streamed(model: str, message: JSON, usage: JSON | None) -> list[Step]:
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    pieces = [*_deltas(message), {}]
    found = []
    for delta in pieces:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else reason}
        found.append(_event(model, [choice]))
    if usage is not None:
        found.append(_event(model, [], usage=usage))
    return [*events(*found, b"[DONE]"), END_OF_BODY]


def _deltas(message: JSON) -> Iterator[JSON]:
    yield {"role": "assistant", "content": ""}
    for field in ("reasoning_content", "content"):
        for word in re.findall(r"\S+\s*", message.get(field) or ""):
            yield {field: word}
    for index, call in enumerate(message.get("tool_calls") or ()):
        text = call["function"]["arguments"]
        yield {
            "tool_calls": [{"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}}]
        }
        for at in range(0, len(text), 7):
            yield {"tool_calls": [{"index": index, "function": {"arguments": text[at : at + 7]}}]}


def _event(model: str, choices: list[JSON], **more: Any) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model}
    return json.dumps({**head, "choices": choices, **more}).encode()


def _vectors(body: JSON) -> JSON:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), 0.5, float(index)]}
        for index, text in enumerate(texts)
    ]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
