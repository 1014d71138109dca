"""When a call is made again, somewhere else, not at all, or not even once."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from itertools import islice, pairwise
from statistics import mean
from typing import Any

import pytest
from callers import KEY, SYNC, SYNC_STREAM, Calling, Way, elsewhere, every_stream, our_ways, sync_and_async
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed, wait_none
from upstream import (
    BOUND,
    CLOSE,
    END_OF_BODY,
    HANG,
    RESET,
    Answer,
    Gate,
    Upstream,
    completion,
    events,
    failure,
    plain,
    stream,
)

import aistrale
from aistrale import (
    APIError,
    Attempt,
    AuthenticationError,
    Call,
    CallbackHandler,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    MemoryCache,
    NetworkError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
    Timeout,
)

AT_ONCE = RetryPolicy(max_retries=2, wait=wait_none())


class Watcher(CallbackHandler):
    """Keeps the attempts it was told of, and how often a call began and ended."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.events: list[str] = []

    def on_start(self, call: Call) -> None:
        self.events.append("start")

    def on_attempt(self, call: Call, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def on_end(self, call: Call, result: Any) -> None:
        self.events.append("end")

    def on_error(self, call: Call, error: BaseException) -> None:
        self.events.append("error")

    @property
    def errors(self) -> list[type]:
        return [type(attempt.error) for attempt in self.attempts]


# What is tried again

PASSING: dict[str, tuple[Answer, type[Exception]]] = {
    **{str(status): (failure(status), ServerError) for status in (500, 502, 503, 529)},
    "408": (failure(408), APIError),
    "409": (failure(409), APIError),
    "429": (failure(429), RateLimitError),
    "a page as 502": (plain("<html>", 502), ServerError),
    "overloaded, as 200": (plain({"error": {"message": "no", "type": "overloaded_error"}}), ServerError),
    "a dropped connection": ([CLOSE], NetworkError),
    "a reset connection": ([RESET], NetworkError),
    "silence": ([HANG], RequestTimeoutError),
    "400 that asks for it": (failure(400, x_should_retry="true"), InvalidRequestError),
}


@our_ways
@pytest.mark.parametrize("case", PASSING)
def test_what_may_pass_is_tried_again(way: Way, case: str, calling: Calling, upstream: Upstream) -> None:
    """Timeouts, locks, limits, failures and lost connections: the second try's answer is the call's."""
    answer, kind = PASSING[case]
    upstream.will(answer)
    watcher = Watcher()
    caller = calling(way, retry=AT_ONCE, callbacks=[watcher], timeout=Timeout(read=0.3))
    completion = caller.ask("second time")
    assert completion.text == "second time"
    assert [isinstance(attempt.error, kind) for attempt in watcher.attempts] == [True, False]
    assert completion.attempts == tuple(watcher.attempts)
    assert completion.attempts[-1].error is None
    assert watcher.events == ["start", "end"]
    assert len(upstream.requests) == 2
    assert upstream.requests[0].body == upstream.requests[1].body


LASTING: dict[str, tuple[Answer, type[Exception]]] = {
    "400": (failure(400), InvalidRequestError),
    "401": (failure(401), AuthenticationError),
    "403": (failure(403), aistrale.PermissionDeniedError),
    "404": (failure(404), NotFoundError),
    "422": (failure(422), InvalidRequestError),
    "a used-up quota": (failure(429, code="insufficient_quota"), RateLimitError),
    "a prompt too long": (failure(400, code="context_length_exceeded"), ContextLengthError),
    "a refusal": (failure(400, code="content_filter"), ContentFilterError),
    "503 that asks for it": (failure(503, x_should_retry="false"), ServerError),
    "a page as 200": (plain("<html>"), ServerError),
    "a redirect": (plain("", 302, location="/"), ServerError),
}


@our_ways
@pytest.mark.parametrize("case", LASTING)
def test_what_will_not_pass_is_not_tried_again(way: Way, case: str, calling: Calling, upstream: Upstream) -> None:
    """Wrong keys, wrong requests and used-up quotas stay what they are: one request, one error."""
    answer, kind = LASTING[case]
    upstream.will(answer)
    watcher = Watcher()
    with pytest.raises(kind) as caught:
        calling(way, retry=AT_ONCE, callbacks=[watcher]).ask()
    assert type(caught.value) is kind
    assert len(upstream.requests) == 1
    assert watcher.events == ["start", "error"]
    assert caught.value.attempts == tuple(watcher.attempts)  # type: ignore[attr-defined]


@our_ways
def test_a_refused_connection_is_tried_again(way: Way, calling: Calling, upstream: Upstream) -> None:
    """An upstream that starts just now is worth another try."""
    watcher = Watcher()
    caller = calling(way, retry=AT_ONCE, callbacks=[watcher])
    with Upstream().running() as gone:
        pass
    with pytest.raises(NetworkError):
        caller.ask(**elsewhere(gone.url))
    assert watcher.errors == [NetworkError] * 3


@our_ways
def test_the_last_error_is_the_calls_own(way: Way, calling: Calling, upstream: Upstream) -> None:
    """After the last try the error is raised, with all attempts, oldest first."""
    upstream.will(failure(503), [CLOSE], failure(500, "the last word"))
    with pytest.raises(ServerError, match="the last word") as caught:
        calling(way, retry=AT_ONCE).ask()
    assert [type(attempt.error) for attempt in caught.value.attempts] == [ServerError, NetworkError, ServerError]
    assert caught.value.attempts[-1].error is caught.value
    assert len(upstream.requests) == 3


@sync_and_async
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_max_retries_is_kept(way: Way, retries: int, calling: Calling, upstream: Upstream) -> None:
    """A client's limit, and a call's before it: so many further attempts and none more."""
    upstream.default = failure(503)
    caller = calling(way, retry=AT_ONCE, max_retries=retries, breaker=None)
    for asked, expected in ((None, retries), (0, 0), (2, 2)):
        seen = len(upstream.requests)
        with pytest.raises(ServerError):
            caller.ask(max_retries=asked)
        assert len(upstream.requests) - seen == expected + 1


# Pauses


def pause_between(upstream: Upstream) -> float:
    first, second = upstream.requests
    return second.at - first.at


@sync_and_async
@pytest.mark.parametrize(
    ("header", "value", "seconds"),
    [("retry_after", "1", 1.0), ("retry_after", "0.2", 0.2), ("retry_after_ms", "150", 0.15)],
)
def test_a_pause_the_provider_asks_for_is_kept(
    way: Way, header: str, value: str, seconds: float, calling: Calling, upstream: Upstream
) -> None:
    """Retry-After in seconds and retry-after-ms: no sooner, and not much later."""
    upstream.will(failure(429, **{header: value}))
    caller = calling(way, retry=RetryPolicy(wait=wait_fixed(60)))
    assert caller.ask("second time").text == "second time"
    assert seconds <= pause_between(upstream) < seconds + 1


@sync_and_async
def test_a_date_the_provider_asks_for_is_kept(way: Way, calling: Calling, upstream: Upstream) -> None:
    """Retry-After as an HTTP date: not before that second."""
    date = (datetime.now(UTC) + timedelta(seconds=1.5)).replace(microsecond=0)
    upstream.will(failure(503, retry_after=format_datetime(date, usegmt=True)))
    assert calling(way, retry=RetryPolicy(wait=wait_fixed(60))).ask("second time").text == "second time"
    assert 0 <= upstream.requests[1].at - date.timestamp() < 1


@pytest.mark.parametrize(
    ("header", "value"),
    [("retry_after", value) for value in ("Wed, 21 Oct 2015 07:28:00 GMT", "0", "soon", "-3", "")]
    + [("retry_after_ms", value) for value in ("nan", "inf", "-150", "")],
)
def test_a_pause_that_is_none_leaves_the_policys(header: str, value: str, calling: Calling, upstream: Upstream) -> None:
    """A date that has passed, a zero and what cannot be read: the policy's own pause is made."""
    upstream.will(failure(503, **{header: value}))
    assert calling(SYNC, retry=RetryPolicy(wait=wait_fixed(0.1))).ask("second time").text == "second time"
    assert 0.1 <= pause_between(upstream) < 1


@sync_and_async
@pytest.mark.parametrize("seconds", ["61", "9" * 400], ids=len)
def test_a_pause_too_long_ends_the_retries(way: Way, seconds: str, calling: Calling, upstream: Upstream) -> None:
    """Nobody waits for more than `max_retry_after`: the error says how long it would be."""
    upstream.will(failure(429, retry_after=seconds))
    with pytest.raises(RateLimitError) as caught:
        calling(way, retry=AT_ONCE).ask()
    assert len(upstream.requests) == 1
    assert (caught.value.retry_after or 0) >= 61


def test_the_wait_and_stop_of_tenacity_are_taken(calling: Calling, upstream: Upstream) -> None:
    """`wait` and `stop` are any of tenacity's."""
    upstream.default = failure(503)
    policy = RetryPolicy(max_retries=9, wait=wait_fixed(0.1), stop=stop_after_attempt(3))
    with pytest.raises(ServerError):
        calling(SYNC, retry=policy).ask()
    at = [request.at for request in upstream.requests]
    assert len(at) == 3
    assert all(0.1 <= later - sooner < 1 for sooner, later in pairwise(at))


def test_pauses_grow_and_jitter() -> None:
    """The default wait doubles from half a second up to eight, and no two callers wait alike."""
    error = ServerError("no", status=503)
    policy = RetryPolicy(max_retries=10)
    pauses = [[policy.delay(error, number, 0.0) for _ in range(200)] for number in range(1, 9)]
    assert all(pause is not None and 0 < pause <= 8 for several in pauses for pause in several)
    means = [mean(pause or 0 for pause in several) for several in pauses]
    assert all(later > sooner for sooner, later in pairwise(means[:5]))
    assert all(len(set(several)) > 100 for several in pauses[:4])
    assert means[0] < 1 < 7 < means[-1]
    assert policy.delay(error, 11, 0.0) is None


# Streams


@every_stream
@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ([RESET], StreamInterruptedError),
        ([END_OF_BODY], StreamInterruptedError),
        (events(b'{"error": {"message": "no", "code": 503}}')[1:], ServerError),
        (events(b'{"broken')[1:], ServerError),
    ],
    ids=["reset", "no end", "an error", "a broken event"],
)
def test_nothing_is_tried_again_after_the_first_token(
    way: Way, end: list[Any], kind: type[Exception], calling: Calling, upstream: Upstream
) -> None:
    """What a caller has seen cannot be taken back: no retry, and no fallback either."""
    upstream.will([*events("One "), 0.05, *end])
    with pytest.raises(kind):
        calling(way, retry=AT_ONCE, fallbacks=["openai/gpt-other"]).ask()
    assert len(upstream.requests) == 1


