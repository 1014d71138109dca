"""Sums over spans, and their percentiles, kept so that sums can be added up and taken apart again."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_GROWTH = 1.01
_LOG_GROWTH = math.log(_GROWTH)
_UNIT = 1000
"""Nanoseconds: nothing shorter is told apart."""

COUNTS = (
    *("calls", "cached", "unpriced", "input_tokens", "output_tokens"),
    *("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
)


def bucket_of(nanoseconds: int) -> int:
    """The bucket of a duration: each is a hundredth wider than the one before."""
    return min(0xFFFF, math.ceil(math.log(nanoseconds / _UNIT) / _LOG_GROWTH)) if nanoseconds > _UNIT else 0


class Durations(Counter[int]):
    """How often each bucket of durations occurred: percentiles to half a percent, in a few kilobytes."""

    def percentile(self, part: float) -> float | None:
        """The duration, in seconds, that `part` (0 to 1) of them do not exceed; None if there are none."""
        rank = math.ceil(part * self.total())
        for bucket in sorted(self):
            rank -= self[bucket]
            if rank <= 0:
                return _UNIT * 2 * _GROWTH**bucket / (1 + _GROWTH) / 1e9
        return None

    def encode(self) -> bytes:
        """As bytes: the buckets, two bytes each, then their counts, four bytes each."""
        buckets = sorted(bucket for bucket, count in self.items() if count > 0)
        return _little("H", buckets) + _little("I", [self[bucket] for bucket in buckets])

    @classmethod
    def decode(cls, data: bytes) -> Durations:
        """What `encode` made."""
        half = len(data) // 6 * 2
        buckets, counts = array("H", data[:half]), array("I", data[half:])
        if _IS_BIG_ENDIAN:
            buckets.byteswap()
            counts.byteswap()
        return cls(dict(zip(buckets, counts, strict=True)))


_IS_BIG_ENDIAN = array("H", [1]).tobytes() == b"\0\1"


def _little(kind: str, values: list[int]) -> bytes:
    packed = array(kind, values)
    if _IS_BIG_ENDIAN:
        packed.byteswap()
    return packed.tobytes()


@dataclass(slots=True)
class Totals:
    """Sums over some spans. `cost` is in picodollars, over the spans whose cost is known."""

    calls: int = 0
    cached: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    latencies: Durations = field(default_factory=Durations)
    first_tokens: Durations = field(default_factory=Durations)

    def add_span(self, row: Any) -> None:
        """Count one span: a row of `spans`, its cost in picodollars."""
        self.calls += 1
        self.cached += bool(row.cached)
        self.input_tokens += row.input_tokens or 0
        self.output_tokens += row.output_tokens or 0
        self.cache_read_tokens += row.cache_read_tokens or 0
        self.cache_write_tokens += row.cache_write_tokens or 0
        self.reasoning_tokens += row.reasoning_tokens or 0
        self.latencies[bucket_of(row.duration)] += 1
        if row.first_token is not None:
            self.first_tokens[bucket_of(row.first_token)] += 1
        if row.cost is not None:
            self.cost += row.cost
        elif row.status != "error" or row.input_tokens is not None:  # what failed at once is not billed
            self.unpriced += 1

    def add(self, other: Totals, sign: int = 1) -> None:
        """Add the sums of other spans, or with sign -1 take them out again."""
        for name in (*COUNTS, "cost"):
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        for mine, theirs in ((self.latencies, other.latencies), (self.first_tokens, other.first_tokens)):
            for bucket, count in theirs.items():
                mine[bucket] += sign * count
