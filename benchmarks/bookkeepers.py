"""Who keeps a call: the books, OpenTelemetry's SDK and hand-written code in their place, and collectors that are down.

Openers as in contenders.py: the same client with its telemetry off, and then each way to keep what it did.
"""

import json
import os
import random
import socket
import sqlite3
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contenders import KEY, MODEL, PROMPT, Call, LostSpansError, Opener, Ready
from benchmarks.upstream import TEXT


def _client(base_url: str, **more: Any) -> Any:
    import aistrale

    return aistrale.Client(provider="openai", base_url=base_url, api_key=KEY, model=MODEL, **more)


@contextmanager
def unobserved_run(base_url: str) -> Iterator[Ready[Call]]:

    with _client(base_url, telemetry=False) as client:
        yield Ready(lambda: len(client.run(PROMPT).text))


class _OneTable:
    """An SQLite table of spans as they are: no prices, sums, events or further indexes."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")
        self.database.execute(
            "CREATE TABLE spans (trace_id TEXT, span_id TEXT, name TEXT, began INTEGER, ended INTEGER, "
            "attributes TEXT, PRIMARY KEY (trace_id, span_id))"
        )

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        self.database.execute("BEGIN")
        self.database.executemany("INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.database.execute("COMMIT")

    def audit(self, calls: int) -> str:
        return _audit(self.database, calls)


def _audit(database: sqlite3.Connection, calls: int) -> str:
    (found,) = database.execute("SELECT count(*) FROM spans").fetchone()
    if found != calls:
        raise LostSpansError(f"{calls:,} calls left {found:,} spans")
    return f"{calls:,} calls left as many spans"


def _asked(base_url: str) -> dict[str, Any]:
    address = urlsplit(base_url)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "server.address": address.hostname,
        "server.port": address.port,
    }


def _exporter(table: _OneTable) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            table.add(
                (
                    *(f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"),
                    *(span.name, span.start_time, span.end_time, json.dumps(dict(span.attributes))),
                )
                for span in spans
            )
            return SpanExportResult.SUCCESS

    return Exporter()


@contextmanager
def sdk_run(base_url: str) -> Iterator[Ready[Call]]:
    """A span of OpenTelemetry's SDK by hand, and its JSON in one SQLite table."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    asked = _asked(base_url)
    with TemporaryDirectory() as folder, _client(base_url, telemetry=False) as client:
        table, provider = _OneTable(f"{folder}/spans.db"), TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_exporter(table), max_queue_size=20_000))
        tracer = provider.get_tracer("bare")

        def call() -> int:
            with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=asked) as span:
                answer = client.run(PROMPT)
                span.set_attributes(_answered(answer))
            return len(answer.text)

        yield Ready(call, provider.force_flush, table.audit)


@contextmanager
def sdk_span(base_url: str) -> Iterator[Ready[Call]]:
    """A span of OpenTelemetry's SDK with ten attributes around nothing, dropped by its exporter."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    attributes = {f"gen_ai.attribute.{number}": MODEL for number in range(10)}
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Exporter(), max_queue_size=20_000))
    tracer = provider.get_tracer("bare")

    def call() -> int:
        with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes):
            return len(TEXT)

    yield Ready(call, provider.force_flush)


_Finished = tuple[str, str, str, int, int, dict[str, Any]]
"""Its trace's id, its own, its name, begin and end in nanoseconds, and its attributes."""


class _OneTableOfJSON(_OneTable):
    """The least that keeps a call at all."""

    def keep(self, finished: Iterable[_Finished]) -> None:
        self.add((*span, json.dumps(attributes)) for *span, attributes in finished)


class _Books:
    """The tables of the books, with their indexes: a row and an event for each call, its price, and the hour's sums.

    As straight as it can be written for this one kind of call: no budgets, tags, keys, other prices, and no faults.
    """

    def __init__(self, path: str) -> None:
        from genai_prices.data_snapshot import get_snapshot

        from aistrale.store.store import Store
        from aistrale.store.totals import bucket_of

        store = Store(f"sqlite:///{path}")
        store.record([])
        store.close()
        self.database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA synchronous=NORMAL")
        _, info = get_snapshot().find_provider_model(MODEL, None, "openai", None)
        self._input, self._output = info.prices.input_mtok, info.prices.output_mtok
        self._bucket_of, self._sums = bucket_of, [0, 0, 0, Decimal(0)]
        self._latencies = [0] * (bucket_of(10**20) + 1)

    def keep(self, finished: Iterable[_Finished]) -> None:
        spans, events = [], []
        for number, (trace_id, span_id, name, began, ended, attributes) in enumerate(finished, time.time_ns()):
            read, written = attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]
            cost = (read * self._input + written * self._output) / 1_000_000
            self._sums = [had + more for had, more in zip(self._sums, (1, read, written, cost), strict=True)]
            self._latencies[self._bucket_of(ended - began)] += 1
            told = {
                "trace_id": trace_id,
                "span_id": span_id,
                "operation": "chat",
                "provider": "openai",
                "model": MODEL,
                "input_tokens": read,
                "output_tokens": written,
                "cost": str(cost),
                "latency": (ended - began) / 1e9,
            }
            events.append((f"evt_{number:016x}", "inference.completed", number, json.dumps(told)))
            spans.append(
                (
                    *(trace_id, span_id, None, name, "client", began, ended - began, "ok", None),
                    *("sdk", "chat", "openai", MODEL, attributes["gen_ai.response.model"], None, None),
                    *(False, read, written, None, None, None, None),
                    *(int(cost * 10**12), "table", "genai-prices", json.dumps(attributes), None),
                )
            )
        calls, read, written, cost = self._sums
        counts = struct.pack(f"<{len(self._latencies)}I", *self._latencies)
        hour = ("hour", "sdk", "chat", "openai", MODEL, "ok", calls, 0, 0, read, written, 0, 0, 0)
        self.database.execute("BEGIN IMMEDIATE")
        self._insert("spans", spans)
        self._insert("events", events)
        self._insert("span_hours", [(*hour, int(cost * 10**12), counts, b"")])
        self.database.execute("COMMIT")

    def _insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self.database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def audit(self, calls: int) -> str:
        return _audit(self.database, calls)


