"""A circuit breaker for each provider and base URL: an upstream that is down is left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from aistrale.exceptions import AistraleError, APIError, CircuitOpenError, NetworkError
from aistrale.providers import Route


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float | None = None
    last: str = ""


class CircuitBreaker:
    """Opens after `threshold` failures in a row, for `cooldown` seconds; then one call is let through to see.

    Failures are the upstream's (5xx, connections, timeouts), not those the caller must mend. Times are
    `time.monotonic()` seconds. Safe to share between threads.
    """

    def __init__(
        self, threshold: int = 10, cooldown: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.threshold, self.cooldown = threshold, cooldown
        self._clock = clock
        self._circuits: dict[tuple[str, str], _Circuit] = {}
        self._lock = threading.Lock()

    def check(self, route: Route) -> None:
        """Raise CircuitOpenError if nothing is to be sent there now."""
        circuit = self._circuits.get((route.provider, route.base_url))
        if circuit is None or circuit.open_until is None:
            return
        with self._lock:
            left = circuit.open_until - self._clock()
            if left <= 0:
                circuit.open_until = self._clock() + self.cooldown  # this call is the one let through
                return
        raise CircuitOpenError(
            f"The last {circuit.failures} requests to {route.provider} failed ({circuit.last}), so it is left alone "
            f"for another {left:.0f} s. Wait, or name `fallbacks`.",
            provider=route.provider,
            retry_after=left,
        )

    def succeeded(self, route: Route) -> None:
        if self._circuits:
            self._circuits.pop((route.provider, route.base_url), None)

    def failed(self, route: Route, error: AistraleError) -> bool:
        """Count a failure if it is the upstream's; any other answer shows that the upstream is up.

        True if this is the failure that opens the circuit: once, until a call succeeds again.
        """
        if not _is_upstreams(error):
            if isinstance(error, APIError) and error.status is not None:
                self.succeeded(route)
            return False
        with self._lock:
            circuit = self._circuits.setdefault((route.provider, route.base_url), _Circuit())
            circuit.failures += 1
            circuit.last = type(error).__name__
            opens = circuit.failures >= self.threshold and circuit.open_until is None
            if circuit.failures >= self.threshold:
                circuit.open_until = self._clock() + self.cooldown
        return opens


def _is_upstreams(error: AistraleError) -> bool:
    if isinstance(error, NetworkError):
        return True
    return isinstance(error, APIError) and not isinstance(error, CircuitOpenError) and (error.status or 0) >= 500
