"""The attributes of a call's span, by their names in the semantic conventions.

Source: the OpenTelemetry semantic conventions for generative AI (SCHEMA_URL), and `gen_ai.usage.cost`,
`session.id` and `user.id` where Langfuse looks for them. What they have no name for is `aistrale.*`.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from operator import attrgetter
from typing import TypeAlias
from urllib.parse import urlsplit

from opentelemetry.util.types import AttributeValue

from aistrale.contract import Call
from aistrale.exceptions import APIError
from aistrale.models import Attempt, Completion, CompletionRequest, Embedding, Usage
from aistrale.providers import telemetry_name
from aistrale.spans import USAGE_PARTS

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The version of the conventions these names are from."""

_REQUEST_ATTRIBUTES = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "output_limit": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "n": "gen_ai.request.choice.count",
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "user": "user.id",
}

_ASKED = (*_REQUEST_ATTRIBUTES, "prompt", "stop", "response_format", "metadata")
_asked, _NOTHING_ASKED = attrgetter(*_ASKED), (None,) * len(_ASKED)
"""Most calls ask for nothing of it, which is seen at once."""

_DOUBLES = frozenset(
    f"gen_ai.request.{name}" for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")
)

Attributes: TypeAlias = dict[str, AttributeValue]


def is_cancelled(error: BaseException) -> bool:
    """The caller left; nothing failed."""
    return isinstance(error, GeneratorExit | asyncio.CancelledError | KeyboardInterrupt)


def error_type(error: BaseException) -> str:
    return (isinstance(error, APIError) and error.code) or type(error).__name__


def start_attributes(call: Call, to: Attributes) -> Attributes:
    """What is known of a call that goes there."""
    request = call.request
    options = request.options
    attributes = to.copy()
    attributes["gen_ai.operation.name"], attributes["aistrale.surface"] = call.operation, options.surface
    if options.session_id:
        attributes["session.id"] = options.session_id
    if options.user_id:
        attributes["user.id"] = options.user_id
    if options.conversation_id:
        attributes["gen_ai.conversation.id"] = options.conversation_id
    if options.tags:
        attributes["aistrale.tags"] = list(options.tags)
    if isinstance(request, CompletionRequest):
        _add_request(attributes, request, call.stream)
    elif request.user:
        attributes["user.id"] = request.user
    return attributes


def where(call: Call) -> Attributes:
    """Where the call goes; the same object for the same place."""
    return place(call.provider, call.model, call.base_url)


@lru_cache(maxsize=256)
def place(provider: str, model: str, base_url: str) -> Attributes:
    """A provider, its model, and their address."""
    parts = urlsplit(base_url)
    attributes: Attributes = {"gen_ai.provider.name": telemetry_name(provider), "gen_ai.request.model": model}
    if parts.hostname:
        attributes["server.address"] = parts.hostname
        attributes["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    return attributes


def _add_request(attributes: Attributes, request: CompletionRequest, stream: bool) -> None:
    if stream:
        attributes["gen_ai.request.stream"] = True
    if (values := _asked(request)) == _NOTHING_ASKED:
        return
    for name, value in zip(_REQUEST_ATTRIBUTES.values(), values, strict=False):  # not the other four
        if value is not None:
            attributes[name] = float(value) if name in _DOUBLES else value
    if request.prompt is not None:
        attributes["gen_ai.prompt.name"] = request.prompt.name
        if request.prompt.version is not None:
            attributes["gen_ai.prompt.version"] = str(request.prompt.version)
    if request.stop:
        attributes["gen_ai.request.stop_sequences"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if request.response_format is not None:
        attributes["gen_ai.output.type"] = "text" if request.response_format["type"] == "text" else "json"
    for key, entry in (request.metadata or {}).items():
        if isinstance(entry, str | bool | int | float):
            attributes[f"aistrale.metadata.{key}"] = entry


def attempt_attributes(attempt: Attempt, number: int) -> Attributes:
    attributes: Attributes = {
        "aistrale.attempt.number": number,
        "aistrale.attempt.seconds": attempt.seconds,
        "gen_ai.provider.name": telemetry_name(attempt.provider),
        "gen_ai.request.model": attempt.model,
    }
    if attempt.error is not None:
        attributes["error.type"] = error_type(attempt.error)
        if isinstance(attempt.error, APIError) and attempt.error.status is not None:
            attributes["http.response.status_code"] = attempt.error.status
    return attributes


def result_attributes(result: Completion | Embedding) -> Attributes:
    attributes: Attributes = {"gen_ai.response.model": result.model}
    if isinstance(result, Completion):
        if result.id:
            attributes["gen_ai.response.id"] = result.id
        if reasons := tuple([choice.finish_reason for choice in result.choices if choice.finish_reason]):
            attributes["gen_ai.response.finish_reasons"] = reasons
        if result.time_to_first_token is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = result.time_to_first_token
        if result.cached:  # its tokens were used, and are counted, by the call that filled the cache
            return {**attributes, "aistrale.cached": True, "gen_ai.usage.cost": 0.0}
    if result.usage is not None:
        _add_usage(attributes, result.usage, produced=isinstance(result, Completion))
    if result.reported_cost is not None:
        attributes["gen_ai.usage.cost"] = float(result.reported_cost)
    return attributes


def _add_usage(attributes: Attributes, usage: Usage, produced: bool) -> None:
    """produced: whether tokens were, as those of an embedding are not."""
    attributes["gen_ai.usage.input_tokens"] = usage.input_tokens
    if produced or usage.output_tokens:
        attributes["gen_ai.usage.output_tokens"] = usage.output_tokens
    for field, name in USAGE_PARTS.items():
        if tokens := getattr(usage, field):
            attributes[name] = tokens
