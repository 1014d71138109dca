"""What people pass to `run` and its kin as keywords, and the request that makes of it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from aistrale.contract import CallbackHandler
from aistrale.exceptions import ConfigurationError, InvalidRequestError
from aistrale.http import Timeout
from aistrale.models import (
    REQUEST_FIELDS,
    CallOptions,
    CompletionRequest,
    EmbeddingRequest,
    Message,
    Prompt,
    PromptReference,
)
from aistrale.schema import kind_of, response_format_of, tool_of
from aistrale.templates import StoredPrompt

if TYPE_CHECKING:
    import httpx
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from aistrale.gateway.breaker import CircuitBreaker
    from aistrale.gateway.cache import Cache
    from aistrale.gateway.retry import RetryPolicy


class EmbedOptions(TypedDict, total=False):
    """Options of `embed`.

    model, provider: which model; "provider/model" names both. base_url, api_key: where, and with which key.
    timeout: seconds that one attempt may take, or a Timeout. max_retries: further attempts after a failed one.
    fallbacks: models to try when this one fails. callbacks: handlers that watch this call.
    dimensions: the length of the vectors. extra_body, extra_headers: sent as they stand.
    """

    model: str | None
    provider: str | None
    base_url: str | None
    api_key: str | None
    timeout: float | Timeout | None
    max_retries: int | None
    fallbacks: Iterable[str] | None
    callbacks: Iterable[CallbackHandler] | None
    dimensions: int | None
    user: str | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None


class RunOptions(TypedDict, total=False):
    """Options of a call; what is left out is as the client or the configuration says.

    model, provider: which model; "provider/model" names both. base_url, api_key: where, and with which key.
    temperature, top_p, top_k, max_tokens, stop, seed, n, frequency_penalty, presence_penalty,
    reasoning_effort: as OpenAI defines them, put into each provider's words.
    variables: of a stored prompt; the prompt is then its name, such as "reply" or "reply@production".
    tools: JSON schemas in OpenAI's shape, annotated functions, or pydantic classes.
    tool_choice: "auto", "none", "required", a tool's name, or OpenAI's dict.
    response_format: a JSON schema or a pydantic class; `completion.parsed` is then its instance.
    metadata, user: labels for handlers and spans; sent on where the provider takes them.
    tags: further labels, to find and add up calls by; never sent.
    timeout: seconds that one attempt may take (of a stream: between two arrivals), or a Timeout.
    max_retries: further attempts after a failed one. fallbacks: models to try when this one fails.
    cache: True for the client's memory cache, or a cache. callbacks: handlers that watch this call.
    extra_body, extra_headers: sent as they stand, over what we would send.
    """

    model: str | None
    provider: str | None
    base_url: str | None
    api_key: str | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    max_tokens: int | None
    max_completion_tokens: int | None
    stop: str | list[str] | None
    seed: int | None
    n: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    reasoning_effort: str | None
    variables: Mapping[str, Any] | None
    tools: Iterable[Mapping[str, Any] | Callable[..., Any] | type] | None
    tool_choice: str | dict[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, Any] | type | None
    metadata: Mapping[str, Any] | None
    tags: Iterable[str] | None
    user: str | None
    timeout: float | Timeout | None
    max_retries: int | None
    fallbacks: Iterable[str] | None
    cache: bool | Cache | None
    callbacks: Iterable[CallbackHandler] | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None


class ClientOptions(RunOptions, total=False):
    """What a client is made with: the options of its calls, and these.

    api_url: an Aistrale server that all calls go to. retry, breaker: when a failed attempt is made again, and
    when an upstream is left alone (breaker=None: never). http_client: your own httpx client, used as it is.
    telemetry: False leaves the client unobserved; "store" only keeps books here, "otlp" only sends spans on; True,
    the default, does both where they are configured. telemetry_retention: days that spans are kept.
    tracer_provider, meter_provider: where its spans and metrics go, instead of the application's.
    capture_content: whether spans hold prompts and answers. surface: the layer it is used by, for telemetry.
    """

    api_url: str | None
    retry: RetryPolicy | None
    breaker: CircuitBreaker | None
    http_client: httpx.Client | httpx.AsyncClient | None
    telemetry: bool | str | None
    telemetry_retention: float | None
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    capture_content: bool | None
    surface: str | None


_ROUTING = frozenset(("provider", "base_url", "api_key", "timeout", "max_retries", "cache"))
_AS_THEY_ARE = frozenset(("model", *REQUEST_FIELDS)) - {"tools", "response_format"}
_RUN_NAMES = frozenset(RunOptions.__annotations__)
_EMBED_NAMES = frozenset(EmbedOptions.__annotations__)
_CLIENT_NAMES = frozenset(ClientOptions.__annotations__)


def completion_request(prompt: Prompt, options: Mapping[str, Any], **call: Any) -> CompletionRequest:
    """The request that a prompt and options make. `call` holds further fields of its CallOptions.

    Raises TypeError for an option there is not, and InvalidRequestError for a value none could take.
    """
    check_names(options, _RUN_NAMES)
    fields = {name: value for name, value in options.items() if name in _AS_THEY_ARE and value is not None}
    calling = call_options(options, **call)
    if options.get("tools") is not None:
        fields["tools"] = tuple(tool_of(tool) for tool in _listed(options, "tools")) or None
    if options.get("response_format") is not None:
        fields["response_format"], fields["output_type"] = response_format_of(options["response_format"])
    reference = prompt_reference(prompt, options.get("variables"))
    if reference is None and isinstance(prompt, str) and not prompt.strip():
        raise InvalidRequestError("The prompt is empty: pass a text or at least one message with content")
    return CompletionRequest(
        messages=() if reference else tuple(Message.list_of(prompt)),
        prompt=reference,
        extra=dict(options.get("extra_body") or {}),
        options=calling,
        **fields,
    )


def prompt_reference(prompt: Any, variables: Mapping[str, Any] | None) -> PromptReference | None:
    """The stored prompt that is meant: one that was looked up, or the name of one, which `variables` go with."""
    if isinstance(prompt, StoredPrompt):
        return PromptReference(prompt.name, variables or {}, prompt.version, prompt)
    if variables is None:
        return None
    if not isinstance(prompt, str):
        raise InvalidRequestError("variables go with a stored prompt: pass its name, or aistrale.prompts.get(...)")
    return PromptReference(prompt, variables)


_HINTS = {
    "messages": "pass the messages as the first argument",
    "stream": "call stream() instead of run()",
    "api_version": "write it into base_url, as ?api-version=...",
}
_OTHERWISE = "what a provider alone knows goes into extra_body"


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, fit to be used for several calls: None means not given, iterators are read.

    Raises TypeError for an option there is not.
    """
    check_names(options)
    return {
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in options.items()
        if value is not None
    }


