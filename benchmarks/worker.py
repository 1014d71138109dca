"""One contender in a process of its own, making blocks of calls to order.

A process each keeps one contender's imports, threads and garbage out of another's time. The bench orders
the blocks one at a time, so no two contenders ever run at once.
"""

import asyncio
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import bookkeepers, contenders, langchain_models, llamaindex_models, upstream
from benchmarks.contenders import AsyncCall, AsyncOpener, Call, Opener, Ready

WARM_UP_CALLS = 2
PATIENCE = 180.0
"""Seconds a worker may take to start, or for one block."""

STATUS = Path("/proc/self/status")
RESIDENT = re.compile(r"^VmRSS:\s*(\d+) kB$", re.MULTILINE)


class ContenderFailedError(Exception):
    """The contender could not be opened, failed a call, received the wrong text or failed its audit."""


class WrongTextError(Exception):
    """A call gave another text than the upstream sent."""


@dataclass(frozen=True)
class Job:
    """What a worker is for: one of WORKLOADS, by whom, and how many calls in flight."""

    workload: str
    contender: str
    in_flight: int = 1

    def __str__(self) -> str:
        return self.contender if self.in_flight == 1 else f"{self.contender}, {self.in_flight} in flight"


@dataclass(frozen=True)
class Block:
    """What some calls took: wall seconds, CPU seconds of the worker and of its thread that called, and resident KiB."""

    calls: int
    seconds: float
    cpu_seconds: float
    caller_seconds: float
    resident_kib: int


@dataclass(frozen=True)
class Failure:
    """A worker's last word when it fails."""

    reason: str


# In the bench's process.


class Worker:
    """The handle of a worker process; starts it at once, and does not wait for it."""

    def __init__(self, job: Job, base_url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, job, base_url), daemon=True)
        self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Raise ContenderFailedError where the contender cannot be opened."""
        self._reply()

    def block(self, calls: int) -> Block:
        """Make and time `calls` calls, after a few untimed ones; raises ContenderFailedError."""
        self._orders.send(calls)
        block = self._reply()
        assert isinstance(block, Block)
        return block

    def audit(self) -> str:
        """End the worker's service: its remark for the report, or ContenderFailedError."""
        self._orders.send(0)
        return str(self._reply())

    def close(self) -> None:
        self._orders.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()

    def _reply(self) -> object:
        if not self._orders.poll(PATIENCE):
            raise ContenderFailedError(f"no answer in {PATIENCE:.0f} s")
        try:
            reply = self._orders.recv()
        except (EOFError, ConnectionError) as error:
            raise ContenderFailedError("its process died") from error
        if isinstance(reply, Failure):
            raise ContenderFailedError(reply.reason)
        return reply


# In the worker's process.


class Measured:
    """Times blocks of calls, and keeps count of all calls made, timed or not.

    in_all: what goes on in the background belongs to the block, to its end.
    """

    def __init__(
        self, ready: Ready[Any], drive: Callable[[int], None], warm_up_calls: int, *, in_all: bool = False
    ) -> None:
        self._ready = ready
        self._in_all = in_all
        self._drive = drive
        self._warm_up_calls = warm_up_calls
        self._made = 0

    def block(self, calls: int) -> Block:
        self._make(self._warm_up_calls)
        wall, cpu, caller = time.perf_counter(), time.process_time(), time.thread_time()
        self._make(calls)
        caller_seconds = time.thread_time() - caller
        if self._in_all:
            self._ready.settle()
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        self._ready.settle()
        return Block(calls, seconds, cpu_seconds, caller_seconds, _resident_kib())

    def audit(self) -> str:
        return self._ready.audit(self._made)

    def _make(self, calls: int) -> None:
        self._drive(calls)
        self._made += calls


def _resident_kib() -> int:
    """This process's resident memory; 0 where the system does not tell it."""
    found = RESIDENT.search(STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) if found else 0


