"""The tables as SQLAlchemy knows them, for the statements of the repositories. Migrations create them.

Times are nanoseconds since 1970, durations nanoseconds, money whole picodollars.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator

from aistrale.prices import EXACT

PICO = Decimal("1e-12")


def to_picodollars(dollars: Decimal) -> int:
    """US dollars as whole picodollars: a millionth of what the cheapest token costs."""
    return int(dollars.scaleb(12, EXACT).to_integral_value(ROUND_HALF_EVEN, EXACT))


def to_dollars(picodollars: int) -> Decimal:
    """Picodollars as US dollars."""
    if picodollars % 10**12 == 0:
        return Decimal(picodollars // 10**12)  # 10, not 1E+1
    return EXACT.multiply(picodollars, PICO).normalize(EXACT)


def rounded(dollars: Decimal) -> Decimal:
    """US dollars as the database keeps them."""
    return to_dollars(to_picodollars(dollars))


class Money(TypeDecorator[Decimal]):
    """US dollars, exact: a Decimal in Python, whole picodollars in the database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else to_picodollars(value)

    def process_result_value(self, value: int | None, dialect: Any) -> Decimal | None:
        return None if value is None else to_dollars(value)


metadata = MetaData()


def _key(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, primary_key=True)


def _required(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, nullable=False)


spans = Table(
    "spans",
    metadata,
    _key("trace_id"),
    _key("span_id"),
    Column("parent_id", Text),
    _required("name"),
    _required("kind"),
    _required("start_time", BigInteger),
    _required("duration", BigInteger),
    _required("status"),
    Column("error_type", Text),
    Column("surface", Text),
    Column("operation", Text),
    Column("provider", Text),
    Column("model", Text),
    Column("response_model", Text),
    Column("session_id", Text),
    Column("user_id", Text),
    _required("cached", Boolean),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("first_token", BigInteger),
    Column("cost", Money),
    Column("cost_source", Text),
    Column("price_version", Text),
    _required("attributes"),
    Column("events", Text),
)

span_tags = Table("span_tags", metadata, _key("tag"), _key("start_time", BigInteger), _key("trace_id"), _key("span_id"))

span_hours = Table(
    "span_hours",
    metadata,
    _key("hour", BigInteger),
    _key("surface"),
    _key("operation"),
    _key("provider"),
    _key("model"),
    _key("status"),
    *(
        _required(name, BigInteger)
        for name in (
            *("calls", "unpriced", "cached", "input_tokens", "output_tokens"),
            *("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
        )
    ),
    _required("cost", Money),
    _required("latencies", LargeBinary),
    _required("first_tokens", LargeBinary),
)

span_peaks = Table(
    "span_peaks",
    metadata,
    _key("begin_time", BigInteger),
    _key("surface"),
    _key("operation"),
    _key("provider"),
    _key("model"),
    _key("status"),
    _required("duration", BigInteger),
    _required("cost", Money),
    _required("changed", BigInteger),
)

prices = Table(
    "prices",
    metadata,
    _key("model"),
    _key("provider"),
    _required("input"),
    _required("output"),
    Column("cache_read", Text),
    Column("cache_write", Text),
    _required("set_at", BigInteger),
)

prompts = Table(
    "prompts",
    metadata,
    _key("name"),
    _key("version", Integer),
    _required("template"),
    _required("options"),
    Column("note", Text),
    _required("created", BigInteger),
)

prompt_labels = Table("prompt_labels", metadata, _key("name"), _key("label"), _required("version", Integer))

tokens = Table(
    "tokens",
    metadata,
    _key("provider"),
    _key("label"),
    _required("secret"),
    _required("masked"),
    _required("is_default", Boolean),
    _required("created", BigInteger),
    Column("rotated", BigInteger),
    Column("last_used", BigInteger),
)

secret_salts = Table("secret_salts", metadata, _key("name"), _required("salt"), _required("verifier"))

events = Table("events", metadata, _key("id"), _required("type"), _required("created", BigInteger), _required("data"))

budgets = Table(
    "budgets",
    metadata,
    _key("name"),
    _required("amount", Money),
    _required("period"),
    _required("scope"),
    Column("scope_value", Text),
    _required("thresholds"),
    _required("hard", Boolean),
    _required("created", BigInteger),
)

budget_spend = Table(
    "budget_spend",
    metadata,
    _key("budget"),
    _key("period"),
    _key("scope_value"),
    _required("spent", Money),
    _required("told"),
)

response_cache = Table(
    "response_cache",
    metadata,
    _key("key"),
    _required("size", BigInteger),
    _required("stored", BigInteger),
    _required("used", BigInteger),
    _required("completion", LargeBinary),
)
