"""Which spans are meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_

from aistrale.prices import MOST_DOLLARS
from aistrale.spans import INFERENCE
from aistrale.store.schema import span_tags, spans


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


def conditions_of(filter: SpanFilter) -> Iterator[ColumnElement[bool]]:
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
            yield column == as_text(value)
    if filter.min_cost is not None:
        yield table.cost >= least_cost(filter.min_cost)
    if filter.min_latency is not None:
        yield table.duration >= least_duration(filter.min_latency)
    if filter.calls_only:
        yield table.operation.in_(INFERENCE)
    if filter.tag is not None:
        tagged = select(span_tags.c.trace_id, span_tags.c.span_id).where(span_tags.c.tag == as_text(filter.tag))
        if filter.since is not None:
            tagged = tagged.where(span_tags.c.start_time >= filter.since)
        if filter.until is not None:
            tagged = tagged.where(span_tags.c.start_time < filter.until)
        yield tuple_(table.trace_id, table.span_id).in_(tagged)


def least_cost(dollars: Decimal) -> Decimal:
    """As much, or as much more than there is money as databases can hold."""
    return min(dollars, Decimal(MOST_DOLLARS + 1))


def least_duration(seconds: float) -> int:
    """Seconds as nanoseconds."""
    return round(seconds * 1e9)


_LONGEST = 300
"""Bytes: an index of PostgreSQL holds 2,704 in all, and one of `spans` has six such texts."""


def as_texts(*values: Any) -> Sequence[str | None]:
    """`as_text` of several, which mostly are short and plain, all of them."""
    try:
        together = "".join([value for value in values if value is not None])
    except TypeError:  # one is no text
        return [*map(as_text, values)]
    is_plain = len(together) <= _LONGEST and together.isascii() and "\0" not in together
    return values if is_plain else [*map(as_text, values)]


def as_text(value: Any) -> str | None:
    """A text as any database can hold it in an index: neither NUL nor lone surrogates, and not too long.

    The attributes keep the true one.
    """
    if value is None:
        return None
    if type(value) is str and len(value) <= _LONGEST and value.isascii() and "\0" not in value:
        return value
    text = str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    data = text.encode()
    if len(data) <= _LONGEST:
        return text
    return f"{data[:_LONGEST].decode(errors='ignore')}…{sha256(data).hexdigest()[:16]}"
