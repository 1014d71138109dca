"""Takes finished spans off their callers' hands: a bounded queue, and one thread that delivers in batches."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aistrale.logs import warn_once_a_minute
from aistrale.spans import Span

QUEUE_LIMIT = 20_000
"""Spans that wait in memory at most. Those beyond it are dropped, and counted."""

LINGER_SECONDS = 0.5
"""How long a span waits for company."""

IDLE_SECONDS = 5.0
"""How long the thread stays without work."""

EXIT_SECONDS = 1.5
"""How long the end of a process may wait for what is still on its way."""


class Sink(Protocol):
    """Where spans go."""

    batch: int
    """How many spans it takes at once."""

    @property
    def name(self) -> str:
        """Where that is, as warnings and `status` say it."""

    @property
    def obstacle(self) -> Exception | None:
        """Why it has put spans by instead of delivering them, if it has."""

    @property
    def set_aside(self) -> int:
        """How many of the spans it had put by were left in their files for good."""

    def deliver(self, spans: list[Span], *, at_exit: bool) -> int:
        """Deliver them; raise what keeps them here, to be tried again. The result is how many were refused for good."""

    def due_in(self) -> float | None:
        """In how many seconds it wants to deliver what it has put by; None if that is nothing."""

    def delivered(self) -> None:
        """A delivery is over, and nobody is kept from another while this runs."""

    def give_up(self, spans: list[Span]) -> int:
        """The process ends and they could not be delivered in time; the result is how many are lost."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the spans of this process get to one place, since it began or was forked.

    destination: the database, or a collector's address. waiting: spans that wait. delivered: spans that are there,
    or in files that the database is filled from. dropped: spans that are not, because too many waited, they were
    refused or set aside, or the process ended. set_aside: spans in files, of whichever process, that this one found
    no database to take, and left there. last_error: why they wait, or are kept in files, at present.
    """

    destination: str
    waiting: int
    delivered: int
    dropped: int
    set_aside: int
    last_error: str | None


class Recorder:
    """Delivers spans to a sink in the background.

    `record` costs its caller a few microseconds and never fails. What cannot be delivered waits, is told of
    once a minute, and beyond QUEUE_LIMIT is dropped and counted in `dropped`. A child after a fork delivers
    its own spans, and leaves its parent's to it. One that `yields` wants no spans that an application's own
    provider makes.
    """

    def __init__(self, sink: Sink, *, yields: bool = False) -> None:
        self.sink = sink
        self.yields = yields
        self._reset()
        _recorders.append(self)

    def _reset(self) -> None:
        self.delivered = self.dropped = 0
        self.last_error: Exception | None = None
        self._queue: deque[Span] = deque()
        self._lock = threading.Lock()
        self._delivering = threading.Lock()
        self._pending, self._hurry = threading.Event(), threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> Delivery:
        """How its deliveries go."""
        error = self.sink.obstacle or self.last_error
        said = None if error is None else str(error)
        return Delivery(self.sink.name, len(self._queue), self.delivered, self.dropped, self.sink.set_aside, said)

    def record(self, span: Span) -> None:
        """Have a finished span delivered soon."""
        if self._ending:  # somebody calls a model while the process ends
            self._drop(self.sink.give_up([span]))
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._drop(1)
            warn_once_a_minute(f"{self.sink.name} is slow", "spans are dropped: %d wait already", QUEUE_LIMIT)
            return
        self._queue.append(span)
        if self._thread is None:
            self._start()
        if not self._pending.is_set():
            self._pending.set()

    def deliver_by(self, deliver: Callable[[list[Span]], int], patience: float) -> None:
        """Have what waits delivered now, in batches or as none; `deliver` says how many of one were refused.

        It goes on waiting if that fails. Raises TimeoutError if another delivery takes longer than so many seconds.
        """
        if not self._delivering.acquire(timeout=patience):
            raise TimeoutError
        try:
            waiting = len(self._queue)
            while True:
                batch = list(self._queue)[: min(waiting, self.sink.batch)]
                self._forget(batch, deliver(batch))
                waiting -= len(batch)
                if waiting <= 0:
                    break
        finally:
            self._delivering.release()
        self.sink.delivered()
        if self._thread is None and self.sink.due_in() == 0:  # it has something left to do, for nobody to wait for
            self._start()

    def end(self) -> None:
        """Deliver what waits within EXIT_SECONDS; the process ends."""
        thread, self._ending = self._thread, True
        if thread is not None:
            self._hurry.set()
            self._pending.set()
            thread.join(EXIT_SECONDS)
        if self._queue:
            rest = list(self._queue)
            self._queue.clear()
            if lost := self.sink.give_up(rest):
                self._drop(lost)
                why = self.sink.obstacle or self.last_error or "there was no time"
                warn_once_a_minute(self.sink.name, "%d spans are lost with the end of the process: %s", lost, why)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._ending:
                _end_with_process()
                self._thread = threading.Thread(target=self._work, name="aistrale-recorder", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            due = self.sink.due_in()
            is_due = not self._pending.wait(IDLE_SECONDS if due is None else due) and due is not None
            if not self._pending.is_set() and not is_due and self._rest():
                return
            if not is_due:
                self._hurry.wait(LINGER_SECONDS)
                self._pending.clear()
            try:
                with self._delivering:
                    self._deliver_all(also_nothing=is_due)
                self.sink.delivered()
                if self._queue:
                    self._pending.set()
            except Exception as error:  # noqa: BLE001 - a watcher's fault is never the call's
                self._warn(error)
                self._hurry.wait(1.0)
                self._pending.set()
            if self._ending:
                return

    def _rest(self) -> bool:
        """End the thread if there is nothing to do; the next span starts another."""
        with self._lock:
            self._thread = None
            if self._queue:  # it came just now, and saw a thread
                self._thread = threading.current_thread()
        return self._thread is None

    def _deliver_all(self, *, also_nothing: bool) -> None:
        if also_nothing and not self._queue:
            self.sink.deliver([], at_exit=self._ending)
        waiting = len(self._queue)  # what comes meanwhile waits for company again
        while waiting > 0 and (batch := list(self._queue)[: self.sink.batch]):
            waiting -= len(batch)
            self._forget(batch, self.sink.deliver(batch, at_exit=self._ending))

    def _forget(self, batch: list[Span], refused: int = 0) -> None:
        self.last_error = None
        self.delivered += len(batch) - refused
        self._drop(refused)
        for _ in batch:
            self._queue.popleft()

    def _drop(self, number: int) -> None:
        with self._lock:
            self.dropped += number

    def _warn(self, error: Exception) -> None:
        self.last_error = error
        if not self._ending:  # then `end` tells
            said = "spans cannot be delivered: %s (%d wait, %d dropped)"
            warn_once_a_minute(self.sink.name, said, error, len(self._queue), self.dropped)


def status() -> list[Delivery]:
    """How deliveries go to each place that spans of this process went to."""
    return [recorder.status for recorder in _recorders]


_recorders: list[Recorder] = []
_ends_with: int | None = None


def _end_with_process() -> None:
    """See to it that the end of this process ends the recorders."""
    global _ends_with
    if _ends_with == os.getpid():
        return
    is_first, _ends_with = _ends_with is None, os.getpid()
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        # Its children leave without atexit, but not without their finalizers.
        from multiprocessing.util import Finalize

        Finalize(None, _end_all, exitpriority=0)
    elif is_first:
        atexit.register(_end_all)


def _end_all() -> None:
    for recorder in _recorders:
        recorder.end()


def _after_fork() -> None:
    for recorder in _recorders:
        recorder._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
