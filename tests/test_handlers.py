"""What a CallbackHandler is told, and what becomes of a call whose handlers misbehave."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from scripted import Answer, Provider, answer, broken_stream, failure, hanging, stream

import aistrale
from aistrale import AsyncClient, BudgetExceededError, CallbackHandler, Client, ConfigurationError

EVENTS = ("on_start", "on_attempt", "on_token", "on_end", "on_error")


class Diary(CallbackHandler):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Any]] = []

    def on_start(self, call: aistrale.Call) -> None:
        self.entries.append(("on_start", call))

    def on_attempt(self, call: aistrale.Call, attempt: aistrale.Attempt) -> None:
        self.entries.append(("on_attempt", attempt))

    def on_token(self, call: aistrale.Call, chunk: aistrale.Chunk) -> None:
        self.entries.append(("on_token", chunk))

    def on_end(self, call: aistrale.Call, result: Any) -> None:
        self.entries.append(("on_end", result))

    def on_error(self, call: aistrale.Call, error: BaseException) -> None:
        self.entries.append(("on_error", error))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.entries]

    @property
    def ends(self) -> list[tuple[str, type]]:
        """How the call ended: a promise says that this is one entry."""
        return [(event, type(told)) for event, told in self.entries if event in ("on_end", "on_error")]


# Exactly one end for every start

RUN = [
    pytest.param(answer(), ("on_end", aistrale.Completion), id="an answer"),
    pytest.param(failure(401), ("on_error", aistrale.AuthenticationError), id="an API error"),
    pytest.param(httpx.ConnectError("refused"), ("on_error", aistrale.NetworkError), id="no connection"),
    pytest.param(httpx.ReadTimeout("slow"), ("on_error", aistrale.RequestTimeoutError), id="a timeout"),
    pytest.param(Answer([b"<html>"]), ("on_error", aistrale.ServerError), id="no answer"),
]
STREAMED = [
    *RUN,
    pytest.param(stream("One ", "two"), ("on_end", aistrale.Completion), id="a stream"),
    pytest.param(broken_stream("One "), ("on_error", aistrale.StreamInterruptedError), id="a stream that breaks"),
]


async def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives or raises, awaited if that is to be awaited."""
    try:
        result = call()
        return await result if isinstance(result, Awaitable) else result
    except aistrale.AistraleError as error:
        return error


@pytest.mark.parametrize(("scripted", "end"), RUN)
async def test_a_call_ends_once(scripted: Any, end: tuple[str, type]) -> None:
    """One of on_end and on_error, sync and async, with what the caller gets."""
    diary = Diary()
    provider, options = Provider(scripted), {"callbacks": [diary], "max_retries": 0}

    result = await outcome(lambda: provider.client(**options).run("Hello"))
    assert (diary.ends, diary.entries[-1][1]) == ([end], result)
    result = await outcome(lambda: provider.async_client(**options).run("Hello"))
    assert (diary.ends, diary.entries[-1][1]) == ([end, end], result)
    assert diary.events.count("on_start") == 2


@pytest.mark.parametrize(("scripted", "end"), STREAMED)
async def test_a_stream_ends_once(scripted: Any, end: tuple[str, type]) -> None:
    """One of on_end and on_error, sync and async, with what the caller gets."""
    diary = Diary()
    provider, options = Provider(scripted), {"callbacks": [diary], "max_retries": 0}

    result = await outcome(lambda: provider.client(**options).stream("Hello").until_done())
    assert (diary.ends, diary.entries[-1][1]) == ([end], result)
    result = await outcome(lambda: provider.async_client(**options).stream("Hello").until_done())
    assert (diary.ends, diary.entries[-1][1]) == ([end, end], result)
    assert diary.events.count("on_start") == 2


async def test_an_embedding_ends_once() -> None:
    """Embeddings are watched as completions are."""
    diary = Diary()

    aistrale.embed("Hello", provider="echo", callbacks=[diary])
    await aistrale.embed_async("Hello", provider="echo", callbacks=[diary])

    assert diary.events == ["on_start", "on_attempt", "on_end"] * 2


