"""Numbers out of a provider's JSON: what is none counts as nothing, it does not fail the answer."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any


def count(value: Any) -> int:
    """A number of tokens; 0 for what is no number."""
    return int(value) if _is_number(value) else 0


def dollars(value: Any) -> Decimal | None:
    """An amount of money, exact to the digit the provider wrote; None for what is no number."""
    return Decimal(str(value)) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
