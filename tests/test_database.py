"""One database: how it is opened and brought up to date, who writes when, and what is told when it fails."""

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from books import postgres_schema
from callers import everything_shown
from programs import printed
from sqlalchemy import Connection, inspect

from aistrale.exceptions import ConfigurationError, StoreError
from aistrale.store import schema
from aistrale.store.database import Database
from aistrale.store.location import database_url as configured_url
from aistrale.store.migrations import LEDGER, MIGRATIONS, Migration
from aistrale.store.store import Store, open_store

COUNTER = (Migration(1, "counter", ("CREATE TABLE counter (n BIGINT NOT NULL)", "INSERT INTO counter VALUES (0)")),)
"""Migrations of a database with one number in it."""

PASSWORD = "hunter2-aB3dE5"


class Opening:
    """Opens databases, and closes them after the test."""

    def __init__(self) -> None:
        self.opened: list[Database] = []

    def __call__(self, url: str, migrations: tuple[Migration, ...] = MIGRATIONS) -> Database:
        self.opened.append(Database(url, migrations))
        return self.opened[-1]


@pytest.fixture
def opening() -> Iterator[Opening]:
    opening = Opening()
    yield opening
    for database in opening.opened:
        database.close()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    with postgres_schema() as url:
        yield url


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def write(database: Database, *statements: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def count_up(database: Database) -> None:
    """Read, then write: what two that do not take turns get wrong."""
    with database.write() as connection:
        number = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
        connection.exec_driver_sql(f"UPDATE counter SET n = {number + 1}")


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names())


def ledger(database: Database) -> list[int]:
    return [version for (version,) in rows(database, f"SELECT version FROM {LEDGER} ORDER BY version")]


def failing(database: Database) -> StoreError:
    """What reading from a database raises that cannot be read."""
    with pytest.raises(StoreError) as caught, database.read():
        raise AssertionError("it was opened")
    return caught.value


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def closed_port() -> int:
    """A port nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# Opening


def test_nothing_is_touched_before_it_is_used(tmp_path: Path) -> None:
    """Neither a file nor its folder is made, and a server that is not there fails nothing."""
    Store(f"sqlite:///{tmp_path / 'new' / 'books.db'}").close()
    Store(f"postgresql+psycopg://postgres@127.0.0.1:{closed_port()}/test").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_umask")
def test_files_are_for_their_user_only(tmp_path: Path, opening: Opening) -> None:
    """The database, its log and index, and the folders that are made for them; whatever the umask."""
    path = tmp_path / "new" / "newer" / "books.db"
    database = opening(f"sqlite:///{path}")
    with database.write():
        assert {found.name for found in path.parent.iterdir()} == {"books.db", "books.db-wal", "books.db-shm"}
        assert {mode(found) for found in path.parent.iterdir()} == {0o600}
    assert (mode(path.parent), mode(path.parent.parent)) == (0o700, 0o700)


@pytest.mark.usefixtures("no_umask")
def test_what_is_there_keeps_its_mode(tmp_path: Path, opening: Opening) -> None:
    """Whoever shares a file or a folder meant to."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "books.db").touch(0o640)
    with opening(f"sqlite:///{folder / 'books.db'}").write():
        assert (mode(folder), mode(folder / "books.db")) == (0o755, 0o640)


@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize("name", ["a b.db", "né✓.db", "what?.db", "100%41.db", "a#b.db", ":memory:"])
def test_a_file_has_the_name_it_was_given(tmp_path: Path, opening: Opening, name: str) -> None:
    """Whatever the name means in a URL; and no other file is made."""
    url = f"sqlite:///{tmp_path / name}"
    database = opening(url, COUNTER)
    count_up(database)
    database.close()
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert mode(tmp_path / name) == 0o600
    assert rows(opening(url, COUNTER), "SELECT n FROM counter") == [(1,)]


def test_a_file_may_be_named_from_the_working_directory(in_folder: Path, opening: Opening) -> None:
    """`sqlite:///books.db` is in it, and one that is called `:memory:` is a file like any other."""
    for name in ("books.db", ":memory:"):
        count_up(opening(f"sqlite:///{name}", COUNTER))
        with closing(sqlite3.connect((in_folder / name).as_uri(), uri=True)) as connection:
            assert connection.execute("SELECT n FROM counter").fetchall() == [(1,)]


