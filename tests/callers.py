"""The ways there are to ask a model, behind one method: what holds for one has to hold for all."""

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeAlias, cast

import httpx
import pytest
from upstream import Upstream

from aistrale import AsyncClient, Client, Completion

KEY = "sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW"
"""The key of every test's client: none may turn up where people look."""


def elsewhere(url: str) -> dict[str, str]:
    """Options of a single call that goes to another address, as the same provider and with the same key."""
    return {"provider": "openai", "model": "gpt-test", "base_url": url}


@dataclass(frozen=True)
class Way:
    """Sync or async, whole or streamed, over our own pool or an httpx client of the user's."""

    is_async: bool = False
    streamed: bool = False
    own_client: bool = False

    def __str__(self) -> str:
        words = ("async" if self.is_async else "sync", "stream" * self.streamed, "httpx" * self.own_client)
        return "-".join(word for word in words if word)


SYNC, ASYNC = Way(), Way(is_async=True)
SYNC_STREAM, ASYNC_STREAM = Way(streamed=True), Way(is_async=True, streamed=True)
OWN_SYNC, OWN_ASYNC = Way(own_client=True), Way(is_async=True, own_client=True)
OWN_SYNC_STREAM, OWN_ASYNC_STREAM = Way(streamed=True, own_client=True), Way(True, True, True)

sync_and_async = pytest.mark.parametrize("way", [SYNC, ASYNC], ids=str)
our_ways = pytest.mark.parametrize("way", [SYNC, SYNC_STREAM, ASYNC, ASYNC_STREAM], ids=str)
EVERY_WAY = [SYNC, SYNC_STREAM, ASYNC, ASYNC_STREAM, OWN_SYNC, OWN_SYNC_STREAM, OWN_ASYNC, OWN_ASYNC_STREAM]
every_way = pytest.mark.parametrize("way", EVERY_WAY, ids=str)
every_stream = pytest.mark.parametrize("way", [SYNC_STREAM, ASYNC_STREAM, OWN_SYNC_STREAM, OWN_ASYNC_STREAM], ids=str)


class Caller:
    """A client and one way to ask it; an async one keeps its event loop from call to call."""

    def __init__(self, way: Way, **options: Any) -> None:
        self._way = way
        self._runner = asyncio.Runner()
        own = httpx.AsyncClient if way.is_async else httpx.Client
        self._own = own(verify=False) if way.own_client else None  # certificates take long to load
        kind = AsyncClient if way.is_async else Client
        self.client: Any = kind(http_client=self._own, **options)

    def ask(self, prompt: Any = "Hello", **options: Any) -> Completion:
        """The whole answer, whichever way it comes."""
        if self._way.is_async:
            return self._runner.run(self._ask_async(prompt, options))
        if self._way.streamed:
            return cast(Completion, self.client.stream(prompt, **options).until_done())
        return cast(Completion, self.client.run(prompt, **options))

    async def _ask_async(self, prompt: Any, options: dict[str, Any]) -> Completion:
        if self._way.streamed:
            return cast(Completion, await self.client.stream(prompt, **options).until_done())
        return cast(Completion, await self.client.run(prompt, **options))

    def close_connections(self) -> None:
        if self._way.is_async:
            self._runner.run(self.client.aclose())
        else:
            self.client.close()

    def close(self) -> None:
        self.close_connections()
        if isinstance(self._own, httpx.AsyncClient):
            self._runner.run(self._own.aclose())
        elif self._own is not None:
            self._own.close()
        self._runner.close()


Calling: TypeAlias = Callable[..., Caller]


@pytest.fixture
def calling(upstream: Upstream) -> Iterator[Calling]:
    """Makes callers of the test's upstream, and closes them."""
    callers: list[Caller] = []

    def call(way: Way, **options: Any) -> Caller:
        defaults = {"provider": "openai", "model": "gpt-test", "api_key": KEY, "base_url": upstream.url}
        callers.append(Caller(way, **{**defaults, **options}))
        return callers[-1]

    yield call
    for caller in callers:
        caller.close()


def everything_shown(error: BaseException) -> str:
    """All that people get to see of an error: its texts, its fields, and the traceback with its causes."""
    texts = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    return "\n".join(texts)


def assert_holds_no_key(text: str, key: str = KEY) -> None:
    """Neither the key nor enough of it to know it by."""
    found = next((at for part in (key[:12], key[-12:]) if (at := text.find(part)) >= 0), None)
    assert found is None, f"a key is shown: {text[max(0, found - 300) : found + 100]!r}"


def steps_of_ours(run: Callable[[], object]) -> int:
    """How many functions of ours are called meanwhile: what time it takes is for `make bench` to say."""
    found = 0

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal found
        found += event == "call" and frame.f_globals.get("__name__", "").startswith("aistrale")

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found
