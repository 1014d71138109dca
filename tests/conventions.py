"""The semantic conventions for spans of generative AI as a table, and what in a span departs from it.

Source: https://github.com/open-telemetry/semantic-conventions-genai, `model/gen-ai/spans.yaml` and `registry.yaml` for
the spans, the JSON schemas beside them for content. The table is held to one version of these, REFERENCE, and is read
from there rather than from our code, so that the two can disagree. Operations on memory stores, and those that fetch
an answer of old, are left out: no call here is one.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

REFERENCE = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The schema that a scope names whose spans are meant by this table."""

Shape: TypeAlias = "type | list[Shape] | dict[str, Shape] | Callable[[Any], Shape]"
"""What a value has to be: of exactly this type (`object`: any), a list of such, an object with these fields or more."""
Table: TypeAlias = Mapping[str, Shape]

# Content, which is recorded only where somebody opted in. Spans may hold it as JSON text

PART_FIELDS: dict[str, dict[str, Shape]] = {
    "text": {"content": str},
    "reasoning": {"content": str},
    "tool_call": {"name": str},
    "tool_call_response": {"response": object},
    "blob": {"modality": str, "content": str},
    "uri": {"modality": str, "uri": str},
    "file": {"modality": str, "file_id": str},
}
"""What the parts of a message need besides their type; other types are allowed, and need nothing."""


def _part(value: Any) -> Shape:
    kind = value.get("type") if isinstance(value, dict) else None
    return {"type": str, **PART_FIELDS.get(str(kind), {})}


_MESSAGES: Shape = [{"role": str, "parts": [_part]}]
CONVERSATION: Table = {
    "gen_ai.system_instructions": [_part],
    "gen_ai.input.messages": _MESSAGES,
    "gen_ai.output.messages": _MESSAGES,
    "gen_ai.tool.definitions": [{"type": str, "name": str}],
}
TOOL_CALL: Table = {"gen_ai.tool.call.arguments": {}, "gen_ai.tool.call.result": {}}
RETRIEVED: Table = {
    "gen_ai.retrieval.query.text": str,
    "gen_ai.retrieval.documents": [{}],
}
OPT_IN = frozenset((*CONVERSATION, *TOOL_CALL, *RETRIEVED))

# Attributes

COMMON: Table = {"gen_ai.operation.name": str, "error.type": str}
SERVER: Table = {"server.address": str, "server.port": int}
MODEL: Table = {"gen_ai.provider.name": str, "gen_ai.request.model": str, **SERVER}
AGENT: Table = {"gen_ai.agent.name": str, "gen_ai.agent.description": str}
REMOTE_AGENT: Table = {"gen_ai.agent.id": str, "gen_ai.agent.version": str, **AGENT}
GENERATION: Table = {
    "gen_ai.request.max_tokens": int,
    "gen_ai.request.choice.count": int,
    "gen_ai.request.temperature": float,
    "gen_ai.request.top_p": float,
    "gen_ai.request.stop_sequences": [str],
    "gen_ai.request.frequency_penalty": float,
    "gen_ai.request.presence_penalty": float,
    "gen_ai.request.seed": int,
    "gen_ai.output.type": str,
    "gen_ai.response.finish_reasons": [str],
    "gen_ai.usage.input_tokens": int,
    "gen_ai.usage.output_tokens": int,
    "gen_ai.conversation.id": str,
}
"""Of models, and of agents as a whole."""
TOKEN_PARTS: Table = {"gen_ai.usage.cache_read.input_tokens": int, "gen_ai.usage.cache_write.input_tokens": int}
INFERENCE: Table = {
    "gen_ai.request.top_k": int,
    "gen_ai.request.stream": bool,
    "gen_ai.request.reasoning.level": str,
    "gen_ai.response.id": str,
    "gen_ai.response.model": str,
    "gen_ai.response.time_to_first_chunk": float,
    "gen_ai.usage.reasoning.output_tokens": int,
    "gen_ai.prompt.name": str,
    "gen_ai.prompt.version": str,
    **TOKEN_PARTS,
}
EMBEDDINGS: Table = {
    "gen_ai.request.encoding_formats": [str],
    "gen_ai.embeddings.dimension.count": int,
    "gen_ai.response.model": str,
    "gen_ai.usage.input_tokens": int,
}
TOOL: Table = {
    "gen_ai.tool.name": str,
    "gen_ai.tool.type": str,
    "gen_ai.tool.description": str,
    "gen_ai.tool.call.id": str,
    "gen_ai.agent.name": str,
    "gen_ai.conversation.id": str,
}
BESIDES: Table = {
    "gen_ai.usage.cost": float,
    "session.id": str,
    "user.id": str,
    "http.response.status_code": int,
}
"""What any of our spans may have as well, apart from `aistrale.*`: the conventions know no cost, and Langfuse reads
this one; the others are of the general conventions."""

