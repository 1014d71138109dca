"""Spans of what is around calls to models: agents, and the tools they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.util.types import AttributeValue

from aistrale.spans import Kind
from aistrale.tracing.attributes import Attributes, error_type, is_cancelled
from aistrale.tracing.tracer import OpenSpan, Tracer


@contextmanager
def current(tracer: Tracer, name: str, kind: Kind, attributes: Attributes) -> Iterator[OpenSpan]:
    """A span for as long as the block lasts; calls to models in it, and other such spans, lie below it."""
    span = tracer.start(name, kind, attributes)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(span.context)))
    failure: str | None = None
    try:
        yield span
    except BaseException as error:
        failure = None if is_cancelled(error) else error_type(error)
        raise
    finally:
        context.detach(token)
        span.end(failure)


def agent_attributes(name: str, description: str | None) -> Attributes:
    """Of an agent at work."""
    return _given(
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": name,
            "gen_ai.agent.description": description,
        }
    )


def tool_attributes(name: str, call_id: str | None, description: str | None) -> Attributes:
    """Of a tool at work."""
    return _given(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.description": description,
        }
    )


def context_attributes(surface: str, session: str | None, user: str | None, tags: Iterable[str]) -> Attributes:
    """Of whatever is done for somebody: by which layer, in which session, for whom, under which tags."""
    return _given(
        {"aistrale.surface": surface, "session.id": session, "user.id": user, "aistrale.tags": list(tags) or None}
    )


def _given(attributes: Mapping[str, AttributeValue | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
