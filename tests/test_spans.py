"""Spans in the books: they come out as they went in, are found, and add up whatever is done to them."""

import json
import math
import random
import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, replace
from decimal import Decimal
from fractions import Fraction
from secrets import token_hex
from typing import Any

import pytest
from books import counting_steps
from calls import HOUR, MOMENT, SECOND, add, call, ids, kept
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import on_sqlite
from sqlalchemy import Engine, event

from aistrale import telemetry
from aistrale.exceptions import InvalidRequestError
from aistrale.models import Usage
from aistrale.parsing import parse_json
from aistrale.prices import PriceBook
from aistrale.records import Percentiles, Summary, moment
from aistrale.spans import USAGE_ATTRIBUTES, Span, SpanEvent, from_json, to_json
from aistrale.store.encoding import encode
from aistrale.store.filters import SpanFilter
from aistrale.store.schema import to_picodollars
from aistrale.store.spans import CHUNK, position_of
from aistrale.store.store import Store
from aistrale.store.summaries import GROUPINGS
from aistrale.store.totals import Durations, bucket_of

on_books = settings(max_examples=25)
"""For tests that write what hypothesis makes up: each example adds to the same books."""

MINUTE = 60 * SECOND

NASTY = ["plain", "né✓😀", "a\0b", "\ud800", "%", "'; DROP TABLE spans; --", "\\x00", ""]

# What hypothesis makes up

texts = st.text(st.characters(), max_size=8).map(lambda text: json.loads(json.dumps(text)))  # no pairs of surrogates
floats = st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
named = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            (
                *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"),
                *("aistrale.surface", "session.id", "user.id", "error.type"),
            ),
            texts,
        ),
        **dict.fromkeys(USAGE_ATTRIBUTES.values(), st.integers(0, 2**53)),
        "aistrale.tags": st.lists(texts, max_size=3),
        "aistrale.cached": st.booleans(),
        "gen_ai.response.time_to_first_chunk": st.floats(0, 1e6),
    },
)
times = st.integers(0, 2**62)
spans = st.builds(
    lambda start, duration, more, names, cost, **fields: Span(
        token_hex(16),
        token_hex(8),
        start=start,
        end=start + duration,
        attributes={**more, **names},
        cost=None if cost is None else Decimal(cost).scaleb(-12),
        **fields,
    ),
    start=times,
    duration=st.integers(0, 10**15),
    more=st.dictionaries(texts, values, max_size=3),
    names=named,
    cost=st.none() | st.integers(0, 10**16),
    parent_id=st.none() | st.just("1" * 16),
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    kind=st.sampled_from(["internal", "client", "server", "producer", "consumer"]),
    status=st.sampled_from(["ok", "error"]),
    events=st.lists(st.builds(SpanEvent, texts, times, st.dictionaries(texts, values, max_size=2)), max_size=2).map(
        tuple
    ),
    cost_source=st.none() | st.sampled_from(["provider", "override", "table"]),
    price_version=st.none() | st.just("genai-prices 1"),
)


# In and out


@on_books
@given(batch=st.lists(spans, max_size=3))
def test_spans_come_out_as_they_went_in(store: Store, batch: list[Span]) -> None:
    """Any JSON, any text, any moment, and money to the picodollar."""
    assert add(store, batch) == batch
    for span in batch:
        assert span in store.spans.trace(span.trace_id)


@given(value=values | st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**30, 1e300, -0.0, [{"x": 2**70}]]))
def test_json_keeps_every_kind_of_number(value: object) -> None:
    """Whole ones whole, however large; by what they look like, for 2**70 == 2.0**70."""
    assert repr(parse_json(encode(value))) == repr(value)


@given(span=spans)
def test_a_line_of_json_holds_all_of_a_span(span: Span) -> None:
    """As spans wait for their database; nothing in it breaks the line."""
    line = to_json(span)
    assert from_json(line) == span
    assert line.isascii()
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("line", ["", "{}", "[]", "null", "7", '["a"]', to_json(call())[:-1]])
def test_what_is_no_span_is_refused(line: str) -> None:
    """By an error whoever reads such lines knows."""
    with pytest.raises((ValueError, TypeError)):
        from_json(line)


