"""`telemetry.flush`: spans of processes that are not left the time to deliver them at their end."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from textwrap import dedent
from threading import Thread

import pytest
from books import postgres_schema
from keeping import ON, on_sqlite
from programs import printed, run_program
from sqlalchemy import create_engine, text
from upstream import BOUND

import aistrale
from aistrale import telemetry

FLUSH = """
import logging, os, sys, time
logging.basicConfig()
import aistrale
from aistrale import telemetry

def call(user="ada"):
    aistrale.run("Hello", provider="echo", user=user)

def flush(*seconds):
    began = time.monotonic()
    return telemetry.flush(*seconds), time.monotonic() - began

"""


def users() -> list[str | None]:
    return sorted(str(span.user_id) for span in telemetry.query())


@contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def collector(*statuses: int) -> Iterator[str]:
    """Answers one request after the other with these, and from then on with the last."""
    waiting = deque(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(waiting.popleft() if len(waiting) > 1 else waiting[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(BOUND)
        server.server_close()


# Ends that leave no time


@pytest.mark.parametrize("age", ["at once", "with its books open"])
@pytest.mark.usefixtures("store")
def test_a_process_that_just_leaves_leaves_its_span(tmp_path: Path, age: str) -> None:
    """`os._exit` runs nothing else: no handler, no thread."""
    opened = "" if age == "at once" else "telemetry.query()\n"
    assert (
        printed(f"{FLUSH}{opened}call()\nprint(flush()[0], flush=True)\nos._exit(0)", cwd=tmp_path, env=ON) == "True\n"
    )
    assert users() == ["ada"]


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_a_process_that_is_told_to_end_leaves_its_spans(tmp_path: Path) -> None:
    """In the handler of SIGTERM, whatever that comes in between of: a call, a delivery, looking into the books."""
    program = f"""{FLUSH}
import signal
made = 0

