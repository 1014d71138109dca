"""What LlamaIndex does as spans of one trace: queries, retrieval, synthesis, agents, tools and foreign models.

By LlamaIndex's own instrumentation, which says what is entered and left; no context is attached. Our own models make
their inference spans themselves, below the step they are part of. Nothing of llama_index.core is imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import BaseSpan, active_span_id
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from opentelemetry.trace import TracerProvider
from pydantic import PrivateAttr

from aistrale.config import Config
from aistrale.spans import Kind
from aistrale.tracing.configured import recorders
from aistrale.tracing.operations import agent_attributes, tool_attributes
from aistrale.tracing.tracer import Enclosure, Tracer, enclosures
from aistrale_llamaindex.steps import steps
from aistrale_llamaindex.surface import SURFACE

_UUID = 37
"""Characters behind a step's name in its id: a dash and a UUID."""

_CHATS = frozenset(("chat", "achat", "stream_chat", "astream_chat"))
_COMPLETIONS = frozenset(("complete", "acomplete", "stream_complete", "astream_complete"))
_EMBEDDINGS = frozenset(
    f"{way}get_{what}" for way in ("", "a") for what in ("query_embedding", "text_embedding", "text_embedding_batch")
)
_PARTS = frozenset(("split_text", "split_text_metadata_aware", "get_response", "aget_response"))
"""Steps that say no more than the one around them."""
_BETWEEN = frozenset(
    f"{owner}.{name}"
    for owner in ("BaseWorkflowAgent", "AgentWorkflow")
    for name in ("init_run", "setup_agent", "parse_agent_output", "aggregate_tool_results")
)
"""What an agent does between asking its model and calling tools: nothing that takes a while."""
_QUERIES = frozenset(("query", "aquery", "chat", "achat", "stream_chat", "astream_chat"))


class _SpanHandler(BaseSpanHandler[BaseSpan]):
    """Begins and ends spans."""

    _tracer: Tracer = PrivateAttr()

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    @classmethod
    def class_name(cls) -> str:
        return "AistraleSpanHandler"

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseSpan | None:
        parent = parent_span_id if parent_span_id in steps else steps.running()
        agent = getattr(bound_args.arguments.get("ev"), "current_agent_name", None)
        found = _described(id_[:-_UUID], instance, agent, is_root=parent is None)
        span = None
        if found is not None and not (found[1] == "client" and steps.is_told_of(parent, instance)):
            name, kind, attributes = found
            session, user = _whose(tags or active_instrument_tags.get())
            known = {"aistrale.surface": SURFACE, **attributes, "session.id": session, "user.id": user}
            given = {key: value for key, value in known.items() if value is not None}
            span = self._tracer.start(name, kind, given, steps.context_of(parent))
        steps.begin(id_, parent, span, instance)
        return None  # they are kept in `steps`

    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **kwargs: Any,
    ) -> BaseSpan | None:
        steps.leave(id_, result)
        return None

    def prepare_to_drop_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> BaseSpan | None:
        steps.finish(id_, err, is_cut_off=err is None)
        return None


class _EventHandler(BaseEventHandler):
    """Hears how a model's stream ended, which its span is not told."""

    @classmethod
    def class_name(cls) -> str:
        return "AistraleEventHandler"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        kind = type(event).__name__
        if event.span_id is None or kind not in _ENDS:
            return
        if kind == "ExceptionEvent":
            steps.finish(event.span_id, getattr(event, "exception", None))
            return
        if (span := steps.span_of(event.span_id)) is not None:
            span.set(outcome_of(getattr(event, "response", None)))
        steps.end_stream(event.span_id)


_ENDS = frozenset(("LLMChatEndEvent", "LLMCompletionEndEvent", "ExceptionEvent"))


