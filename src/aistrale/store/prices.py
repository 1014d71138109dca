"""The user's own prices."""

from __future__ import annotations

import time
from decimal import Decimal

from sqlalchemy import Connection, delete, insert, select

from aistrale.prices import Price
from aistrale.store.database import Database
from aistrale.store.schema import prices


class PriceStore:
    """Prices that go before the table's. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, price: Price) -> None:
        """Set a model's price, in place of an earlier one."""
        row = {name: _text(getattr(price, name)) for name in ("input", "output", "cache_read", "cache_write")}
        provider = price.provider or ""
        with self._database.write() as connection:
            _delete(connection, price.model, provider)
            connection.execute(
                insert(prices).values(model=price.model, provider=provider, set_at=time.time_ns(), **row)
            )

    def remove(self, model: str, provider: str | None = None) -> bool:
        """Forget a price; whether there was one."""
        with self._database.write() as connection:
            return _delete(connection, model, provider or "")

    def all(self) -> list[Price]:
        """All of them, by model."""
        with self._database.read() as connection:
            return self.read(connection)

    def read(self, connection: Connection) -> list[Price]:
        """All of them, in the caller's transaction."""
        rows = connection.execute(select(prices).order_by(prices.c.model, prices.c.provider))
        return [
            Price(
                row.model,
                Decimal(row.input),
                Decimal(row.output),
                row.cache_read and Decimal(row.cache_read),
                row.cache_write and Decimal(row.cache_write),
                row.provider or None,
            )
            for row in rows
        ]


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _delete(connection: Connection, model: str, provider: str) -> bool:
    where = (prices.c.model == model, prices.c.provider == provider)
    return bool(connection.execute(delete(prices).where(*where)).rowcount)
