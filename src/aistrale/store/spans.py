"""Spans: written in batches, found by what they were, priced anew and purged."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    literal_column,
    select,
    tuple_,
    update,
)

from aistrale.parsing import parse_json
from aistrale.prices import MOST_DOLLARS, Cost
from aistrale.records import Summary
from aistrale.spans import INFERENCE, USAGE_ATTRIBUTES, Span
from aistrale.store.database import BUSY_SECONDS, Database, insert_many
from aistrale.store.encoding import decode_events, encode, encode_events
from aistrale.store.filters import SpanFilter, as_text, as_texts, conditions_of
from aistrale.store.peaks import add_to_peaks, forget_peaks, narrowed
from aistrale.store.schema import rounded, span_tags, spans, to_picodollars
from aistrale.store.summaries import OF_HOURS, add_to_hours, summary

CHUNK = 5000
"""Rows that one transaction purges, so that writers never wait long."""

REPRICED = 500
"""Calls that one transaction prices again, for the same reason: each takes longer."""

Costs: TypeAlias = Callable[[Span], Cost | None]
"""What says what a span costs; None if that is unknown."""

Key: TypeAlias = tuple[str, str]
"""A trace id and a span id."""

Position: TypeAlias = tuple[int, str, str]
"""Where a span stands in the order of time: its start, its id, and its trace's."""


def position_of(span: Span) -> Position:
    """Where a span stands in the order of time."""
    return span.start, span.span_id, span.trace_id


_POSITION = (spans.c.start_time, spans.c.span_id, spans.c.trace_id)


class SpanStore:
    """Every method raises StoreError if the database cannot do it, and then has changed nothing; but `purging` goes
    on in transactions of CHUNK rows, and keeps what those before a failure did.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # Writing

    def add(self, connection: Connection, batch: Iterable[Span]) -> list[Span]:
        """Write spans in the caller's transaction; the result is those that were not there yet."""
        unseen = {(span.trace_id, span.span_id): (span, _row(span)) for span in batch}
        rows = [row for _, row in unseen.values()]
        with connection.begin_nested() as attempt:
            are_new = insert_many(connection, spans, rows)
            if not are_new:
                attempt.rollback()
        if not are_new:  # which is rare: see what is there already
            for key in _present(connection, unseen):
                del unseen[key]
            rows = [row for _, row in unseen.values()]
            insert_many(connection, spans, rows)
        added = [span for span, _ in unseen.values()]
        insert_many(
            connection,
            span_tags,
            [(as_text(tag), s.start, s.trace_id, s.span_id) for s in added for tag in sorted(set(s.tags))],
        )
        add_to_hours(connection, rows)
        add_to_peaks(connection, rows)
        return added

    def reprice(
        self, connection: Connection, after: Position, costs: Costs, filter: SpanFilter
    ) -> tuple[list[tuple[Span, Decimal]], Position | None]:
        """Price the next REPRICED calls again, in the order of time and in the caller's transaction.

        Returns the spans that changed, each with how much more it costs than before, and the cursor that leads to the
        next lot, None at the end.
        """
        position = tuple_(*_POSITION) > tuple_(*after)
        query = (
            select(*_WHOLE)
            .where(position, spans.c.operation.in_(INFERENCE), *conditions_of(filter))
            .order_by(*_POSITION)
            .limit(REPRICED)
        )
        rows = connection.execute(query).all()
        before, changed = [], []
        for span in map(_span, rows):
            cost = costs(span)
            new = (rounded(cost.amount), cost.source, cost.version) if cost is not None else (None, None, None)
            if new == (span.cost, span.cost_source, span.price_version):
                continue
            before.append(_row(span))
            changed.append((span, Decimal((new[0] or 0) - (span.cost or 0))))
            span.cost, span.cost_source, span.price_version = new
        if changed:
            connection.execute(_NEW_PRICE, [_price(span) for span, _ in changed])
        add_to_hours(connection, before, sign=-1)
        after_ = [_row(span) for span, _ in changed]
        add_to_hours(connection, after_)
        add_to_peaks(connection, after_)
        return changed, position_of(_span(rows[-1])) if len(rows) == REPRICED else None

    def purge(self, before: int) -> int:
        """Forget the spans that started before then, the oldest first; returns how many."""
        return sum(self.purging(before))

    def purging(self, before: int, patience: float = BUSY_SECONDS) -> Iterator[int]:
        """`purge`, CHUNK spans at each step, which tells how many."""
        purged = CHUNK
        while purged == CHUNK:
            with self._database.write(patience) as connection:
                oldest = select(spans.c.trace_id, spans.c.span_id, *OF_HOURS)
                oldest = oldest.where(spans.c.start_time < before).order_by(spans.c.start_time).limit(CHUNK)
                rows = connection.execute(oldest).all()
                # One by one, each by its index: a list of pairs has SQLite read the whole table.
                for forget in (_FORGET, _FORGET_TAGS) if rows else ():
                    connection.execute(forget, [{"of_trace": row.trace_id, "of_span": row.span_id} for row in rows])
                add_to_hours(connection, rows, sign=-1)
                if len(rows) < CHUNK:
                    forget_peaks(connection, before)
            purged = len(rows)
            yield purged

    # Reading

    def find(self, filter: SpanFilter, limit: int, after: Position | None = None) -> list[Span]:
        """Spans, the newest first; those after a position in that order."""
        if after is not None:
            filter = replace(filter, until=min(after[0] + 1, after[0] + 1 if filter.until is None else filter.until))
        found: list[Span] = []
        with self._database.read() as connection:
            for part in narrowed(connection, filter):
                query = _newest(part).limit(limit - len(found))
                if after is not None:
                    query = query.where(tuple_(*_POSITION) < tuple_(*after))
                found += map(_span, connection.execute(query))
                if len(found) == limit:
                    break
        return found

    def trace(self, trace_id: str) -> list[Span]:
        """All spans of a trace, by their start."""
        with self._database.read() as connection:
            of_trace = spans.c.trace_id == trace_id
            if connection.dialect.name == "sqlite":  # in the order of the file: their ids would lead all over it
                of_trace = _ROWID.in_(select(_ROWID).where(of_trace))
            query = select(*_WHOLE).where(of_trace).order_by(spans.c.start_time, spans.c.span_id)
            return [_span(row) for row in connection.execute(query)]

    def summary(self, by: str, filter: SpanFilter) -> list[Summary]:
        """Calls added up for each value of `by`; see summaries.py."""
        with self._database.read() as connection:
            return summary(connection, by, filter)


