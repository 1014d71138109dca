"""Asking the books as people type it: times, names, amounts and cursors; and what is refused, with what to write."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from calls import SECOND, add, call, ids

import aistrale
from aistrale import telemetry
from aistrale.exceptions import InvalidRequestError, StoreError
from aistrale.prices import MOST_DOLLARS
from aistrale.store.store import Store, open_store

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 7 * 86400


@pytest.fixture
def books() -> Iterator[Store]:
    """An SQLite file in AISTRALE_HOME: where it is asked makes no difference to how."""
    opened = open_store()
    yield opened
    opened.close()


def ago(seconds: float, **named: Any) -> Any:
    """A call of so many seconds ago."""
    return call(time.time_ns() - round(seconds * SECOND), **named)


def when(span: Any) -> datetime:
    return datetime.fromtimestamp(span.start / SECOND, UTC)


# How far back


@pytest.mark.parametrize(
    ("last", "seconds"),
    [
        ("45s", 45),
        ("30m", 30 * MINUTE),
        ("24h", DAY),
        ("7d", WEEK),
        ("2w", 2 * WEEK),
        ("1.5h", 90 * MINUTE),
        (" 3 h ", 3 * HOUR),
        (timedelta(hours=2), 2 * HOUR),
    ],
    ids=str,
)
def test_last_says_how_far_back(books: Store, last: Any, seconds: float) -> None:
    """The same in queries, summaries and exports."""
    inside, outside = ago(seconds - 10, model="in"), ago(seconds + 10, model="out")
    add(books, [inside, outside])
    assert telemetry.query(last=last) == [inside]
    assert [group.key for group in telemetry.summary(last=last)] == ["in"]


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("last", ["", "24", "h", "24 hours", "1y", "-1h", "1h30m", "yesterday", "1e3s"])
@pytest.mark.parametrize("ask", [telemetry.query, telemetry.summary], ids=["query", "summary"])
def test_a_text_that_is_no_time_is_refused(ask: Callable[..., object], last: str) -> None:
    """With some that are."""
    with pytest.raises(InvalidRequestError) as caught:
        ask(last=last)
    assert str(caught.value) == f"last must be a time such as '30m', '24h', '7d' or '2w', not {last!r}"


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("last", [24, 1.5, True, [], date(2026, 3, 1)], ids=str)
def test_what_is_neither_a_text_nor_a_timedelta_is_refused(last: Any) -> None:
    """Nobody knows of what unit a number is."""
    with pytest.raises(InvalidRequestError) as caught:
        telemetry.query(last=last)
    assert str(caught.value) == f"last must be a text such as '24h' or a timedelta, not {last!r}"


@pytest.mark.parametrize(
    "last", ["99999999999999w", "9" * 400 + "d", timedelta.max], ids=["weeks", "days", "timedelta"]
)
def test_further_back_than_there_is_time_is_everything(books: Store, last: Any) -> None:
    """And no error."""
    add(books, [ago(100 * WEEK)])
    assert len(telemetry.query(last=last)) == 1


# From when to when


def test_since_and_until_are_moments(store: Store) -> None:
    """The first belongs to it, the second does not."""
    spans = [ago(seconds) for seconds in (1, 2 * HOUR, DAY, WEEK)]
    spans = [call(span.start // 1000 * 1000) for span in spans]  # datetimes know microseconds
    add(store, spans)
    moments = [when(span) for span in spans]
    assert telemetry.query(since=moments[2], until=moments[0]) == [spans[1], spans[2]]
    assert telemetry.query(since=moments[1]) == spans[:2]
    assert telemetry.query(until=moments[1]) == spans[2:]
    assert telemetry.query(since=moments[0], until=moments[2]) == []
    assert sum(group.calls for group in telemetry.summary(since=moments[2], until=moments[0])) == 2


@pytest.mark.parametrize("offset", [-11, -3.5, 0, 5.75, 14])
def test_a_moment_may_be_in_any_zone(books: Store, offset: float) -> None:
    """It is the moment that counts."""
    inside, outside = ago(HOUR), ago(3 * HOUR)
    add(books, [inside, outside])
    since = datetime.now(timezone(timedelta(hours=offset))) - timedelta(hours=2)
    assert telemetry.query(since=since) == [inside]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_a_moment_without_a_zone_is_local(books: Store, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """As the clock on the wall shows it."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        inside, outside = ago(HOUR), ago(3 * HOUR)
        add(books, [inside, outside])
        assert telemetry.query(since=datetime.now() - timedelta(hours=2)) == [inside]
        assert telemetry.query(until=datetime.now() - timedelta(hours=2)) == [outside]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_all_that_is_given_has_to_be_so(books: Store) -> None:
    """`last` and `since` together mean both, whichever is the later."""
    spans = [ago(seconds) for seconds in (10, 2 * HOUR, 2 * DAY)]
    add(books, spans)
    now = datetime.now(UTC)
    assert telemetry.query(last="24h", since=now - timedelta(hours=1)) == spans[:1]
    assert telemetry.query(last="1h", since=now - timedelta(hours=24)) == spans[:1]
    assert telemetry.query(last="24h", until=now - timedelta(hours=1)) == spans[1:2]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (datetime.min, datetime.max),
        (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
        (datetime(1, 1, 2), datetime(2300, 1, 1)),
    ],
    ids=str,
)
def test_the_ends_of_time_are_moments_too(store: Store, since: datetime, until: datetime) -> None:
    """People write them for "ever"."""
    spans = [ago(1), ago(10 * WEEK)]
    add(store, spans)
    assert telemetry.query(since=since, until=until) == spans
    assert telemetry.query(since=until) == telemetry.query(until=since) == []
    assert sum(group.calls for group in telemetry.summary("day", since=since, until=until)) == 2


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("moment", ["2026-03-01", "24h", date(2026, 3, 1), 1_772_359_200, 1e9, True], ids=str)
@pytest.mark.parametrize("name", ["since", "until"])
def test_what_is_no_moment_is_refused(name: str, moment: Any) -> None:
    """Rather than compared as text."""
    with pytest.raises(InvalidRequestError, match=f"^{name} must be "):
        telemetry.query(**{name: moment})


