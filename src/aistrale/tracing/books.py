"""Spans into the books of this machine, or of a shared database."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from aistrale.exceptions import StoreError
from aistrale.forks import gate
from aistrale.logs import warn_once_a_minute
from aistrale.records import Event
from aistrale.spans import Span
from aistrale.store.location import shown, spool_folder, sqlite_path
from aistrale.store.spool import Spool
from aistrale.tracing.recorder import Recorder

if TYPE_CHECKING:
    from aistrale.store.store import Store

OPENING_SECONDS = 1.0
"""A process younger than this (from its first span on) only spools: opening a database would take longer."""

_PURGE_SECONDS = 3600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class BooksSink:
    """Writes spans to a database once a process lives long enough, and to the spool before that and in need.

    retention: days that spans and events are kept; None: for ever.
    """

    batch = 2048

    def __init__(self, url: str) -> None:
        self.url = url
        self.retention: float | None = None
        self._purge_at = 0.0
        self._untold: deque[Event] = deque()
        self.obstacle: StoreError | None = None
        self._spool = Spool(spool_folder(url))
        self._first: float | None = None
        self._again_at = 0.0
        self._due: float | None = None
        self._pause = _FIRST_PAUSE
        self._store: Store | None = None

    def deliver(self, spans: list[Span], *, at_exit: bool) -> int:
        now = time.monotonic()
        self._first = self._first or now
        opens = self._store is not None or now - self._first >= OPENING_SECONDS
        if at_exit and sqlite_path(self.url) is None:
            opens = True  # the spool may go with the machine it is on, the shared database stays
        if not opens or now < self._again_at:
            self._spool.put(spans)
            self._due = max(self._first + OPENING_SECONDS, self._again_at)
            return 0
        try:
            self._write(spans)
        except StoreError as error:
            if spans:
                self._spool.put(spans)
            self._wait(error)
        return 0

    def due_in(self) -> float | None:
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    @property
    def name(self) -> str:
        return shown(self.url)

    def give_up(self, spans: list[Span]) -> int:
        try:
            self._spool.put(spans)
        except OSError:
            return len(spans)
        return 0

    def take_in(self, spans: list[Span] | None = None) -> None:
        """Write spans, and before them what is in the spool. Raises StoreError."""
        self._write(spans or [])

    def _write(self, spans: list[Span]) -> None:
        with gate.undivided():
            from aistrale.store.store import open_store

            store = open_store(self.url)
        self._spool.drain(partial(self._record, store))
        if spans:
            self._record(store, spans)
        self._store, self._pause, self._again_at, self.obstacle = store, _FIRST_PAUSE, 0.0, None
        self._due = None
        self._keep_for(store)

    def _record(self, store: Store, spans: Iterable[Span]) -> None:
        told = store.record(spans, announce=False)
        self._untold.extend(told)

    def delivered(self) -> None:
        """Tell subscribers of what was written, now that they may look into the books themselves."""
        while self._untold and self._store is not None:
            with suppress(IndexError):  # another thread may tell as well
                self._store.events.announce([self._untold.popleft()])

    def _keep_for(self, store: Store) -> None:
        """Now and then, forget what is older than the configuration wants kept."""
        if self.retention is None or time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + _PURGE_SECONDS
        before = time.time_ns() - round(self.retention * 86_400 * 1e9)
        store.spans.purge(before)
        store.events.purge(before)

    def _wait(self, error: StoreError) -> None:
        """Leave the database alone for a while; spans go to the spool meanwhile."""
        now = time.monotonic()
        self.obstacle = error
        self._again_at = self._due = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        warn_once_a_minute(self.url, "spans wait in %s: %s", self._spool.folder, error)


_recorders: dict[str, Recorder] = {}
_lock = threading.Lock()


def books_recorder(url: str, retention: float | None = None) -> Recorder:
    """The recorder of this process for one database; who asked last with a retention says how long spans are kept."""
    with _lock:
        recorder = _recorders.get(url)
        if recorder is None:
            recorder = _recorders[url] = Recorder(BooksSink(url))
    if retention is not None:
        _sink_of(recorder).retention = retention
    return recorder


def _sink_of(recorder: Recorder) -> BooksSink:
    assert isinstance(recorder.sink, BooksSink)
    return recorder.sink


def bring_up_to_date(url: str) -> None:
    """Write what this process has recorded, and what others have spooled. Raises StoreError."""
    recorder = books_recorder(url)
    with recorder.holding() as waiting:
        _sink_of(recorder).take_in(waiting)
