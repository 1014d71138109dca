"""`AistraleCallbackHandler`: chains, agents, graphs, tools, retrievers and foreign models as spans of one trace.

Parents come from the run ids that LangChain hands out, and from the ambient context only where a run has no parent: no
context is ever attached, since LangChain ends runs in other tasks than it began them in. Our own models make their
inference spans themselves; the handler only says below which span.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook
from opentelemetry.trace import SpanContext, TracerProvider

from aistrale.config import Config
from aistrale.spans import Kind
from aistrale.tracing.configured import recorders
from aistrale.tracing.tracer import OpenSpan, Tracer
from aistrale_langchain.messages import PROVIDER

MOST_RUNS = 10_000
LONGEST_SECONDS = 3600.0
"""Runs that never end, as a cancelled model's does not, are forgotten beyond either."""

_SURFACE = {"aistrale.surface": "langchain"}


@dataclass(slots=True)
class _Run:
    """A run that has begun. span: None for a model of ours, whose span is below `context`."""

    context: SpanContext | None
    span: OpenSpan | None
    parent: UUID | None
    began: float = field(default_factory=time.monotonic)
    children: set[UUID] = field(default_factory=set)


class _Runs:
    """The runs of this process that have begun and not ended, whichever handler heard of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[UUID, _Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, id: UUID, run: _Run) -> list[_Run]:
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
    def _is_old(run: _Run) -> bool:
        return time.monotonic() - run.began > LONGEST_SECONDS

    def end(self, id: UUID) -> list[_Run]:
        """Forget a run and all that is open below it; that first, the run itself last. Nothing if it had ended."""
        with self._lock:
            return self._taken(id)

    def _taken(self, id: UUID) -> list[_Run]:
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


_runs = _Runs()
_model_run: ContextVar[UUID | None] = ContextVar("aistrale_langchain_model_run", default=None)
"""The run of the model that is about to be called: a stream's `_stream` is not told it."""


def parent_of(run_id: UUID | None) -> SpanContext | None:
    """The span that a model's call lies below: that of its run, else of the run that was last begun here."""
    return _runs.context_of(run_id) or _runs.context_of(_model_run.get())


