"""Numbers that nobody else has."""

from __future__ import annotations

import os
import random

_own = random.Random()
"""Seeded by the operating system, and apart from the one that whoever seeds `random` makes repeat itself."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own.seed)  # a child's would be its parent's

random_bits = _own.getrandbits
"""So many random bits. They are unlike any others, and no secret."""


def ids_of_trace(began: int) -> tuple[str, str]:
    """The ids of a new trace and of its first span, 32 and 16 hexadecimal digits.

    began: when, in nanoseconds since 1970. The trace's id holds its milliseconds in the first 48 bits, and 80 random
    ones behind them: what a database keeps by such ids grows at its end, where random ones would have each batch touch
    every page of an index. The last 56 bits are random, as W3C's trace context (level 2, section 3.3.1) asks.
    """
    # All zeros would be no id: 64 random bits are as good as never.
    both = (began // 1_000_000 << 144 | random_bits(144)).to_bytes(24, "big").hex()
    return both[:32], both[32:]
