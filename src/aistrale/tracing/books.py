"""Spans into the books of this machine, or of a shared database."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from aistrale.config import Config
from aistrale.exceptions import StoreError
from aistrale.forks import gate
from aistrale.logs import warn_once_a_minute
from aistrale.records import Event
from aistrale.spans import Span
from aistrale.store.location import shown, spool_folder, sqlite_path
from aistrale.store.spool import Spool
from aistrale.tracing.recorder import Recorder
from aistrale.tracing.retention import Retention

if TYPE_CHECKING:
    from aistrale.store.store import Store

OPENING_SECONDS = 1.0
"""A process younger than this (from its first span on) only spools: opening a database would take longer."""

_PATIENCE = 3.0
"""Seconds to wait for others who write; after that, spans go to the spool. A fork of the process waits as long."""

ASKED_PATIENCE = 10.0
"""The same for somebody who looks into the books, and wants all to be there."""

_FAULTS_OF_A_SPAN = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What a span that holds what none should raises, where it is taken apart."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class BooksSink:
    """Writes spans to a database once a process lives long enough, and to the spool before that and in need."""

    batch = 2048

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_local = sqlite_path(url) is not None
        self.retention = Retention(url)
        self._untold: deque[Event] = deque()
        self.obstacle: StoreError | None = None
        self.set_aside = 0
        self._spool = Spool(spool_folder(url))
        self._first: float | None = None
        self._again_at = 0.0
        self._due: float | None = None
        self._pause = _FIRST_PAUSE
        self._store: Store | None = None

    def deliver(self, spans: list[Span], *, within: float | None) -> int:
        now = time.monotonic()
        self._first = self._first or now
        opens = self._store is not None or now - self._first >= OPENING_SECONDS
        if within is not None and not self.is_local:
            pass  # the spool may go with the machine it is on, the shared database stays
        elif not opens or now < self._again_at:
            self._put(spans)
            self._due = max(self._first + OPENING_SECONDS, self._again_at)
            return 0
        try:
            return self._write(spans, _PATIENCE if within is None else min(_PATIENCE, within / 2))
        except StoreError as error:
            self._put(spans)
            self._wait(error)
            return 0

    def due_in(self) -> float | None:
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    @property
    def name(self) -> str:
        return shown(self.url)

    def put_by(self, spans: list[Span]) -> int:
        try:
            self._put(spans)
        except OSError:
            return len(spans)
        return 0

    def end(self, seconds: float) -> None:
        self.retention.end(seconds)

    def after_fork(self) -> None:
        self._untold.clear()
        self.set_aside = 0

    def _put(self, spans: list[Span]) -> None:
        if spans:
            self._spool.put(spans)

    def take_in(self, patience: float, spans: list[Span]) -> int:
        """Write spans, and before them what is in the spool; the result is how many of them could not be.

        Raises StoreError.
        """
        return self._write(spans, patience)

    def _write(self, spans: list[Span], patience: float) -> int:
        with gate.undivided():
            from aistrale.store.store import open_store

            store = open_store(self.url)
        self._spool.drain(partial(self._take_in, store, patience))
        refused = self._record(store, patience, spans) if spans else 0
        self._store, self._pause, self._again_at, self.obstacle = store, _FIRST_PAUSE, 0.0, None
        self._due = None
        return refused

    def _take_in(self, store: Store, patience: float, spans: Sequence[Span]) -> None:
        self.set_aside += self._record(store, patience, spans)

    def _record(self, store: Store, patience: float, spans: Sequence[Span]) -> int:
        """Write spans; the result is how many could not be."""
        try:
            self._untold.extend(store.record(spans, announce=False, patience=patience))
            return 0
        except (StoreError, *_FAULTS_OF_A_SPAN) as error:
            if isinstance(error, StoreError) and not error.unfit:
                raise
            # One of them is such that it cannot be written: the others are, whatever is wrong with it.
            if len(spans) == 1:
                self._set_aside(spans[0], error)
                return 1
            middle = len(spans) // 2
            return sum(self._record(store, patience, part) for part in (spans[:middle], spans[middle:]))
        except Exception as error:  # something is broken here: they wait until it is not
            message = f"spans cannot be written: {type(error).__name__}: {error}"
            raise StoreError(message, unavailable=True) from error

    def _set_aside(self, span: Span, error: Exception) -> None:
        try:
            self._spool.set_aside(span, error)
        except Exception:  # noqa: BLE001 - it may be anything, for no more than a span
            warn_once_a_minute(self.url, "a span is lost, for it cannot be written: %s", error)

    def delivered(self) -> None:
        """Tell subscribers of what was written, now that they may look into the books themselves; and let go of what
        is old.
        """
        if self._store is None:
            return
        while self._untold:
            with suppress(IndexError):  # another thread may tell as well
                self._store.events.announce([self._untold.popleft()])
        self.retention.keep(self._store, self._spool)

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
        _sink_of(recorder).retention.days = retention
    return recorder


def _sink_of(recorder: Recorder) -> BooksSink:
    assert isinstance(recorder.sink, BooksSink)
    return recorder.sink


def has_unwritten(url: str) -> bool:
    """Whether spans wait for a database, of this process or in files."""
    recorder = _recorders.get(url)
    return bool(recorder and recorder.status.waiting) or Spool(spool_folder(url)).has_files


def announce(url: str) -> None:
    """Tell subscribers of what was written, where that was left to do."""
    if (recorder := _recorders.get(url)) is not None:
        recorder.sink.delivered()


def bring_up_to_date(url: str, patience: float = ASKED_PATIENCE, *, announces: bool = True) -> None:
    """Write what this process has recorded, and what others have spooled, waiting so many seconds for others.

    announces=False leaves telling subscribers to `announce`. Raises StoreError.
    """
    recorder = books_recorder(url, Config()["telemetry_retention"])
    try:
        recorder.deliver_by(partial(_sink_of(recorder).take_in, patience), patience, announces=announces)
    except TimeoutError as error:
        message = f"{shown(url)} is being written to, and that takes long: try again"
        raise StoreError(message, unavailable=True) from error
