"""What was called, what it cost and why it failed: the calls that are in the books.

Every function reads or writes the database that `AISTRALE_DATABASE_URL` names, by default `aistrale.db` in
`AISTRALE_HOME`, spans this process has just finished included. Each has a twin for async code, `query_async`
and so on, and raises StoreError where the database cannot do what is asked. Times without a zone are local.

>>> aistrale.telemetry.summary(by="model", last="24h")
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from aistrale.exceptions import InvalidRequestError
from aistrale.prices import Price, PriceBook, load_table
from aistrale.providers import find_profile, telemetry_name
from aistrale.records import Summary, row_limit, to_nanoseconds
from aistrale.spans import Span
from aistrale.store.location import database_url, spool_folder
from aistrale.store.peek import watch
from aistrale.store.spool import Spool
from aistrale.threads import in_thread
from aistrale.tracing.books import bring_up_to_date
from aistrale.tracing.recorder import Delivery
from aistrale.tracing.recorder import flush as deliver_all
from aistrale.tracing.recorder import status as deliveries
from aistrale.trees import TraceNode, as_trees

if TYPE_CHECKING:
    from aistrale.store.filters import SpanFilter
    from aistrale.store.store import Store


class Filters(TypedDict, total=False):
    """Which spans; all that is given has to be so.

    last: how far back, as "30m", "24h", "7d", "2w" or a timedelta. since, until: from when on, and before
    when. model: the one that was asked for; "provider/model" names both. session, user, tag: as the call was
    given them. status: "ok" or "error". surface: sdk, langchain, llamaindex, cli, ... operation: chat,
    embeddings, execute_tool, ... min_cost: US dollars at least. min_latency: seconds at least.
    """

    last: str | timedelta | None
    since: datetime | None
    until: datetime | None
    model: str | None
    provider: str | None
    session: str | None
    user: str | None
    status: str | None
    surface: str | None
    operation: str | None
    tag: str | None
    min_cost: Decimal | float | str | None
    min_latency: float | None


class Spans(list[Span]):
    """Spans, the newest first. `next` is a cursor to those before them, None if there are none."""

    next: str | None = None


@contextmanager
def agent(
    name: str,
    *,
    description: str | None = None,
    session: str | None = None,
    user: str | None = None,
    tags: Iterable[str] = (),
) -> Iterator[None]:
    """A span around what an agent does: the calls to models and the tools in the block lie below it.

    session, user, tags: of this span; calls and tools in the block say for themselves whose they are.

    >>> with aistrale.telemetry.agent("planner"):
    ...     aistrale.run("Plan my day")
    """
    from aistrale.tracing.operations import agent_attributes, operation

    with operation(f"invoke_agent {name}", agent_attributes(name, description), session, user, tags):
        yield


@contextmanager
def tool(
    name: str,
    *,
    call_id: str | None = None,
    description: str | None = None,
    session: str | None = None,
    user: str | None = None,
    tags: Iterable[str] = (),
) -> Iterator[None]:
    """A span around what a tool does. call_id: the id of the model's call to it."""
    from aistrale.tracing.operations import operation, tool_attributes

    with operation(f"execute_tool {name}", tool_attributes(name, call_id, description), session, user, tags):
        yield


def query(*, limit: int = 1000, cursor: str | None = None, **filters: Unpack[Filters]) -> Spans:
    """Spans, the newest first, at most `limit`; `cursor` leads on from an earlier answer's `next`."""
    wanted, limit, after = _filter(filters), row_limit(limit), _position(cursor)
    found = Spans(_books().spans.find(wanted, limit + 1, after))
    if len(found) > limit:
        del found[limit:]
        found.next = f"{found[-1].start}.{found[-1].span_id}.{found[-1].trace_id}"
    return found


def summary(by: str = "model", **filters: Unpack[Filters]) -> list[Summary]:
    """Calls to models added up, for each value of `by`.

    by: model, provider, surface, operation, status, user, session, tag, day or hour (in UTC). Days and hours come
    in their order, all else the dearest first.
    """
    return _books().spans.summary(by, _filter(filters))


def trace(trace_id: str) -> list[TraceNode]:
    """A trace as a tree: the spans that have no parent in the books, by their start. Empty if it is not known."""
    return as_trees(_books().spans.trace(trace_id))


