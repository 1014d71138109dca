"""Ends a blocking read that takes too long, where the library below offers no limit of its own."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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
        self._due: list[tuple[float, int]] = []
        self._actions: dict[int, Callable[[], None]] = {}
        self._ids = count()
        self._thread: threading.Thread | None = None

    def watch(self, seconds: float, action: Callable[[], None]) -> Callable[[], object]:
        """Run `action` in `seconds`; the returned function calls it off."""
        if self._pid != os.getpid():
            self._reset()
        with self._changed:
            number = next(self._ids)
            deadline = time.monotonic() + seconds
            is_next = not self._due or deadline < self._due[0][0]
            if len(self._due) > 64 and len(self._due) > 2 * len(self._actions):
                self._due = [entry for entry in self._due if entry[1] in self._actions]  # most were called off
                heapq.heapify(self._due)
            heapq.heappush(self._due, (deadline, number))
            self._actions[number] = action
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aistrale-watchdog", daemon=True)
                self._thread.start()
            elif is_next:
                self._changed.notify()
        return partial(self._actions.pop, number, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    wait = self._due[0][0] - time.monotonic() if self._due else None
                    self._changed.wait(wait)
                _, number = heapq.heappop(self._due)
                action = self._actions.pop(number, None)
            if action is not None:
                with suppress(OSError):
                    action()
                action = None


watchdog = Watchdog()
