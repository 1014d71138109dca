"""Forgets what is older than is to be kept, and keeps nobody waiting for it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from aistrale.exceptions import StoreError
from aistrale.forks import gate
from aistrale.logs import warn_once_a_minute
from aistrale.store.spool import Spool

if TYPE_CHECKING:
    from aistrale.store.store import Store

_EVERY_SECONDS = 3600.0

_REST_SECONDS = 0.15
"""The least between two transactions: who waits for SQLite looks ten times a second whether it is free."""

_PATIENCE = 0.25
"""Seconds to wait for others who write at the moment, one of whom may be forgetting the same."""

_BUSY_SECONDS = 2.0
"""How long the database is left to them after that."""


class Retention:
    """Purges one database every hour, in a thread of its own, a transaction at a time.

    days: how long spans and events are kept; None: for ever. Nobody who writes waits for more than one of its
    transactions: after each it leaves the database alone for as long as it had it, and for longer where others write.
    So of several processes that forget, few are at it at a time.
    """

    def __init__(self, url: str) -> None:
        self.days: float | None = None
        self._url = url
        self._next_at = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._is_over = False

    def keep(self, store: Store, spool: Spool) -> None:
        """Forget what is old, if it is time to, in the background."""
        if self.days is None or self._is_at_it() or time.monotonic() < self._next_at:
            return
        before = max(0, time.time_ns() - round(self.days * 86_400 * 1e9))
        with gate.undivided(), self._lock:  # a child would find the lock taken for ever
            if self._is_at_it() or self._is_over:
                return
            self._stop = threading.Event()  # the former is its parent's thread's, where this is a child
            thread = threading.Thread(
                target=self._forget, args=(store, spool, before), name="aistrale-retention", daemon=True
            )
            with suppress(RuntimeError):  # the system has no more threads: a later delivery tries again
                thread.start()
                self._thread = thread

    def end(self, seconds: float) -> None:
        """The process ends: stop after the transaction that is under way."""
        self._is_over = True
        if self._thread is not None and self._is_at_it():
            self._stop.set()
            self._thread.join(seconds)

    def _is_at_it(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _forget(self, store: Store, spool: Spool, before: int) -> None:
        from aistrale.store.database import is_busy

        self._next_at = time.monotonic() + _EVERY_SECONDS
        is_done = False
        while not is_done:
            try:
                is_done = self._purge(store, before)
            except StoreError as error:
                is_done = not is_busy(error)
                if is_done:
                    said = "what is older than is to be kept could not be forgotten: %s"
                    warn_once_a_minute(f"{self._url} keeps too much", said, error)
            if not is_done and self._stop.wait(_BUSY_SECONDS):
                return
        spool.purge(before)

    def _purge(self, store: Store, before: int) -> bool:
        """Forget until nothing is left, or the process ends; whether nothing is."""
        began = time.monotonic()
        for _ in store.purging(before, _PATIENCE):
            if self._stop.wait(max(_REST_SECONDS, time.monotonic() - began)):
                return False
            began = time.monotonic()
        return True