class AistraleCallbackHandler(BaseCallbackHandler):
    """Traces whatever LangChain and LangGraph run; pass it as `config={"callbacks": [AistraleCallbackHandler()]}`.

    tracer_provider: where spans go besides the books, instead of the application's global provider.
    """

    run_inline = True  # in the caller's own thread and order: LangChain tells others of starts after the fact
    raise_error = False

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        config = Config()
        self._tracer = Tracer(tracer_provider, recorders(config) if config["telemetry"] != "off" else ())

    # Chains, tools, retrievers

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more)
        attributes = {"gen_ai.operation.name": "invoke_workflow", "aistrale.chain.name": name}
        if more.get("run_type") == "prompt" and (prompt := (metadata or {}).get("aistrale_prompt")):
            attributes |= {"gen_ai.prompt.name": prompt["name"], "gen_ai.prompt.version": str(prompt["version"])}
        self._begin(f"chain {name}", "internal", attributes, run_id, parent_run_id, metadata)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, error)

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more)
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": more.get("tool_call_id"),
        }
        self._begin(f"execute_tool {name}", "internal", attributes, run_id, parent_run_id, metadata)

    def on_tool_end(self, output: Any, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, error)

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more)
        attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": name}
        self._begin(f"retrieval {name}", "client", attributes, run_id, parent_run_id, metadata)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, error)

    # Models

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self._begin_model("chat", run_id, parent_run_id, metadata or {}, more)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self._begin_model("text_completion", run_id, parent_run_id, metadata or {}, more)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, attributes=_outcome(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, error)

    def _begin_model(
        self, operation: str, id: UUID, parent: UUID | None, metadata: Mapping[str, Any], more: Mapping[str, Any]
    ) -> None:
        _model_run.set(id)
        if metadata.get("ls_provider") == PROVIDER:  # it makes its own span
            self._forget(_runs.begin(id, _Run(_runs.context_of(parent), None, parent)))
            return
        params = more.get("invocation_params") or {}
        model = str(metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or "")
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": metadata.get("ls_provider"),
            "gen_ai.request.model": model or None,
            "gen_ai.request.temperature": metadata.get("ls_temperature"),
            "gen_ai.request.max_tokens": metadata.get("ls_max_tokens"),
        }
        self._begin(f"{operation} {model}".strip(), "client", attributes, id, parent, metadata)

    # Spans

    def _begin(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Any],
        id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        known = {**_SURFACE, **attributes, **_whom(metadata or {})}
        given = {name: value for name, value in known.items() if value is not None}
        span = self._tracer.start(name, kind, given, _runs.context_of(parent))
        self._forget(_runs.begin(id, _Run(span.context, span, parent)))

    def _end(self, id: UUID, error: BaseException | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        ended = _runs.end(id)
        if not ended:
            return
        *below, run = ended
        self._forget(below)
        if run.span is not None:
            if attributes:
                run.span.set(attributes)
            if error is not None and _is_cancelled(error):
                run.span.set({"aistrale.cancelled": True})
            run.span.end(None if error is None or _is_no_failure(error) else type(error).__name__)

    @staticmethod
    def _forget(runs: Sequence[_Run]) -> None:
        """End what nobody ended: it was cancelled."""
        for run in runs:
            if run.span is not None:
                run.span.set({"aistrale.cancelled": True})
                run.span.end()


def _name(serialized: Mapping[str, Any] | None, more: Mapping[str, Any]) -> str:
    kept = serialized or {}
    return str(more.get("name") or kept.get("name") or (kept.get("id") or ["unknown"])[-1])


def _whom(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Whose run it is, by the names that people give in `config["metadata"]`."""
    session = metadata.get("session_id") or metadata.get("thread_id")
    user = metadata.get("user_id")
    return {"session.id": session and str(session), "user.id": user and str(user)}


def _is_cancelled(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt)


def _is_no_failure(error: BaseException) -> bool:
    """Cancelled, or LangGraph's way of leaving a node: an interrupt, a command to the graph above."""
    return _is_cancelled(error) or any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def _outcome(response: LLMResult) -> dict[str, Any]:
    """What a foreign model's answer says of itself."""
    first = response.generations[0][0] if response.generations and response.generations[0] else None
    message = getattr(first, "message", None)
    about = {**(response.llm_output or {}), **(getattr(message, "response_metadata", None) or {})}
    found: dict[str, Any] = {"gen_ai.response.model": about.get("model_name")}
    if reason := about.get("finish_reason"):
        found["gen_ai.response.finish_reasons"] = [str(reason)]
    if usage := getattr(message, "usage_metadata", None):
        found |= {
            "gen_ai.usage.input_tokens": usage["input_tokens"],
            "gen_ai.usage.output_tokens": usage["output_tokens"],
            "gen_ai.usage.cache_read.input_tokens": (usage.get("input_token_details") or {}).get("cache_read"),
            "gen_ai.usage.reasoning.output_tokens": (usage.get("output_token_details") or {}).get("reasoning"),
        }
    elif usage := about.get("token_usage"):
        found |= {
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
        }
    return {name: value for name, value in found.items() if value is not None}


# Everywhere


class _Installed:
    """What LangChain asks for a handler at each run, as it asks a context variable."""

    def __init__(self) -> None:
        self.handler: AistraleCallbackHandler | None = None
        self.is_registered = False

    def get(self) -> AistraleCallbackHandler | None:
        return self.handler


_installed = _Installed()


def instrument(handler: AistraleCallbackHandler | None = None) -> AistraleCallbackHandler:
    """Have everything traced that LangChain runs in this process, from now on; the result is the handler that does."""
    if not _installed.is_registered:
        _installed.is_registered = True
        register_configure_hook(_installed, inheritable=True)  # type: ignore[arg-type]
    _installed.handler = handler or AistraleCallbackHandler()
    return _installed.handler


def uninstrument() -> None:
    """Trace nothing any more that is not asked for by `callbacks`."""
    _installed.handler = None
