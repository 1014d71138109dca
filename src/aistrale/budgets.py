"""What may be spent: in a day or a month, by a session, a user or a tag.

A budget that passes a threshold is told of by the event `cost.threshold_exceeded`, once in each period; one
that is `hard` refuses calls once it is used up. Calls whose cost is not known count nothing.

Functions raise InvalidRequestError for what no budget can be, before anything has changed, and StoreError where the
database cannot do what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, get_args

from aistrale.contract import Call, CallbackHandler
from aistrale.exceptions import InvalidRequestError, StoreError
from aistrale.logs import warn_once_a_minute
from aistrale.prices import is_table_loaded, load_table
from aistrale.records import Budget, Period, Scope, Spend
from aistrale.store.location import database_url
from aistrale.store.peek import watch
from aistrale.threads import in_thread
from aistrale.tracing.books import announce, bring_up_to_date, has_unwritten

if TYPE_CHECKING:
    from aistrale.store.budgets import BudgetStore

_LEAST, _MOST = Decimal("0.000000000001"), 1_000_000
_MOST_OF_LIMIT = 10
"""A threshold may lie beyond the limit, for a budget that is not hard. More than this is meant in percent."""
_LONGEST_NAME = 200
"""Characters; databases keep no index of much longer ones."""
_PATIENCE = 0.25
"""Seconds that a call waits for books that others write, to know what was spent."""

Amount = Decimal | float | str


def set(
    name: str,
    limit: Amount,
    *,
    period: Period = "total",
    each: Scope | None = None,
    session: str | None = None,
    user: str | None = None,
    tag: str | None = None,
    thresholds: Iterable[Amount] = ("0.5", "0.8", "1"),
    hard: bool = False,
) -> Budget:
    """Set a budget, in place of an earlier one of this name; what its period has seen already counts.

    limit: US dollars. period: "day" or "month" (in UTC), or "total". session, user, tag: whose spending counts, by
    default all; each="user" (or "session", "tag") gives each of them as much. thresholds: parts of the limit, such as
    0.8, or 1.2 for a fifth beyond it; at most 10. hard: refuse calls with BudgetExceededError once it is used up.
    """
    scope, value = _scope(each, {"session": session, "user": user, "tag": tag})
    if period not in get_args(Period):
        raise InvalidRequestError(f"period must be 'day', 'month' or 'total', not {period!r}")
    if not isinstance(hard, bool):
        raise InvalidRequestError(f"hard must be True or False, not {hard!r}")
    amount, parts = _amount(limit, "limit", _MOST), _parts(thresholds)
    budget = Budget(_name(name), amount, period, scope, value, parts, hard)
    bring_up_to_date(database_url())
    budget = _budgets().set(budget)
    watch(database_url()).look_again()
    return budget


def list() -> Sequence[Budget]:
    """All budgets, by name."""
    return _budgets().all()


def spent(name: str) -> Sequence[Spend]:
    """What was spent of a budget, the newest period first; empty before the first call that it counts.

    Raises StoreError if there is no budget of this name.
    """
    _check_text(name)
    bring_up_to_date(database_url())
    found = _budgets().spent(name)
    if not found:
        known = [budget.name for budget in _budgets().all()]
        if name not in known:
            there_are = f"there are {', '.join(map(repr, known))}" if known else "there are none"
            raise StoreError(f"There is no budget {name!r}: {there_are}")
    return found


def remove(name: str) -> bool:
    """Forget a budget, and what was spent of it; whether there was one."""
    _check_text(name)
    removed = _budgets().remove(name)
    watch(database_url()).look_again()
    return removed


set_async = in_thread(set)
list_async = in_thread(list)
spent_async = in_thread(spent)
remove_async = in_thread(remove)


class BudgetHandler(CallbackHandler):
    """Refuses calls whose hard budget is used up.

    While there are hard budgets each call waits for the books to be written, some milliseconds; without any,
    for nothing. Books that cannot be read refuse no call.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._watch = watch(url)
        self._written_at = 0.0

    @property
    def blocking(self) -> bool:
        """Whether there is something to wait for."""
        seen = self._watch.at_once()
        return seen is None or seen.hard_budgets

    def on_start(self, call: Call) -> None:
        if not self._watch.now().hard_budgets:
            return
        if self._watch.away is None and not is_table_loaded() and has_unwritten(self._url):
            load_table()  # what is not written yet has to be priced: it is not the database that this takes its time
        options = call.request.options
        of = options.session_id, call.request.user or options.user_id, options.tags
        try:
            self._watch.ask("hard_budgets", partial(self._check, time.monotonic(), *of))
        except StoreError as error:
            warn_once_a_minute(self._url, "budgets cannot be checked, the call goes on: %s", error)
        finally:
            announce(self._url)

    def _check(self, asked: float, session: str | None, user: str | None, tags: Iterable[str]) -> None:
        from aistrale.store.store import open_store

        now = time.monotonic()
        if self._written_at < asked:  # else that of another call did for this one, too
            try:
                bring_up_to_date(self._url, _PATIENCE, announces=False)
                self._written_at = now
            except StoreError as error:  # others write: what they have not written yet is not counted yet
                said = "budgets are checked without the latest calls, which are not written yet: %s"
                warn_once_a_minute(f"{self._url} is behind", said, error)
        open_store(self._url).budgets.check(session, user, tags)


