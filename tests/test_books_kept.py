"""Every call leaves its span in the books: whatever process made it, however that ends, whatever the database does."""

import asyncio
import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from books import postgres_schema
from callers import SYNC, Calling, Way, our_ways
from calls import call, kept
from families import FAMILY, family_programs
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import ON, charging, on_sqlite, run_together
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from programs import printed, run_module, run_program
from sqlalchemy import create_engine, text
from tenacity import wait_none
from upstream import BOUND, Gate, Upstream, completion, events, failure, plain, stream

import aistrale
from aistrale import Call, CallbackHandler, Chunk, Client, RetryPolicy, budgets, telemetry, tokens
from aistrale import events as event_log
from aistrale.spans import Span, from_json, to_json
from aistrale.store.location import database_url, spool_folder
from aistrale.store.migrations import LEDGER
from aistrale.store.spool import LIMIT, Spool
from aistrale.store.store import Store, open_store
from aistrale.tracing.books import books_recorder
from aistrale.tracing.recorder import QUEUE_LIMIT, Delivery

SCRIPT = 'import aistrale\naistrale.run("Hello", provider="echo")\n'
SECRET = "the-eagle-lands-at-noon"


def users() -> list[str | None]:
    """Whose calls are in the books, by name, each as often as it is there."""
    return sorted(str(span.user_id) for span in telemetry.query(limit=100_000))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own: PostgreSQL's driver may log that a batch it gave up was not over."""
    ours = [record for record in caplog.records if record.name == "aistrale"]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def delivery() -> Delivery:
    """How the spans of this process get to the books of this test."""
    return books_recorder(database_url()).status


def assert_said_once(warnings: list[str]) -> None:
    """Whatever a database keeps from working, one warning tells."""
    assert len(warnings) <= 1, warnings


# Short lives


def leave_spans(times: int, folder: Path) -> None:
    run_together(SCRIPT, [()] * times, cwd=folder)
    assert [span.name for span in telemetry.query()] == ["chat echo"] * times


def test_a_script_of_three_lines_leaves_its_span(store: Store, tmp_path: Path) -> None:
    """Each of many, though each ends before anything could be written in the background."""
    leave_spans(20 if store.database.is_sqlite else 10, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("store")
def test_two_hundred_scripts_leave_two_hundred_spans(tmp_path: Path) -> None:
    """Not one of them is lost."""
    leave_spans(200, tmp_path)


@on_sqlite
def test_a_short_script_loads_no_database_and_no_price_table(database_url: str, tmp_path: Path) -> None:
    """Both take longer than the script; to its very end it does without."""
    program = f"""
        import atexit, sys
        atexit.register(lambda: print([name for name in ("sqlalchemy", "genai_prices") if name in sys.modules]))
        {SCRIPT.replace(chr(10), ";")}
    """
    assert printed(program, cwd=tmp_path, env=ON) == "[]\n"
    assert not (tmp_path / "books.db").exists()


@on_sqlite
@pytest.mark.parametrize("statement", ["client.run('Hello')", "client.stream('Hello').until_done()"])
def test_a_request_waits_for_no_database_to_be_loaded(
    store: Store, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, statement: str
) -> None:
    """Though there are books, with calls, soft budgets and keys of other providers in them: by its answer, none is."""
    monkeypatch.setenv("AISTRALE_SECRET_KEY", "correct horse battery staple")
    tokens.add("groq", "sk-stored-aaaaaaaa")
    budgets.set("b", 10)
    store.record([call(user="before") for _ in range(50)])
    store.close()
    program = f"""
        import sys, aistrale
        class Look(aistrale.CallbackHandler):
            def on_end(self, call, result):
                print("sqlalchemy" in sys.modules)
        client = aistrale.Client(provider="openai", model="m", base_url={upstream.url!r}, callbacks=[Look()])
        {statement}
    """
    assert printed(program, cwd=tmp_path, env={**ON, "OPENAI_API_KEY": "k"}) == "False\n"
    assert len(upstream.requests) == 1
    assert users() == ["None", *["before"] * 50]


@pytest.mark.parametrize(
    "statement",
    [
        "aistrale.run({})",
        "aistrale.stream({}).until_done()",
        "asyncio.run(aistrale.run_async({}))",
        "asyncio.run(read(aistrale.stream_async({})))",
        "aistrale.run_batch([{}])",
        "aistrale.embed({})",
    ],
)
def test_telemetry_off_writes_nothing_and_loads_nothing(statement: str, tmp_path: Path) -> None:
    """`AISTRALE_TELEMETRY=off` is off, to the very end: no folder is made, and nothing loaded that could fill one."""
    home = tmp_path / "home"
    program = f"""
        import asyncio, atexit, sys
        known = ("sqlalchemy", "sqlite3", "opentelemetry", "genai_prices")
        atexit.register(lambda: print([name for name in sys.modules if name.partition(".")[0] in known]))
        import aistrale
        aistrale.configure(provider="echo")

        async def read(stream):
            return await stream.until_done()

        assert {statement.replace("{}", '"Hello"')}
    """
    assert printed(program, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "off", "AISTRALE_HOME": str(home)}) == "[]\n"
    assert list(tmp_path.iterdir()) == []


