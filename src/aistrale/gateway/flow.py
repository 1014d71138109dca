"""How a call flows: decided here once, performed by two short drivers (drivers.py).

A flow is a generator. It yields actions and is sent their results; it knows no socket, no clock that
waits and no event loop. A driver that is cancelled, or whose caller leaves, throws that into the flow,
which closes what is open, tells the handlers, and lets it pass.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from aistrale.contract import Call, CallbackHandler
from aistrale.exceptions import (
    AistraleError,
    APIError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    NetworkError,
    ServerError,
    StreamInterruptedError,
)
from aistrale.gateway.actions import Action, Close, Consult, Drain, Emit, Read, ReadSome, Send, Wait
from aistrale.gateway.breaker import CircuitBreaker
from aistrale.gateway.cache import Cache, as_chunks, as_hit, cache_key, is_worth_keeping
from aistrale.gateway.pricing import price
from aistrale.gateway.retry import RetryPolicy
from aistrale.gateway.telling import Audience, tell
from aistrale.http import HTTPRequest, Timeout
from aistrale.ids import random_bits
from aistrale.models import JSON, Attempt, Chunk, Completion, CompletionRequest, Embedding, EmbeddingRequest
from aistrale.parsing import parse_json
from aistrale.providers import Codec, Route, codec_of
from aistrale.providers.codec import StreamDecoder
from aistrale.providers.errors import decode_error, decode_error_body, hide_secrets, not_an_answer, redact
from aistrale.transport.sse import EventStreamDecoder

logger = logging.getLogger("aistrale")

ERROR_BODY_LIMIT = 1024 * 1024
"""Bytes of an error answer that are read before its connection is given up."""

ANSWER_LIMIT = 256 * 1024 * 1024
"""Bytes of an answer that are read: more than any has, and few enough to survive one that never ends."""

_NOT_ITS_SHAPE = (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError)
"""What reading a body raises that has not the shape of an answer."""

Result: TypeAlias = Completion | Embedding


class Left(BaseException):
    """Thrown into a flow whose caller has left its stream. Handlers are told of it as GeneratorExit.

    Not that itself: `yield from` would close the flow's inner generators with it, and they could not
    yield the actions that close what is open.
    """


# What a call is


@dataclass(slots=True, eq=False)
class Plan:
    """Everything one call needs to know.

    request: what is sent, as it was asked for. encode: it for a route. decode: the result out of a body.
    """

    call: Call
    request: CompletionRequest | EmbeddingRequest
    routes: list[Route]
    encode: Callable[[Codec, Any, Route, bool], HTTPRequest]
    decode: Callable[[Codec, JSON, Route], Any]
    audience: Audience
    retry: RetryPolicy
    breaker: CircuitBreaker | None
    timeout: Timeout | None = None
    max_retries: int | None = None
    cache: Cache | None = None
    output_type: Any = None
    idempotency_key: str | None = None


Flow: TypeAlias = Generator[Action, Any, Any]


def flow(plan: Plan) -> Flow:
    """One call from start to end; returns its Completion or Embedding."""
    call = plan.call
    call.started = time.perf_counter()
    _arrive(call, plan.routes[0])
    place: float = 0
    try:
        for place, handler in plan.audience.starting:  # noqa: B007 - who refuses the call ends it, and hears no more
            about = (handler, "on_start", call)
            if pending := (yield Consult(tell, about)) if handler.blocking else tell(*about):
                yield pending
        place = math.inf
        result = yield from (_ask(plan) if plan.cache is None else _kept(plan, plan.cache))
        _finish(result, plan)
    except GeneratorExit:  # the flow itself is being collected: nobody is left to perform anything
        raise
    except BaseException as error:
        if isinstance(error, AistraleError):
            error.attempts = tuple(call.attempts)
            logger.debug("%s %s failed: %s", call.provider, call.operation, type(error).__name__)
        shown = GeneratorExit() if isinstance(error, Left) else error
        # Nobody has heard of the start from the place on where a handler refused the call, or it was cancelled.
        started = [handler for at, handler in plan.audience.errors if at < place]
        yield from _tell_all(started, "on_error", call, shown)
        raise
    yield from _tell_all(plan.audience.ends, "on_end", call, result)
    return result


def deferred(make_plan: Callable[[], Plan]) -> Flow:
    """A call that first has to look something up in the books: a prompt, or a key."""
    plan = yield Consult(make_plan)
    return (yield from flow(plan))


def _tell_all(handlers: Iterable[CallbackHandler], event: str, *arguments: Any) -> Flow:
    """Tell every one of them, also where the call is cancelled while one is told."""
    cancelled: BaseException | None = None
    for handler in handlers:
        try:
            if pending := tell(handler, event, *arguments):
                yield pending
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - raised below
            cancelled = cancelled or error
    if cancelled is not None:
        raise cancelled


def _finish(result: Result, plan: Plan) -> None:
    call = plan.call
    result.provider = call.provider
    result.latency = time.perf_counter() - call.started
    result.attempts = tuple(call.attempts)
    result.trace_id = call.trace_id
    result.pricing = price
    if isinstance(result, Completion):
        result.output_type = plan.output_type
        if call.first_token is not None:
            result.time_to_first_token = call.first_token - call.started


def _kept(plan: Plan, cache: Cache) -> Flow:
    """The answer from the cache, or from who is asked, and kept there."""
    route = plan.routes[0]
    request = _encoded(plan, codec_of(route.profile.protocol), route, stream=False)
    request.headers.update(plan.call.request.options.headers)
    key = cache_key(request)
    kept = yield from _consult(cache, cache.get, key)
    if kept is None:
        completion = yield from _ask(plan)
        is_its_own = (plan.call.provider, plan.call.model) == (route.provider, route.model)  # not a fallback's
        if is_its_own and is_worth_keeping(completion):
            _finish(completion, plan)
            yield from _consult(cache, cache.set, key, deepcopy(completion))
        return completion
    _arrive(plan.call, route)
    hit = as_hit(kept)
    if plan.call.stream:
        yield from _emit(plan, as_chunks(hit))
    return hit


def _consult(cache: Cache, method: Callable[..., Any], *arguments: Any) -> Flow:
    if getattr(cache, "blocking", False):
        return (yield Consult(method, arguments))
    return method(*arguments)


def _ask(plan: Plan) -> Flow:
    """Try each route, and each as often as the retry policy says."""
    call = plan.call
    failure: AistraleError
    for position, route in enumerate(plan.routes):
        _arrive(call, route)
        started = time.monotonic()
        for number in count(1):
            try:
                return (yield from _attempt(plan, route))
            except AistraleError as error:
                failure = error
            if call.first_token is not None:
                raise failure
            pause = plan.retry.delay(failure, number, started, plan.max_retries)
            if pause is None:
                break
            logger.debug("%s: %s, again in %.2f s", route.provider, type(failure).__name__, pause)
            yield Wait(pause)
        if position + 1 == len(plan.routes) or not _is_worth_a_fallback(failure):
            break
        logger.debug(
            "%s: %s, falling back to %s",
            route.provider,
            type(failure).__name__,
            plan.routes[position + 1].model,
        )
    try:
        raise failure
    finally:
        del failure  # it holds this frame in its traceback


def _is_worth_a_fallback(error: AistraleError) -> bool:
    """Another model may do better, unless it is the request that is wrong or refused."""
    if isinstance(error, ContextLengthError):
        return True
    return isinstance(error, APIError | NetworkError) and not isinstance(
        error, InvalidRequestError | ContentFilterError
    )


def _arrive(call: Call, route: Route) -> None:
    call.provider, call.model, call.base_url = route.provider, route.model, route.base_url
    call.stored_key = route.stored_key


def _attempt(plan: Plan, route: Route) -> Flow:
    """One request and its answer, told to the handlers and to the breaker."""
    call = plan.call
    started = time.perf_counter()
    if plan.breaker is not None:
        plan.breaker.check(route)
    try:
        codec = codec_of(route.profile.protocol)
        request = _encoded(plan, codec, route, stream=call.stream)
        _add_headers(request, plan, route)
        result = yield from _exchange(plan, codec, route, request)
    except AistraleError as error:
        if isinstance(error, NetworkError | ServerError) and error.provider is None:
            error.provider = route.provider
        hide_secrets(error, route)
        opened = plan.breaker is not None and plan.breaker.failed(route, error)
        yield from _record(plan, route, error, started, opened)
        raise
    if plan.breaker is not None:
        plan.breaker.succeeded(route)
    yield from _record(plan, route, None, started)
    return result


_CREDENTIALS = frozenset(("authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"))


def _add_headers(request: HTTPRequest, plan: Plan, route: Route) -> None:
    """The call's own headers over ours, whatever their case; its credentials only for the provider it named."""
    added: Mapping[str, str] = plan.call.headers
    if route.provider != plan.routes[0].provider:
        added = {name: value for name, value in added.items() if name.lower() not in _CREDENTIALS}
    if header := route.profile.idempotency_header:
        # One for all attempts on a route, so that a retry is not billed twice; another route asks another thing.
        plan.idempotency_key = plan.idempotency_key or f"aistrale-{random_bits(128):032x}"
        request.headers[header] = f"{plan.idempotency_key}-{plan.routes.index(route)}"
    names = set(map(str.lower, added))
    if not names.isdisjoint(map(str.lower, request.headers)):
        for name in [name for name in request.headers if name.lower() in names]:
            del request.headers[name]
    request.headers.update(added)