class UncountedBudgetHandler(BudgetHandler):
    """Refuses calls whose hard budget others have used up, where no books are kept of the calls themselves.

    It warns that they are not counted: whoever set a hard budget believes that they are.
    """

    def on_start(self, call: Call) -> None:
        super().on_start(call)
        if self.blocking and self._watch.away is None:  # it is known by now whether there are such budgets
            said = "hard budgets are checked, but calls from here are not counted: %s keeps no books"
            warn_once_a_minute(f"{self._url} is not written", said, "AISTRALE_TELEMETRY=otlp")


def _budgets() -> BudgetStore:
    from aistrale.store.store import open_store

    return open_store().budgets


def _check_text(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidRequestError(f"A budget's name must be a text, not {name!r}")


def _name(name: str) -> str:
    """A name as every database can keep it."""
    _check_text(name)
    if not 0 < len(name) <= _LONGEST_NAME:
        raise InvalidRequestError(f"A budget's name must have 1 to {_LONGEST_NAME} characters, and not {len(name):,}")
    if "\0" in name or name != name.encode("utf-8", "replace").decode():
        raise InvalidRequestError(f"A budget's name must hold neither NUL nor half a character, as {name!r} does")
    return name


def _scope(each: object, named: Mapping[str, object]) -> tuple[Scope, str | None]:
    """Whose spending counts, and which session, user or tag it is if it is one."""
    chosen = {scope: value for scope, value in named.items() if value is not None}
    if len(chosen) + (each is not None) > 1:
        raise InvalidRequestError("A budget is for one of session, user, tag or each: set several budgets instead")
    if each is not None and each not in ("session", "user", "tag"):
        raise InvalidRequestError(f"each must be 'session', 'user' or 'tag', not {each!r}")
    for scope, value in chosen.items():
        if not isinstance(value, str) or not value:
            raise InvalidRequestError(f"{scope} must be a text that is not empty, not {value!r}")
        return scope, value  # type: ignore[return-value]
    return each or "all", None


def _parts(thresholds: object) -> tuple[Decimal, ...]:
    if isinstance(thresholds, str | bytes) or not isinstance(thresholds, Iterable):
        raise InvalidRequestError(f"thresholds must be a list of parts of the limit, not {thresholds!r}")
    return tuple(
        _amount(part, "a threshold is a part of the limit, as 0.8, and", _MOST_OF_LIMIT) for part in thresholds
    )


def _amount(value: object, name: str, most: int) -> Decimal:
    try:
        is_number = isinstance(value, Decimal | float | int | str) and not isinstance(value, bool)
        amount = Decimal(str(value)) if is_number else Decimal(0)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not _LEAST <= amount <= most:
        raise InvalidRequestError(f"{name} must be a number from {_LEAST} to {most:,}, not {value!r}")
    return amount
