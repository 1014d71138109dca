"""The log of events: each is written in the transaction of what caused it, and announced once that is committed."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import Connection, delete, func, select

from aistrale.records import Event, EventType, moment
from aistrale.spans import encode
from aistrale.store.database import Database, insert_many
from aistrale.store.schema import events

_CHUNK = 5000
"""Events that one transaction purges, so that writers never wait long."""

logger = logging.getLogger("aistrale")

Subscriber: TypeAlias = Callable[[Event], object]


@dataclass(slots=True)
class Transaction:
    """A transaction that writes rows and the events they cause."""

    connection: Connection
    emitted: list[Event] = field(default_factory=list)
    _last: int | None = None
    _rows: list[tuple[Any, ...]] = field(default_factory=list)

    def emit(self, type: EventType, data: Mapping[str, Any]) -> Event:
        """Write an event. Its id comes after every other in the database: writers take turns."""
        if self._last is None:
            newest = self.connection.execute(select(func.max(events.c.id))).scalar()
            self._last = int(newest[4:20], 16) if newest else 0
        self._last = max(time.time_ns(), self._last + 1)
        event = Event(f"evt_{self._last:016x}{secrets.token_hex(4)}", type, moment(self._last), data)
        self.emitted.append(event)
        self._rows.append((event.id, type, self._last, encode(data)))
        return event

    def write_events(self) -> None:
        """Write what was emitted; the transaction's end does."""
        insert_many(self.connection, events, self._rows)
        self._rows = []


class EventLog:
    """Writes, lists and announces events. Subscribers hear of what this process wrote."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write rows with their events: all of them, or none. Raises StoreError."""
        with self._database.write() as connection:
            transaction = Transaction(connection)
            yield transaction
            transaction.write_events()
        self._announce(transaction.emitted)

    def list(self, since: str | int | None = None, type: EventType | None = None, limit: int = 1000) -> list[Event]:
        """Events, oldest first: those after the event with id `since`, or written from `since` nanoseconds on."""
        query = select(events).order_by(events.c.id).limit(limit)
        if since is not None:
            after = f"evt_{since - 1:016x}~" if isinstance(since, int) else since
            query = query.where(events.c.id > after)
        if type is not None:
            query = query.where(events.c.type == type)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [Event(row.id, row.type, moment(row.created), json.loads(row.data)) for row in rows]

    def purge(self, before: int) -> int:
        """Forget the events written before then; returns how many."""
        purged = 0
        oldest = select(events.c.id).where(events.c.id < f"evt_{before:016x}").order_by(events.c.id).limit(_CHUNK)
        while True:
            with self._database.write() as connection:
                some = connection.execute(delete(events).where(events.c.id.in_(oldest))).rowcount
            purged += some
            if some < _CHUNK:
                return purged

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have `subscriber` called with each event; the returned function ends that."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return unsubscribe

    def _announce(self, emitted: Sequence[Event]) -> None:
        with self._lock:
            subscribers = tuple(self._subscribers)
        for event in emitted:
            for subscriber in subscribers:
                try:
                    subscriber(event)
                except Exception as error:
                    logger.warning("a subscriber raised %s at %s", type(error).__name__, event.type, exc_info=error)
