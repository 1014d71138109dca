"""What an answer cost, for whoever asks: the books price their own rows in the background."""

from __future__ import annotations

import time
from decimal import Decimal
from urllib.parse import urlsplit

from aistrale.exceptions import ConfigurationError, StoreError
from aistrale.logs import warn_once_a_minute
from aistrale.models import Completion, Embedding
from aistrale.prices import Price, PriceBook
from aistrale.providers import telemetry_name
from aistrale.store.location import database_url
from aistrale.store.peek import watch


def price(result: Completion | Embedding) -> Decimal | None:
    """US dollars by the user's own prices, else by the table; None if neither knows the model."""
    if result.usage is None:
        return None
    last = result.attempts[-1] if result.attempts else None
    models = [result.model, *((last.model,) if last else ())]
    address = urlsplit(last.base_url).hostname if last else None
    book = PriceBook(_own_prices())
    cost = book.price(telemetry_name(result.provider), models, result.usage, address, time.time_ns())
    return None if cost is None else cost.amount


def _own_prices() -> list[Price]:
    try:
        url = database_url()
        if not watch(url).now().prices:
            return []
        from aistrale.store.store import open_store

        return open_store(url).prices.all()
    except (StoreError, ConfigurationError) as error:
        warn_once_a_minute("prices", "your own prices cannot be read, the table's are taken: %s", error)
        return []