def _record(plan: Plan, route: Route, error: AistraleError | None, started: float, opened: bool = False) -> Flow:
    seconds = time.perf_counter() - started
    attempt = Attempt(route.provider, route.model, route.base_url, error, seconds, bool(opened))
    plan.call.attempts.append(attempt)
    for handler in plan.audience.attempts:
        if pending := tell(handler, "on_attempt", plan.call, attempt):
            yield pending


def _encoded(plan: Plan, codec: Codec, route: Route, *, stream: bool) -> HTTPRequest:
    try:
        request = plan.encode(codec, plan.request, route, stream)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidRequestError(
            f"The request cannot be put into {route.provider}'s words: {redact(str(error), route)}. "
            "Look for values JSON cannot hold and for parts or tools of an odd shape.",
            provider=route.provider,
        ) from error
    return request


_NO_CONTEXT = nullcontext()


def _exchange(plan: Plan, codec: Codec, route: Route, request: HTTPRequest) -> Flow:
    """Send, and read the answer, or the error it is."""
    sending = plan.call.sending
    response = yield Send(request, route, plan.timeout, _NO_CONTEXT if sending is None else sending())
    try:
        kind = response.headers.get("content-type", "")
        if not 200 <= response.status < 300:
            body = yield Read(response, ERROR_BODY_LIMIT)
            if response.status < 400:
                why = f"it redirects to {response.headers.get('location', 'another address')}"
                raise not_an_answer(response.status, response.headers, body, route, why)
            raise decode_error(response.status, response.headers, body, route)
        if plan.call.stream and "json" not in kind and "html" not in kind:
            return (yield from _stream(plan, codec, route, response))
        body = yield Read(response, ERROR_BODY_LIMIT if "html" in kind else ANSWER_LIMIT)
        result = _decode(plan, codec, route, response, body)
    except GeneratorExit:
        raise
    except BaseException:
        yield Close(response)
        raise
    if plan.call.stream and isinstance(result, Completion):  # asked for a stream, answered at once
        yield from _emit(plan, as_chunks(result))
    return result


