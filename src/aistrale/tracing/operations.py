"""Spans of what is around calls to models: agents, and the tools they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.util.types import AttributeValue

from aistrale.config import Config
from aistrale.exceptions import InvalidRequestError
from aistrale.spans import Kind
from aistrale.tracing.attributes import Attributes, error_type, is_cancelled
from aistrale.tracing.configured import recorders
from aistrale.tracing.tracer import OpenSpan, Tracer


@contextmanager
def current(tracer: Tracer, name: str, kind: Kind, attributes: Attributes) -> Iterator[OpenSpan]:
    """A span for as long as the block lasts; calls to models in it, and other such spans, lie below it."""
    span = tracer.start(name, kind, dict(attributes))
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


def operation(
    name: str, attributes: Mapping[str, Any], session: str | None, user: str | None, tags: Iterable[str]
) -> AbstractContextManager[OpenSpan]:
    """`current` for an application's own code, kept as the configuration says. Raises InvalidRequestError."""
    listed: list[Any] = list(tags) if isinstance(tags, Iterable) and not isinstance(tags, str) else [None]
    if not all(isinstance(tag, str) for tag in listed):
        raise InvalidRequestError(f'tags must be a list of texts, such as ["nightly"], not {tags!r}')
    for what, text in (("session", session), ("user", user), *attributes.items()):
        if not isinstance(text, str | None):
            raise InvalidRequestError(f"{what} must be a text, not {text!r}")
    about = context_attributes("sdk", session, user, listed)
    return current(Tracer(recorders=recorders(Config())), name, "internal", {**attributes, **about})


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
