"""The language model at the core: every way into Aistrale ends in this object's methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from aistrale.config import Config
from aistrale.contract import EVENTS, Call, CallbackHandler, Handlers
from aistrale.exceptions import ConfigurationError
from aistrale.gateway.batches import embedding_batches
from aistrale.gateway.breaker import CircuitBreaker
from aistrale.gateway.cache import MemoryCache
from aistrale.gateway.drivers import AsyncDriver, Driver
from aistrale.gateway.flow import Plan, deferred, flow
from aistrale.gateway.keys import StoredKeys
from aistrale.gateway.prompts import is_to_be_looked_up, with_stored_prompt
from aistrale.gateway.retry import RetryPolicy
from aistrale.gateway.route import Router
from aistrale.gateway.stream import AsyncCompletionStream, CompletionStream
from aistrale.gateway.telling import Audience
from aistrale.http import HTTPRequest, Timeout
from aistrale.models import (
    JSON,
    NO_OPTIONS,
    CallOptions,
    Completion,
    CompletionRequest,
    Embedding,
    EmbeddingRequest,
)
from aistrale.providers import Codec, Profile, Route
from aistrale.transport.base import AsyncTransport, Transport
from aistrale.transport.local import AsyncLocalTransport, LocalTransport

if TYPE_CHECKING:
    import httpx


class Gateway:
    """A LanguageModel over all providers; it also embeds.

    config: the settings, read once. model, options: what calls use where they say nothing.
    handlers: watch every call, before a call's own. retry, breaker, cache: as their classes say;
    breaker=None switches it off. http_client: the user's own httpx client for sync calls,
    async_http_client for async ones. books: the database whose keys are used.
    Safe to share between threads and event loops.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: str | None = None,
        options: CallOptions = NO_OPTIONS,
        handlers: Iterable[CallbackHandler] = (),
        retry: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
        http_client: httpx.Client | None = None,
        async_http_client: httpx.AsyncClient | None = None,
        books: str | None = None,
    ) -> None:
        self._options = options
        self._audience = Audience(_checked(handlers))
        self._retry = retry or RetryPolicy(max_retries=config["max_retries"])
        self._breaker = breaker
        routing = ("provider", "base_url", "timeout", "max_retries", "fallbacks")
        self._given = {name for name in routing if getattr(options, name) is not None} | ({"model"} if model else set())
        self._keys = StoredKeys(books)
        self._router = Router(config, model, options, self._keys)
        self._timeout = options.timeout if options.timeout is not None else config["timeout"]
        self._fallbacks = options.fallbacks if options.fallbacks is not None else tuple(config["fallbacks"] or ())
        self._http_client, self._async_http_client = http_client, async_http_client
        self._cache = MemoryCache()
        self._transport: Transport | None = None
        self._async_transport: AsyncTransport | None = None

    # The contract

    def complete(self, request: CompletionRequest, callbacks: Handlers = ()) -> Completion:
        driver = self._driver(self._completion(request, callbacks))
        driver.run()
        result: Completion = driver.result
        return result

    def stream(self, request: CompletionRequest, callbacks: Handlers = ()) -> CompletionStream:
        return CompletionStream(self._driver(self._completion(request, callbacks, stream=True)))

    async def acomplete(self, request: CompletionRequest, callbacks: Handlers = ()) -> Completion:
        driver = self._async_driver(self._completion, request, callbacks)
        await driver.run()
        result: Completion = driver.result
        return result

    def astream(self, request: CompletionRequest, callbacks: Handlers = ()) -> AsyncCompletionStream:
        return AsyncCompletionStream(self._async_driver(partial(self._completion, stream=True), request, callbacks))

    # Embeddings

    def embed(self, request: EmbeddingRequest, callbacks: Handlers = ()) -> Embedding:
        driver = self._driver(self._embedding(request, callbacks))
        driver.run()
        result: Embedding = driver.result
        return result

    async def aembed(self, request: EmbeddingRequest, callbacks: Handlers = ()) -> Embedding:
        driver = self._async_driver(self._embedding, request, callbacks)
        await driver.run()
        result: Embedding = driver.result
        return result

    def close(self) -> None:
        """Close the pool of sync calls. The gateway stays usable and opens another at the next call."""
        if self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """Close both pools, that of async calls for the running event loop."""
        self.close()
        if self._async_transport is not None:
            await self._async_transport.aclose()

    def check(self, request: CompletionRequest) -> None:
        """Raise ConfigurationError if there is nowhere to send `request`; nothing is sent."""
        self._completion(request, ())

    def embedding_batches(
        self, texts: Sequence[str], model: str | None = None, *, at_most: int | None = None
    ) -> list[Sequence[str]]:
        """Texts as `embed` is to be given them, by what the model's provider takes in one request, or `at_most`.

        Raises InvalidRequestError for an empty text, ConfigurationError if there is nowhere to send them. Of several
        texts, who has a key is looked up in the books: async code asks in a thread.
        """
        return embedding_batches(texts, lambda: self._router.routes(model, NO_OPTIONS, (), embedding=True)[0], at_most)

    # What a call needs

    def _driver(self, plan: Plan) -> Driver:
        _refuse_async(plan.audience.handlers)
        return Driver(flow(plan), self._transport_of)

    def _async_driver(
        self,
        plan_for: Callable[[Any, Handlers], Plan],
        request: CompletionRequest | EmbeddingRequest,
        callbacks: Handlers,
    ) -> AsyncDriver:
        """For a plan that is made at once, unless that has to wait for the books."""
        is_unknown = isinstance(request, CompletionRequest) and is_to_be_looked_up(request)
        has_to_wait = is_unknown or self._keys.blocking
        call = deferred(partial(plan_for, request, callbacks)) if has_to_wait else flow(plan_for(request, callbacks))
        return AsyncDriver(call, self._async_transport_of)

    def _completion(self, request: CompletionRequest, callbacks: Handlers, *, stream: bool = False) -> Plan:
        request = with_stored_prompt(request, self._given)
        options = request.options
        fallbacks = self._fallbacks if options.fallbacks is None else options.fallbacks
        cache = self._options.cache if options.cache is None else options.cache
        return self._plan(
            Call("chat", request, stream, headers=dict(options.headers)),
            callbacks,
            routes=self._router.routes(request.model, options, fallbacks),
            encode=_encode,
            decode=_decode,
            cache=self._cache if cache is True else None if cache is False else cache,
            output_type=request.output_type,
        )

    def _embedding(self, request: EmbeddingRequest, callbacks: Handlers) -> Plan:
        options = request.options
        return self._plan(
            Call("embeddings", request, False, headers=dict(options.headers)),
            callbacks,
            # Vectors of different models do not compare: only fallbacks that this call names are taken.
            routes=self._router.routes(request.model, options, options.fallbacks or (), embedding=True),
            encode=_encode_embedding,
            decode=_decode_embedding,
        )

    def _plan(self, call: Call, callbacks: Handlers, **parts: Any) -> Plan:
        options = call.request.options
        ours = self._audience
        timeout = self._timeout if options.timeout is None else options.timeout
        return Plan(
            call=call,
            request=call.request,
            audience=Audience([*ours.handlers, *_checked(callbacks)]) if callbacks else ours,
            retry=self._retry,
            breaker=self._breaker,
            timeout=None if timeout is None else Timeout.of(timeout, stream=call.stream),
            max_retries=self._options.max_retries if options.max_retries is None else options.max_retries,
            **parts,
        )

    # Transports, loaded when first needed: sync programs never load aiohttp, async ones no sync pool.
    # Made without a lock, which a fork could leave held: two threads at once make one too many, and one is dropped.

    def _sync_transport(self) -> Transport:
        if self._transport is None:
            from aistrale.transport.sync_http import HTTPXClientTransport, HTTPXTransport

            client = self._http_client
            self._transport = HTTPXTransport() if client is None else HTTPXClientTransport(client)
        return self._transport

    def _awaited_transport(self) -> AsyncTransport:
        if self._async_transport is None:
            if self._async_http_client is not None:
                from aistrale.transport.async_httpx import HTTPXAsyncClientTransport

                self._async_transport = HTTPXAsyncClientTransport(self._async_http_client)
            else:
                from aistrale.transport.async_http import AiohttpTransport

                self._async_transport = AiohttpTransport()
        return self._async_transport

    def _transport_of(self, profile: Profile) -> Transport:
        return self._sync_transport() if profile.respond is None else LocalTransport(profile.respond)

    def _async_transport_of(self, profile: Profile) -> AsyncTransport:
        return self._awaited_transport() if profile.respond is None else AsyncLocalTransport(profile.respond)


