"""What a call cost: the provider's own word, else the user's price, else the table of genai-prices.

Whatever none of them knows is None, shown as "unpriced", never zero. Amounts are US dollars, as Decimals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import cache, lru_cache
from typing import Any, NamedTuple

from aistrale.forks import gate
from aistrale.logs import warn_once_a_minute
from aistrale.records import moment
from aistrale.spans import CostSource, Span
from aistrale.usage import Usage

_MILLION = Decimal(1_000_000)

MOST_DOLLARS = 10_000
"""What one call costs at most: what is beyond that cannot be meant, and sums of it could not be kept."""

EXACT = Context(prec=34)
"""How money is reckoned, whatever a caller's own decimal context is."""

_TABLE_NAMES = {
    "aws.bedrock": "aws",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
}
"""Providers that the table names otherwise than spans do."""

_ANYBODY = ("compatible", "aistrale")
"""Providers that say nothing of whose the model is; the address may."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars for a million tokens: the user's own, over the table.

    cache_read, cache_write: of input tokens that were read from or written into the provider's cache;
    None means as `input`. provider: whose; None means anybody's model of this name.
    """

    model: str
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    provider: str | None = None

    def of(self, usage: Usage) -> Decimal:
        """What so many tokens cost."""
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        plain = EXACT.multiply(max(0, usage.input_tokens - read - written), self.input)
        amount = EXACT.fma(usage.output_tokens, self.output, plain)
        if read:
            amount = EXACT.fma(read, self.input if self.cache_read is None else self.cache_read, amount)
        if written:
            amount = EXACT.fma(written, self.input if self.cache_write is None else self.cache_write, amount)
        return EXACT.divide(amount, _MILLION)


class Cost(NamedTuple):
    """An amount, who says so, and for the table its version."""

    amount: Decimal
    source: CostSource
    version: str | None = None


def is_meant(amount: Decimal) -> bool:
    """Whether a call can cost that."""
    return 0 <= amount <= MOST_DOLLARS


class PriceBook:
    """The user's prices over the table's."""

    def __init__(self, overrides: Iterable[Price] = ()) -> None:
        self._overrides = {(price.provider, price.model): price for price in overrides}

    def cost(self, span: Span) -> Cost | None:
        """What a span cost; None if nobody knows, if it cannot be meant, or if it asked no model."""
        if not span.is_inference:
            return None
        if span.cached:
            return Cost(Decimal(0), "cache")
        if span.cost_source == "provider" and span.cost is not None:
            return Cost(span.cost, "provider") if is_meant(span.cost) else None
        usage = span.usage
        if usage is None:
            return None
        names = [name for name in (span.response_model, span.model) if name]
        return self.price(span.provider, names, usage, span.attributes.get("server.address"), span.start)

    def price(
        self, provider: str | None, models: list[str], usage: Usage, address: str | None, when: int
    ) -> Cost | None:
        """What tokens of a model cost.

        models: its names, as it answered and as it was asked for. address: its host. when: in nanoseconds since
        1970; prices change.
        """
        try:
            cost = self._overridden(provider, models, usage) or _from_table(provider, models, usage, address, when)
        except ArithmeticError:  # a price no number is large enough for
            return None
        return cost if cost is not None and is_meant(cost.amount) else None

    def _overridden(self, provider: str | None, models: list[str], usage: Usage) -> Cost | None:
        if not self._overrides:
            return None
        for model in reversed(models):  # the name that was asked for is the one the user knows
            for owner in (provider, None):
                if price := self._overrides.get((owner, model)):
                    return Cost(price.of(usage), "override")
        return None


def _from_table(provider: str | None, models: list[str], usage: Usage, address: str | None, when: int) -> Cost | None:
    owner = None if provider is None or provider in _ANYBODY else _TABLE_NAMES.get(provider, provider)
    for model in models:
        entry = _in_table(model, owner, None if owner else f"https://{address}")
        if entry is None:
            continue
        try:
            return Cost(_amount(entry, usage, when), "table", _table_version())
        except ValueError:  # counts that contradict each other
            continue
    return None


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the table has of a model, and its price if that is the same for any number of tokens at any time."""

    info: Any
    plain: Price | None


def _amount(entry: _Entry, usage: Usage, when: int) -> Decimal:
    if entry.plain is not None and usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens:
        return entry.plain.of(usage)  # as the library would say, in a tenth of the time: every call is priced
    with localcontext(EXACT):
        amount: Decimal = entry.info.get_prices(moment(when)).calc_price(_taken(usage))["total_price"]
    return amount


@lru_cache(maxsize=1024)
def _in_table(model: str, provider: str | None, address: str | None) -> _Entry | None:
    """The table's entry for a model; None if it has none. Looking for one that it has not takes long."""
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError as error:
        warn_once_a_minute("price table", "calls stay unpriced, for the price table cannot be loaded: %s", error)
        return None
    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, address)
    except LookupError:
        return None
    return _Entry(info, _plain(info.prices))


def _plain(prices: Any) -> Price | None:
    """The table's price as one of ours; None if it has tiers, conditions or a fee for each request."""
    from genai_prices.types import ModelPrice

    if not isinstance(prices, ModelPrice) or prices.requests_kcount is not None:
        return None
    match prices.input_mtok, prices.output_mtok, prices.cache_read_mtok, prices.cache_write_mtok:
        case Decimal() as given, Decimal() as said, (Decimal() | None) as read, (Decimal() | None) as written:
            return Price("", given, said, read, written)
    return None


def _taken(usage: Usage) -> Any:
    from genai_prices import Usage as Taken

    return Taken(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
    )


@cache
def _table_version() -> str:
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


@cache
def load_table() -> None:
    """Load the price table; without this the first price asked for does, in some 400 ms."""
    with gate.undivided():
        _in_table("gpt-4o", "openai", None)


def is_table_loaded() -> bool:
    """Whether prices of the table come at once."""
    return load_table.cache_info().currsize > 0
