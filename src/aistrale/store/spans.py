"""Spans: written in batches, found by what they were, added up by hour as they come.

The sums of each hour (table `span_hours`) are kept in the transaction that writes, reprices or purges the
spans they are of, so that a summary over months reads a few thousand rows and agrees with the spans.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, and_, delete, select, tuple_, type_coerce, update

from aistrale.exceptions import InvalidRequestError
from aistrale.models import Usage
from aistrale.records import Percentiles, Summary, moment
from aistrale.spans import INFERENCE, USAGE_ATTRIBUTES, Span, decode_events, encode, encode_events
from aistrale.store.database import Database, insert_many
from aistrale.store.schema import rounded, span_hours, span_tags, spans, to_dollars, to_picodollars
from aistrale.store.totals import COUNTS, Durations, Totals

HOUR = 3600 * 10**9
CHUNK = 5000
"""Rows that one transaction purges or reprices, so that writers never wait long."""

Key: TypeAlias = tuple[str, str]
"""A trace id and a span id."""

Position: TypeAlias = tuple[int, str, str]
"""Where a span stands in the order of time: its start, its id, and its trace's."""

_DIMENSIONS = ("surface", "operation", "provider", "model", "status")
_OF_HOURS = (*_DIMENSIONS, "hour", "day")
"""What hourly sums can be told apart by."""

GROUPINGS = (*_OF_HOURS, "user", "session", "tag")


@dataclass(frozen=True, slots=True)
class SpanFilter:
    """Which spans: those for which all of this is so.

    since, until: started then or later, and before; nanoseconds since 1970. min_cost: US dollars at least.
    min_latency: seconds at least. calls_only: only spans that asked a model.
    """

    since: int | None = None
    until: int | None = None
    model: str | None = None
    provider: str | None = None
    operation: str | None = None
    surface: str | None = None
    session: str | None = None
    user: str | None = None
    status: str | None = None
    tag: str | None = None
    min_cost: Decimal | None = None
    min_latency: float | None = None
    calls_only: bool = False

    @property
    def fits_hours(self) -> bool:
        """Whether hourly sums can tell what it selects."""
        return all(getattr(self, name) is None for name in ("session", "user", "tag", "min_cost", "min_latency"))


def position_of(span: Span) -> Position:
    """Where a span stands in the order of time."""
    return span.start, span.span_id, span.trace_id


_POSITION = (spans.c.start_time, spans.c.span_id, spans.c.trace_id)


class SpanStore:
    """Every method raises StoreError if the database cannot do it, and then has changed nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Writing

    def add(self, connection: Connection, batch: Iterable[Span]) -> list[Span]:
        """Write spans in the caller's transaction; the result is those that were not there yet."""
        unseen = {(span.trace_id, span.span_id): span for span in batch}
        for key in _present(connection, unseen):
            unseen.pop(key, None)
        added = list(unseen.values())
        rows = [_row(span) for span in added]
        insert_many(connection, spans, rows)
        insert_many(
            connection,
            span_tags,
            [(_text(tag), s.start, s.trace_id, s.span_id) for s in added for tag in sorted(set(s.tags))],
        )
        _add_hours(connection, map(_Row._make, rows))
        return added

    def reprice(self, after: Position, costs: Any, filter: SpanFilter) -> tuple[int, Position | None]:
        """Price the next CHUNK of calls again, in the order of time; a cursor leads from chunk to chunk.

        `costs` says for a span its Cost, or None. Returns how many changed, and the next cursor, None at the end.
        """
        position = tuple_(*_POSITION) > tuple_(*after)
        query = (
            select(spans)
            .where(position, spans.c.operation.in_(INFERENCE), *_conditions(filter))
            .order_by(*_POSITION)
            .limit(CHUNK)
        )
        changed = 0
        with self._database.write() as connection:
            rows = connection.execute(query).all()
            before, now = [], []
            for row in rows:
                span = _span(row)
                cost = costs(span)
                new = (cost and rounded(cost.amount), cost and cost.source, cost and cost.version)
                if new == (span.cost, span.cost_source, span.price_version):
                    continue
                changed += 1
                connection.execute(
                    update(spans)
                    .where(spans.c.trace_id == span.trace_id, spans.c.span_id == span.span_id)
                    .values(cost=new[0], cost_source=new[1], price_version=new[2])
                )
                before.append(_Row._make(_row(span)))
                span.cost, span.cost_source, span.price_version = new
                now.append(_Row._make(_row(span)))
            _add_hours(connection, before, sign=-1)
            _add_hours(connection, now)
        end = position_of(_span(rows[-1])) if len(rows) == CHUNK else None
        return changed, end

    def purge(self, before: int) -> int:
        """Forget the spans that started before then, the oldest first; returns how many."""
        purged = 0
        while True:
            with self._database.write() as connection:
                oldest = select(spans).where(spans.c.start_time < before).order_by(spans.c.start_time).limit(CHUNK)
                rows = connection.execute(oldest).all()
                for table in (spans, span_tags) if rows else ():
                    key = tuple_(table.c.trace_id, table.c.span_id)
                    for some in _in_slices([(row.trace_id, row.span_id) for row in rows]):
                        connection.execute(delete(table).where(key.in_(some)))
                _add_hours(connection, [_Row._make(_row(_span(row))) for row in rows], sign=-1)
            purged += len(rows)
            if len(rows) < CHUNK:
                return purged

    # Reading

    def find(self, filter: SpanFilter, limit: int, after: Position | None = None) -> list[Span]:
        """Spans, the newest first; those after a position in that order."""
        query = select(spans).where(*_conditions(filter))
        if after is not None:
            query = query.where(tuple_(*_POSITION) < tuple_(*after))
        query = query.order_by(*(column.desc() for column in _POSITION)).limit(limit)
        with self._database.read() as connection:
            return [_span(row) for row in connection.execute(query)]

    def trace(self, trace_id: str) -> list[Span]:
        """All spans of a trace, by their start."""
        query = select(spans).where(spans.c.trace_id == trace_id).order_by(spans.c.start_time, spans.c.span_id)
        with self._database.read() as connection:
            return [_span(row) for row in connection.execute(query)]

    def summary(self, by: str, filter: SpanFilter) -> list[Summary]:
        """Calls added up for each value of `by`, one of GROUPINGS; times by their order, all else the dearest first."""
        if by not in GROUPINGS:
            raise InvalidRequestError(f"by must be one of {', '.join(GROUPINGS)}, not {by!r}")
        groups: dict[str, _Group] = {}
        with self._database.read() as connection:
            if by in _OF_HOURS and filter.fits_hours:
                for part in _around_hours(filter):
                    _add_spans(groups, connection, by, part)
                _add_sums(groups, connection, by, filter)
            else:
                _add_spans(groups, connection, by, filter)
        listed = [_summary(key, group) for key, group in groups.items()]
        if by in ("hour", "day"):
            return sorted(listed, key=lambda entry: entry.key)
        return sorted(listed, key=lambda entry: (-entry.cost, -entry.calls, entry.key))


