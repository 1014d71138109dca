"""Calls to a model whose books cannot be kept: each is answered, one warning a minute tells, and nothing is lost."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from time import time_ns

import pytest
from callers import ASYNC, ASYNC_STREAM, SYNC, SYNC_STREAM, Calling
from calls import MOMENT, add, call
from keeping import ON, on_sqlite
from programs import printed, run_program
from sqlalchemy import select

from aistrale import StoreError, budgets, events, telemetry
from aistrale.store.schema import span_tags
from aistrale.store.spans import CHUNK, REPRICED
from aistrale.store.store import Store
from aistrale.tracing.books import books_recorder
from aistrale.tracing.recorder import QUEUE_LIMIT

# What a database may suffer

CALLS = """
import asyncio, ctypes, json, logging, os, resource, shutil, signal, sqlite3, subprocess, sys, time
from contextlib import contextmanager, suppress
from pathlib import Path

import aistrale
from aistrale import budgets, events, telemetry

warnings = []
class Noting(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger("aistrale").addHandler(Noting(logging.WARNING))

folder = Path.cwd() / "books"
path = folder / "books.db"
os.environ["AISTRALE_DATABASE_URL"] = f"sqlite:///{path}"
answers = []

def ask(user):
    options = {"provider": "echo", "user": user}

    async def streamed():
        return await aistrale.stream_async("Hello", **options).until_done()

    answers.append(aistrale.run("Hello", **options).text)
    answers.append(aistrale.stream("Hello", **options).until_done().text)
    answers.append(asyncio.run(aistrale.run_async("Hello", **options)).text)
    answers.append(asyncio.run(streamed()).text)

def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, (telemetry.status(), warnings)
        time.sleep(0.01)

def said():
    return telemetry.status()[0].last_error

def keep_some():
    # Books that another process has kept.
    shutil.copy(sys.argv[1], path)

def change(statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()

libc = ctypes.CDLL(None, use_errno=True)
PRIVATE, RECURSIVE, NEW_MOUNTS, READ_ONLY, REMOUNT = 1 << 18, 1 << 14, 0x20000, 1, 32

def mount(kind, flags, options=None, source=b"none", target=folder):
    return libc.mount(source, os.fsencode(target), kind, flags, options) == 0

# Mounts that are this process's alone: only root has them. Without, no file may grow where a disk would be full.
folder.mkdir()
is_root = libc.unshare(NEW_MOUNTS) == 0 and mount(None, PRIVATE | RECURSIVE, target="/")
assert not is_root or mount(b"tmpfs", 0, b"size=2m")

@contextmanager
def full_disk():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if is_root:
        with suppress(OSError), open(folder / "film", "wb", buffering=0) as film:
            while True:
                film.write(bytes(4096))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    yield
    if is_root:
        (folder / "film").unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

@contextmanager
def read_only():
    if is_root:
        assert mount(None, REMOUNT | READ_ONLY)
    else:
        modes = {each: each.stat().st_mode for each in (*folder.iterdir(), folder)}
        for each, mode in modes.items():
            each.chmod(mode & ~0o222)
    yield
    if is_root:
        assert mount(None, REMOUNT)
    else:
        for each in reversed(modes):
            each.chmod(modes[each])
"""

FAULTS = {
    "a folder": """
        path.mkdir()
        {calls}
        path.rmdir()
    """,
    "no database": """
        path.write_bytes(b"notes of mine, and many of them")
        {calls}
        path.unlink()
    """,
    "a newer release's": """
        keep_some()
        change("INSERT INTO aistrale_migrations (version, name, applied) VALUES (99, 'later', 0)")
        {calls}
        change("DELETE FROM aistrale_migrations WHERE version = 99")
    """,
    "damaged where it is written": """
        keep_some()
        whole = path.read_bytes()
        with sqlite3.connect(path) as connection:
            ((size,),) = connection.execute("PRAGMA page_size")
            names = connection.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name IN ('spans', 'events')")
            pages = [page for (page,) in names]
        connection.close()
        with open(path, "r+b") as file:
            for page in pages:
                file.seek((page - 1) * size)
                file.write(b"\\xa5" * size)
        {calls}
        path.write_bytes(whole)
    """,
    "damaged while it is open": """
        keep_some()
        ask("open")
        assert len(telemetry.query()) == 54
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        whole = path.read_bytes()
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\\xa5" * (len(whole) - 4096))
        {calls}
        path.write_bytes(whole)
    """,
    "locked by another": """
        keep_some()
        holding = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        holding += "c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", holding, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            holder.stdout.readline()
            {calls}
            holder.stdin.close()
    """,
    "on a full disk": """
        keep_some()
        with full_disk():
            {calls}
    """,
    "on a disk that fills up": """
        keep_some()
        ask("open")
        assert len(telemetry.query()) == 54
        with full_disk():
            {calls}
    """,
    "in a folder that may not be written": """
        keep_some()
        with read_only():
            {calls}
    """,
    "missing, in a folder that may not be written": """
        with read_only():
            {calls}
    """,
}


def with_calls(program: str) -> str:
    """The program, with calls where it says so: until it is known that the books cannot be kept, and after that."""
    lines = []
    for line in dedent(program).splitlines():
        indent = line.partition("{calls}")[0]
        calls = ['ask("during")', "until(said)", 'ask("during")'] if "{calls}" in line else None
        lines += [line] if calls is None else [indent + call for call in calls]
    return "\n".join(lines)


AFTERWARDS = """
noted = list(warnings)
users = [span.user_id for span in telemetry.query(limit=1000)]
print(json.dumps([answers, noted, warnings[len(noted):], users, said(), telemetry.status()[0].dropped]))
"""


@pytest.fixture(scope="module")
def kept_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books with fifty calls in them."""
    path = tmp_path_factory.mktemp("before") / "books.db"
    store = Store(f"sqlite:///{path}")
    store.record([call(user="before") for _ in range(50)])
    store.close()
    return path


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_call_is_answered_whatever_its_database_suffers(fault: str, tmp_path: Path, kept_before: Path) -> None:
    """Sync and async, whole and streamed; one warning tells, and once that is mended every span is there."""
    program = CALLS + with_calls(fault) + AFTERWARDS
    done = run_program(program, cwd=tmp_path, env=ON, arguments=(str(kept_before),))
    assert (done.returncode, done.stderr) == (0, "")
    answers, told, told_later, users, obstacle, dropped = json.loads(done.stdout)
    assert set(answers) == {"Hello"}
    assert len(told) == 1, told
    assert told_later == []
    assert users.count("during") == 8
    assert users.count("before") == 50 * ("keep_some()" in fault)
    assert len(users) == users.count("before") + len(answers)
    assert (obstacle, dropped) == (None, 0)


# What is told of it

MINUTES = """
import logging, os, socket, threading, time
from pathlib import Path

real, ahead = time.monotonic, 0.0
time.monotonic = lambda: real() + ahead  # the clock of this process; what waits in it, waits by the real one

import aistrale
from aistrale import budgets, events, telemetry

warnings = []
class Noting(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger("aistrale").addHandler(Noting(logging.WARNING))

def until(condition):
    deadline = real() + 30
    while not condition():
        assert real() < deadline, (telemetry.status(), warnings)
        time.sleep(0.01)

def told(failed):
    # What was told when many calls were made and their spans, once more, could not be delivered.
    for _ in range(100):
        assert aistrale.run("Hello", provider="echo").text == "Hello"
    until(failed)
    telemetry.flush(30)  # when this is over, so is telling of it
    return len(warnings)
"""
DELIVERIES_THAT_FAIL = {
    "to a database": """
path = Path("books.db")

def no_database(number):
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    match number % 3:
        case 0: path.mkdir()
        case 1: path.write_text("notes of mine, and many of them")
        case 2: path.write_text("notes")
    # Each is told in words of its own, so that another failure can be known from the last one.
    words = ("it is a folder", "file is not a database", "too short")[number % 3]
    return lambda: words in (telemetry.status()[0].last_error or "")

counts = []
for number in range(5):
    ahead = 31.0 * number
    counts.append(told(no_database(number)))
path.unlink()
print(counts, len(telemetry.query(limit=1000)), telemetry.status()[0].dropped)
""",
    "to a collector": """
tries = 0

def hang_up(listener):
    global tries
    while True:
        listener.accept()[0].close()
        tries += 1

listener = socket.create_server(("127.0.0.1", 0))
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
counts = []
for number in range(5):
    ahead, before = 31.0 * number, tries
    counts.append(told(lambda: tries > before and telemetry.status()[0].last_error and warnings))
(status,) = telemetry.status()
print(counts, status.waiting, status.dropped, flush=True)
os._exit(0)  # there is nobody to wait for
""",
}


@pytest.mark.parametrize("where", DELIVERIES_THAT_FAIL)
def test_what_keeps_spans_waiting_is_told_once_a_minute(where: str, tmp_path: Path) -> None:
    """Twice in each of two minutes it is tried in vain, and once in the third; in each, the first time is told."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    mode = {"to a database": "store", "to a collector": "otlp"}[where]
    variables = {"AISTRALE_TELEMETRY": mode, "AISTRALE_DATABASE_URL": url}
    assert printed(MINUTES + DELIVERIES_THAT_FAIL[where], cwd=tmp_path, env=variables) == "[1, 1, 2, 2, 3] 500 0\n"


def test_a_call_that_finds_no_room_for_its_span_is_answered(
    keeping: Store, calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """The spans that are dropped are counted, and one warning tells, while 20,000 others wait for the database."""
    callers = [calling(way, user=str(way)) for way in (SYNC, SYNC_STREAM, ASYNC, ASYNC_STREAM)]
    recorder = books_recorder(keeping.database.url)
    telemetry.query()  # the books are open
    with keeping.database.write():
        for span in [call(operation="execute_tool") for _ in range(QUEUE_LIMIT)]:
            recorder.record(span)
        assert [caller.ask("Hello").text for caller in callers * 5] == ["Hello"] * 20
        assert (recorder.status.waiting, recorder.status.dropped) == (QUEUE_LIMIT, 20)
    assert [record.getMessage() for record in caplog.records].count("spans are dropped: 20000 wait already") == 1

    assert telemetry.query(limit=100, user="sync") == []
    assert (recorder.status.waiting, recorder.status.delivered) == (0, QUEUE_LIMIT)
    callers[0].ask("Hello")
    assert len(telemetry.query(limit=100, user="sync")) == 1


# Death in the middle of a write

WRITER = """
import os, random, secrets, signal, sys, time
from decimal import Decimal
from aistrale.prices import load_table
from aistrale.spans import Span
from aistrale.store.store import open_store

def batch(name):
    now = time.time_ns()
    common = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "aistrale.tags": ["all", name]}
    spans = []
    for number in range(10):
        ids = secrets.token_hex(16), secrets.token_hex(8)
        own = {"gen_ai.request.model": f"model {number % 3}", "gen_ai.usage.input_tokens": number, "user.id": name}
        span = Span(*ids, "chat", now, now + number * 10**6, attributes={**common, **own})
        span.cost, span.cost_source = Decimal("0.001"), "provider"
        spans.append(span)
    return spans

store = open_store()
load_table()
for life in range(int(sys.argv[1])):
    reading, writing = os.pipe()
    writer = os.fork()
    number = 0
    while not writer:
        store.record(batch(f"{life}-{number}"))
        os.write(writing, f"{life}-{number}\\n".encode())
        number += 1
    os.close(writing)
    with open(reading) as file:
        written = [file.readline() for _ in range(random.randint(1, 10))]
        time.sleep(random.uniform(0, 0.02))  # some moment of the next write
        os.kill(writer, signal.SIGKILL)
        written += file.readlines()
    os.waitpid(writer, 0)
    print("".join(written), end="")
"""


def test_what_a_killed_writer_has_written_is_whole(store: Store, tmp_path: Path) -> None:
    """Twenty are killed, each at some moment of a write: a batch is there with its spans, tags, events and sums, or not
    at all, and all of those are that were said to be written. (Five on PostgreSQL, which does it for us.)
    """
    budgets.set("all", 1000)
    lives = 20 if store.database.is_sqlite else 5
    done = run_program(WRITER, cwd=tmp_path, env=ON, arguments=(str(lives),))
    assert (done.returncode, done.stderr) == (0, "")
    written = done.stdout.split()

    spans = telemetry.query(limit=100_000)
    batches = Counter(str(span.user_id) for span in spans)
    assert len(written) >= lives
    assert set(written) <= set(batches)
    assert set(batches.values()) == {10}
    with store.database.read() as connection:
        tagged = [tuple(row) for row in connection.execute(select(span_tags.c.span_id, span_tags.c.tag))]
    assert sorted(tagged) == sorted((span.span_id, tag) for span in spans for tag in span.tags)
    told = [event.data["span_id"] for event in events.list(limit=100_000)]
    assert sorted(told) == sorted(span.span_id for span in spans)

    (spent,) = budgets.spent("all")
    assert spent.spent == sum(span.cost or 0 for span in spans) == len(spans) * Decimal("0.001")
    for by in ("model", "hour"):
        summed = telemetry.summary(by=by)
        assert summed == telemetry.summary(by=by, tag="all")  # the sums that are kept, and the spans counted anew
        assert sum(group.calls for group in summed) == len(spans)
        assert sum(group.usage.input_tokens for group in summed) == len(batches) * sum(range(10))
    if store.database.is_sqlite:
        store.close()
        with closing(sqlite3.connect(tmp_path / "books.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# What is broken off in the middle


@contextmanager
def refusing(store: Store, what: str, table: str, when: str) -> Iterator[None]:
    """A database that, in the block, takes no such change of such a row."""
    with store.database.write() as connection:
        refuse = "BEGIN SELECT RAISE(ABORT, 'out of order'); END"
        connection.exec_driver_sql(f"CREATE TRIGGER refuse BEFORE {what} ON {table} WHEN {when} {refuse}")
    try:
        yield
    finally:
        with store.database.write() as connection:
            connection.exec_driver_sql("DROP TRIGGER refuse")


@on_sqlite
def test_a_purge_that_is_broken_off_goes_on_where_it_was(keeping: Store) -> None:
    """What it forgot until then is out of the sums as well, and nothing else is."""
    add(keeping, [call(MOMENT + n, cost="1", span_id=f"{n + 1:016x}", user="u") for n in range(2 * CHUNK + 10)])
    with refusing(keeping, "DELETE", "spans", f"OLD.span_id = '{CHUNK + 2:016x}'"):
        with pytest.raises(StoreError, match="out of order"):
            telemetry.purge(older_than="0s")
        for by in ("model", "user"):
            (told,) = telemetry.summary(by)
            assert (told.calls, told.cost) == (CHUNK + 10, CHUNK + 10)
    assert telemetry.purge(older_than="0s") == CHUNK + 10
    assert telemetry.summary("model") == telemetry.summary("user") == telemetry.query() == []


@on_sqlite
def test_repricing_that_is_broken_off_goes_on_where_it_was(keeping: Store) -> None:
    """What has its new price is in the sums and in budgets with that, and is not counted twice."""
    spans = [call(time_ns() + n, model="own", input_tokens=1_000_000, span_id=f"{n + 1:016x}") for n in range(1100)]
    add(keeping, spans)
    budgets.set("all", 10_000, period="total")
    telemetry.set_price("own", input=1)
    with refusing(keeping, "UPDATE", "spans", f"OLD.span_id = '{REPRICED + 2:016x}'"):
        with pytest.raises(StoreError, match="out of order"):
            telemetry.reprice()
        (told,) = telemetry.summary("model")
        assert (told.calls, told.unpriced, told.cost) == (1100, 1100 - REPRICED, REPRICED)
        assert [spend.spent for spend in budgets.spent("all")] == [REPRICED]
    assert telemetry.reprice() == 1100 - REPRICED
    (told,) = telemetry.summary("model")
    assert (told.unpriced, told.cost) == (0, 1100)
    assert [spend.spent for spend in budgets.spent("all")] == [1100]


@on_sqlite
@pytest.mark.parametrize("table", ["budgets", "budget_spend"])
def test_a_budget_that_cannot_be_set_leaves_the_one_there_was(keeping: Store, table: str) -> None:
    """With what was counted of it."""
    add(keeping, [call(time_ns(), cost="3", user=user) for user in ("ada", "bob")])
    known = budgets.set("b", 10, each="user")
    counted = budgets.spent("b")
    assert len(counted) == 2
    with refusing(keeping, "INSERT", table, "1"):
        with pytest.raises(StoreError, match="out of order"):
            budgets.set("b", 5, period="month")
        assert budgets.list() == [known]
        assert budgets.spent("b") == counted
