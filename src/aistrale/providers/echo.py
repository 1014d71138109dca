"""A provider that answers in process with what it was told, in OpenAI's protocol: for demos and tests.

It is deterministic, needs no key and no network, and streams by words. A word counts as a token.
`extra_body={"pace": 0}` streams without pauses.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from aistrale.http import HTTPRequest, encode_json

PACE = 0.02
"""Seconds between two streamed words, so that one can see it stream."""
DIMENSIONS = 8


def respond(request: HTTPRequest) -> Iterator[tuple[float, bytes]]:
    """Answer a chat completions or embeddings request, as `aistrale.providers.profile.Responder`."""
    body = json.loads(request.body)
    if request.url.endswith("/embeddings"):
        yield 0.0, encode_json(_embeddings(body))
        return
    text = _last_text(body["messages"])
    usage = _usage(sum(_count(_text(m)) for m in body["messages"]), _count(text))
    head = {"id": "echo-" + _digest(request.body).hex()[:16], "created": 0, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        yield 0.0, encode_json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        return
    head["object"] = "chat.completion.chunk"
    pace = float(body.get("pace", PACE))
    for position, word in enumerate(re.findall(r"\S+\s*|\s+", text)):
        yield (pace if position else 0.0), _event({**head, "choices": [_delta({"content": word}, None)]})
    yield 0.0, _event({**head, "choices": [_delta({}, "stop")], "usage": usage}) + b"data: [DONE]\n\n"


def _last_text(messages: list[dict[str, Any]]) -> str:
    return next((_text(m) for m in reversed(messages) if m["role"] == "user"), _text(messages[-1]))


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Vectors made from each text's hash: the same text has the same vector, and no two texts are alike."""
    inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
    size = body.get("dimensions", DIMENSIONS)
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(str(text), size)}
        for index, text in enumerate(inputs)
    ]
    usage = _usage(sum(_count(str(text)) for text in inputs), 0)
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _vector(text: str, size: int) -> list[float]:
    stream = hashlib.shake_256(text.encode()).digest(2 * size)
    values = [int.from_bytes(stream[i : i + 2], "big") / 32768 - 1 for i in range(0, 2 * size, 2)]
    length = sum(value * value for value in values) ** 0.5 or 1.0
    return [value / length for value in values]


def _usage(given: int, said: int) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": said, "total_tokens": given + said, "cost": 0}


def _count(text: str) -> int:
    return len(text.split())


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _delta(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + encode_json(body) + b"\n\n"