# Names


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "openai/gpt-4o"},
        {"model": "gpt-4o", "provider": "openai"},
        {"provider": "openai"},
    ],
    ids=str,
)
def test_a_model_may_be_named_with_its_provider(books: Store, asked: dict[str, str]) -> None:
    """As in calls."""
    wanted, *others = [call(), call(provider="azure.ai.openai"), call(provider="openrouter", model="openai/gpt-4o")]
    add(books, [wanted, *others])
    assert telemetry.query(**asked) == [wanted]
    assert [group.calls for group in telemetry.summary(**asked)] == [1]


@pytest.mark.parametrize("provider", ["google", "gcp.gemini"])
def test_a_provider_goes_by_our_name_and_by_the_conventions(books: Store, provider: str) -> None:
    """Both mean it, alone and before a model's name."""
    wanted = call(provider="gcp.gemini", model="gemini-2.5-pro")
    add(books, [wanted, call()])
    assert telemetry.query(provider=provider) == [wanted]
    assert telemetry.query(provider=provider, model="gemini-2.5-pro") == [wanted]
    assert telemetry.query(model="google/gemini-2.5-pro") == [wanted]


def test_a_slash_may_be_the_models_own(books: Store) -> None:
    """Where what is before it is no provider, or another provider is named."""
    first = call(provider="together", model="meta-llama/Llama-3.3")
    second = call(provider="openrouter", model="openai/gpt-4o")
    add(books, [first, second])
    assert telemetry.query(model="meta-llama/Llama-3.3") == [first]
    assert telemetry.query(model="together/meta-llama/Llama-3.3") == [first]
    assert telemetry.query(provider="openrouter", model="openai/gpt-4o") == [second]
    assert telemetry.query(model="openrouter/openai/gpt-4o") == [second]
    assert telemetry.query(model="openai/gpt-4o") == []


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("ask", [telemetry.query, telemetry.summary, telemetry.reprice], ids=lambda f: f.__name__)
def test_an_unknown_filter_is_a_type_error(ask: Callable[..., object]) -> None:
    """As for a wrong keyword of any function; with those there are."""
    with pytest.raises(TypeError) as caught:
        ask(modle="gpt-4o")
    assert str(caught.value) == (
        "there is no filter 'modle'; known are last, since, until, model, provider, session, user, status, surface, "
        "operation, tag, min_cost, min_latency"
    )


