"""The log of events: what is in it, in which order, and who hears of it."""

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Any

import pytest
from books import counting_steps
from callers import SYNC, Calling, Way, our_ways
from calls import add, call, kept
from keeping import ON, away, charging, on_sqlite, run_together
from programs import run_program
from sqlalchemy import text
from upstream import BOUND, Upstream, completion, failure, plain

import aistrale
from aistrale import CircuitBreaker, Client, Event, InvalidRequestError, StoreError, budgets, events, telemetry
from aistrale.records import EventType
from aistrale.store.filters import SpanFilter
from aistrale.store.store import Store
from aistrale.tracing.books import books_recorder

FORKS = """
    import os, threading
    import aistrale
    from aistrale import events, telemetry
    telemetry.query()  # the books are open
    told, forked = threading.Event(), threading.Event()

    def hear(event):
        os.write(1, b"True\\n" if os.getpid() == parent else b"False\\n")  # in one piece: two threads may tell
        told.set()
        forked.wait()

    parent = os.getpid()
    events.subscribe(hear)
    for _ in range(3):
        aistrale.run("Hello", provider="echo")
    assert told.wait(30)  # of the first: two are still to be told of
    pid = os.fork()
    if not pid:
        forked.set()
        telemetry.query()
        os._exit(0)
    os.waitpid(pid, 0)
    forked.set()
    while telemetry.status()[0].waiting or not telemetry.flush():
        pass
    telemetry.query()
"""

WRITER = """
    import sys
    import aistrale
    aistrale.telemetry.query()  # from now on it writes the books itself
    for number in range(int(sys.argv[2])):
        aistrale.run("Hello", provider="echo", user=f"{sys.argv[1]} {number:03}")
"""


def told(listed: list[Event]) -> list[tuple[str, Any]]:
    return [(event.type, event.data.get("user_id")) for event in listed]


# What is written


@pytest.mark.usefixtures("keeping")
def test_a_call_is_an_event(upstream: Upstream, calling: Calling) -> None:
    """With what one wants to know at once, and the ids of its span; one that failed is another."""
    upstream.will(plain(completion()), failure(400, "I do not like Hello", code="rude"))
    client = calling(SYNC, model="gpt-4o").client
    client.session("s").run("Hello", user="ada", tags=["a"])
    with pytest.raises(aistrale.InvalidRequestError):
        client.run("Hello")

    good, bad = events.list()
    failed, succeeded = telemetry.query()
    assert (good.type, bad.type) == ("inference.completed", "inference.failed")
    assert good.data == {
        "trace_id": succeeded.trace_id,
        "span_id": succeeded.span_id,
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "surface": "sdk",
        "session_id": "s",
        "user_id": "ada",
        "tags": ["a"],
        "input_tokens": 3,
        "output_tokens": 2,
        "cost": "0.0000275",
        "latency": pytest.approx(succeeded.latency),
        "cached": False,
        "cancelled": False,
        "error_type": None,
    }
    assert (bad.data["span_id"], bad.data["error_type"], bad.data["cost"]) == (failed.span_id, "rude", None)
    assert "Hello" not in str([good, bad])


def test_only_calls_to_models_are_events(store: Store) -> None:
    """Agents and tools are told by their calls."""
    store.record([call(operation="invoke_agent"), call(operation="execute_tool"), call(operation="embeddings")])
    assert [event.data["operation"] for event in events.list()] == ["embeddings"]


def test_an_event_is_there_exactly_when_its_span_is(keeping: Store) -> None:
    """They are written in one transaction: where events cannot be, no span and no spending is."""
    budgets.set("b", 1)
    spans = [call(time_ns(), cost="1", cost_source="provider")]
    with away("events", keeping):
        with pytest.raises(StoreError):
            keeping.record(spans)
        assert telemetry.query() == []
        assert budgets.spent("b") == []
    assert events.list() == []

    keeping.record(spans)
    assert [event.type for event in events.list()] == ["inference.completed", *["cost.threshold_exceeded"] * 3]
    assert len(telemetry.query()) == 1


