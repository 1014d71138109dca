"""Attributes and events as the database keeps them: JSON text, in the time that its writer has."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from orjson import JSONEncodeError, dumps

from aistrale.spans import SpanEvent, in_ascii


def encode(value: Any) -> str:
    """JSON text; NUL, which PostgreSQL's text cannot hold, is escaped in it."""
    try:
        text = dumps(value, default=str).decode()
    except JSONEncodeError:  # lone surrogates, large numbers, keys that are no texts
        return in_ascii(value)
    # It says null for what is no finite number.
    return in_ascii(value) if "null" in text and not (_says_null(value, text) or _is_finite(value)) else text


def _says_null(value: Any, text: str) -> bool:
    """Whether a dict's own Nones are all the nulls there are: which is soon seen, and most often so."""
    return isinstance(value, dict) and text.count("null") == sum([entry is None for entry in value.values()])


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return not isinstance(value, float) or math.isfinite(value)
    for entry in value:
        kind = type(entry)
        if kind in _NO_FLOATS or (kind is float and math.isfinite(entry)):
            continue
        if not _is_finite(entry):
            return False
    return True


_NO_FLOATS = frozenset((str, int, bool, type(None)))


def encode_events(events: Sequence[SpanEvent]) -> str | None:
    """A span's events; None for none."""
    if not events:
        return None
    return encode([[event.name, event.time, dict(event.attributes)] for event in events])


def decode_events(text: str | None) -> tuple[SpanEvent, ...]:
    """What `encode_events` made."""
    return tuple(SpanEvent(*event) for event in json.loads(text)) if text else ()