def export(path: str | PathLike[str], *, format: str | None = None, **filters: Unpack[Filters]) -> int:
    """Write spans into a file, the newest first; returns how many.

    format: jsonl (all of a span), csv or parquet (its columns; parquet needs pyarrow); by default what the
    file's name ends in. A file that is there is replaced once the new one is whole.
    """
    from aistrale.export import write_spans

    store, wanted = _books(), _filter(filters)
    return write_spans(Path(path), format, _every(store, wanted))


def purge(older_than: str | timedelta | datetime) -> int:
    """Forget the spans, and the events, that are older than so long or than a moment; returns how many spans.

    What budgets counted in periods that had ended then goes as well, and what could not be written by then.
    """
    before = _moment(older_than, "older_than")
    purged = _books().purge(before)
    Spool(spool_folder(database_url())).purge(before)
    return purged


def set_price(
    model: str,
    *,
    input: Decimal | float | str,
    output: Decimal | float | str = 0,
    cache_read: Decimal | float | str | None = None,
    cache_write: Decimal | float | str | None = None,
    provider: str | None = None,
) -> Price:
    """Say what a model costs, in US dollars for a million tokens, over the price table; for calls from now on.

    `reprice` prices the calls before anew. cache_read, cache_write: by default as `input`. "provider/model" names
    the provider too; without one the price is for anybody's model of this name.
    """
    provider, model = _named(provider, model)
    price = Price(
        model,
        _price(input, "input"),
        _price(output, "output"),
        None if cache_read is None else _price(cache_read, "cache_read"),
        None if cache_write is None else _price(cache_write, "cache_write"),
        provider,
    )
    _store().prices.set(price)
    watch(database_url()).look_again()
    return price


def remove_price(model: str, *, provider: str | None = None) -> bool:
    """Take a price of your own back; whether there was one."""
    provider, model = _named(provider, model)
    removed = _store().prices.remove(model, provider)
    watch(database_url()).look_again()
    return removed


def prices() -> list[Price]:
    """Your own prices, by model."""
    return _store().prices.all()


def reprice(**filters: Unpack[Filters]) -> int:
    """Price calls anew, by your own prices and the table as they are now; returns how many changed.

    What the provider itself reported stays. Budgets count what the calls of their period cost now.
    """
    store, wanted = _books(), _filter(filters)
    book = PriceBook(store.prices.all())
    load_table()  # before anybody has to wait for a transaction to end
    changed, position = 0, (-1, "", "")
    while True:
        some, following = store.reprice(position, book.cost, wanted)
        changed += some
        if following is None:
            return changed
        position = following


def status() -> list[Delivery]:
    """How spans get to each place this process sends them: what waits, is there, was dropped, and why."""
    return deliveries()