@every_stream
def test_an_error_before_the_first_token_is_tried_again(way: Way, calling: Calling, upstream: Upstream) -> None:
    """An error event that opens the stream is like an error status."""
    upstream.will(events(b'{"error": {"message": "Overloaded", "code": 503}}'))
    assert calling(way, retry=AT_ONCE).ask("second time").text == "second time"


# Idempotency


@our_ways
def test_the_attempts_of_a_call_share_an_idempotency_key(way: Way, calling: Calling, upstream: Upstream) -> None:
    """One key for all attempts of a call, so that none is billed twice, and another for the next call."""
    upstream.will(failure(503), failure(503))
    caller = calling(way, retry=AT_ONCE)
    caller.ask()
    caller.ask()
    keys = [request.headers["idempotency-key"] for request in upstream.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert all(keys)


# Fallbacks

GROQ_KEY = "gsk-0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture
def groq(other_upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """Another provider at another address with another key."""
    monkeypatch.setenv("GROQ_BASE_URL", other_upstream.url)
    monkeypatch.setenv("GROQ_API_KEY", GROQ_KEY)
    return other_upstream


def everything_sent(upstream: Upstream) -> str:
    return json.dumps([[request.path, request.headers, request.body] for request in upstream.requests])


@our_ways
def test_fallbacks_are_asked_in_order(way: Way, calling: Calling, upstream: Upstream, groq: Upstream) -> None:
    """Each route is tried as often as the policy says, then the next; who answers is who is named."""
    upstream.will(*[failure(503)] * 6)
    groq.will(*[failure(500)] * 3)
    caller = calling(way, retry=AT_ONCE, breaker=None)
    completion = caller.ask("Hello", fallbacks=["openai/gpt-other", "groq/llama", "groq/mixtral", "groq/never"])
    assert (completion.provider, completion.text) == ("groq", "Hello")
    assert [request.body["model"] for request in upstream.requests] == ["gpt-test"] * 3 + ["gpt-other"] * 3
    assert [request.body["model"] for request in groq.requests] == ["llama"] * 3 + ["mixtral"]
    assert [attempt.provider for attempt in completion.attempts] == ["openai"] * 6 + ["groq"] * 4
    assert [attempt.error is None for attempt in completion.attempts] == [False] * 9 + [True]


@our_ways
def test_no_key_is_sent_to_another_provider(way: Way, calling: Calling, upstream: Upstream, groq: Upstream) -> None:
    """A fallback gets its own provider's key and address, and neither end ever sees the other's."""
    upstream.default = groq.default = failure(503)
    with pytest.raises(ServerError):
        calling(way, max_retries=0, fallbacks=["groq/llama", "openai/gpt-other", "groq/mixtral"]).ask()
    assert [request.headers["authorization"] for request in upstream.requests] == [f"Bearer {KEY}"] * 2
    assert [request.headers["authorization"] for request in groq.requests] == [f"Bearer {GROQ_KEY}"] * 2
    assert GROQ_KEY not in everything_sent(upstream)
    assert KEY not in everything_sent(groq)


@our_ways
def test_the_error_when_all_fail_holds_every_attempt(
    way: Way, calling: Calling, upstream: Upstream, groq: Upstream
) -> None:
    """The last route's error is raised; `attempts` tells of all, with addresses and errors and without keys."""
    upstream.default, groq.default = failure(503), failure(401, "who are you?")
    with pytest.raises(AuthenticationError, match="who are you") as caught:
        calling(way, max_retries=1, retry=RetryPolicy(wait=wait_none()), fallbacks=["groq/llama"]).ask()
    told = [(attempt.provider, attempt.model, attempt.base_url) for attempt in caught.value.attempts]
    assert told == [("openai", "gpt-test", upstream.url)] * 2 + [("groq", "llama", groq.url)]
    assert [type(attempt.error) for attempt in caught.value.attempts] == [ServerError, ServerError, AuthenticationError]
    assert KEY not in repr(caught.value.attempts)
    assert GROQ_KEY not in repr(caught.value.attempts)


FALLS_BACK = {"401": failure(401), "404": failure(404), "429": failure(429), "503": failure(503)}
FALLS_BACK |= {"a prompt too long": failure(400, code="context_length_exceeded"), "a dropped connection": [CLOSE]}


@sync_and_async
@pytest.mark.parametrize("case", FALLS_BACK)
def test_another_model_is_asked_where_it_may_do_better(
    way: Way, case: str, calling: Calling, upstream: Upstream, groq: Upstream
) -> None:
    """Keys, names, limits, failures and windows differ from model to model."""
    upstream.will(FALLS_BACK[case])
    assert calling(way, max_retries=0, fallbacks=["groq/llama"]).ask("Hello").provider == "groq"


@sync_and_async
@pytest.mark.parametrize("code", [None, "content_filter"])
def test_a_wrong_or_refused_request_is_not_taken_elsewhere(
    way: Way, code: str | None, calling: Calling, upstream: Upstream, groq: Upstream
) -> None:
    """A request that is wrong is wrong everywhere, and a refused one is not for shopping around."""
    upstream.will(failure(400, code=code))
    with pytest.raises((InvalidRequestError, ContentFilterError)):
        calling(way, max_retries=0, fallbacks=["groq/llama"]).ask()
    assert groq.requests == []


def test_a_fallback_without_a_key_is_told_before_it_is_needed(calling: Calling, upstream: Upstream) -> None:
    """A fallback that could not be called is a mistake in the configuration, not a surprise in the night."""
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        calling(SYNC, fallbacks=["groq/llama"]).ask()
    assert upstream.requests == []


# Circuit breaker


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def broken(calling: Calling, way: Way, upstream: Upstream, answer: Answer | None = None) -> tuple[Any, Clock]:
    """A caller whose upstream has just failed three times, and its breaker's clock."""
    clock = Clock()
    caller = calling(way, max_retries=0, breaker=CircuitBreaker(threshold=3, cooldown=30, clock=clock))
    upstream.will(*[answer or failure(503)] * 3)
    for _ in range(3):
        with pytest.raises((ServerError, NetworkError)):
            caller.ask()
    return caller, clock


@our_ways
@pytest.mark.parametrize("answer", [failure(503), [CLOSE]], ids=["503", "dropped"])
def test_a_failing_upstream_is_left_alone(way: Way, answer: Answer, calling: Calling, upstream: Upstream) -> None:
    """After `threshold` failures in a row nothing is sent for `cooldown` seconds, and the error says so."""
    caller, clock = broken(calling, way, upstream, answer)
    clock.now += 29.5
    with pytest.raises(CircuitOpenError, match="Wait, or name `fallbacks`") as caught:
        caller.ask()
    assert caught.value.retry_after == pytest.approx(0.5)
    assert len(upstream.requests) == 3


@our_ways
def test_a_circuit_closes_when_the_upstream_is_back(way: Way, calling: Calling, upstream: Upstream) -> None:
    """After the cooldown one call is let through; when it succeeds, so are all."""
    caller, clock = broken(calling, way, upstream)
    clock.now += 30
    for _ in range(5):
        assert caller.ask("back?").text == "back?"
    upstream.will(failure(503), failure(503))
    for _ in range(2):
        with pytest.raises(ServerError):
            caller.ask()
    assert caller.ask("back?").text == "back?"


@our_ways
def test_a_circuit_stays_open_while_the_upstream_is_down(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A probe that fails opens the circuit for another cooldown."""
    caller, clock = broken(calling, way, upstream)
    clock.now += 30
    upstream.will(failure(503))
    with pytest.raises(ServerError):
        caller.ask()
    clock.now += 29
    with pytest.raises(CircuitOpenError):
        caller.ask()
    assert len(upstream.requests) == 4
    clock.now += 1
    assert caller.ask("back?").text == "back?"


@sync_and_async
def test_an_upstream_that_answers_is_up_whatever_it_says(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A probe that is told of a wrong key has found the upstream alive: the circuit closes."""
    caller, clock = broken(calling, way, upstream)
    clock.now += 30
    upstream.will(failure(401))
    with pytest.raises(AuthenticationError):
        caller.ask()
    assert caller.ask("back?").text == "back?"


@sync_and_async
def test_only_failures_in_a_row_count(way: Way, calling: Calling, upstream: Upstream) -> None:
    """What the caller has to mend is no failure of the upstream's, and an answer starts the count anew."""
    caller = calling(way, max_retries=0, breaker=CircuitBreaker(threshold=3))
    upstream.will(*[failure(401), failure(429), failure(400)] * 3)
    for _ in range(9):
        with pytest.raises(APIError):
            caller.ask()
    for _ in range(3):
        upstream.will(failure(503), failure(503))
        for _ in range(2):
            with pytest.raises(ServerError):
                caller.ask()
        assert caller.ask("still there?").text == "still there?"


def test_one_call_at_a_time_probes(calling: Calling, upstream: Upstream) -> None:
    """While a probe is under way, other calls are not let through."""
    caller, clock = broken(calling, SYNC, upstream)
    clock.now += 30
    gate = Gate()
    upstream.will([gate, *plain(completion("back"))])
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(caller.client.run, "Hello")
        gate.wait_until_reached()
        for _ in range(3):
            with pytest.raises(CircuitOpenError):
                caller.client.run("Hello")
        gate.open()
        assert probe.result(BOUND).text == "back"
    assert caller.ask("and now?").text == "and now?"


def test_one_of_many_threads_probes(calling: Calling, upstream: Upstream) -> None:
    """Of threads that arrive at once after the cooldown, one is let through."""
    caller, clock = broken(calling, SYNC, upstream)
    clock.now += 30
    gate, barrier = Gate(), threading.Barrier(8)
    upstream.default = [gate, *plain(completion("back"))]

    def ask(_: int) -> bool:
        barrier.wait(BOUND)
        try:
            return bool(caller.client.run("Hello").text)
        except CircuitOpenError:
            return False

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, number) for number in range(8)]
        gate.wait_until_reached()
        refused = [answer.result() for answer in islice(as_completed(answers, BOUND), 7)]
        gate.open()
        assert sum(answer.result(BOUND) for answer in answers) == 1
    assert not any(refused)


@our_ways
def test_each_address_has_a_circuit_of_its_own(way: Way, calling: Calling, upstream: Upstream, groq: Upstream) -> None:
    """Another base URL of the same provider, and another provider, are called on."""
    caller, _ = broken(calling, way, upstream)
    with pytest.raises(CircuitOpenError):
        caller.ask()
    assert caller.ask("Hello", **elsewhere(groq.url)).text == "Hello"
    assert caller.ask("Hello", model="groq/llama", provider="groq").text == "Hello"
    assert caller.ask("Hello", fallbacks=["groq/llama"]).provider == "groq"
    assert len(upstream.requests) == 3


@our_ways
def test_without_a_breaker_every_call_is_sent(way: Way, calling: Calling, upstream: Upstream) -> None:
    """`breaker=None` switches it off."""
    upstream.default = failure(503)
    caller = calling(way, max_retries=0, breaker=None)
    for _ in range(15):
        with pytest.raises(ServerError):
            caller.ask()
    assert len(upstream.requests) == 15


# Cache


@our_ways
def test_the_same_request_is_answered_from_the_cache(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A hit makes no request, costs nothing, says what it is, and is told to the handlers as one call."""
    watcher = Watcher()
    caller = calling(way, cache=True, callbacks=[watcher])
    first, second = caller.ask("One two"), caller.ask("One two")
    assert (first.cached, second.cached) == (False, True)
    assert (second.text, second.usage, second.finish_reason) == (first.text, first.usage, first.finish_reason)
    assert (second.cost, second.attempts) == (Decimal(0), ())
    assert second.provider == "openai"
    assert len(upstream.requests) == 1
    assert watcher.events == ["start", "end"] * 2


def test_streamed_and_whole_answers_share_the_cache(calling: Calling, upstream: Upstream) -> None:
    """An answer kept from a stream is given whole, and the other way round, the same in all its chunks."""
    caller = calling(SYNC, cache=True)
    caller.client.stream("One two").until_done()
    assert caller.client.run("One two").cached
    caller.client.run("Three four")
    chunks = caller.client.stream("Three four")
    assert "".join(chunk.text for chunk in chunks) == "Three four"
    assert chunks.completion.cached
    assert (chunks.completion.cost, chunks.completion.text) == (Decimal(0), "Three four")
    assert len(upstream.requests) == 2


class Person(BaseModel):
    name: str


def test_a_hit_is_parsed_as_its_own_call_asked(calling: Calling, upstream: Upstream) -> None:
    """`parsed` of a hit is what `response_format` asked for."""
    upstream.will(plain(completion('{"name": "Ada"}')))
    caller = calling(SYNC, cache=True)
    parsed = [caller.ask(response_format=Person).parsed for _ in range(2)]
    assert parsed == [Person(name="Ada")] * 2
    assert len(upstream.requests) == 1


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
OTHERWISE: list[dict[str, Any]] = [
    {"prompt": "Hello!"},
    {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]},
    {"model": "gpt-other"},
    {"provider": "groq", "model": "gpt-test"},
    {"api_key": "sk-another-key-altogether"},
    {"temperature": 0.5},
    {"temperature": 0.0},
    {"top_p": 0.5},
    {"max_tokens": 5},
    {"stop": "."},
    {"seed": 5},
    {"n": 2},
    {"frequency_penalty": 0.5},
    {"presence_penalty": 0.5},
    {"reasoning_effort": "low"},
    {"tools": [WEATHER]},
    {"tools": [WEATHER], "tool_choice": "required"},
    {"tools": [WEATHER], "parallel_tool_calls": False},
    {"response_format": {"type": "json_object"}},
    {"response_format": Person},
    {"user": "Ada"},
    {"extra_body": {"logprobs": True}},
    {"extra_headers": {"OpenAI-Organization": "org-other"}},
]


@pytest.mark.usefixtures("groq")
@pytest.mark.parametrize("otherwise", OTHERWISE, ids=str)
def test_a_request_that_differs_at_all_is_another(
    otherwise: dict[str, Any], calling: Calling, upstream: Upstream
) -> None:
    """Whatever may change the answer changes the key: no other request's answer is given."""
    caller = calling(SYNC, cache=True)
    caller.ask()
    assert caller.ask().cached
    assert not caller.ask(**otherwise).cached
    assert caller.ask(**otherwise).cached
    assert caller.ask().cached


def test_another_address_is_another_request(calling: Calling, upstream: Upstream, other_upstream: Upstream) -> None:
    """What one address answered is not given for another."""
    caller = calling(SYNC, cache=True)
    caller.ask()
    assert not caller.ask(**elsewhere(other_upstream.url)).cached
    assert len(other_upstream.requests) == 1


NOT_KEPT: dict[str, Answer] = {
    "an answer cut at the limit": plain(completion("Hel", finish_reason="length")),
    "a filtered answer": plain(completion("", finish_reason="content_filter")),
    "a failed answer": plain(completion("", finish_reason="error")),
    "an error": failure(400),
    "a broken connection": [CLOSE],
    "a page": plain("<html>"),
    "a stream cut at the limit": stream("Hel", finish_reason="length"),
    "a broken stream": [*events("Hel"), CLOSE],
}


@our_ways
@pytest.mark.parametrize("case", NOT_KEPT)
def test_only_whole_answers_are_kept(way: Way, case: str, calling: Calling, upstream: Upstream) -> None:
    """Errors and answers that were cut short, filtered or broken are asked for again."""
    upstream.will(NOT_KEPT[case])
    kept = MemoryCache()
    caller = calling(way, cache=kept, max_retries=0)
    with suppress(aistrale.AistraleError):
        assert not caller.ask("One two").cached
    assert len(kept) == 0
    second = caller.ask("One two")
    assert (second.text, second.cached, len(kept)) == ("One two", False, 1)


def test_a_stream_that_is_left_is_not_kept(calling: Calling, upstream: Upstream) -> None:
    """Half an answer is none."""
    upstream.will(events("One ", HANG))
    caller = calling(SYNC, cache=True)
    with caller.client.stream("One two") as chunks:
        next(chunks)
    assert not caller.ask("One two").cached


@pytest.mark.parametrize(("ttl", "cached"), [(None, True), (3600, True), (1e-9, False)])
def test_answers_are_kept_for_their_time(ttl: float | None, cached: bool, calling: Calling) -> None:
    """`ttl` is in seconds; None keeps them."""
    caller = calling(SYNC, cache=MemoryCache(ttl=ttl))
    assert [caller.ask().cached for _ in range(3)] == [False, cached, cached]


def test_a_full_cache_forgets_what_was_used_longest_ago(calling: Calling) -> None:
    """`max_entries` bounds it; a hit counts as use."""
    kept = MemoryCache(max_entries=2)
    caller = calling(SYNC, cache=kept)
    asked = [(text, caller.ask(text).cached) for text in ("a", "b", "a", "c", "a", "b")]
    assert asked == [("a", False), ("b", False), ("a", True), ("c", False), ("a", True), ("b", False)]
    assert len(kept) == 2


def test_a_cache_is_shared_by_whom_it_is_given_to(calling: Calling, upstream: Upstream) -> None:
    """One cache for several clients; `cache=True` is each client's own."""
    kept = MemoryCache()
    answers = [calling(SYNC, cache=cache).ask().cached for cache in (kept, kept, True, True)]
    assert answers == [False, True, False, False]


def test_a_cache_of_ones_own_is_taken(calling: Calling, upstream: Upstream) -> None:
    """Whatever has `get` and `set` is a cache."""
    kept: dict[str, aistrale.Completion] = {}

    class Own:
        get: Callable[[str], aistrale.Completion | None] = staticmethod(kept.get)
        set: Callable[[str, aistrale.Completion], None] = staticmethod(kept.__setitem__)

    caller = calling(SYNC, cache=Own())
    assert [caller.ask().cached for _ in range(2)] == [False, True]
    assert KEY not in "".join(kept)


def test_a_fallbacks_answer_is_not_kept_as_the_firsts(calling: Calling, upstream: Upstream) -> None:
    """When the first provider is well again it is asked again, and nobody is told it had answered."""
    caller = calling(SYNC, cache=True, retry=AT_ONCE, max_retries=0)
    upstream.will(failure(503))
    assert caller.ask(fallbacks=["echo/echo"]).provider == "echo"
    again = caller.ask(fallbacks=["echo/echo"])
    assert (again.provider, again.cached) == ("openai", False)


def test_answers_given_again_share_nothing(calling: Calling) -> None:
    """What one caller does to its answer is not seen by the next."""
    caller = calling(SYNC_STREAM, cache=True)
    first = caller.ask()
    first.raw["mine"] = True
    second = caller.ask()
    second.raw["mine"] = True
    third = caller.client.run("Hello")
    assert third.cached
    assert "mine" not in third.raw
    assert third.time_to_first_token is None


@sync_and_async
def test_a_callers_header_replaces_ours_whatever_its_case(way: Way, calling: Calling, upstream: Upstream) -> None:
    """`extra_headers` go over what we would send, the idempotency key included; none is sent twice."""
    mine = {"authorization": "Bearer mine", "CONTENT-TYPE": "application/json; v=1", "idempotency-key": "k-1"}
    mine |= {"user-agent": "me/1", "ACCEPT-ENCODING": "identity"}
    calling(way).ask(extra_headers=mine)
    headers = upstream.requests[0].headers
    assert {name: headers[name.lower()] for name in mine} == mine


@sync_and_async
def test_a_caller_may_name_the_host(way: Way, calling: Calling, upstream: Upstream) -> None:
    """Whoever routes by it, as a proxy before several models does."""
    assert calling(way).ask(extra_headers={"host": "models.internal"}).text
    assert upstream.requests[0].headers["host"] == "models.internal"


def test_a_callers_credentials_stay_with_the_provider_it_named(
    calling: Calling, upstream: Upstream, other_upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fallback to another provider gets the other extra headers, but no authorization."""
    monkeypatch.setenv("VLLM_BASE_URL", other_upstream.url)
    upstream.will(failure(503))
    caller = calling(SYNC, max_retries=0)
    caller.ask(fallbacks=["vllm/other"], extra_headers={"Authorization": "Bearer mine", "X-Trace": "t"})
    headers = other_upstream.requests[0].headers
    assert headers["x-trace"] == "t"
    assert "authorization" not in headers


def test_another_model_has_another_idempotency_key(calling: Calling, upstream: Upstream) -> None:
    """A key stands for one request: that of a fallback to another model is another."""
    upstream.will(failure(503))
    calling(SYNC, max_retries=0).ask(fallbacks=["openai/another"])
    first, second = (request.headers["idempotency-key"] for request in upstream.requests)
    assert first != second
