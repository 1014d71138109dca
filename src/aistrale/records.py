"""What the books tell: events as they happened, and calls added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from aistrale.exceptions import InvalidRequestError
from aistrale.usage import Usage

EventType: TypeAlias = Literal[
    "inference.completed",
    "inference.failed",
    "cost.threshold_exceeded",
    "provider.failed",
    "prompt.updated",
    "token.added",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, written in the transaction of the row that caused it.

    id: sorts by time of writing, so the last one seen is a cursor. time: nanoseconds since 1970. data: JSON,
    different for each type.
    """

    id: str
    type: EventType
    time: int
    data: Mapping[str, Any]

    @property
    def created(self) -> datetime:
        """When it was written, in UTC."""
        return moment(self.time)


def moment(nanoseconds: int) -> datetime:
    """Nanoseconds since 1970 as a time in UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def to_nanoseconds(when: datetime) -> int:
    """A time as nanoseconds since 1970, as far as 64 bits go; one without a zone is local time."""
    try:
        whole = int(when.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):  # the first and the last days of the calendar, in some zone
        whole = -_FARTHEST if when.year < 1970 else _FARTHEST
    return max(-_FARTHEST, min(_FARTHEST, whole * 10**9 + when.microsecond * 1000))


_FARTHEST = 2**63 - 1


def row_limit(limit: Any) -> int:
    """How many rows are asked for, as databases can count them. Raises InvalidRequestError for what is no number."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidRequestError(f"limit must be a whole number from 1 on, not {limit!r}")
    return min(limit, 2**31)


@dataclass(frozen=True, slots=True)
class Summary:
    """Calls added up over one value of what was asked for (`by`).

    errors: how many failed. cached: how many were answered by a cache. unpriced: how many have no known
    cost, which `cost` (US dollars) therefore leaves out. Tokens are totals that include the parts.
    latency, time_to_first_token: percentiles in seconds, within one percent; None if there were none.
    """

    key: str
    calls: int
    errors: int
    cached: int
    unpriced: int
    usage: Usage
    cost: Decimal
    latency: Percentiles
    time_to_first_token: Percentiles


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds that half, 95 and 99 in a hundred do not exceed."""

    p50: float | None
    p95: float | None
    p99: float | None


Period: TypeAlias = Literal["day", "month", "total"]
Scope: TypeAlias = Literal["all", "session", "user", "tag"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, in US dollars, in each period (days and months in UTC).

    scope: whose spending counts. scope_value: which session, user or tag; None with such a scope means each
    of them has this much. thresholds: parts of `limit` at which `cost.threshold_exceeded` is told, once in
    each period. hard: calls are refused once the limit is reached.
    """

    name: str
    limit: Decimal
    period: Period = "total"
    scope: Scope = "all"
    scope_value: str | None = None
    thresholds: tuple[Decimal, ...] = (Decimal("0.5"), Decimal("0.8"), Decimal(1))
    hard: bool = False

    def period_of(self, nanoseconds: int) -> str:
        """The name of the period that a moment lies in: `2026-11-22`, `2026-11`, or an empty text for `total`."""
        return f"{moment(nanoseconds):{_PERIOD_NAMES[self.period]}}" if self.period != "total" else ""

    def begin(self, nanoseconds: int) -> int:
        """When the period that a moment lies in began."""
        if self.period == "total":
            return 0
        midnight = moment(nanoseconds).replace(hour=0, minute=0, second=0, microsecond=0)
        return to_nanoseconds(midnight if self.period == "day" else midnight.replace(day=1))


_PERIOD_NAMES = {"day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent of a budget in one period, by one session, user or tag if the budget tells them apart."""

    budget: Budget
    period: str
    scope_value: str
    spent: Decimal

    @property
    def is_exhausted(self) -> bool:
        return self.passes(Decimal(1))

    def passes(self, part: Decimal) -> bool:
        """Whether it has reached this part of the limit."""
        return self.spent >= part * self.budget.limit
