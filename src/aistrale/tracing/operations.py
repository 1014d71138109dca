"""Spans of what is around calls to models: agents, and the tools they use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace

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
    attributes: Attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": name,
        "aistrale.surface": "sdk",
    }
    return attributes if description is None else {**attributes, "gen_ai.agent.description": description}


def tool_attributes(name: str, call_id: str | None, description: str | None) -> Attributes:
    """Of a tool at work."""
    attributes: Attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "aistrale.surface": "sdk",
    }
    optional = {"gen_ai.tool.call.id": call_id, "gen_ai.tool.description": description}
    return {**attributes, **{key: value for key, value in optional.items() if value is not None}}
