"""Budgets: what is counted, what is told of, and when a call is refused."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from callers import SYNC, Calling, Way, our_ways
from calls import call
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import ON, charging, on_sqlite, run_together
from programs import run_program
from sqlalchemy import Engine, event
from upstream import Upstream

import aistrale
from aistrale import Budget, BudgetExceededError, InvalidRequestError, StoreError, budgets, events, telemetry
from aistrale.prices import PriceBook
from aistrale.records import moment, to_nanoseconds
from aistrale.store.filters import SpanFilter
from aistrale.store.store import Store

SPENDER = """
    import sys
    import aistrale
    client = aistrale.Client(provider="openai", model="gpt-test", api_key="k", base_url=sys.argv[1])
    for _ in range(int(sys.argv[2])):
        client.run("Hello")
"""


WRITER = """
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from calls import call
    from aistrale.store.store import open_store
    of = {"user": sys.argv[1], "session": sys.argv[1], "cost": "1", "cost_source": "provider"}
    store = open_store()
    for _ in range(40):
        store.record([call(time.time_ns(), **of) for _ in range(5)])
    store.close()
"""


def spend(store: Store, dollars: object, when: datetime | None = None, **of: Any) -> None:
    """Have a call in the books that cost so much."""
    start = time_ns() if when is None else to_nanoseconds(when)
    store.record([call(start, cost=str(dollars), cost_source="provider", **of)])


def told() -> list[tuple[str, str | None, str]]:
    """The thresholds that were told of: of which budget, whose, and which part of it."""
    listed = events.list(type="cost.threshold_exceeded", limit=10_000)
    return [(event.data["budget"], event.data["scope_value"], event.data["threshold"]) for event in listed]


def spent(name: str) -> list[tuple[str, str, Decimal]]:
    return [(entry.period, entry.scope_value, entry.spent) for entry in budgets.spent(name)]


# What is counted


def test_what_calls_cost_is_spent(keeping: Store, upstream: Upstream, calling: Calling) -> None:
    """As the provider reported it, to the digit; a call of unknown cost counts nothing."""
    budgets.set("all", "1.5")
    upstream.will(charging(0.1), charging(0.000001), charging(None))
    caller = calling(SYNC)
    for _ in range(3):
        caller.ask()
    assert spent("all") == [("", "", Decimal("0.100001"))]


@pytest.mark.parametrize(
    ("period", "names"),
    [
        ("day", ["2026-03-01", "2026-02-28", "2026-02-01"]),
        ("month", ["2026-03", "2026-02"]),
        ("total", [""]),
    ],
)
def test_a_period_counts_its_own_calls(store: Store, period: Any, names: list[str]) -> None:
    """Days and months in UTC; a call counts for when it began, whenever it is written."""
    budgets.set("each", 100, period=period)
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    for amount, when in (
        (1, midnight),
        (2, midnight - timedelta(microseconds=1)),
        (4, datetime(2026, 2, 1, tzinfo=UTC)),
    ):
        spend(store, amount, when)

    expected = {"day": [1, 2, 4], "month": [1, 6], "total": [7]}[period]
    assert spent("each") == [(name, "", Decimal(amount)) for name, amount in zip(names, expected, strict=True)]


@pytest.mark.parametrize("scope", ["session", "user", "tag"])
def test_a_budget_for_one_counts_nobody_elses_calls(store: Store, scope: str) -> None:
    """Of a session, a user or a tag; with `each`, every one of them has its own."""
    budgets.set("one", 100, **{scope: "ada"})
    budgets.set("each", 100, each=scope)
    for amount, name in ((1, "ada"), (2, "bob"), (4, "ada"), (8, None)):
        whose = {"tags": [name, "other"]} if scope == "tag" and name else {scope: name} if name else {}
        spend(store, amount, **whose)

    assert spent("one") == [("", "ada", Decimal(5))]
    others = [("", "other", Decimal(7))] if scope == "tag" else []
    assert spent("each") == [("", "ada", Decimal(5)), ("", "bob", Decimal(2)), *others]


@pytest.mark.usefixtures("keeping")
def test_calls_say_whose_they_are(upstream: Upstream, calling: Calling) -> None:
    """By the session they belong to, by `user` and by `tags`."""
    for scope in ("session", "user", "tag"):
        budgets.set(scope, 100, each=scope)
    upstream.default = charging(1)
    client = calling(SYNC).client
    client.session("s1").run("Hello", user="ada", tags=["a", "b"])
    client.run("Hello", user="ada")

    assert spent("session") == [("", "s1", Decimal(1))]
    assert spent("user") == [("", "ada", Decimal(2))]
    assert spent("tag") == [("", "a", Decimal(1)), ("", "b", Decimal(1))]


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize("whose", [{"tag": "x"}, {"each": "tag"}])
def test_a_tag_given_twice_is_counted_once(upstream: Upstream, calling: Calling, whose: dict[str, Any]) -> None:
    """As summaries count it."""
    budgets.set("x", 10, **whose)
    upstream.default = charging(1)
    calling(SYNC).client.run("Hello", tags=["x", "x"])
    assert [spend.spent for spend in budgets.spent("x")] == [Decimal(1)]


@pytest.mark.parametrize("scope", [{}, {"each": "user"}, {"user": "ada"}, {"tag": "x"}, {"each": "session"}])
def test_what_was_spent_before_counts(store: Store, scope: dict[str, Any]) -> None:
    """In the period that the budget is set in; what that has passed of it is told of at once."""
    now = datetime.now(UTC)
    of = {"user": "ada", "tags": ["x"], "session": "s"}
    spend(store, 2, **of)
    spend(store, 4, now - timedelta(days=40), **of)
    for period in ("day", "month", "total"):
        budgets.set(period, 5, period=period, **scope)  # type: ignore[arg-type]

    (day,), (month,), (total,) = spent("day"), spent("month"), spent("total")
    assert (day[2], month[2], total[2]) == (Decimal(2), Decimal(2), Decimal(6))
    assert (day[0], month[0]) == (f"{now:%Y-%m-%d}", f"{now:%Y-%m}")
    assert told() == [("total", total[1] or None, part) for part in ("0.5", "0.8", "1")]


LOOKING, ADDING_UP = "FROM budgets", "sum(spans.cost)"
"""What a budget's setting asks of the database before it writes."""