@our_ways
@pytest.mark.usefixtures("keeping")
def test_a_provider_that_failed_is_told_of_once(upstream: Upstream, calling: Calling, way: Way) -> None:
    """When its circuit opens; not for each call it refuses, nor for the one that looks whether it is back."""
    now = 0.0
    breaker = CircuitBreaker(threshold=2, cooldown=10.0, clock=lambda: now)
    upstream.default = failure(500)
    caller = calling(way, breaker=breaker, max_retries=0)
    for _ in range(4):
        with pytest.raises(aistrale.APIError):
            caller.ask()
    assert len(upstream.requests) == 2
    (event,) = events.list(type="provider.failed")
    (span,) = (span for span in telemetry.query() if span.trace_id == event.data["trace_id"])
    assert (event.data["gen_ai.provider.name"], event.data["gen_ai.request.model"]) == ("openai", "gpt-test")
    assert span.status == "error"

    now = 11.0
    with pytest.raises(aistrale.ServerError):
        caller.ask()
    now = 22.0
    upstream.will(plain(completion()))
    caller.ask()
    assert len(events.list(type="provider.failed")) == 1

    for _ in range(2):
        with pytest.raises(aistrale.ServerError):
            caller.ask()
    assert len(events.list(type="provider.failed")) == 2


@pytest.mark.parametrize("missing", ["events", "budget_spend"])
def test_a_provider_that_failed_is_told_of_exactly_when_its_span_is_there(
    keeping: Store,
    upstream: Upstream,
    other_upstream: Upstream,
    calling: Calling,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """They are written in one transaction: where it cannot be told, or the call not be counted, neither is.

    The call is answered, and paid for, by a fallback.
    """
    monkeypatch.setenv("GROQ_BASE_URL", other_upstream.url)
    monkeypatch.setenv("GROQ_API_KEY", "k")
    budgets.set("b", 10)
    upstream.will(failure(500))
    other_upstream.will(charging(1))
    caller = calling(SYNC, breaker=CircuitBreaker(threshold=1), max_retries=0, fallbacks=["groq/llama"])
    with away(missing, keeping):
        assert caller.ask().provider == "groq"
        with pytest.raises(StoreError, match=rf"\b{missing}\b"):
            telemetry.query()
        assert kept(keeping) == []
        if missing != "events":
            assert keeping.events.list() == []

    (span,) = telemetry.query()
    assert [(event.type, event.data["trace_id"]) for event in events.list()] == [
        ("inference.completed", span.trace_id),
        ("provider.failed", span.trace_id),
    ]
    assert [spend.spent for spend in budgets.spent("b")] == [1]


# Their order


def test_ids_only_ever_grow(keeping: Store, tmp_path: Path) -> None:
    """Whichever threads and processes write, in one order for all."""
    seen: list[str] = []
    keeping.events.subscribe(lambda event: seen.append(event.id))
    with ThreadPoolExecutor(5) as pool:
        programs = pool.submit(run_together, WRITER, [("a", "20"), ("b", "20")], cwd=tmp_path)
        threads = [
            pool.submit(lambda: [keeping.record([call(user="thread") for _ in range(3)]) for _ in range(15)])
            for _ in range(3)
        ]
        for future in [*threads, programs]:
            future.result()

    listed = events.list(limit=10_000)
    ids = [event.id for event in listed]
    assert len(ids) == 2 * 20 + 3 * 15 * 3
    assert all(one < other for one, other in pairwise(ids))
    assert [event.created for event in listed] == sorted(event.created for event in listed)
    assert sorted(set(seen)) == sorted(seen)
    assert set(seen) <= set(ids)


def test_who_follows_misses_nothing_and_sees_nothing_twice(keeping: Store, tmp_path: Path) -> None:
    """While others write: each list goes on from the last id that was seen."""
    seen: list[Event] = []

    def follow() -> int:
        some = events.list(since=seen[-1].id if seen else None, limit=7)
        seen.extend(some)
        return len(some)

    client = Client(provider="echo")
    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(run_together, WRITER, [("program", "60")], cwd=tmp_path)]
        writing += [pool.submit(lambda: [client.run("Hello", user="thread") for _ in range(60)]) for _ in range(2)]
        while not all(future.done() for future in writing):
            follow()
        for future in writing:
            future.result()
    while follow():
        pass

    assert [event.id for event in seen] == [event.id for event in events.list(limit=10_000)]
    assert len(seen) == 180


# Looking


def test_events_are_listed_by_time_and_type(store: Store) -> None:
    """The oldest first; `since` a moment is from it on, and after an id."""
    for user in ("a", "b", "c"):
        store.record([call(user=user, **({"error": "Odd"} if user == "b" else {}))])
    first, second, third = events.list()

    assert events.list(since=second.created) == [second, third]
    assert events.list(since=second.created.astimezone().replace(tzinfo=None)) == [second, third]
    assert events.list(since=second.created + timedelta(microseconds=1)) == [third]
    assert events.list(since=first.id) == [second, third]
    assert events.list(since=third.id) == []
    assert events.list(since=datetime(1969, 1, 1, tzinfo=UTC)) == [first, second, third]
    assert events.list(type="inference.failed") == [second]
    assert events.list(since=first.id, type="inference.completed") == [third]
    assert events.list(limit=2) == [first, second]


