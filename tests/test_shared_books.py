"""A database that is shared: no call waits for it long, and what it says holds however slowly it says it."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from urllib.parse import urlsplit

import pytest
from books import POSTGRES, postgres_schema
from callers import ASYNC, ASYNC_STREAM, SYNC, SYNC_STREAM, Calling, Way, sync_and_async
from keeping import ON, away, charging
from programs import printed, run_program
from proxy import Forwarder
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from upstream import BOUND, Upstream

from aistrale import BudgetExceededError, Client, ConfigurationError, StoreError, budgets, events, telemetry, tokens
from aistrale.keys import Secret
from aistrale.prices import Price
from aistrale.records import Budget
from aistrale.store.asking import SHARED_SECONDS, Asker
from aistrale.store.location import database_url
from aistrale.store.peek import watch
from aistrale.store.postgres import parameters_of
from aistrale.store.store import Store, open_store
from aistrale.tracing.books import books_recorder
from aistrale.tracing.recorder import EXIT_SECONDS

STORED, OTHER, IN_ENVIRONMENT = "sk-stored-aaaaaaaa", "sk-stored-bbbbbbbb", "sk-env-dddd"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master key, so that no keyring is asked, and books that are kept."""
    monkeypatch.setenv("AISTRALE_SECRET_KEY", "correct horse battery staple")
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A database that lets everybody in and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AISTRALE_DATABASE_URL", f"postgresql://app@127.0.0.1:{server.getsockname()[1]}/books")
        yield server


@pytest.fixture
def elsewhere() -> Iterator[Store]:
    """Books in PostgreSQL, as another process has them."""
    with postgres_schema() as url:
        store = Store(url)
        yield store
        store.close()


@pytest.fixture
def proxy(elsewhere: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forwarder]:
    """Stands before that database, for this process."""
    there = urlsplit(POSTGRES)
    target = f"{there.hostname}:{there.port or 5432}"
    with Forwarder(target).running() as running:
        monkeypatch.setenv("AISTRALE_DATABASE_URL", elsewhere.database.url.replace(target, running.host))
        yield running
        running.refuses, running.delay = False, 0.0
        with suppress(StoreError):
            telemetry.query(limit=1)  # or spans of this test would wait for it when it is gone
        open_store().close()


def keys(upstream: Upstream) -> list[str]:
    """The keys that requests came with."""
    return [request.headers["authorization"].removeprefix("Bearer ") for request in upstream.requests]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Ours, but for those of spans of earlier tests that wait for a database that is gone."""
    said = [record.getMessage() for record in caplog.records if record.name == "aistrale"]
    home = os.environ["AISTRALE_HOME"]
    return [each for each in said if not each.startswith("spans wait in ") or home in each]


def wait_until(condition: Callable[[], bool], seconds: float = BOUND) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def askers() -> int:
    """How many threads ask databases."""
    return sum(thread.name == "aistrale-asker" for thread in threading.enumerate())


# A database that does not answer


@sync_and_async
@pytest.mark.usefixtures("silent")
def test_a_silent_database_costs_the_first_call_a_second(
    upstream: Upstream, calling: Calling, way: Way, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the others nothing: no key, no budget and no price of it is waited for again, and one warning tells."""
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRONMENT)
    caller = calling(way, api_key=None)
    started = time.monotonic()
    answers = [caller.ask(model="gpt-4o-mini") for _ in range(20)]
    assert [answer.cost is None for answer in answers] == [False] * 20
    assert time.monotonic() - started < 4.0  # waiting for a connection takes five seconds
    assert keys(upstream) == [IN_ENVIRONMENT] * 20
    assert len(warnings_in(caplog)) == 1, warnings_in(caplog)


def test_a_call_that_brings_its_key_asks_for_none(
    silent: socket.socket, calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that needs none: without telemetry, the database hears nothing at all."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")
    silent.setblocking(False)
    calling(SYNC).ask()
    Client(provider="echo").run("Hello")
    with pytest.raises(BlockingIOError):
        silent.accept()


