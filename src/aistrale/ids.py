"""Numbers that nobody else has."""

from __future__ import annotations

import random

random_bits = random.SystemRandom().getrandbits
"""So many random bits, of the operating system's: whoever seeds `random`, or forks, would make its own repeat."""
