"""The runs that LangChain has begun and not ended: whose they are, and below which span their work lies."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import var_child_runnable_config
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TracerProvider

from aistrale.tracing.tracer import Enclosure, OpenSpan, enclosures

MOST_RUNS = 10_000
LONGEST_SECONDS = 3600.0
"""Runs that never end are forgotten beyond either: so many at once, or so long without anything that begins in them."""


@dataclass(slots=True)
class Run:
    """A run that has begun.

    parent: the run it is part of. ambient: the span that was current then. session, user: whose it is. spans: its own,
    by the provider that each is of; none of a model of ours, which makes its span itself.
    """

    parent: UUID | None
    ambient: SpanContext = INVALID_SPAN_CONTEXT
    session: str | None = None
    user: str | None = None
    spans: dict[TracerProvider, OpenSpan] = field(default_factory=dict)
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

    def get(self, id: UUID | None) -> Run | None:
        """A run, if it is open."""
        return None if id is None else self._runs.get(id)

    def lineage(self, id: UUID | None) -> Iterator[Run]:
        """A run and those that it is part of, the innermost first, as far as they are open."""
        while (run := self.get(id)) is not None:
            yield run
            id = run.parent

    def context_of(self, id: UUID | None, provider: TracerProvider) -> SpanContext | None:
        """The span of one provider that what is done in a run lies below."""
        spans = (run.spans.get(provider) for run in self.lineage(id))
        return next((span.context for span in spans if span is not None), None)


runs = Runs()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=runs.after_fork)

model_run: ContextVar[UUID | None] = ContextVar("aistrale_langchain_model_run", default=None)
"""The run of the model that is about to be called: a stream's `_stream` is not told it."""


def parent_of(run_id: UUID | None, provider: TracerProvider | None) -> SpanContext | None:
    """The span that a call of a model of ours lies below; None for whichever is current. provider: whose its own is."""
    if run_id is None:
        run_id = model_run.get()  # a stream is not told its run
        if (run := runs.get(run_id)) is None or run.spans:  # a foreign model has left its id behind
            return None
    return _below(run_id, provider)


def _below(id: UUID | None, provider: TracerProvider | None) -> SpanContext | None:
    """The span of a provider's own where a run has one, so that its traces are whole; else any."""
    found = runs.context_of(id, trace.get_tracer_provider() if provider is None else provider)
    return found or next((span.context for run in runs.lineage(id) for span in run.spans.values()), None)


@dataclass(frozen=True, slots=True)
class _Retrieval:
    """A retriever's run, with what LangChain said of where code was when it began, and the one it began in."""

    run: UUID
    config: RunnableConfig | None
    outer: _Retrieval | None


_retrieval: ContextVar[_Retrieval | None] = ContextVar("aistrale_langchain_retrieval", default=None)
"""The retriever that works: LangChain says of chains, nodes and tools that code is in them, and not of retrievers."""


def begin_retrieval(id: UUID) -> None:
    """Note that the code that follows is a retriever's, until its run ends."""
    _retrieval.set(_Retrieval(id, var_child_runnable_config.get(), _open_retrieval()))


def _open_retrieval() -> _Retrieval | None:
    found = _retrieval.get()
    while found is not None and runs.get(found.run) is None:
        found = found.outer
    return found


def enclosure(provider: TracerProvider | None) -> Enclosure | None:
    """What the running code is part of, as LangChain has it; None outside of its runs.

    A span that the application has made current meanwhile is nearer than the run it was made in.
    """
    config = var_child_runnable_config.get()
    retrieval = _open_retrieval()
    if retrieval is not None and retrieval.config is config:
        id: UUID | None = retrieval.run
    else:
        id = getattr((config or {}).get("callbacks"), "parent_run_id", None)
    if (run := runs.get(id)) is None:
        return None if config is None else Enclosure(None, *whose(config.get("metadata")))
    current = trace.get_current_span().get_span_context()
    is_own = current.is_valid and current != run.ambient
    return Enclosure(None if is_own else _below(id, provider), run.session, run.user)


def enclose() -> None:
    """From now on, have calls that are made in LangChain's runs lie in them, whoever makes them."""
    if enclosure not in enclosures:
        enclosures.append(enclosure)


_told: ContextVar[tuple[Mapping[str, Any], Sequence[str]] | None] = ContextVar("aistrale_langchain_told", default=None)
"""The metadata and the tags that a model was called with, while it calls `_stream`, which is not told them."""


class Told:
    """For a block, what a model was called with: with what it and its callbacks always say."""

    __slots__ = ("_before", "_what")

    def __init__(
        self,
        model: BaseLanguageModel[Any],
        callbacks: Callbacks,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        always, labels = {}, []
        if isinstance(callbacks, BaseCallbackManager):
            always, labels = callbacks.metadata, callbacks.tags
        every_tag = dict.fromkeys((*labels, *(tags or ()), *(model.tags or ())))
        self._what = {**always, **(metadata or {}), **(model.metadata or {})}, tuple(every_tag)

    def __enter__(self) -> None:
        self._before = _told.set(self._what)

    def __exit__(self, *_: object) -> None:
        _told.reset(self._before)


def about_run() -> tuple[Mapping[str, Any], Sequence[str]]:
    """The metadata and the tags of a run that a model was not told of."""
    if (known := _told.get()) is not None:
        return known
    config = ensure_config()
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
