"""A provider behind `httpx.MockTransport`: it gives the answers it was made with, and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from tenacity import wait_none

from aistrale import AsyncClient, Client, RetryPolicy

AT_ONCE = RetryPolicy(wait=wait_none())
"""Retries without pauses."""


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An answer's body, made as it is read. `closed` says whether its reader let go of it."""

    def __init__(self, pieces: list[bytes | Exception]) -> None:
        self._pieces, self.closed = pieces, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Answer:
    """One HTTP answer. A piece that is an exception is raised where its bytes would come."""

    pieces: list[bytes | Exception]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    def __post_init__(self) -> None:
        self.body = Body(self.pieces)


class Provider:
    """Gives each answer once, in order, and the last one for ever after. An exception is a failed connection."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        body = answer.body = Body(answer.pieces)
        return httpx.Response(answer.status, headers=answer.headers, stream=body)

    @property
    def asked(self) -> list[Any]:
        """The bodies of the requests."""
        return [json.loads(request.content) for request in self.requests]

    def http_client(self, **options: Any) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self.handle), **options)

    def async_http_client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle), **options)

    def client(self, **options: Any) -> Client:
        """A client whose calls all come here, by default as calls of OpenAI's gpt-4o."""
        return Client(**{**_DEFAULTS, **options}, http_client=self.http_client())

    def async_client(self, **options: Any) -> AsyncClient:
        return AsyncClient(**{**_DEFAULTS, **options}, http_client=self.async_http_client())


_DEFAULTS = {"model": "openai/gpt-4o", "api_key": "sk-test", "retry": AT_ONCE}


def hanging(started: Callable[[], object]) -> httpx.AsyncClient:
    """An async client whose provider never answers; `started` is called when it was asked."""

    async def handle(request: httpx.Request) -> httpx.Response:
        started()
        await asyncio.Event().wait()
        raise AssertionError("nothing sets this event")

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


def answer(text: str | None = "Hello", *, finish_reason: str = "stop", **parts: Any) -> Answer:
    """An OpenAI chat completion. `parts`: `usage`, and what else the message has."""
    usage = parts.pop("usage", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    message = {"role": "assistant", "content": text, **parts}
    return json_answer(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": usage,
        }
    )


def stream(*words: str) -> Answer:
    """The same as a stream, an event in each piece."""
    events = [_event({"content": word}) for word in words]
    return Answer([*events, _event({}, "stop"), b"data: [DONE]\n\n"], headers=_EVENT_STREAM)


def broken_stream(*words: str) -> Answer:
    """A stream whose connection breaks."""
    events = [_event({"content": word}) for word in words]
    return Answer([*events, httpx.ReadError("reset")], headers=_EVENT_STREAM)


def failure(status: int, message: str = "No.", **headers: str) -> Answer:
    """An OpenAI error."""
    return json_answer({"error": {"message": message}}, status, **headers)


def json_answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer([json.dumps(body).encode()], status, {"content-type": "application/json", **headers})


_EVENT_STREAM = {"content-type": "text/event-stream"}


def _event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    if finish_reason:
        body["usage"] = {"prompt_tokens": 3, "completion_tokens": 2}
    return b"data: " + json.dumps(body).encode() + b"\n\n"