# Rows

_LARGEST = 2**63 // 10

_Row = namedtuple("_Row", spans.columns.keys())  # type: ignore[misc]
"""A row of `spans` as the drivers take it."""


def _row(span: Span) -> tuple[Any, ...]:
    """A span as the drivers take it, in the order of the table's columns."""
    tokens = [_count(span.attributes.get(name)) for name in USAGE_ATTRIBUTES.values()]
    first = span.time_to_first_token
    return (
        *(span.trace_id, span.span_id, span.parent_id, _text(span.name), span.kind),
        *(span.start, span.end - span.start, span.status),
        *map(_text, (span.error_type, span.surface, span.operation, span.provider, span.model)),
        *map(_text, (span.response_model, span.session_id, span.user_id)),
        span.cached,
        *tokens,
        None if first is None else _count(round(first * 1e9)),
        None if span.cost is None else _count(to_picodollars(span.cost)),
        *(span.cost_source, span.price_version),
        *(encode(span.attributes), encode_events(span.events)),
    )


def _count(value: Any) -> int | None:
    """A number as any database can hold it, and sums of some; None for one that cannot be meant."""
    return value if type(value) is int and 0 <= value < _LARGEST else None


def _text(value: Any) -> str | None:
    """A text as any database can hold it: neither NUL nor lone surrogates. The attributes keep the true one."""
    if value is None:
        return None
    if type(value) is str and value.isascii() and "\0" not in value:
        return value
    return str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _span(row: Row[Any]) -> Span:
    return Span(
        trace_id=row.trace_id,
        span_id=row.span_id,
        name=row.name,
        start=row.start_time,
        end=row.start_time + row.duration,
        parent_id=row.parent_id,
        kind=row.kind,
        status=row.status,
        attributes=json.loads(row.attributes),
        events=decode_events(row.events),
        cost=row.cost,
        cost_source=row.cost_source,
        price_version=row.price_version,
    )


def _present(connection: Connection, keys: Mapping[Key, Any]) -> Iterator[Key]:
    """Those of the keys that are in the database."""
    query = select(spans.c.trace_id, spans.c.span_id)
    for some in _in_slices(list(dict.fromkeys(trace for trace, _ in keys))):
        for row in connection.execute(query.where(spans.c.trace_id.in_(some))):
            yield row.trace_id, row.span_id


def _in_slices(values: Sequence[Any], size: int = 500) -> Iterator[Sequence[Any]]:
    """Databases take so many parameters at once, and no more."""
    return (values[at : at + size] for at in range(0, len(values), size))


