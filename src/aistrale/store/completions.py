"""Kept answers, by the key of their request: the least recently used go first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import delete, func, insert, select, update

from aistrale.exceptions import StoreError
from aistrale.store.database import BUSY_SECONDS, Database
from aistrale.store.schema import response_cache

_USE_SECONDS = 60
"""Use is noted this often at most: a hit should not cost a write."""

_PATIENCE = 0.25
"""Seconds: a call waits for its answer to be kept."""

_CHUNK = 500
"""Answers that one transaction purges, so that writers never wait long."""


class CompletionStore:
    """Every method raises StoreError if the database cannot do it, and then has changed nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, ttl: float | None = None) -> bytes | None:
        """What was kept under a key, if that is at most `ttl` seconds old."""
        table, now = response_cache.c, time.time_ns()
        query = select(table.completion, table.used).where(table.key == key)
        if ttl is not None:
            query = query.where(table.stored > now - round(ttl * 1e9))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is not None and now - row.used > _USE_SECONDS * 10**9:
            # At once or not at all: the answer is there.
            with suppress(StoreError), self._database.write(patience=0) as connection:
                connection.execute(update(response_cache).where(table.key == key).values(used=now))
        return None if row is None else row.completion

    def set(self, key: str, completion: bytes, max_bytes: int) -> None:
        """Keep an answer, and forget others until all are no larger than `max_bytes` together."""
        table, now = response_cache.c, time.time_ns()
        if len(completion) > max_bytes:
            return
        with self._database.write(_PATIENCE) as connection:
            connection.execute(delete(response_cache).where(table.key == key))
            taken = connection.execute(select(func.sum(table.size))).scalar() or 0
            excess = int(taken) + len(completion) - max_bytes
            if excess > 0:
                oldest = connection.execute(select(table.key, table.size).order_by(table.used))
                for row in oldest.all():
                    if excess <= 0:
                        break
                    connection.execute(delete(response_cache).where(table.key == row.key))
                    excess -= row.size
            kept = {"key": key, "size": len(completion), "stored": now, "used": now, "completion": completion}
            connection.execute(insert(response_cache).values(kept))

    def clear(self) -> int:
        """Forget everything; returns how many answers that were."""
        with self._database.write() as connection:
            return connection.execute(delete(response_cache)).rowcount

    def purging(self, before: int, patience: float = BUSY_SECONDS) -> Iterator[int]:
        """Forget the answers that were kept before then, some hundred at each step, which tells how many."""
        table, some = response_cache.c, _CHUNK
        old = select(table.key).where(table.stored < before).limit(_CHUNK)
        while some == _CHUNK:
            with self._database.write(patience) as connection:
                some = connection.execute(delete(response_cache).where(table.key.in_(old))).rowcount
            yield some
