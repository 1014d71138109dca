"""How results look in a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from aistrale.exceptions import OutputError

if TYPE_CHECKING:
    from aistrale.models import Completion
    from aistrale.spans import Span
    from aistrale.trees import TraceNode


def summary(completion: Completion) -> str:
    """The last line of a call: model, tokens, cost and time."""
    usage = completion.usage
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens" if usage else "tokens unknown"
    model = f"{completion.provider}/{completion.model}"
    return f"{model} · {tokens} · {cost(completion.cost)} · {completion.latency:.2f} s"


def completion_json(completion: Completion) -> None:
    """Print an answer on stdout as one JSON object; its `parsed` is what a schema made of it."""
    usage, spent = completion.usage, completion.cost
    told = {
        "text": completion.text,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in completion.tool_calls
        ],
        "finish_reason": completion.finish_reason,
        "provider": completion.provider,
        "model": completion.model,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cost": None if spent is None else str(spent),
        "latency": completion.latency,
        "trace_id": completion.trace_id,
    }
    if completion.output_type is not None:
        told["parsed"] = completion.parsed
    sys.stdout.write(json.dumps(told) + "\n")


def completion_rows(completion: Completion) -> Iterator[tuple[str, str]]:
    """An answer and what is known of it, a row each."""
    usage = completion.usage
    yield "text", completion.text
    for call in completion.tool_calls:
        yield "tool call", f"{call.name}({call.arguments})"
    yield "model", f"{completion.provider}/{completion.model}"
    yield "finish reason", completion.finish_reason or "unknown"
    yield "tokens", f"{usage.input_tokens} + {usage.output_tokens}" if usage else "unknown"
    yield "cost", cost(completion.cost)
    yield "seconds", f"{completion.latency:.2f}"
    yield "trace", completion.trace_id or ""


_FENCE = re.compile(
    r"^ {0,3}(?P<fence>```+|~~~+)[^\n]*\n(?P<code>.*?)^ {0,3}(?P=fence)[`~]*[ \t]*$", re.MULTILINE | re.DOTALL
)


def code_block(text: str) -> str:
    """The first fenced code block of a Markdown text (CommonMark, section 4.5). Raises OutputError for none, with the
    text.
    """
    if (found := _FENCE.search(text)) is None:
        raise OutputError("The answer has no code block; without -x all of it is printed", text=text)
    return found["code"]


def cost(dollars: Decimal | None) -> str:
    """A cost in US dollars, to the precision that says something."""
    if dollars is None:
        return "unpriced"
    if dollars == 0 or dollars >= 1:
        return f"${dollars:.2f}"
    places = max(2, 1 - dollars.adjusted())  # two digits that say something
    return f"${dollars:.{places}f}"


# Tables

_WATERFALL = 20
"""Columns in which a trace's time is drawn."""

_NARROW = 8
"""What a column is cut to at least."""


@dataclass(frozen=True, slots=True)
class Table:
    """A head and rows; the widest column is cut where they do not fit a terminal."""

    head: Sequence[str]
    rows: Iterable[Sequence[str]]


def print_table(table: Table, output: str) -> None:
    """Print rows on stdout: aligned below their head, or "plain", with tabs between and no head."""
    rows = [[_on_one_line(cell) for cell in row] for row in table.rows]
    if output == "plain":
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    rows = [list(table.head), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sys.stdout.isatty():
        over = sum(widths) + 2 * (len(widths) - 1) - get_terminal_size().columns
        widest = widths.index(max(widths))
        widths[widest] = max(_NARROW, widths[widest] - max(0, over))
    for row in rows:
        cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _on_one_line(cell: str) -> str:
    """Text of others' making may hold what moves the cursor."""
    if cell.isprintable():
        return cell
    return "".join(character if character.isprintable() else " " for character in cell)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 3]}..."


def as_json(spans: Iterable[Span]) -> None:
    """Print spans on stdout as one JSON list."""
    from aistrale.export import as_object, finite

    json.dump([finite(as_object(span)) for span in spans], sys.stdout, default=str, allow_nan=False)
    sys.stdout.write("\n")


def span_row(span: Span) -> tuple[str, ...]:
    """When a span was, in local time, what it was of, its tokens, its cost, how long it took, and how it ended."""
    usage = span.usage
    when = f"{span.started.astimezone():%Y-%m-%d %H:%M:%S}"
    tokens = f"{usage.input_tokens} + {usage.output_tokens}" if usage else ""
    return when, span.name, tokens, _cost_of(span), f"{span.latency:.2f}", _ended(span)


def trace_rows(roots: Sequence[TraceNode]) -> Iterator[tuple[str, ...]]:
    """The spans of a trace, each below its parent: its name, when it was at work within the whole, and the rest."""
    spans = [(depth, span) for root in roots for depth, span in root.walk()]
    first, last = min(span.start for _, span in spans), max(span.end for _, span in spans)
    scale = _WATERFALL / max(1, last - first)
    for depth, span in spans:
        begin = min(_WATERFALL - 1, int((span.start - first) * scale))
        length = max(1, min(_WATERFALL - begin, round((span.end - span.start) * scale)))
        drawn = f"{'.' * begin}{'#' * length}{'.' * (_WATERFALL - begin - length)}"
        yield "  " * depth + span.name, drawn, f"{span.latency:.2f}", _cost_of(span), _ended(span)


def _cost_of(span: Span) -> str:
    return cost(span.cost) if span.is_inference else ""


def _ended(span: Span) -> str:
    return span.error_type or ("cancelled" if span.attributes.get("aistrale.cancelled") else span.status)
