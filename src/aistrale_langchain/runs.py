"""The runs that LangChain has begun and not ended: whose they are, and below which span their work lies."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig, ensure_config
from opentelemetry.trace import SpanContext

from aistrale.tracing.tracer import OpenSpan

MOST_RUNS = 10_000
LONGEST_SECONDS = 3600.0
"""Runs that never end are forgotten beyond either: so many at once, or so long without anything that begins in them."""


@dataclass(slots=True)
class Run:
    """A run that has begun. span: None for a model of ours, whose span is below `context`."""

    context: SpanContext | None
    span: OpenSpan | None
    parent: UUID | None
    at_work: float = field(default_factory=time.monotonic)
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
            self._renew(run.parent)
            forgotten = []
            while self._runs and (len(self._runs) > MOST_RUNS or self._is_old(next(iter(self._runs.values())))):
                forgotten.append(self._runs.popitem(last=False)[1])
            return forgotten

    def _renew(self, id: UUID | None) -> None:
        """What something begins in is at work."""
        while id is not None and (run := self._runs.get(id)) is not None:
            run.at_work = time.monotonic()
            self._runs.move_to_end(id)
            id = run.parent

    @staticmethod
    def _is_old(run: Run) -> bool:
        return time.monotonic() - run.at_work > LONGEST_SECONDS

    def end(self, id: UUID) -> list[Run]:
        """Forget a run and all that is open below it; that first, the run itself last. Nothing if it had ended."""
        with self._lock:
            return self._taken(id)

    def after_fork(self) -> None:
        """In a child: another thread of its parent may have held the lock."""
        self._lock = threading.Lock()

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

    def context_of_own(self, id: UUID | None) -> SpanContext | None:
        """The same, if it is the run of a model of ours: others may have left their id behind."""
        run = self._runs.get(id) if id is not None else None
        return run.context if run is not None and run.span is None else None


runs = Runs()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=runs.after_fork)

model_run: ContextVar[UUID | None] = ContextVar("aistrale_langchain_model_run", default=None)
"""The run of the model that is about to be called: a stream's `_stream` is not told it."""


def parent_of(run_id: UUID | None) -> SpanContext | None:
    """The span that a call of a model of ours lies below; None for whichever is current."""
    if run_id is not None:
        return runs.context_of(run_id)
    return runs.context_of_own(model_run.get())  # a stream is not told its run


asked_with: ContextVar[RunnableConfig | None] = ContextVar("aistrale_langchain_asked_with", default=None)
"""The configuration that a model's `stream` was called with, while it calls `_stream`, which is not told it."""


def about_run() -> tuple[Mapping[str, Any], Sequence[str]]:
    """The metadata and the tags of a run that a model was not told of."""
    config = ensure_config(asked_with.get())
    return config.get("metadata") or {}, config.get("tags") or ()


def given_tags(tags: Sequence[str] | None) -> list[str]:
    """The tags that somebody gave a run, and not LangChain itself."""
    return [tag for tag in tags or () if not _LANGCHAINS.match(tag)]


_LANGCHAINS = re.compile(r"(seq:step|map:key|graph:step|branch|condition|exception|retry:attempt|langsmith|langgraph):")


def whose(metadata: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """The session and the user of a run, by the names that people give in `config["metadata"]`."""
    known = metadata or {}
    session, user = known.get("session_id") or known.get("thread_id"), known.get("user_id")
    return (str(session) if session else None), (str(user) if user else None)
