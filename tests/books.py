"""The databases every test of the books runs on: an SQLite file, and a PostgreSQL schema of the test's own."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from aistrale.store.store import Store, open_store

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/test")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database, and AISTRALE_DATABASE_URL naming it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'books.db'}"
        monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
        yield url
        return
    with postgres_schema() as url:
        monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
        yield url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """The books in that database, the same that `aistrale.prompts` and its like use."""
    opened = open_store()
    yield opened
    opened.close()


@pytest.fixture(params=["a folder", "no database", "damaged", "refused"])
def unreadable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Books that cannot be read, and what AISTRALE_DATABASE_URL names instead."""
    path, url = tmp_path / "books.db", f"sqlite:///{tmp_path / 'books.db'}"
    match request.param:
        case "a folder":
            path.mkdir()
        case "no database":
            path.write_text("These are no books." * 1000)
        case "damaged":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE t (x)")
            path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8092)
        case _:
            url = "postgresql://nobody@127.0.0.1:1/none"
    monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
    yield request.param
    open_store(url).close()


@contextmanager
def counting_steps(store: Store) -> Iterator[Counter[str]]:
    """The steps that SQLite takes in the block, in hundreds: what it reads, by what that costs."""
    steps: Counter[str] = Counter()

    def count(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(lambda: steps.update(["hundreds"]), 100)

    store.close()
    event.listen(Engine, "connect", count)
    try:
        yield steps
    finally:
        event.remove(Engine, "connect", count)
        store.close()


class postgres_schema:  # noqa: N801 - a context manager, used as a function
    """A schema of one's own in the test database, gone afterwards. Skips where no PostgreSQL answers."""

    def __enter__(self) -> str:
        self._engine = create_engine(POSTGRES, connect_args={"connect_timeout": 3}, isolation_level="AUTOCOMMIT")
        self._name = f"books_{token_hex(6)}"
        try:
            with self._engine.connect() as connection:
                connection.execute(text(f"CREATE SCHEMA {self._name}"))
        except OperationalError as error:
            pytest.skip(f"no PostgreSQL at {POSTGRES}: {str(error.orig).strip()}")
        return f"{POSTGRES}?options=-csearch_path%3D{self._name}"

    def __exit__(self, *error: object) -> None:
        with suppress(OperationalError), self._engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {self._name} CASCADE"))
        self._engine.dispose()
