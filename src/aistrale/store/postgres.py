"""PostgreSQL spoken to by its driver alone: fast to load, and waited for only so long."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aistrale.exceptions import StoreError
from aistrale.forks import gate
from aistrale.store.faults import advice, said
from aistrale.store.location import shown

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult

CONNECT_SECONDS = 5
"""How long a server has to let us in, and to say that it still hears us."""

KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""How soon a connection that died is known to be dead: 20 s."""

NO_DRIVER = 'PostgreSQL needs its driver: pip install "aistrale[server]"'

Answer = list[tuple[bytes | None, ...]]


def load_driver() -> None:
    """Load the driver, for what comes after not to be slow. Raises StoreError if there is none."""
    with gate.undivided():
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise StoreError(NO_DRIVER, unavailable=True) from error


@contextmanager
def connection_to(url: str) -> Iterator[Connection[Any]]:
    """A connection for some questions. Raises StoreError if there is none, or if one of them is not answered."""
    load_driver()
    import psycopg

    try:
        connection = psycopg.connect(**{"connect_timeout": CONNECT_SECONDS, **KEEPALIVE, **parameters_of(url)})
        try:
            yield connection
        finally:
            connection.pgconn.finish()  # `close` of a context would end a transaction, and wait for that
    except (psycopg.Error, OSError, ValueError) as error:
        message = f"{shown(url)}: {said(error)}. {advice(error, is_sqlite=False)}"
        raise StoreError(message, unavailable=True) from error


def ask(connection: Connection[Any], query: bytes, seconds: float = CONNECT_SECONDS) -> Answer:
    """The rows of an answer, as the server writes them.

    Raises psycopg.Error for what the server refuses, and TimeoutError if it is silent for so many seconds; then the
    connection is of no use any more.
    """
    import psycopg

    server, deadline = connection.pgconn, time.monotonic() + seconds
    server.send_query(query)
    results = list(iter(lambda: _next(server, deadline), None))
    for result in results:
        if result.status in (psycopg.pq.ExecStatus.FATAL_ERROR, psycopg.pq.ExecStatus.BAD_RESPONSE):
            raise psycopg.errors.error_from_result(result)
    return [
        tuple(result.get_value(row, column) for column in range(result.nfields))
        for result in results
        for row in range(result.ntuples)
    ]


def _next(server: PGconn, deadline: float) -> PGresult | None:
    with selectors.DefaultSelector() as selector:
        selector.register(server.socket, selectors.EVENT_READ)
        while server.flush() or server.is_busy():
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(None, "it does not answer")
            server.consume_input()
    return server.get_result()


def parameters_of(url: str) -> dict[str, Any]:
    """A URL as SQLAlchemy takes it, in the driver's words."""
    parts = urlsplit(url)
    given = {"user": parts.username, "password": parts.password, "dbname": parts.path.removeprefix("/")}
    named = {name: unquote(value) for name, value in given.items() if value}
    if parts.hostname:
        named["host"] = parts.hostname
    if parts.port:
        named["port"] = str(parts.port)
    query = parse_qsl(parts.query)
    named.update(query)
    if places := [_place(value) for name, value in query if name == "host"]:
        named["host"] = ",".join(host for host, _ in places)
        if any(port for _, port in places):
            named["port"] = ",".join(port for _, port in places)
    return named


def _place(text: str) -> tuple[str, str]:
    """A host and its port as they stand in the query of a URL: `db:5433`, `db`, or a folder with a socket."""
    host, _, port = text.rpartition(":")
    return (host, port) if port.isdecimal() and ":" not in host else (text, "")
