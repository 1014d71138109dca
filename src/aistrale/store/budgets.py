"""Budgets, and what was spent of them: counted in the transaction that writes the spans."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, literal, select, tuple_

from aistrale.exceptions import BudgetExceededError
from aistrale.records import Budget, Spend
from aistrale.spans import Span
from aistrale.store.database import BUSY_SECONDS, Database, insert_many
from aistrale.store.events import EventLog, Transaction
from aistrale.store.filters import as_text
from aistrale.store.peaks import changed_since, newest_change
from aistrale.store.schema import budget_spend, budgets, rounded, span_tags, spans, to_picodollars

_SCOPE_COLUMNS = {"session": spans.c.session_id, "user": spans.c.user_id, "tag": span_tags.c.tag}


class BudgetStore:
    """Every method raises StoreError if the database cannot do it, and then has changed nothing."""

    def __init__(self, events: EventLog, database: Database) -> None:
        self._events = events
        self._database = database

    def set(self, budget: Budget) -> Budget:
        """Set a budget, in place of an earlier one of its name. What its period has seen already counts, also what was
        purged since, if the earlier one counted it.

        Thresholds that are passed already are told of, unless an earlier one told of the same part of the same limit.
        """
        # As it is read again: 0.50 is 0.5.
        thresholds = tuple(map(rounded, budget.thresholds))
        budget = replace(budget, limit=rounded(budget.limit), thresholds=thresholds)
        now = time.time_ns()
        with self._seen(budget, now) as seen, self._events.transaction() as transaction:
            connection = transaction.connection
            goes_on = _counts_as_before(connection, budget)
            connection.execute(delete(budgets).where(budgets.c.name == budget.name))
            if not goes_on:
                connection.execute(delete(budget_spend).where(budget_spend.c.budget == budget.name))
            connection.execute(
                insert(budgets).values(
                    name=budget.name,
                    amount=budget.limit,
                    period=budget.period,
                    scope=budget.scope,
                    scope_value=as_text(budget.scope_value),
                    thresholds=json.dumps([str(part) for part in budget.thresholds]),
                    hard=budget.hard,
                    created=now,
                )
            )
            if goes_on:
                _note_all(transaction, budget, now, _kept_of_period(connection, budget, now))
            else:
                present = time.time_ns()
                if seen is None or budget.period_of(present) != budget.period_of(now):
                    seen, now = _Seen(connection, budget, present), present
                _note_all(transaction, budget, now, {value: (spent, ()) for value, spent in seen.by(connection)})
        return budget

    @contextmanager
    def _seen(self, budget: Budget, now: int) -> Iterator[_Seen | None]:
        """What a budget's period has seen, added up before others have to wait; None if it is counted already."""
        with self._database.read() as connection:
            yield None if _counts_as_before(connection, budget) else _Seen(connection, budget, now)

    def remove(self, name: str) -> bool:
        """Forget a budget; whether there was one."""
        with self._database.write() as connection:
            return _delete(connection, name)

    def all(self) -> list[Budget]:
        """All of them, by name."""
        with self._database.read() as connection:
            return _read(connection)

    def spent(self, name: str) -> list[Spend]:
        """What was spent of a budget, the newest period first."""
        with self._database.read() as connection:
            known = {budget.name: budget for budget in _read(connection)}
            table = budget_spend.c
            query = select(budget_spend).where(table.budget == name).order_by(table.period.desc(), table.scope_value)
            return [Spend(known[name], row.period, row.scope_value, row.spent) for row in connection.execute(query)]

    def charge(self, transaction: Transaction, added: Iterable[Span]) -> None:
        """Count what spans cost, in the transaction that writes them, and tell of thresholds that are passed."""
        costs = [(span, span.cost) for span in added if span.cost]
        for budget in _read(transaction.connection):
            for (period, value), amount in _sums(budget, costs).items():
                _add(transaction, budget, period, value, amount)

    def adjust(self, transaction: Transaction, changes: Sequence[tuple[Span, Decimal]]) -> None:
        """Count what spans cost more now than before, or less, in the transaction that writes their new price.

        In the present period, and in earlier ones of which something was counted.
        """
        now = time.time_ns()
        for budget in _read(transaction.connection):
            for (period, value), amount in _sums(budget, changes).items():
                if amount and (period == budget.period_of(now) or _kept(transaction.connection, budget, period, value)):
                    _add(transaction, budget, period, value, amount)

    def purge(self, before: int, patience: float = BUSY_SECONDS) -> None:
        """Forget what was spent in periods that ended before then."""
        with self._database.write(patience) as connection:
            for budget in _read(connection):
                ended = budget_spend.c.period < budget.period_of(before)
                connection.execute(delete(budget_spend).where(budget_spend.c.budget == budget.name, ended))

    def check(self, session: str | None, user: str | None, tags: Iterable[str]) -> bool:
        """Raise BudgetExceededError if a hard budget that counts such a call is used up.

        The result is whether there are hard budgets at all.
        """
        now, tags = time.time_ns(), tuple(tags)
        with self._database.read() as connection:
            hard = [budget for budget in _read(connection) if budget.hard]
            for budget in hard:
                period = budget.period_of(now)
                for value in _scope_values(budget, session, user, tags):
                    kept = _kept(connection, budget, period, value)
                    spend = Spend(budget, period, value, kept.spent if kept else Decimal(0))
                    if spend.is_exhausted:
                        raise BudgetExceededError(_refusal(spend))
        return bool(hard)


