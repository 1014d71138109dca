"""What happened, as the books tell it: each event was written together with what caused it.

inference.completed, inference.failed, cost.threshold_exceeded, provider.failed, prompt.updated, token.added.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from aistrale.exceptions import InvalidRequestError
from aistrale.records import Event, EventType, row_limit, to_nanoseconds
from aistrale.store.location import database_url
from aistrale.threads import in_thread
from aistrale.tracing.books import bring_up_to_date

if TYPE_CHECKING:
    from aistrale.store.events import EventLog


def list(
    since: str | datetime | None = None, *, type: EventType | None = None, limit: int = 1000
) -> builtins.list[Event]:
    """Events in the order they were written, at most `limit`; raises StoreError.

    since: a moment, or the id of the last event one has seen: those after it, and none twice.
    """
    if not isinstance(since, str | datetime | None):
        raise InvalidRequestError(f"since must be an event's id or a datetime, not {since!r}")
    bring_up_to_date(database_url())
    return _log().list(to_nanoseconds(since) if isinstance(since, datetime) else since, type, row_limit(limit))


list_async = in_thread(list)


def subscribe(subscriber: Callable[[Event], object], *, type: EventType | None = None) -> Callable[[], None]:
    """Have `subscriber` called with each event this process writes, once it is written; returns what ends that.

    It is called in the thread that wrote the event; what it raises is logged.
    """
    if type is None:
        return _log().subscribe(subscriber)
    return _log().subscribe(lambda event: subscriber(event) if event.type == type else None)


def _log() -> EventLog:
    from aistrale.store.store import open_store

    return open_store().events
