"""Recorded provider traffic: requests and answers as they went over the wire.

The recordings lie beside the checkout, not in it; `AISTRALE_WIRE` names their folder when it is
elsewhere. Without that folder there are no exchanges, and the tests over them skip.
"""

import json
import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "wire"
ABSENT = "no recorded provider traffic beside this checkout"


@dataclass(frozen=True)
class Exchange:
    """One request and its recorded answer; `response` is the body as text, an event stream as it came."""

    id: str
    api: str
    url: str
    host: str
    request: dict[str, Any]
    status: int
    content_type: str
    retry_after: str | None
    response: str

    @property
    def streamed(self) -> bool:
        return "event-stream" in self.content_type


def folder() -> Path:
    """Where the recordings lie, and `replay.py`, which serves them."""
    return Path(os.environ.get("AISTRALE_WIRE") or BESIDE)


@cache
def _recorded() -> tuple[Exchange, ...]:
    texts = (file.read_text(encoding="utf-8") for file in sorted(folder().glob("*.jsonl")))
    # Not splitlines(), which also splits at the U+2028 that JSON allows inside a string.
    entries = (json.loads(line) for text in texts for line in text.split("\n") if line)
    return tuple(Exchange(**{field.name: entry[field.name] for field in fields(Exchange)}) for entry in entries)


def exchanges(api: str | None = None) -> list[Exchange]:
    """Every recorded exchange of `api`, or of all; empty where there are no recordings."""
    return [exchange for exchange in _recorded() if api in (None, exchange.api)]


def params(api: str | None = None) -> list[ParameterSet]:
    """The exchanges as parameters of a test, by id, or one that skips and says why."""
    found = [pytest.param(exchange, id=exchange.id) for exchange in exchanges(api)]
    return found or [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=ABSENT))]
