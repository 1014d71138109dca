"""Answers that are given again to the very same request."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from aistrale.exceptions import ConfigurationError, StoreError
from aistrale.http import HTTPRequest, encode_json
from aistrale.logs import warn_once_a_minute
from aistrale.models import Choice, Chunk, Completion, ToolCallChunk
from aistrale.providers import Route, codec_of, find_profile

if TYPE_CHECKING:
    from aistrale.store.completions import CompletionStore


class Cache(Protocol):
    """Keeps completions by key. Both methods are safe to call from any thread.

    One whose attribute `blocking` is true may take its time: async calls have a thread ask it.
    """

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


AWAY_SECONDS = 10.0
"""How long no call waits for books that could not be used."""


_LONGEST_TTL = 1e9
"""Seconds; whoever means longer means for ever."""


class StoreCache:
    """A cache in the books, for all processes that keep them together.

    ttl: seconds an answer is good for, None for ever. max_bytes: of all answers together; the least recently used
    go first. It keeps what the provider sent, prompts not among it. Books that cannot be read give no hit, and are
    left alone for AWAY_SECONDS.
    """

    blocking = True

    def __init__(self, ttl: float | None = None, max_bytes: int = 256 * 1024 * 1024) -> None:
        if ttl is not None and not 0 < ttl < _LONGEST_TTL:
            raise ConfigurationError(f"ttl must be a number of seconds above 0, or None for ever, not {ttl!r}")
        if max_bytes < 0:
            raise ConfigurationError(f"max_bytes must be 0 or more, not {max_bytes!r}")
        self.ttl, self.max_bytes = ttl, max_bytes
        self._read_at = self._write_at = 0.0

    def get(self, key: str) -> Completion | None:
        if time.monotonic() < self._read_at:
            return None
        try:
            kept = _completions().get(key, self.ttl)
        except StoreError as error:
            self._read_at = self._write_at = _next_try(error)
            warn_once_a_minute("cache", "the cache cannot be read: %s", error)
            return None
        try:
            return None if kept is None else _decoded(kept)
        except (zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
            warn_once_a_minute("cache", "an answer in the cache cannot be read: %s", type(error).__name__)
            return None

    def set(self, key: str, completion: Completion) -> None:
        if time.monotonic() < self._write_at:
            return
        last = completion.attempts[-1] if completion.attempts else None
        entry = {
            "provider": completion.provider,
            "model": last.model if last else completion.model,
            "latency": completion.latency,
            "body": completion.raw,
        }
        try:
            _completions().set(key, zlib.compress(encode_json(entry)), self.max_bytes)
        except (TypeError, ValueError) as error:
            warn_once_a_minute("cache", "an answer cannot be kept in the cache: %s", error)
        except StoreError as error:
            self._write_at = _next_try(error)
            warn_once_a_minute("cache", "an answer cannot be kept in the cache: %s", error)

    def clear(self) -> int:
        """Forget all answers; returns how many. Raises StoreError."""
        return _completions().clear()


def _next_try(error: StoreError) -> float:
    return time.monotonic() + AWAY_SECONDS if error.unavailable else 0.0


def _completions() -> CompletionStore:
    from aistrale.store.store import open_store

    return open_store().completions


def _decoded(kept: bytes) -> Completion | None:
    """A kept answer, read as when it came; None if this release no longer knows its provider."""
    entry = json.loads(zlib.decompress(kept))
    profile = find_profile(entry["provider"])
    if profile is None:
        return None
    route = Route(profile, entry["model"], profile.base_url or "", None)
    completion = codec_of(profile.protocol).decode(entry["body"], route)
    completion.provider, completion.latency = entry["provider"], entry["latency"]
    return completion


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
    again = deepcopy(completion)
    return replace(again, cached=True, reported_cost=Decimal(0), attempts=(), trace_id=None, time_to_first_token=None)


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
