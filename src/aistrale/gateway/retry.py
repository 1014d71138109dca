"""When a failed attempt is made again, and after how long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from aistrale.exceptions import (
    AistraleError,
    APIError,
    CircuitOpenError,
    NetworkError,
)

RETRYABLE_STATUSES = frozenset((408, 409, 429))
"""With every 5xx: a request timeout, a lock that was held, too many requests."""

FINAL_CODES = frozenset(("insufficient_quota", "billing_error"))
"""Of a 429 that no waiting mends."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after what pauses a failed attempt is made again.

    What is worth another try: HTTP 408, 409, 429 and 5xx, connections that fail or break, and timeouts;
    the provider's own word (`x-should-retry`) goes first. A pause that the provider asks for
    (Retry-After) is kept; one longer than `max_retry_after` seconds ends the retries instead.
    Nothing is retried after the first streamed token.

    `wait` and `stop` take any of tenacity's, such as `wait_fixed(1)` or `stop_after_delay(30)`; the default
    wait doubles from `initial` up to `maximum` seconds, with jitter.
    """

    max_retries: int = 2
    initial: float = 0.5
    maximum: float = 8.0
    max_retry_after: float = 60.0
    wait: Any = None
    stop: Any = None

    def delay(self, error: AistraleError, number: int, started: float, max_retries: int | None = None) -> float | None:
        """Seconds to wait after the `number`th attempt failed with `error`; None to give up.

        `started` is when the first attempt began, in `time.monotonic()` seconds.
        """
        limit = self.max_retries if max_retries is None else max_retries
        if number > limit or not is_retryable(error):
            return None
        # Loaded at the first failure: most programs never need it.
        from tenacity import RetryCallState, wait_exponential_jitter

        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number, state.start_time = number, started
        state.outcome_timestamp = time.monotonic()
        if self.stop is not None and self.stop(state):
            return None
        wait = self.wait or wait_exponential_jitter(self.initial, self.maximum, jitter=self.initial)
        pause = float(wait(state))
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is None:
            return pause
        return None if asked > self.max_retry_after else max(asked, pause if asked == 0 else 0.0)


def is_retryable(error: AistraleError) -> bool:
    """The same request may well succeed if it is sent again."""
    if isinstance(error, NetworkError):
        return error.retryable
    if not isinstance(error, APIError) or isinstance(error, CircuitOpenError):
        return False
    if error.should_retry is not None:
        return error.should_retry
    if error.code in FINAL_CODES or error.status is None:
        return False
    return error.status in RETRYABLE_STATUSES or error.status >= 500