def test_a_tilde_is_the_home_folder(tmp_path: Path, opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    count_up(opening("sqlite:///~/books.db", COUNTER))
    assert (tmp_path / "books.db").is_file()


def test_it_is_written_ahead_into_a_log(tmp_path: Path, opening: Opening) -> None:
    """So that readers and the one writer do not wait for each other."""
    assert rows(opening(f"sqlite:///{tmp_path / 'books.db'}"), "PRAGMA journal_mode") == [("wal",)]


def test_the_next_use_after_closing_opens_it_again(database_url: str, opening: Opening) -> None:
    """Closing twice, or before it was opened, is no mistake."""
    database = opening(database_url, COUNTER)
    database.close()
    count_up(database)
    database.close()
    database.close()
    assert rows(database, "SELECT n FROM counter") == [(1,)]


def test_one_place_is_one_store(store: Store, tmp_path: Path) -> None:
    """So all of a process share its connections."""
    assert open_store() is store is open_store(configured_url())
    assert open_store(f"sqlite:///{tmp_path / 'other.db'}") is not store


# Where


def test_without_a_url_it_is_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`aistrale.db` in AISTRALE_HOME."""
    monkeypatch.setenv("AISTRALE_HOME", str(tmp_path))
    monkeypatch.setenv("AISTRALE_DATABASE_URL", " ")
    assert configured_url() == f"sqlite:///{tmp_path / 'aistrale.db'}"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_server_goes_by_the_names_people_give_it(
    postgres_url: str, opening: Opening, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Hosters say postgres://, libpq says postgresql://."""
    monkeypatch.setenv("AISTRALE_DATABASE_URL", f"{scheme}:{postgres_url.partition(':')[2]}")
    database = opening(configured_url(), COUNTER)
    assert rows(database, "SELECT n FROM counter") == [(0,)]
    assert database.name == "postgresql://postgres@127.0.0.1:5432/test"


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("mysql://app@localhost/books", "'mysql'"),
        ("sqlite://books.db", "'sqlite'"),
        ("sqlite:///", "'sqlite'"),
        ("/var/books.db", "'/var/books.db'"),
        ("postgresql:books", "'postgresql'"),
        ("postgres", "'postgres'"),
    ],
)
def test_a_url_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, given: str) -> None:
    """With what to write instead."""
    monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        configured_url()
    assert str(caught.value) == (
        f"AISTRALE_DATABASE_URL takes sqlite:///path or postgresql://user@host/name, not one of {given}"
    )


@pytest.mark.parametrize("host", ["127.0.0.1:port", "[half"])
def test_a_server_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """As a mistake in the variable, before anything is tried."""
    monkeypatch.setenv("AISTRALE_DATABASE_URL", f"postgresql://app:{PASSWORD}@{host}/books")
    with pytest.raises(ConfigurationError, match="AISTRALE_DATABASE_URL") as caught:
        open_store().spans.trace("0")
    assert PASSWORD not in everything_shown(caught.value)


# Migrations


def fill(connection: Connection) -> None:
    """Put a row into each table."""
    for table in inspect(connection).get_table_names():
        if table == LEDGER:
            continue
        columns = inspect(connection).get_columns(table)
        values = (_literal(str(column["type"]), connection.dialect.name) for column in columns)
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({', '.join(values)})")


def _literal(kind: str, dialect: str) -> str:
    match kind:
        case "TEXT":
            return "'text'"
        case "BOOLEAN":
            return "true"
        case "BLOB" | "BYTEA":
            return "x'00'" if dialect == "sqlite" else r"'\x00'"
        case _:
            return "7"


def contents(database: Database, names: set[str]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: rows(database, f"SELECT * FROM {name}") for name in sorted(names)}


def assert_kept(before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]) -> None:
    """Every row, with every value it had; a newer table may have further columns."""
    for name, former in before.items():
        assert [row[: len(old)] for row, old in zip(after[name], former, strict=True)] == former


