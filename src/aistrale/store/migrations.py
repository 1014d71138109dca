"""The books' tables as they came to be. A database is brought up to date by the steps it has not seen yet.

Each step and its row in the ledger share a transaction, so a database is at one version or the next,
never between. The words that differ between the databases are in `_WORDS`. Versions 1 to 7 were of the
time before the first release, and no release reads them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, text

from aistrale.exceptions import StoreError
from aistrale.store.location import LEDGER


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. `statements` are SQL, with {bytes} for the type of binary data, and {by_key} after a table whose rows
    are to lie in the order of its key.
    """

    version: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS = (
    Migration(
        8,
        "spans",
        (
            """
            CREATE TABLE spans (
                trace_id TEXT NOT NULL,
                span_id TEXT NOT NULL,
                parent_id TEXT,
                name TEXT NOT NULL,
                kind TEXT NOT NULL,
                start_time BIGINT NOT NULL,
                duration BIGINT NOT NULL,
                status TEXT NOT NULL,
                error_type TEXT,
                surface TEXT,
                operation TEXT,
                provider TEXT,
                model TEXT,
                response_model TEXT,
                session_id TEXT,
                user_id TEXT,
                cached BOOLEAN NOT NULL,
                input_tokens BIGINT,
                output_tokens BIGINT,
                cache_read_tokens BIGINT,
                cache_write_tokens BIGINT,
                reasoning_tokens BIGINT,
                first_token BIGINT,
                cost BIGINT,
                cost_source TEXT,
                price_version TEXT,
                attributes TEXT NOT NULL,
                events TEXT,
                PRIMARY KEY (trace_id, span_id)
            )
            """,
            # With all that spans are looked for by, so that those that do not match need not be read.
            """
            CREATE INDEX spans_by_start ON spans (
                start_time, status, operation, provider, model, surface, session_id, user_id, duration, cost
            )
            """,
            "CREATE INDEX spans_by_session ON spans (session_id, start_time) WHERE session_id IS NOT NULL",
            "CREATE INDEX spans_by_user ON spans (user_id, start_time) WHERE user_id IS NOT NULL",
            """
            CREATE TABLE span_tags (
                tag TEXT NOT NULL,
                start_time BIGINT NOT NULL,
                trace_id TEXT NOT NULL,
                span_id TEXT NOT NULL,
                PRIMARY KEY (tag, start_time, trace_id, span_id)
            )
            """,
            "CREATE INDEX span_tags_by_span ON span_tags (trace_id, span_id)",
            """
            CREATE TABLE span_hours (
                hour BIGINT NOT NULL,
                surface TEXT NOT NULL,
                operation TEXT NOT NULL,
                provider TEXT NOT NULL,
                model TEXT NOT NULL,
                status TEXT NOT NULL,
                calls BIGINT NOT NULL,
                unpriced BIGINT NOT NULL,
                cached BIGINT NOT NULL,
                input_tokens BIGINT NOT NULL,
                output_tokens BIGINT NOT NULL,
                cache_read_tokens BIGINT NOT NULL,
                cache_write_tokens BIGINT NOT NULL,
                reasoning_tokens BIGINT NOT NULL,
                cost BIGINT NOT NULL,
                latencies {bytes} NOT NULL,
                first_tokens {bytes} NOT NULL,
                PRIMARY KEY (hour, surface, operation, provider, model, status)
            )
            """,
            """
            CREATE TABLE span_peaks (
                begin_time BIGINT NOT NULL,
                surface TEXT NOT NULL,
                operation TEXT NOT NULL,
                provider TEXT NOT NULL,
                model TEXT NOT NULL,
                status TEXT NOT NULL,
                duration BIGINT NOT NULL,
                cost BIGINT NOT NULL,
                changed BIGINT NOT NULL,
                PRIMARY KEY (begin_time, surface, operation, provider, model, status)
            ) {by_key}
            """,
            "CREATE INDEX span_peaks_by_change ON span_peaks (changed)",
            """
            CREATE TABLE prices (
                model TEXT NOT NULL,
                provider TEXT NOT NULL,
                input TEXT NOT NULL,
                output TEXT NOT NULL,
                cache_read TEXT,
                cache_write TEXT,
                set_at BIGINT NOT NULL,
                PRIMARY KEY (model, provider)
            )
            """,
        ),
    ),
    Migration(
        9,
        "prompts",
        (
            """
            CREATE TABLE prompts (
                name TEXT NOT NULL,
                version INTEGER NOT NULL,
                template TEXT NOT NULL,
                options TEXT NOT NULL,
                note TEXT,
                created BIGINT NOT NULL,
                PRIMARY KEY (name, version)
            )
            """,
            """
            CREATE TABLE prompt_labels (
                name TEXT NOT NULL,
                label TEXT NOT NULL,
                version INTEGER NOT NULL,
                PRIMARY KEY (name, label)
            )
            """,
        ),
    ),
    Migration(
        10,
        "tokens",
        (
            """
            CREATE TABLE tokens (
                provider TEXT NOT NULL,
                label TEXT NOT NULL,
                secret TEXT NOT NULL,
                masked TEXT NOT NULL,
                is_default BOOLEAN NOT NULL,
                created BIGINT NOT NULL,
                rotated BIGINT,
                last_used BIGINT,
                PRIMARY KEY (provider, label)
            )
            """,
            "CREATE UNIQUE INDEX tokens_default ON tokens (provider) WHERE is_default",
            """
            CREATE TABLE secret_salts (
                name TEXT NOT NULL PRIMARY KEY,
                salt TEXT NOT NULL,
                verifier TEXT NOT NULL
            )
            """,
        ),
    ),
    Migration(
        11,
        "events and budgets",
        (
            """
            CREATE TABLE events (
                id TEXT NOT NULL PRIMARY KEY,
                type TEXT NOT NULL,
                created BIGINT NOT NULL,
                data TEXT NOT NULL
            )
            """,
            # Of the calls that went well the log is full.
            "CREATE INDEX events_by_type ON events (type, id) WHERE type <> 'inference.completed'",
            """
            CREATE TABLE budgets (
                name TEXT NOT NULL PRIMARY KEY,
                amount BIGINT NOT NULL,
                period TEXT NOT NULL,
                scope TEXT NOT NULL,
                scope_value TEXT,
                thresholds TEXT NOT NULL,
                hard BOOLEAN NOT NULL,
                created BIGINT NOT NULL
            )
            """,
            """
            CREATE TABLE budget_spend (
                budget TEXT NOT NULL,
                period TEXT NOT NULL,
                scope_value TEXT NOT NULL,
                spent BIGINT NOT NULL,
                told TEXT NOT NULL,
                PRIMARY KEY (budget, period, scope_value)
            )
            """,
        ),
    ),
    Migration(
        12,
        "response cache",
        (
            """
            CREATE TABLE response_cache (
                key TEXT NOT NULL PRIMARY KEY,
                size BIGINT NOT NULL,
                stored BIGINT NOT NULL,
                used BIGINT NOT NULL,
                completion {bytes} NOT NULL
            )
            """,
            "CREATE INDEX response_cache_by_use ON response_cache (used)",
        ),
    ),
)

