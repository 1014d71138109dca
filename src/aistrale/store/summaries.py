"""Calls added up, by hour as they come and by whatever is asked for.

The sums of each hour (table `span_hours`) are kept in the transaction that writes, reprices or purges the
spans they are of, so that a summary over months reads a few thousand rows and agrees with the spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, bindparam, delete, select, type_coerce

from aistrale.exceptions import InvalidRequestError
from aistrale.records import Percentiles, Summary, moment
from aistrale.spans import INFERENCE
from aistrale.store.database import insert_many
from aistrale.store.filters import SpanFilter, as_text, conditions_of
from aistrale.store.schema import span_hours, span_tags, spans, to_dollars
from aistrale.store.totals import COUNTED_COLUMNS, COUNTS, Durations, Totals
from aistrale.usage import Usage

HOUR = 3600 * 10**9

_DIMENSIONS = ("surface", "operation", "provider", "model", "status")
_HOURLY = (*_DIMENSIONS, "hour", "day")
"""What hourly sums can be told apart by."""

GROUPINGS = (*_HOURLY, "user", "session", "tag")


def summary(connection: Connection, by: str, filter: SpanFilter) -> list[Summary]:
    """Calls added up for each value of `by`, one of GROUPINGS; times by their order, all else the dearest first."""
    if by not in GROUPINGS:
        raise InvalidRequestError(f"by must be one of {', '.join(GROUPINGS)}, not {by!r}")
    groups: dict[str, _Group] = {}
    if by in _HOURLY and filter.fits_hours:
        for part in _around_hours(filter):
            _add_spans(groups, connection, by, part)
        _add_sums(groups, connection, by, filter)
    else:
        _add_spans(groups, connection, by, filter)
    listed = [_summary(key, group) for key, group in groups.items()]
    if by in ("hour", "day"):
        return sorted(listed, key=lambda entry: entry.key)
    return sorted(listed, key=lambda entry: (entry.cost.copy_negate(), -entry.calls, entry.key))


class _Group(Totals):
    """The sums of one line of a summary."""

    __slots__ = ("errors",)

    def __init__(self) -> None:
        super().__init__()
        self.errors = 0


_dimensions_of = attrgetter(*_DIMENSIONS)


def add_to_hours(connection: Connection, rows: Iterable[Any], sign: int = 1) -> None:
    """Bring the hourly sums up to rows that were written, or with sign -1 deleted."""
    added: dict[tuple[int, tuple[str | None, ...]], Totals] = {}
    for row in rows:
        if row.operation in INFERENCE:
            of = row.start_time // HOUR, _dimensions_of(row)
            totals = added.get(of)
            if totals is None:
                totals = added[of] = Totals()
            totals.add_span(row)
    changes: dict[tuple[Any, ...], Totals] = {}
    for (hour, names), totals in added.items():
        changes.setdefault((hour * HOUR, *[value or "" for value in names]), Totals()).add(totals)
    if not changes:
        return
    outdated = []
    for row in connection.execute(_SUMS.where(span_hours.c.hour.in_({key[0] for key in changes}))):
        key = (row.hour, *(getattr(row, name) for name in _DIMENSIONS))
        if (change := changes.get(key)) is not None:
            totals = changes[key] = _totals(row)
            totals.add(change, sign)
            outdated.append(dict(zip(_KEY_NAMES, key, strict=True)))
    if outdated:
        connection.execute(_FORGET, outdated)
    insert_many(connection, span_hours, [(*key, *_values(totals)) for key, totals in changes.items() if totals.calls])


_SUMS = select(
    *(type_coerce(column, BigInteger).label("cost") if column.name == "cost" else column for column in span_hours.c)
)
"""All of `span_hours`, money as whole picodollars."""

_KEY_NAMES = tuple(f"key_{column.name}" for column in span_hours.primary_key)
_FORGET = delete(span_hours).where(
    *(column == bindparam(name) for column, name in zip(span_hours.primary_key, _KEY_NAMES, strict=True))
)


def _values(totals: Totals) -> tuple[Any, ...]:
    """Sums as the drivers take them, in the order of the table's columns after its key."""
    counts = (getattr(totals, name) for name in COUNTS)
    return (*counts, totals.cost, totals.latencies.encode(), totals.first_tokens.encode())