@pytest.mark.parametrize("cost", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_a_line_whose_cost_is_no_amount_is_no_span(cost: str) -> None:
    """Sums of it could not be kept."""
    line = json.dumps([cost if entry == "1" else entry for entry in json.loads(to_json(call(cost="1")))])
    with pytest.raises(ValueError, match="no span"):
        from_json(line)


def test_a_name_is_kept_as_far_as_databases_can(store: Store) -> None:
    """PostgreSQL has no NUL in a text, and neither has what is no character; attributes keep both."""
    span = call(model="a\0b\ud800c")
    add(store, [span])
    found = store.spans.trace(span.trace_id)[0]
    assert (found.name, found.model) == ("chat a\ufffdb?c", "a\0b\ud800c")


@pytest.mark.parametrize(
    "said",
    [
        {"input_tokens": 10**30, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": 2**63},
        {"input_tokens": 9 * 10**17, "output_tokens": 9 * 10**17},
        {"input_tokens": 1, "output_tokens": 1, "cost": Decimal(10**9), "cost_source": "provider"},
        {"input_tokens": 1, "output_tokens": 1, "cost": Decimal(900_000), "cost_source": "provider"},
    ],
    ids=["input", "output", "sum", "cost", "costs"],
)
def test_numbers_out_of_all_proportion_cost_no_other_span_its_place(store: Store, said: dict[str, Any]) -> None:
    """A provider may say anything; spans are written in batches, and a batch that fails waits for ever."""
    spans = [*(call(**said) for _ in range(30)), call()]
    store.record(spans)
    assert sorted(ids(kept(store))) == sorted(ids(spans))
    assert sum(group.calls for group in store.spans.summary("model", SpanFilter())) == 31
    assert sum(group.calls for group in store.spans.summary("user", SpanFilter())) == 31


def test_a_name_of_any_length_costs_no_other_span_its_place(store: Store) -> None:
    """Users name themselves; an index of PostgreSQL takes some 2,700 bytes. Each is still found by its own name."""
    names = ["".join(token_hex(4) for _ in range(1500)) for _ in range(2)]
    store.record([call(user=names[0], tags=[names[0]]), call(user=names[1], tags=[names[1]]), call()])
    for name in names:
        assert [span.user_id for span in telemetry.query(user=name)] == [name]
        assert [span.user_id for span in telemetry.query(tag=name)] == [name]
    assert len(telemetry.query()) == 3


def test_adding_again_adds_nothing(store: Store) -> None:
    """Senders repeat themselves: neither spans nor tags, sums nor events are there twice."""
    batch = [call(MOMENT + n, tags=["a", "b"], input_tokens=3, output_tokens=2) for n in range(5)]
    store.record(batch[:3])
    before = store.spans.summary("tag", SpanFilter()), store.spans.summary("hour", SpanFilter())
    store.record(batch[:3])
    assert (store.spans.summary("tag", SpanFilter()), store.spans.summary("hour", SpanFilter())) == before

    store.record([batch[4], *batch[1:], batch[3], replace(batch[0], name="another")])
    assert [span.name for span in kept(store)] == ["chat gpt-4o"] * 5
    assert {group.key: group.calls for group in store.spans.summary("tag", SpanFilter())} == {"a": 5, "b": 5}
    assert store.spans.summary("model", SpanFilter())[0].usage == Usage(15, 10)
    assert sorted(event.data["span_id"] for event in store.events.list()) == sorted(ids(batch))


def test_a_large_batch_adds_what_is_not_there_yet(store: Store) -> None:
    """Though it takes several questions to know."""
    batch = [call(MOMENT + n, tags=["a"], cost="0.5", cost_source="provider") for n in range(1200)]
    store.record(batch[::3])
    store.record(batch)
    store.record(batch)
    assert kept(store) == batch[::-1]
    for by in ("model", "tag"):
        (told,) = store.spans.summary(by, SpanFilter())
        assert (told.calls, told.cost) == (1200, Decimal(600))
    assert sorted(event.data["span_id"] for event in store.events.list(limit=10_000)) == sorted(ids(batch))


def test_a_span_is_known_by_both_its_ids(store: Store) -> None:
    """The same number in another trace is another span."""
    first, second = call(trace_id="a" * 32, span_id="1" * 16), call(trace_id="b" * 32, span_id="1" * 16)
    assert add(store, [first]) == [first]
    assert add(store, [first, second]) == [second]
    assert store.spans.trace("b" * 32) == [second]


# Found again

SESSIONS = [
    call(MOMENT, 1, session="s1", user="ada", tags=["nightly", "eu"], cost="0.5"),
    call(MOMENT + 1, 2, session="s1", user="bob", model="gpt-5", surface="cli", cost="1.5", error="Timeout"),
    call(MOMENT + HOUR, 3, session="s2", user="ada", provider="anthropic", model="claude", operation="embeddings"),
    call(MOMENT + 2 * HOUR, 0.25, tags=["nightly"], operation="execute_tool", model=None, provider=None, surface=None),
]

FILTERS: list[tuple[dict[str, Any], Callable[[Span], bool]]] = [
    ({}, lambda span: True),
    ({"since": MOMENT + 1}, lambda span: span.start >= MOMENT + 1),
    ({"until": MOMENT + HOUR}, lambda span: span.start < MOMENT + HOUR),
    ({"model": "gpt-5"}, lambda span: span.model == "gpt-5"),
    ({"provider": "openai"}, lambda span: span.provider == "openai"),
    ({"operation": "execute_tool"}, lambda span: span.operation == "execute_tool"),
    ({"surface": "cli"}, lambda span: span.surface == "cli"),
    ({"session": "s1"}, lambda span: span.session_id == "s1"),
    ({"user": "ada"}, lambda span: span.user_id == "ada"),
    ({"status": "error"}, lambda span: span.status == "error"),
    ({"tag": "nightly"}, lambda span: "nightly" in span.tags),
    ({"min_cost": Decimal("0.5")}, lambda span: (span.cost or 0) >= Decimal("0.5")),
    ({"min_latency": 2.0}, lambda span: span.latency >= 2),
    ({"calls_only": True}, lambda span: span.is_inference),
    ({"user": "ada", "tag": "nightly"}, lambda span: span.user_id == "ada" and "nightly" in span.tags),
    ({"session": "nobody"}, lambda span: False),
]


def test_a_filter_finds_what_it_says(store: Store) -> None:
    """All of that and nothing else, the newest first."""
    add(store, SESSIONS)
    for wanted, is_wanted in FILTERS:
        expected = [span for span in reversed(SESSIONS) if is_wanted(span)]
        assert (wanted, kept(store, **wanted)) == (wanted, expected)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_any_text_can_be_looked_for(store: Store, text: str) -> None:
    """What a span was recorded with finds it, and another does not."""
    names = ("model", "provider", "session", "user", "surface", "operation")
    span, other = call(tags=[text], **dict.fromkeys(names, text)), call(tags=["x"], **dict.fromkeys(names, "x"))
    add(store, [span, other])
    for name in (*names, "tag"):
        assert (name, ids(kept(store, **{name: text}))) == (name, [span.span_id])


def test_long_texts_of_many_bytes_can_be_looked_for(store: Store) -> None:
    """All of them together, and though they begin alike: an index holds less than three kilobytes."""
    rng = random.Random(7)
    names = ("model", "provider", "session", "user", "surface", "operation")
    texts = {name: "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(199)) for name in names}
    span, other = call(**texts), call(**{name: text[:-1] + "x" for name, text in texts.items()})
    add(store, [span, other])
    for name in names:
        assert (name, ids(kept(store, **{name: texts[name]}))) == (name, [span.span_id])


def nothing_or_little() -> list[tuple[dict[str, Any], int]]:
    """What none of `many_calls` is, or one, and how many are."""
    rare = {"model": "rare", "min_cost": Decimal(5), "min_latency": 60.0, "status": "error", "surface": "cli"}
    nowhere = {"model": "x", "min_cost": Decimal(6), "min_latency": 99.0, "provider": "x", "operation": "execute_tool"}
    asked: list[tuple[dict[str, Any], int]] = [({name: value}, 1) for name, value in rare.items()]
    asked += [({name: value, **whose}, 0) for name, value in nowhere.items() for whose in ({}, {"user": "ada"})]
    asked += [({"tag": "a", "model": "x"}, 0), ({"tag": "a", "model": "rare"}, 1), (rare, 1)]
    return [*asked, ({"model": "rare", "status": "ok"}, 0), ({"model": "gpt-4o", "min_cost": Decimal(5)}, 0)]


def many_calls(store: Store) -> int:
    """Ten hours of calls by one user, one of which is like none of the others."""
    calls = [call(MOMENT + n * 6 * SECOND, user="ada", tags=["a"], cost="0.01") for n in range(6000)]
    odd = {"model": "rare", "surface": "cli", "error": "Timeout", "cost": "5", "user": "ada", "tags": ["a"]}
    return len(add(store, [*calls, call(MOMENT + 3 * HOUR, 70, **odd)]))


@on_sqlite
def test_a_question_that_little_answers_does_not_read_it_all(store: Store) -> None:
    """Far fewer steps than there are spans, whatever it is that hardly any of them is."""
    number = many_calls(store)
    for wanted, found in nothing_or_little():
        with counting_steps(store) as steps:
            assert (wanted, len(kept(store, **wanted))) == (wanted, found)
        assert 100 * steps["hundreds"] < number, wanted


@on_sqlite
@pytest.mark.parametrize(
    "wanted", [{}, {"model": "gpt-4o"}, {"tag": "a"}, {"user": "ada", "min_latency": 0.5}], ids=str
)
def test_a_page_of_many_does_not_read_the_rest(store: Store, wanted: dict[str, Any]) -> None:
    """The newest are where it begins."""
    number = many_calls(store)
    with counting_steps(store) as steps:
        assert len(kept(store, 10, **wanted)) == 10
    assert 100 * steps["hundreds"] < number


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_asked_together_is_found_page_by_page(store: Store, seed: int) -> None:
    """All of it, and nothing else, in its order, whenever it was written."""
    rng = random.Random(seed)
    spans = made_up(rng, 300)
    for at in range(0, len(spans), 60):
        add(store, spans[at : at + 60])
    spans.sort(key=lambda span: (span.start, span.span_id, span.trace_id), reverse=True)
    for _ in range(20):
        wanted = dict(rng.sample(sorted(ASKED.items()), rng.randrange(1, 4)))
        wanted["since"], wanted["until"] = (MOMENT + rng.randrange(4 * HOUR) for _ in range(2))
        if wanted["until"] < wanted["since"]:
            del wanted["since"], wanted["until"]
        found: list[Span] = []
        while page := store.spans.find(SpanFilter(**wanted), 7, position_of(found[-1]) if found else None):
            found += page
        assert found == [span for span in spans if answers(span, SpanFilter(**wanted))]


ASKED = {
    "operation": "chat",
    "provider": "openai",
    "model": "gpt-4o",
    "surface": "sdk",
    "status": "error",
    "user": "ada",
    "tag": "b",
    "min_cost": Decimal(7),
    "min_latency": 3.0,
}


def answers(span: Span, wanted: SpanFilter) -> bool:
    names = ("operation", "provider", "model", "surface", "status")
    return (
        in_window(span, wanted)
        and all(getattr(wanted, name) in (None, getattr(span, name)) for name in names)
        and wanted.user in (None, span.user_id)
        and (wanted.tag is None or wanted.tag in span.tags)
        and (wanted.min_cost is None or (span.cost is not None and span.cost >= wanted.min_cost))
        and (wanted.min_latency is None or span.latency >= wanted.min_latency)
    )


def test_a_call_that_was_priced_anew_is_found_by_what_it_costs_now(store: Store) -> None:
    """Though nothing that dear was there when it was written."""
    store.record([call(MOMENT + n * HOUR, model="ours", cost=None, input_tokens=1_000_000) for n in range(3)])
    telemetry.set_price("ours", input=3)
    assert telemetry.query(min_cost=3) == []
    telemetry.reprice()
    assert len(telemetry.query(min_cost=3)) == 3
    assert telemetry.query(min_cost="3.01") == []


def walk(size: int, **filters: Any) -> list[Span]:
    """All spans, page by page."""
    page = telemetry.query(limit=size, **filters)
    walked = [*page]
    while page.next is not None:
        assert len(page) == size
        page = telemetry.query(limit=size, cursor=page.next, **filters)
        walked += page
    return walked


@on_books
@given(starts=st.lists(st.integers(0, 3), max_size=12), size=st.integers(1, 5))
def test_pages_show_every_span_once(store: Store, starts: list[int], size: int) -> None:
    """In their order, however many began at the same moment."""
    session = token_hex(8)
    batch = [call(MOMENT + start, session=session) for start in starts]
    add(store, batch)

    walked = walk(size, session=session)
    assert [span.start for span in walked] == sorted((span.start for span in batch), reverse=True)
    assert sorted(ids(walked)) == sorted(ids(batch))


def test_pages_show_spans_that_share_their_number_and_moment(store: Store) -> None:
    """Two traces may well have begun at once, each with a span 1."""
    traces = [f"{n:032x}" for n in range(1, 4)]
    add(store, [call(trace_id=trace, span_id="1" * 16) for trace in traces])
    assert sorted(span.trace_id for span in walk(1)) == traces


# Added up


def picked(rng: random.Random, choices: list[Any]) -> Any:
    return rng.choice(choices)


def made_up(rng: random.Random, number: int) -> list[Span]:
    """Calls of all kinds over four hours, and other spans among them."""
    return [
        call(
            MOMENT + rng.randrange(4 * HOUR),
            rng.lognormvariate(0, 2),
            operation=picked(rng, ["chat", "chat", "embeddings", "text_completion", "invoke_agent", "execute_tool"]),
            provider=picked(rng, ["openai", "gcp.gemini", None]),
            model=picked(rng, ["gpt-4o", "gpt-5", "gemini-2.5-pro", None]),
            surface=picked(rng, ["sdk", "cli", None]),
            session=picked(rng, ["s1", "s2", None]),
            user=picked(rng, ["ada", "bob", None]),
            tags=picked(rng, [["a"], ["a", "b", "a"], [], None]),
            cached=picked(rng, [True, False, None, None]),
            first_token=picked(rng, [rng.random(), None]),
            cost=picked(rng, [None, Decimal(rng.randrange(10**13)).scaleb(-12)]),
            **picked(rng, [{}, {}, {}, {"error": "Timeout"}]),
            **picked(rng, [{}, {name: rng.randrange(10**6) for name in USAGE_ATTRIBUTES}, {"input_tokens": 7}]),
        )
        for _ in range(number)
    ]


def in_window(span: Span, wanted: SpanFilter) -> bool:
    return (wanted.since is None or span.start >= wanted.since) and (wanted.until is None or span.start < wanted.until)


def keys_of(span: Span, by: str) -> set[str]:
    match by:
        case "tag":
            return set(span.tags)
        case "user" | "session":
            return {getattr(span, f"{by}_id") or ""}
        case "day":
            return {span.started.strftime("%Y-%m-%d")}
        case "hour":
            return {span.started.strftime("%Y-%m-%dT%H:00")}
        case _:
            return {getattr(span, by) or ""}


def percentiles(seconds: list[float]) -> Percentiles:
    """By nearest rank: the smallest that so many do not exceed."""
    ranked = sorted(seconds)
    return Percentiles(
        *(ranked[math.ceil(Fraction(part, 100) * len(ranked)) - 1] for part in (50, 95, 99)) if ranked else (None,) * 3
    )


def plainly(spans: Iterable[Span], by: str) -> list[Summary]:
    """A summary in plain Python."""
    groups: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        if span.operation in ("chat", "text_completion", "generate_content", "embeddings"):
            for key in keys_of(span, by):
                groups[key].append(span)
    listed = [
        Summary(
            key,
            len(group),
            sum(span.status == "error" for span in group),
            sum(span.cached for span in group),
            sum(span.cost is None and (span.status == "ok" or span.usage is not None) for span in group),
            sum((span.usage or Usage() for span in group), Usage()),
            sum((span.cost or Decimal(0) for span in group), Decimal(0)),
            percentiles([span.latency for span in group]),
            percentiles([span.time_to_first_token for span in group if span.time_to_first_token is not None]),
        )
        for key, group in groups.items()
    ]
    if by in ("hour", "day"):
        return sorted(listed, key=lambda summary: summary.key)
    return sorted(listed, key=lambda summary: (-summary.cost, -summary.calls, summary.key))


def nearly(exact: Percentiles) -> tuple[Any, ...]:
    """Within one percent."""
    return tuple(None if seconds is None else pytest.approx(seconds, rel=0.01) for seconds in astuple(exact))


def assert_add_up(store: Store, spans: list[Span], windows: list[SpanFilter]) -> None:
    """The books' summaries are those of plain Python, and those by the hour are those of span by span."""
    for wanted in windows:
        inside = [span for span in spans if in_window(span, wanted)]
        for by in GROUPINGS:
            told, expected = store.spans.summary(by, wanted), plainly(inside, by)
            assert [replace(s, latency=None, time_to_first_token=None) for s in told] == [
                replace(s, latency=None, time_to_first_token=None) for s in expected
            ]
            for ours, plain in zip(told, expected, strict=True):
                for field in ("latency", "time_to_first_token"):
                    assert astuple(getattr(ours, field)) == nearly(getattr(plain, field))
            assert told == store.spans.summary(by, replace(wanted, min_latency=0.0))


WINDOWS = {
    "all": SpanFilter(),
    "inside hours": SpanFilter(since=MOMENT + 17 * MINUTE, until=MOMENT + 3 * HOUR + 5 * MINUTE),
    "whole hours": SpanFilter(since=MOMENT + HOUR, until=MOMENT + 3 * HOUR),
    "one hour": SpanFilter(since=MOMENT + HOUR, until=MOMENT + 2 * HOUR),
    "inside one hour": SpanFilter(since=MOMENT + 10 * MINUTE, until=MOMENT + 50 * MINUTE),
    "around one full hour": SpanFilter(since=MOMENT + 30 * MINUTE, until=MOMENT + HOUR + 30 * MINUTE),
    "from": SpanFilter(since=MOMENT + 90 * MINUTE),
    "from the hour": SpanFilter(since=MOMENT + HOUR),
    "before": SpanFilter(until=MOMENT + 90 * MINUTE),
    "before the hour": SpanFilter(until=MOMENT + HOUR),
    "nothing": SpanFilter(since=MOMENT + HOUR, until=MOMENT + HOUR),
    "backwards": SpanFilter(since=MOMENT + 3 * HOUR, until=MOMENT + HOUR),
}


@pytest.mark.parametrize("seed", [1, 2])
def test_summaries_add_up(store: Store, seed: int) -> None:
    """By whatever, over whatever time: counts, tokens and money exactly, percentiles within one percent."""
    spans = made_up(random.Random(seed), 300)
    for at in range(0, 300, 100):
        add(store, spans[at : at + 100])
    assert_add_up(store, spans, list(WINDOWS.values()))


def test_summaries_add_up_after_repricing_and_purging(store: Store) -> None:
    """What is kept by the hour stays what the spans say."""
    rng = random.Random(3)
    spans = made_up(rng, 200)
    add(store, spans)

    telemetry.set_price("gpt-5", input="1.25", output=10, cache_read="0.125")
    telemetry.set_price("google/gemini-2.5-pro", input=0)
    book, changed = PriceBook(telemetry.prices()), 0
    for span in spans:
        if span.is_inference:
            cost, before = book.cost(span), (span.cost, span.cost_source, span.price_version)
            span.cost, span.cost_source, span.price_version = cost or (None, None, None)
            changed += before != (span.cost, span.cost_source, span.price_version)
    assert telemetry.reprice() == changed
    assert_add_up(store, spans, [WINDOWS["all"], WINDOWS["inside hours"]])

    middle = MOMENT + HOUR + 20 * MINUTE
    assert store.spans.purge(middle) == sum(span.start < middle for span in spans)
    spans = [span for span in spans if span.start >= middle]
    assert_add_up(store, spans, [WINDOWS["all"], WINDOWS["inside hours"]])
    assert kept(store) == sorted(spans, key=lambda span: (span.start, span.span_id), reverse=True)

    again = made_up(rng, 100)
    add(store, again)
    assert_add_up(store, [*spans, *again], [WINDOWS["all"], WINDOWS["before"]])

    store.spans.purge(MOMENT + 5 * HOUR)
    assert_add_up(store, [], [WINDOWS["all"]])
    with store.database.read() as connection:
        for table in ("spans", "span_tags", "span_hours", "span_peaks"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


@pytest.mark.parametrize(
    "wanted",
    [
        *({"provider": "openai"}, {"model": "gpt-5"}, {"surface": "cli"}, {"status": "error"}, {"operation": "chat"}),
        {"operation": "invoke_agent"},
        {"provider": "openai", "model": "gpt-4o", "status": "ok", "since": MOMENT + 10 * MINUTE},
    ],
    ids=lambda wanted: "-".join(map(str, wanted.values())),
)
def test_filtered_summaries_are_those_of_the_spans(store: Store, wanted: dict[str, Any]) -> None:
    """Added up by the hour, or span by span."""
    add(store, made_up(random.Random(4), 200))
    found = [span for span in kept(store, **wanted) if span.is_inference]
    for by in GROUPINGS:
        told = store.spans.summary(by, SpanFilter(**wanted))
        assert told == store.spans.summary(by, SpanFilter(**wanted, min_latency=0.0))
        if by != "tag":
            assert sum(group.calls for group in told) == len(found)


def test_a_day_holds_its_hours(store: Store) -> None:
    """In UTC."""
    add(store, [call(MOMENT + n * HOUR) for n in range(-11, 15)])
    days = {group.key: group.calls for group in store.spans.summary("day", SpanFilter())}
    assert days == {"2026-02-28": 1, "2026-03-01": 24, "2026-03-02": 1}
    assert [group.key for group in store.spans.summary("hour", SpanFilter(until=MOMENT - 9 * HOUR))] == [
        "2026-02-28T23:00",
        "2026-03-01T00:00",
    ]


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "retrieval", "invoke_workflow", None])
def test_only_what_asks_a_model_is_counted(store: Store, operation: str | None) -> None:
    """An agent has its calls below it: with its own usage and cost, they would count twice."""
    tokens = {"input_tokens": 3, "output_tokens": 2}
    agent = call(operation=operation, cost="9", **tokens)
    asked = [call(trace_id=agent.trace_id, parent_id=agent.span_id, cost="0.5", **tokens) for _ in range(2)]
    add(store, [agent, *asked])
    (told,) = store.spans.summary("model", SpanFilter())
    assert (told.calls, told.cost, told.usage) == (2, Decimal(1), Usage(6, 4))


def test_what_failed_at_once_is_not_unpriced(store: Store) -> None:
    """Nobody bills it; one that failed after it had used tokens may well be billed."""
    add(store, [call(error="Timeout"), call(error="Timeout", input_tokens=5, output_tokens=0), call(input_tokens=5)])
    (told,) = store.spans.summary("model", SpanFilter())
    assert (told.calls, told.errors, told.unpriced) == (3, 2, 2)


def test_a_summary_by_something_else_is_refused(store: Store) -> None:
    """With what there is."""
    with pytest.raises(InvalidRequestError) as caught:
        store.spans.summary("colour", SpanFilter())
    assert str(caught.value) == (
        "by must be one of surface, operation, provider, model, status, hour, day, user, session, tag, not 'colour'"
    )


@pytest.mark.parametrize("older", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_purging_forgets_all_that_is_older(store: Store, older: int) -> None:
    """However many transactions it takes; what began at that very moment stays."""
    before = [call(MOMENT + n * SECOND // 2, tags=["a"] * (n % 100 == 0), cost="0.001") for n in range(older)]
    cut = MOMENT + older * SECOND // 2
    after = [call(cut + n * HOUR, tags=["a"], cost="1") for n in range(3)]
    add(store, [*after, *before])

    assert store.spans.purge(cut) == older
    assert kept(store) == after[::-1]
    assert sum(group.calls for group in store.spans.summary("model", SpanFilter())) == 3
    assert [(group.calls, group.cost) for group in store.spans.summary("tag", SpanFilter())] == [(3, Decimal(3))]
    assert store.spans.purge(cut) == 0


# As a tree


def shape(roots: list[telemetry.TraceNode]) -> list[tuple[int, str]]:
    return [(depth, span.span_id[-1]) for root in roots for depth, span in root.walk()]


def family(**parents: str | None) -> list[Span]:
    """Spans of one trace by the last digit of their ids, each begun after the one before it."""
    return [
        call(
            MOMENT + n,
            trace_id="a" * 32,
            span_id=name[-1].rjust(16, "0"),
            parent_id=parent and parent.rjust(16, "0"),
        )
        for n, (name, parent) in enumerate(parents.items())
    ]


def test_a_trace_is_a_tree_by_start(store: Store) -> None:
    """Whoever began first comes first, whenever it was written."""
    spans = family(_1=None, _2="1", _3="2", _4="1", _5="2")
    add(store, [*spans[3:], call(), *spans[:3]])
    assert shape(telemetry.trace("a" * 32)) == [(0, "1"), (1, "2"), (2, "3"), (2, "5"), (1, "4")]


def test_orphans_are_roots(store: Store) -> None:
    """Their parents were recorded elsewhere, are not over yet, or came to the books in another trace."""
    add(store, [*family(_1="9", _2="1", _3=None, _4="8"), call(span_id="8".rjust(16, "0"))])
    assert shape(telemetry.trace("a" * 32)) == [(0, "1"), (1, "2"), (0, "3"), (0, "4")]


@pytest.mark.parametrize(
    "parents",
    [{"_1": "1"}, {"_1": "2", "_2": "1"}, {"_1": None, "_2": "4", "_3": "2", "_4": "3", "_5": "3"}],
    ids=["itself", "each other", "three in a ring"],
)
def test_every_span_of_a_trace_is_in_the_tree_once(store: Store, parents: dict[str, str | None]) -> None:
    """Even where senders made of it what is no tree."""
    add(store, family(**parents))
    assert sorted(name for _, name in shape(telemetry.trace("a" * 32))) == sorted(name[1:] for name in parents)


@pytest.mark.usefixtures("store")
def test_an_unknown_trace_is_empty() -> None:
    """And no error: its spans may be on their way."""
    assert telemetry.trace("f" * 32) == []


def test_a_trace_may_be_deeper_than_python_calls(store: Store) -> None:
    """A span below a span, three thousand times."""
    spans = [call(MOMENT + n, trace_id="a" * 32, span_id=f"{n:016x}", parent_id=f"{n - 1:016x}") for n in range(3000)]
    add(store, spans)
    (root,) = telemetry.trace("a" * 32)
    assert list(root.walk()) == list(enumerate(spans))


# Percentiles


_COUNTS = st.dictionaries(st.integers(0, 1505), st.integers(1, 2**31 - 1))


def encoded(counts: dict[int, int]) -> bytes:
    """The first bucket, two bytes, and the counts from there to the last, four each."""
    if not counts:
        return bytes(2)
    first, last = min(counts), max(counts)
    return struct.pack(f"<H{last - first + 1}I", first, *(counts.get(bucket, 0) for bucket in range(first, last + 1)))


@given(_COUNTS)
def test_durations_are_encoded_as_they_were_decoded(counts: dict[int, int]) -> None:
    """Nothing before the first or after the last that occurred takes room."""
    assert Durations.decode(encoded(counts)).encode() == encoded(counts)


@given(st.lists(st.integers(0, 1505), max_size=50), st.integers(0, 1505))
def test_durations_are_counted_one_by_one(buckets: list[int], last: int) -> None:
    """Looked at in between or not, and however many there are."""
    durations = Durations(buckets)
    assert durations.encode() == encoded(Counter(buckets))
    for _ in range(5000):
        durations.count(last)
    assert durations.encode() == encoded(Counter(buckets) + Counter({last: 5000}))


@given(_COUNTS, _COUNTS)
def test_durations_are_added_up_and_taken_apart(some: dict[int, int], others: dict[int, int]) -> None:
    """Each bucket by itself."""
    both = Durations.decode(encoded(some))
    both.add(Durations.decode(encoded(others)), 1)
    assert both.encode() == encoded(Counter(some) + Counter(others))
    both.add(Durations.decode(encoded(others)), -1)
    assert both.encode() == encoded(some)


@given(st.lists(st.integers(1001, 10**14), min_size=1), st.integers(1, 100))
def test_percentiles_are_within_one_percent(nanoseconds: list[int], percent: int) -> None:
    """Of the duration that so many in a hundred do not exceed, from a microsecond to a day."""
    exact = sorted(nanoseconds)[math.ceil(Fraction(percent, 100) * len(nanoseconds)) - 1] / 1e9
    told = Durations(map(bucket_of, nanoseconds)).percentile(percent / 100)
    assert told == pytest.approx(exact, rel=0.01)


@given(st.integers(-(10**18), 10**30))
def test_any_duration_has_a_bucket(nanoseconds: int) -> None:
    """None is so short or so long that it could not be kept."""
    durations = Durations([bucket_of(nanoseconds)])
    assert Durations.decode(durations.encode()) == durations


def test_no_durations_have_no_percentiles() -> None:
    """Which is not zero."""
    assert Durations().percentile(0.5) is None


@given(st.integers(0, 2**63 - 1))
def test_money_is_whole_picodollars(picodollars: int) -> None:
    """Any that fit a database's integer, and back."""
    dollars = Decimal(picodollars).scaleb(-12)
    assert to_picodollars(dollars) == picodollars


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_older_sqlite_has_fewer_parameters(store: Store) -> None:
    """999 of one statement, which all that is written, priced anew and purged keeps to."""

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)

    event.listen(Engine, "connect", limit)
    try:
        batch = [call(MOMENT + n, tags=["a", "b", "c"], input_tokens=1_000_000) for n in range(1200)]
        assert len(store.record(batch, announce=False)) == 0
        store.record(batch)
        telemetry.set_price("gpt-4o", input=1)
        assert telemetry.reprice(tag="a") == 1200
        assert store.purge(MOMENT + 1000) == 1000
    finally:
        event.remove(Engine, "connect", limit)
    assert len(kept(store)) == 200


def test_moments_are_told_to_the_microsecond() -> None:
    """In UTC."""
    assert moment(MOMENT + 1_234_567).isoformat() == "2026-03-01T10:00:00.001234+00:00"


def test_sums_that_lack_something_are_taken_from_as_far_as_they_have_it(store: Store) -> None:
    """Histograms that were emptied, and counts that were not, are no reason to fail."""
    add(store, [call(MOMENT + n, 1.0 + n) for n in range(10)])
    with store.database.write() as connection:
        nothing = "x'0000'" if store.database.is_sqlite else r"'\x0000'"
        connection.exec_driver_sql(f"UPDATE span_hours SET latencies = {nothing}, first_tokens = {nothing}")
    add(store, [call(MOMENT + 100, 3.0)])

    assert store.purge(MOMENT + 5) == 5
    telemetry.set_price("gpt-test", input=1, output=1)
    telemetry.reprice()
    (total,) = telemetry.summary()
    assert total.calls == 6