def test_a_filter_that_is_none_is_not_given(books: Store) -> None:
    """So that a program can pass on what it was passed."""
    span = call()
    add(books, [span])
    nothing: Any = dict.fromkeys(telemetry.Filters.__annotations__)
    assert telemetry.query(cursor=None, **nothing) == [span]


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("value", [3, b"x", True, ["a"]], ids=repr)
@pytest.mark.parametrize("name", ["model", "provider", "session", "user", "surface", "operation", "tag"])
def test_a_name_that_is_no_text_is_refused(name: str, value: Any) -> None:
    """It would find nothing, or make the database stumble."""
    with pytest.raises(InvalidRequestError) as caught:
        telemetry.query(**{name: value})
    assert str(caught.value) == f"{name} must be a text, not {value!r}"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "ask",
    [lambda: telemetry.trace("\ud800"), lambda: telemetry.set_price("a\ud800", input=1)],
    ids=["trace", "set_price"],
)
def test_a_value_that_no_database_holds_is_a_store_error(ask: Callable[[], object]) -> None:
    """Which says that it is the value: the database is well, and goes on."""
    with pytest.raises(StoreError, match="cannot hold a value that was given: ") as caught:
        ask()
    assert not caught.value.unavailable
    assert telemetry.prices() == telemetry.query() == []


@pytest.mark.usefixtures("books")
def test_a_status_is_ok_or_error() -> None:
    """A misspelt one would find nothing, which looks like good news."""
    with pytest.raises(InvalidRequestError, match=r"^status must be 'ok' or 'error', not 'failed'$"):
        telemetry.query(status="failed")


# Amounts


@pytest.mark.parametrize("least", ["0.1", 0.1, Decimal("0.1")], ids=repr)
def test_a_least_cost_is_exact(store: Store, least: Any) -> None:
    """A float is what it reads as; a call of unknown cost is not among them."""
    add(store, [call(cost="0.1", span_id="a"), call(cost="0.099999999999", span_id="b"), call(span_id="c")])
    assert ids(telemetry.query(min_cost=least)) == ["a"]


@pytest.mark.parametrize("least", ["1e30", 10**40, MOST_DOLLARS + 1], ids=repr)
def test_nothing_costs_more_than_there_is_money(store: Store, least: Any) -> None:
    """An amount beyond what the books can hold is no error."""
    add(store, [call(cost=str(MOST_DOLLARS)), call()])
    assert telemetry.query(min_cost=least) == []
    assert telemetry.summary(min_cost=least) == []
    assert len(telemetry.query(min_cost=MOST_DOLLARS)) == 1


def test_a_least_latency_is_in_seconds(store: Store) -> None:
    """Whole or not."""
    add(store, [call(seconds=0.5, span_id="a"), call(seconds=2, span_id="b")])
    assert ids(telemetry.query(min_latency=2)) == ["b"]
    assert ids(telemetry.query(min_latency=0.5)) == ["b", "a"]


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("amount", [-1, "much", float("nan"), float("inf"), True, []], ids=repr)
@pytest.mark.parametrize("name", ["min_cost", "min_latency"])
def test_an_amount_that_is_none_is_refused(name: str, amount: Any) -> None:
    """By the name of the filter."""
    with pytest.raises(InvalidRequestError, match=f"^{name} must be "):
        telemetry.query(**{name: amount})


