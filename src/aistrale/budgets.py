"""What may be spent: in a day or a month, by a session, a user or a tag.

A budget that passes a threshold is told of by the event `cost.threshold_exceeded`, once in each period; one
that is `hard` refuses calls once it is used up. Calls whose cost is not known count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, get_args

from aistrale.contract import Call, CallbackHandler
from aistrale.exceptions import InvalidRequestError, StoreError
from aistrale.logs import warn_once_a_minute
from aistrale.records import Budget, Period, Scope, Spend
from aistrale.store.location import database_url
from aistrale.store.peek import watch
from aistrale.threads import in_thread
from aistrale.tracing.books import bring_up_to_date

if TYPE_CHECKING:
    from aistrale.store.budgets import BudgetStore

_LEAST, _MOST = Decimal("0.000000000001"), 1_000_000
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
    default all; each="user" (or "session", "tag") gives each of them as much. thresholds: parts of the limit.
    hard: refuse calls with BudgetExceededError once it is used up.
    """
    named = (("session", session), ("user", user), ("tag", tag))
    chosen = [(scope, value) for scope, value in named if value is not None]
    if not name or not all(value for _, value in chosen):
        raise InvalidRequestError("A budget needs a name, and its session, user or tag must not be empty")
    if len(chosen) + (each is not None) > 1:
        raise InvalidRequestError("A budget is for one of session, user, tag or each: set several budgets instead")
    if period not in get_args(Period) or (each or "all") not in get_args(Scope):
        raise InvalidRequestError("period is 'day', 'month' or 'total', and each is 'session', 'user' or 'tag'")
    scope, value = chosen[0] if chosen else (each or "all", None)
    if isinstance(thresholds, str | bytes) or not isinstance(thresholds, Iterable):
        raise InvalidRequestError(f"thresholds must be a list of parts of the limit, not {thresholds!r}")
    parts = tuple(_amount(part, "a threshold") for part in thresholds)
    budget = Budget(name, _amount(limit, "limit"), period, scope, value, parts, hard)  # type: ignore[arg-type]
    bring_up_to_date(database_url())
    budget = _budgets().set(budget)
    watch(database_url()).look_again()
    return budget


def list() -> Sequence[Budget]:
    """All budgets, by name."""
    return _budgets().all()


def spent(name: str) -> Sequence[Spend]:
    """What was spent of a budget, the newest period first."""
    bring_up_to_date(database_url())
    return _budgets().spent(name)


def remove(name: str) -> bool:
    """Forget a budget; whether there was one."""
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

    @property
    def blocking(self) -> bool:
        """Whether there is something to wait for."""
        return self._watch.now().hard_budgets

    def on_start(self, call: Call) -> None:
        if not self._watch.now().hard_budgets:
            return
        from aistrale.store.store import open_store

        options = call.request.options
        try:
            bring_up_to_date(self._url, _PATIENCE)
        except StoreError as error:  # others write: what they have not written yet is not counted yet
            said = "budgets are checked without the latest calls, which are not written yet: %s"
            warn_once_a_minute(f"{self._url} is behind", said, error)
        try:
            user = call.request.user or options.user_id
            found = open_store(self._url).budgets.check(options.session_id, user, options.tags)
            self._watch.learned(hard_budgets=found)
        except StoreError as error:
            self._watch.look_away("hard_budgets")
            warn_once_a_minute(self._url, "budgets cannot be checked, the call goes on: %s", error)


def _budgets() -> BudgetStore:
    from aistrale.store.store import open_store

    return open_store().budgets


def _amount(value: Amount, name: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not _LEAST <= amount <= _MOST:
        raise InvalidRequestError(f"{name} must be a positive number from {_LEAST} to {_MOST:,}, not {value!r}")
    return amount
