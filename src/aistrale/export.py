"""Spans as files: JSON lines with all there is, or a table.

A file is written page by page, however many spans there are, and under another name until it is whole.
"""

from __future__ import annotations

import csv
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from aistrale.exceptions import ConfigurationError, InvalidRequestError, StoreError
from aistrale.spans import USAGE_ATTRIBUTES, Span
from aistrale.store.encoding import encode
from aistrale.store.schema import rounded

_PROPERTIES = (
    *("operation", "provider", "model", "response_model", "surface", "session_id", "user_id"),
    *("error_type", "cached", "latency", "time_to_first_token"),
)
_FIELDS = ("trace_id", "span_id", "parent_id", "name", "kind", "status")
_PAGE = 5000


def write_spans(path: Path, format: str | None, spans: Iterable[Span]) -> int:
    """Write spans into a file, whole or not at all; returns how many. format: jsonl, csv, parquet; None: by name."""
    kind = format or path.suffix.lstrip(".")
    writer = _WRITERS.get(kind)
    if writer is None:
        raise InvalidRequestError(f"{kind!r} is no format to export: name the file .jsonl, .csv or .parquet")
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        number = writer(draft, spans)
        draft.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return number


def as_row(span: Span) -> dict[str, Any]:
    """The columns of a span, as text, numbers and truth values; what is not known is None."""
    usage = span.usage
    return {
        **{name: getattr(span, name) for name in _FIELDS},
        "started": span.started.isoformat(),
        **{name: getattr(span, name) for name in _PROPERTIES},
        **{name: None if usage is None else getattr(usage, name) for name in USAGE_ATTRIBUTES},
        "cost": None if span.cost is None else format(span.cost, "f"),
        "cost_source": span.cost_source,
        "tags": " ".join(span.tags),
        "attributes": encode(finite(span.attributes)),
    }


def as_object(span: Span) -> dict[str, Any]:
    """All there is of a span, for JSON."""
    row = as_row(span)
    return {
        **row,
        "start": span.start,
        "end": span.end,
        "tags": list(span.tags),
        "price_version": span.price_version,
        "attributes": span.attributes,
        "events": [asdict(event) for event in span.events],
    }


def _write_jsonl(path: Path, spans: Iterable[Span]) -> int:
    number = 0
    with path.open("w", encoding="utf-8") as file:
        for number, span in enumerate(spans, 1):  # noqa: B007 - the last one is the count
            file.write(json.dumps(finite(as_object(span)), default=str, allow_nan=False) + "\n")
    return number


def finite(value: Any) -> Any:
    """A value without the numbers that JSON has none of (RFC 8259, section 6): infinite ones, and what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def _write_csv(path: Path, spans: Iterable[Span]) -> int:
    number = 0
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.DictWriter(file, list(as_row(Span("", "", "", 0, 0))))
        writer.writeheader()
        for number, span in enumerate(spans, 1):  # noqa: B007 - the last one is the count
            writer.writerow({name: _harmless(value) for name, value in as_row(span).items()})
    return number


def _harmless(value: Any) -> Any:
    """A spreadsheet runs what begins like a formula (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _write_parquet(path: Path, spans: Iterable[Span]) -> int:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigurationError("Parquet needs pyarrow: pip install pyarrow") from error
    kinds = {
        "started": pa.timestamp("us", "UTC"),
        "cached": pa.bool_(),
        **dict.fromkeys(("latency", "time_to_first_token"), pa.float64()),
        **dict.fromkeys(USAGE_ATTRIBUTES, pa.int64()),
        "cost": pa.decimal128(38, 12),
        "tags": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in as_row(Span("", "", "", 0, 0))])
    number = 0
    with pq.ParquetWriter(path, schema) as writer:
        for page in _pages(map(_typed_row, spans)):
            writer.write_table(pa.Table.from_pylist(page, schema))
            number += len(page)
    return number


def _typed_row(span: Span) -> dict[str, Any]:
    """The columns of a span, as what they are."""
    cost = None if span.cost is None else rounded(span.cost)
    row = {**as_row(span), "started": span.started, "cost": cost, "tags": list(span.tags)}
    return {name: _true_text(value) for name, value in row.items()}


def _true_text(value: Any) -> Any:
    """Text without what is no character."""
    if isinstance(value, list):
        return [_true_text(entry) for entry in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _pages(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while page := list(islice(rows, _PAGE)):
        yield page


_WRITERS: dict[str, Callable[[Path, Iterable[Span]], int]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