@on_sqlite
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "asked",
    [
        *({"limit": limit} for limit in (0, -1, True, "10", 1.5, None)),
        *({"since": since} for since in (3, b"evt_", "", "24h", "evt_", f"evt_{'0' * 15}", f"evt_{'0' * 17}")),
        *({"since": since} for since in (f"EVT_{'0' * 16}", f"evt_{'A' * 16}", f"evt_{'g' * 16}", f"evt_{'0' * 16}\n")),
        *({"type": type} for type in ("inference.complete", "", "Inference.Failed", 3, ["token.added"])),
    ],
    ids=str,
)
def test_what_no_list_can_have_is_refused(asked: dict[str, Any]) -> None:
    """By its name."""
    ((name, value),) = asked.items()
    with pytest.raises(InvalidRequestError, match=f"^{name} must be .*, not {re.escape(repr(value))}$"):
        events.list(**asked)


@on_sqlite
@pytest.mark.usefixtures("store")
def test_what_is_refused_says_what_is_meant() -> None:
    """How an id looks, and which types there are."""
    with pytest.raises(InvalidRequestError, match="an event's id, which is evt_ and 16 hexadecimal digits"):
        events.list(since="yesterday")
    with pytest.raises(InvalidRequestError, match=r"inference\.completed, .*, prompt\.updated, token\.added, not 'x'$"):
        events.list(type="x")  # type: ignore[arg-type]


def test_an_event_that_is_forgotten_is_still_a_place_to_go_on_from(store: Store) -> None:
    """Whoever follows may have slept past the retention."""
    store.record([call(time_ns(), user="old")])
    (old,) = events.list()
    telemetry.purge(timedelta(0))
    store.record([call(time_ns(), user="new")])
    assert told(events.list(since=old.id)) == [("inference.completed", "new")]


@pytest.mark.usefixtures("keeping")
async def test_events_are_listed_from_async_code() -> None:
    """The same, with what this process has only just done."""
    await aistrale.AsyncClient(provider="echo").run("Hello", user="ada")
    assert told(await events.list_async(type="inference.completed")) == [("inference.completed", "ada")]


# Subscribing


@pytest.mark.usefixtures("keeping")
def test_subscribers_hear_what_is_in_the_books() -> None:
    """After it was written, so that they may look: from inside, and everywhere else."""
    heard: list[Any] = []

    def subscriber(event: Event) -> None:
        (span,) = telemetry.query(user="ada")
        heard.append((event, span.span_id == event.data["span_id"], event in events.list()))

    events.subscribe(subscriber)
    Client(provider="echo").run("Hello", user="ada")
    telemetry.query()

    assert heard == [(events.list()[0], True, True)]


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_subscribers_hear_of_a_call_that_no_other_follows(tmp_path: Path) -> None:
    """What waited in a file for the process to be old enough is taken in by itself."""
    program = """
        import os, threading
        import aistrale
        threading.Timer(10, os._exit, [3]).start()
        aistrale.events.subscribe(lambda event: os._exit(0))
        aistrale.run("Hello", provider="echo")
        threading.Event().wait()
    """
    assert run_program(program, cwd=tmp_path, env=ON).returncode == 0


@on_sqlite
@pytest.mark.usefixtures("database_url")
def test_subscribers_may_look_from_another_thread(tmp_path: Path) -> None:
    """As the twins for async code do."""
    program = """
        import asyncio, os, threading
        import aistrale
        from aistrale import events, telemetry
        threading.Timer(5, os._exit, [3]).start()
        events.subscribe(lambda event: print(len(asyncio.run(telemetry.query_async())), flush=True))
        aistrale.run("Hello", provider="echo")
        telemetry.query()
        os._exit(0)
    """
    done = run_program(program, cwd=tmp_path, env=ON)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.usefixtures("keeping")
def test_subscribers_may_want_one_type_alone() -> None:
    """And are told of no other; what `subscribe` returned ends it."""
    heard: dict[str, list[str]] = {"all": [], "failed": []}
    stop = events.subscribe(lambda event: heard["all"].append(event.type))
    events.subscribe(lambda event: heard["failed"].append(event.type), type="inference.failed")
    client = Client(provider="echo")
    client.run("Hello")
    telemetry.query()
    stop()
    stop()
    client.run("Hello")
    telemetry.query()
    assert heard == {"all": ["inference.completed"], "failed": []}