def _described(
    step: str, instance: Any, agent: str | None, *, is_root: bool
) -> tuple[str, Kind, dict[str, Any]] | None:
    """The name, the kind and the attributes of a step's span; None for what is a part of the step around it.

    agent: whose turn it is, in a step of a workflow of agents.
    """
    owner, _, method = step.rpartition(".")
    if method == "__call__":
        step = owner
    elif method.startswith("_") or method in _PARTS or step in _BETWEEN:
        return None
    if any(kind.__module__.startswith("aistrale_llamaindex") for kind in type(instance).__mro__):  # it makes its own
        return None
    if type(instance).__name__ == "StructuredLLM":  # the model inside it tells of the call
        return None
    if hasattr(instance, "predict_and_call") or hasattr(instance, "structured_predict"):  # a model
        operation = "chat" if method in _CHATS else "text_completion" if method in _COMPLETIONS else None
        return None if operation is None else _model(operation, instance, instance.metadata.model_name)
    if hasattr(instance, "get_text_embedding_batch"):
        return _model("embeddings", instance, instance.model_name) if method in _EMBEDDINGS else None
    if method in ("retrieve", "aretrieve"):
        attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": owner}
        return f"retrieval {owner}", "client", attributes
    if method in ("call", "acall", "__call__") and hasattr(getattr(instance, "metadata", None), "to_openai_tool"):
        name = instance.metadata.get_name()
        return f"execute_tool {name}", "internal", tool_attributes(name, None, None)
    if method == "run" and hasattr(instance, "run_agent_step") and not hasattr(instance, "agents"):
        return _agent(getattr(instance, "name", None) or owner)
    if step == "AgentWorkflow.run_agent_step" and agent is not None:
        return _agent(agent)
    if is_root and (method in _QUERIES or method == "run"):
        attributes = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": owner}
        return f"invoke_workflow {owner}", "internal", attributes
    return f"chain {step}", "internal", {"aistrale.chain.name": step}


def _agent(name: str) -> tuple[str, Kind, dict[str, Any]]:
    return f"invoke_agent {name}", "internal", agent_attributes(name, None)


def _model(operation: str, instance: Any, model: str | None) -> tuple[str, Kind, dict[str, Any]]:
    provider = str(instance.class_name()).lower().removesuffix("_llm").removesuffix("embedding")
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider or None,
        "gen_ai.request.model": model,
        "gen_ai.request.temperature": getattr(instance, "temperature", None),
    }
    return f"{operation} {model or ''}".strip(), "client", attributes


def outcome_of(response: Any) -> dict[str, Any]:
    """What a foreign model's answer says it took, by OpenAI's names or by Anthropic's."""
    raw = getattr(response, "raw", None)
    usage = raw.get("usage") if isinstance(raw, Mapping) else getattr(raw, "usage", None)
    told = {**_as_dict(getattr(response, "additional_kwargs", None)), **_as_dict(usage)}
    found = {
        "gen_ai.usage.input_tokens": told.get("prompt_tokens", told.get("input_tokens")),
        "gen_ai.usage.output_tokens": told.get("completion_tokens", told.get("output_tokens")),
    }
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    with suppress(AttributeError, TypeError):
        return dict(value.model_dump())
    return {}


def _whose(tags: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """The session and the user that `instrument_tags` name."""
    known = tags or {}
    session, user = known.get("session_id"), known.get("user_id")
    return (str(session) if session else None), (str(user) if user else None)


def _enclosure(provider: TracerProvider | None) -> Enclosure | None:
    """What the running code is part of, as LlamaIndex has it."""
    active = active_span_id.get()
    parent = steps.context_of(active if active in steps else steps.running())
    session, user = _whose(active_instrument_tags.get())
    return None if parent is None and session is None and user is None else Enclosure(parent, session, user)


class _Installed:
    """The handlers in place."""

    spans: _SpanHandler | None = None
    events: _EventHandler | None = None


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Have everything traced that LlamaIndex does in this process, from now on.

    tracer_provider: where spans go besides the books, instead of the application's global provider.
    """
    _take_away()
    _Installed.spans = _SpanHandler(Tracer(tracer_provider, recorders(Config()), asks=False))
    _Installed.events = _EventHandler()
    root = get_dispatcher()
    root.add_span_handler(_Installed.spans)
    root.add_event_handler(_Installed.events)
    if _enclosure not in enclosures:
        enclosures.append(_enclosure)


def is_instrumented() -> bool:
    """Whether that is so."""
    return _Installed.spans is not None


def uninstrument() -> None:
    """Trace nothing any more. What is open ends, as cancelled: nobody will tell of its end."""
    _take_away()
    steps.close()


def _take_away() -> None:
    root = get_dispatcher()
    root.span_handlers = [handler for handler in root.span_handlers if handler is not _Installed.spans]
    root.event_handlers = [handler for handler in root.event_handlers if handler is not _Installed.events]
    _Installed.spans = _Installed.events = None
    if _enclosure in enclosures:
        enclosures.remove(_enclosure)
