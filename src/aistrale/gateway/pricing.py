"""What an answer cost, for whoever asks: the books price their own rows in the background."""

from __future__ import annotations

import time
from decimal import Decimal
from urllib.parse import urlsplit

from aistrale.models import Completion, Embedding
from aistrale.prices import PriceBook
from aistrale.providers import telemetry_name
from aistrale.store.peek import own_prices


def price(result: Completion | Embedding) -> Decimal | None:
    """US dollars by the user's own prices, else by the table; None if neither knows the model."""
    if result.usage is None:
        return None
    last = result.attempts[-1] if result.attempts else None
    models = [result.model, *((last.model,) if last else ())]
    address = urlsplit(last.base_url).hostname if last else None
    book = PriceBook(own_prices())
    cost = book.price(telemetry_name(result.provider), models, result.usage, address, time.time_ns())
    return None if cost is None else cost.amount