def flush(timeout: float = 5.0) -> bool:
    """Deliver what this process has recorded, to every place it sends spans to; returns within so many seconds.

    Processes that end as usual do it themselves. It is for those that are ended otherwise (by `os._exit` or a signal,
    in whose handler it may be called) or frozen (an AWS Lambda), and for whoever wants to see them elsewhere at once.
    Each place is tried once. True: all are there, those for an SQLite file at least in the spool beside it. False:
    some are not, and `status` says which place did not take them and why; they go on waiting.

    timeout: by default long enough for a collector far away and for the price table to load, and half of the ten
    seconds that Docker leaves a process after SIGTERM.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < 10**6:
        raise InvalidRequestError(f"timeout must be a number of seconds, not {timeout!r}")
    return deliver_all(timeout)


query_async = in_thread(query)
summary_async = in_thread(summary)
trace_async = in_thread(trace)
export_async = in_thread(export)
purge_async = in_thread(purge)
set_price_async = in_thread(set_price)
remove_price_async = in_thread(remove_price)
prices_async = in_thread(prices)
reprice_async = in_thread(reprice)
flush_async = in_thread(flush)


# The books


def _store() -> Store:
    from aistrale.store.store import open_store

    return open_store()


def _books() -> Store:
    """The books with all that this process, and others that have ended, put beside them."""
    bring_up_to_date(database_url())
    return _store()


def _every(store: Store, wanted: SpanFilter) -> Iterator[Span]:
    position = None
    while page := store.spans.find(wanted, 2000, position):
        yield from page
        position = (page[-1].start, page[-1].span_id, page[-1].trace_id)


# What people say


def _filter(filters: Filters) -> SpanFilter:
    from aistrale.store.filters import SpanFilter

    given = _checked(filters)
    if "last" in given:
        given["since"] = max(_moment(given.pop("last"), "last"), given.get("since", 0))
    if "min_cost" in given:
        given["min_cost"] = _dollars(given["min_cost"], "min_cost")
    if "model" in given:
        given["provider"], given["model"] = _named(given.get("provider"), given["model"])
    elif "provider" in given:
        given["provider"] = telemetry_name(given["provider"])
    return SpanFilter(**given)


def _checked(filters: Filters) -> dict[str, Any]:
    """What was given, each of its kind; moments as nanoseconds since 1970."""
    for name in filters:
        if name not in Filters.__annotations__:
            raise TypeError(f"there is no filter {name!r}; known are {', '.join(Filters.__annotations__)}")
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    for name in ("since", "until"):
        if name in given:
            if not isinstance(given[name], datetime):
                raise InvalidRequestError(f"{name} must be a datetime, not {given[name]!r}")
            given[name] = to_nanoseconds(given[name])
    for name in ("model", "provider", "session", "user", "surface", "operation", "tag"):
        if not isinstance(given.get(name, ""), str):
            raise InvalidRequestError(f"{name} must be a text, not {given[name]!r}")
    if given.get("status", "ok") not in ("ok", "error"):
        raise InvalidRequestError(f"status must be 'ok' or 'error', not {given['status']!r}")
    latency = given.get("min_latency", 0)
    if isinstance(latency, bool) or not isinstance(latency, int | float) or not 0 <= latency < 10**9:
        raise InvalidRequestError(f"min_latency must be a number of seconds, not {latency!r}")
    return given


_AGO = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _moment(ago: str | timedelta | datetime, name: str) -> int:
    """So long ago, or a moment, as nanoseconds since 1970."""
    if isinstance(ago, datetime):
        return to_nanoseconds(ago)
    if isinstance(ago, str):
        match = _AGO.fullmatch(ago)
        if match is None:
            raise InvalidRequestError(f"{name} must be a time such as '30m', '24h', '7d' or '2w', not {ago!r}")
        try:
            ago = timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError:  # longer than there has been time
            return 0
    if not isinstance(ago, timedelta) or ago < timedelta(0):
        raise InvalidRequestError(f"{name} must be a text such as '24h' or a timedelta, not {ago!r}")
    return max(0, time.time_ns() - round(ago.total_seconds() * 1e9))


def _named(provider: str | None, model: str) -> tuple[str | None, str]:
    """A provider as spans name it, and a model without it."""
    if not isinstance(model, str) or not isinstance(provider, str | None):
        raise InvalidRequestError(f"A model and its provider must be texts, not {model!r} and {provider!r}")
    prefix, slash, rest = model.partition("/")
    if provider is None and slash and find_profile(prefix) is not None:
        provider, model = prefix, rest
    return (None if provider is None else telemetry_name(provider)), model


def _dollars(amount: Decimal | float | str, name: str) -> Decimal:
    try:
        dollars = Decimal(str(amount))
    except InvalidOperation:
        dollars = Decimal(-1)
    if not dollars.is_finite() or dollars < 0:
        raise InvalidRequestError(f"{name} must be an amount of US dollars, not {amount!r}")
    return dollars


def _price(amount: Decimal | float | str, name: str) -> Decimal:
    """A price for a million tokens."""
    dollars = _dollars(amount, name)
    if dollars > _DEAREST:
        raise InvalidRequestError(f"{name} is for a million tokens, and at most ${_DEAREST:,}, not {amount!r}")
    return dollars


_DEAREST = 1_000_000
"""US dollars for a million tokens: one for each."""


def _position(cursor: str | None) -> tuple[int, str, str] | None:
    match cursor and str(cursor).split("."):
        case None:
            return None
        case [start, span_id, trace_id] if start.isdecimal() and len(start) < 20:
            return int(start), span_id, trace_id
    raise InvalidRequestError(f"{cursor!r} is no cursor: pass the `next` of an earlier answer")
