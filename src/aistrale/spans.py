"""A finished span: what one operation was, when, and how it went, in OpenTelemetry's terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from aistrale.records import moment
from aistrale.usage import Usage

Status: TypeAlias = Literal["ok", "error"]
"""OpenTelemetry's "unset" is what it means: it went well."""
Kind: TypeAlias = Literal["internal", "client", "server", "producer", "consumer"]
CostSource: TypeAlias = Literal["provider", "override", "table", "cache"]

INFERENCE = frozenset(("chat", "text_completion", "generate_content", "embeddings"))
"""Operations that ask a model. Others (agents, tools, retrievals) may contain such, and cost nothing themselves."""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span. `time` is in nanoseconds since 1970."""

    name: str
    time: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """One finished operation.

    trace_id, span_id, parent_id: hexadecimal, 32, 16 and 16 digits. start, end: nanoseconds since 1970.
    attributes: by their names in the semantic conventions (telemetry.SCHEMA_URL). cost: US dollars, None if
    unknown ("unpriced"); `cost_source` says whether the provider reported it, an override of the user's or
    the price table gave it, and `price_version` which one.
    """

    trace_id: str
    span_id: str
    name: str
    start: int
    end: int
    parent_id: str | None = None
    kind: Kind = "client"
    status: Status = "ok"
    attributes: dict[str, Any] = field(default_factory=dict)
    events: Sequence[SpanEvent] = ()
    cost: Decimal | None = None
    cost_source: CostSource | None = None
    price_version: str | None = None

    @property
    def started(self) -> datetime:
        """When it began, in UTC."""
        return moment(self.start)

    @property
    def latency(self) -> float:
        """How long it took, in seconds."""
        return (self.end - self.start) / 1e9

    @property
    def operation(self) -> str:
        return str(self.attributes.get("gen_ai.operation.name") or "")

    @property
    def is_inference(self) -> bool:
        """Whether a model was asked: these are the calls that are counted and priced."""
        return str(self.attributes.get("gen_ai.operation.name")) in INFERENCE

    @property
    def provider(self) -> str | None:
        return self.attributes.get("gen_ai.provider.name")

    @property
    def model(self) -> str | None:
        """The model that was asked for."""
        return self.attributes.get("gen_ai.request.model")

    @property
    def response_model(self) -> str | None:
        """The model that answered, as the provider names it."""
        return self.attributes.get("gen_ai.response.model")

    @property
    def surface(self) -> str | None:
        """The layer the call was made through: sdk, langchain, llamaindex, cli, ..."""
        return self.attributes.get("aistrale.surface")

    @property
    def session_id(self) -> str | None:
        return self.attributes.get("session.id")

    @property
    def user_id(self) -> str | None:
        return self.attributes.get("user.id")

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.attributes.get("aistrale.tags") or ())

    @property
    def error_type(self) -> str | None:
        return self.attributes.get("error.type")

    @property
    def cached(self) -> bool:
        """Whether the answer came from a cache, and cost nothing."""
        return bool(self.attributes.get("aistrale.cached"))

    @property
    def usage(self) -> Usage | None:
        """The tokens used; None if they are not known."""
        known = self.attributes.get
        read, written = known("gen_ai.usage.input_tokens"), known("gen_ai.usage.output_tokens")
        if read is None and written is None:
            return None
        parts = [int(count) if (count := known(name)) else 0 for name in USAGE_PARTS.values()]
        return Usage(int(read or 0), int(written or 0), *parts)

    @property
    def time_to_first_token(self) -> float | None:
        """How long a stream took to its first chunk, in seconds."""
        return self.attributes.get("gen_ai.response.time_to_first_chunk")


USAGE_PARTS = {
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
"""The counts that are parts of others, by the fields of Usage."""

USAGE_ATTRIBUTES = {  # in the order of Usage
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    **USAGE_PARTS,
}

STORED_KEY = "aistrale.stored_key"
"""The attribute that names the tokens in the books that a call was made with: provider and label, with a slash."""

in_ascii = json.JSONEncoder(separators=(",", ":"), default=str).encode
"""JSON in ASCII: any text can be kept so, lone surrogates too."""


def to_json(span: Span) -> str:
    """A span as one line of JSON, from which `from_json` makes the same again."""
    return in_ascii(
        [
            *(span.trace_id, span.span_id, span.name, span.start, span.end, span.parent_id, span.kind, span.status),
            span.attributes,
            [[event.name, event.time, dict(event.attributes)] for event in span.events],
            *(None if span.cost is None else str(span.cost), span.cost_source, span.price_version),
        ]
    )


def from_json(line: str) -> Span:
    """A span out of the line `to_json` made. Raises ValueError for any other."""
    match json.loads(line):
        case [str(), str(), str(), int(), int(), _, str(), str(), dict(), list(), _, _, _] as fields:
            pass
        case _:
            raise ValueError("this is no span")
    span = Span(*fields[:5], *fields[5:9])
    try:
        span.events = tuple(SpanEvent(*event) for event in fields[9])
        span.cost = None if fields[10] is None else Decimal(fields[10])
    except (TypeError, ArithmeticError) as error:
        raise ValueError("this is no span") from error
    if span.cost is not None and not span.cost.is_finite():
        raise ValueError("this is no span")
    span.cost_source, span.price_version = fields[11:]
    return span