def _decode(plan: Plan, codec: Codec, route: Route, response: Any, body: bytes) -> Result:
    try:
        parsed = parse_json(body)
    except (ValueError, RecursionError) as error:
        why = "its body is no JSON" if body else "its body is empty"
        raise not_an_answer(response.status, response.headers, body, route, why) from error
    if isinstance(parsed, dict) and parsed.get("error"):
        raise decode_error_body(parsed, route, status=response.status, headers=response.headers)
    try:
        result: Result = plan.decode(codec, parsed, route)
    except _NOT_ITS_SHAPE as error:
        why = f"its JSON has not the shape of one ({type(error).__name__}: {error})"
        raise not_an_answer(response.status, response.headers, body, route, why) from error
    return result


# Streams


def _stream(plan: Plan, codec: Codec, route: Route, response: Any) -> Flow:
    """Read events until the answer is over, handing chunks on as they come."""
    events, decoder = EventStreamDecoder(), codec.stream_decoder(route)
    read = ReadSome(response)
    try:
        while not decoder.ended:
            data = yield read
            if not data:
                break
            chunks, failure = _feed(events, decoder, data, response, route)
            if chunks:
                yield from _emit(plan, chunks)
            if failure is not None:
                raise failure
        if decoder.ended:
            yield Drain(response)
    except NetworkError as error:
        if not decoder.complete:
            if plan.call.first_token is None:
                raise
            raise _interrupted(plan, codec, route, decoder, error.message) from error
        yield Close(response)
    except BaseException:
        plan.call.partial = _partial(plan, codec, route, decoder)
        raise
    if not decoder.complete:
        raise _interrupted(plan, codec, route, decoder, "it ended without a word that it was over")
    try:
        return plan.decode(codec, decoder.body(), route)
    except _NOT_ITS_SHAPE as error:
        why = f"its events do not add up to one ({type(error).__name__}: {error})"
        raise not_an_answer(response.status, response.headers, b"", route, why) from error


def _feed(
    events: EventStreamDecoder, decoder: StreamDecoder, data: bytes, response: Any, route: Route
) -> tuple[list[Chunk], AistraleError | None]:
    """The chunks in `data`, and the error that follows them, if one does."""
    chunks: list[Chunk] = []
    try:
        for event in events.feed(data):
            chunks += decoder.feed(event)
    except AistraleError as error:
        return chunks, error
    except _NOT_ITS_SHAPE as error:
        why = f"an event in its stream cannot be read ({type(error).__name__}: {error})"
        wrong = not_an_answer(response.status, response.headers, data, route, why)
        wrong.__cause__ = error
        return chunks, wrong
    return chunks, None


def _emit(plan: Plan, chunks: list[Chunk]) -> Flow:
    call = plan.call
    if call.first_token is None:
        call.first_token = time.perf_counter()
    for handler in plan.audience.tokens:
        for chunk in chunks:
            if pending := tell(handler, "on_token", call, chunk):
                yield pending
    yield Emit(chunks)


def _interrupted(plan: Plan, codec: Codec, route: Route, decoder: StreamDecoder, why: str) -> StreamInterruptedError:
    partial = plan.call.partial = _partial(plan, codec, route, decoder)
    return StreamInterruptedError(
        f"The stream of {route.provider} broke off: {why.rstrip('.')}. `partial` holds what had arrived.",
        provider=route.provider,
        partial=partial,
    )


def _partial(plan: Plan, codec: Codec, route: Route, decoder: StreamDecoder) -> Completion | None:
    """What has arrived of an answer; None if that is not yet anything."""
    if plan.call.first_token is None:
        return None
    try:
        partial: Completion = plan.decode(codec, decoder.body(), route)
    except _NOT_ITS_SHAPE:
        return None
    _finish(partial, plan)
    return partial
