"""Attributes and events as the database keeps them: JSON text, in the time that its writer has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import isfinite
from operator import is_
from typing import Any

from orjson import JSONEncodeError, dumps

from aistrale.parsing import parse_json
from aistrale.spans import SpanEvent, in_ascii


def encode(value: Any) -> str:
    """JSON text; NUL, which PostgreSQL's text cannot hold, is escaped in it."""
    try:
        text = dumps(value, default=str).decode()
    except JSONEncodeError:  # lone surrogates, large numbers, keys that are no texts
        return in_ascii(value)
    # It says null for what is no finite number.
    nulls = text.count("null")
    return text if nulls == 0 or nulls == _nones(value) or _are_finite(value) else in_ascii(value)


def _nones(value: Any) -> int:
    """How many of a dict's own entries are None: most often that is all the nulls there are."""
    return sum(map(is_, value.values(), repeat(None))) if isinstance(value, dict) else 0


def _are_finite(value: Any) -> bool:
    """Whether all floats in a value are."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return not isinstance(value, float) or isfinite(value)
    for entry in value:
        kind = type(entry)
        if kind in _NO_FLOATS or (kind is float and isfinite(entry)):
            continue
        if not _are_finite(entry):
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
    return tuple(SpanEvent(*event) for event in parse_json(text)) if text else ()