VALUES: dict[str, tuple[object, ...]] = {
    "gen_ai.output.type": ("text", "json", "image", "speech"),
    "gen_ai.request.stream": (True,),  # "if and only if the request is streaming"
}
ONLY_WITH = {
    "server.port": "server.address",
    "server.address": "server.port",
    "gen_ai.prompt.version": "gen_ai.prompt.name",
    "gen_ai.response.time_to_first_chunk": "gen_ai.request.stream",
    "gen_ai.usage.cache_read.input_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.usage.cache_write.input_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.usage.reasoning.output_tokens": "gen_ai.usage.output_tokens",
}
"""Attributes that say nothing, or too little, without another."""
PARTS_OF = {
    "gen_ai.usage.input_tokens": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_write.input_tokens"),
    "gen_ai.usage.output_tokens": ("gen_ai.usage.reasoning.output_tokens",),
}
"""The totals include their parts."""

# Spans


@dataclass(frozen=True)
class SpanType:
    """A type of span; its name is that of the operation and, if there is one, of its `subject`.

    required: what none may lack. A model counts as "available" to whoever calls one.
    at_start: what a sampler decides by, and so has to be there when the span begins, if at all.
    """

    operations: tuple[str, ...]
    kind: SpanKind
    subject: str
    attributes: Table
    required: tuple[str, ...] = ()
    at_start: tuple[str, ...] = ()


_ASKED = ("gen_ai.provider.name", "gen_ai.request.model")
SPANS = (
    SpanType(
        ("chat", "generate_content", "text_completion"),
        SpanKind.CLIENT,
        "gen_ai.request.model",
        {**MODEL, **GENERATION, **INFERENCE, **CONVERSATION},
        required=_ASKED,
        at_start=tuple(MODEL),
    ),
    SpanType(
        ("embeddings",),
        SpanKind.CLIENT,
        "gen_ai.request.model",
        {**MODEL, **EMBEDDINGS},
        required=_ASKED,
        at_start=tuple(MODEL),
    ),
    SpanType(
        ("retrieval",),
        SpanKind.CLIENT,
        "gen_ai.data_source.id",
        {**MODEL, "gen_ai.data_source.id": str, **RETRIEVED},
    ),
    SpanType(
        ("create_agent",),
        SpanKind.CLIENT,
        "gen_ai.agent.name",
        {**MODEL, **REMOTE_AGENT, "gen_ai.system_instructions": [_part]},
        required=("gen_ai.provider.name",),
        at_start=(*MODEL, "gen_ai.agent.name"),
    ),
    SpanType(
        ("invoke_agent",),
        SpanKind.INTERNAL,
        "gen_ai.agent.name",
        {**AGENT, **GENERATION, "gen_ai.request.model": str, **CONVERSATION},
        at_start=("gen_ai.agent.name", "gen_ai.request.model"),
    ),
    SpanType(
        ("invoke_agent",),
        SpanKind.CLIENT,
        "gen_ai.agent.name",
        {**MODEL, **REMOTE_AGENT, **GENERATION, **TOKEN_PARTS, **CONVERSATION},
        required=("gen_ai.provider.name",),
        at_start=(*MODEL, "gen_ai.agent.name"),
    ),
    SpanType(
        ("execute_tool",),
        SpanKind.INTERNAL,
        "gen_ai.tool.name",
        {**TOOL, **TOOL_CALL},
        required=("gen_ai.tool.name",),
        at_start=("gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.agent.name"),
    ),
    SpanType(
        ("invoke_workflow",),
        SpanKind.INTERNAL,
        "gen_ai.workflow.name",
        {"gen_ai.workflow.name": str, "gen_ai.input.messages": _MESSAGES, "gen_ai.output.messages": _MESSAGES},
        at_start=("gen_ai.workflow.name",),
    ),
    SpanType(
        ("plan",),
        SpanKind.INTERNAL,
        "gen_ai.agent.name",
        {"gen_ai.agent.name": str},
        at_start=("gen_ai.agent.name",),
    ),
)
OPERATIONS = frozenset(operation for each in SPANS for operation in each.operations)
ATTRIBUTES: Table = {**COMMON, **{name: shape for each in SPANS for name, shape in each.attributes.items()}}
_ANYWHERE: Table = {**ATTRIBUTES, **BESIDES}


def type_of(span: ReadableSpan) -> SpanType | None:
    """The type that a span is of, by its operation and, where that leaves a choice, its kind."""
    operation = (span.attributes or {}).get("gen_ai.operation.name")
    found = [each for each in SPANS if operation in each.operations]
    return next((each for each in found if each.kind is span.kind), found[0] if found else None)


# What departs from them


