"""What happened, as the books tell it: each event was written together with what caused it.

inference.completed, inference.failed, cost.threshold_exceeded, provider.failed, prompt.updated, token.added.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from datetime import datetime
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, get_args

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

    since: a moment, or the id of the last event one has seen: those after it, and none twice. That event itself may be
    forgotten since. type: those of this type alone.
    """
    if not isinstance(since, datetime | None) and not (isinstance(since, str) and _ID.fullmatch(since)):
        wanted = "a datetime or an event's id, which is evt_ and 16 hexadecimal digits"
        raise InvalidRequestError(f"since must be {wanted}, not {since!r}")
    _check_type(type)
    bring_up_to_date(database_url())
    return _log().list(to_nanoseconds(since) if isinstance(since, datetime) else since, type, row_limit(limit))


list_async = in_thread(list)


def subscribe(subscriber: Callable[[Event], object], *, type: EventType | None = None) -> Callable[[], None]:
    """Have `subscriber` called with each event this process writes, once it is written; returns what ends that.

    It may be called in any thread, and must be no coroutine function: nobody would await it. What it raises is logged.
    """
    if not callable(subscriber) or iscoroutinefunction(subscriber):
        raise InvalidRequestError(f"subscriber must be a plain function that takes an event, not {subscriber!r}")
    _check_type(type)
    if type is None:
        return _log().subscribe(subscriber)
    return _log().subscribe(lambda event: subscriber(event) if event.type == type else None)


_ID = re.compile("evt_[0-9a-f]{16}")


def _check_type(type: Any) -> None:
    known = get_args(EventType)
    if type is not None and type not in known:
        raise InvalidRequestError(f"type must be one of {', '.join(known)}, not {type!r}")


def _log() -> EventLog:
    from aistrale.store.store import open_store

    return open_store().events
