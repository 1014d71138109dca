"""The log of events: each is written in the transaction of what caused it, and announced once that is committed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import Connection, delete, func, select, text

from aistrale.parsing import parse_json
from aistrale.records import Event, EventType
from aistrale.store.database import BUSY_SECONDS, Database, insert_many
from aistrale.store.encoding import encode
from aistrale.store.schema import events

_PREFIX = "evt_"

_CHUNK = 5000
"""Events that one transaction purges, so that writers never wait long."""

logger = logging.getLogger("aistrale")

Subscriber: TypeAlias = Callable[[Event], object]


class Transaction:
    """A transaction that writes rows and the events they cause."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._emitted: list[tuple[EventType, str]] = []
        self._rows: list[tuple[str, EventType, int, str]] = []

    def emit(self, type: EventType, data: Mapping[str, Any]) -> None:
        """Have an event written with the rows."""
        self._emitted.append((type, encode(data)))

    def write_events(self) -> None:
        """Write what was emitted; the transaction's end does. Ids go on from the last one: writers take turns."""
        if not self._emitted:
            return
        newest = self.connection.execute(select(func.max(events.c.id))).scalar()
        first = max(time.time_ns(), int(newest.removeprefix(_PREFIX), 16) + 1 if newest else 0)
        self._rows = [(_id(time_), type, time_, data) for time_, (type, data) in enumerate(self._emitted, first)]
        insert_many(self.connection, events, self._rows)

    @property
    def written(self) -> list[Event]:
        """The events as they were written."""
        return [Event(id, type, time_, parse_json(data)) for id, type, time_, data in self._rows]


_IN_INDEX = text("type <> 'inference.completed'")
"""What the index by type holds, in the very words it was made with."""


def _id(time_: int) -> str:
    """An event's id: the nanosecond it was written at, which no other has."""
    return f"{_PREFIX}{time_:016x}"


class EventLog:
    """Writes, lists and announces events. Subscribers hear of what this process wrote."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []

    @contextmanager
    def transaction(self, *, announce: bool = True, patience: float = BUSY_SECONDS) -> Iterator[Transaction]:
        """Write rows with their events: all of them, or none. Raises StoreError.

        announce=False leaves it to the caller to tell the subscribers, by `announce(transaction.written)`.
        patience: seconds to wait for others to end their writing.
        """
        with self._database.write(patience) as connection:
            transaction = Transaction(connection)
            yield transaction
            transaction.write_events()
        if announce and self.has_subscribers:
            self.announce(transaction.written)

    def list(self, since: str | int | None = None, type: EventType | None = None, limit: int = 1000) -> list[Event]:
        """Events, oldest first: those after the event with id `since`, or written from `since` nanoseconds on."""
        query = select(events).order_by(events.c.id).limit(limit)
        if since is not None:
            after = _id(max(0, since - 1)) if isinstance(since, int) else since
            query = query.where(events.c.id > after)
        if type is not None:
            query = query.where(events.c.type == type)
            if type != "inference.completed":
                query = query.where(_IN_INDEX)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [Event(row.id, row.type, row.created, parse_json(row.data)) for row in rows]

    def purging(self, before: int, patience: float = BUSY_SECONDS) -> Iterator[int]:
        """Forget the events written before then, some thousand at each step, which tells how many."""
        some = _CHUNK
        oldest = select(events.c.id).where(events.c.id < _id(before)).order_by(events.c.id).limit(_CHUNK)
        while some == _CHUNK:
            with self._database.write(patience) as connection:
                some = connection.execute(delete(events).where(events.c.id.in_(oldest))).rowcount
            yield some

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have `subscriber` called with each event; the returned function ends that."""
        with self._lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return unsubscribe

    @property
    def has_subscribers(self) -> bool:
        return bool(self._subscribers)

    def announce(self, emitted: Sequence[Event]) -> None:
        """Tell the subscribers of events that are written."""
        with self._lock:
            subscribers = tuple(self._subscribers)
        for event in emitted:
            for subscriber in subscribers:
                try:
                    subscriber(event)
                except Exception as error:
                    logger.warning("a subscriber raised %s at %s", type(error).__name__, event.type, exc_info=error)
