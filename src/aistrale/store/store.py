"""Everything one database holds, by subject."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from decimal import localcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, or_, update

from aistrale.prices import EXACT, PriceBook, is_meant, load_table
from aistrale.records import Event
from aistrale.spans import STORED_KEY, Span
from aistrale.store.budgets import BudgetStore
from aistrale.store.completions import CompletionStore
from aistrale.store.database import BUSY_SECONDS, Database
from aistrale.store.events import EventLog, Transaction
from aistrale.store.filters import SpanFilter
from aistrale.store.location import database_url
from aistrale.store.prices import PriceStore
from aistrale.store.schema import tokens
from aistrale.store.spans import Costs, Position, SpanStore

if TYPE_CHECKING:
    from aistrale.store.prompts import PromptStore
    from aistrale.store.tokens import TokenStore


class Store:
    """The books in one database.

    Every method of its parts raises StoreError if the database cannot do what is asked, and then has
    changed nothing, but for those that say otherwise. Parts may be used from any thread, and from a child after a fork.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.events = EventLog(self.database)
        self.spans = SpanStore(self.database)
        self.prices = PriceStore(self.database)
        self.budgets = BudgetStore(self.events, self.database)
        self.completions = CompletionStore(self.database)

    # Few processes need these, and importing them takes a while.

    @cached_property
    def prompts(self) -> PromptStore:
        from aistrale.store.prompts import PromptStore

        return PromptStore(self.events, self.database)

    @cached_property
    def tokens(self) -> TokenStore:
        from aistrale.store.tokens import TokenStore

        return TokenStore(self.events, self.database)

    def record(self, batch: Iterable[Span], *, announce: bool = True, patience: float = BUSY_SECONDS) -> list[Event]:
        """Price spans and write them with their events and what they take from budgets. Twice is as once.

        announce=False leaves telling subscribers to the caller: the result is the events they are to be told of.
        patience: seconds to wait for others to end their writing.
        """
        spans = list(batch)
        if any(span.is_inference for span in spans):
            load_table()  # takes half a second the first time: not while others wait for their turn to write
        with localcontext(EXACT), self.events.transaction(announce=announce, patience=patience) as transaction:
            book = PriceBook(self.prices.read(transaction.connection))
            # One by one, priced and made a row: of thousands, each is in the processor's cache but for a moment.
            added = self.spans.add(transaction.connection, (_priced(span, book) for span in spans))
            for span in added:
                _tell(transaction, span)
            self.budgets.charge(transaction, added)
            _note_use_of_keys(transaction.connection, added)
        return transaction.written if self.events.has_subscribers and not announce else []

    def reprice(self, after: Position, costs: Costs, filter: SpanFilter) -> tuple[int, Position | None]:
        """Price some calls again, in the order of time, with what budgets have counted of them; a cursor leads from one
        lot to the next. Returns how many changed, and the next cursor, None at the end.
        """
        with localcontext(EXACT), self.events.transaction() as transaction:
            changed, following = self.spans.reprice(transaction.connection, after, costs, filter)
            self.budgets.adjust(transaction, changed)
        return len(changed), following

    def purge(self, before: int) -> int:
        """Forget spans, events, kept answers and what budgets counted before then; returns how many spans. In
        transactions of some thousand rows each: one that fails leaves those before it done.
        """
        return sum(self.purging(before))

    def purging(self, before: int, patience: float = BUSY_SECONDS) -> Iterator[int]:
        """`purge`, a transaction at each step, which tells how many spans it forgot.

        patience: seconds to wait each time for others to end their writing.
        """
        for _ in self.events.purging(before, patience):
            yield 0
        self.budgets.purge(before, patience)
        yield 0
        for _ in self.completions.purging(before, patience):
            yield 0
        yield from self.spans.purging(before, patience)

    def close(self) -> None:
        """Close its connections. The next use opens others."""
        self.database.close()


def _priced(span: Span, book: PriceBook) -> Span:
    if (cost := book.cost(span)) is not None:
        span.cost, span.cost_source, span.price_version = cost
    elif span.cost is not None and not is_meant(span.cost):
        span.cost = span.cost_source = span.price_version = None  # no call costs that
    return span


def _tell(transaction: Transaction, span: Span) -> None:
    """The events that a span is, and that happened in it."""
    if span.is_inference:
        failed = span.status == "error"
        transaction.emit("inference.failed" if failed else "inference.completed", _told(span))
    for event in span.events:
        if event.name == "aistrale.provider_failed":
            transaction.emit("provider.failed", {**event.attributes, "trace_id": span.trace_id})


def _note_use_of_keys(connection: Connection, added: Iterable[Span]) -> None:
    used: dict[str, int] = {}
    for span in added:
        for key in span.attributes.get(STORED_KEY, ()):
            used[key] = max(span.end, used.get(key, 0))
    for key, at in used.items():
        provider, _, label = key.rpartition("/")
        is_earlier = or_(tokens.c.last_used.is_(None), tokens.c.last_used < at)
        whose = (tokens.c.provider == provider, tokens.c.label == label)
        connection.execute(update(tokens).where(*whose, is_earlier).values(last_used=at))


def _told(span: Span) -> dict[str, Any]:
    attribute = span.attributes.get
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "operation": span.operation,
        "provider": attribute("gen_ai.provider.name"),
        "model": attribute("gen_ai.request.model"),
        "surface": attribute("aistrale.surface"),
        "session_id": attribute("session.id"),
        "user_id": attribute("user.id"),
        "tags": list(span.tags),
        "input_tokens": attribute("gen_ai.usage.input_tokens"),
        "output_tokens": attribute("gen_ai.usage.output_tokens"),
        "cost": None if span.cost is None else str(span.cost),
        "latency": span.latency,
        "cached": span.cached,
        "cancelled": bool(attribute("aistrale.cancelled")),
        "error_type": span.error_type,
    }


_stores: dict[str, Store] = {}
_lock = threading.Lock()


def open_store(url: str | None = None) -> Store:
    """The books at `url`, by default where the environment says; the same object for the same place."""
    url = url or database_url()
    with _lock:
        store = _stores.get(url)
        if store is None:
            store = _stores[url] = Store(url)
    return store