@contextmanager
def _keeping(keeper: Callable[[str], _OneTableOfJSON | _Books]) -> Iterator[tuple[deque[_Finished], Any, Any]]:
    """A queue, and a thread that has kept what is in it; with what keeps the rest of it, and the audit."""
    queue: deque[_Finished] = deque()
    keeping, ended = threading.Lock(), threading.Event()
    with TemporaryDirectory() as folder:
        kept = keeper(f"{folder}/spans.db")

        def settle() -> None:
            with keeping:
                kept.keep([queue.popleft() for _ in range(len(queue))])

        def work() -> None:
            while not ended.wait(0.5):
                settle()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield queue, settle, kept.audit
        finally:
            ended.set()
            worker.join()


def _answered(answer: Any) -> dict[str, Any]:
    return {
        "gen_ai.response.model": answer.model,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": [answer.finish_reason],
        "gen_ai.usage.input_tokens": answer.usage.input_tokens,
        "gen_ai.usage.output_tokens": answer.usage.output_tokens,
    }


@contextmanager
def bare_run(base_url: str) -> Iterator[Ready[Call]]:
    """The least that keeps a call: a dict in a queue, and its JSON in one table."""

    asked = _asked(base_url)
    with _client(base_url, telemetry=False) as client, _keeping(_OneTableOfJSON) as (queue, settle, audit):

        def call() -> int:
            began = time.time_ns()
            answer = client.run(PROMPT)
            ids = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
            queue.append((*ids, f"chat {MODEL}", began, time.time_ns(), {**asked, **_answered(answer)}))
            return len(answer.text)

        yield Ready(call, settle, audit)


@contextmanager
def least_run(base_url: str) -> Iterator[Ready[Call]]:
    """The least that does for this call what the books are for: a span by OpenTelemetry's API, which an application's
    provider would see; the trace's context, from the code around and on to the upstream; the tables of the books.
    """
    from opentelemetry import trace
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

    asked, tracer = _asked(base_url), trace.get_tracer("least")
    with _client(base_url, telemetry=False) as client, _keeping(_Books) as (queue, settle, audit):

        def call() -> int:
            above = trace.get_current_span().get_span_context()
            seen = tracer.start_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=asked)
            of_trace = above.trace_id or (time.time_ns() // 1_000_000) << 80 | random.getrandbits(80)
            own = SpanContext(of_trace, random.getrandbits(64), False, TraceFlags(TraceFlags.SAMPLED))
            trace_id, span_id = f"{own.trace_id:032x}", f"{own.span_id:016x}"
            began = time.time_ns()
            answer = client.run(PROMPT, extra_headers={"traceparent": f"00-{trace_id}-{span_id}-01"})
            attributes = {**asked, **_answered(answer)}
            if seen.is_recording():
                seen.set_attributes(attributes)
            seen.end()
            queue.append((trace_id, span_id, f"chat {MODEL}", began, time.time_ns(), attributes))
            return len(answer.text)

        yield Ready(call, settle, audit)


@contextmanager
def booked_run(base_url: str) -> Iterator[Ready[Call]]:
    import aistrale
    from aistrale.store.location import database_url
    from aistrale.tracing.books import bring_up_to_date

    surface = f"bench {os.getpid()}"
    with _client(base_url, telemetry="store", surface=surface) as client:

        def audit(calls: int) -> str:
            found = sum(group.calls for group in aistrale.telemetry.summary(surface=surface))
            if found != calls + 1:
                raise LostSpansError(f"{calls + 1:,} calls left {found:,} spans")
            return f"{calls + 1:,} calls left as many spans in the books"

        def settle() -> None:
            bring_up_to_date(database_url())

        client.run(PROMPT)
        settle()  # the books are open
        yield Ready(lambda: len(client.run(PROMPT).text), settle, audit)


BOOKS: Mapping[str, Opener] = {
    "unobserved": unobserved_run,
    "booked": booked_run,
    "SDK": sdk_run,
    "bare": bare_run,
    "least": least_run,
    "span": sdk_span,
}


# What a collector that is down costs the calls whose spans it is to get.


@contextmanager
def refusing() -> Iterator[str]:
    """The address of nobody."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def silent() -> Iterator[str]:
    """The address of somebody who takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


DOWN: Mapping[str, Callable[[], AbstractContextManager[str]]] = {"refusing": refusing, "silent": silent}


def _sending_to(down: Callable[[], AbstractContextManager[str]]) -> Opener:
    @contextmanager
    def run(base_url: str) -> Iterator[Ready[Call]]:

        with down() as address:
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
            with _client(base_url, telemetry="otlp") as client:
                yield Ready(lambda: len(client.run(PROMPT).text))

    return run


COLLECTORS: Mapping[str, Opener] = {
    "unobserved": unobserved_run,
    **{name: _sending_to(down) for name, down in DOWN.items()},
}
