"""What of the books concerns a call before it is sent, told cheaply.

An SQLite file is looked into without loading a database library, at most once a second. A shared
database has to be asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from aistrale.store.location import sqlite_path

SECONDS, SHARED_SECONDS = 1.0, 5.0
"""How old a glance may be, and what a shared database said."""

AWAY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Glance:
    """Whether there are keys to be used, budgets that may refuse a call, and prices of the user's own."""

    tokens: bool = False
    hard_budgets: bool = False
    prices: bool = False


NOTHING, EVERYTHING = Glance(), Glance(True, True, True)


class Watch:
    """Looks at one database now and then."""

    def __init__(self, url: str) -> None:
        self.changes = 0
        self._path = sqlite_path(url)
        self._seen, self._until, self._away = NOTHING, 0.0, False

    def now(self) -> Glance:
        """What there is, as far as is known; of a shared database that was not asked lately, all is possible."""
        if time.monotonic() >= self._until:
            if self._path is None:
                return EVERYTHING
            self._keep(glance(self._path), SECONDS)
        return self._seen

    def learned(self, *, hard_budgets: bool) -> None:
        """A shared database was asked."""
        if self._path is None:
            self._keep(replace(EVERYTHING, hard_budgets=hard_budgets), SHARED_SECONDS)

    @property
    def is_away(self) -> bool:
        """Whether the database could not be used, lately."""
        return self._away and time.monotonic() < self._until

    def look_again(self) -> None:
        """Forget what was seen: this process has changed it."""
        self._until = 0.0
        self.changes += 1

    def look_away(self) -> None:
        """The database cannot be used: calls go on without it, and do not wait for it for a while."""
        self._keep(NOTHING, AWAY_SECONDS)
        self._away = True

    def _keep(self, seen: Glance, seconds: float) -> None:
        self._seen, self._until, self._away = seen, time.monotonic() + seconds, False


@cache
def watch(url: str) -> Watch:
    """The process's watch over one database."""
    return Watch(url)


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
