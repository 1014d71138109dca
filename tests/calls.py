"""Spans of calls, as the tests of what is in the books make them up."""

from collections.abc import Iterable
from decimal import Decimal
from secrets import token_hex
from typing import Any

from aistrale.spans import USAGE_ATTRIBUTES, Span, SpanEvent
from aistrale.store.filters import SpanFilter
from aistrale.store.store import Store

SECOND = 10**9
HOUR = 3600 * SECOND
MOMENT = 1_772_359_200 * SECOND
"""2026-03-01 10:00 UTC."""

_NAMES = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "surface": "aistrale.surface",
    "session": "session.id",
    "user": "user.id",
    "tags": "aistrale.tags",
    "cached": "aistrale.cached",
    "error": "error.type",
    "first_token": "gen_ai.response.time_to_first_chunk",
    "address": "server.address",
    **USAGE_ATTRIBUTES,
}


def call(
    start: int = MOMENT,
    seconds: float = 1.0,
    *,
    cost: Decimal | str | None = None,
    cost_source: Any = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    parent_id: str | None = None,
    events: tuple[SpanEvent, ...] = (),
    **named: Any,
) -> Span:
    """The span of a call, by default a chat with gpt-4o; `named` are its attributes, by what we call them."""
    known = {"operation": "chat", "provider": "openai", "model": "gpt-4o", "surface": "sdk", **named}
    return Span(
        trace_id or token_hex(16),
        span_id or token_hex(8),
        f"{known['operation']} {known['model']}",
        start,
        start + round(seconds * SECOND),
        parent_id,
        status="error" if "error" in known else "ok",
        attributes={_NAMES[name]: value for name, value in known.items() if value is not None},
        events=events,
        cost=None if cost is None else Decimal(cost),
        cost_source=cost_source,
    )


def add(store: Store, spans: Iterable[Span]) -> list[Span]:
    """Put spans into the books with the cost they have; the result is those that were new."""
    with store.database.write() as connection:
        return store.spans.add(connection, spans)


def ids(spans: Iterable[Span]) -> list[str]:
    return [span.span_id for span in spans]


def kept(store: Store, limit: int = 100_000, **wanted: Any) -> list[Span]:
    """Spans in the books, the newest first."""
    return store.spans.find(SpanFilter(**wanted), limit)
