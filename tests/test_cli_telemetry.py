"""`aistrale telemetry`, run as people run it, over books that calls have filled."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from programs import run_module
from test_cli import Terminal, in_terminal

from aistrale.records import to_nanoseconds
from aistrale.spans import Span, SpanEvent
from aistrale.store.store import Store

__all__ = ["in_terminal"]  # the fixture

NOW = to_nanoseconds(datetime.now(UTC))
SECOND = 10**9


def span(number: int, hours: float = 0.0, model: str = "gpt-test", **more: Any) -> Span:
    start = NOW - round(hours * 3600 * SECOND) - number * SECOND
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": 10 + number,
        "gen_ai.usage.output_tokens": 5,
        "aistrale.surface": "sdk",
        **more.pop("attributes", {}),
    }
    given = {"cost": Decimal("0.0125"), "cost_source": "provider", "attributes": attributes, **more}
    return Span(f"{number + 1:032x}", f"{number + 1:016x}", f"chat {model}", start, start + SECOND // 2, **given)


@pytest.fixture
def books(tmp_path: Path) -> Callable[..., str]:
    """Fills a database, and says where it is."""

    def fill(*spans: Span) -> str:
        url = f"sqlite:///{tmp_path / 'books.db'}"
        store = Store(url)
        store.record(spans)
        store.close()
        return url

    return fill


def look(folder: Path, url: str, *arguments: str, **env: str) -> CompletedProcess[str]:
    given = {"AISTRALE_DATABASE_URL": url, "TZ": "UTC", **env}
    return run_module("aistrale_cli", "telemetry", *arguments, cwd=folder, env=given)


def test_view_lists_calls_the_newest_first(tmp_path: Path, books: Callable[..., str]) -> None:
    """When, what, its tokens, cost and time, and how it ended."""
    failed = span(1, status="error", attributes={"error.type": "rate_limit"}, cost=None, cost_source=None)
    done = look(tmp_path, books(span(0), failed), "view")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert re.split(r"\s{2,}", head) == ["when", "what", "tokens", "cost", "seconds", "status"]
    assert [re.split(r"\s{2,}", row)[1:] for row in rows] == [
        ["chat gpt-test", "10 + 5", "$0.012", "0.50", "ok"],
        ["chat gpt-test", "11 + 5", "unpriced", "0.50", "rate_limit"],
    ]
    when = datetime.fromisoformat(re.split(r"\s{2,}", rows[0])[0]).replace(tzinfo=UTC)
    assert abs(when - datetime.fromtimestamp(NOW / SECOND, UTC)) < timedelta(seconds=1)


def test_view_of_24_hours_is_what_sql_counts(tmp_path: Path, books: Callable[..., str]) -> None:
    """No call more or less, and those of a filter alone."""
    models = ("gpt-test", "claude-test")
    url = books(*(span(number, hours=number / 2, model=models[number % 2]) for number in range(200)))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        (wanted,) = database.execute(
            "SELECT count(*) FROM spans WHERE start_time >= (unixepoch() - 86400) * 1000000000"
        ).fetchone()
    assert wanted == 48
    for given, expected in (((), 48), (("-m", "claude-test"), 24), (("--min-cost", "1"), 0)):
        done = look(tmp_path, url, "view", "--last", "24h", "-n", "1000", "--output", "plain", *given)
        assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", expected)


def test_view_says_that_there_are_more(tmp_path: Path, books: Callable[..., str]) -> None:
    """On stderr, which is not piped."""
    done = look(tmp_path, books(*map(span, range(3))), "view", "-n", "2")
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == "The newest 2; --limit shows more.\n"


def test_view_as_json_is_json_alone(tmp_path: Path, books: Callable[..., str]) -> None:
    """With all there is of a span, and no number that JSON has none of."""
    odd = span(0, attributes={"aistrale.metadata.ratio": float("inf"), "session.id": "s-1"})
    done = look(tmp_path, books(odd), "view", "--output", "json")
    (found,) = json.loads(done.stdout)
    assert (found["trace_id"], found["cost"], found["session_id"]) == (odd.trace_id, "0.0125", "s-1")
    assert found["attributes"]["aistrale.metadata.ratio"] is None
    assert look(tmp_path, books(), "view", "--session", "nobody", "--output", "json").stdout == "[]\n"


def test_plain_lines_lead_to_the_trace(tmp_path: Path, books: Callable[..., str]) -> None:
    """By the id at their end."""
    url = books(span(0))
    *_, trace_id = look(tmp_path, url, "view", "--output", "plain").stdout.rstrip("\n").split("\t")
    done = look(tmp_path, url, "trace", trace_id, "--output", "plain")
    assert done.stdout == "chat gpt-test\t####################\t0.50\t$0.012\tok\n"


def test_a_trace_is_a_tree_with_when_each_span_was_at_work(tmp_path: Path, books: Callable[..., str]) -> None:
    """Below its parent, in the order of time."""
    operation = {"gen_ai.operation.name": "invoke_agent"}
    root = Span("a" * 32, "1" * 16, "invoke_agent planner", NOW, NOW + 4 * SECOND, attributes=operation)
    first = span(0, attributes={"aistrale.cancelled": True})
    first.trace_id, first.parent_id, first.start, first.end = "a" * 32, "1" * 16, NOW, NOW + SECOND
    second = span(1)
    second.trace_id, second.parent_id, second.start, second.end = "a" * 32, "1" * 16, NOW + 2 * SECOND, NOW + 4 * SECOND
    second.events = (SpanEvent("aistrale.attempt", NOW),)
    done = look(tmp_path, books(second, root, first), "trace", "a" * 32)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "what                  at work               seconds  cost    status",
        "invoke_agent planner  ####################  4.00             ok",
        "  chat gpt-test       #####...............  1.00     $0.012  cancelled",
        "  chat gpt-test       ..........##########  2.00     $0.012  ok",
    ]


def test_a_trace_that_is_not_there_is_said_so(tmp_path: Path, books: Callable[..., str]) -> None:
    """In one line, with status 1."""
    done = look(tmp_path, books(), "trace", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "aistrale: There is no trace nope in the books\n"


@pytest.mark.parametrize(
    "arguments", [("--last", "soon"), ("--status", "fine"), ("--min-cost", "much"), ("--output", "xml"), ("-n", "0")]
)
def test_what_cannot_be_meant_is_a_usage_error(
    tmp_path: Path, books: Callable[..., str], arguments: tuple[str, ...]
) -> None:
    """Status 2, nothing on stdout, and the value in what is said."""
    done = look(tmp_path, books(), "view", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[1] in done.stderr
    assert "Traceback" not in done.stderr


def test_books_that_cannot_be_read_are_said_so(tmp_path: Path) -> None:
    """With what to do, and no traceback."""
    (tmp_path / "books.db").write_bytes(b"this is no database, and long enough to see that" * 100)
    done = look(tmp_path, f"sqlite:///{tmp_path / 'books.db'}", "view")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("aistrale: ")
    assert "Traceback" not in done.stderr


def test_text_of_others_moves_no_cursor(tmp_path: Path, books: Callable[..., str]) -> None:
    """Control characters in a model's name are spaces."""
    done = look(tmp_path, books(span(0, model="a\x1b[2Jb\nc\td")), "view", "--output", "plain")
    assert done.stdout.split("\t")[1] == "chat a [2Jb c d"


def test_a_narrow_terminal_has_a_line_for_each_call(
    tmp_path: Path, books: Callable[..., str], in_terminal: Callable[..., Terminal]
) -> None:
    """What is widest is cut, and no escape is sent."""
    url = books(span(0, model="a-model-with-a-name-that-is-far-too-long-for-any-terminal-of-the-old-days"))
    terminal = in_terminal(
        "telemetry", "view", AISTRALE_DATABASE_URL=url, COLUMNS="80", TZ="UTC", TERM="xterm-256color"
    )
    shown = terminal.read_to_end()
    assert terminal.close() == ""
    _, row = shown.splitlines()
    assert len(row) <= 80
    assert "chat a-model" in row
    assert "..." in row
    assert "\x1b" not in shown


def test_a_reader_who_leaves_early_sees_no_traceback(tmp_path: Path, books: Callable[..., str]) -> None:
    """As `head -1` does."""
    url = books(*map(span, range(2000)))
    command = f"{sys.executable} -m aistrale_cli telemetry view -n 2000 --output plain | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"AISTRALE_DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
