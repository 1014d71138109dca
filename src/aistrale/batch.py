"""Many prompts at once: in order, so many at a time, each with its own outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeAlias

from aistrale.exceptions import AistraleError, ConfigurationError
from aistrale.models import Completion, Prompt

logger = logging.getLogger("aistrale")

BatchResult: TypeAlias = Completion | AistraleError
Progress: TypeAlias = Callable[[int, int], Any] | bool | None
"""Called with the number of items done and of all items; True draws a tqdm bar."""


def run_batch(
    run: Callable[[Prompt], Completion], prompts: Iterable[Prompt], concurrency: int, progress: Progress
) -> list[BatchResult]:
    """Run every prompt in a pool of threads."""
    prompts = _checked(prompts, concurrency)

    def outcome(prompt: Prompt) -> BatchResult:
        try:
            return run(prompt)
        except AistraleError as error:
            return error

    with _told(progress, len(prompts)) as done:
        pool = ThreadPoolExecutor(min(concurrency, len(prompts)) or 1, thread_name_prefix="aistrale-batch")
        try:
            futures = [pool.submit(copy_context().run, outcome, prompt) for prompt in prompts]
            for future in as_completed(futures):
                future.result()
                done()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures]


async def run_batch_async(
    run: Callable[[Prompt], Awaitable[Completion]],
    prompts: Iterable[Prompt],
    concurrency: int,
    progress: Progress,
) -> list[BatchResult]:
    """Run every prompt in the running event loop, by `concurrency` workers that share one queue."""
    prompts = _checked(prompts, concurrency)
    results: list[Any] = [None] * len(prompts)
    waiting = iter(enumerate(prompts))

    async def work(done: Callable[[], object]) -> None:
        for position, prompt in waiting:
            try:
                results[position] = await run(prompt)
            except AistraleError as error:
                results[position] = error
            done()

    with _told(progress, len(prompts)) as done:
        tasks = [asyncio.create_task(work(done)) for _ in range(min(concurrency, len(prompts)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return results


def _checked(prompts: Iterable[Prompt], concurrency: int) -> list[Prompt]:
    if isinstance(prompts, str | Mapping):
        raise ConfigurationError("run_batch takes a list of prompts; for a single one there is run")
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigurationError(f"concurrency must be a whole number from 1 on, not {concurrency!r}")
    return list(prompts)


@contextmanager
def _told(progress: Progress, total: int) -> Iterator[Callable[[], object]]:
    """A function to call after each item, whoever wants to know."""
    if progress is True:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ConfigurationError('progress=True draws with tqdm: pip install "aistrale[all]" or tqdm') from error
        with tqdm(total=total) as bar:
            yield bar.update
        return
    finished = 0

    def done() -> None:
        nonlocal finished
        finished += 1
        if callable(progress):
            try:
                progress(finished, total)
            except Exception as error:
                logger.warning(
                    "the progress callback raised %s; the batch goes on", type(error).__name__, exc_info=error
                )

    yield done