def leave(*_):
    print(made, flush()[0], flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
while True:
    call(f"{{made:06}}")
    made += 1
    if made % 50 == 0:
        telemetry.query(limit=1)
"""
    for number in range(4):
        environment = {**os.environ, **ON, "AISTRALE_DATABASE_URL": f"sqlite:///{tmp_path}/{number}.db"}
        with subprocess.Popen(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):  # somewhere in its young life
                process.wait(0.3 + 0.7 * number)
            process.send_signal(signal.SIGTERM)
            made, was_kept = process.stdout.readline().split()
        assert was_kept == "True"
        looking = "from aistrale import telemetry\nprint(sum(group.calls for group in telemetry.summary()))"
        kept = printed(looking, cwd=tmp_path, env=environment)
        assert int(made) <= int(kept) <= int(made) + 1  # the call that was interrupted


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_what_a_thread_that_is_left_behind_has_called_is_kept(tmp_path: Path) -> None:
    """The interpreter kills threads that are daemons at its end; the calls they have made count."""
    program = """
        import os, sys, threading
        import aistrale

        enough = threading.Event()

        def work():
            number = 0
            while True:
                aistrale.run("Hello", provider="echo", user=f"{sys.argv[1]} {number:05}")
                os.write(1, f"{sys.argv[1]} {number:05}\\n".encode())
                number += 1
                if number == int(sys.argv[1]):
                    enough.set()

        threading.Thread(target=work, daemon=True).start()
        enough.wait()
    """
    made = []
    for number in ("1", "30", "500"):
        done = run_program(program, cwd=tmp_path, env=ON, arguments=(number,))
        assert (done.returncode, done.stderr) == (0, "")
        made += done.stdout.splitlines()
    assert len(made) >= 531
    assert set(made) <= {str(span.user_id) for span in telemetry.query(limit=100_000)}


# Places that do not take them


@pytest.mark.parametrize("seconds", [0.5, 2.0])
@pytest.mark.parametrize("place", ["collector", "database"])
def test_nothing_is_waited_for_longer_than_was_said(tmp_path: Path, place: str, seconds: float) -> None:
    """Not even somebody who never says a word; and it is said that the span is not there."""
    program = f"""{FLUSH}
call()
print(*flush({seconds}), telemetry.status()[-1].last_error is not None, flush=True)
os._exit(0)
"""
    with black_hole() as address:
        places = {
            "collector": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}"},
            "database": {"AISTRALE_DATABASE_URL": f"postgresql://nobody@{address}/none", **ON},
        }
        kept, took, _ = printed(program, cwd=tmp_path, env=places[place]).split()
    assert kept == "False"
    assert float(took) < seconds + 1.0


def test_a_collector_that_refuses_is_told_of_at_once(tmp_path: Path) -> None:
    """With what it was, in the status; the books have the span all the same."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    program = f"{FLUSH}call()\nprint(flush(30)[0], [each.last_error for each in telemetry.status()])"
    variables = {**ON, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    said = printed(program, cwd=tmp_path, env=variables)
    assert said.startswith(f"False [None, 'Cannot connect to http://127.0.0.1:{port}")


def test_a_collector_that_was_down_just_now_is_tried_again(tmp_path: Path) -> None:
    """However long it would be left alone else; who asks wants to know how it is now."""
    with collector(503, 503, 200) as url:
        program = (
            f"{FLUSH}call()\nprint([flush()[0] for _ in range(4)], [each.delivered for each in telemetry.status()])"
        )
        said = printed(program, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert said == "[False, False, True, True] [1]\n"


def test_what_a_collector_refuses_for_good_is_not_there(tmp_path: Path) -> None:
    """It is dropped, and that is no success; what comes after it may be one."""
    with collector(400, 200) as url:
        program = f"{FLUSH}call()\nprint(flush()[0])\ncall()\nprint(flush()[0], telemetry.status()[0].dropped)"
        assert printed(program, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url}) == "False\nTrue 1\n"


@on_sqlite
def test_a_locked_file_is_waited_for_in_the_spool(database_url: str, tmp_path: Path) -> None:
    """There spans are as safe as in it; whoever opens it next takes them in."""
    program = f"""{FLUSH}
telemetry.query()
print("open", flush=True)
sys.stdin.readline()
call()
print(*flush(1.0), flush=True)
os._exit(0)
"""
    command, environment = [sys.executable, "-c", program], {**os.environ, **ON}
    with (
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
        closing(sqlite3.connect(tmp_path / "books.db", isolation_level=None)) as other,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        other.execute("BEGIN IMMEDIATE")
        kept, took = process.communicate("go\n")[0].split()
        assert kept == "True"
        assert float(took) < 2.0
        assert len(list((tmp_path / "books.db.spool").glob("*.jsonl"))) == 1
    assert users() == ["ada"]


def test_a_shared_database_that_is_away_has_not_got_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait on this machine, which may be gone tomorrow: a later flush brings them there."""
    with postgres_schema() as url:
        schema = url.rpartition("%3D")[2]
        program = f"""{FLUSH}
from sqlalchemy import create_engine, text
engine = create_engine({url!r}, isolation_level="AUTOCOMMIT")

def change(statement):
    with engine.connect() as connection:
        connection.execute(text(statement))

call()
change("ALTER SCHEMA {schema} RENAME TO {schema}_away")
print(flush()[0])
change("ALTER SCHEMA {schema}_away RENAME TO {schema}")
print(flush()[0], flush=True)
os._exit(0)
"""
        variables = {**ON, "AISTRALE_DATABASE_URL": url}
        assert printed(program, cwd=tmp_path, env=variables) == "False\nTrue\n"
        engine = create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM spans")).scalar() == 1
        engine.dispose()


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_a_spool_that_may_not_be_written_keeps_nothing(tmp_path: Path) -> None:
    """Then the answer is no, while the books are not open yet."""
    (tmp_path / "books.db.spool").touch()
    program = f"{FLUSH}call()\nprint(flush()[0], flush=True)\nos._exit(0)"
    assert printed(program, cwd=tmp_path, env=ON) == "False\n"


# Asking


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_a_process_that_has_no_thread_left_delivers_by_itself(tmp_path: Path) -> None:
    """No call fails for want of one."""
    program = f"""{FLUSH}
import threading
threading.stack_size(2**47)  # more than there is: no thread can be started
call()
kept, took = flush(30)
print(kept, took < 20, flush=True)
os._exit(0)
"""
    assert printed(program, cwd=tmp_path, env=ON) == "True True\n"
    assert users() == ["ada"]


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_a_subscriber_may_flush(tmp_path: Path) -> None:
    """Though it is the delivering thread that calls it, which nobody can wait for there."""
    program = f"""{FLUSH}
import threading
told = threading.Event()

def hear(event):
    if event.data["user_id"] == "ada":
        call("bob")
        kept, took = flush(30)
        print(kept, took < 20, flush=True)
        told.set()

telemetry.query()
aistrale.events.subscribe(hear)
call()
told.wait(50)
"""
    assert printed(program, cwd=tmp_path, env=ON) == "True True\n"
    assert users() == ["ada", "bob"]


def test_nothing_waits_where_nothing_was_called(tmp_path: Path) -> None:
    """That is a success, and opens nothing."""
    program = f"{FLUSH}print(flush()[0], flush(0)[0], 'sqlalchemy' in sys.modules)"
    assert printed(program, cwd=tmp_path, env=ON) == "True True False\n"


@pytest.mark.parametrize("seconds", [-1, True, "5", None, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds: object) -> None:
    """With what it should be."""
    with pytest.raises(aistrale.InvalidRequestError, match="timeout must be a number of seconds"):
        telemetry.flush(seconds)  # type: ignore[arg-type]


def test_the_twin_for_async_code_keeps_no_event_loop_waiting(tmp_path: Path) -> None:
    """A thread waits for the collector."""
    program = dedent("""
        import asyncio

        async def main():
            call()
            flushing = asyncio.create_task(telemetry.flush_async(1.0))
            turns = 0
            while not flushing.done():
                await asyncio.sleep(0.005)
                turns += 1
            print(await flushing, turns > 10)

        asyncio.run(main())
    """)
    with black_hole() as address:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}"}
        assert printed(FLUSH + program, cwd=tmp_path, env=variables) == "False True\n"