# Pages


def test_pages_follow_each_other(store: Store) -> None:
    """Each span once, the newest first; the last page has no next, not even when it is full."""
    spans = [call(time.time_ns() - n * SECOND) for n in range(6)]
    add(store, spans)
    pages = [telemetry.query(limit=3)]
    while pages[-1].next is not None:
        pages.append(telemetry.query(limit=3, cursor=pages[-1].next))
    assert pages == [spans[:3], spans[3:]]


def test_a_cursor_goes_on_among_what_is_asked_for(store: Store) -> None:
    """With the same filters; and what has come since does not move it."""
    spans = [ago(n, model=model) for n in range(1, 5) for model in ("a", "b")]
    add(store, spans)
    first = telemetry.query(limit=2, model="a")
    add(store, [ago(0, model="a")])
    rest = telemetry.query(limit=10, model="a", cursor=first.next)
    assert [*first, *rest] == spans[::2]


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize(
    "cursor", ["", "x", "7", ".", "x.y", "-7.y", "1e9.y", "9" * 40 + ".y", "9" * 5000 + ".y"], ids=lambda c: c[:9]
)
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    """With where to get one."""
    with pytest.raises(InvalidRequestError, match=r"is no cursor: pass the `next` of an earlier answer$"):
        telemetry.query(cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, -5, "10", 1.5], ids=repr)
def test_a_page_has_at_least_one_span(books: Store, limit: Any) -> None:
    """Any other limit is refused."""
    add(books, [call() for _ in range(8)])
    with pytest.raises(InvalidRequestError, match=r"^limit must be "):
        telemetry.query(limit=limit)


# Forgetting


@pytest.mark.parametrize("older_than", ["1h", timedelta(hours=1), "moment"], ids=str)
def test_what_is_older_is_forgotten(store: Store, older_than: Any) -> None:
    """With its events."""
    old, new = [ago(HOUR + n, input_tokens=1) for n in (60, 120)], ago(10)
    store.record([*old, new])
    if older_than == "moment":
        older_than = datetime.now(UTC) - timedelta(hours=1)
    assert telemetry.purge(older_than) == 2
    assert ids(telemetry.query()) == [new.span_id]
    assert telemetry.purge(older_than) == 0
    assert len(store.events.list()) == 3  # which were written just now
    telemetry.purge(datetime.now(UTC))
    assert store.events.list() == []


@pytest.mark.parametrize(
    "older_than", ["", "90", "all", 90, None, date(2026, 3, 1), timedelta(days=-1), "-1d"], ids=repr
)
def test_what_is_no_age_forgets_nothing(books: Store, older_than: Any) -> None:
    """A wrong word must not cost the books."""
    add(books, [ago(1)])
    with pytest.raises(InvalidRequestError, match=r"^older_than must "):
        telemetry.purge(older_than)
    assert len(telemetry.query()) == 1


# What this process has just done


def test_a_call_is_there_once_it_has_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever question is asked first."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "store")
    completion = aistrale.run("Hello", provider="echo", user="ada", tags=["nightly"])
    (root,) = telemetry.trace(completion.trace_id or "")
    assert root.span.trace_id == completion.trace_id

    aistrale.run("Hello", provider="echo", user="bob")
    assert {group.key: group.calls for group in telemetry.summary("user")} == {"ada": 1, "bob": 1}

    aistrale.run("Hello", provider="echo", tags=["nightly"])
    assert [span.user_id for span in telemetry.query(tag="nightly", last="1h")] == [None, "ada"]
    assert telemetry.purge(datetime.now(UTC)) == 3


def test_an_empty_database_has_no_calls(store: Store) -> None:
    """And says so in whatever way it is asked."""
    assert telemetry.query() == []
    assert telemetry.query().next is None
    assert telemetry.summary() == []
    assert (telemetry.purge("1d"), telemetry.reprice(), telemetry.prices()) == (0, 0, [])
