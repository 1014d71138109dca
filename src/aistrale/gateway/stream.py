"""A streamed answer as its caller holds it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType

from aistrale.exceptions import AistraleError
from aistrale.gateway.drivers import AsyncDriver, Driver
from aistrale.gateway.flow import Left
from aistrale.models import Chunk, Completion


class CompletionStream:
    """An iterator of chunks and a context manager; `completion` is the whole answer once it has ended.

    The request is sent at the first iteration. Leaving the `with` block or calling `close` early closes
    the connection; so does forgetting the stream.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ready: deque[Chunk] = deque()
        self._state = _State()

    def __iter__(self) -> CompletionStream:
        return self

    def __next__(self) -> Chunk:
        while not self._ready:
            if self._state.over:
                raise StopIteration
            self._advance()
        return self._ready.popleft()

    def _advance(self) -> None:
        self._state.started = True
        try:
            chunks = self._driver.run()
        except BaseException:
            self._state.over = True
            raise
        if chunks is None:
            self._state.end(self._driver.result)
        elif self._state.over:  # a handler has closed it
            _swallow_exit(self._driver)
        else:
            self._ready.extend(chunks)

    @property
    def completion(self) -> Completion:
        """The whole answer. Raises AistraleError while the stream has not ended, or if it never will."""
        return self._state.completion()

    def until_done(self) -> Completion:
        """Read the stream to its end and return the whole answer."""
        for _ in self:
            pass
        return self.completion

    def close(self) -> None:
        """End the stream here. Safe to call more than once."""
        self._ready.clear()
        if self._state.leave() and not self._driver.is_busy:
            _swallow_exit(self._driver)

    def __enter__(self) -> CompletionStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncCompletionStream:
    """`CompletionStream` for async code."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._ready: deque[Chunk] = deque()
        self._state = _State()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __aiter__(self) -> AsyncCompletionStream:
        return self

    async def __anext__(self) -> Chunk:
        while not self._ready:
            if self._state.over:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def _advance(self) -> None:
        if not self._state.started:
            self._state.started = True
            self._loop = asyncio.get_running_loop()
        try:
            chunks = await self._driver.run()
        except BaseException:
            self._state.over = True
            raise
        if chunks is None:
            self._state.end(self._driver.result)
        else:
            self._ready.extend(chunks)

    @property
    def completion(self) -> Completion:
        """The whole answer. Raises AistraleError while the stream has not ended, or if it never will."""
        return self._state.completion()

    async def until_done(self) -> Completion:
        """Read the stream to its end and return the whole answer."""
        async for _ in self:
            pass
        return self.completion

    async def aclose(self) -> None:
        """End the stream here. Safe to call more than once."""
        self._ready.clear()
        if self._state.leave():
            await _swallow_exit_async(self._driver)

    async def __aenter__(self) -> AsyncCompletionStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        """A forgotten stream ends at once for its handlers; its event loop closes the connection."""
        if self._state.leave() and self._loop is not None:
            self._driver.abandon(self._loop)


class _State:
    """How far a stream is."""

    def __init__(self) -> None:
        self.started = self.over = False
        self._result: Completion | None = None

    def end(self, result: Completion) -> None:
        self.over, self._result = True, result

    def leave(self) -> bool:
        """Mark the stream as over; True if it was open, so that there is something to close."""
        was_open = self.started and not self.over
        self.over = True
        return was_open

    def completion(self) -> Completion:
        if self._result is None:
            why = "was closed or failed before its end" if self.over else "has not ended: iterate over it first"
            raise AistraleError(f"There is no completion: the stream {why}")
        return self._result


def _swallow_exit(driver: Driver) -> None:
    with suppress(Left):
        driver.run(Left())


async def _swallow_exit_async(driver: AsyncDriver) -> None:
    with suppress(Left):
        await driver.run(Left())