@pytest.mark.usefixtures("silent")
def test_where_no_key_is_found_the_books_fault_is_told(calling: Calling) -> None:
    """It may be there that the key is."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"cannot be read: postgresql://app@.* it does not answer"):
            calling(SYNC, api_key=None).ask()
    with pytest.raises(ConfigurationError, match=r"cannot be read: postgresql://app@.* it does not answer"):
        Client().run("Hello")


def test_calls_go_on_while_a_database_is_frozen(
    elsewhere: Store, proxy: Forwarder, upstream: Upstream, calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """With the key it told before; once it thaws, budgets are enforced again, and no span is missing."""
    tokens.add("openai", STORED)
    budgets.set("b", 5, hard=True)
    upstream.default = charging(1)
    caller = calling(SYNC, api_key=None)
    assert [caller.ask().text for _ in range(2)] == ["Hello"] * 2
    before = askers()

    proxy.freeze()
    started = time.monotonic()
    assert [caller.ask().text for _ in range(20)] == ["Hello"] * 20
    assert time.monotonic() - started < 4.0
    assert watch(database_url()).away is not None
    assert askers() <= before
    assert len(warnings_in(caplog)) == 1, warnings_in(caplog)

    proxy.thaw()
    wait_until(lambda: watch(database_url()).away is None)
    with pytest.raises(BudgetExceededError):
        caller.ask()
    assert set(keys(upstream)) == {STORED}
    assert len(telemetry.query(limit=100)) == 23


@pytest.mark.usefixtures("elsewhere")
def test_calls_go_on_while_connections_are_reset_and_refused(
    proxy: Forwarder, upstream: Upstream, calling: Calling
) -> None:
    """At once, or when a batch was just committed and nobody hears of it; in the end every span is there, once."""
    upstream.default = charging(1)
    budgets.set("b", 100_000)
    recorder = books_recorder(database_url())
    asked: list[str] = []
    over = threading.Event()

    def ask(way: Way) -> None:
        caller = calling(way)
        while not over.wait(0.005):
            user = f"{way} {len(asked)}"
            asked.append(user)
            assert caller.ask(user=user).text == "Hello"

    def some_more() -> None:
        number = len(asked)
        wait_until(lambda: len(asked) > number + 20)

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(ask, way) for way in (SYNC, SYNC_STREAM, ASYNC, ASYNC_STREAM)]
        try:
            for after in (b"", b"COMMIT\0"):
                wait_until(lambda: len(telemetry.query(limit=1)) == 1 and recorder.status.last_error is None)
                proxy.refuse(after=after)
                wait_until(lambda: proxy.refuses and recorder.status.last_error is not None, 2 * BOUND)
                some_more()
                proxy.accept()
                wait_until(lambda: recorder.status.last_error is None, 2 * BOUND)
                some_more()
        finally:
            over.set()
        for thread in threads:
            thread.result()

    spans = telemetry.query(limit=100_000)
    assert sorted(str(span.user_id) for span in spans) == sorted(asked)
    assert [spend.spent for spend in budgets.spent("b")] == [len(asked)]
    assert len(events.list(type="inference.completed", limit=100_000)) == len(asked)
    assert recorder.status.dropped == 0


def test_a_dead_connection_is_given_up(proxy: Forwarder) -> None:
    """For another, though whoever is at its other end keeps it open."""
    store = open_store()
    assert store.prices.all() == []
    proxy.freeze(only_old=True)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(store.prices.all).result(timeout=20) == []
    assert proxy.accepted == 2


def test_a_process_ends_before_a_frozen_database(
    elsewhere: Store, proxy: Forwarder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the time there is for that; its spans are in the spool, and so in the books when it thaws."""
    program = """
        import sys, threading, time, aistrale
        from aistrale.store.location import database_url
        from aistrale.tracing.books import books_recorder
        client = aistrale.Client(provider="echo")
        client.run("Hello")
        assert len(aistrale.telemetry.query()) == 1  # the books are open
        print("open", flush=True)
        sys.stdin.readline()
        for _ in range(5):
            client.run("Hello")
        delivering = books_recorder(database_url())._delivering
        while not delivering.locked():  # and stays so: the writer waits for the database
            time.sleep(0.01)
        print(time.time(), flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", dedent(program)],
        cwd=tmp_path,
        env={**os.environ, **ON},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
        proxy.freeze()
        process.stdin.write("\n")
        process.stdin.flush()
        ended = float(process.stdout.readline())
        assert process.wait(30) == 0
        assert time.time() - ended < EXIT_SECONDS + 3
    proxy.thaw()
    assert len(telemetry.query()) == 6


@pytest.mark.usefixtures("silent")
def test_all_places_have_the_same_time_at_the_end(tmp_path: Path) -> None:
    """A database and a collector that both say nothing are waited for together, not one after the other."""
    program = """
        import time, aistrale
        aistrale.run("Hello", provider="echo")
        print(time.time())
    """
    with socket.create_server(("127.0.0.1", 0)) as collector:
        variables = {**ON, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}"}
        last = float(run_program(program, cwd=tmp_path, env=variables).stdout)
    assert time.time() - last < 2 * EXIT_SECONDS


# A database that answers


def test_a_database_is_found_where_the_books_find_it() -> None:
    """Both parts of us read an address alike: the one that asks on behalf of calls, and SQLAlchemy."""
    for rest in (
        *("app@127.0.0.1:1/books", "app:p%40w@db/books", "/books", "app@[::1]:5/books?sslmode=require"),
        *("app@/books?host=127.0.0.1:5433", "app@/books?host=a:5432&host=b:5433", "app@/books?host=a,b&port=1,2"),
        *("app@db/books?host=other", "app@/books?host=/var/run/postgresql", "app@db/books?options=-csearch_path%3Dx"),
    ):
        url = f"postgresql+psycopg://{rest}"
        _, theirs = PGDialect_psycopg().create_connect_args(make_url(url))
        assert parameters_of(url) == {name: str(value) for name, value in theirs.items()}


def test_a_thread_that_asks_survives_what_goes_wrong() -> None:
    """Something that is no fault of a database: it looks again by itself, and questions are answered."""
    faults = [RuntimeError("broken"), RuntimeError("broken")]
    looked = threading.Event()

    def look() -> None:
        if faults:
            raise faults.pop()
        looked.set()

    def refuse() -> None:
        raise StoreError("it is down", unavailable=True)

    asker = Asker("a database", look)
    with pytest.raises(StoreError, match="it is down"):
        asker.ask(refuse)
    assert looked.wait(BOUND)
    asker.put(lambda: None).result(BOUND)
    assert asker.ask(lambda: "well") == "well"


def test_a_key_that_comes_late_is_used(elsewhere: Store, proxy: Forwarder, upstream: Upstream, tmp_path: Path) -> None:
    """Whose account pays does not depend on how fast the books are."""
    elsewhere.tokens.add("openai", Secret(STORED))
    proxy.delay = 0.08
    program = f"""
        import aistrale
        aistrale.run("Hello", provider="openai", model="m", base_url={upstream.url!r})
    """
    done = run_program(program, cwd=tmp_path, env={**ON, "OPENAI_API_KEY": IN_ENVIRONMENT})
    assert (done.returncode, done.stderr) == (0, "")
    assert keys(upstream) == [STORED]


def test_a_provider_without_a_key_in_the_books_loads_none(
    elsewhere: Store, proxy: Forwarder, upstream: Upstream, tmp_path: Path
) -> None:
    """The books are opened after the request is sent, if at all: by then, its answer is here."""
    elsewhere.tokens.add("groq", Secret(STORED))
    program = f"""
        import sys, aistrale
        class Look(aistrale.CallbackHandler):
            def on_end(self, call, result):
                print("sqlalchemy" in sys.modules, result.cost)
        aistrale.run(
            "Hello", provider="openai", model="m", api_key="k", base_url={upstream.url!r}, callbacks=[Look()]
        )
        aistrale.run("Hello", provider="openai", model="m", base_url={upstream.url!r}, callbacks=[Look()])
    """
    assert printed(program, cwd=tmp_path, env={**ON, "OPENAI_API_KEY": IN_ENVIRONMENT}) == "False None\n" * 2


def test_an_empty_database_is_not_opened_before_a_request(proxy: Forwarder, upstream: Upstream, tmp_path: Path) -> None:
    """Nor is it while nothing in it concerns the call."""
    program = f"""
        import sys, aistrale
        class Look(aistrale.CallbackHandler):
            def on_end(self, call, result):
                print("sqlalchemy" in sys.modules)
        aistrale.run(
            "Hello", provider="openai", model="m", api_key="k", base_url={upstream.url!r}, callbacks=[Look()]
        )
    """
    assert printed(program, cwd=tmp_path, env=ON) == "False\n"
    assert len(upstream.requests) == 1


def test_fifty_costs_ask_for_prices_once(proxy: Forwarder, calling: Calling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are some or not."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")
    caller = calling(SYNC)
    answer = caller.ask(model="our-own")
    assert {answer.cost for _ in range(50)} == {None}
    assert proxy.accepted == 1

    telemetry.set_price("our-own", input=1_000_000)
    assert answer.cost == 3
    asked = proxy.pieces
    assert {answer.cost for _ in range(50)} == {Decimal(3)}
    assert proxy.pieces == asked


def test_what_others_change_is_seen_within_seconds(
    elsewhere: Store, proxy: Forwarder, upstream: Upstream, calling: Calling
) -> None:
    """Behind the calls, none of which waits for it."""
    elsewhere.tokens.add("openai", Secret(STORED))
    caller = calling(SYNC, api_key=None)
    answer = caller.ask(model="our-own")
    assert answer.cost is None
    elsewhere.tokens.rotate("openai", Secret(OTHER))
    elsewhere.prices.set(Price("our-own", Decimal(1_000_000), Decimal(0)))

    def is_seen() -> bool:
        caller.ask()
        return keys(upstream)[-1] == OTHER and answer.cost == 3

    wait_until(is_seen, SHARED_SECONDS + BOUND)


def test_a_child_asks_for_itself(proxy: Forwarder, upstream: Upstream, tmp_path: Path) -> None:
    """A fork leaves the thread that asks to the parent; a used up budget holds in both."""
    upstream.default = charging(1)
    program = f"""
        import os, aistrale
        aistrale.budgets.set("b", 1, hard=True)
        client = aistrale.Client(provider="openai", model="m", api_key="k", base_url={upstream.url!r})
        client.run("Hello")
        def ask(who):
            try:
                client.run("Hello")
            except aistrale.BudgetExceededError:
                print(who, "is refused", flush=True)
        ask("parent")
        child = os.fork()
        if not child:
            ask("child")
            os._exit(0)
        os.waitpid(child, 0)
    """
    assert printed(program, cwd=tmp_path, env=ON) == "parent is refused\nchild is refused\n"


def test_many_calls_at_once_are_all_answered(
    elsewhere: Store, proxy: Forwarder, calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """One thread asks for them, and that many wait is no sign that the database is away."""
    budgets.set("b", 1000, hard=True)
    proxy.delay = 0.02
    client = calling(SYNC).client
    with ThreadPoolExecutor(16) as pool:
        assert {str(answer) for answer in pool.map(client.run, ["Hello"] * 16)} == {"Hello"}
    assert [said for said in warnings_in(caplog) if "cannot be" in said] == []


@pytest.mark.usefixtures("proxy")
def test_subscribers_are_told_by_who_calls(upstream: Upstream, calling: Calling) -> None:
    """Not by the thread that asks: one that takes its time would keep other calls waiting."""
    told: list[str] = []
    stop = events.subscribe(lambda event: told.append(threading.current_thread().name))
    budgets.set("b", 1000, hard=True)
    caller = calling(SYNC)
    for _ in range(5):
        caller.ask()
    telemetry.query()
    stop()
    assert told
    assert "aistrale-asker" not in told


def test_a_question_that_cannot_be_answered_concerns_no_other(
    elsewhere: Store, proxy: Forwarder, upstream: Upstream, calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """The database is there: its keys are used, though it says nothing of budgets."""
    elsewhere.tokens.add("openai", Secret(STORED))
    elsewhere.budgets.set(Budget("b", Decimal(1), "total", "all", None, (Decimal(1),), hard=True))
    caller = calling(SYNC, api_key=None)
    with away("budget_spend", elsewhere):
        assert [caller.ask().text for _ in range(3)] == ["Hello"] * 3
        assert watch(database_url()).away is None
    assert keys(upstream) == [STORED] * 3
    assert [said.partition(":")[0] for said in warnings_in(caplog)] == ["budgets cannot be checked, the call goes on"]