def test_a_cached_answer_ends_once() -> None:
    """It takes no attempt."""
    diary = Diary()
    client = Provider(answer()).client(cache=True, callbacks=[diary])

    client.run("Hello")
    client.run("Hello")

    assert diary.events == ["on_start", "on_attempt", "on_end", "on_start", "on_end"]


def test_a_stream_left_early_ends_in_generator_exit() -> None:
    """The caller left: `on_error` says so, and the call keeps what had arrived."""
    diary = Diary()
    client = Provider(stream("One ", "two ", "three")).client(callbacks=[diary])

    with client.stream("Count.") as answered:
        next(answered)

    assert diary.ends == [("on_error", GeneratorExit)]
    assert diary.entries[0][1].partial.text == "One "


@pytest.mark.parametrize("event", ["on_start", "on_token"])
def test_a_handler_may_close_the_stream_it_watches(event: str, caplog: pytest.LogCaptureFixture) -> None:
    """It has read enough: nothing more arrives, and all hear that the caller left."""
    diary, provider = Diary(), Provider(stream("One ", "two ", "three"))

    class Enough(CallbackHandler):
        pass

    setattr(Enough, event, lambda self, call, *told: answered.close())
    answered = provider.client(callbacks=[Enough(), diary]).stream("Count.")

    assert list(answered) == []
    assert diary.ends == [("on_error", GeneratorExit)]
    assert not caplog.records
    with pytest.raises(aistrale.AistraleError, match="closed"):
        _ = answered.completion


def test_a_handler_may_close_the_stream_at_its_end() -> None:
    """There is nothing left to close."""
    diary = Diary()

    class Enough(CallbackHandler):
        def on_end(self, call: aistrale.Call, result: Any) -> None:
            answered.close()

    answered = Provider(stream("One ", "two")).client(callbacks=[Enough(), diary]).stream("Count.")

    assert [chunk.text for chunk in answered if chunk.text] == ["One ", "two"]
    assert diary.ends == [("on_end", aistrale.Completion)]
    assert answered.completion.text == "One two"


def test_a_forgotten_stream_ends_in_generator_exit() -> None:
    """`break` in the loop is all it takes."""
    diary = Diary()

    for _ in Provider(stream("One ", "two")).client(callbacks=[diary]).stream("Count."):
        break
    gc.collect()

    assert diary.ends == [("on_error", GeneratorExit)]


async def test_an_async_stream_left_early_ends_in_generator_exit() -> None:
    """As the sync one."""
    diary = Diary()

    async with Provider(stream("One ", "two")).async_client(callbacks=[diary]).stream("Count.") as answered:
        await anext(answered)

    assert diary.ends == [("on_error", GeneratorExit)]


async def test_a_forgotten_async_stream_ends_in_generator_exit() -> None:
    """Its event loop closes it at the next occasion."""
    diary, told = Diary(), asyncio.Event()

    class Told(CallbackHandler):
        def on_error(self, call: aistrale.Call, error: BaseException) -> None:
            told.set()

    async for _ in Provider(stream("One ", "two")).async_client(callbacks=[diary, Told()]).stream("Count."):
        break
    gc.collect()

    async with asyncio.timeout(10):
        await told.wait()
    assert diary.ends == [("on_error", GeneratorExit)]


def test_a_stream_forgotten_as_its_event_loop_ends_is_told_of_all_the_same() -> None:
    """A script may well `break` and end."""
    diary = Diary()

    async def main() -> None:
        async for _ in aistrale.stream_async("One two three", provider="echo", callbacks=[diary]):
            break

    asyncio.run(main())
    gc.collect()

    assert [event for event, _ in diary.ends] == ["on_error"]