@on_sqlite
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("subscriber", ["print", None, 3])
def test_what_cannot_be_called_is_no_subscriber(subscriber: Any) -> None:
    """It would be found out at the first event, in a log."""
    with pytest.raises(InvalidRequestError, match=f"must be a plain function that takes an event, not {subscriber!r}$"):
        events.subscribe(subscriber)


@on_sqlite
@pytest.mark.usefixtures("store")
def test_a_coroutine_function_is_no_subscriber() -> None:
    """Nobody would await it."""

    async def subscriber(event: Event) -> None: ...

    with pytest.raises(InvalidRequestError, match="must be a plain function"):
        events.subscribe(subscriber)


@on_sqlite
@pytest.mark.usefixtures("store")
def test_a_subscriber_to_a_type_there_is_not_is_refused() -> None:
    """It would never hear a thing."""
    with pytest.raises(InvalidRequestError, match=r"^type must be one of .*, not 'inference\.fail'$"):
        events.subscribe(print, type="inference.fail")  # type: ignore[arg-type]


def test_a_subscriber_that_raises_harms_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the others hear, and the span is kept."""
    heard: list[str] = []

    def faulty(event: Event) -> None:
        raise RuntimeError("no time")

    events.subscribe(faulty)
    events.subscribe(lambda event: heard.append(event.type))
    with caplog.at_level(logging.WARNING):
        store.record([call()])
    assert heard == ["inference.completed"]
    assert [record.getMessage() for record in caplog.records] == [
        "a subscriber raised RuntimeError at inference.completed"
    ]
    assert len(telemetry.query()) == 1


def test_nobody_hears_of_what_was_not_written(store: Store) -> None:
    """A transaction that fails announces nothing."""
    heard: list[Event] = []
    events.subscribe(heard.append)

    def fail() -> None:
        with store.events.transaction() as transaction:
            transaction.emit("token.added", {"provider": "openai"})
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    assert (heard, events.list()) == ([], [])


# Forgetting


def test_purging_forgets_events_too(store: Store) -> None:
    """Those that are older than so long, or than a moment."""
    store.record([call(time_ns(), user="old")])
    moment = datetime.now(UTC)
    store.record([call(time_ns(), user="new")])
    assert telemetry.purge("1h") == 0
    assert len(events.list()) == 2
    assert telemetry.purge(moment) == 1
    assert told(events.list()) == [("inference.completed", "new")]
    assert telemetry.purge(timedelta(0)) == 1
    assert events.list() == []


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_what_is_older_than_the_retention_is_forgotten(
    keeping: Store, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """In days, as the configuration says, without anybody asking."""
    if how == "environment":
        monkeypatch.setenv("AISTRALE_TELEMETRY_RETENTION", "2")
    day = 86_400 * 10**9
    keeping.record([call(time_ns() - 3 * day, user="old"), call(time_ns() - day, user="young")])
    Client(provider="echo", **({"telemetry_retention": 2} if how == "argument" else {})).run("Hello", user="new")
    assert settled(["new", "young"])


def settled(users: list[str]) -> bool:
    """Whether these are the users that are left, once the background has looked through the books."""
    deadline = monotonic() + BOUND
    while [span.user_id for span in telemetry.query()] != users:
        if monotonic() > deadline:
            return False
        sleep(0.01)
    return True


def test_a_retention_may_be_longer_than_there_has_been_time(keeping: Store) -> None:
    """Then nothing is forgotten, whatever budgets there are."""
    budgets.set("daily", 1, period="day")
    Client(provider="echo", telemetry_retention=1e8).run("Hello", user="new")
    assert [span.user_id for span in telemetry.query()] == ["new"]


def test_the_retention_holds_whoever_opens_the_books_first(keeping: Store) -> None:
    """A program may well look into them before it makes its client."""
    assert telemetry.query() == []
    keeping.record([call(time_ns() - 3 * 86_400 * 10**9, user="old")])
    Client(provider="echo", telemetry_retention=2).run("Hello", user="new")
    assert settled(["new"])


@on_sqlite
def test_whoever_only_looks_forgets_as_well(keeping: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that leave at once have no time for it."""
    keeping.record([call(time_ns() - 3 * 86_400 * 10**9, user="old")])
    monkeypatch.setenv("AISTRALE_TELEMETRY_RETENTION", "2")
    assert settled([])


def seed(store: Store, number: int) -> None:
    """Put so many spans into the books that are three days old."""
    then = time_ns() - 3 * 86_400 * 10**9
    for first in range(0, number, 10_000):
        add(store, [call(then + position, operation="execute_tool") for position in range(first, first + 10_000)])


def number_left(store: Store) -> int:
    """How many spans are in the books."""
    with store.database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM spans")).scalar_one())


