"""Questions to a shared database on behalf of calls: one thread puts them, so that no call waits for long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from aistrale.exceptions import StoreError

ANSWER_SECONDS = 1.0
"""How long the first call that hears nothing waits; for those after it the database is away, until it answers."""

MOST_SECONDS = 5.0
"""How long a call waits while the database answers others."""

SHARED_SECONDS = 5.0
"""How old an answer is when it is asked for again, behind the calls that take it."""

FORGOTTEN_SECONDS = 60.0
"""How old it is when calls wait for another; and for how long nobody has asked when what is away is let be."""

_AGAIN_SECONDS, _IDLE_SECONDS = 1.0, 5.0

T = TypeVar("T")


class BusyError(StoreError):
    """The database answers, but others have asked it before."""


class Asker:
    """Puts questions to one database, one after the other, in a thread of its own.

    One that is not answered in time makes the database `away`: nobody waits for it any more, and the thread looks
    by itself whether it is back. A thread that is stuck in a dead connection stays the only one. A child after a fork
    has a thread of its own.

    look: asks the database whatever it likes, and raises StoreError if there is no answer.
    """

    def __init__(self, name: str, look: Callable[[], object]) -> None:
        self._name, self._look = name, look
        self.changes = 0
        self._reset()
        _askers.add(self)

    def _reset(self) -> None:
        self.away: StoreError | None = None
        self._lock = threading.Lock()
        self._questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asked = self._moved = 0.0

    def ask(self, question: Callable[[], T], seconds: float = ANSWER_SECONDS) -> T:
        """What a question returns or raises. Raises StoreError if that takes longer than so many seconds, and at once
        while the database is away.
        """
        if (away := self.away) is not None:
            self._asked = time.monotonic()
            raise StoreError(str(away), unavailable=True) from away
        answer = self.put(question)
        if self._wait(answer, seconds):
            return answer.result()
        answer.cancel()
        if time.monotonic() - self._moved < seconds:
            said = f"{self._name}: it has too many questions to answer. Look whether the database server is slow."
            raise BusyError(said, unavailable=True)
        said = f"{self._name}: it does not answer within {seconds:g} s. Look whether the database server is up."
        self.away = StoreError(said, unavailable=True)
        self.put(self._look)  # if it has answered just now, it is back at once
        raise StoreError(said, unavailable=True)

    def put(self, question: Callable[[], T]) -> Future[T]:
        """Have something asked that nobody waits for. Raises StoreError while the process ends."""
        answer: Future[T] = Future()
        self._asked = time.monotonic()
        with self._lock:
            self._questions.put((answer, question))
            if self._thread is None:
                self._thread = self._started()
        return answer

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="aistrale-asker", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # Python starts none while the process ends
            raise StoreError(f"{self._name} cannot be asked any more: {error}", unavailable=True) from error
        return thread

    def _wait(self, answer: Future[Any], seconds: float) -> bool:
        """Whether there is an answer, in so many seconds from when the database last answered anybody."""
        asked = time.monotonic()
        while not answer.done():
            until = min(max(asked, self._moved) + seconds, asked + max(seconds, MOST_SECONDS))
            if time.monotonic() >= until:
                return False
            _wait_for(answer, until - time.monotonic())
        return True

    # In the thread

    def _work(self) -> None:
        while True:
            try:
                answer, question = self._questions.get(timeout=_IDLE_SECONDS if self.away is None else _AGAIN_SECONDS)
            except Empty:
                if self._rest():
                    return
                continue
            if answer.set_running_or_notify_cancel():
                self._perform(answer, question)
            del answer, question

    def _perform(self, answer: Future[Any], question: Callable[[], Any]) -> None:
        try:
            result = question()
        except BaseException as error:  # noqa: BLE001 - it is who asked that it is raised to
            if isinstance(error, StoreError) and error.unavailable:
                self.away = error
                self._find()  # is it the database, or what it was asked for?
            self._moved = time.monotonic()
            answer.set_exception(error)
        else:
            self._moved = time.monotonic()
            answer.set_result(result)
            if self.away is not None:
                self._find()

    def _find(self) -> None:
        try:
            self._look()
        except StoreError as error:
            self.away = error
        except Exception as error:  # noqa: BLE001 - something is broken here: the thread goes on, and looks again
            self.away = StoreError(f"{self._name}: {type(error).__name__}: {error}", unavailable=True)
        else:
            self.away = None

    def _rest(self) -> bool:
        """Look again for what is away, or end the thread: the next question starts another."""
        if self.away is not None and time.monotonic() - self._asked < FORGOTTEN_SECONDS:
            self._find()
            return False
        with self._lock:
            if not self._questions.empty():
                return False
            self.away = self._thread = None
        return True


class Remembered(Generic[T]):
    """What a shared database told last: calls take it, and it is asked for again behind them.

    ask: as that of an Asker, if it is to be another.
    """

    def __init__(
        self, asker: Asker, question: Callable[[], T], ask: Callable[[Callable[[], Any], float], Any] | None = None
    ) -> None:
        self._asker, self._question, self._ask = asker, question, ask or asker.ask
        self._value: T
        self._changes, self._read_at, self._tried_at = -1, 0.0, 0.0

    @property
    def is_known(self) -> bool:
        """Whether `now` comes at once."""
        return self._is_true and time.monotonic() - self._read_at < FORGOTTEN_SECONDS

    @property
    def _is_true(self) -> bool:
        """Whether it was told, and this process has changed nothing since."""
        return self._changes == self._asker.changes

    def now(self, seconds: float = ANSWER_SECONDS) -> T:
        """It, waiting so many seconds at most. Raises StoreError if it is not known and the database is away."""
        asked = time.monotonic()
        if not self.is_known:
            try:
                self._ask(partial(self.read, asked), seconds)
            except StoreError:
                if not self._is_true:
                    raise
        elif asked - max(self._read_at, self._tried_at) >= SHARED_SECONDS and self._asker.away is None:
            self._tried_at = asked
            with suppress(StoreError):  # no thread can be had, and it is known
                self._asker.put(partial(self.read, asked))
        return self._value

    def forget(self) -> None:
        """Have it asked for anew before it is taken again."""
        self._changes = -1

    def read(self, asked: float | None = None) -> None:
        """Ask the database, unless somebody did after the time of `asked`. Raises StoreError."""
        if asked is not None and self._is_true and self._read_at >= asked:
            return
        began, changes = time.monotonic(), self._asker.changes
        self._value = self._question()
        self._read_at, self._changes = began, changes


def _wait_for(answer: Future[Any], seconds: float) -> None:
    """Return once there is an answer, or after so many seconds."""
    with suppress(TimeoutError):
        answer.exception(seconds)


_askers: WeakSet[Asker] = WeakSet()


def _after_fork() -> None:
    for asker in list(_askers):
        asker._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
