"""`aistrale.run` and its kin: one default client for the process, made at its first call."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Unpack

from aistrale.batch import BatchResult, Progress
from aistrale.client import AsyncClient, Client
from aistrale.conversation import AsyncSession, Session
from aistrale.gateway.stream import AsyncCompletionStream, CompletionStream
from aistrale.models import Completion, Embedding, Prompt
from aistrale.options import ClientOptions, EmbedOptions, RunOptions, check_names

_lock = threading.Lock()
_configured: dict[str, Any] = {}
_client: Client | None = None
_async_client: AsyncClient | None = None


def configure(**options: Unpack[ClientOptions]) -> None:
    """Set what `aistrale.run` and its kin use, over environment and files; `configure()` takes it all back.

    What `configure` was told before is forgotten. An `http_client` serves the sync or the async calls,
    whichever it is for.
    """
    global _configured, _client, _async_client
    check_names(options)
    with _lock:
        _configured = dict(options)
        client, _client = _client, None
        _async_client = None
    if client is not None:
        client.close()


def default_client() -> Client:
    """The client behind `aistrale.run`."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = Client(**_configured)
    return _client


def default_async_client() -> AsyncClient:
    """The client behind `aistrale.run_async`; it shares the breaker, the cache and all else with the sync one."""
    global _async_client
    if _async_client is None:
        client = default_client()
        with _lock:
            _async_client = AsyncClient.sharing(client)
    return _async_client


def run(prompt: Prompt, **options: Unpack[RunOptions]) -> Completion:
    """Ask a model, and wait for the whole answer. Raises a subclass of AistraleError.

    >>> aistrale.run("Hello, world!", provider="echo").text
    'Hello, world!'
    """
    return default_client().run(prompt, **options)


async def run_async(prompt: Prompt, **options: Unpack[RunOptions]) -> Completion:
    """`run` for async code."""
    return await default_async_client().run(prompt, **options)


def stream(prompt: Prompt, **options: Unpack[RunOptions]) -> CompletionStream:
    """Ask a model, and read the answer as it comes: `for chunk in aistrale.stream("Hello"): ...`."""
    return default_client().stream(prompt, **options)


def stream_async(prompt: Prompt, **options: Unpack[RunOptions]) -> AsyncCompletionStream:
    """`stream` for async code: `async for chunk in aistrale.stream_async("Hello"): ...`, without await."""
    return default_async_client().stream(prompt, **options)


def run_batch(
    prompts: Iterable[Prompt],
    *,
    concurrency: int = 8,
    progress: Progress = None,
    **options: Unpack[RunOptions],
) -> list[BatchResult]:
    """Ask many prompts at once; an item that fails is its error in the list. See Client.run_batch."""
    return default_client().run_batch(prompts, concurrency=concurrency, progress=progress, **options)


async def run_batch_async(
    prompts: Iterable[Prompt],
    *,
    concurrency: int = 8,
    progress: Progress = None,
    **options: Unpack[RunOptions],
) -> list[BatchResult]:
    """`run_batch` for async code."""
    return await default_async_client().run_batch(prompts, concurrency=concurrency, progress=progress, **options)


class _EitherSession(Session):
    """What `aistrale.session()` gives: `with` makes it a Session, `async with` an AsyncSession."""

    async def __aenter__(self) -> AsyncSession:
        return AsyncSession.continuing(self)

    async def __aexit__(self, *error: object) -> None: ...


def session(id: str | None = None, *, system: str | None = None, **options: Unpack[RunOptions]) -> _EitherSession:
    """A conversation that remembers what was said: `with aistrale.session() as s: s.run("Hello")`.

    `async with aistrale.session() as s: await s.run("Hello")` is the same for async code.
    """
    return _EitherSession(default_client().core, options, id=id, system=system)


def embed(texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> Embedding:
    """The vectors of one text or several."""
    return default_client().embed(texts, **options)


async def embed_async(texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> Embedding:
    """`embed` for async code."""
    return await default_async_client().embed(texts, **options)
