"""Sums over spans, and their percentiles, kept so that sums can be added up and taken apart again."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

_GROWTH = 1.02
_LOG_GROWTH = math.log(_GROWTH)
_UNIT = 1000
"""Nanoseconds: nothing shorter is told apart."""

_LAST = 1505
"""The bucket of all that takes longer than a hundred days."""

_UNFOLDED = 4096
"""Durations that are listed at most, before they are counted together."""

_LANE = 32
_LANE_BYTES = _LANE // 8

COUNTED_COLUMNS = (
    *("cached", "input_tokens", "output_tokens"),
    *("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
)
COUNTS = ("calls", "unpriced", *COUNTED_COLUMNS)


def bucket_of(nanoseconds: int) -> int:
    """The bucket of a duration: each is two hundredths wider than the one before."""
    return min(_LAST, math.ceil(math.log(nanoseconds / _UNIT) / _LOG_GROWTH)) if nanoseconds > _UNIT else 0


class Durations:
    """How often each bucket of durations occurred: percentiles to one percent, in a kilobyte or two.

    One large number, whose lanes of 32 bits are the counts: adding thousands of histograms up, which a summary does,
    is then adding numbers.
    """

    __slots__ = ("_counted", "_folded")

    def __init__(self, buckets: Iterable[int] = ()) -> None:
        self._folded = 0
        self._counted = list(buckets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Durations) and self._lanes == other._lanes

    __hash__ = None  # type: ignore[assignment]

    def count(self, bucket: int) -> None:
        """Count one more."""
        self._counted.append(bucket)
        if len(self._counted) >= _UNFOLDED:
            _ = self._lanes

    def add(self, other: Durations, sign: int) -> None:
        """Add those of others, or with sign -1 take them out again, as far as they are in."""
        if sign > 0:
            self._folded += other._lanes
            return
        taken = other._counts()
        left = [max(0, count - less) for count, less in zip_longest(self._counts(), taken, fillvalue=0)]
        self._folded = _folded(left)

    @property
    def _lanes(self) -> int:
        if self._counted:
            counts = [0] * (max(self._counted) + 1)
            for bucket in self._counted:
                counts[bucket] += 1
            self._folded += _folded(counts)
            self._counted.clear()
        return self._folded

    def _counts(self) -> tuple[int, ...]:
        """How often each bucket occurred, from the first of all on."""
        first, lanes = self._lanes_from_first()
        return (0,) * first + struct.unpack(f"<{len(lanes) // _LANE_BYTES}I", lanes)

    def percentile(self, part: float) -> float | None:
        """The duration, in seconds, that `part` (0 to 1) of them do not exceed; None if there are none."""
        first, lanes = self._lanes_from_first()
        counts = struct.unpack(f"<{len(lanes) // _LANE_BYTES}I", lanes)
        rank = max(1, math.ceil(part * sum(counts)))
        for bucket, count in enumerate(counts, first):
            rank -= count
            if rank <= 0:
                return _UNIT * 2 * _GROWTH**bucket / (1 + _GROWTH) / 1e9
        return None

    def encode(self) -> bytes:
        """As bytes: the first bucket, two bytes, and the counts from there on, four bytes each, little-endian."""
        first, lanes = self._lanes_from_first()
        return first.to_bytes(2, "little") + lanes

    @classmethod
    def decode(cls, data: bytes) -> Durations:
        """What `encode` made."""
        durations = cls()
        durations._folded = int.from_bytes(data[2:], "little") << _LANE * int.from_bytes(data[:2], "little")
        return durations

    def _lanes_from_first(self) -> tuple[int, bytes]:
        """The first bucket that occurred, and the lanes from there to the last."""
        lanes = self._lanes
        if not lanes:
            return 0, b""
        first = ((lanes & -lanes).bit_length() - 1) // _LANE
        rest = lanes >> _LANE * first
        return first, rest.to_bytes(-(-rest.bit_length() // _LANE) * _LANE_BYTES, "little")


def _folded(counts: Sequence[int]) -> int:
    return int.from_bytes(struct.pack(f"<{len(counts)}I", *counts), "little")


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
        self.latencies.count(bucket_of(row.duration))
        if row.first_token is not None:
            self.first_tokens.count(bucket_of(row.first_token))
        if row.cost is not None:
            self.cost += row.cost
        elif row.status != "error" or row.input_tokens is not None:  # what failed at once is not billed
            self.unpriced += 1

    def add(self, other: Totals, sign: int = 1) -> None:
        """Add the sums of other spans, or with sign -1 take them out again."""
        for name in (*COUNTS, "cost"):
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        self.latencies.add(other.latencies, sign)
        self.first_tokens.add(other.first_tokens, sign)