def _encode(codec: Codec, request: CompletionRequest, route: Route, stream: bool) -> HTTPRequest:
    return codec.encode(request, route, stream=stream)


def _decode(codec: Codec, body: JSON, route: Route) -> Completion:
    return codec.decode(body, route)


def _encode_embedding(codec: Codec, request: EmbeddingRequest, route: Route, stream: bool) -> HTTPRequest:
    return codec.encode_embedding(request, route)


def _decode_embedding(codec: Codec, body: JSON, route: Route) -> Embedding:
    return codec.decode_embedding(body, route)


@cache
def _async_events(kind: Any) -> list[str]:
    """The events that a class of handlers has to be awaited for."""
    return [event for event in EVENTS if inspect.iscoroutinefunction(getattr(kind, event))]


def _refuse_async(handlers: Iterable[CallbackHandler]) -> None:
    for handler in handlers:
        if events := _async_events(cast(Any, type(handler))):
            raise ConfigurationError(
                f"{type(handler).__name__}.{events[0]} is async and cannot watch a sync call: "
                "use run_async or stream_async, or give a handler with plain methods"
            )


def _checked(handlers: Handlers) -> list[CallbackHandler]:
    if isinstance(handlers, CallbackHandler) or not isinstance(handlers, Iterable):
        raise ConfigurationError("callbacks must be a list of handlers: callbacks=[handler]")
    handlers = list(handlers)
    for handler in handlers:
        if not isinstance(handler, CallbackHandler):
            raise ConfigurationError(
                f"A callback must be an aistrale.CallbackHandler, not {type(handler).__name__}: derive from it"
            )
    return handlers
