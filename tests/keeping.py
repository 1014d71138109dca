"""Calls whose books are kept, and answers that say what they cost."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from programs import run_program
from sqlalchemy import text
from upstream import Step, completion, plain

from aistrale import StoreError, telemetry
from aistrale.store.store import Store

ON = {"AISTRALE_TELEMETRY": "on"}

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is not the database's matter."""


@pytest.fixture
def keeping(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Books that the test's calls are kept in; when they are closed, none waits any more and nobody forgets."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")
    yield store
    with suppress(StoreError):
        telemetry.query(limit=1)
    for thread in threading.enumerate():
        if thread.name == "aistrale-retention":
            thread.join()


@contextmanager
def away(table: str, store: Store) -> Iterator[None]:
    """Books that lack a table for a while, so that nothing of the kind can be asked of them."""

    def rename(old: str, new: str) -> None:
        with store.database.write() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    rename(table, "elsewhere")
    yield
    rename("elsewhere", table)


def charging(dollars: object, text: str = "Hello") -> list[Step]:
    """An OpenAI-shaped answer that says what it cost."""
    body = completion(text)
    return plain({**body, "usage": {**body["usage"], "cost": dollars}})


def run_together(
    code: str, arguments: Sequence[tuple[str, ...]], *, cwd: Path, at_once: int = 4
) -> list[CompletedProcess[str]]:
    """Run a program once with each of the arguments, so many at a time, with its books kept; each has to end well."""
    with ThreadPoolExecutor(at_once) as pool:
        ended = list(pool.map(lambda given: run_program(code, cwd=cwd, env=ON, arguments=given), arguments))
    for program in ended:
        assert (program.returncode, program.stderr) == (0, "")
    return ended