@contextmanager
def once_after(words: str, do: Callable[[], object]) -> Iterator[list[str]]:
    """Have something done, once, after a statement with these words; the result is that statement."""
    seen: list[str] = []

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if words in statement and not seen:
            seen.append(statement)
            do()

    event.listen(Engine, "after_cursor_execute", look)
    try:
        yield seen
    finally:
        event.remove(Engine, "after_cursor_execute", look)


@pytest.mark.parametrize("scope", [{}, {"each": "user"}, {"user": "ada"}, {"each": "tag"}])
def test_others_write_while_a_budget_adds_up(store: Store, scope: dict[str, Any]) -> None:
    """Nobody waits for it, and what they write, price anew or forget meanwhile is counted once."""
    now, of = time_ns(), {"user": "ada", "tags": ["ada"], "cost_source": "provider"}
    store.record([call(now - n * 60 * 10**9, cost="1", **of) for n in range(30)])
    store.record([call(now - 7 * 10**9, model="ours", cost=None, user="ada", tags=["ada"], input_tokens=10**6)])
    telemetry.set_price("ours", input=4)
    others = Store(store.database.url)

    def write() -> None:
        others.record([call(now, cost="100", **of), call(now - 60 * 10**9, cost="1000", **of)])
        others.reprice((-1, "", ""), PriceBook(others.prices.all()).cost, SpanFilter())

    with once_after(ADDING_UP, write) as done:
        budgets.set("b", 10_000, **scope)
    others.close()
    assert len(done) == 1
    assert [spend.spent for spend in budgets.spent("b")] == [30 + 1100 + 4]
    spend(store, 5000, user="ada", tags=["ada"])
    assert [spend.spent for spend in budgets.spent("b")] == [6134]
    assert [part for _, _, part in told()] == ["0.5"]


@pytest.mark.parametrize("meanwhile", ["set", "removed"])
def test_a_budget_that_others_set_or_remove_meanwhile_counts_everything(store: Store, meanwhile: str) -> None:
    """Whether it goes on from an earlier one is seen when it is written."""
    spend(store, 3)
    others = Store(store.database.url)
    if meanwhile == "set":
        with once_after(
            ADDING_UP, lambda: others.budgets.set(Budget("b", Decimal(7), "total", "all", None, (), False))
        ):
            budgets.set("b", 10)
    else:
        budgets.set("b", 7)
        with once_after(LOOKING, lambda: others.budgets.remove("b")):
            budgets.set("b", 10)
    others.close()
    assert [str(budget.limit) for budget in budgets.list()] == ["10"]
    assert spent("b") == [("", "", Decimal(3))]