def _check(received: int, expected: int) -> None:
    if received != expected:
        raise WrongTextError(f"{received} characters instead of {expected}")


def _in_turn(call: Call, calls: int, expected: int) -> None:
    for _ in range(calls):
        _check(call(), expected)


async def _in_flight(call: AsyncCall, calls: int, expected: int, in_flight: int) -> None:
    """A closed loop: each of `in_flight` tasks makes the next call as soon as its last one has ended."""
    tickets = iter(range(calls))

    async def work() -> None:
        for _ in tickets:
            _check(await call(), expected)

    await asyncio.gather(*(work() for _ in range(in_flight)))


@contextmanager
def _sync(opener: Opener, expected: int, job: Job, base_url: str) -> Iterator[Measured]:
    with opener(base_url) as ready:
        yield Measured(ready, lambda calls: _in_turn(ready.call, calls, expected), WARM_UP_CALLS)


@contextmanager
def _async(opener: AsyncOpener, expected: int, job: Job, base_url: str) -> Iterator[Measured]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        ready = runner.run(stack.enter_async_context(opener(base_url)))

        def drive(calls: int) -> None:
            runner.run(_in_flight(ready.call, calls, expected, job.in_flight))

        yield Measured(ready, drive, warm_up_calls=job.in_flight)
        runner.run(stack.aclose())


@contextmanager
def _in_all(opener: Opener, expected: int, job: Job, base_url: str) -> Iterator[Measured]:
    with opener(base_url) as ready:
        drive = partial(_in_turn, ready.call, expected=expected)
        yield Measured(ready, drive, WARM_UP_CALLS, in_all=True)


@dataclass(frozen=True)
class Workload:
    """Who can do it, the text a call receives, and how a contender is driven."""

    openers: Mapping[str, Any]
    text: str
    open: Callable[[Any, int, Job, str], AbstractContextManager[Measured]]


WORKLOADS = {
    "run": Workload(contenders.RUN, upstream.TEXT, _sync),
    "books": Workload(bookkeepers.BOOKS, upstream.TEXT, _in_all),
    "collector": Workload(bookkeepers.COLLECTORS, upstream.TEXT, _sync),
    "stream": Workload(contenders.STREAM, upstream.STREAMED_TEXT, _sync),
    "async": Workload(contenders.ASYNC, upstream.TEXT, _async),
    "invoke": Workload(langchain_models.INVOKE, upstream.TEXT, _sync),
    "chunks": Workload(langchain_models.CHUNKS, upstream.STREAMED_TEXT, _sync),
    "ainvoke": Workload(langchain_models.AINVOKE, upstream.TEXT, _async),
    "complete": Workload(llamaindex_models.COMPLETE, upstream.TEXT, _sync),
    "stream_complete": Workload(llamaindex_models.STREAM_COMPLETE, upstream.STREAMED_TEXT, _sync),
    "acomplete": Workload(llamaindex_models.ACOMPLETE, upstream.TEXT, _async),
    "tokens": Workload(langchain_models.TOKENS, upstream.STREAMED_TEXT, _async),
}


def serve(orders: Connection, job: Job, base_url: str) -> None:
    """Open the contender, say so, then answer each number of calls with a Block and 0 with the audit."""
    os.dup2(2, 1)  # Standard output belongs to the report, whatever a contender prints.
    sys.dont_write_bytecode = False  # A spawned process has this from the flags of the one that spawned it.
    workload = WORKLOADS[job.workload]
    try:
        with workload.open(workload.openers[job.contender], len(workload.text), job, base_url) as measured:
            orders.send("ready")
            while calls := orders.recv():
                orders.send(measured.block(calls))
            orders.send(measured.audit())
    except EOFError:
        return
    except ImportError as error:
        orders.send(Failure(f"{type(error).__name__}: {error}"))
    except Exception as error:
        orders.send(Failure(f"{type(error).__name__}: {error}"))
        raise