def violations(span: ReadableSpan, *, content: bool = False) -> list[str]:
    """Everything in which a finished span departs from the conventions, in words; nothing if it conforms.

    content: whether somebody opted in to what was said and answered.
    """
    attributes = span.attributes or {}
    expected = type_of(span)
    if expected is None:
        operation = attributes.get("gen_ai.operation.name")
        return [f"gen_ai.operation.name is {operation!r}, which is no operation"]
    return [
        *_of_the_span(span, expected),
        *_lacking(attributes, expected),
        *_misused(attributes, {**COMMON, **expected.attributes, **BESIDES}, content),
        *(fault for event in span.events for fault in _misused(event.attributes or {}, _ANYWHERE, content)),
        *_too_small(attributes),
        *_of_its_end(span),
    ]


def _of_the_span(span: ReadableSpan, expected: SpanType) -> Iterator[str]:
    attributes = span.attributes or {}
    subject = attributes.get(expected.subject)
    name = " ".join(str(word) for word in (attributes["gen_ai.operation.name"], subject) if word)
    if span.name != name and (subject or expected.subject not in expected.required):
        yield f"the name is {span.name!r}, not {name!r}"
    if span.kind is not expected.kind:
        yield f"the kind is {span.kind.name}, not {expected.kind.name}"
    scope = span.instrumentation_scope
    if scope is None or scope.schema_url != REFERENCE:
        yield f"the schema is {scope and scope.schema_url}, not {REFERENCE}"


def _lacking(attributes: Mapping[str, Any], expected: SpanType) -> Iterator[str]:
    yield from (f"{name} is missing" for name in expected.required if name not in attributes)
    for name, other in ONLY_WITH.items():
        if name in attributes and other not in attributes:
            yield f"{name} is there without {other}"


def _misused(attributes: Mapping[str, Any], known: Table, content: bool) -> Iterator[str]:
    """Attributes of other names, in other places and of other types than they should be."""
    for name, value in attributes.items():
        if name.startswith("aistrale."):
            continue
        if name in OPT_IN and not content:
            yield f"{name} is content, and nobody opted in"
        elif name in known:
            yield from _misfits(name, value, known[name])
        elif name in ATTRIBUTES:
            yield f"{name} does not belong on such a span"
        elif name.startswith("gen_ai.usage.") and isinstance(value, int | float):
            yield f"{name} is no name of the conventions, and Langfuse would count it as tokens"
        else:
            yield f"{name} is no name of the conventions"


_GENERATED = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _misfits(name: str, value: Any, shape: Shape) -> Iterator[str]:
    """What is wrong with the value of an attribute; content may be JSON text."""
    if name in OPT_IN and shape is not str and isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            yield f"{name} is no JSON"
            return
    yield from _mismatches(name, value, shape)
    if name in VALUES and value not in VALUES[name]:
        yield f"{name} is {value!r}, which is none of its values"
    if name == "gen_ai.conversation.id" and _GENERATED.fullmatch(str(value)):
        yield f"{name} looks like a generated one"
    if name == "error.type" and " " in str(value):
        yield f"{name} is a message, not a type"


_WORDS: dict[object, str] = {str: "a text", int: "a whole number", float: "a double", bool: "a truth value"}


def _mismatches(at: str, value: Any, shape: Shape) -> Iterator[str]:
    match shape:
        case type():
            # Exactly: OTLP tells an integer from a double, and Python takes True for an integer.
            if shape is not object and type(value) is not shape:
                yield f"{at} is {value!r}, not {_WORDS[shape]}"
        case [inner]:
            if isinstance(value, list | tuple):
                for number, entry in enumerate(value):
                    yield from _mismatches(f"{at}[{number}]", entry, inner)
            else:
                yield f"{at} is {value!r}, not a list"
        case dict():
            if isinstance(value, Mapping):
                for field, inner in shape.items():
                    if field in value:
                        yield from _mismatches(f"{at}.{field}", value[field], inner)
                    else:
                        yield f"{at} has no {field}"
            else:
                yield f"{at} is {value!r}, not an object"
        case _:
            assert callable(shape)
            yield from _mismatches(at, value, shape(value))


def _too_small(attributes: Mapping[str, Any]) -> Iterator[str]:
    counts = {name: value for name, value in attributes.items() if type(value) is int}
    for total, parts in PARTS_OF.items():
        least = sum(counts.get(part, 0) for part in parts)
        if counts.get(total, least) < least:
            yield f"{total} is {counts[total]}, and its parts are {least}"


def _of_its_end(span: ReadableSpan) -> Iterator[str]:
    failed, has_type = span.status.status_code is StatusCode.ERROR, "error.type" in (span.attributes or {})
    if failed and not has_type:
        yield "the status is an error, and there is no error.type"
    if has_type and not failed:
        yield "there is an error.type, and the status is no error"
    if span.status.status_code is StatusCode.OK:
        yield "the status is OK, which only an application may say"