def wait_until_left(store: Store, number: int) -> None:
    """Return once no more spans than these are in the books."""
    deadline = monotonic() + 60
    while (left := number_left(store)) > number:
        assert monotonic() < deadline, f"{left} spans are left"
        sleep(0.01)


@on_sqlite
def test_nobody_waits_while_much_is_forgotten(keeping: Store) -> None:
    """Neither calls, nor who looks into the books, nor a flush; in the end the old are gone and the new are there."""
    seed(keeping, 60_000)
    client = Client(provider="echo", telemetry_retention=2)
    client.run("Hello", user="first")
    telemetry.query(limit=1)
    wait_until_left(keeping, 60_000)

    client.run("Hello", user="second")
    assert [span.user_id for span in telemetry.query(limit=3)] == ["second", "first", None]
    client.run("Hello", user="third")
    books_recorder(keeping.database.url).flush(monotonic() + BOUND)()
    assert [span.user_id for span in keeping.spans.find(SpanFilter(), 4)] == ["third", "second", "first", None]
    assert number_left(keeping) > 10_000, "all was forgotten meanwhile"

    wait_until_left(keeping, 3)
    assert [span.user_id for span in telemetry.query()] == ["third", "second", "first"]


FORGETTING = """
    import sys, time
    import aistrale
    from aistrale import telemetry
    from aistrale.store.store import open_store
    from sqlalchemy import text

    def left():
        with open_store().database.read() as connection:
            return connection.execute(text("SELECT count(*) FROM spans")).scalar()

    aistrale.run("Hello", provider="echo", user="new")
    telemetry.query(limit=1)
    while left() > int(sys.argv[1]):
        time.sleep(0.01)
"""


@on_sqlite
def test_a_process_that_ends_forgets_no_further(keeping: Store, tmp_path: Path) -> None:
    """It stops after the transaction that is under way; the next one goes on."""
    seed(keeping, 60_000)
    variables = {**ON, "AISTRALE_TELEMETRY_RETENTION": "2"}
    done = run_program(FORGETTING, cwd=tmp_path, env=variables, arguments=("59999",))
    assert (done.returncode, done.stderr) == (0, "")
    old = number_left(keeping) - 1
    assert 0 < old < 60_000
    assert old % 5_000 == 0

    assert run_program(FORGETTING, cwd=tmp_path, env=variables, arguments=("2",)).stderr == ""
    assert [span.user_id for span in telemetry.query()] == ["new", "new"]


def test_several_processes_may_forget_at_once(keeping: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is harmed, nothing is said, and what is new stays."""
    monkeypatch.setenv("AISTRALE_TELEMETRY_RETENTION", "2")
    seed(keeping, 20_000)
    run_together(FORGETTING, [("3",)] * 3, cwd=tmp_path)
    assert [span.user_id for span in telemetry.query()] == ["new"] * 3


def test_what_cannot_be_forgotten_is_told_of(keeping: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Spans are written all the same."""
    add(keeping, [call(time_ns() - 3 * 86_400 * 10**9, user="old")])
    said = "what is older than is to be kept could not be forgotten"
    with away("response_cache", keeping):
        Client(provider="echo", telemetry_retention=2).run("Hello", user="new")
        assert [span.user_id for span in telemetry.query()] == ["new", "old"]
        deadline = monotonic() + BOUND
        while said not in caplog.text:
            assert monotonic() < deadline, "nobody said so"
            sleep(0.01)


async def test_looking_at_events_keeps_no_event_loop_waiting(keeping: Store) -> None:
    """A thread waits for the books."""
    keeping.record([call()])
    await aistrale.AsyncClient(provider="echo").run("Hello")
    with keeping.database.write():
        task = asyncio.create_task(events.list_async())
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert not task.done()
    assert len(await task) == 2


@on_sqlite
@pytest.mark.parametrize("type", ["inference.failed", "cost.threshold_exceeded"])
def test_events_of_a_rare_type_are_found_without_reading_the_log(store: Store, type: EventType) -> None:
    """Of which there is one among thousands, at the end, or none."""
    store.record([*(call(time_ns()) for _ in range(5000)), call(time_ns(), error="Timeout")])
    with counting_steps(store) as steps:
        assert len(store.events.list(type=type)) == (type == "inference.failed")
    assert 100 * steps["hundreds"] < 5000


@on_sqlite
def test_a_child_tells_of_nothing_that_its_parent_wrote(database_url: str, tmp_path: Path) -> None:
    """Even where the parent has not told of it yet when it forks."""
    done = run_program(FORKS, cwd=tmp_path, env=ON)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["True"] * 3)
