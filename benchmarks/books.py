"""The books: how fast spans are written and found, and what keeping them costs a call and a script.

Nothing here calls the upstream but `telemetry`: the rest is Aistrale and its database alone. Databases
are made in the bench's own folder; each figure that is said to be cold is of a process of its own, with
the system's file cache dropped first where that is allowed.
"""

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.report import Findings, Spread, findings

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "mistral-large")
DAYS = 10
WRITERS = 8
SCRIPT = "import aistrale; aistrale.run('Hello, world!', provider='echo')"


@dataclass(frozen=True)
class Size:
    """How much to measure: spans in the large database and in the fresh one, seconds of writers, starts of scripts."""

    spans: int = 1_000_000
    fresh: int = 50_000
    seconds: float = 10.0
    starts: int = 15
    trace: int = 30_000


QUICK = Size(spans=50_000, fresh=10_000, seconds=2.0, starts=3, trace=3_000)


def spans(number: int, seed: int = 1, trace_id: str | None = None, seconds: float = DAYS * 86_400) -> Iterator[Any]:
    """Spans of calls over the last seconds, oldest first, about 1.1 kB of attributes each."""
    from aistrale.spans import Span

    chance = random.Random(seed)
    end = time.time_ns()
    step = round(seconds * 1e9) // number
    for position in range(number):
        start = end - (number - position) * step
        duration = int(chance.lognormvariate(20.5, 0.8))
        model = MODELS[position % len(MODELS)]
        yield Span(
            trace_id or f"{start // 1_000_000:012x}{chance.getrandbits(80):020x}",
            f"{chance.getrandbits(64) or 1:016x}",
            f"chat {model}",
            start,
            start + duration,
            status="error" if position % 50 == 0 else "ok",
            attributes=_attributes(position, model, duration, chance),
            cost=Decimal(chance.randrange(10**7)).scaleb(-9),
            cost_source="provider",
        )


def _attributes(position: int, model: str, duration: int, chance: random.Random) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": f"{model}-2026-01-01",
        "gen_ai.response.id": f"chatcmpl-{chance.getrandbits(120):030x}",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": duration / 3e9,
        "gen_ai.usage.input_tokens": chance.randrange(10, 4000),
        "gen_ai.usage.output_tokens": chance.randrange(1, 800),
        "gen_ai.request.temperature": 0.7,
        "server.address": "api.openai.com",
        "server.port": 443,
        "aistrale.surface": "sdk",
        "session.id": f"session-{position % 5000}",
        "user.id": f"user-{position % 500}",
        **{f"aistrale.metadata.{name}": "x" * 60 for name in ("team", "feature", "release", "experiment", "region")},
    }


def fill(url: str, made: Iterable[Any]) -> float:
    """Write spans as the background writer does; the seconds that writing took."""
    from aistrale.store.store import Store
    from aistrale.tracing.books import BooksSink

    store, taken, batch = Store(url), 0.0, []
    store.record([])  # opened, and the tables made
    for span in made:
        batch.append(span)
        if len(batch) == BooksSink.batch:
            taken += _record(store, batch)
            batch = []
    taken += _record(store, batch)
    store.close()
    return taken


def _record(store: Any, batch: Sequence[Any]) -> float:
    started = time.perf_counter()
    store.record(batch)
    return time.perf_counter() - started


_LOOKS = (
    ("library", "to compare: SQLAlchemy imported and no more, seconds, cold", "import sqlalchemy"),
    ("query", "query(last='24h'), seconds, cold", "aistrale.telemetry.query(last='24h')"),
    ("query rare", "query(model='nope'), seconds, cold", "aistrale.telemetry.query(model='nope')"),
    ("query dear", "query(min_cost=...) of a few, seconds, cold", "aistrale.telemetry.query(min_cost='0.0099999')"),
    ("query slow", "query(min_latency=...) of a few, seconds, cold", "aistrale.telemetry.query(min_latency=45)"),
    ("summary", "summary(by='model') over all, seconds, cold", "aistrale.telemetry.summary(by='model')"),
    ("summary 24h", "summary(by='model', last='24h'), seconds, cold", "aistrale.telemetry.summary(last='24h')"),
    (
        "summary user",
        "summary(by='user', last='24h'), seconds, cold",
        "aistrale.telemetry.summary('user', last='24h')",
    ),
    ("budget", "budgets.set(each='user'), seconds, cold", "aistrale.budgets.set('b', 1, each='user')"),
)
"""Looking into a million spans: the figure, what is said of it, and the code that looks."""