def _totals(row: Any) -> Totals:
    counts = {name: getattr(row, name) for name in (*COUNTS, "cost")}
    return Totals(**counts, latencies=Durations.decode(row.latencies), first_tokens=Durations.decode(row.first_tokens))


def _around_hours(filter: SpanFilter) -> Iterator[SpanFilter]:
    """The parts of a time span that are no whole hours."""
    since, until = filter.since, filter.until
    first, last = _whole_hours(filter)
    if last is not None and first is not None and first >= last:
        yield filter
        return
    if since is not None and first != since:
        yield replace(filter, until=first)
    if until is not None and last != until:
        yield replace(filter, since=last)


def _whole_hours(filter: SpanFilter) -> tuple[int | None, int | None]:
    """The first and the end of the whole hours in a time span; None where it is open."""
    first = None if filter.since is None else -(-filter.since // HOUR) * HOUR
    last = None if filter.until is None else filter.until // HOUR * HOUR
    return first, last


def _add_sums(groups: dict[str, _Group], connection: Connection, by: str, filter: SpanFilter) -> None:
    """Add the sums of the whole hours."""
    first, last = _whole_hours(filter)
    table = span_hours.c
    wanted = [(column, getattr(filter, column.name)) for column in map(table.get, _DIMENSIONS) if column is not None]
    conditions = [column == as_text(value) for column, value in wanted if value is not None]
    if first is not None:
        conditions.append(table.hour >= first)
    if last is not None:
        conditions.append(table.hour < last)
    for row in connection.execute(_SUMS.where(*conditions)):
        key = row.hour if by in ("day", "hour") else getattr(row, by)
        group = groups.setdefault(_name(by, key), _Group())
        totals = _totals(row)
        group.add(totals)
        group.errors += totals.calls if row.status == "error" else 0


def _add_spans(groups: dict[str, _Group], connection: Connection, by: str, filter: SpanFilter) -> None:
    """Add the sums of spans, one by one."""
    query = select(_KEYS.get(by, spans.c.start_time).label("key"), *_COUNTED)
    query = query.where(*conditions_of(replace(filter, calls_only=True)))
    if by == "tag":
        tagged = and_(span_tags.c.trace_id == spans.c.trace_id, span_tags.c.span_id == spans.c.span_id)
        query = query.join(span_tags, tagged)
    for row in connection.execute(query):
        group = groups.setdefault(_name(by, row.key), _Group())
        group.add_span(row)
        group.errors += row.status == "error"


_KEYS: dict[str, ColumnElement[Any]] = {
    "surface": spans.c.surface,
    "operation": spans.c.operation,
    "provider": spans.c.provider,
    "model": spans.c.model,
    "status": spans.c.status,
    "user": spans.c.user_id,
    "session": spans.c.session_id,
    "tag": span_tags.c.tag,
}
"""What spans are told apart by; for days and hours it is their start."""

_COUNTED = (
    *(spans.c[name] for name in ("status", "duration", "first_token", *COUNTED_COLUMNS)),
    type_coerce(spans.c.cost, BigInteger).label("cost"),
)
"""What sums need of a span, money as whole picodollars."""

OF_HOURS = (*(spans.c[name] for name in ("start_time", *_DIMENSIONS) if name != "status"), *_COUNTED)
"""What hourly sums need of a span."""


def _name(by: str, key: Any) -> str:
    match by:
        case "day":
            return f"{moment(key):%Y-%m-%d}"
        case "hour":
            return f"{moment(key):%Y-%m-%dT%H:00}"
        case _:
            return key or ""


def _summary(key: str, group: _Group) -> Summary:
    usage = Usage(*(getattr(group, field.name) for field in fields(Usage)))
    counts = (group.calls, group.errors, group.cached, group.unpriced)
    times = (Percentiles(*map(d.percentile, (0.5, 0.95, 0.99))) for d in (group.latencies, group.first_tokens))
    return Summary(key, *counts, usage, to_dollars(group.cost), *times)
