"""What of the books concerns a call before it is sent, told cheaply.

An SQLite file is looked into without loading a database library, at most once a second. A shared
database has to be asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from aistrale.exceptions import ConfigurationError, StoreError
from aistrale.logs import warn_once_a_minute
from aistrale.prices import Price
from aistrale.store.location import database_url, sqlite_path

SECONDS, SHARED_SECONDS = 1.0, 5.0
"""How old a glance may be, and what a shared database said."""

AWAY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Glance:
    """Whether there are keys to be used, budgets that may refuse a call, and prices of the user's own."""

    tokens: bool = False
    hard_budgets: bool = False
    prices: bool = False


Subject: TypeAlias = Literal["tokens", "hard_budgets", "prices"]

NOTHING, EVERYTHING = Glance(), Glance(True, True, True)


class Watch:
    """Looks at one database now and then."""

    def __init__(self, url: str) -> None:
        self.changes = 0
        self._path = sqlite_path(url)
        self._seen, self._until = NOTHING, 0.0
        self._away: dict[Subject, float] = {}

    def now(self) -> Glance:
        """What there is, as far as is known; of a shared database that was not asked lately, all is possible.

        Nothing of what could not be had lately.
        """
        seen = self._glance()
        away: dict[str, bool] = {subject: False for subject in list(self._away) if self.is_away(subject)}
        return replace(seen, **away) if away else seen

    def _glance(self) -> Glance:
        if time.monotonic() >= self._until:
            if self._path is None:
                return EVERYTHING
            self._keep(glance(self._path), SECONDS)
        return self._seen

    def learned(self, *, hard_budgets: bool) -> None:
        """A shared database was asked."""
        if self._path is None:
            self._keep(replace(EVERYTHING, hard_budgets=hard_budgets), SHARED_SECONDS)

    def is_away(self, subject: Subject) -> bool:
        """Whether it could not be had, lately."""
        return time.monotonic() < self._away.get(subject, 0.0)

    def look_again(self) -> None:
        """Forget what was seen: this process has changed it."""
        self._until = 0.0
        self._away.clear()
        self.changes += 1

    def look_away(self, subject: Subject) -> None:
        """It cannot be had: calls go on without it, and do not wait for it for a while."""
        self._away[subject] = time.monotonic() + AWAY_SECONDS

    def _keep(self, seen: Glance, seconds: float) -> None:
        self._seen, self._until = seen, time.monotonic() + seconds


@cache
def watch(url: str) -> Watch:
    """The process's watch over one database."""
    return Watch(url)


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
    from aistrale.store.store import open_store

    try:
        return open_store(url).prices.all()
    except StoreError as error:
        watch(url).look_away("prices")  # nobody waits for it again at each answer
        warn_once_a_minute("prices", said, error)
        return []


def glance(path: Path) -> Glance:
    """Look into a database file; one that is missing or cannot be read has nothing to say."""
    if not path.is_file():
        return NOTHING
    import sqlite3

    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            return Glance(
                _any(connection, "SELECT 1 FROM tokens LIMIT 1"),
                _any(connection, "SELECT 1 FROM budgets WHERE hard LIMIT 1"),
                _any(connection, "SELECT 1 FROM prices LIMIT 1"),
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        # A file of an older release lacks a table: it has to be opened, and brought up to date, to know.
        return EVERYTHING if error.sqlite_errorcode == sqlite3.SQLITE_ERROR else NOTHING


def _any(connection: Any, query: str) -> bool:
    return bool(connection.execute(query).fetchone())
