"""`AistraleCallbackHandler`: LlamaIndex's older callbacks as spans, for who passes a `CallbackManager`.

`instrument()` tells more, and knows of streams what these do not: they end before what they stream begins. While that
is on, this is silent, so that both together are as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.callbacks.base import global_stack_trace
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from opentelemetry.trace import TracerProvider

from aistrale.config import Config
from aistrale.spans import Kind
from aistrale.tracing.configured import recorders
from aistrale.tracing.tracer import Enclosure, Tracer, enclosures
from aistrale_llamaindex.steps import steps
from aistrale_llamaindex.surface import SURFACE
from aistrale_llamaindex.tracing import is_instrumented, outcome_of


class AistraleCallbackHandler(BaseCallbackHandler):
    """Traces what is run with it: `CallbackManager([AistraleCallbackHandler()])`, or `Settings.callback_manager`.

    tracer_provider: where spans go besides the books, instead of the application's global provider.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        super().__init__([], [])
        self._tracer = Tracer(tracer_provider, recorders(Config()), asks=False)
        if _enclosure not in enclosures:
            enclosures.append(_enclosure)

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        if is_instrumented():
            return event_id
        if event_type == CBEventType.EXCEPTION:  # of what it is part of; it is never ended itself
            steps.fail(parent_id, (payload or {}).get(EventPayload.EXCEPTION))
            return event_id
        parent = parent_id if parent_id in steps else None
        span = None
        if (found := _described(event_type, payload or {}, is_root=parent is None)) is not None:
            name, kind, attributes = found
            given = {key: value for key, value in attributes.items() if value is not None}
            span = self._tracer.start(name, kind, {"aistrale.surface": SURFACE, **given}, steps.context_of(parent))
        steps.begin(event_id, parent, span)
        return event_id

    def on_event_end(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str = "", **kwargs: Any
    ) -> None:
        told = payload or {}
        error = told.get(EventPayload.EXCEPTION)
        if (span := steps.span_of(event_id)) is not None and event_type == CBEventType.LLM:
            span.set(outcome_of(told.get(EventPayload.RESPONSE) or told.get(EventPayload.COMPLETION)))
        if isinstance(error, BaseException):
            steps.finish(event_id, error)
        else:
            steps.leave(event_id, None)

    def start_trace(self, trace_id: str | None = None) -> None:
        """Events say by themselves what they are part of."""

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None:
        """As above."""


def _described(
    event: CBEventType, payload: Mapping[Any, Any], *, is_root: bool
) -> tuple[str, Kind, dict[str, Any]] | None:
    """The name, the kind and the attributes of an event's span; None for what says no more than what is around it."""
    model = payload.get(EventPayload.SERIALIZED) or {}
    match event:
        case CBEventType.LLM | CBEventType.EMBEDDING:
            name = str(model.get("model_name") or model.get("model") or "")
            if model.get("surface") == SURFACE:  # it makes its own
                return None
            is_chat = EventPayload.MESSAGES in payload
            operation = "embeddings" if event == CBEventType.EMBEDDING else "chat" if is_chat else "text_completion"
            return (
                f"{operation} {name}".strip(),
                "client",
                {"gen_ai.operation.name": operation, "gen_ai.request.model": name or None},
            )
        case CBEventType.FUNCTION_CALL:
            tool = getattr(payload.get(EventPayload.TOOL), "name", None) or "unknown"
            attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
            return f"execute_tool {tool}", "internal", attributes
        case CBEventType.RETRIEVE:
            return "retrieval", "client", {"gen_ai.operation.name": "retrieval"}
        case CBEventType.TEMPLATING | CBEventType.CHUNKING:
            return None
    if is_root:
        attributes = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": event.value}
        return f"invoke_workflow {event.value}", "internal", attributes
    return f"chain {event.value}", "internal", {"aistrale.chain.name": event.value}


def _enclosure(provider: TracerProvider | None) -> Enclosure | None:
    """What the running code is part of, as LlamaIndex's callbacks have it."""
    above = next((steps.context_of(id) for id in reversed(global_stack_trace.get()) if id in steps), None)
    return None if above is None else Enclosure(above)
