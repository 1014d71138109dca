"""The whole start-up of a process that imports a package, against one that imports nothing."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

HEAVY = ("httpx", "pydantic", "opentelemetry.sdk", "sqlalchemy")
"""Packages that `import aistrale` must leave unloaded."""


class ImportFailedError(Exception):
    """A package cannot be imported."""


@dataclass(frozen=True)
class StartUps:
    """Seconds of each start, round by round; `over` gives what a module adds to its round's bare start."""

    bare: Sequence[float]
    seconds: Mapping[str, Sequence[float]]

    def over(self, module: str) -> Iterator[float]:
        return (taken - bare for taken, bare in zip(self.seconds[module], self.bare, strict=False))


def warm_up(module: str) -> None:
    """Import once, which compiles what is not compiled; raises ImportFailedError."""
    done = _python(f"import {module}")
    if done.returncode:
        raise ImportFailedError(done.stderr.strip().rpartition("\n")[2])


def time_start_ups(rounds: Mapping[str, int]) -> StartUps:
    """Start bare Python, then each module, round by round; a module takes part in its number of rounds.

    Every module must have been warmed up.
    """
    bare: list[float] = []
    seconds: dict[str, list[float]] = {module: [] for module in rounds}
    for number in range(max(rounds.values(), default=0)):
        bare.append(_seconds("pass"))
        for module in rounds:
            if number < rounds[module]:
                seconds[module].append(_seconds(f"import {module}"))
    return StartUps(bare, seconds)


def heavy_imports(module: str) -> list[str]:
    """Which of HEAVY are loaded once `module` is imported."""
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    return _python(script).stdout.split()


def _seconds(statement: str) -> float:
    started = time.perf_counter()
    _python(statement).check_returncode()
    return time.perf_counter() - started


def _python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