@pytest.mark.parametrize("steps", range(1, len(MIGRATIONS)))
def test_an_older_database_is_upgraded_with_all_it_holds(database_url: str, opening: Opening, steps: int) -> None:
    """By itself, at its first use: each step it lacks is taken once."""
    older = opening(database_url, MIGRATIONS[:steps])
    with older.write() as connection:
        fill(connection)
    names = tables(older)
    before = contents(older, names - {LEDGER})
    assert ledger(older) == [migration.version for migration in MIGRATIONS[:steps]]
    older.close()

    newer = opening(database_url)
    assert_kept(before, contents(newer, names - {LEDGER}))
    assert ledger(newer) == [migration.version for migration in MIGRATIONS]
    assert tables(newer) == {LEDGER, *schema.metadata.tables}


def test_a_step_that_fails_leaves_the_database_as_it_was(database_url: str, opening: Opening) -> None:
    """Not even the steps before it stay, nor its own first half; once it is mended, all are taken."""
    count_up(opening(database_url, COUNTER))
    good = Migration(2, "good", ("CREATE TABLE good (n BIGINT)", "UPDATE counter SET n = 2"))
    bad = Migration(3, "bad", ("CREATE TABLE bad (n BIGINT)", "INSERT INTO missing VALUES (1)"))
    error = failing(opening(database_url, (*COUNTER, good, bad)))
    assert "missing" in str(error)

    old = opening(database_url, COUNTER)
    assert rows(old, "SELECT n FROM counter") == [(1,)]
    assert (tables(old), ledger(old)) == ({LEDGER, "counter"}, [1])

    mended = opening(database_url, (*COUNTER, good, Migration(3, "bad", bad.statements[:1])))
    assert (tables(mended), ledger(mended)) == ({LEDGER, "counter", "good", "bad"}, [1, 2, 3])
    assert rows(mended, "SELECT n FROM counter") == [(2,)]


def test_a_first_step_that_fails_leaves_nothing(database_url: str, opening: Opening) -> None:
    """Not even the ledger."""
    failing(opening(database_url, (Migration(1, "bad", ("CREATE TABLE bad (n BIGINT)", "NONSENSE")),)))
    assert tables(opening(database_url, COUNTER)) == {LEDGER, "counter"}


def test_a_newer_database_is_refused(database_url: str, opening: Opening) -> None:
    """With what to do; and nothing in it is changed."""
    future = MIGRATIONS[-1].version + 1
    newer = opening(database_url, (*MIGRATIONS, Migration(future, "future", ("CREATE TABLE future (n BIGINT)",))))
    before = ledger(newer), tables(newer)

    database = opening(database_url)
    assert str(failing(database)) == (
        f"{database.name} is at version {future}, and this release of aistrale knows versions up to {future - 1}: "
        "upgrade it (pip install --upgrade aistrale), or use another database"
    )
    assert (ledger(newer), tables(newer)) == before


@pytest.mark.parametrize("version", [1, 6, 7])
def test_a_database_from_before_the_first_release_is_refused(database_url: str, opening: Opening, version: int) -> None:
    """Its tables have the same names and hold other things: it is left as it is, and the error says what to do."""
    steps = tuple(Migration(n, "early", (f"CREATE TABLE early{n} (n BIGINT)",)) for n in range(1, version + 1))
    early = opening(database_url, steps)
    before = ledger(early), tables(early)

    database = opening(database_url)
    assert str(failing(database)) == (
        f"{database.name} is at version {version}, from before the first release of aistrale, which reads none before "
        f"{MIGRATIONS[0].version}: move it away, or use another database"
    )
    assert (ledger(early), tables(early)) == before


def test_what_migrations_make_is_what_statements_expect(database_url: str, opening: Opening) -> None:
    """Tables, columns and their order (rows are inserted by position), types, what may be NULL, and keys."""
    with opening(database_url).read() as connection:
        inspector, dialect = inspect(connection), connection.dialect
        made = {
            table: (
                [(c["name"], c["type"].compile(dialect), c["nullable"]) for c in inspector.get_columns(table)],
                inspector.get_pk_constraint(table)["constrained_columns"],
            )
            for table in inspector.get_table_names()
            if table != LEDGER
        }
    expected = {
        name: (
            [(c.name, c.type.compile(dialect), c.nullable) for c in table.columns],
            [c.name for c in table.primary_key],
        )
        for name, table in schema.metadata.tables.items()
    }
    assert made == expected