def _conditions(filter: SpanFilter) -> Iterator[ColumnElement[bool]]:
    table = spans.c
    if filter.since is not None:
        yield table.start_time >= filter.since
    if filter.until is not None:
        yield table.start_time < filter.until
    for column, value in (
        (table.model, filter.model),
        (table.provider, filter.provider),
        (table.operation, filter.operation),
        (table.surface, filter.surface),
        (table.session_id, filter.session),
        (table.user_id, filter.user),
        (table.status, filter.status),
    ):
        if value is not None:
            yield column == _text(value)
    if filter.min_cost is not None:
        yield table.cost >= filter.min_cost
    if filter.min_latency is not None:
        yield table.duration >= round(filter.min_latency * 1e9)
    if filter.calls_only:
        yield table.operation.in_(INFERENCE)
    if filter.tag is not None:
        tagged = select(span_tags.c.trace_id, span_tags.c.span_id).where(span_tags.c.tag == _text(filter.tag))
        yield tuple_(table.trace_id, table.span_id).in_(tagged)


# Sums


_COUNTED = [
    type_coerce(column, BigInteger).label("cost") if column.name == "cost" else column
    for column in spans.columns
    if column.name not in ("attributes", "events")
]
"""What sums need of a span, money as whole picodollars."""


class _Group(Totals):
    """The sums of one line of a summary."""

    __slots__ = ("errors",)

    def __init__(self) -> None:
        super().__init__()
        self.errors = 0


def _hour_key(row: Any) -> tuple[Any, ...]:
    return (row.start_time // HOUR * HOUR, *(getattr(row, name) or "" for name in _DIMENSIONS))


def _add_hours(connection: Connection, rows: Iterable[Any], sign: int = 1) -> None:
    """Bring the hourly sums up to rows that were written, or with sign -1 deleted."""
    changes: dict[tuple[Any, ...], Totals] = {}
    for row in rows:
        if row.operation in INFERENCE:
            changes.setdefault(_hour_key(row), Totals()).add_span(row)
    if not changes:
        return
    kept = connection.execute(select(span_hours).where(span_hours.c.hour.in_({key[0] for key in changes})))
    stored = {(row.hour, *(getattr(row, name) for name in _DIMENSIONS)): _totals(row) for row in kept}
    fresh = []
    for key, change in changes.items():
        totals = stored.get(key)
        if totals is None:
            fresh.append((*key, *_values(change)))
            continue
        totals.add(change, sign)
        where = and_(*(column == value for column, value in zip(span_hours.primary_key, key, strict=True)))
        if totals.calls:
            values = dict(zip(span_hours.columns.keys()[len(key) :], _values(totals), strict=True))
            connection.execute(update(span_hours).where(where).values({**values, "cost": to_dollars(totals.cost)}))
        else:
            connection.execute(delete(span_hours).where(where))
    insert_many(connection, span_hours, fresh)


def _values(totals: Totals) -> tuple[Any, ...]:
    """Sums as the drivers take them, in the order of the table's columns after its key."""
    counts = (getattr(totals, name) for name in COUNTS)
    return (*counts, totals.cost, totals.latencies.encode(), totals.first_tokens.encode())


def _totals(row: Any) -> Totals:
    counts = {name: getattr(row, name) for name in COUNTS}
    latencies, first_tokens = Durations.decode(row.latencies), Durations.decode(row.first_tokens)
    return Totals(**counts, cost=to_picodollars(row.cost), latencies=latencies, first_tokens=first_tokens)


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
    conditions = [column == value for column, value in wanted if value is not None]
    if first is not None:
        conditions.append(table.hour >= first)
    if last is not None:
        conditions.append(table.hour < last)
    for row in connection.execute(select(span_hours).where(*conditions)):
        group = groups.setdefault(_hourly_name(by, row, row.hour), _Group())
        totals = _totals(row)
        group.add(totals)
        group.errors += totals.calls if row.status == "error" else 0


def _add_spans(groups: dict[str, _Group], connection: Connection, by: str, filter: SpanFilter) -> None:
    """Add the sums of spans, one by one."""
    query = select(*_COUNTED).where(*_conditions(replace(filter, calls_only=True)))
    if by == "tag":
        tagged = and_(span_tags.c.trace_id == spans.c.trace_id, span_tags.c.span_id == spans.c.span_id)
        query = query.add_columns(span_tags.c.tag).join(span_tags, tagged)
    for row in connection.execute(query):
        group = groups.setdefault(_name(by, row), _Group())
        group.add_span(row)
        group.errors += row.status == "error"


def _name(by: str, row: Any) -> str:
    match by:
        case "tag":
            return str(row.tag)
        case "user" | "session":
            return getattr(row, f"{by}_id") or ""
        case _:
            return _hourly_name(by, row, row.start_time)


def _hourly_name(by: str, row: Any, start: int) -> str:
    match by:
        case "day":
            return f"{moment(start):%Y-%m-%d}"
        case "hour":
            return f"{moment(start):%Y-%m-%dT%H:00}"
        case _:
            return getattr(row, by) or ""


def _summary(key: str, group: _Group) -> Summary:
    usage = Usage(*(getattr(group, field.name) for field in fields(Usage)))
    counts = (group.calls, group.errors, group.cached, group.unpriced)
    times = (Percentiles(*map(d.percentile, (0.5, 0.95, 0.99))) for d in (group.latencies, group.first_tokens))
    return Summary(key, *counts, usage, to_dollars(group.cost), *times)