@on_sqlite
def test_a_call_made_while_the_process_ends_leaves_its_span(database_url: str, tmp_path: Path) -> None:
    """An exit handler that was there before the first call runs after ours."""
    program = """
        import atexit
        atexit.register(lambda: aistrale.run("Hello", provider="echo", user="last"))
        import aistrale
        aistrale.run("Hello", provider="echo", user="first")
    """
    assert run_program(program, cwd=tmp_path, env=ON).stderr == ""
    assert users() == ["first", "last"]


# Children, threads and pools


@pytest.mark.usefixtures("store")
@family_programs
def test_children_and_threads_deliver_their_spans(program: str, expected: list[str], tmp_path: Path) -> None:
    """Each its own, once; and none says a word about it."""
    done = run_program(program, cwd=tmp_path, env=ON)
    assert (done.returncode, done.stderr) == (0, "")
    assert users() == expected


@on_sqlite
def test_a_fork_while_the_books_are_being_opened_harms_no_child(database_url: str, tmp_path: Path) -> None:
    """What a thread of the parent is importing just then stays half imported in the child, and locked."""
    program = """
        import threading, time
        call(user="parent")
        while "sqlalchemy" not in sys.modules:
            call(user="parent")
            time.sleep(0.002)
        pid = os.fork()
        if not pid:
            threading.Timer(5, os._exit, [3]).start()
            aistrale.telemetry.query()
            os._exit(0)
        print("the child ends with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert printed(FAMILY + dedent(program), cwd=tmp_path, env=ON) == "the child ends with 0\n"


# Deaths


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """Five that write one database together are killed, each at another moment."""
    program = """
        import sys, time
        import aistrale
        from aistrale import telemetry
        number = 0
        while True:
            for _ in range(20):
                aistrale.run("Hello", provider="echo", user=f"{sys.argv[1]} {number:06}")
                number += 1
            print(telemetry.status()[0].delivered, flush=True)
            time.sleep(0.01)
    """

    def life_of(name: str) -> int:
        """How many spans a writer had written, as it said last."""
        command = [sys.executable, "-c", dedent(program), name]
        environment = {**os.environ, **ON}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as writer:
            said = [writer.stdout.readline() for _ in range(random.randint(10, 120))]
            writer.kill()
            said += writer.stdout.readlines()
        return int([line for line in said if line.endswith("\n")][-1])

    names = [f"writer {number}" for number in range(5)]
    with ThreadPoolExecutor(len(names)) as pool:
        written = dict(zip(names, pool.map(life_of, names), strict=True))

    kept = users()
    for name, number in written.items():
        own = [user for user in kept if user.startswith(name)]
        assert own[:number] == [f"{name} {position:06}" for position in range(number)]
        assert len(set(own)) == len(own)
    assert list((tmp_path / "books.db.spool").glob("*.jsonl")) == []
    with sqlite3.connect(tmp_path / "books.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@contextmanager
def calling_on(program: str, folder: Path) -> Iterator[Callable[[], str]]:
    """A program that prints lines; the function gives the next one. It is killed at the end of the block."""
    environment = {**os.environ, **ON}
    command = [sys.executable, "-c", dedent(program)]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline
        finally:
            process.kill()


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_a_killed_process_loses_its_last_moments_alone(tmp_path: Path) -> None:
    """Half a second, once its books are open; ten times that is allowed for here."""
    program = """
        import time
        import aistrale
        from aistrale import telemetry
        aistrale.run("Hello", provider="echo")
        telemetry.query()
        number = 0
        while True:
            aistrale.run("Hello", provider="echo", user=f"{number:06}")
            print(number, time.time(), flush=True)
            number += 1
            time.sleep(0.01)
    """
    made, first = [], None
    with calling_on(program, tmp_path) as read:
        while first is None or made[-1][1] < first + 7:
            number, at = read().split()
            made.append((f"{int(number):06}", float(at)))
            first = made[0][1]
    assert {number for number, at in made if at < made[-1][1] - 5} <= set(users())


@on_sqlite
def test_a_process_killed_while_others_hold_its_database_loses_nothing_that_it_put_by(
    store: Store, tmp_path: Path
) -> None:
    """What is said to be delivered is in the spool then."""
    program = """
        import time
        import aistrale
        from aistrale import telemetry
        aistrale.run("Hello", provider="echo", user="000000")
        telemetry.query()
        number = 1
        while True:
            aistrale.run("Hello", provider="echo", user=f"{number:06}")
            print(telemetry.status()[0].delivered, flush=True)
            number += 1
            time.sleep(0.01)
    """
    with calling_on(program, tmp_path) as read:
        read()
        with store.database.write():
            before = delivered = int(read())
            while delivered <= before + 100:
                delivered = int(read())
    assert users()[:delivered] == [f"{number:06}" for number in range(delivered)]


@pytest.mark.usefixtures("store")
def test_a_killed_process_loses_nothing_that_a_flush_has_kept(tmp_path: Path) -> None:
    """Whatever it was doing: spooling, opening its books, writing."""
    program = """
        import itertools
        import aistrale
        from aistrale import telemetry
        for number in itertools.count():
            aistrale.run("Hello", provider="echo", user=f"{number:06}")
            print(telemetry.flush(30), flush=True)
    """
    for wanted in (3, 300):
        with calling_on(program, tmp_path) as read:
            for _ in range(wanted):
                assert read() == "True\n"
        assert set(users()) >= {f"{number:06}" for number in range(wanted)}


def write_together(seconds: float, folder: Path) -> None:
    program = """
        import sys, time
        import aistrale
        name, seconds = sys.argv[1:]
        end, number = time.monotonic() + float(seconds), 0
        while time.monotonic() < end:
            aistrale.run("Hello", provider="echo", user=name)
            number += 1
            time.sleep(0.002)
        print(name, number)
    """
    ended = run_together(program, [(str(number), str(seconds)) for number in range(8)], cwd=folder, at_once=8)

    made = dict(line.split() for line in (process.stdout for process in ended))
    assert {total.key: str(total.calls) for total in telemetry.summary(by="user")} == made


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_eight_processes_that_write_one_file_lose_nothing(tmp_path: Path) -> None:
    """For two seconds, as fast as a busy server calls."""
    write_together(2, tmp_path)


@pytest.mark.soak
@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_eight_processes_lose_nothing_for_longer(tmp_path: Path) -> None:
    """For ten seconds."""
    write_together(10, tmp_path)


# The spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "books.db.spool")


def test_a_file_of_the_spool_is_whole_or_absent(spool: Spool) -> None:
    """Whoever drains while another puts sees every span once, and none of a file that is being written."""
    put, seen = [[call() for _ in range(50)] for _ in range(60)], []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [spool.put(batch) for batch in put])
        while not writing.done():
            spool.drain(seen.extend)
        writing.result()
    spool.drain(seen.extend)

    assert [kept.span_id for kept in seen] == [one.span_id for batch in put for one in batch]
    assert list(spool.folder.iterdir()) == []


def test_spans_come_out_of_the_spool_as_they_went_in(spool: Spool) -> None:
    """With their attributes, events and cost."""
    spans = [
        call(cost="0.000000000001", cost_source="provider", user='a"\ud800\n\u2028', tags=["x"], parent_id="1" * 16),
        call(error="Odd", events=(aistrale.SpanEvent("e", 5, {"number": 1}),)),
    ]
    spool.put(spans)
    seen: list[Any] = []
    assert spool.drain(seen.extend) == 2
    assert seen == spans


def test_a_draft_that_a_killed_writer_left_is_no_file(spool: Spool) -> None:
    """It is half a file, and stays out."""
    spool.put([call()])
    (spool.folder / "00000000000000000001-1.part").write_text(to_json(call())[:50])
    assert spool.drain(lambda spans: None) == 1


def test_a_draft_that_nobody_writes_any_more_is_removed(spool: Spool) -> None:
    """An hour after it was written last; one that is younger may still become a file."""
    spool.put([call()])
    old, new = (spool.folder / f"{number:020d}-1.part" for number in (1, 2))
    for draft, age in ((old, 3660), (new, 3540)):
        draft.write_text(to_json(call())[:50])
        os.utime(draft, (time.time() - age,) * 2)
    spool.drain(lambda spans: None)
    assert list(spool.folder.iterdir()) == [new]


@on_sqlite
@pytest.mark.usefixtures("database_url")
@settings(max_examples=80)
@given(
    st.binary(max_size=20)
    | st.recursive(
        st.none() | st.integers() | st.sampled_from(["a", "9", "abc"]) | st.floats(),
        lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.just("k"), inner, max_size=1),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode())
)
def test_a_file_that_cannot_be_read_is_set_aside_and_told_of(spool: Spool, content: bytes) -> None:
    """Whatever is in it, the others are taken in."""
    shutil.rmtree(spool.folder, ignore_errors=True)
    spool.put([good := call()])
    bad = spool.folder / "00000000000000000001-1.jsonl"
    bad.write_bytes(content)

    seen: list[str] = []
    spool.drain(lambda spans: seen.extend(span.span_id for span in spans))

    assert seen[-1:] == [good.span_id]
    assert not bad.exists()
    if content and len(seen) == 1:
        assert bad.with_suffix(".unreadable").read_bytes() == content


def test_a_file_that_was_set_aside_is_named_in_the_log(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with what became of it."""
    spool.put([call()])
    (spool.folder / "00000000000000000001-1.jsonl").write_text("{")
    for _ in range(2):
        spool.drain(lambda spans: None)
    assert len(warnings_in(caplog)) == 1
    assert "00000000000000000001-1.unreadable cannot be read" in caplog.text
    assert "the file is kept" in caplog.text


