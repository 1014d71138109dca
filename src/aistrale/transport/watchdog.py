"""Ends a blocking read that takes too long, where the library below offers no limit of its own."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count


class Watchdog:
    """Runs an action after so many seconds unless it is called off first, on one thread for all.

    The thread starts with the first watch and sleeps until the next deadline; a watch that is called
    off in time costs no thread switch. After a fork the child starts anew.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._live: set[int] = set()
        self._ids = count()
        self._thread: threading.Thread | None = None

    def watch(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run `action` in `seconds`; the returned function calls it off."""
        if self._pid != os.getpid():
            self._reset()
        with self._changed:
            number = next(self._ids)
            deadline = time.monotonic() + seconds
            is_next = not self._due or deadline < self._due[0][0]
            heapq.heappush(self._due, (deadline, number, action))
            self._live.add(number)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aistrale-watchdog", daemon=True)
                self._thread.start()
            elif is_next:
                self._changed.notify()
        return lambda: self._live.discard(number)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    wait = self._due[0][0] - time.monotonic() if self._due else None
                    self._changed.wait(wait)
                _, number, action = heapq.heappop(self._due)
                due = number in self._live
                self._live.discard(number)
            if due:
                with suppress(OSError):
                    action()


watchdog = Watchdog()