@pytest.mark.parametrize("version", [0, 1])
def test_those_who_open_it_at_once_all_get_in(database_url: str, opening: Opening, version: int) -> None:
    """An empty database, or an old one: each step is taken by one of them, and the others wait."""
    if version:
        count_up(opening(database_url, COUNTER))
    steps = (*COUNTER, Migration(2, "more", ("CREATE TABLE more (n BIGINT)", "UPDATE counter SET n = n + 10")))
    start = threading.Barrier(8)

    def get_in(_: int) -> list[tuple[Any, ...]]:
        database = opening(database_url, steps)
        start.wait()
        return rows(database, "SELECT n FROM counter")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(get_in, range(8))) == [[(10 + version,)]] * 8


def test_processes_that_open_it_at_once_all_get_in(database_url: str, tmp_path: Path, opening: Opening) -> None:
    """The same, from processes of their own."""
    program = """
        from aistrale.store.store import open_store
        print(len(open_store().spans.trace("0")))
    """
    opening(database_url, MIGRATIONS[:1]).close()
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: printed(program, cwd=tmp_path), range(3))) == ["0\n"] * 3
    assert ledger(opening(database_url)) == [migration.version for migration in MIGRATIONS]


# Transactions


def test_a_block_that_fails_leaves_nothing(database_url: str, opening: Opening) -> None:
    """All or nothing, whoever raised; and the error is the block's own."""
    database = opening(database_url, COUNTER)

    def fail() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE counter SET n = 5")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    with pytest.raises(StoreError, match="missing"):
        write(database, "UPDATE counter SET n = 5", "INSERT INTO missing VALUES (1)")
    assert rows(database, "SELECT n FROM counter") == [(0,)]


def test_threads_that_write_take_turns(database_url: str, opening: Opening) -> None:
    """What one has read is still so when it writes."""
    database = opening(database_url, COUNTER)
    with ThreadPoolExecutor(8) as pool:
        for counted in [pool.submit(count_up, database) for _ in range(40)]:
            counted.result()
    assert rows(database, "SELECT n FROM counter") == [(40,)]


def test_writers_take_turns_whatever_the_server_isolates_them_by(postgres_url: str, opening: Opening) -> None:
    """Who waited for a turn sees what was done in the one before: nobody has to try again."""
    database = opening(f"{postgres_url}%20-cdefault_transaction_isolation%3Dserializable", COUNTER)
    with ThreadPoolExecutor(8) as pool:
        for counted in [pool.submit(count_up, database) for _ in range(40)]:
            counted.result()
    assert rows(database, "SELECT n FROM counter") == [(40,)]
    assert rows(database, "SHOW default_transaction_isolation") == [("serializable",)]


COUNTING = """
    import sys
    from aistrale.store.database import Database
    from aistrale.store.location import database_url
    from aistrale.store.migrations import Migration

    steps = (Migration(1, "counter", ("CREATE TABLE counter (n BIGINT NOT NULL)", "INSERT INTO counter VALUES (0)")),)
    database = Database(database_url(), steps)

    def count_up():
        with database.write() as connection:
            number = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
            connection.exec_driver_sql(f"UPDATE counter SET n = {number + 1}")
            return number + 1
"""


def test_processes_that_write_take_turns(database_url: str, opening: Opening, tmp_path: Path) -> None:
    """Each number is counted once, by whichever."""
    program = (
        COUNTING
        + """
    print(*(count_up() for _ in range(20)))
    """
    )
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda _: printed(program, cwd=tmp_path), range(3)))
    assert sorted(int(number) for output in outputs for number in output.split()) == list(range(1, 61))
    assert rows(opening(database_url, COUNTER), "SELECT n FROM counter") == [(60,)]


def test_a_writer_waits_for_the_one_before_it(database_url: str, opening: Opening) -> None:
    """And readers for neither: they see what was."""
    database = opening(database_url, COUNTER)
    with ThreadPoolExecutor(1) as pool:
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE counter SET n = 10")
            waiting = pool.submit(count_up, opening(database_url, COUNTER))
            assert rows(database, "SELECT n FROM counter") == [(0,)]
            assert not waiting.done()
        waiting.result()
    assert rows(database, "SELECT n FROM counter") == [(11,)]