def books(size: Size, folder: Path) -> Findings:
    """Writing, finding and adding up, on SQLite."""
    figures: dict[str, Spread | None] = {}
    rates = {
        seconds: [
            size.fresh / fill(f"sqlite:///{folder}/{seconds}-{number}.db", spans(size.fresh, seconds=seconds))
            for number in range(3)
        ]
        for seconds in (size.fresh // 1000, DAYS * 86_400)
    }
    figures["rows"], slower = map(Spread.of, rates.values())
    bare = Spread.of(size.fresh / _bare(folder / f"bare{number}.db", size.fresh) for number in range(3))
    rows = [
        ("spans written in a second, with events and sums, as they come", figures["rows"].text(",.0f")),
        ("spans written in a second, those of ten days", slower.text(",.0f")),
        ("to compare: rows of sqlite3 alone, with three indexes", bare.text(",.0f")),
    ]

    large = f"sqlite:///{folder / 'large.db'}"
    fill(large, spans(size.spans))
    for figure, what, code in _LOOKS:
        figures[figure] = Spread.of(_cold(large, code) for _ in range(5))
        rows.append((f"{size.spans:,} spans: {what}", figures[figure].text(".3f")))

    figures["view"] = Spread.of(_command(large, "view", "--last", "24h") for _ in range(5))
    rows.append((f"{size.spans:,} spans: aistrale telemetry view --last 24h, cold", figures["view"].text(".3f")))

    figures["purged"] = Spread.of(_purged(large))
    rows.append((f"{size.spans:,} spans: forgotten in a second, the oldest tenth", figures["purged"].text(",.0f")))

    deep = f"sqlite:///{folder / 'deep.db'}"
    fill(deep, spans(size.trace, trace_id="a" * 32))
    figures["trace"] = Spread.of(_cold(deep, f"aistrale.telemetry.trace({'a' * 32!r})") for _ in range(3))
    rows.append((f"a trace of {size.trace:,} spans, seconds, cold", figures["trace"].text(".3f")))
    figures["trace shown"] = Spread.of(_command(deep, "trace", "a" * 32) for _ in range(3))
    rows.append(
        (f"a trace of {size.trace:,} spans: aistrale telemetry trace, cold", figures["trace shown"].text(".3f"))
    )

    written, found = _writers(folder / "shared.db", size.seconds)
    figures["lost"] = Spread.of([written - found])
    rows.append(
        (f"{WRITERS} processes, {size.seconds:g} s: spans written, of them lost", f"{written:,}, {written - found:,}")
    )
    return findings(("books, on SQLite", "measured"), rows, (), figures)


def _bare(path: Path, number: int) -> float:
    """Seconds that sqlite3 takes for as many rows of text and three indexes, in batches as large."""
    from aistrale.tracing.books import BooksSink

    rows = [
        (
            *(span.trace_id, span.span_id, span.start, span.end, span.attributes["gen_ai.request.model"], span.status),
            *("gpt-4o",) * 23,
            json.dumps(span.attributes),
        )
        for span in spans(number)
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        columns = ", ".join(f"c{column}" for column in range(len(rows[0])))
        database.execute(f"CREATE TABLE spans ({columns}, PRIMARY KEY (c0, c1))")
        for column in ("c2", "c4, c2", "c5, c2"):
            database.execute(f"CREATE INDEX by_{column[:2]} ON spans ({column})")
        insert = f"INSERT INTO spans VALUES ({', '.join('?' * len(rows[0]))})"
        started = time.perf_counter()
        for first in range(0, number, BooksSink.batch):
            database.execute("BEGIN")
            database.executemany(insert, rows[first : first + BooksSink.batch])
            database.execute("COMMIT")
        return time.perf_counter() - started


def _purged(url: str) -> Iterator[float]:
    """How many spans are forgotten in a second, with their sums: the oldest tenth, in three lots."""
    from aistrale.store.store import Store

    store = Store(url)
    for days in (0.97 * DAYS, 0.94 * DAYS, 0.9 * DAYS):
        started = time.perf_counter()
        purged = store.purge(time.time_ns() - round(days * 86_400 * 1e9))
        yield purged / (time.perf_counter() - started)
    store.close()


_COLD = """
import os, sys, time
import aistrale
started = time.perf_counter()
{code}
print(time.perf_counter() - started)
"""


def _command(url: str, *arguments: str) -> float:
    """Seconds that a command of ours takes, the start of its process included."""
    _drop_caches()
    started = time.perf_counter()
    command = [sys.executable, "-m", "aistrale_cli", "telemetry", *arguments]
    subprocess.run(command, env={**os.environ, "AISTRALE_DATABASE_URL": url}, capture_output=True, check=True)
    return time.perf_counter() - started


def _drop_caches() -> None:
    with suppress(OSError):
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")


def _cold(url: str, code: str) -> float:
    _drop_caches()
    return float(_python(_COLD.format(code=code), AISTRALE_DATABASE_URL=url).stdout)


_WRITER = """
import sys, time
from benchmarks.books import spans
from aistrale.store.location import database_url
from aistrale.tracing.books import books_recorder
recorder, written, seed = books_recorder(database_url()), 0, int(sys.argv[1])
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    seed += 1000
    for span in spans(100, seed):
        recorder.record(span)
    written += 100
    time.sleep(0.1)
assert not recorder.dropped
print(written)
"""


def _writers(path: Path, seconds: float) -> tuple[int, int]:
    """Several processes keep one file, some thousand spans a second each: how many they had, how many are in it."""
    environment = {**os.environ, "AISTRALE_DATABASE_URL": f"sqlite:///{path}"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(number), str(seconds)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    written = sum(int(process.communicate()[0]) for process in processes)
    code = "import aistrale; print(sum(group.calls for group in aistrale.telemetry.summary()))"
    return written, int(_python(code, AISTRALE_DATABASE_URL=f"sqlite:///{path}").stdout)


def script(size: Size, folder: Path) -> Findings:
    """The whole run of a script of one call, with the books and without."""
    taken: dict[str, list[float]] = {"on": [], "off": []}
    for mode in taken:
        _script(mode, folder)
    for _ in range(size.starts):
        for mode, times in taken.items():
            times.append(_script(mode, folder))
    over = Spread.of(1e3 * (on - off) for on, off in zip(taken["on"], taken["off"], strict=True))
    rows = [(f"telemetry {mode}", f"{1e3 * statistics.median(times):.0f}") for mode, times in taken.items()]
    rows.append(("difference", over.text(".0f")))
    return findings(("a script of one call", "ms"), rows, (), {"script": over})


def _script(mode: str, folder: Path) -> float:
    started = time.perf_counter()
    _python(SCRIPT, AISTRALE_HOME=str(folder / "script"), AISTRALE_TELEMETRY=mode)
    return time.perf_counter() - started


_ENDING = """
import time
import aistrale
client = aistrale.Client(provider="echo", telemetry="otlp")
for _ in range(2000):
    client.run("Hello, world!")
print(time.time())
"""


def ends(size: Size, down: Callable[[], AbstractContextManager[str]]) -> Spread:
    """Seconds from a script's last line to the end of its process, 2,000 spans waiting for a collector that is down."""
    taken = []
    for _ in range(size.starts):
        with down() as address:
            last = _python(_ENDING, OTEL_EXPORTER_OTLP_ENDPOINT=address).stdout
            taken.append(time.time() - float(last))
    return Spread.of(taken)


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings: Mapping[str, str] = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
