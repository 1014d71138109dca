"""The steps that LlamaIndex has entered and not left, each with its span: they end when their streams do."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import SpanContext

from aistrale.tracing.attributes import error_type, is_cancelled
from aistrale.tracing.tracer import OpenSpan

MOST_STEPS = 10_000
"""Steps that never end are forgotten beyond so many."""


@dataclass(slots=True)
class Step:
    """A step that was entered.

    parent: the step it is part of. span: its own; None for what is only a part of the step around it. owner: whose step
    it is. stream: what it returned, if that goes on; it is_own where it is a generator of somebody's own, which may go
    on when a step of it has ended. below: how many steps of it are open. is_left: whether LlamaIndex has left it.
    gave_way: whether it was left because its task is cancelled; lost: whether that is so of the last step of it.
    """

    parent: str | None
    span: OpenSpan | None
    owner: object = None
    stream: weakref.ref[Any] | None = None
    is_own: bool = False
    below: int = 0
    is_left: bool = False
    error: BaseException | None = None
    gave_way: bool = False
    lost: bool = False


class Steps:
    """The open steps of this process.

    A step ends once it was left, with all that is part of it, and with what it streams: a model's stream when
    LlamaIndex says so, any other of LlamaIndex's with what was asked for it. One that nobody reads ends, as cancelled,
    when it is forgotten. Somebody's own generator ends when it is forgotten, which is once it was read.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # what is forgotten is told of wherever the interpreter happens to be
        self._steps: OrderedDict[str, Step] = OrderedDict()

    def __len__(self) -> int:
        return len(self._steps)

    def __contains__(self, id: object) -> bool:
        return id in self._steps

    def begin(self, id: str, parent: str | None, span: OpenSpan | None, owner: object = None) -> None:
        with self._lock:
            self._steps[id] = Step(parent, span, owner)
            if parent is not None and (above := self._steps.get(parent)) is not None:
                above.below += 1
            while len(self._steps) > MOST_STEPS:
                _, forgotten = self._steps.popitem(last=False)
                _end(forgotten, is_cut_off=True)

    def leave(self, id: str, result: Any) -> None:
        """LlamaIndex has left a step, which may have returned a stream."""
        with self._lock:
            step = self._steps.get(id)
            if step is None:
                return
            if isinstance(result, Generator | AsyncGenerator):
                step.stream, step.is_own = weakref.ref(result), not _is_of_llamaindex(result)
                weakref.finalize(result, self.finish, id, is_cut_off=not step.is_own).atexit = False
            else:
                if result is None and (step.lost or _is_being_cancelled()):  # what a workflow makes of such a step
                    step.gave_way, step.error = True, step.error or asyncio.CancelledError()
                step.is_left = True
                self._end_if_over(id, step)

    def fail(self, id: str, error: BaseException | None) -> None:
        """A step will be left for an error."""
        with self._lock:
            if (step := self._steps.get(id)) is not None:
                step.error = error

    def end_stream(self, id: str) -> None:
        """A model's stream is over. What is no stream ends when it is left."""
        with self._lock:
            step = self._steps.get(id)
            if step is not None and step.stream is not None:
                self.finish(id)

    def finish(self, id: str, error: BaseException | None = None, *, is_cut_off: bool = False) -> None:
        """A stream is over, or a step has failed: whatever is still open in it ends by itself."""
        with self._lock:
            step = self._steps.get(id)
            if step is not None:
                step.is_left, step.stream, step.error = True, None, error or step.error
                self._end_if_over(id, step, is_forced=error is not None or is_cut_off, is_cut_off=is_cut_off)

    def _end_if_over(self, id: str, step: Step, *, is_forced: bool = False, is_cut_off: bool = False) -> None:
        if not is_forced and (not step.is_left or step.below):
            return
        del self._steps[id]
        _end(step, is_cut_off=is_cut_off)
        above = self._steps.get(step.parent or "")
        if above is None or step.parent is None:
            return
        above.below -= 1
        above.lost = step.gave_way
        if above.stream is not None and not above.below and not above.is_own:  # it streams what this step did
            above.is_left, above.stream = True, None
        self._end_if_over(step.parent, above)

    def is_told_of(self, id: str | None, owner: object) -> bool:
        """Whether a step is its owner's, as is the one that goes on in it, and has a span: a call is told of once."""
        while id is not None and (step := self._steps.get(id)) is not None and step.owner is owner:
            if step.span is not None:
                return True
            id = step.parent
        return False

    def close(self) -> None:
        """End all of them, the innermost first."""
        with self._lock:
            for id in reversed([*self._steps]):
                self.finish(id, is_cut_off=True)

    def span_of(self, id: str) -> OpenSpan | None:
        """A step's own span."""
        step = self._steps.get(id)
        return None if step is None else step.span

    def context_of(self, id: str | None) -> SpanContext | None:
        """The span that what is done in a step lies below."""
        while id is not None and (step := self._steps.get(id)) is not None:
            if step.span is not None:
                return step.span.context
            id = step.parent
        return None

    def running(self) -> str | None:
        """The step whose stream is being read by the code that runs: LlamaIndex says of none that it is in it."""
        with self._lock:
            frames = {frame: id for id, frame in self._frames()}
        frame = sys._getframe(1) if frames else None
        while frame is not None:
            if (found := frames.get(frame)) is not None:
                return found
            frame = frame.f_back
        return None

    def _frames(self) -> Iterator[tuple[str, Any]]:
        for id, step in list(self._steps.items()):  # one may be forgotten meanwhile
            stream = None if step.stream is None else step.stream()
            if stream is not None:
                frame = getattr(stream, "gi_frame", None) or getattr(stream, "ag_frame", None)
                if frame is not None:
                    yield id, frame

    def after_fork(self) -> None:
        """In a child: another thread of its parent may have held the lock, and what is open is the parent's to end."""
        self._lock = threading.RLock()
        self._steps.clear()


def _is_of_llamaindex(stream: Any) -> bool:
    """Whether a generator, not begun yet, is of LlamaIndex's code, or of ours."""
    frame = getattr(stream, "gi_frame", None) or getattr(stream, "ag_frame", None)
    name = "" if frame is None else str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] in _LLAMAINDEX


_LLAMAINDEX = ("llama_index", "llama_index_instrumentation", "aistrale_llamaindex")


def _is_being_cancelled() -> bool:
    """Whether the task that runs is to end."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # there is no event loop
        return False
    return task is not None and task.cancelling() > 0


def _end(step: Step, *, is_cut_off: bool) -> None:
    if step.span is None:
        return
    error = step.error
    if is_cut_off or (error is not None and is_cancelled(error)):
        step.span.set({"aistrale.cancelled": True})
        error = None
    step.span.end(None if error is None else error_type(error))  # what it says may quote the prompt


steps = Steps()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=steps.after_fork)
