"""Clients: the contract's calls under the names people type, with defaults of their own."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Unpack

from aistrale.batch import BatchResult, Progress, run_batch, run_batch_async
from aistrale.conversation import AsyncSession, Session
from aistrale.core import Core
from aistrale.gateway.stream import AsyncCompletionStream, CompletionStream
from aistrale.models import Completion, Embedding, Prompt
from aistrale.options import (
    ClientOptions,
    EmbedOptions,
    RunOptions,
)


class Client:
    """Calls language models from sync code. Make one and keep it: it holds the connections.

    Takes ClientOptions as defaults of its calls; each call may say otherwise. Safe to share between
    threads and after a fork. As a context manager it closes its connections at the end.
    """

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        self.core = Core(options)

    def run(self, prompt: Prompt, **options: Unpack[RunOptions]) -> Completion:
        """Ask, and wait for the whole answer. Raises a subclass of AistraleError."""
        return self.core.gateway.complete(*self.core.completion(prompt, options))

    def stream(self, prompt: Prompt, **options: Unpack[RunOptions]) -> CompletionStream:
        """Ask, and read the answer as it comes. The request is sent at the first iteration."""
        return self.core.gateway.stream(*self.core.completion(prompt, options))

    def run_batch(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        progress: Progress = None,
        **options: Unpack[RunOptions],
    ) -> list[BatchResult]:
        """Ask many prompts, `concurrency` at a time, and return their results in order.

        An item that fails is its AistraleError in the list. `progress` is called with the numbers of items
        done and in all, or True for a tqdm bar.
        """
        every = self.core.check(options)
        return run_batch(lambda prompt: self.run(prompt, **every), prompts, concurrency, progress)

    def session(self, id: str | None = None, *, system: str | None = None, **options: Unpack[RunOptions]) -> Session:
        """A conversation that remembers what was said. `options` are its calls' defaults."""
        return Session(self.core, options, id=id, system=system)

    def embed(self, texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> Embedding:
        """The vectors of one text or several."""
        return self.core.gateway.embed(*self.core.embedding(texts, options))

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self.core.gateway.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """Calls language models from async code: `Client`'s methods, awaited.

    The same client works in any number of event loops; each has its own connections, closed with the loop.
    """

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        self.core = Core(options)

    @classmethod
    def sharing(cls, client: Client) -> AsyncClient:
        """An async client over the same settings, breaker and cache as a sync one."""
        other = cls.__new__(cls)
        other.core = client.core
        return other

    async def run(self, prompt: Prompt, **options: Unpack[RunOptions]) -> Completion:
        """Ask, and wait for the whole answer. Raises a subclass of AistraleError."""
        return await self.core.gateway.acomplete(*self.core.completion(prompt, options))

    def stream(self, prompt: Prompt, **options: Unpack[RunOptions]) -> AsyncCompletionStream:
        """Ask, and read the answer as it comes: `async for chunk in client.stream(...)`, without await."""
        return self.core.gateway.astream(*self.core.completion(prompt, options))

    async def run_batch(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        progress: Progress = None,
        **options: Unpack[RunOptions],
    ) -> list[BatchResult]:
        """Ask many prompts, `concurrency` at a time, and return their results in order, as Client.run_batch."""
        every = self.core.check(options)
        return await run_batch_async(lambda prompt: self.run(prompt, **every), prompts, concurrency, progress)

    def session(
        self, id: str | None = None, *, system: str | None = None, **options: Unpack[RunOptions]
    ) -> AsyncSession:
        """A conversation that remembers what was said. `options` are its calls' defaults."""
        return AsyncSession(self.core, options, id=id, system=system)

    async def embed(self, texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> Embedding:
        """The vectors of one text or several."""
        return await self.core.gateway.aembed(*self.core.embedding(texts, options))

    async def aclose(self) -> None:
        """Close the connections of this event loop. A later call opens new ones."""
        await self.core.gateway.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
