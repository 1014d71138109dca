"""The contract every way into Aistrale is built on: a language model, and who watches its calls.

It is what LangChain's BaseLLM and LlamaIndex's CustomLLM both ask of a model, once: complete and stream,
sync and async. Adapters translate their framework's words into these and delegate.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from aistrale.models import Attempt, Chunk, Completion, CompletionRequest, Embedding, EmbeddingRequest


@dataclass(slots=True, eq=False)
class Call:
    """One call as its handlers see it, from start to end, over all its attempts.

    `provider`, `model` and `base_url` are where it goes now (a fallback changes them), and `stored_key` the label
    of the token in the books that it goes with, None if its key is from elsewhere. `headers` are sent with each
    attempt: a handler may add some at start. `sending` makes a context to send each request in, if a handler wants one:
    its span is current then, for whoever watches the HTTP client. `state` is the handlers' own, by handler.
    Times are `time.perf_counter()` seconds. `partial` is what a stream had given when it was cut off.
    """

    operation: str
    request: CompletionRequest | EmbeddingRequest
    stream: bool
    provider: str = ""
    model: str = ""
    base_url: str = ""
    stored_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    first_token: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    trace_id: str | None = None
    partial: Completion | None = None
    sending: Callable[[], AbstractContextManager[Any]] | None = None
    state: dict[Any, Any] = field(default_factory=dict)


class CallbackHandler:
    """Watches calls. Override what you need; each method may also be `async def` for async calls.

    Exactly one of `on_end` and `on_error` follows every `on_start`. An AistraleError raised in `on_start`
    refuses the call; whatever else a handler raises is logged, and the call goes on. Which events a handler hears of
    is looked at when it is given to a client or to a call: a method that is set on it later is not called.
    """

    @property
    def blocking(self) -> bool:
        """Whether `on_start` is about to wait, for a disk or a database: async calls then have a thread call it."""
        return False

    def on_start(self, call: Call) -> Any:
        """The call begins; nothing was sent yet."""

    def on_attempt(self, call: Call, attempt: Attempt) -> Any:
        """One request of the call ended, well or in an error that may be retried."""

    def on_token(self, call: Call, chunk: Chunk) -> Any:
        """A piece of a streamed answer arrived."""

    def on_end(self, call: Call, result: Completion | Embedding) -> Any:
        """The answer is whole."""

    def on_error(self, call: Call, error: BaseException) -> Any:
        """The call failed. GeneratorExit and CancelledError mean that the caller left: no failure."""


EVENTS = ("on_start", "on_attempt", "on_token", "on_end", "on_error")


def hears(handler: CallbackHandler, event: str) -> bool:
    """Whether a handler does anything at an event, so that it has to be told."""
    kind: Any = type(handler)
    return event in _overridden(kind) or event in getattr(handler, "__dict__", ())


@cache
def _overridden(kind: Any) -> frozenset[str]:
    return frozenset(event for event in EVENTS if getattr(kind, event) is not getattr(CallbackHandler, event))


Handlers: TypeAlias = Iterable[CallbackHandler]


class ChunkStream(Protocol):
    """A streamed answer: an iterator and a context manager, with the whole as `completion` once it ended."""

    @property
    def completion(self) -> Completion: ...
    def __iter__(self) -> Iterator[Chunk]: ...
    def __next__(self) -> Chunk: ...
    def close(self) -> None: ...


class AsyncChunkStream(Protocol):
    """`ChunkStream` for async code."""

    @property
    def completion(self) -> Completion: ...
    def __aiter__(self) -> AsyncIterator[Chunk]: ...
    async def __anext__(self) -> Chunk: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class LanguageModel(Protocol):
    """What can complete and stream a request, sync and async.

    Each call raises a subclass of `aistrale.AistraleError`. Streams open at the first iteration, and
    close when they end, when they are closed or left as context managers, and when they are forgotten.
    """

    def complete(self, request: CompletionRequest, callbacks: Handlers = ()) -> Completion: ...

    def stream(self, request: CompletionRequest, callbacks: Handlers = ()) -> ChunkStream: ...

    async def acomplete(self, request: CompletionRequest, callbacks: Handlers = ()) -> Completion: ...

    def astream(self, request: CompletionRequest, callbacks: Handlers = ()) -> AsyncChunkStream: ...