_ROWID: ColumnElement[int] = literal_column("spans.rowid")


def _newest(filter: SpanFilter) -> Select[Any]:
    """Spans, the newest first; those of a tag by the table of tags, which is in that order."""
    if filter.tag is None:
        query, (start, *others) = select(*_WHOLE), _POSITION
        query = query.where(*conditions_of(filter))
    else:
        start, others = span_tags.c.start_time, [span_tags.c.span_id, span_tags.c.trace_id]
        tagged = and_(span_tags.c.trace_id == spans.c.trace_id, span_tags.c.span_id == spans.c.span_id)
        of_time = [start >= filter.since] if filter.since is not None else []
        of_time += [start < filter.until] if filter.until is not None else []
        rest = replace(filter, tag=None, since=None, until=None)
        query = select(*_WHOLE).join(span_tags, tagged).where(span_tags.c.tag == as_text(filter.tag), *of_time)
        query = query.where(*conditions_of(rest))
    return query.order_by(*(column.desc() for column in (start, *others)))


# Rows

SpanRow = namedtuple("SpanRow", spans.columns.keys())  # type: ignore[misc]
"""A row of `spans` as the drivers take it."""


def _row(span: Span) -> SpanRow:
    """A span as the drivers take it."""
    known, first = span.attributes, span.time_to_first_token
    name, *others = as_texts(span.name, *map(known.get, _TEXTS))
    return SpanRow._make(
        (
            *(span.trace_id, span.span_id, span.parent_id, name, span.kind),
            *(span.start, span.end - span.start, span.status),
            *others,
            span.cached,
            *map(_count, map(known.get, USAGE_ATTRIBUTES.values())),
            None if first is None else _count(round(first * 1e9), 10**18),
            None if span.cost is None else _count(to_picodollars(span.cost), MOST_DOLLARS * 10**12),
            *(span.cost_source, span.price_version),
            *(encode(known), encode_events(span.events)),
        )
    )


_TEXTS = (
    *("error.type", "aistrale.surface", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"),
    *("gen_ai.response.model", "session.id", "user.id"),
)
"""The attributes that have columns of their own, in the order of these."""


_FORGET, _FORGET_TAGS = (
    delete(table).where(table.c.trace_id == bindparam("of_trace"), table.c.span_id == bindparam("of_span"))
    for table in (spans, span_tags)
)

_NEW_PRICE = (
    update(spans)
    .where(spans.c.trace_id == bindparam("of_trace"), spans.c.span_id == bindparam("of_span"))
    .values(cost=bindparam("cost"), cost_source=bindparam("cost_source"), price_version=bindparam("price_version"))
)


def _price(span: Span) -> dict[str, Any]:
    """A span's price as `_NEW_PRICE` takes it."""
    price = {"cost": span.cost, "cost_source": span.cost_source, "price_version": span.price_version}
    return {"of_trace": span.trace_id, "of_span": span.span_id, **price}


def _count(value: Any, largest: int = 10**12) -> int | None:
    """A number that can be meant, as databases hold it and sums of many; None for any other."""
    return value if type(value) is int and 0 <= value <= largest else None


_WHOLE = (
    *(spans.c.trace_id, spans.c.span_id, spans.c.name, spans.c.start_time, spans.c.duration, spans.c.parent_id),
    *(spans.c.kind, spans.c.status, spans.c.attributes, spans.c.events),
    *(spans.c.cost, spans.c.cost_source, spans.c.price_version),
)
"""The columns that a span is made of; the others say in short what is in its attributes."""


def _span(row: Sequence[Any]) -> Span:
    """A row of `_WHOLE`."""
    trace_id, span_id, name, start, duration, parent_id, kind, status, attributes, events, *price = row
    known, happened = parse_json(attributes), decode_events(events)
    return Span(trace_id, span_id, name, start, start + duration, parent_id, kind, status, known, happened, *price)


def _present(connection: Connection, keys: Mapping[Key, Any]) -> Iterator[Key]:
    """Those of the keys that are in the database."""
    query = select(spans.c.trace_id, spans.c.span_id)
    for some in _in_slices(list(dict.fromkeys(trace for trace, _ in keys))):
        for row in connection.execute(query.where(spans.c.trace_id.in_(some))):
            if (key := (row.trace_id, row.span_id)) in keys:
                yield key


def _in_slices(values: Sequence[Any], size: int = 400) -> Iterator[Sequence[Any]]:
    """Databases take so many parameters at once, and no more."""
    return (values[at : at + size] for at in range(0, len(values), size))
