"""Answers that are given again to the very same request."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Protocol

from aistrale.http import HTTPRequest
from aistrale.models import Choice, Chunk, Completion, ToolCallChunk


class Cache(Protocol):
    """Keeps completions by key. Both methods are quick and safe to call from any thread."""

    def get(self, key: str) -> Completion | None: ...

    def set(self, key: str, completion: Completion) -> None: ...


class MemoryCache:
    """A cache in memory: the least recently used entry goes first, and entries older than `ttl` seconds."""

    def __init__(self, max_entries: int = 1000, ttl: float | None = None) -> None:
        self.max_entries, self.ttl = max_entries, ttl
        self._entries: OrderedDict[str, tuple[float, Completion]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Completion | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            stored, completion = entry
            if self.ttl is not None and time.monotonic() - stored > self.ttl:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return completion

    def set(self, key: str, completion: Completion) -> None:
        with self._lock:
            self._entries[key] = (time.monotonic(), completion)
            self._entries.move_to_end(key)
            while len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


def cache_key(request: HTTPRequest) -> str:
    """The same for requests that ask the same provider the same with the same key."""
    digest = sha256(request.url.encode())
    for name in sorted(request.headers):
        digest.update(f"\n{name}:{request.headers[name]}".encode())
    digest.update(b"\n\n" + request.body)
    return digest.hexdigest()


def is_worth_keeping(completion: Completion) -> bool:
    """Whole answers are; those cut short, filtered or failed are not."""
    return all(choice.finish_reason in ("stop", "tool_calls") for choice in completion.choices)


def as_hit(completion: Completion) -> Completion:
    """A kept answer as it is given again: it cost nothing and made no attempt."""
    return replace(
        deepcopy(completion), cached=True, cost=Decimal(0), attempts=(), trace_id=None, time_to_first_token=None
    )


def as_chunks(completion: Completion) -> list[Chunk]:
    """A whole answer as the stream it could have been."""
    chunks = [_as_chunk(choice) for choice in completion.choices]
    if chunks:
        chunks[-1].usage = completion.usage
        chunks[-1].raw = completion.raw
    return chunks


def _as_chunk(choice: Choice) -> Chunk:
    message = choice.message
    calls = tuple(ToolCallChunk(i, call.id, call.name, call.arguments) for i, call in enumerate(message.tool_calls))
    return Chunk(message.text, message.reasoning or "", calls, choice.finish_reason, None, choice.index)