_WORDS = {
    "sqlite": {"bytes": "BLOB", "by_key": "WITHOUT ROWID"},
    "postgresql": {"bytes": "BYTEA", "by_key": ""},
}


def version_of(connection: Connection) -> int:
    """The version a database is at; 0 for an empty one."""
    if not inspect(connection).has_table(LEDGER):
        return 0
    return connection.execute(text(f"SELECT max(version) FROM {LEDGER}")).scalar() or 0


def migrate(connection: Connection, migrations: Sequence[Migration], name: str) -> None:
    """Take the steps that are missing, in the caller's transaction, which must be the only one that writes.

    Raises StoreError for a database that a newer version of this library has been at, or one from before its release.
    """
    at, oldest, newest = version_of(connection), migrations[0].version, migrations[-1].version
    if 0 < at < oldest:
        raise StoreError(
            f"{name} is at version {at}, from before the first release of aistrale, which reads none before {oldest}: "
            "move it away, or use another database",
            unavailable=True,
        )
    if at > newest:
        raise StoreError(
            f"{name} is at version {at}, and this release of aistrale knows versions up to {newest}: "
            "upgrade it (pip install --upgrade aistrale), or use another database",
            unavailable=True,
        )
    if at == 0:
        connection.execute(
            text(f"CREATE TABLE {LEDGER} (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL)")
        )
    words = _WORDS[connection.dialect.name]
    for step in migrations:
        if step.version <= at:
            continue
        for statement in step.statements:
            connection.exec_driver_sql(statement.format(**words))
        connection.execute(
            text(f"INSERT INTO {LEDGER} (version, name, applied) VALUES (:version, :name, :applied)"),
            {"version": step.version, "name": step.name, "applied": time.time_ns()},
        )
