"""The runs that LangChain has begun and not ended: whose they are, and below which span their work lies."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from opentelemetry.trace import SpanContext

from aistrale.tracing.tracer import OpenSpan

MOST_RUNS = 10_000
LONGEST_SECONDS = 3600.0
"""Runs that never end, as a cancelled model's does not, are forgotten beyond either."""


@dataclass(slots=True)
class Run:
    """A run that has begun. span: None for a model of ours, whose span is below `context`."""

    context: SpanContext | None
    span: OpenSpan | None
    parent: UUID | None
    began: float = field(default_factory=time.monotonic)
    children: set[UUID] = field(default_factory=set)


class Runs:
    """The runs of this process that have begun and not ended, whichever handler heard of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[UUID, Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, id: UUID, run: Run) -> list[Run]:
        """Note a run; the result is those that are forgotten for it."""
        with self._lock:
            self._runs[id] = run
            if run.parent is not None and (above := self._runs.get(run.parent)) is not None:
                above.children.add(id)
            forgotten = []
            while self._runs and (len(self._runs) > MOST_RUNS or self._is_old(next(iter(self._runs.values())))):
                forgotten.append(self._runs.popitem(last=False)[1])
            return forgotten

    @staticmethod
    def _is_old(run: Run) -> bool:
        return time.monotonic() - run.began > LONGEST_SECONDS

    def end(self, id: UUID) -> list[Run]:
        """Forget a run and all that is open below it; that first, the run itself last. Nothing if it had ended."""
        with self._lock:
            return self._taken(id)

    def _taken(self, id: UUID) -> list[Run]:
        run = self._runs.pop(id, None)
        if run is None:
            return []
        if run.parent is not None and (above := self._runs.get(run.parent)) is not None:
            above.children.discard(id)
        return [*(below for child in list(run.children) for below in self._taken(child)), run]

    def context_of(self, id: UUID | None) -> SpanContext | None:
        """The span that what is done in a run lies below."""
        run = self._runs.get(id) if id is not None else None
        return None if run is None else run.context


runs = Runs()
model_run: ContextVar[UUID | None] = ContextVar("aistrale_langchain_model_run", default=None)
"""The run of the model that is about to be called: a stream's `_stream` is not told it."""


def parent_of(run_id: UUID | None) -> SpanContext | None:
    """The span that a model's call lies below: that of its run, else of the run that was last begun here."""
    return runs.context_of(run_id) or runs.context_of(model_run.get())


def whose(metadata: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """The session and the user of a run, by the names that people give in `config["metadata"]`."""
    known = metadata or {}
    session, user = known.get("session_id") or known.get("thread_id"), known.get("user_id")
    return (str(session) if session else None), (str(user) if user else None)