@pytest.mark.parametrize("content", ["a folder", "fields of the wrong kind"])
def test_a_file_that_is_none_of_ours_keeps_no_span_from_the_books(
    keeping: Store, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside or left alone; what is written and read goes on."""
    folder = spool_folder(keeping.database.url)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "00000000000000000001-1.jsonl"
    if content == "a folder":
        path.mkdir()
    else:
        path.write_text(json.dumps(["t", "s", "chat", "x", [], None, "client", "ok", {}, [], None, None, None]))

    try:
        Client(provider="echo").run("Hello", user="ada")
        assert users() == ["ada"]
    finally:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def test_a_file_that_may_not_be_read_is_passed_over(keeping: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The others are taken in, and a warning names it; it stays for its owner."""
    spool = Spool(spool_folder(keeping.database.url))
    spool.put([call(user="ada")])
    path = spool.folder / "00000000000000000001-1.jsonl"
    path.symlink_to("/proc/self/mem")  # a file that opens, and fails to be read
    spool.put([call(user="bob")])
    try:
        assert [users() for _ in range(2)] == [["ada", "bob"]] * 2
        assert list(spool.folder.iterdir()) == [path]
        (warning,) = warnings_in(caplog)
        assert warning.startswith(f"spans in {path} cannot be read: ")
    finally:
        path.unlink()


def unwritable(**named: Any) -> Span:
    """A span that no database takes: it begins later than 64 bits can tell."""
    return call(2**70, **named)


@pytest.mark.parametrize("way", ["asked", "in the background", "spooled"])
def test_a_span_that_no_database_takes_keeps_no_other_from_the_books(
    keeping: Store, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside, which one warning tells; those that came with it are written."""
    spool = Spool(spool_folder(keeping.database.url))
    spans = [call(user=str(number)) for number in range(7)]
    spans.insert(3, odd := unwritable())
    telemetry.query()  # the books are open
    if way == "spooled":
        spool.put(spans)
    else:
        written = threading.Event()
        unsubscribe = keeping.events.subscribe(lambda event: written.set() if event.data["user_id"] == "6" else None)
        for span in spans:
            books_recorder(keeping.database.url).record(span)
        if way == "in the background":
            assert written.wait(BOUND), "nobody wrote them"
            assert len(kept(keeping)) == 7
        unsubscribe()

    assert users() == [str(number) for number in range(7)]
    (aside,) = spool.folder.iterdir()
    assert aside.suffix == ".unreadable"
    assert from_json(aside.read_text()) == odd
    assert aside.stat().st_mode & 0o077 == 0
    (warning,) = warnings_in(caplog)
    assert str(aside) in warning
    said = delivery()
    counts = (0, 1) if way == "spooled" else (1, 0)  # what was in a file may have been anybody's
    assert (said.dropped, said.set_aside, said.last_error) == (*counts, None)
    aside.unlink()


def test_many_spans_that_no_database_takes_are_each_set_aside(keeping: Store) -> None:
    """However they are mixed with others."""
    spool = Spool(spool_folder(keeping.database.url))
    spool.put([unwritable(user=str(n)) if n % 3 == 0 else call(user=str(n)) for n in range(10)])
    assert users() == ["1", "2", "4", "5", "7", "8"]
    asides = sorted(spool.folder.iterdir())
    assert [from_json(path.read_text()).user_id for path in asides] == ["0", "3", "6", "9"]
    for path in asides:
        path.unlink()


@on_sqlite
def test_without_a_spool_such_a_span_is_dropped_and_counted(keeping: Store, tmp_path: Path) -> None:
    """It still keeps no other."""
    (tmp_path / "books.db.spool").touch()
    for span in (unwritable(), call(user="ada")):
        books_recorder(keeping.database.url).record(span)
    assert users() == ["ada"]
    assert (delivery().delivered, delivery().dropped) == (1, 1)
    (tmp_path / "books.db.spool").unlink()


def test_whatever_else_lies_in_the_spool_is_passed_over(keeping: Store) -> None:
    """A link that leads to itself, a folder."""
    spool = Spool(spool_folder(keeping.database.url))
    spool.put([call(user="ada")])
    loop, folder = (spool.folder / f"{name}.jsonl" for name in ("loop", "folder"))
    loop.symlink_to(loop)
    folder.mkdir()
    assert users() == ["ada"]
    loop.unlink()
    folder.rmdir()


def test_a_newer_database_keeps_spans_waiting(keeping: Store, tmp_path: Path) -> None:
    """Not one is set aside or lost: they are written once this release is upgraded."""
    client = Client(provider="echo")
    client.run("Hello")
    assert len(telemetry.query()) == 1
    with keeping.database.write() as connection:
        connection.execute(text(f"INSERT INTO {LEDGER} (version, name, applied) VALUES (99, 'later', 0)"))
    keeping.close()
    spool = Spool(spool_folder(keeping.database.url))
    spool.put([call(user="spooled")])
    client.run("Hello", user="new")
    with pytest.raises(aistrale.StoreError, match="version 99"):
        telemetry.query()
    assert not list(spool.folder.glob("*.unreadable"))

    engine = create_engine(keeping.database.url)
    with engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {LEDGER} WHERE version = 99"))
    engine.dispose()
    assert users() == ["None", "new", "spooled"]


def test_a_spool_that_cannot_be_looked_into_has_nothing(keeping: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The books go on without it, and a warning says so."""
    folder = spool_folder(keeping.database.url)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(folder)
    try:
        Client(provider="echo").run("Hello", user="ada")
        assert users() == ["ada"]
        assert f"spans in {folder} cannot be read" in caplog.text
    finally:
        folder.unlink()


def test_what_was_set_aside_is_purged_in_its_time(keeping: Store) -> None:
    """It may hold what was said."""
    spool = Spool(spool_folder(keeping.database.url))
    spool.set_aside(call(), ValueError("odd"))
    (path,) = spool.folder.iterdir()
    telemetry.purge("1h")
    assert path.exists()
    telemetry.purge(timedelta(0))
    assert not path.exists()


def test_draining_twice_adds_nothing_twice(keeping: Store) -> None:
    """A process that dies between writing and forgetting leaves files that are known already."""
    spans = [call(user=str(number)) for number in range(5)]
    spool = Spool(spool_folder(keeping.database.url))
    for _ in range(2):
        spool.put(spans)
        assert users() == ["0", "1", "2", "3", "4"]
    assert len(event_log.list()) == 5


def test_two_processes_that_drain_at_once_add_nothing_twice(keeping: Store, tmp_path: Path) -> None:
    """And neither minds that a file is gone."""
    spool = Spool(spool_folder(keeping.database.url))
    for number in range(40):
        spool.put([call(user=f"{number:02}") for _ in range(5)])

    run_together("from aistrale import telemetry\ntelemetry.query()", [()] * 2, cwd=tmp_path)

    assert users() == [f"{number:02}" for number in range(40) for _ in range(5)]
    assert len(event_log.list()) == 200
    assert list(spool.folder.glob("*.jsonl")) == []


def test_a_spool_that_is_full_takes_no_more(spool: Spool) -> None:
    """A disk is not filled for want of a database."""
    spool.put([call()])
    with open(spool.folder / "00000000000000000001-1.jsonl", "wb") as file:
        file.truncate(LIMIT)
    with pytest.raises(OSError, match="256 MiB of spans wait"):
        spool.put([call()])


def test_what_was_set_aside_takes_up_no_room(spool: Spool) -> None:
    """Nobody takes it in: it would be there for ever."""
    spool.put([call()])
    with open(spool.folder / "00000000000000000001-1.unreadable", "wb") as file:
        file.truncate(LIMIT + 1)
    spool.put([call()])
    seen: list[Span] = []
    assert spool.drain(seen.extend) == 2


def test_spans_wait_for_a_database_whatever_its_password_is() -> None:
    """A new one leaves none behind; another schema of it is another database."""
    first, changed, other = (
        spool_folder(f"postgresql+psycopg://{user}@db/books?options=-csearch_path%3D{schema}")
        for user, schema in (("app:old", "a"), ("app:n%40w", "a"), ("app:old", "b"))
    )
    assert first == changed != other


@on_sqlite
def test_spans_that_may_not_be_spooled_are_dropped_and_counted(database_url: str, tmp_path: Path) -> None:
    """The call is answered; at the end the log says how many are lost."""
    (tmp_path / "books.db.spool").touch()
    program = """
        import atexit, logging
        atexit.register(lambda: print(telemetry.status()[0].dropped))
        logging.basicConfig()
        import aistrale
        from aistrale import telemetry
        print(aistrale.run("Hello", provider="echo"))
    """
    done = run_program(program, cwd=tmp_path, env=ON)
    assert (done.returncode, done.stdout) == (0, "Hello\n1\n")
    assert "1 spans are lost with the end of the process" in done.stderr


@on_sqlite
def test_a_database_needs_no_spool(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that cannot be read or written, spans still go where they belong."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")
    (tmp_path / "books.db.spool").touch()
    try:
        Client(provider="echo").run("Hello", user="ada")
        assert users() == ["ada"]
    finally:
        (tmp_path / "books.db.spool").unlink()
        telemetry.query()


# Databases that are locked, missing, or gone


@pytest.fixture(params=["a folder", "no schema"])
def absent(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """A database that cannot be used; the function makes it one that can."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")
    if request.param == "a folder":
        (tmp_path / "books.db").mkdir()
        monkeypatch.setenv("AISTRALE_DATABASE_URL", f"sqlite:///{tmp_path / 'books.db'}")
        yield (tmp_path / "books.db").rmdir
        return
    with postgres_schema() as url:
        monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
        name = url.rpartition("%3D")[2]
        engine = create_engine(url, isolation_level="AUTOCOMMIT")

        def change(statement: str) -> None:
            with engine.connect() as connection:
                connection.execute(text(statement))

        change(f"DROP SCHEMA {name}")
        yield lambda: change(f"CREATE SCHEMA IF NOT EXISTS {name}")
        change(f"CREATE SCHEMA IF NOT EXISTS {name}")
        telemetry.query(limit=1)
        open_store(url).close()
        engine.dispose()


def test_a_database_that_is_not_there_fails_no_call(
    absent: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor slows one; the log says so once, and the spans are in the books when it is back."""
    client, calls = Client(provider="echo"), 0
    started, deadline = time.monotonic(), time.monotonic() + BOUND
    while delivery().last_error is None or calls < 200:
        assert time.monotonic() < deadline, f"nobody found out in {calls} calls"
        before = time.monotonic()
        assert client.run("Hello").text == "Hello"
        assert time.monotonic() - before < 1.0
        calls += 1
        time.sleep(0.002)
    assert time.monotonic() - started < BOUND

    absent()
    assert len(telemetry.query(limit=10_000)) == calls
    assert delivery().last_error is None
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:///{}/books.db"])
def test_a_database_that_can_never_be_reached_fails_no_call(url: str, tmp_path: Path) -> None:
    """Not the first of them, and not the last."""
    (tmp_path / "file").touch()
    program = """
        import logging
        logging.basicConfig()
        import aistrale
        print([aistrale.run("Hello", provider="echo").text for _ in range(20)])
    """
    done = run_program(program, cwd=tmp_path, env={**ON, "AISTRALE_DATABASE_URL": url.format(tmp_path / "file")})
    assert (done.returncode, done.stdout) == (0, f"{['Hello'] * 20}\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_locked_database_slows_no_call(keeping: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Another process writes and does not come to an end; the spans are written when it does."""
    client = Client(provider="echo")
    client.run("Hello")
    assert len(telemetry.query()) == 1
    with ThreadPoolExecutor(1) as pool, keeping.database.write():
        answers = pool.submit(lambda: [client.run("Hello").text for _ in range(50)])
        assert answers.result(timeout=2.0) == ["Hello"] * 50
    assert len(telemetry.query()) == 51
    assert_said_once(warnings_in(caplog))


def test_spans_beyond_the_queue_are_dropped_and_counted(keeping: Store) -> None:
    """Memory is bounded while the database does not take them."""
    recorder = books_recorder(keeping.database.url)
    telemetry.query()  # it is open
    with keeping.database.write():
        for one in [call(operation="execute_tool")] * (QUEUE_LIMIT + 500):
            recorder.record(one)
        assert delivery().dropped == 500
        assert delivery().waiting == QUEUE_LIMIT
    telemetry.query(limit=1)
    status = delivery()
    assert (status.waiting, status.delivered, status.dropped) == (0, QUEUE_LIMIT, 500)


def test_an_answer_with_absurd_numbers_keeps_no_other_span_from_the_books(
    store: Store, upstream: Upstream, tmp_path: Path
) -> None:
    """A provider's nonsense is its own span's matter."""
    many = {"completion_tokens": 2**62}
    for usage in ({"cost": 1e30}, {"prompt_tokens": 10**30}, many, many):
        odd = completion()
        odd["usage"].update(usage)
        upstream.will(plain(odd))
    program = """
        import sys
        import aistrale
        from aistrale import telemetry
        client = aistrale.Client(provider="openai", model="gpt-test", api_key="k", base_url=sys.argv[1])
        for user in ("odd", "odd", "odd", "odd", "even"):
            client.run("Hello", user=user)
        print([span.user_id for span in telemetry.query()])
    """
    done = run_program(program, cwd=tmp_path, env=ON, arguments=(upstream.url,))
    assert done.stdout == f"{['even', *['odd'] * 4]}\n", done.stderr[-500:]


# What spans say


@pytest.mark.usefixtures("keeping")
async def test_every_span_says_its_surface(tmp_path: Path) -> None:
    """The SDK's own calls, those of a layer above, and those of the shell."""
    client = Client(provider="echo", user="sdk")
    client.run("Hello")
    client.stream("Hello").until_done()
    client.embed("Hello")
    client.session().run("Hello")
    client.run_batch(["Hello", "Hello"])
    async_client = aistrale.AsyncClient(provider="echo", user="sdk")
    await async_client.run("Hello")
    await async_client.stream("Hello").until_done()
    Client(provider="echo", user="langchain", surface="langchain").run("Hello")
    shell = await asyncio.to_thread(
        run_module, "aistrale_cli", "run", "Hello", "--provider", "echo", cwd=tmp_path, env=ON
    )
    assert shell.returncode == 0, shell.stderr

    spans = await telemetry.query_async()
    assert sorted((str(span.surface), span.user_id) for span in spans) == [
        ("cli", None),
        ("langchain", "langchain"),
        *[("sdk", "sdk")] * 8,
    ]


@our_ways
@pytest.mark.usefixtures("keeping")
def test_summaries_say_when_the_first_token_of_a_stream_came(upstream: Upstream, calling: Calling, way: Way) -> None:
    """Within one percent of what its caller was told; a whole answer has no such time."""
    gate = Gate()

    class Opener(CallbackHandler):
        def on_token(self, call: Call, chunk: Chunk) -> None:
            gate.open()

    upstream.will(stream("One ", gate, "two") if way.streamed else plain(completion("One two")))
    answer = calling(way, callbacks=[Opener()]).ask()

    (span,) = telemetry.query()
    (total,) = telemetry.summary()
    first, told = total.time_to_first_token, answer.time_to_first_token
    assert span.time_to_first_token == told
    if not way.streamed:
        assert (told, first.p50, first.p95, first.p99) == (None,) * 4
        return
    assert told is not None
    assert (first.p50, first.p95, first.p99) == (pytest.approx(told, rel=0.01),) * 3
    assert 0 < told < span.latency  # the rest came when the first was here


@our_ways
@pytest.mark.usefixtures("keeping")
def test_a_retried_call_is_one_span_and_counted_once(upstream: Upstream, calling: Calling, way: Way) -> None:
    """Its attempts are events in it, and only the answer cost something."""
    upstream.will(failure(500, code="down"), failure(429, code="busy"), charging(0.25))

    calling(way, retry=RetryPolicy(wait=wait_none())).ask()

    (span,) = telemetry.query()
    attempts = [event.attributes for event in span.events if event.name == "aistrale.attempt"]
    assert [(each["aistrale.attempt.number"], each.get("error.type")) for each in attempts] == [
        (1, "down"),
        (2, "busy"),
        (3, None),
    ]
    (total,) = telemetry.summary()
    assert (total.calls, total.errors, total.cost, total.usage.total_tokens) == (1, 0, Decimal("0.25"), 5)


@our_ways
@pytest.mark.usefixtures("keeping")
def test_a_cached_answer_is_a_span_that_costs_nothing(upstream: Upstream, calling: Calling, way: Way) -> None:
    """Its tokens were counted by the call that used them."""
    upstream.will(charging(0.25))
    caller = calling(way, cache=True)
    caller.ask()
    caller.ask()

    again, first = telemetry.query()
    assert (first.cached, first.cost, again.cached, again.cost, again.usage) == (
        False,
        Decimal("0.25"),
        True,
        Decimal(0),
        None,
    )
    (total,) = telemetry.summary()
    assert (total.calls, total.cached, total.cost, total.usage.total_tokens) == (2, 1, Decimal("0.25"), 5)


@pytest.mark.usefixtures("keeping")
async def test_a_call_that_was_cancelled_is_no_error(upstream: Upstream) -> None:
    """The span says that the caller left, and nothing more."""
    gate = Gate()
    upstream.will([gate])
    client = aistrale.AsyncClient(provider="openai", model="gpt-test", api_key="k", base_url=upstream.url)
    task = asyncio.create_task(client.run("Hello"))
    await asyncio.to_thread(gate.wait_until_reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.aclose()

    (span,) = await telemetry.query_async()
    assert (span.status, span.error_type, span.attributes["aistrale.cancelled"]) == ("ok", None, True)


@pytest.mark.parametrize("leave", ["close", "forget"])
@pytest.mark.usefixtures("keeping")
def test_a_stream_that_was_left_is_no_error(upstream: Upstream, calling: Calling, leave: str) -> None:
    """Closed or forgotten, it says so."""
    gate = Gate()
    upstream.will(events("One ", gate))
    stream = calling(SYNC).client.stream("Count.")
    assert next(stream).text == "One "
    if leave == "close":
        stream.close()
    del stream

    (span,) = telemetry.query()
    assert (span.status, span.error_type, span.attributes["aistrale.cancelled"]) == ("ok", None, True)


@pytest.mark.usefixtures("keeping")
def test_an_applications_span_and_ours_are_the_same() -> None:
    """By their ids, and by the span they are below; the books hold it whoever else records it."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("app").start_as_current_span("request") as request:
        answer = Client(provider="echo", tracer_provider=provider).run("Hello")

    theirs = exporter.get_finished_spans()[0]
    (span,) = telemetry.query()
    assert span.trace_id == answer.trace_id == f"{theirs.context.trace_id:032x}"
    assert span.span_id == f"{theirs.context.span_id:016x}"
    assert span.parent_id == f"{request.get_span_context().span_id:016x}"
    provider.shutdown()


@on_sqlite
def test_keeping_books_sets_no_global_provider(database_url: str, tmp_path: Path) -> None:
    """An application that comes later finds none."""
    program = """
        from opentelemetry import metrics, trace
        import aistrale
        aistrale.run("Hello", provider="echo", callbacks=[aistrale.TelemetryHandler()])
        assert len(aistrale.telemetry.query()) == 1
        print(trace._TRACER_PROVIDER, metrics._internal._METER_PROVIDER)
    """
    assert printed(program, cwd=tmp_path, env=ON) == "None None\n"


# Content


def talk(client: Client, upstream: Upstream) -> None:
    """Calls of all kinds that hold the secret, in what is asked and in what is answered."""
    client.run(SECRET, tools=[{"type": "function", "function": {"name": "t", "description": SECRET}}])
    client.stream(f"{SECRET} {SECRET}").until_done()
    client.session(system=SECRET).run(SECRET)
    client.run("secretive", variables={"it": SECRET})
    asyncio.run(aistrale.AsyncClient.sharing(client).run(SECRET))
    upstream.will(failure(400, f"I do not answer {SECRET!r}"))
    with pytest.raises(aistrale.InvalidRequestError, match=SECRET):
        client.run(SECRET)
    with client.stream(f"{SECRET} {SECRET}") as left:
        next(left)


@pytest.mark.parametrize("captured", [False, True], ids=["by default", "captured"])
def test_what_is_said_is_kept_only_where_that_was_asked_for(
    keeping: Store,
    upstream: Upstream,
    calling: Calling,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    captured: bool,
) -> None:
    """Not in a span, an event, a file of the database or a line of the log, at its most talkative."""
    aistrale.prompts.create("secretive", "Say {{it}}.")
    options = {"capture_content": True} if captured else {}
    with caplog.at_level(logging.DEBUG):
        talk(calling(SYNC, **options).client, upstream)
        spans = telemetry.query()
    keeping.close()

    assert len(spans) == 7
    assert [SECRET in str(span) for span in spans] == [captured] * 7
    assert SECRET not in str(event_log.list())
    assert SECRET not in str([record.__dict__ for record in caplog.records])
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(SECRET.encode() in data for data in files) == (captured and keeping.database.is_sqlite)


@pytest.mark.parametrize("captured", ["", "SPAN_ONLY"])
@on_sqlite
def test_the_spool_holds_what_is_said_only_where_that_was_asked_for(
    database_url: str, tmp_path: Path, captured: str
) -> None:
    """It is on the disk, too."""
    program = f"import aistrale; aistrale.run({SECRET!r}, provider='echo')"
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert run_program(program, cwd=tmp_path, env={**ON, variable: captured}).stderr == ""

    (file,) = (tmp_path / "books.db.spool").iterdir()
    assert (SECRET in file.read_text()) == bool(captured)
    assert file.stat().st_mode & 0o077 == 0