def test_a_stream_that_was_never_read_never_started() -> None:
    """Closing it tells nobody anything."""
    diary = Diary()

    Provider(stream("One")).client(callbacks=[diary]).stream("Count.").close()

    assert diary.entries == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_call_ends_in_cancelled_error(streamed: bool) -> None:
    """Cancellation reaches the handlers, and then the caller."""
    diary, asked = Diary(), asyncio.Event()
    client = AsyncClient(model="openai/gpt-4o", api_key="k", http_client=hanging(asked.set), callbacks=[diary])

    task = asyncio.create_task(client.stream("Hello").until_done() if streamed else client.run("Hello"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert diary.ends == [("on_error", asyncio.CancelledError)]


class Budget(CallbackHandler):
    """Refuses every call."""

    def on_start(self, call: aistrale.Call) -> None:
        raise BudgetExceededError("The budget is used up")


class AsyncBudget(CallbackHandler):
    async def on_start(self, call: aistrale.Call) -> None:
        raise BudgetExceededError("The budget is used up")


async def test_a_handler_may_refuse_a_call() -> None:
    """Nothing is sent; who had heard of the start hears of the error, and nobody else."""
    before, after, provider = Diary(), Diary(), Provider(answer())

    with pytest.raises(BudgetExceededError):
        provider.client().run("Hello", callbacks=[before, Budget(), after])
    with pytest.raises(BudgetExceededError):
        await provider.async_client().run("Hello", callbacks=[before, AsyncBudget(), after])
    with pytest.raises(BudgetExceededError):
        provider.client().stream("Hello", callbacks=[before, Budget(), after]).until_done()

    assert provider.requests == []
    assert before.events == ["on_start", "on_error"] * 3
    assert after.entries == []


def test_who_stands_behind_a_refusal_hears_nothing_of_it() -> None:
    """Handlers that hear of errors alone, too."""
    heard: list[str] = []

    class Errors(CallbackHandler):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_error(self, call: aistrale.Call, error: BaseException) -> None:
            heard.append(self.name)

    with pytest.raises(BudgetExceededError):
        Provider(answer()).client().run("Hello", callbacks=[Errors("before"), Diary(), Budget(), Errors("after")])

    assert heard == ["before"]


async def test_a_context_to_send_in_that_cannot_be_made_fails_the_call() -> None:
    """What a handler wants sent in its context is not sent without it; the error is the handler's own."""

    class Sending(CallbackHandler):
        def on_start(self, call: aistrale.Call) -> None:
            call.sending = self.make

        def make(self) -> Any:
            raise LookupError("no context")

    diary, provider = Diary(), Provider(answer())
    with pytest.raises(LookupError, match="no context"):
        provider.client().run("Hello", callbacks=[Sending(), diary])
    with pytest.raises(LookupError, match="no context"):
        await provider.async_client().run("Hello", callbacks=[Sending(), diary])
    with pytest.raises(LookupError, match="no context"):
        provider.client().stream("Hello", callbacks=[Sending(), diary]).until_done()

    assert provider.requests == []
    assert diary.events == ["on_start", "on_error"] * 3


async def test_a_call_cancelled_while_a_handler_is_told_of_its_end_still_tells_the_others() -> None:
    """An async on_end may be cut off; who comes after it hears of the end all the same."""
    diary, telling = Diary(), asyncio.Event()

    class Slow(CallbackHandler):
        async def on_end(self, call: aistrale.Call, result: Any) -> None:
            telling.set()
            await asyncio.Event().wait()

    call = Provider(answer()).async_client().run("Hello", callbacks=[Slow(), diary])
    task = asyncio.create_task(call)
    await telling.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len(diary.ends) == 1


# What is told in between


def test_a_call_says_where_it_goes_from_its_start_on() -> None:
    """A budget or a log needs to know the provider and the model before anything is sent."""
    places: list[tuple[str, str, str]] = []

    class Place(CallbackHandler):
        def on_start(self, call: aistrale.Call) -> None:
            places.append((call.provider, call.model, call.base_url))

    Provider(answer()).client(fallbacks=["openai/gpt-5-mini"], callbacks=[Place()]).run("Hello")

    assert places == [("openai", "gpt-4o", "https://api.openai.com/v1")]


def test_every_attempt_is_told() -> None:
    """With its error, or None for the one that went well; and the result lists the same."""
    diary = Diary()
    provider = Provider(failure(429), httpx.ConnectError("refused"), answer())

    completion = provider.client(callbacks=[diary]).run("Hello")

    attempts = [told for event, told in diary.entries if event == "on_attempt"]
    assert [type(attempt.error) for attempt in attempts] == [
        aistrale.RateLimitError,
        aistrale.NetworkError,
        type(None),
    ]
    assert completion.attempts == tuple(attempts)


def test_attempts_of_a_fallback_say_where_they_went() -> None:
    """The call says where it goes now, each attempt where it went."""
    diary = Diary()
    provider = Provider(failure(401), answer())

    provider.client(fallbacks=["openai/gpt-5-mini"], callbacks=[diary]).run("Hello")

    attempts = [told.model for event, told in diary.entries if event == "on_attempt"]
    assert attempts == ["gpt-4o", "gpt-5-mini"]
    assert diary.entries[0][1].model == "gpt-5-mini"


async def test_tokens_are_told_in_order_before_the_caller_has_them() -> None:
    """Each chunk once, sync and async."""
    diary, seen = Diary(), []
    provider = Provider(stream("One ", "two ", "three"))

    for chunk in provider.client(callbacks=[diary]).stream("Count."):
        seen.append(chunk)
        assert diary.entries[-1] == ("on_token", chunk)
    seen += [chunk async for chunk in provider.async_client(callbacks=[diary]).stream("Count.")]

    assert [told for event, told in diary.entries if event == "on_token"] == seen
    assert diary.events == ["on_start", *["on_token"] * 4, "on_attempt", "on_end"] * 2


def test_a_handlers_headers_are_sent_with_every_attempt() -> None:
    """What it adds to `call.headers` at the start goes along."""

    class Trace(CallbackHandler):
        def on_start(self, call: aistrale.Call) -> None:
            call.headers["x-request-source"] = "tests"

    provider = Provider(failure(500), answer())
    provider.client(callbacks=[Trace()]).run("Hello")

    assert [request.headers["x-request-source"] for request in provider.requests] == ["tests", "tests"]


def test_handlers_share_a_call_but_not_their_state() -> None:
    """`call.state` is keyed by handler; two calls at once are two objects."""

    class Stateful(CallbackHandler):
        def __init__(self) -> None:
            self.found: list[Any] = []

        def on_start(self, call: aistrale.Call) -> None:
            call.state[self] = id(call)

        def on_end(self, call: aistrale.Call, result: Any) -> None:
            self.found.append(call.state[self] == id(call))

    one, two = Stateful(), Stateful()
    aistrale.run("Hello", provider="echo", callbacks=[one, two])

    assert (one.found, two.found) == ([True], [True])


# Handlers that misbehave


@pytest.mark.parametrize("event", ["on_start", "on_attempt", "on_token", "on_end"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_handler_that_raises_is_logged_and_the_call_goes_on(
    event: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher's fault is not the call's, nor its fellow watchers'."""

    def fail(self: Any, *args: Any) -> None:
        raise ValueError("a bug in the handler")

    async def fail_async(self: Any, *args: Any) -> None:
        fail(self)

    faulty = type("Faulty", (CallbackHandler,), {event: fail_async if is_async else fail})()
    diary, provider = Diary(), Provider(stream("Hello"))
    with caplog.at_level(logging.WARNING, "aistrale"):
        completion = await provider.async_client().stream("Hello", callbacks=[faulty, diary]).until_done()
        if not is_async:
            assert provider.client().stream("Hello", callbacks=[faulty]).until_done().text == "Hello"

    assert completion.text == "Hello"
    assert f"Faulty.{event} raised ValueError" in caplog.text
    assert diary.ends == [("on_end", aistrale.Completion)]


def test_a_handler_that_raises_at_an_error_does_not_hide_it() -> None:
    """The caller gets the call's own error."""

    class Faulty(CallbackHandler):
        def on_error(self, call: aistrale.Call, error: BaseException) -> None:
            raise ValueError("a bug in the handler")

    diary = Diary()
    with pytest.raises(aistrale.AuthenticationError):
        Provider(failure(401)).client().run("Hello", callbacks=[Faulty(), diary])

    assert diary.ends == [("on_error", aistrale.AuthenticationError)]


def test_an_error_of_ours_refuses_a_call_at_its_start_only(caplog: pytest.LogCaptureFixture) -> None:
    """Later it is a handler's fault like any other."""

    class Late(CallbackHandler):
        def on_end(self, call: aistrale.Call, result: Any) -> None:
            raise BudgetExceededError("too late")

    assert aistrale.run("Hello", provider="echo", callbacks=[Late()]).text == "Hello"
    assert "Late.on_end raised BudgetExceededError" in caplog.text


def test_what_a_handler_hears_of_is_looked_at_when_it_is_given() -> None:
    """So that a method may be set on it, before; to the next call it is given anew."""
    heard: list[str] = []

    class Late(CallbackHandler):
        def on_start(self, call: aistrale.Call) -> None:
            self.on_end = lambda call, result: heard.append("end")  # type: ignore[method-assign]

    handler = Late()
    aistrale.run("Hello", provider="echo", callbacks=[handler])
    assert heard == []
    aistrale.run("Hello", provider="echo", callbacks=[handler])
    assert heard == ["end"]


def test_what_is_no_handler_is_refused() -> None:
    """A function or another library's handler is an error that says what to derive from."""
    with pytest.raises(ConfigurationError, match="derive from it"):
        aistrale.run("Hello", provider="echo", callbacks=[print])


# Async handlers


async def test_async_handlers_are_awaited_in_async_calls() -> None:
    """Each method may be async."""

    class AsyncDiary(CallbackHandler):
        def __init__(self) -> None:
            self.events: list[str] = []

        async def _note(self, event: str) -> None:
            await asyncio.sleep(0)
            self.events.append(event)

        async def on_start(self, *args: Any) -> None:
            await self._note("on_start")

        async def on_attempt(self, *args: Any) -> None:
            await self._note("on_attempt")

        async def on_token(self, *args: Any) -> None:
            await self._note("on_token")

        async def on_end(self, *args: Any) -> None:
            await self._note("on_end")

        async def on_error(self, *args: Any) -> None:
            await self._note("on_error")

    diary = AsyncDiary()
    client = Provider(stream("One"), failure(401)).async_client(callbacks=[diary])

    await client.stream("Hello").until_done()
    with pytest.raises(aistrale.AuthenticationError):
        await client.run("Hello")

    assert diary.events == [
        *["on_start", "on_token", "on_token", "on_attempt", "on_end"],
        *["on_start", "on_attempt", "on_error"],
    ]


@pytest.mark.parametrize("event", EVENTS)
def test_an_async_handler_cannot_watch_a_sync_call(event: str) -> None:
    """That is a ConfigurationError, and the handlers beside it still hear of exactly one end."""

    async def method(self: Any, *args: Any) -> None: ...

    handler = type("Async", (CallbackHandler,), {event: method})()
    before, after = Diary(), Diary()
    provider = Provider(failure(401) if event == "on_error" else stream("Hello"))

    with pytest.raises(ConfigurationError, match=f"Async.{event} is async and cannot watch a sync call"):
        provider.client().stream("Hello", callbacks=[before, handler, after]).until_done()

    for diary in (before, after):
        assert len(diary.ends) == diary.events.count("on_start")


def test_a_method_that_was_put_on_one_handler_is_called() -> None:
    """As on its class."""
    heard: list[str] = []
    handler = CallbackHandler()
    handler.on_end = lambda call, result: heard.append(result.text)  # type: ignore[method-assign]
    Client(provider="echo").run("Hello", callbacks=[handler])
    assert heard == ["Hello"]