def embedding_request(texts: str | Iterable[str], options: Mapping[str, Any], **call: Any) -> EmbeddingRequest:
    """The request that texts and options make."""
    check_names(options, _EMBED_NAMES)
    return EmbeddingRequest(
        inputs=texts if isinstance(texts, str) else tuple(_listed({"texts": texts}, "texts")),
        model=options.get("model"),
        dimensions=options.get("dimensions"),
        user=options.get("user"),
        extra=dict(options.get("extra_body") or {}),
        options=call_options(options, **call),
    )


def call_options(options: Mapping[str, Any], **call: Any) -> CallOptions:
    """How a call is made, out of its options."""
    for name in ("provider", "base_url", "api_key"):
        if not isinstance(options.get(name), str | None):
            raise ConfigurationError(f"{name} must be a text, not {kind_of(options[name])}")
    for name in ("extra_body", "extra_headers"):
        if not isinstance(options.get(name), Mapping | None):
            raise InvalidRequestError(f"{name} must be a dict, not {kind_of(options[name])}")
    cache = options.get("cache")
    if not isinstance(cache, bool | None) and not (hasattr(cache, "get") and hasattr(cache, "set")):
        raise ConfigurationError(f"cache must be True, False or a cache, not {kind_of(cache)}")
    routing = {name: value for name, value in options.items() if name in _ROUTING and value is not None}
    if options.get("fallbacks") is not None:
        routing["fallbacks"] = tuple(_listed(options, "fallbacks"))
    if options.get("tags") is not None:
        routing["tags"] = tuple(_listed(options, "tags"))
    return CallOptions(headers=options.get("extra_headers") or {}, **routing, **call)


def check_names(options: Mapping[str, Any], known: frozenset[str] = _CLIENT_NAMES) -> None:
    """Raise TypeError for an option there is not, as Python does for a wrong keyword."""
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = _HINTS.get(name) or (f"did you mean {close[0]!r}?" if close else _OTHERWISE)
            raise TypeError(f"there is no option {name!r}; {hint}")


def split_client_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A client's options apart: those of its calls, and those of the client itself."""
    calls = {name: value for name, value in given(options).items() if name in _RUN_NAMES}
    return calls, {name: value for name, value in options.items() if name not in _RUN_NAMES}


def _listed(options: Mapping[str, Any], name: str) -> list[Any]:
    value = options[name]
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise InvalidRequestError(f"{name} must be a list")
    return list(value)
