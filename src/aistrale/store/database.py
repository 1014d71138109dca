"""One database, SQLite or PostgreSQL: opened at first use, migrated, and every failure told as a StoreError."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InvalidatePoolError, SQLAlchemyError

from aistrale.exceptions import StoreError
from aistrale.forks import gate
from aistrale.store.faults import FOREIGN, advice, is_about_the_file, said
from aistrale.store.location import make_private, shown, sqlite_path
from aistrale.store.migrations import MIGRATIONS, Migration, migrate, version_of
from aistrale.store.postgres import CONNECT_SECONDS, KEEPALIVE, NO_DRIVER, ask

BUSY_SECONDS = 10.0
"""How long a writer waits for another process's transaction to end."""

_HEADER = b"SQLite format 3\0"

_PRAGMAS = ("synchronous=NORMAL", "cache_size=-8000", "wal_autocheckpoint=4000")
"""A lost machine may lose the last moments, a lost process nothing; cache (8 MB) and log (16 MB) hold a few batches."""

_MOST_PARAMETERS = 999
"""Of one statement, as any SQLite takes them."""

_PATIENCE = "aistrale_patience"
"""The option of a connection that writes: how long it waits for its turn."""

_WRITERS_LOCK = 0x616973747261
"""The PostgreSQL advisory lock writers hold: one at a time, as on SQLite."""


class Database:
    """Connections to one database.

    Nothing is touched until the first `read` or `write`, which also brings an older database up to date.
    Safe to share between threads; a child after a fork opens connections of its own.
    """

    def __init__(self, url: str, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        self.url = url
        self.name = shown(url)
        self._path = sqlite_path(url)
        self._migrations = migrations
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        gate.close_before_forks(self)

    @property
    def is_sqlite(self) -> bool:
        return self._path is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one state of the database. Raises StoreError."""
        with self._connected() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, patience: float = BUSY_SECONDS) -> Iterator[Connection]:
        """A transaction that writes, one at a time: committed if the block ends well.

        patience: seconds to wait for others to end theirs. Raises StoreError.
        """
        with self._connected() as connection, self._writing(connection, patience):
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._typed_errors(), gate.undivided(), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def _writing(self, connection: Connection, patience: float = BUSY_SECONDS) -> Iterator[None]:
        connection.execution_options(**{_PATIENCE: patience})
        with connection.begin():
            if not self.is_sqlite:
                milliseconds = max(1, round(1000 * patience))  # 0 would be for ever
                connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})"))
            yield

    def close(self) -> None:
        """Close the connections. The next use opens others."""
        if self._engine is None:  # or another thread opens it, and that may be waiting for a server that is silent
            return
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def after_fork(self) -> None:
        """In a child: its parent's lock and connections are none of its own."""
        self._lock, self._inherited, self._engine = threading.Lock(), self._engine, None

    def _opened(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> Engine:
        engine = _sqlite(self._path) if self._path is not None else _postgres(self.url)
        try:
            with engine.connect() as connection:
                if version_of(connection) != self._migrations[-1].version:
                    connection.rollback()
                    with self._writing(connection):
                        migrate(connection, self._migrations, self.name)
        except BaseException:
            engine.dispose()
            raise
        return engine

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError, OverflowError, UnicodeError) as error:
            origin = _origin(error)
            message = f"{self.name} cannot hold a value that was given: {said(origin)}."
            raise StoreError(message, unfit=True) from origin
        except (SQLAlchemyError, OSError) as error:
            origin = _origin(error)
            if is_about_the_file(origin):
                self.close()
            message = f"{self.name}: {said(origin)}. {advice(origin, self.is_sqlite)}"
            raise StoreError(message, unavailable=True) from origin


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Insert rows, each all of a table's columns in order and as the driver takes them; whether all were new.

    Rows whose key is there already are left as they are. Past SQLAlchemy's own insert, which takes three times as
    long: this is what the writer of spans does all day. Many rows go in one statement, for SQLite lets go of Python's
    interpreter lock for each, and a thread that calls models would be waited for as often.
    """
    at_once = _MOST_PARAMETERS // len(table.columns)
    whole = len(rows) - len(rows) % at_once
    together = [tuple(chain.from_iterable(rows[at : at + at_once])) for at in range(0, whole, at_once)]
    written = 0
    for number, parameters in ((at_once, together), (1, list(rows[whole:]))):
        if parameters:
            written += connection.exec_driver_sql(_insertion(table, number, connection), parameters).rowcount
    return written == len(rows)


def _insertion(table: Table, rows: int, connection: Connection) -> str:
    """The statement that inserts so many rows."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    names, marks = ", ".join(table.columns.keys()), ", ".join([mark] * len(table.columns))
    values = ", ".join([f"({marks})"] * rows)
    return f"INSERT INTO {table.name} ({names}) VALUES {values} ON CONFLICT DO NOTHING"


def _sqlite(path: Path) -> Engine:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a database file", str(path))
    make_private(path.parent)
    if path.is_file() and 0 < path.stat().st_size < len(_HEADER):
        # SQLite would take it for empty, and write over it.
        raise StoreError(f"sqlite:///{path}: it is too short to be a database. {FOREIGN}.", unavailable=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # its WAL and index files take its mode
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        _write_ahead(connection)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        patience = connection.get_execution_options().get(_PATIENCE)
        seconds = BUSY_SECONDS if patience is None else patience
        connection.exec_driver_sql(f"PRAGMA busy_timeout={round(1000 * seconds)}")
        connection.exec_driver_sql("BEGIN" if patience is None else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: Any) -> None:
    """Have readers and the writer work side by side.

    A file that several processes open for the first time at once is locked for a moment, and here SQLite does not wait.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgres(url: str) -> Engine:
    try:
        engine = create_engine(
            url,
            connect_args={"connect_timeout": CONNECT_SECONDS, **KEEPALIVE},
            isolation_level="READ COMMITTED",  # whatever the server's default: who waited for a turn sees what was done
            hide_parameters=True,
        )
    except ImportError as error:
        raise StoreError(NO_DRIVER, unavailable=True) from error

    @event.listens_for(engine, "checkout")
    def hear(connection: Any, _record: Any, _taken: Any) -> None:
        # As `pool_pre_ping` does, which waits without a limit for whoever is there and says nothing.
        try:
            ask(connection, b"")
        except (engine.dialect.loaded_dbapi.Error, OSError) as error:
            raise InvalidatePoolError from error

    return engine


def is_busy(error: StoreError) -> bool:
    """Whether others write just now, and nothing else is wrong."""
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or getattr(cause, "sqlstate", None) == "55P03"


def _origin(error: Exception) -> BaseException:
    """The driver's own error: SQLAlchemy's repeats the statement."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
