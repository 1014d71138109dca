"""Where in time a span may be: what was called in each ten minutes, the dearest and the longest of it.

What a span is looked for by is rarely so of spans all over time. The peaks (table `span_peaks`) are kept in the
transaction that writes or reprices the spans, and never say too little: spans that are gone may still be in them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, delete, func, select, text

from aistrale.store.filters import SpanFilter, as_text, least_cost, least_duration
from aistrale.store.schema import span_peaks

TEN_MINUTES = 600 * 10**9

_LOT = 500
"""Stretches of ten minutes that are looked up at once."""

_DIMENSIONS = ("surface", "operation", "provider", "model", "status")
_dimensions_of = attrgetter(*_DIMENSIONS)

Stretch: TypeAlias = tuple[int, int]
"""From when on, and before when: nanoseconds since 1970."""


def add_to_peaks(connection: Connection, rows: Iterable[Any]) -> None:
    """Note rows that were written, their cost in picodollars."""
    together: dict[tuple[int, tuple[str | None, ...]], list[Any]] = defaultdict(list)
    for row in rows:
        together[row.start_time // TEN_MINUTES, _dimensions_of(row)].append(row)
    if not together:
        return
    changed = max(time.time_ns(), newest_change(connection) + 1)
    values = [
        (
            *(stretch * TEN_MINUTES, *[value or "" for value in names]),
            *(max([row.duration for row in alike]), max([row.cost or 0 for row in alike]), changed),
        )
        for (stretch, names), alike in together.items()
    ]
    connection.execute(_RAISE, [dict(zip(span_peaks.columns.keys(), row, strict=True)) for row in values])


_NAMES = span_peaks.columns.keys()
_RAISE = text(
    f"INSERT INTO span_peaks ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)}) "
    f"ON CONFLICT ({', '.join(column.name for column in span_peaks.primary_key)}) DO UPDATE SET "
    + ", ".join(
        f"{name} = CASE WHEN excluded.{name} > span_peaks.{name} THEN excluded.{name} ELSE span_peaks.{name} END"
        for name in ("duration", "cost", "changed")
    )
)


def newest_change(connection: Connection) -> int:
    """The number of the latest change: those after it have higher ones, for writers take turns."""
    return connection.execute(select(func.max(span_peaks.c.changed))).scalar() or 0


def changed_since(connection: Connection, change: int) -> list[Stretch]:
    """The stretches whose spans were written or priced anew after a change."""
    begins = select(span_peaks.c.begin_time).where(span_peaks.c.changed > change)
    return list(_joined(sorted(set(connection.execute(begins).scalars()))))


def forget_peaks(connection: Connection, before: int) -> None:
    """Forget what was before then, where no span is any more."""
    connection.execute(delete(span_peaks).where(span_peaks.c.begin_time < before // TEN_MINUTES * TEN_MINUTES))


def narrowed(connection: Connection, filter: SpanFilter) -> Iterator[SpanFilter]:
    """A filter as one or several of parts of its time, the latest first, which leave out where nothing can match."""
    conditions = list(_conditions(filter))
    if not conditions:
        yield filter
        return
    table = span_peaks.c
    if filter.since is not None:
        conditions.append(table.begin_time > filter.since - TEN_MINUTES)
    latest = select(table.begin_time).distinct().where(*conditions).order_by(table.begin_time.desc()).limit(_LOT)
    until = filter.until
    while True:
        lot = latest if until is None else latest.where(table.begin_time < until)
        begins = connection.execute(lot).scalars().all()
        for begin, end in reversed(list(_joined(begins[::-1]))):
            since = begin if filter.since is None else max(begin, filter.since)
            yield replace(filter, since=since, until=end if filter.until is None else min(end, filter.until))
        if len(begins) < _LOT:
            return
        until = begins[-1]


def _conditions(filter: SpanFilter) -> Iterator[ColumnElement[bool]]:
    for name in _DIMENSIONS:
        if (value := getattr(filter, name)) is not None:
            yield span_peaks.c[name] == as_text(value)
    if filter.min_cost is not None:
        yield span_peaks.c.cost >= least_cost(filter.min_cost)
    if filter.min_latency is not None:
        yield span_peaks.c.duration >= least_duration(filter.min_latency)


def _joined(begins: Sequence[int]) -> Iterator[Stretch]:
    """Stretches that begin then, the earliest first; those that follow each other as one."""
    first = None
    for begin, following in zip_longest(begins, begins[1:]):
        first = begin if first is None else first
        if following != begin + TEN_MINUTES:
            yield first, begin + TEN_MINUTES
            first = None
