"""What a sync and an async client have in common: everything but how they wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aistrale.config import Config
from aistrale.contract import CallbackHandler
from aistrale.exceptions import ConfigurationError
from aistrale.gateway.breaker import CircuitBreaker
from aistrale.gateway.gateway import Gateway
from aistrale.gateway.retry import RetryPolicy
from aistrale.models import CompletionRequest, EmbeddingRequest, Prompt
from aistrale.options import call_options, completion_request, embedding_request, given, split_client_options
from aistrale.store.location import database_url

_SETTINGS = (
    "api_url",
    "timeout",
    "max_retries",
    "fallbacks",
    "telemetry",
    "telemetry_retention",
    "capture_content",
)
_OF_CALLS = frozenset(
    (
        *("model", "provider", "base_url", "api_key", "timeout", "max_retries", "fallbacks"),
        *("cache", "callbacks", "extra_headers"),
    )
)


class Core:
    """What a sync and an async client are both made of: a gateway, and the defaults of its calls."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        calls, own = split_client_options(options)
        config = Config({name: options.get(name) for name in _SETTINGS})
        self.surface = own.get("surface") or "sdk"
        self._defaults = {name: value for name, value in calls.items() if name not in _OF_CALLS}
        self._embed_defaults = {name: calls[name] for name in ("user",) if name in calls}
        self._headers = dict(calls.get("extra_headers") or {})
        client = own.get("http_client")
        is_async = client is not None and hasattr(client, "aclose")
        if client is not None and not hasattr(client, "build_request"):
            raise ConfigurationError("http_client must be an httpx.Client or an httpx.AsyncClient")
        if not isinstance(own.get("retry"), RetryPolicy | None):
            raise ConfigurationError("retry must be a RetryPolicy; max_retries= takes a number")
        callbacks = calls.get("callbacks") or ()
        if isinstance(callbacks, CallbackHandler):
            raise ConfigurationError("callbacks must be a list of handlers: callbacks=[handler]")
        self.gateway = Gateway(
            config,
            model=calls.get("model"),
            options=call_options(calls),
            handlers=[*_telemetry(config, calls, own), *callbacks],
            retry=own.get("retry"),
            breaker=own["breaker"] if "breaker" in own else CircuitBreaker(),
            http_client=None if is_async else client,
            async_http_client=client if is_async else None,
            books=None if config["api_url"] else database_url(),
        )

    def completion(
        self, prompt: Prompt, options: Mapping[str, Any], **call: Any
    ) -> tuple[CompletionRequest, Iterable[CallbackHandler]]:
        """The request for a prompt, and who watches it."""
        merged = {**self._defaults, **given(options)} if self._defaults else options
        request = completion_request(prompt, self._with_headers(merged), surface=self.surface, **call)
        return request, options.get("callbacks") or ()

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of many calls, found right once for all: what is wrong with them is not each call's own fault."""
        every = given(options)
        asked = {name: value for name, value in every.items() if name != "variables"}
        self.gateway.check(self.completion("check", asked)[0])
        return every

    def embedding(
        self, texts: str | Iterable[str], options: Mapping[str, Any]
    ) -> tuple[EmbeddingRequest, Iterable[CallbackHandler]]:
        """The request for texts to embed, and who watches it."""
        merged = self._with_headers({**self._embed_defaults, **options})
        return embedding_request(texts, merged, surface=self.surface), options.get("callbacks") or ()

    def _with_headers(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._headers:
            return options
        return {**options, "extra_headers": {**self._headers, **(options.get("extra_headers") or {})}}


def _telemetry(config: Config, calls: Mapping[str, Any], own: Mapping[str, Any]) -> list[CallbackHandler]:
    if config["telemetry"] == "off":
        return []
    from aistrale.tracing.configured import keeps_books, recorders
    from aistrale.tracing.handler import TelemetryHandler

    key = calls.get("api_key")
    providers = own.get("tracer_provider"), own.get("meter_provider")
    handlers: list[CallbackHandler] = [TelemetryHandler(*providers, config["capture_content"], recorders(config, key))]
    if keeps_books(config) or not config["api_url"]:  # else the server keeps the books, and looks after budgets
        from aistrale.budgets import BudgetHandler, UncountedBudgetHandler

        kind = BudgetHandler if keeps_books(config) else UncountedBudgetHandler
        handlers.append(kind(database_url()))
    return handlers