def test_processes_write_while_budgets_are_set(store: Store, tmp_path: Path) -> None:
    """Every cent of every call is in each of them, whenever it was set."""
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            run_together, WRITER, [(name, str(Path(__file__).parent)) for name in ("ada", "bob")], cwd=tmp_path
        )
        names: list[str] = []
        while not writing.done() and len(names) < 12:
            if store.events.list(limit=1):  # they have begun
                names.append(f"budget {len(names)}")
                budgets.set(names[-1], 1000, each=("user", "session")[len(names) % 2])  # type: ignore[arg-type]
        writing.result()
    for name in names:
        assert (name, sorted(spent(name))) == (name, [("", "ada", Decimal(200)), ("", "bob", Decimal(200))])


def test_setting_a_budget_again_replaces_it(store: Store) -> None:
    """With what was spent, and with thresholds of its own."""
    budgets.set("b", 10, user="ada")
    spend(store, 4, user="ada")
    spend(store, 1, user="bob")
    again = budgets.set("b", "20.5", user="bob", period="month", thresholds=[1, "0.9"], hard=True)

    assert budgets.list() == [again]
    assert again == Budget(
        "b", Decimal("20.5"), "month", "user", "bob", thresholds=(Decimal(1), Decimal("0.9")), hard=True
    )
    ((_, who, amount),) = spent("b")
    assert (who, amount) == ("bob", Decimal(1))


def test_a_removed_budget_is_gone(store: Store) -> None:
    """With what was spent of it; removing it says whether it was there."""
    budgets.set("b", 1)
    budgets.set("a", 1)
    spend(store, 1)
    assert [budget.name for budget in budgets.list()] == ["a", "b"]
    assert (budgets.remove("b"), budgets.remove("b")) == (True, False)
    assert [budget.name for budget in budgets.list()] == ["a"]
    with pytest.raises(StoreError, match=r"^There is no budget 'b': there are 'a'$"):
        budgets.spent("b")


def test_nothing_spent_is_not_the_same_as_no_budget(store: Store) -> None:
    """A name that is mistyped has not spent nothing."""
    with pytest.raises(StoreError, match=r"^There is no budget 'monthly': there are none$"):
        budgets.spent("monthly")
    budgets.set("month", 1)
    assert budgets.spent("month") == []
    with pytest.raises(StoreError, match=r"^There is no budget 'monthly': there are 'month'$"):
        budgets.spent("monthly")


@on_sqlite
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", ["", 5, None, b"b", ["b"], "a\0b", "a\ud800b", "x" * 201], ids=repr)
def test_a_name_no_budget_can_have_is_refused(name: Any) -> None:
    """Before anything has changed."""
    with pytest.raises(InvalidRequestError, match=r"^A budget's name must "):
        budgets.set(name, 1)
    assert budgets.list() == []


@on_sqlite
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("function", [budgets.spent, budgets.remove])
def test_a_name_that_is_no_text_names_no_budget(function: Callable[[Any], object]) -> None:
    """It is not looked for."""
    with pytest.raises(InvalidRequestError, match=r"^A budget's name must be a text, not 5$"):
        function(5)


def test_names_of_budgets_may_be_long_and_in_any_script(store: Store) -> None:
    """As databases keep them."""
    for name in ("x" * 200, "預算" * 100, "a/b c'd\"e%"):
        budgets.set(name, 1)
        spend(store, "0.25")
        assert spent(name)[0][2] == Decimal("0.25") * len(budgets.list())


