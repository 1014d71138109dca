"""What of the books concerns a call before it is sent, told cheaply.

No database library is loaded for it. An SQLite file is looked into at most once a second. A shared database is asked by
its driver alone, in a thread, and calls take what it told last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from aistrale.exceptions import ConfigurationError, StoreError
from aistrale.forks import gate
from aistrale.logs import warn_once_a_minute
from aistrale.prices import Price
from aistrale.store.asking import ANSWER_SECONDS, Asker, BusyError, Remembered
from aistrale.store.location import LEDGER, database_url, shown, sqlite_path

SECONDS = 1.0
"""How old a glance at a file may be."""

PAUSE_SECONDS = 30.0
"""How long something is not asked for that a database could not tell."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Glance:
    """Which providers have a key (None: any may), whether budgets may refuse a call, whether there are own prices."""

    providers: frozenset[str] | None = frozenset()
    hard_budgets: bool = False
    prices: bool = False

    def has_key(self, provider: str) -> bool:
        """Whether there may be a key of this provider."""
        return self.providers is None or provider in self.providers

    @property
    def has_keys(self) -> bool:
        """Whether there may be any."""
        return self.providers is None or bool(self.providers)


Subject: TypeAlias = Literal["providers", "hard_budgets", "prices"]

NOTHING, EVERYTHING = Glance(), Glance(None, True, True)


class Watch:
    """Looks now and then at a database that is a file."""

    def __init__(self, url: str) -> None:
        self._path = sqlite_path(url)
        self._changes = 0
        self._seen, self._until = NOTHING, 0.0
        self._paused: dict[Subject, tuple[float, StoreError]] = {}

    @property
    def changes(self) -> int:
        """How often this process has changed it."""
        return self._changes

    @property
    def away(self) -> StoreError | None:
        """Why it cannot be asked for anything, if that is so."""
        return None

    def now(self) -> Glance:
        """What there is, as far as is known: nothing of what could not be had lately."""
        seen = self._look()
        if not self._paused:
            return seen
        for subject in [subject for subject in list(self._paused) if self.is_paused(subject)]:
            seen = replace(seen, **{subject: getattr(NOTHING, subject)})
        return seen

    def at_once(self) -> Glance | None:
        """The same; None if it would have to be waited for."""
        return self.now()

    def ask(self, subject: Subject, question: Callable[[], T], seconds: float = ANSWER_SECONDS) -> T:
        """What the database answers. Raises StoreError; it is then left alone with that for a while."""
        try:
            return question()
        except StoreError as error:
            if error.unavailable:
                self._pause(subject, error)
            raise

    def is_paused(self, subject: Subject) -> bool:
        """Whether it could not be had, lately."""
        return self._paused_by(subject) is not None

    def look_again(self) -> None:
        """Forget what was seen: this process has changed it."""
        self._until = 0.0
        self._paused.clear()
        self._changes += 1

    def _look(self) -> Glance:
        assert self._path is not None
        if time.monotonic() >= self._until:
            self._seen, self._until = glance(self._path), time.monotonic() + SECONDS
        return self._seen

    def _pause(self, subject: Subject, error: StoreError) -> None:
        self._paused[subject] = time.monotonic() + PAUSE_SECONDS, error

    def _paused_by(self, subject: Subject) -> StoreError | None:
        until, error = self._paused.get(subject, (0.0, None))
        return error if time.monotonic() < until else None


class SharedWatch(Watch):
    """Looks at a database that others share: a thread does, and a call waits a second at most."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._asker = Asker(shown(url), self._look_anew)
        self._glance = Remembered(self._asker, partial(shared_glance, url))

    @property
    def changes(self) -> int:
        return self._asker.changes

    @property
    def away(self) -> StoreError | None:
        return self._asker.away

    def at_once(self) -> Glance | None:
        return self.now() if self._glance.is_known or self.away is not None else None

    def ask(self, subject: Subject, question: Callable[[], T], seconds: float = ANSWER_SECONDS) -> T:
        if (fault := self._paused_by(subject)) is not None:
            raise StoreError(str(fault), unavailable=True) from fault
        if self.away is None:
            with gate.undivided():  # it is not the database that this takes its time
                import aistrale.store.store  # noqa: F401
        try:
            return self._asker.ask(question, seconds)
        except BusyError:
            raise
        except StoreError as error:
            if error.unavailable and self.away is None:  # the database answers, but not to this
                self._pause(subject, error)
            raise

    def remember(self, subject: Subject, question: Callable[[], T]) -> Remembered[T]:
        """What it answers to a question that is asked often."""
        return Remembered(self._asker, question, partial(self.ask, subject))

    def look_again(self) -> None:
        super().look_again()
        self._asker.changes += 1

    def _look(self) -> Glance:
        try:
            if not self._glance.is_known and self.away is None:
                from aistrale.store.postgres import load_driver

                load_driver()
            return self._glance.now()
        except StoreError:
            return EVERYTHING  # who asks for some of it is told why it cannot be had

    def _look_anew(self) -> None:
        self._glance.read()


@cache
def watch(url: str) -> Watch:
    """The process's watch over one database."""
    return Watch(url) if sqlite_path(url) is not None else SharedWatch(url)


def glance(path: Path) -> Glance:
    """Look into a database file; one that is missing or cannot be read has nothing to say."""
    if not path.is_file():
        return NOTHING
    import sqlite3

    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            providers, *others = (connection.execute(query).fetchall() for query in _QUERIES)
            return Glance(frozenset(name for (name,) in providers), *map(bool, others))
        finally:
            connection.close()
    except sqlite3.Error as error:
        # A file of an older release lacks a table: it has to be opened, and brought up to date, to know.
        return EVERYTHING if error.sqlite_errorcode == sqlite3.SQLITE_ERROR else NOTHING


def shared_glance(url: str) -> Glance:
    """Ask a PostgreSQL database. Raises StoreError if it does not answer."""
    from aistrale.store.postgres import ask, connection_to

    with connection_to(url) as connection:
        import psycopg

        try:
            providers, *others = (ask(connection, query.encode()) for query in _QUERIES)
            return Glance(frozenset(name.decode() for (name,) in providers if name), *map(bool, others))
        except psycopg.ProgrammingError:
            # Of an older release, or nobody's yet.
            is_empty = ask(connection, f"SELECT to_regclass('{LEDGER}')".encode()) == [(None,)]
            return NOTHING if is_empty else EVERYTHING


_QUERIES = (
    "SELECT DISTINCT provider FROM tokens",
    "SELECT 1 FROM budgets WHERE hard LIMIT 1",
    "SELECT 1 FROM prices LIMIT 1",
)


def own_prices() -> list[Price]:
    """The user's own prices; none if they cannot be read, which is told."""
    said = "your own prices cannot be read, the table's are taken: %s"
    try:
        url = database_url()
    except ConfigurationError as error:
        warn_once_a_minute("prices", said, error)
        return []
    if not watch(url).now().prices:
        return []
    try:
        return _prices_of(url)()
    except StoreError as error:
        warn_once_a_minute(url, said, error)
        return []


@cache
def _prices_of(url: str) -> Callable[[], list[Price]]:
    seen, read = watch(url), partial(_read_prices, url)
    if isinstance(seen, SharedWatch):
        return seen.remember("prices", read).now
    return partial(seen.ask, "prices", read)


def _read_prices(url: str) -> list[Price]:
    from aistrale.store.store import open_store

    return open_store(url).prices.all()
