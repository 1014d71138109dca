"""Numbers that nobody else has."""

from __future__ import annotations

import os
import random
import time

_own = random.Random()
"""Seeded by the operating system, and apart from the one that whoever seeds `random` makes repeat itself."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own.seed)  # a child's would be its parent's

random_bits = _own.getrandbits
"""So many random bits. They are unlike any others, and no secret."""


def trace_id() -> int:
    """A trace's id: the milliseconds since 1970 in its first 48 bits, 80 random ones behind them.

    What a database keeps by such ids grows at its end, where random ones would have each batch touch every page of an
    index. The last 56 bits are random, as W3C's trace context (level 2, section 3.3.1) asks.
    """
    return (time.time_ns() // 1_000_000) << 80 | random_bits(80)