@on_sqlite
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((0,), {}),
        ((-1,), {}),
        (("a lot",), {}),
        (("nan",), {}),
        (("1e-13",), {}),
        (("inf",), {}),
        (("1e30",), {}),
        ((None,), {}),
        ((True,), {}),
        ((1,), {"period": "week"}),
        ((1,), {"each": "model"}),
        ((1,), {"user": "ada", "tag": "x"}),
        ((1,), {"user": "ada", "each": "user"}),
        ((1,), {"thresholds": [0]}),
        ((1,), {"thresholds": ["half"]}),
        ((1,), {"thresholds": "0.5"}),
        ((1,), {"thresholds": "1"}),
        ((1,), {"thresholds": 0.5}),
        ((b"5",), {}),
        (([5],), {}),
        ((float("nan"),), {}),
        ((Decimal("sNaN"),), {}),
        ((1,), {"thresholds": [150]}),
        ((1,), {"thresholds": [0.5, True]}),
        ((1,), {"thresholds": [None]}),
        ((1,), {"thresholds": ["nan"]}),
        ((1,), {"thresholds": None}),
        ((1,), {"user": 7}),
        ((1,), {"user": ""}),
        ((1,), {"session": b"s"}),
        ((1,), {"tag": ["x"]}),
        ((1,), {"each": "all"}),
        ((1,), {"each": ""}),
        ((1,), {"each": ["user"]}),
        ((1,), {"period": ["day"]}),
        ((1,), {"period": None}),
        ((1,), {"hard": "no"}),
        ((1,), {"hard": 1}),
        ((1,), {"hard": None}),
    ],
    ids=str,
)
def test_a_budget_there_cannot_be_is_refused(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Before anything has changed: the one of its name stays."""
    before = budgets.set("b", 5)
    with pytest.raises(InvalidRequestError):
        budgets.set("b", *arguments, **options)
    assert budgets.list() == [before]


@on_sqlite
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"thresholds": [80]},
            "a threshold is a part of the limit, as 0.8, and must be a number from .* to 10, not 80",
        ),
        ({"hard": "no"}, "hard must be True or False, not 'no'"),
        ({"user": 7}, "user must be a text that is not empty, not 7"),
        ({"period": "week"}, "period must be 'day', 'month' or 'total', not 'week'"),
        ({"each": "model"}, "each must be 'session', 'user' or 'tag', not 'model'"),
    ],
)
def test_what_is_refused_says_what_is_meant(options: dict[str, Any], said: str) -> None:
    """By its name, with what it was."""
    with pytest.raises(InvalidRequestError, match=f"^{said}$"):
        budgets.set("b", 1, **options)


# What is told of


def test_a_threshold_may_lie_beyond_the_limit(store: Store) -> None:
    """Of a budget that is not hard, more may be spent than it says."""
    budgets.set("b", 10, thresholds=[1, 1.2, "10"])
    for amount in (11, 1):
        spend(store, amount)
    assert told() == [("b", None, "1"), ("b", None, "1.2")]


def test_each_threshold_is_told_of_once(store: Store) -> None:
    """When it is reached, not before, with what was spent then."""
    budgets.set("b", 10, thresholds=["0.5", 1, "0.8"], user="ada")
    for amount in ("4.999999999999", "0.000000000001", 1, 3, 4):
        spend(store, amount, user="ada")

    assert told() == [("b", "ada", "0.5"), ("b", "ada", "0.8"), ("b", "ada", "1")]
    data = [event.data for event in events.list(type="cost.threshold_exceeded")]
    assert [(Decimal(each["spent"]), each["limit"], each["period"], each["hard"]) for each in data] == [
        (Decimal(5), "10", "", False),
        (Decimal(9), "10", "", False),
        (Decimal(13), "10", "", False),
    ]


def test_a_call_that_passes_several_thresholds_tells_of_each(store: Store) -> None:
    """In their order; so does a batch."""
    budgets.set("one", 1, thresholds=[1, "0.2", "0.9"])
    budgets.set("many", 100, thresholds=["0.01", "0.02"])
    store.record([call(time_ns(), cost="2", cost_source="provider"), call(time_ns(), cost="2", cost_source="provider")])
    assert sorted(told()) == [
        ("many", None, "0.01"),
        ("many", None, "0.02"),
        ("one", None, "0.2"),
        ("one", None, "0.9"),
        ("one", None, "1"),
    ]
    assert [part for name, _, part in told() if name == "one"] == ["0.2", "0.9", "1"]


def test_thresholds_that_are_passed_already_are_told_of_once(store: Store) -> None:
    """When the budget is set, with what was spent by then; not when it is set again, nor by the calls that follow."""
    spend(store, 6)
    spend(store, 1, user="ada")
    for _ in range(2):
        budgets.set("b", 10)
        assert told() == [("b", None, "0.5")]
    spend(store, 2)
    assert told() == [("b", None, "0.5"), ("b", None, "0.8")]
    budgets.set("b", 10)

    listed = events.list(type="cost.threshold_exceeded")
    assert [(event.data["threshold"], Decimal(event.data["spent"])) for event in listed] == [
        ("0.5", Decimal(7)),
        ("0.8", Decimal(9)),
    ]


def test_subscribers_hear_of_thresholds_that_are_passed_already(store: Store) -> None:
    """As of any other."""
    spend(store, 6)
    heard: list[str] = []
    unsubscribe = store.events.subscribe(lambda event: heard.append(event.data["threshold"]))
    budgets.set("b", 10)
    unsubscribe()
    assert heard == ["0.5"]


def test_a_budget_of_another_limit_tells_of_its_own_thresholds(store: Store) -> None:
    """Once each, though the limit goes up and back down; what is not reached yet is told of when it is."""
    spend(store, 12)
    for limit in (10, 20, 1000, 10, 20):
        budgets.set("b", limit, thresholds=["0.5", 1])
    spend(store, 8)
    told_of = [event.data for event in events.list(type="cost.threshold_exceeded")]
    assert [(data["threshold"], data["limit"]) for data in told_of] == [
        ("0.5", "10"),
        ("1", "10"),
        ("0.5", "20"),
        ("1", "20"),
    ]


def test_what_repricing_changes_is_counted(store: Store) -> None:
    """Upwards, with the thresholds it passes, and downwards; also when the budget is set again afterwards."""
    store.record([call(model="ours", provider="theirs", cost=None, input_tokens=1_000_000)])
    budgets.set("b", 10, thresholds=["0.5"])
    for price in (6, 2):
        telemetry.set_price("ours", input=price)
        telemetry.reprice()
        assert [spend.spent for spend in budgets.spent("b")] == [price]
    assert told() == [("b", None, "0.5")]
    budgets.set("b", 20, thresholds=["0.5"])
    assert [spend.spent for spend in budgets.spent("b")] == [2]


def test_what_repricing_changes_is_counted_for_whom_it_is(store: Store) -> None:
    """Each user's own, and in the period the calls are of: not in one that nobody had a budget in."""
    long_ago = time_ns() - 40 * 86_400 * 10**9
    for start, user, calls in ((time_ns(), "ada", 1), (time_ns(), "bob", 2), (long_ago, "ada", 4)):
        some = [call(start + n, model="ours", cost=None, user=user, input_tokens=1_000_000) for n in range(calls)]
        store.record(some)
    budgets.set("monthly", 100, period="month", each="user")
    telemetry.set_price("ours", input=1)
    assert telemetry.reprice() == 7
    assert {spend.scope_value: spend.spent for spend in budgets.spent("monthly")} == {"ada": 1, "bob": 2}


def test_a_purged_call_stays_counted_while_others_are_priced_anew(store: Store) -> None:
    """Of all time: what is left of it costs less now, what is gone has cost what it did."""
    store.record([call(model="ours", cost=None, input_tokens=1_000_000)])
    telemetry.set_price("ours", input=3)
    telemetry.reprice()
    budgets.set("b", 100)
    store.spans.purge(time_ns())
    store.record([call(model="ours", cost=None, input_tokens=1_000_000)])
    telemetry.set_price("ours", input=1)
    telemetry.reprice()
    budgets.set("b", 50)
    assert [spend.spent for spend in budgets.spent("b")] == [4]


@pytest.mark.parametrize("limit", [10, 10.0, "10.00", Decimal("1E+1")])
def test_a_threshold_is_told_of_once_however_the_limit_is_written(store: Store, limit: Any) -> None:
    """Ten dollars are ten dollars."""
    spend(store, 6)
    for part in (0.5, "0.50"):
        budgets.set("b", limit, thresholds=[part])
        spend(store, 1)
    assert told() == [("b", None, "0.5")]


def test_a_budget_set_again_remembers_what_was_purged(store: Store) -> None:
    """What a hard budget has counted does not shrink with a restart; other periods stay as well."""
    budgets.set("b", 10, period="month")
    begin = budgets.list()[0].begin(time_ns())
    spend(store, 3, moment(begin - 10**9))
    spend(store, 6)
    store.spans.purge(time_ns())
    spend(store, 1)
    budgets.set("b", 20, period="month")
    assert [str(each.spent) for each in budgets.spent("b")] == ["7", "3"]


def test_a_user_of_any_name_has_a_budget(store: Store) -> None:
    """However long it is, and half a character too."""
    for user in ("x" * 5000, "a\ud800"):
        spend(store, 6, user=user)
        budgets.set("b", 10, user=user, thresholds=["0.5"])
        assert [str(spend.spent) for spend in budgets.spent("b")] == ["6"]


@pytest.mark.parametrize(("former", "scope"), [({}, {"user": "ada"}), ({"user": "ada"}, {"each": "user"})])
def test_a_budget_that_counts_otherwise_tells_anew(store: Store, former: dict[str, Any], scope: dict[str, Any]) -> None:
    """It is another budget, though of the same name."""
    spend(store, 6, user="ada")
    budgets.set("b", 10, **former)
    budgets.set("b", 10, **scope)
    assert told() == [("b", former.get("user"), "0.5"), ("b", "ada", "0.5")]


def test_a_new_period_is_told_of_anew(store: Store) -> None:
    """And everybody who has a budget of their own."""
    budgets.set("daily", 1, period="day", thresholds=[1])
    budgets.set("each", 3, each="user", thresholds=[1])
    for day in (1, 2, 2):
        for user in ("ada", "bob"):
            spend(store, 1, datetime(2026, 3, day, tzinfo=UTC), user=user)
    assert sorted(told(), key=str) == [
        ("daily", None, "1"),
        ("daily", None, "1"),
        ("each", "ada", "1"),
        ("each", "bob", "1"),
    ]
    periods = [event.data["period"] for event in events.list() if event.data.get("budget") == "daily"]
    assert periods == ["2026-03-01", "2026-03-02"]


def test_a_call_that_is_written_twice_is_spent_once(store: Store) -> None:
    """Spans may arrive again."""
    budgets.set("b", 10, thresholds=["0.1"])
    span = call(time_ns(), cost="1", cost_source="provider")
    store.record([span, span])
    store.record([span])
    assert spent("b") == [("", "", Decimal(1))]
    assert told() == [("b", None, "0.1")]


names = iter(range(1_000_000))


@settings(max_examples=25)
@given(
    amounts=st.lists(st.decimals("0", "4", places=12), min_size=1, max_size=12),
    thresholds=st.lists(st.decimals("0.01", "1.5", places=2), max_size=4, unique=True),
    size=st.integers(1, 12),
)
def test_whatever_is_spent_adds_up_and_is_told_once(
    store: Store, amounts: list[Decimal], thresholds: list[Decimal], size: int
) -> None:
    """In whatever batches it comes."""
    name = f"budget {next(names)}"
    budgets.set(name, 10, user=name, thresholds=thresholds)
    spans = [call(time_ns(), cost=amount, cost_source="provider", user=name) for amount in amounts]
    for at in range(0, len(spans), size):
        store.record(spans[at : at + size])

    total = sum(amounts)
    assert [entry.spent for entry in budgets.spent(name)] == ([total] if total else [])
    passed = [part for part in sorted(thresholds) if part * 10 <= total]
    assert [Decimal(part) for budget, _, part in told() if budget == name] == passed


def test_threads_and_processes_that_spend_at_once_tell_once(
    keeping: Store, upstream: Upstream, calling: Calling, tmp_path: Path
) -> None:
    """Every cent is counted, and every threshold told of by whoever passes it."""
    budgets.set("b", "2.5", thresholds=["0.1", "0.5", "1"])
    upstream.default = charging(0.1)
    caller = calling(SYNC)
    with ThreadPoolExecutor(5) as pool:
        threads = [pool.submit(caller.ask) for _ in range(20)]
        programs = pool.submit(run_together, SPENDER, [(upstream.url, "5")] * 2, cwd=tmp_path)
        for future in [*threads, programs]:
            future.result()

    assert spent("b") == [("", "", Decimal(3))]
    assert sorted(told()) == [("b", None, "0.1"), ("b", None, "0.5"), ("b", None, "1")]


# What is forgotten


@pytest.mark.parametrize(
    ("moment", "days", "months"),
    [
        (datetime(2026, 2, 28, 12, tzinfo=UTC), ["2026-03-01", "2026-02-28"], ["2026-03", "2026-02"]),
        (datetime(2026, 3, 1, tzinfo=UTC), ["2026-03-01"], ["2026-03"]),
        (datetime(2026, 4, 1, tzinfo=UTC), [], []),
    ],
    ids=str,
)
def test_purging_forgets_what_was_spent_in_periods_that_ended(
    store: Store, moment: datetime, days: list[str], months: list[str]
) -> None:
    """Before that moment; a period it lies in stays as it was, and so does what has no end."""
    budgets.set("days", 100, period="day")
    budgets.set("months", 100, period="month", each="user")
    budgets.set("total", 100)
    for amount, day in ((1, (3, 1)), (2, (2, 28)), (4, (2, 1))):
        spend(store, amount, datetime(2026, *day, tzinfo=UTC), user="ada")
    before = {name: spent(name) for name in ("days", "months", "total")}

    telemetry.purge(moment)

    assert spent("days") == [entry for entry in before["days"] if entry[0] in days]
    assert spent("months") == [entry for entry in before["months"] if entry[0] in months]
    assert spent("total") == before["total"] == [("", "", Decimal(7))]


# What is refused


@our_ways
def test_a_hard_budget_refuses_the_very_next_call(
    keeping: Store, upstream: Upstream, calling: Calling, way: Way
) -> None:
    """Before anything is sent; the span of that call says why."""
    budgets.set("b", 10, hard=True)
    upstream.will(charging(9.999), charging(0.001))
    caller = calling(way)
    assert [caller.ask().text for _ in range(2)] == ["Hello"] * 2

    for _ in range(2):
        with pytest.raises(BudgetExceededError, match=r"'b' is used up: \$10 of \$10 are spent"):
            caller.ask()

    assert len(upstream.requests) == 2
    spans = telemetry.query(status="error")
    assert [(span.error_type, span.cost, span.attributes["gen_ai.request.model"]) for span in spans] == [
        ("BudgetExceededError", None, "gpt-test")
    ] * 2


def test_what_another_process_spends_is_spent_here(
    keeping: Store, upstream: Upstream, calling: Calling, tmp_path: Path
) -> None:
    """Also if it leaves its spans for others to write."""
    caller = calling(SYNC)
    upstream.default = charging(1)
    budgets.set("b", 2, hard=True)
    caller.ask()
    run_together(SPENDER, [(upstream.url, "1")], cwd=tmp_path)

    with pytest.raises(BudgetExceededError):
        caller.ask()
    assert len(upstream.requests) == 2


def test_a_budget_that_was_used_up_elsewhere_refuses_the_first_call_of_a_process(
    store: Store, upstream: Upstream, tmp_path: Path
) -> None:
    """A new process looks before it asks."""
    spend(store, 1)
    budgets.set("b", 1, hard=True)
    done = run_program(SPENDER, cwd=tmp_path, env=ON, arguments=(upstream.url, "1"))
    assert "aistrale.exceptions.BudgetExceededError" in done.stderr
    assert upstream.requests == []


@pytest.mark.parametrize("scope", ["session", "user", "tag"])
def test_a_hard_budget_of_one_refuses_nobody_else(
    keeping: Store, upstream: Upstream, calling: Calling, scope: str
) -> None:
    """Neither another one, nor a call that is nobody's."""
    budgets.set("each", 1, each=scope, hard=True)  # type: ignore[arg-type]
    upstream.default = charging(1)
    client = calling(SYNC).client

    def ask(name: str) -> str:
        if scope == "session":
            return str(client.session(name).run("Hello"))
        return str(client.run("Hello", **({"tags": [name, "more"]} if scope == "tag" else {scope: name})))

    assert ask("ada") == "Hello"
    with pytest.raises(BudgetExceededError, match=f"of {scope} '(ada|more)'"):
        ask("ada")
    assert client.run("Hello").text == "Hello"
    if scope != "tag":
        assert ask("bob") == "Hello"


def test_a_used_up_day_is_over_tomorrow(keeping: Store, upstream: Upstream, calling: Calling) -> None:
    """What was spent yesterday refuses nothing today."""
    budgets.set("daily", 1, period="day", hard=True)
    spend(keeping, 5, datetime.now(UTC) - timedelta(days=1))
    assert calling(SYNC).ask("Hello").text == "Hello"


@pytest.mark.usefixtures("keeping")
def test_a_soft_budget_refuses_nothing(upstream: Upstream, calling: Calling) -> None:
    """However much is spent."""
    budgets.set("b", 1)
    upstream.default = charging(5)
    caller = calling(SYNC)
    assert [caller.ask().text for _ in range(3)] == ["Hello"] * 3
    assert len(told()) == 3


@pytest.mark.parametrize("change", [lambda: budgets.remove("b"), lambda: budgets.set("b", 2, hard=True)])
def test_a_budget_that_is_raised_or_removed_lets_calls_through(
    keeping: Store, upstream: Upstream, calling: Calling, change: Callable[[], object]
) -> None:
    """From the next one on."""
    budgets.set("b", 1, hard=True)
    spend(keeping, 1)
    caller = calling(SYNC)
    with pytest.raises(BudgetExceededError):
        caller.ask()
    change()
    assert caller.ask("Hello").text == "Hello"


@pytest.mark.usefixtures("keeping")
def test_embeddings_and_batches_are_refused_as_well(store: Store, upstream: Upstream, calling: Calling) -> None:
    """In a batch each is its own error."""
    budgets.set("b", 1, hard=True)
    spend(store, 1)
    client = calling(SYNC).client
    with pytest.raises(BudgetExceededError):
        client.embed("Hello", model="text-embedding-3-small")
    assert {type(result) for result in client.run_batch(["a", "b"])} == {BudgetExceededError}
    assert upstream.requests == []


def test_a_cached_answer_spends_nothing(keeping: Store, upstream: Upstream, calling: Calling) -> None:
    """It was paid for once."""
    budgets.set("b", 10)
    upstream.will(charging(1))
    caller = calling(SYNC, cache=True)
    assert [caller.ask().cached for _ in range(3)] == [False, True, True]
    assert spent("b") == [("", "", Decimal(1))]


@pytest.mark.usefixtures("keeping")
async def test_looking_at_budgets_keeps_no_event_loop_waiting(upstream: Upstream, keeping: Store) -> None:
    """A thread does it: the loop turns while the books are locked."""
    budgets.set("b", 10, hard=True)
    client = aistrale.AsyncClient(provider="openai", model="gpt-test", api_key="k", base_url=upstream.url)
    await client.run("Hello")
    with keeping.database.write():
        task = asyncio.create_task(client.run("Hello"))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not task.done()
    assert (await task).text == "Hello"
    await client.aclose()


def test_a_hard_budget_holds_while_others_write(keeping: Store, upstream: Upstream, calling: Calling) -> None:
    """However long: what they keep from the books is but the newest calls."""
    upstream.default = charging(1)
    budgets.set("b", 1, hard=True)
    caller = calling(SYNC)
    caller.ask()
    with pytest.raises(BudgetExceededError):
        caller.ask()

    with keeping.database.write():
        for _ in range(3):
            with pytest.raises(BudgetExceededError):
                caller.ask()
    with pytest.raises(BudgetExceededError):
        caller.ask()
    assert len(upstream.requests) == 1


def uncounted(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that calls are not counted."""
    said = [record.getMessage() for record in caplog.records if record.name == "aistrale"]
    return [message for message in said if "calls from here are not counted" in message]


@our_ways
def test_a_hard_budget_holds_where_no_books_are_kept(
    store: Store, upstream: Upstream, calling: Calling, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """By what others have counted: whoever set it learns once that calls from here are not."""
    budgets.set("b", 10, hard=True)
    upstream.default = charging(6)
    caller = calling(way, telemetry="otlp")
    assert [caller.ask().text for _ in range(2)] == ["Hello"] * 2
    (warning,) = uncounted(caplog)
    assert "AISTRALE_TELEMETRY=otlp keeps no books" in warning
    assert budgets.spent("b") == []

    spend(store, 10)
    with pytest.raises(BudgetExceededError, match=r"'b' is used up"):
        caller.ask()
    assert len(upstream.requests) == 2


def test_without_hard_budgets_nobody_is_told_that_calls_are_not_counted(
    store: Store, upstream: Upstream, calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """One that only tells is told by the books alone."""
    budgets.set("b", 10)
    assert calling(SYNC, telemetry="otlp").ask("Hello").text == "Hello"
    assert uncounted(caplog) == []


@on_sqlite
@pytest.mark.usefixtures("store")
def test_budgets_are_off_with_telemetry(upstream: Upstream, calling: Calling, store: Store) -> None:
    """As documented: then nothing is looked at."""
    budgets.set("b", 1, hard=True)
    spend(store, 1)
    assert calling(SYNC, telemetry="off").ask("Hello").text == "Hello"


def test_calls_that_are_not_counted_yet_are_told_of(
    keeping: Store, upstream: Upstream, calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """A hard budget that is checked while others keep the books from being written says so, once."""
    budgets.set("b", 10, hard=True)
    caller = calling(SYNC)
    caller.ask()
    with keeping.database.write():
        assert [caller.ask().text for _ in range(2)] == ["Hello"] * 2
    ours = [record.getMessage() for record in caplog.records if record.name == "aistrale"]
    assert len([message for message in ours if "budgets are checked without the latest calls" in message]) == 1
