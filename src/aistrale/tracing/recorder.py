"""Takes finished spans off their callers' hands: a bounded queue, and one thread that delivers in batches."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from aistrale.logs import warn_once_a_minute
from aistrale.spans import Span

logger = logging.getLogger("aistrale")

QUEUE_LIMIT = 20_000
"""Spans that wait in memory at most. Those beyond it are dropped, and counted."""

LINGER_SECONDS = 0.5
"""How long a span waits for company."""

IDLE_SECONDS = 5.0
"""How long the thread stays without work."""

PAUSE_SECONDS = 1.0
"""How long it waits after a delivery that failed."""

EXIT_SECONDS = 1.5
"""How long the end of a process may wait for what is still on its way."""

_PUTTING_BY_SECONDS = 5e-5
"""What putting one span by may take."""


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
    def is_local(self) -> bool:
        """Whether what it puts by is as safe as what it delivers: both are on this machine."""

    @property
    def set_aside(self) -> int:
        """How many of the spans it had put by were left in their files for good."""

    def deliver(self, spans: list[Span], *, within: float | None) -> int:
        """Deliver them; raise what keeps them here, to be tried again. The result is how many were refused for good.

        within: the seconds there are, where somebody waits for it; then pauses it would keep are not kept.
        """

    def due_in(self) -> float | None:
        """In how many seconds it wants to deliver what it has put by; None if that is nothing."""

    def delivered(self) -> None:
        """A delivery is over, and nobody is kept from another while this runs."""

    def put_by(self, spans: list[Span]) -> int:
        """There was no time to deliver them: put them where they outlast the process; the result is how many it
        could not.
        """

    def end(self, seconds: float) -> None:
        """The process ends: end what goes on beside deliveries, in so many seconds."""

    def after_fork(self) -> None:
        """In a child: forget what its parent has delivered, and will tell of."""


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

    A signal's handler may call all of it, whatever it interrupts: the thread is woken by a bell that needs no lock,
    and the one lock that callers take may be taken twice.
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
        self._left = 0  # spans that have left the queue
        self._delivering = threading.Lock()
        self._changed = threading.Condition()
        self._asked = self._answered = 0  # deliveries that somebody asked for, and those of them that are over
        self._until = 0.0  # when the last of these stops waiting
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._sleeps = False
        self._ending = self._ended = False
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> Delivery:
        """How its deliveries go."""
        error = self.sink.obstacle or self.last_error
        said = None if error is None else str(error)
        return Delivery(self.sink.name, len(self._queue), self.delivered, self.dropped, self.sink.set_aside, said)

    def record(self, span: Span) -> None:
        """Have a finished span delivered soon."""
        if len(self._queue) >= QUEUE_LIMIT:
            self._drop(1)
            warn_once_a_minute(f"{self.sink.name} is slow", "spans are dropped: %d wait already", QUEUE_LIMIT)
            return
        self._queue.append(span)
        if self._ended:  # somebody calls a model while the process ends
            self._put_rest_by()
            return
        if self._thread is None:
            self._start()
        if self._sleeps:
            self._sleeps = False
            self._bell.put(None)

    def deliver_by(self, deliver: Callable[[list[Span]], int], patience: float, *, announces: bool = True) -> None:
        """Have what waits delivered now, in batches or as none; `deliver` says how many of one were refused.

        It goes on waiting if that fails. announces=False leaves telling the sink that it is over to the caller. Raises
        TimeoutError if another delivery takes longer than so many seconds.
        """
        _end_with_process()
        if not self._delivering.acquire(timeout=patience):
            raise TimeoutError
        try:
            self._deliver_waiting(deliver)
        finally:
            self._delivering.release()
        if announces:
            self.sink.delivered()

    def flush(self, until: float) -> Callable[[], bool]:
        """Have what waits delivered at once. The result waits for that until then, by the monotonic clock, and says
        whether all of it is where it was to go, or where it is as safe.
        """
        if not self._queue and self.sink.due_in() is None:
            return lambda: True
        with self._changed:
            last, dropped = self._left + len(self._queue), self.dropped
        number = self._ask(until)

        def answer() -> bool:
            with self._changed:
                time_left = until - time.monotonic() - _PUTTING_BY_SECONDS * len(self._queue)
                self._changed.wait_for(lambda: self._answered >= number, time_left)
                rest = list(self._queue)[: max(0, last - self._left)]
            was_put_by = self.sink.put_by(rest) == 0  # the thread goes on with them: books take nothing twice
            delivered = not rest and self.sink.obstacle is None
            return self.dropped == dropped and (delivered or (was_put_by and self.sink.is_local))

        return answer

    def begin_end(self, until: float) -> None:
        """The process ends: have what waits delivered until then, by the monotonic clock."""
        self._ending = True
        if self._thread is not None:
            self._ask(until)

    def end(self, until: float) -> None:
        """Wait for that, and put by what is left."""
        self.sink.end(max(0.0, until - time.monotonic()))
        if (thread := self._thread) is not None:
            thread.join(max(0.0, until - time.monotonic()))
        self._ended = True
        self._put_rest_by()

    def _ask(self, until: float) -> int:
        """Have the thread deliver at once; the number to wait for."""
        with self._changed:
            self._asked += 1
            self._until = max(self._until, until)
            number = self._asked
        self._start()
        self._bell.put(None)
        if self._thread in (None, threading.current_thread()):  # nobody else will
            self._deliver_all(max(0.0, until - time.monotonic()))
        return number

    def _start(self) -> None:
        with self._changed:
            if self._thread is None and not self._ending:
                _end_with_process()
                self._thread = threading.Thread(target=self._work, name="aistrale-recorder", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # the system has no more; the next span tries again
                    self._thread = None
                    self._warn(error)

    # In the thread

    def _work(self) -> None:
        while self._has_work():
            if not self._is_asked:
                self._doze(LINGER_SECONDS)
            if not self._deliver_all() and not self._is_asked:
                self._doze(PAUSE_SECONDS)
            if self._ending:
                return

    def _has_work(self) -> bool:
        """Wait until there is something to do; False if that takes long, and the thread is over."""
        while not self._is_asked:
            self._sleeps = True
            due = self.sink.due_in()
            if self._queue or due == 0:
                break
            was_woken = self._doze(IDLE_SECONDS if due is None else due)
            if not was_woken and due is None and self._rest():
                return False
        self._sleeps = False
        with suppress(Empty):
            while True:  # several may have rung
                self._bell.get_nowait()
        return True

    def _rest(self) -> bool:
        """End the thread if there is nothing to do; the next span starts another."""
        with self._changed:
            if self._queue or self._is_asked:  # it came just now, and saw a thread
                return False
            self._thread = None
        return True

    def _doze(self, seconds: float) -> bool:
        """Wait so long, or until the bell rings; whether it did."""
        try:
            self._bell.get(timeout=seconds)
        except Empty:
            return False
        return True

    @property
    def _is_asked(self) -> bool:
        return self._asked > self._answered

    def _deliver_all(self, patience: float = -1) -> bool:
        """Deliver what waits, and what the sink has put by; whether that went well.

        patience: seconds to wait for another delivery; by default as long as it takes.
        """
        asked, went_well = self._asked, self._delivering.acquire(timeout=patience)
        if went_well:
            try:
                if self._queue or self.sink.due_in() is not None:
                    self._deliver_waiting(self._deliver)
            except Exception as error:  # noqa: BLE001 - a watcher's fault is never the call's
                went_well = False
                self._warn(error)
            finally:
                self._delivering.release()
        with self._changed:
            self._answered = max(asked, self._answered)
            self._changed.notify_all()
        if went_well:
            self._tell_of_delivery()
        return went_well

    def _tell_of_delivery(self) -> None:
        try:
            self.sink.delivered()
        except Exception as error:  # noqa: BLE001 - as above
            self._warn(error)

    def _deliver(self, batch: list[Span]) -> int:
        left = self._until - time.monotonic() if self._is_asked else 0.0
        return self.sink.deliver(batch, within=left if left > 0 else None)

    def _deliver_waiting(self, deliver: Callable[[list[Span]], int]) -> None:
        waiting = len(self._queue)  # what comes meanwhile waits for company again
        while True:
            batch = list(self._queue)[: min(waiting, self.sink.batch)]
            self._forget(batch, deliver(batch))
            waiting -= len(batch)
            if waiting <= 0 or not self._queue:
                return

    def _forget(self, batch: list[Span], refused: int) -> None:
        with self._changed:
            self.last_error = None
            self.delivered += len(batch) - refused
            self.dropped += refused
            for span in batch:
                if self._queue and self._queue[0] is span:  # else it was put by: the process ends
                    self._queue.popleft()
                    self._left += 1

    def _put_rest_by(self) -> None:
        rest = []
        while self._queue:
            with suppress(IndexError):  # another thread does so as well
                rest.append(self._queue.popleft())
        if rest and (lost := self.sink.put_by(rest)):
            self._drop(lost)
            why = self.sink.obstacle or self.last_error or "there was no time"
            warn_once_a_minute(
                f"{self.sink.name} at the end", "%d spans are lost with the end of the process: %s", lost, why
            )

    def _drop(self, number: int) -> None:
        with self._changed:
            self.dropped += number

    def _warn(self, error: Exception) -> None:
        self.last_error = error
        if not self._ending:  # then `end` tells
            said = "spans cannot be delivered: %s (%d wait, %d dropped)"
            warn_once_a_minute(self.sink.name, said, error, len(self._queue), self.dropped)


def status() -> list[Delivery]:
    """How deliveries go to each place that spans of this process went to."""
    return [recorder.status for recorder in _recorders]


def flush(timeout: float) -> bool:
    """Have all that waits delivered within so many seconds, to all places at once; whether all of it is safe."""
    until = time.monotonic() + timeout
    answers = [recorder.flush(until) for recorder in list(_recorders)]
    took = [answer() for answer in answers]  # each, whatever the others say
    return all(took)


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
    until = time.monotonic() + EXIT_SECONDS
    for recorder in _recorders:
        recorder.begin_end(until)
    for recorder in _recorders:
        try:
            recorder.end(until)
        except Exception:  # another's spans are not to be lost for it
            logger.exception("spans for %s may be lost with the end of the process", recorder.sink.name)


def _after_fork() -> None:
    for recorder in _recorders:
        recorder._reset()
        recorder.sink.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