def test_a_reader_sees_one_state(database_url: str, opening: Opening) -> None:
    """Of all it asks: what is written in between is not in the second answer either."""
    database = opening(database_url, COUNTER)
    query = "SELECT n FROM counter"
    with database.read() as connection:
        assert connection.exec_driver_sql(query).scalar() == 0
        count_up(database)
        assert connection.exec_driver_sql(query).scalar() == 0
    assert rows(database, query) == [(1,)]


# After a fork


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_child_opens_connections_of_its_own(database_url: str, opening: Opening, tmp_path: Path, end: str) -> None:
    """And its parent's still work, however the child ends."""
    program = (
        COUNTING
        + f"""
    import os

    def connection_now():
        with database.read() as connection:
            return connection.connection.dbapi_connection

    count_up()
    parents = connection_now()
    child = os.fork()
    if child == 0:
        print(count_up(), connection_now() is parents, flush=True)
        database.close()
        count_up()
        {end}
    print(os.waitpid(child, 0)[1])
    print(count_up())
    database.close()
    """
    )
    assert printed(program, cwd=tmp_path) == "2 False\n0\n4\n"
    assert rows(opening(database_url, COUNTER), "SELECT n FROM counter") == [(4,)]


def test_a_child_may_be_born_while_another_thread_writes(database_url: str, opening: Opening, tmp_path: Path) -> None:
    """As the recorder's thread does at any time: the child is not kept waiting by what its parent was doing."""
    program = (
        COUNTING
        + """
    import os
    import signal
    import threading

    def write_on():
        while not done.wait(0.001):
            count_up()

    count_up()
    done = threading.Event()
    writer = threading.Thread(target=write_on)
    writer.start()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            count_up()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status:
            break
    done.set()
    writer.join()
    database.close()
    print("ended well" if status == 0 else "waited too long")
    """
    )
    assert printed(program, cwd=tmp_path) == "ended well\n"
    assert rows(opening(database_url, COUNTER), "SELECT n FROM counter")[0][0] > 5


# What fails, and what is told


ADVICE = {
    "folder": "Name a file in AISTRALE_DATABASE_URL, or move the folder away.",
    "no folder": "Look whether its folder exists and may be written, or set AISTRALE_HOME elsewhere.",
    "locked": "Another process holds it for long: look for one that is stuck, or try again.",
    "right": "Give this user the right to write there, or set AISTRALE_HOME elsewhere.",
    "full": "Make room on the disk; what was not written yet is kept as long as there is room for it.",
    "damaged": "The file is damaged: keep a copy, then restore a backup or move it away.",
    "other": "The file is no SQLite database: move it away, or set AISTRALE_HOME or AISTRALE_DATABASE_URL.",
    "server": "Look whether the database server is up and AISTRALE_DATABASE_URL names it rightly.",
}


def test_a_folder_is_no_database(tmp_path: Path, opening: Opening) -> None:
    """It is told so."""
    url = f"sqlite:///{tmp_path}"
    assert str(failing(opening(url))) == f"{url}: it is a folder, not a database file. {ADVICE['folder']}"


def test_a_file_too_short_for_a_database_is_not_written_over(tmp_path: Path, opening: Opening) -> None:
    """SQLite would take it for an empty one."""
    (tmp_path / "notes.db").write_text("mine")
    assert ADVICE["other"] in str(failing(opening(f"sqlite:///{tmp_path / 'notes.db'}")))
    assert (tmp_path / "notes.db").read_text() == "mine"


@pytest.mark.parametrize("below", ["books.db", "new/books.db"])
def test_a_file_may_be_in_the_way_of_a_folder(tmp_path: Path, opening: Opening, below: str) -> None:
    """It stays as it is."""
    (tmp_path / "file").write_text("mine")
    url = f"sqlite:///{tmp_path / 'file' / below}"
    assert str(failing(opening(url))) == f"{url}: Not a directory. {ADVICE['no folder']}"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["books", "folder", "locked", "full", "readonly", "malformed"])
