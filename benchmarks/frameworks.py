"""How a framework's model becomes a contender: what makes it, and what a call of it is."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from benchmarks.contenders import AsyncCall, AsyncOpener, Call, Opener, Ready

Model = Callable[[str], Any]
"""Makes a model that calls the upstream at an address."""


def calling(of: Model, ask: Callable[[Any], int]) -> Opener:
    """Opens one whose call is `ask`, which tells how long the text is that came."""

    @contextmanager
    def run(base_url: str) -> Iterator[Ready[Call]]:
        model = of(base_url)
        yield Ready(lambda: ask(model))

    return run


def awaiting(of: Model, ask: Callable[[Any], Awaitable[int]]) -> AsyncOpener:
    """The same in async code; a model that can be closed is."""

    @asynccontextmanager
    async def run(base_url: str) -> AsyncIterator[Ready[AsyncCall]]:
        model = of(base_url)
        yield Ready(lambda: ask(model))
        if hasattr(model, "aclose"):
            await model.aclose()

    return run


def texts_in(lines: Iterable[str]) -> Iterator[str]:
    """The pieces of text in an event stream."""
    for line in lines:
        if line.startswith("data: ") and line != "data: [DONE]":
            for choice in json.loads(line[6:])["choices"]:
                if text := choice["delta"].get("content"):
                    yield text