def _scope_values(budget: Budget, session: str | None, user: str | None, tags: Iterable[str]) -> Iterator[str]:
    """The sessions, users or tags of a call that a budget counts; an empty text for one that counts all."""
    if budget.scope == "all":
        yield ""
        return
    present = {"session": (session,), "user": (user,), "tag": tuple(tags)}[budget.scope]
    for value in dict.fromkeys(map(as_text, present)):  # a tag given twice is one
        if value and as_text(budget.scope_value) in (None, value):
            yield value


def _read(connection: Connection) -> list[Budget]:
    return [_budget(row) for row in connection.execute(select(budgets).order_by(budgets.c.name))]


def _budget(row: Row[Any]) -> Budget:
    thresholds = tuple(Decimal(part) for part in json.loads(row.thresholds))
    return Budget(row.name, row.amount, row.period, row.scope, row.scope_value, thresholds, row.hard)


def _is_spend(budget: Budget, period: str, value: str) -> ColumnElement[bool]:
    table = budget_spend.c
    return tuple_(table.budget, table.period, table.scope_value) == tuple_(budget.name, period, value)


def _kept(connection: Connection, budget: Budget, period: str, value: str) -> Row[Any] | None:
    return connection.execute(select(budget_spend).where(_is_spend(budget, period, value))).one_or_none()


def _told_of(kept: Row[Any] | None) -> list[str]:
    """The thresholds that were told of."""
    return [] if kept is None else list(json.loads(kept.told))


def _sums(budget: Budget, costs: Iterable[tuple[Span, Decimal]]) -> dict[tuple[str, str], Decimal]:
    """What a budget counts of costs, by its periods and scope values."""
    amounts: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for span, cost in costs:
        for value in _scope_values(budget, span.session_id, span.user_id, span.tags):
            amounts[budget.period_of(span.start), value] += cost
    return amounts


def _add(transaction: Transaction, budget: Budget, period: str, value: str, amount: Decimal) -> None:
    kept = _kept(transaction.connection, budget, period, value)
    spent = max(Decimal(0), amount + (kept.spent if kept else 0))
    _note(transaction, Spend(budget, period, value, rounded(spent)), _told_of(kept))


def _passed(spend: Spend) -> dict[str, Decimal]:
    """The thresholds that are passed, the lowest first, by a name that tells them from those of another limit."""
    budget = spend.budget
    return {f"{part} of {budget.limit}": part for part in sorted(budget.thresholds) if spend.passes(part)}


def _note(transaction: Transaction, spend: Spend, told: Iterable[str]) -> None:
    """Write what was spent, and tell of the thresholds it passes that were not told of yet."""
    whose = _is_spend(spend.budget, spend.period, spend.scope_value)
    transaction.connection.execute(delete(budget_spend).where(whose))
    insert_many(transaction.connection, budget_spend, [_row(transaction, spend, told)])


def _row(transaction: Transaction, spend: Spend, told: Iterable[str]) -> tuple[Any, ...]:
    """What was spent, as the drivers take it; thresholds it passes that were not told of yet are told of."""
    passed = _passed(spend)
    for name, part in passed.items():
        if name not in told:
            transaction.emit("cost.threshold_exceeded", _told(spend, part))
    names = json.dumps(sorted({*told, *passed}))
    return spend.budget.name, spend.period, spend.scope_value, to_picodollars(spend.spent), names


