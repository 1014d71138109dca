"""Warnings of what goes on for long: once a minute."""

from __future__ import annotations

import logging
import time

SECONDS = 60.0

logger = logging.getLogger("aistrale")

_warned: dict[str, float] = {}


def warn_once_a_minute(about: str, message: str, *arguments: object) -> None:
    """Log a warning about something, unless there was one about it in the last minute."""
    now = time.monotonic()
    if now - _warned.get(about, -SECONDS) >= SECONDS:
        _warned[about] = now
        logger.warning(message, *arguments)