def test_advice_goes_by_what_happened_not_by_what_things_are_called(opening: Opening, name: str) -> None:
    """A folder that nobody may write to, the root user included."""
    url = f"sqlite:////sys/{name}/books.db"
    assert str(failing(opening(url))).endswith(f" {ADVICE['right']}")


@pytest.mark.parametrize("start", ["text", "SQLite format 3\0"])
def test_what_is_no_database_is_told_so(tmp_path: Path, opening: Opening, start: str) -> None:
    """And left alone."""
    path = tmp_path / "books.db"
    path.write_bytes(start.encode() + bytes(range(256)) * 64)
    before = path.read_bytes()
    url = f"sqlite:///{path}"
    assert str(failing(opening(url))) == f"{url}: file is not a database. {ADVICE['other']}"
    assert path.read_bytes() == before


def test_a_damaged_file_is_told_so(tmp_path: Path, opening: Opening) -> None:
    """Where the damage is met; what is whole can still be read."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    database = opening(url, COUNTER)
    write(database, "CREATE TABLE other (n BIGINT)", "INSERT INTO other VALUES (1)")
    page = rows(database, "SELECT rootpage FROM sqlite_master WHERE name = 'other'")[0][0] - 1
    size = rows(database, "PRAGMA page_size")[0][0]
    database.close()
    with (tmp_path / "books.db").open("r+b") as file:
        file.seek(page * size)
        file.write(b"\xa5" * size)

    with pytest.raises(StoreError) as caught:
        rows(database, "SELECT n FROM other")
    assert str(caught.value) == f"{url}: database disk image is malformed. {ADVICE['damaged']}"
    assert rows(database, "SELECT n FROM counter") == [(0,)]


def test_a_file_that_another_holds_for_long_is_told_of(tmp_path: Path, opening: Opening) -> None:
    """Reading goes on; writing works again once the other lets go."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    database = opening(url, COUNTER)
    rows(database, "PRAGMA busy_timeout = 20")  # not the ten seconds we wait
    with closing(sqlite3.connect(tmp_path / "books.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            count_up(database)
        assert str(caught.value) == f"{url}: database is locked. {ADVICE['locked']}"
        assert rows(database, "SELECT n FROM counter") == [(0,)]
    count_up(database)
    assert rows(database, "SELECT n FROM counter") == [(1,)]


def test_a_file_that_may_not_be_written_is_told_of(tmp_path: Path) -> None:
    """To a user who is not root."""
    program = (
        """
    import os
    import sqlite3
    import tempfile
    from pathlib import Path

    folder = tempfile.TemporaryDirectory(prefix="books")
    path = Path(folder.name) / "books.db"
    os.environ["AISTRALE_DATABASE_URL"] = f"sqlite:///{path}"
    """
        + COUNTING
        + """
    from aistrale import StoreError

    count_up()
    database.close()
    path.chmod(0o444)
    path.parent.chmod(0o777)
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            count_up()
        except StoreError as error:
            print(str(error).replace(str(path), "books.db"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    """
    )
    assert printed(program, cwd=tmp_path) == (
        f"sqlite:///books.db: attempt to write a readonly database. {ADVICE['right']}\n"
    )


def test_a_full_disk_is_told_of(tmp_path: Path) -> None:
    """What did not fit is not there by half, and there is room again once something is deleted."""
    program = (
        """
    import ctypes
    import os
    from pathlib import Path

    libc = ctypes.CDLL(None, use_errno=True)
    NEW_MOUNTS = 0x20000
    folder = Path.cwd() / "small"
    folder.mkdir()
    os.environ["AISTRALE_DATABASE_URL"] = f"sqlite:///{folder / 'books.db'}"
    """
        + COUNTING
        + """
    from aistrale import StoreError

    mounted = libc.unshare(NEW_MOUNTS) == 0 and libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None) == 0
    mounted = mounted and libc.mount(b"none", bytes(folder), b"tmpfs", 0, b"size=1m") == 0
    if not mounted:  # not as root: then the file may not grow, which is told in other words
        import resource
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE big (data BLOB)")
    print("full" if mounted else "file")
    try:
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE counter SET n = 100")
            for _ in range(2000):
                connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(1000))")
    except StoreError as error:
        print(str(error).replace(str(folder), ""))
    with database.read() as connection:
        print(connection.exec_driver_sql("SELECT count(*) FROM big").scalar(), flush=True)
    print(count_up())
    """
    )
    how, told, *rest = printed(program, cwd=tmp_path).splitlines()
    said = {"full": "database or disk is full", "file": "disk I/O error"}[how]
    assert told == f"sqlite:////books.db: {said}. {ADVICE[how]}"
    assert rest == ["0", "1"]


def test_a_server_that_is_down_is_told_of(opening: Opening) -> None:
    """By its name, without the password."""
    port = closed_port()
    error = failing(opening(f"postgresql+psycopg://app:{PASSWORD}@127.0.0.1:{port}/books"))
    assert str(error) == (
        f"postgresql://app@127.0.0.1:{port}/books: connection failed: connection to server at "
        f'"127.0.0.1", port {port} failed: Connection refused. {ADVICE["server"]}'
    )
    assert PASSWORD not in everything_shown(error)


def test_a_connection_that_breaks_is_replaced(postgres_url: str, opening: Opening) -> None:
    """The transaction it breaks is lost as a whole, and told; the next one works. One between two is not noticed."""
    database, other = opening(postgres_url, COUNTER), opening(postgres_url, COUNTER)
    ask = "SELECT pg_backend_pid()"

    def hang_up(process: int) -> None:
        assert rows(other, f"SELECT pg_terminate_backend({process}, 5000)") == [(True,)]

    def write_while_it_breaks() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE counter SET n = 5")
            hang_up(connection.exec_driver_sql(ask).scalar_one())
            connection.exec_driver_sql("UPDATE counter SET n = 6")

    hang_up(rows(database, ask)[0][0])
    assert rows(database, "SELECT n FROM counter") == [(0,)]

    with pytest.raises(StoreError) as caught:
        write_while_it_breaks()
    assert str(caught.value) == (
        f"{database.name}: terminating connection due to administrator command. {ADVICE['server']}"
    )
    count_up(database)
    assert rows(database, "SELECT n FROM counter") == [(1,)]


@contextmanager
def refusing_server() -> Iterator[tuple[int, list[bytes]]]:
    """A PostgreSQL server that asks its client for a password, and then does not accept it."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as file:
            while (size := int.from_bytes(file.read(4))) == 8:  # whether we encrypt
                file.read(4)
                connection.sendall(b"N")
            file.read(size - 4)
            connection.sendall(b"R" + (8).to_bytes(4) + (3).to_bytes(4))  # a password in clear text, please
            assert file.read(1) == b"p"
            heard.append(file.read(int.from_bytes(file.read(4)) - 4))
            fields = b"SFATAL\0C28P01\0Mpassword authentication failed for user\0\0"
            connection.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve)
        yield server.getsockname()[1], heard
        serving.result(5)


def test_a_wrong_password_is_not_shown(opening: Opening) -> None:
    """Neither in the message nor in what lies behind it."""
    with refusing_server() as (port, heard):
        error = failing(opening(f"postgresql+psycopg://app:{PASSWORD}@127.0.0.1:{port}/books"))
    assert heard == [PASSWORD.encode() + b"\0"]
    assert "password authentication failed for user" in str(error)
    assert str(error).endswith(ADVICE["server"])
    assert PASSWORD not in everything_shown(error)


@pytest.mark.parametrize("mark", ["/", "#", "?", "@", ":", "%2F", ";"])
@pytest.mark.parametrize("first", ["hunter2aB3", "4711"], ids=["text", "like a port"])
def test_no_part_of_a_password_is_shown(monkeypatch: pytest.MonkeyPatch, first: str, mark: str) -> None:
    """Whatever is in it that should have been written as %XX, and however that is told."""
    second = "dE5kQ9xZ"
    url = f"postgresql://app:{first}{mark}{second}@127.0.0.1:{closed_port()}/books"
    monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
    with pytest.raises((StoreError, ConfigurationError)) as caught:
        open_store().spans.trace("0")
    shown = everything_shown(caught.value)
    assert f"app:{first}" not in shown
    assert second not in shown