def _counts_as_before(connection: Connection, budget: Budget) -> bool:
    """Whether there is a budget of this name already, and it counts the same."""
    former = next((known for known in _read(connection) if known.name == budget.name), None)
    counts = (budget.period, budget.scope, as_text(budget.scope_value))
    return former is not None and (former.period, former.scope, former.scope_value) == counts


def _kept_of_period(connection: Connection, budget: Budget, now: int) -> dict[str, tuple[Decimal, Sequence[str]]]:
    """What was counted of a budget in the present period, and told of."""
    table = budget_spend.c
    present = select(budget_spend).where(table.budget == budget.name, table.period == budget.period_of(now))
    return {row.scope_value: (row.spent, json.loads(row.told)) for row in connection.execute(present)}


def _note_all(
    transaction: Transaction, budget: Budget, now: int, entries: Mapping[str, tuple[Decimal, Sequence[str]]]
) -> None:
    """Write what was spent in the present period, and tell of the thresholds that were not told of yet."""
    period = budget.period_of(now)
    table = budget_spend.c
    transaction.connection.execute(delete(budget_spend).where(table.budget == budget.name, table.period == period))
    rows = [_row(transaction, Spend(budget, period, value, spent), told) for value, (spent, told) in entries.items()]
    insert_many(transaction.connection, budget_spend, rows)


class _Seen:
    """What a budget's period has seen, as far as its spans are there, as of one state of the database."""

    def __init__(self, connection: Connection, budget: Budget, now: int) -> None:
        self._connection, self._budget, self._begin = connection, budget, budget.begin(now)
        self._change = newest_change(connection)
        self._amounts = self._sums(connection, self._begin)

    def by(self, later: Connection) -> Iterator[tuple[str, Decimal]]:
        """As of a later state: only where something has changed since, it is added up again."""
        amounts = dict(self._amounts)
        for since, until in changed_since(later, self._change):
            begin = max(since, self._begin)
            for connection, sign in ((self._connection, -1), (later, 1)):
                for value, amount in self._sums(connection, begin, until).items():
                    amounts[value] = amounts.get(value, Decimal(0)) + sign * amount
        return ((value, amount) for value, amount in amounts.items() if amount)

    def _sums(self, connection: Connection, begin: int, until: int | None = None) -> dict[str, Decimal]:
        column = _SCOPE_COLUMNS.get(self._budget.scope, literal(""))
        query = select(column, func.sum(spans.c.cost)).where(spans.c.start_time >= begin, spans.c.cost.is_not(None))
        if until is not None:
            query = query.where(spans.c.start_time < until)
        if self._budget.scope == "tag":
            tagged = and_(span_tags.c.trace_id == spans.c.trace_id, span_tags.c.span_id == spans.c.span_id)
            query = query.join(span_tags, tagged)
        if self._budget.scope_value is not None:
            query = query.where(column == as_text(self._budget.scope_value))
        if self._budget.scope != "all":
            query = query.group_by(column)
        # NULL is left out here: by an index that lacks it, SQLite would read the whole table.
        return {whose: amount for whose, amount in connection.execute(query) if amount and whose is not None}


def _told(spend: Spend, part: Decimal) -> dict[str, Any]:
    budget = spend.budget
    return {
        "budget": budget.name,
        "period": spend.period,
        "scope": budget.scope,
        "scope_value": spend.scope_value or None,
        "threshold": str(part),
        "limit": str(budget.limit),
        "spent": str(spend.spent),
        "hard": budget.hard,
    }


def _refusal(spend: Spend) -> str:
    budget = spend.budget
    whose = f" of {budget.scope} {spend.scope_value!r}" if spend.scope_value else ""
    when = f" for {spend.period}" if spend.period else ""
    return (
        f"The budget {budget.name!r}{whose} is used up{when}: ${spend.spent} of ${budget.limit} are spent, so the call "
        "was not sent. Raise its limit (aistrale.budgets.set), or wait for the next period."
    )


def _delete(connection: Connection, name: str) -> bool:
    connection.execute(delete(budget_spend).where(budget_spend.c.budget == name))
    return bool(connection.execute(delete(budgets).where(budgets.c.name == name)).rowcount)
