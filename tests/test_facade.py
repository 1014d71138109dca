"""`aistrale.run` and its kin, clients and sessions, as people type them."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from pydantic import BaseModel, Field
from scripted import Provider, answer, failure, json_answer, stream

import aistrale
from aistrale import AsyncClient, CallbackHandler, Client, Message

ECHO: dict[str, Any] = {"provider": "echo", "extra_body": {"pace": 0}}


class Starts(CallbackHandler):
    """Counts the calls it sees."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self, call: aistrale.Call) -> None:
        self.count += 1


# Ask


def test_run_answers_with_text_usage_cost_and_time() -> None:
    """A completion says what was answered and what that took."""
    completion = aistrale.run("Hello, world!", provider="echo")

    assert str(completion) == completion.text == "Hello, world!"
    assert (completion.provider, completion.model, completion.finish_reason) == ("echo", "echo", "stop")
    assert completion.usage.total_tokens == 4
    assert completion.cost == 0
    assert completion.latency > 0
    assert [attempt.error for attempt in completion.attempts] == [None]
    assert completion.trace_id is not None
    assert completion.parsed is None


async def test_run_async_answers_the_same() -> None:
    """Async code gets what sync code gets."""
    completion = await aistrale.run_async("Hello, world!", provider="echo")

    assert completion.raw == aistrale.run("Hello, world!", provider="echo").raw


@pytest.mark.parametrize(
    "prompt",
    [
        "Hello",
        Message("user", "Hello"),
        {"role": "user", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        [{"role": "system", "content": "Be brief."}, Message("user", "Hello")],
        ({"role": "user", "content": "Hello"},),
    ],
)
def test_a_prompt_is_a_text_a_message_or_a_conversation(prompt: Any) -> None:
    """Strings, Messages, dicts, and lists and tuples of them are all prompts."""
    assert aistrale.run(prompt, provider="echo").text == "Hello"


@pytest.mark.parametrize("prompt", ["", " \n", [], [{"role": "user", "content": ""}], 7, [7], {"content": "x"}])
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    """An empty prompt, and what is none at all, is an error before anything is sent."""
    with pytest.raises(aistrale.InvalidRequestError):
        aistrale.run(prompt, provider="echo")


# Options


TAKERS: dict[str, Callable[..., object]] = {
    "run": lambda **options: aistrale.run("Hello", **options),
    "run_async": lambda **options: asyncio.run(aistrale.run_async("Hello", **options)),
    "stream": lambda **options: aistrale.stream("Hello", **options),
    "stream_async": lambda **options: aistrale.stream_async("Hello", **options),
    "run_batch": lambda **options: aistrale.run_batch(["Hello"], **options),
    "session": lambda **options: aistrale.session(**options),
    "Client.session": lambda **options: Client().session(**options),
    "AsyncClient.session": lambda **options: AsyncClient().session(**options),
    "Client": lambda **options: Client(**options),
    "AsyncClient": lambda **options: AsyncClient(**options),
    "configure": lambda **options: aistrale.configure(**options),
}


@pytest.mark.parametrize("call", TAKERS.values(), ids=TAKERS)
def test_a_misspelt_option_is_a_type_error_with_a_hint(call: Callable[..., object]) -> None:
    """As for a wrong keyword of any function, and at once; the nearest right name is in the message."""
    with pytest.raises(TypeError, match="there is no option 'temprature'; did you mean 'temperature'"):
        call(temprature=1)


def test_an_option_like_no_other_is_told_where_to_go() -> None:
    """What a provider alone knows belongs into extra_body, and the error says so."""
    with pytest.raises(TypeError, match="'xyzzy'; what a provider alone knows goes into extra_body"):
        aistrale.run("Hello", provider="echo", xyzzy=1)
    with pytest.raises(TypeError, match="there is no option 'temperature'"):
        aistrale.embed("Hello", provider="echo", temperature=1)


def test_options_of_a_call_override_those_of_its_client() -> None:
    """A client's options are defaults; extra headers add up, the call's over the client's."""
    provider = Provider(answer())
    client = provider.client(temperature=0.1, seed=1, extra_headers={"x-team": "a", "x-mood": "calm"})

    client.run("Hello")
    client.run("Hello", temperature=0.9, model="openai/gpt-5", extra_headers={"x-mood": "keen"})

    assert [(asked["model"], asked["temperature"], asked["seed"]) for asked in provider.asked] == [
        ("gpt-4o", 0.1, 1),
        ("gpt-5", 0.9, 1),
    ]
    assert [(r.headers["x-team"], r.headers["x-mood"]) for r in provider.requests] == [("a", "calm"), ("a", "keen")]


def test_callbacks_of_a_call_are_added_to_those_of_its_client() -> None:
    """Both watch the call."""
    always, once = Starts(), Starts()
    client = Client(**ECHO, callbacks=[always])

    client.run("Hello", callbacks=[once])
    client.run("Hello")

    assert (always.count, once.count) == (2, 1)


def test_an_option_that_is_an_iterator_serves_every_call() -> None:
    """The types say Iterable: a client, a session and a batch read such an option once and keep it."""
    provider = Provider(answer())
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    client = provider.client(tools=iter([tool]))

    client.run("Hello")
    client.run("Hello")
    provider.client().run_batch(["a", "b"], tools=iter([tool]))

    assert [asked.get("tools") for asked in provider.asked] == [[tool]] * 4


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    """What is learnt on one client holds for the other."""
    for name in ("run", "stream", "run_batch", "session", "embed"):
        mine, other = getattr(Client, name), getattr(AsyncClient, name)
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(other).parameters)


async def test_an_async_client_does_all_that_a_client_does() -> None:
    """Its methods are the client's, awaited, with the same defaults."""
    async with AsyncClient(**ECHO) as client:
        assert (await client.run("Hello")).text == "Hello"
        assert [chunk.text async for chunk in client.stream("one two") if chunk.text] == ["one ", "two"]
        assert [str(result) for result in await client.run_batch(["a", "b"])] == ["a", "b"]
        assert len(await client.embed(["a", "b"])) == 2
        async with client.session() as session:
            assert (await session.run("Hello")).text == "Hello"


def test_configure_sets_the_defaults_and_takes_them_back() -> None:
    """`configure(...)` is what `run` and its kin use from then on; `configure()` forgets it."""
    aistrale.configure(provider="echo")
    assert aistrale.run("Hello").text == "Hello"
    assert asyncio.run(aistrale.run_async("Hello")).text == "Hello"

    aistrale.configure()
    with pytest.raises(aistrale.ConfigurationError, match="No model is named"):
        aistrale.run("Hello")


def test_what_configure_was_told_before_is_forgotten() -> None:
    """Two calls of configure do not add up."""
    aistrale.configure(provider="echo", cache=True)
    aistrale.configure(provider="echo")

    assert [aistrale.run("Hello").cached for _ in range(2)] == [False, False]


async def test_the_sync_and_async_facade_share_a_cache() -> None:
    """What one was answered the other need not ask."""
    aistrale.configure(provider="echo", cache=True)

    assert not aistrale.run("Hello").cached
    assert (await aistrale.run_async("Hello")).cached


# Stream


def test_stream_gives_chunks_and_then_the_completion() -> None:
    """The chunks add up to what `completion` says once the stream has ended."""
    answered = aistrale.stream("One two three", **ECHO)

    assert [chunk.text for chunk in answered if chunk.text] == ["One ", "two ", "three"]
    assert answered.completion.text == "One two three"
    assert answered.completion.usage.output_tokens == 3
    assert answered.completion.latency >= answered.completion.time_to_first_token > 0


async def test_stream_async_is_iterated_without_await() -> None:
    """`async for chunk in aistrale.stream_async(...)`: the call itself is not awaited."""
    answered = aistrale.stream_async("One two three", **ECHO)

    assert not inspect.isawaitable(answered)
    assert [chunk.text async for chunk in answered if chunk.text] == ["One ", "two ", "three"]
    assert answered.completion.text == "One two three"


def test_a_stream_has_no_completion_before_its_end() -> None:
    """Asked too early it says so, and asked after an early close, too."""
    with aistrale.stream("One two three", **ECHO) as answered:
        next(answered)
        with pytest.raises(aistrale.AistraleError, match="has not ended"):
            _ = answered.completion
    with pytest.raises(aistrale.AistraleError, match="closed or failed before its end"):
        _ = answered.completion
    assert list(answered) == []


async def test_an_async_stream_has_no_completion_before_its_end() -> None:
    """The async twin says the same."""
    async with aistrale.stream_async("One two three", **ECHO) as answered:
        await anext(answered)
        with pytest.raises(aistrale.AistraleError, match="has not ended"):
            _ = answered.completion
    with pytest.raises(aistrale.AistraleError, match="closed or failed before its end"):
        _ = answered.completion


async def test_until_done_reads_to_the_end() -> None:
    """From wherever the stream is."""
    answered = aistrale.stream("One two three", **ECHO)
    next(answered)
    assert answered.until_done().text == "One two three"
    assert (await aistrale.stream_async("One two three", **ECHO).until_done()).text == "One two three"


def test_a_stream_sends_nothing_before_its_first_iteration() -> None:
    """A stream that nobody reads costs nothing, but is checked at once."""
    provider = Provider(stream("Hello"))
    answered = provider.client().stream("Hello")
    assert provider.requests == []

    answered.until_done()

    assert len(provider.requests) == 1


def test_a_stream_is_timed_from_its_request_on() -> None:
    """How long its caller waited before reading it says nothing about the provider."""
    answered = aistrale.stream("Hello", **ECHO)
    time.sleep(0.05)  # the caller does something else first

    started = time.perf_counter()
    completion = answered.until_done()
    elapsed = time.perf_counter() - started

    assert completion.time_to_first_token < elapsed
    assert completion.latency < elapsed


def test_leaving_a_stream_early_closes_its_connection() -> None:
    """A `with` block, `close` and forgetting all let go of the answer."""
    one, two, three = (stream("One ", "two ", "three") for _ in range(3))
    client = Provider(one, two, three).client()

    with client.stream("Hello") as answered:
        next(answered)
    answered = client.stream("Hello")
    next(answered)
    answered.close()
    answered.close()
    for _ in client.stream("Hello"):
        break

    assert one.body.closed
    assert two.body.closed
    assert three.body.closed


async def test_leaving_an_async_stream_early_closes_its_connection() -> None:
    """An `async with` block and `aclose` let go of the answer."""
    one, two = stream("One ", "two"), stream("One ", "two")
    client = Provider(one, two).async_client()

    async with client.stream("Hello") as answered:
        await anext(answered)
    answered = client.stream("Hello")
    await anext(answered)
    await answered.aclose()
    await answered.aclose()

    assert one.body.closed
    assert two.body.closed


# Batches


@pytest.fixture(params=["run_batch", "run_batch_async"])
def run_batch(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Both twins, called alike."""
    if request.param == "run_batch":
        return aistrale.run_batch
    return lambda *args, **options: asyncio.run(aistrale.run_batch_async(*args, **options))


def test_a_batch_keeps_the_order(run_batch: Callable[..., Any]) -> None:
    """Results stand where their prompts stood, whichever came first; any iterable of prompts will do."""
    prompts = [f"prompt {number}" for number in range(20)]

    assert [result.text for result in run_batch(iter(prompts), **ECHO)] == prompts
    assert run_batch([], **ECHO) == []


def test_an_item_that_fails_is_its_error(run_batch: Callable[..., Any]) -> None:
    """The others are answered all the same."""
    first, second, third = run_batch(["one", "", "three"], **ECHO)

    assert (first.text, third.text) == ("one", "three")
    assert isinstance(second, aistrale.InvalidRequestError)


def test_progress_is_told_after_each_item(run_batch: Callable[..., Any]) -> None:
    """With how many are done and how many there are, failed ones included."""
    told: list[tuple[int, int]] = []

    run_batch(["a", "", "c"], progress=lambda done, total: told.append((done, total)), **ECHO)

    assert told == [(1, 3), (2, 3), (3, 3)]


def test_progress_true_draws_a_bar(run_batch: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """tqdm's, on stderr."""
    run_batch(["a", "b", "c"], progress=True, **ECHO)

    printed = capsys.readouterr()
    assert "3/3" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"temprature": 1}, TypeError),
        ({"temperature": "hot"}, aistrale.InvalidRequestError),
        ({"tools": "weather"}, aistrale.InvalidRequestError),
        ({"concurrency": 0}, aistrale.ConfigurationError),
        ({"concurrency": 2.5}, aistrale.ConfigurationError),
        ({"concurrency": True}, aistrale.ConfigurationError),
    ],
)
def test_a_wrong_option_of_a_batch_is_raised_at_once(
    run_batch: Callable[..., Any], options: dict[str, Any], error: type[Exception]
) -> None:
    """It is wrong for every item, so it is not told once for each."""
    with pytest.raises(error):
        run_batch(["a", "b"], **{**ECHO, **options})


def test_a_batch_of_a_single_text_is_refused(run_batch: Callable[..., Any]) -> None:
    """Else it would be asked letter by letter."""
    with pytest.raises(aistrale.ConfigurationError, match="there is run"):
        run_batch("Hello", **ECHO)


class Crowd(CallbackHandler):
    """Lets calls go on by threes only, and notes how many there were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()
        self._three = threading.Barrier(3)

    def on_start(self, call: aistrale.Call) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self._three.wait(10)

    def on_end(self, call: aistrale.Call, result: Any) -> None:
        with self._lock:
            self.now -= 1


class AsyncCrowd(CallbackHandler):
    """The same for async calls."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._three = asyncio.Barrier(3)

    async def on_start(self, call: aistrale.Call) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        async with asyncio.timeout(10):
            await self._three.wait()

    async def on_end(self, call: aistrale.Call, result: Any) -> None:
        self.now -= 1


def test_concurrency_is_how_many_calls_are_under_way_at_once() -> None:
    """As many as that, and never more."""
    crowd = Crowd()
    aistrale.run_batch(["Hello"] * 12, concurrency=3, callbacks=[crowd], **ECHO)

    assert crowd.most == 3


async def test_concurrency_holds_for_async_batches() -> None:
    """As many as that, and never more."""
    crowd = AsyncCrowd()
    await aistrale.run_batch_async(["Hello"] * 12, concurrency=3, callbacks=[crowd], **ECHO)

    assert crowd.most == 3


# Sessions


def test_a_session_sends_what_was_said() -> None:
    """Each call carries the turns before it, the system prompt first."""
    provider = Provider(answer("Hello, Ada."), answer("Ada."))
    with provider.client().session(system="Be brief.") as session:
        session.run("My name is Ada.")
        session.run("What is my name?")

    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello, Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    assert [asked["messages"] for asked in provider.asked] == [turns[:2], turns]
    assert [message.role for message in session.messages] == ["system", "user", "assistant", "user", "assistant"]


async def test_the_facades_session_is_sync_or_async() -> None:
    """`with aistrale.session()` and `async with aistrale.session()` both work."""
    with aistrale.session(system="Be brief.", **ECHO) as session:
        assert session.run("Hello").text == "Hello"
    async with aistrale.session(system="Be brief.", **ECHO) as session:
        assert (await session.run("Hello")).text == "Hello"
        assert [chunk.text async for chunk in session.stream("one two") if chunk.text] == ["one ", "two"]
    assert [message.text for message in session.messages] == ["Be brief.", "Hello", "Hello", "one two", "one two"]


def test_a_session_adds_up_usage_and_cost() -> None:
    """Over all its calls; an answer whose cost is not known is counted."""
    usage = {"prompt_tokens": 10, "completion_tokens": 4}
    provider = Provider(answer(usage={**usage, "cost": 0.25}), answer(usage={**usage, "cost": 0.5}), answer())
    session = provider.client(model="openrouter/auto").session()

    for _ in range(3):
        session.run("Hello")

    assert (session.usage.input_tokens, session.usage.output_tokens) == (23, 10)
    assert session.cost == Decimal("0.75")
    assert session.unpriced == 1


def test_a_sessions_stream_is_recorded_at_its_end() -> None:
    """Not before: until then the turn is not part of the conversation."""
    session = Provider(stream("One ", "two")).client().session()

    with session.stream("Count.") as answered:
        next(answered)
        assert session.messages == []
        answered.until_done()

    assert [message.text for message in session.messages] == ["Count.", "One two"]
    assert session.usage.total_tokens == 5


def test_what_came_to_nothing_adds_nothing_to_a_session() -> None:
    """A failed call and a stream left early leave the conversation as it was."""
    provider = Provider(answer("Hello."), failure(400), stream("One ", "two"), answer("Hello again."))
    session = provider.client().session()
    session.run("Hello")
    before = list(session.messages), session.usage, session.unpriced

    with pytest.raises(aistrale.InvalidRequestError):
        session.run("wrong")
    with session.stream("left early") as answered:
        next(answered)

    assert (session.messages, session.usage, session.unpriced) == before
    session.run("again")
    assert [turn["content"] for turn in provider.asked[-1]["messages"]] == ["Hello", "Hello.", "again"]


@pytest.mark.parametrize("result", ["Rain.", ""])
def test_tool_results_go_back_as_messages(result: str) -> None:
    """The call they answer stands before them in the history; a tool may well have nothing to say."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    provider = Provider(answer(None, finish_reason="tool_calls", tool_calls=[call]), answer("Take an umbrella."))
    session = provider.client().session()

    asked_for = session.run("Umbrella?").tool_calls[0]
    assert (asked_for.name, asked_for.args) == ("weather", {"city": "Oslo"})
    session.run([{"role": "tool", "tool_call_id": asked_for.id, "content": result}])

    assert provider.asked[1]["messages"][1:] == [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def test_a_session_has_an_id_of_its_own_or_the_one_it_was_given() -> None:
    """Only a given one is told to handlers as the conversation's."""

    class Ids(CallbackHandler):
        def on_start(self, call: aistrale.Call) -> None:
            self.session, self.conversation = call.request.options.session_id, call.request.options.conversation_id

    ids = Ids()
    client = Client(**ECHO, callbacks=[ids])
    named, nameless, another = client.session("thread-7"), client.session(), client.session()

    named.run("Hello")
    assert (named.id, ids.session, ids.conversation) == ("thread-7", "thread-7", "thread-7")
    nameless.run("Hello")
    assert (ids.session, ids.conversation) == (nameless.id, None)
    assert nameless.id != another.id


def test_a_sessions_options_are_its_calls_defaults() -> None:
    """A call may say otherwise."""
    provider = Provider(answer())
    session = provider.client(temperature=0.1, seed=7).session(temperature=0.5)

    session.run("Hello")
    session.run("Hello", temperature=0.9)

    assert [(asked["temperature"], asked["seed"]) for asked in provider.asked] == [(0.5, 7), (0.9, 7)]


def test_an_empty_turn_is_refused_although_there_is_a_history() -> None:
    """As it is without one."""
    session = aistrale.session(**ECHO)
    session.run("Hello")
    with pytest.raises(aistrale.InvalidRequestError, match="empty"):
        session.run("")


# Embeddings


async def test_embed_gives_a_vector_for_each_text() -> None:
    """One text or several, in order; the async twin gives the same."""
    one, several = aistrale.embed("a", provider="echo"), aistrale.embed(iter(["a", "b"]), provider="echo")

    assert one.vector == several[0]
    assert list(several) == several.vectors
    assert len(several) == 2
    assert several.vectors[0] != several.vectors[1]
    assert several.usage.input_tokens == 2
    assert (await aistrale.embed_async("a", provider="echo", dimensions=3)).vector == pytest.approx(
        aistrale.embed("a", provider="echo", dimensions=3).vector
    )
    assert len(aistrale.embed("a", provider="echo", dimensions=3).vector) == 3


def test_a_clients_options_for_chat_do_not_get_in_the_way_of_embedding() -> None:
    """What has no meaning there is left out."""
    provider = Provider(json_answer({"data": [{"index": 0, "embedding": [1.0]}], "model": "m"}))
    client = provider.client(temperature=0.5, user="ada")

    client.embed("Hello", model="openai/text-embedding-3-large")

    assert provider.asked == [{"model": "text-embedding-3-large", "input": "Hello", "user": "ada"}]


# Structured answers and tools


class Person(BaseModel):
    name: str
    age: int


def test_a_pydantic_class_gives_its_instance() -> None:
    """`parsed` is what `response_format` asked for, streamed or not."""
    text = '{"name": "Ada", "age": 36}'
    provider = Provider(answer(text), stream(text))
    client = provider.client(response_format=Person)

    assert client.run("Who?").parsed == client.stream("Who?").until_done().parsed == Person(name="Ada", age=36)
    sent = provider.asked[0]["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"], sent["schema"]["required"]) == ("Person", True, ["name", "age"])


def test_a_json_schema_gives_a_dict() -> None:
    """The schema is sent as it stands, in OpenAI's wrapping."""
    schema = {"title": "person", "type": "object", "properties": {"name": {"type": "string"}}}
    provider = Provider(answer('{"name": "Ada"}'))

    assert provider.client().run("Who?", response_format=schema).parsed == {"name": "Ada"}
    assert provider.asked[0]["response_format"]["json_schema"] == {"name": "person", "schema": schema}


@pytest.mark.parametrize("kind", [Person, {"type": "object", "properties": {}}])
def test_an_answer_that_does_not_fit_keeps_its_text(kind: Any) -> None:
    """OutputError holds what the model said, and so does the completion."""
    completion = aistrale.run("I would rather not.", provider="echo", response_format=kind)

    with pytest.raises(aistrale.OutputError) as caught:
        _ = completion.parsed
    assert caught.value.text == completion.text == "I would rather not."


def test_tools_are_made_from_functions_classes_and_schemas() -> None:
    """Parameters come from annotations, the description from the docstring."""

    def weather(city: Annotated[str, Field(description="Where")], days: int = 1) -> str:
        """The weather in a city."""
        return city * days

    schema = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    provider = Provider(answer())

    provider.client().run("Hello", tools=[weather, Person, schema], tool_choice="weather")

    made, person, given = provider.asked[0]["tools"]
    assert made["function"]["name"] == "weather"
    assert made["function"]["description"] == "The weather in a city."
    assert made["function"]["parameters"]["properties"]["city"]["description"] == "Where"
    assert made["function"]["parameters"]["required"] == ["city"]
    assert person["function"]["name"] == "Person"
    assert given == schema
    assert provider.asked[0]["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


# A user's own http client


def test_a_users_http_client_is_used_as_it_is() -> None:
    """Its headers and hooks take part in each request, and it is left open."""
    provider, seen = Provider(answer()), []
    http_client = provider.http_client(
        headers={"x-team": "a"},
        event_hooks={"request": [lambda r: seen.append(r.method)], "response": [lambda r: seen.append(r.status_code)]},
    )

    with Client(model="openai/gpt-4o", api_key="k", http_client=http_client) as client:
        assert client.run("Hello").text == "Hello"

    assert provider.requests[0].headers["x-team"] == "a"
    assert seen == ["POST", 200]
    assert not http_client.is_closed


async def test_a_users_async_http_client_is_used_as_it_is() -> None:
    """Its headers and hooks take part in each request, and it is left open."""
    provider, seen = Provider(answer()), []

    async def note(message: httpx.Request | httpx.Response) -> None:
        seen.append(type(message).__name__)

    http_client = provider.async_http_client(
        headers={"x-team": "a"}, event_hooks={"request": [note], "response": [note]}
    )

    async with AsyncClient(model="openai/gpt-4o", api_key="k", http_client=http_client) as client:
        assert (await client.run("Hello")).text == "Hello"

    assert provider.requests[0].headers["x-team"] == "a"
    assert seen == ["Request", "Response"]
    assert not http_client.is_closed


async def test_a_users_http_clients_timeout_holds_unless_a_call_names_one() -> None:
    """What it was made with is its own choice; `timeout=` is the call's."""
    provider, own = Provider(answer()), httpx.Timeout(1, read=2, write=3, pool=4)
    options = {"model": "openai/gpt-4o", "api_key": "k"}
    client = Client(**options, http_client=provider.http_client(timeout=own))
    async_client = AsyncClient(**options, http_client=provider.async_http_client(timeout=own))

    client.run("Hello")
    await async_client.run("Hello")
    client.run("Hello", timeout=9)
    await async_client.run("Hello", timeout=9)

    timeouts = [request.extensions["timeout"] for request in provider.requests]
    assert timeouts[:2] == [own.as_dict()] * 2
    assert [limits["read"] for limits in timeouts[2:]] == [9, 9]


async def test_a_users_http_client_may_have_read_the_answer_already() -> None:
    """As a hook that logs bodies does, and as httpx's own MockTransport gives answers that are made whole."""

    async def read(response: httpx.Response) -> None:
        await response.aread()

    options = {"model": "openai/gpt-4o", "api_key": "k"}
    provider = Provider(answer())
    http_client = provider.async_http_client(event_hooks={"response": [read]})
    assert (await AsyncClient(**options, http_client=http_client).run("Hello")).text == "Hello"
    http_client = provider.http_client(event_hooks={"response": [httpx.Response.read]})
    assert Client(**options, http_client=http_client).run("Hello").text == "Hello"


def test_configure_takes_an_http_client_for_the_calls_it_is_for() -> None:
    """A sync one serves sync calls, an async one async calls."""
    provider = Provider(answer())
    aistrale.configure(model="openai/gpt-4o", api_key="k", http_client=provider.async_http_client())

    assert asyncio.run(aistrale.run_async("Hello")).text == "Hello"
    assert len(provider.requests) == 1


class Counting(aistrale.CallbackHandler):
    def __init__(self) -> None:
        self.starts = 0

    def on_start(self, call: aistrale.Call) -> None:
        self.starts += 1


def test_a_sessions_callbacks_are_called_once() -> None:
    """And a call's own beside them."""
    of_session, of_call = Counting(), Counting()
    with aistrale.session(provider="echo", callbacks=[of_session]) as session:
        session.run("Hello", callbacks=[of_call])
    assert (of_session.starts, of_call.starts) == (1, 1)


def test_a_progress_callback_that_raises_loses_no_result() -> None:
    """The answers are paid for, whoever watches."""

    def progress(done: int, total: int) -> None:
        raise RuntimeError("not my day")

    assert [str(result) for result in aistrale.run_batch(["a", "b"], provider="echo", progress=progress)] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"extra_body": "x"}, aistrale.InvalidRequestError),
        ({"extra_headers": "a"}, aistrale.InvalidRequestError),
        ({"fallbacks": 3}, aistrale.InvalidRequestError),
        ({"callbacks": Counting()}, aistrale.ConfigurationError),
        ({"cache": "yes"}, aistrale.ConfigurationError),
        ({"provider": ["echo"]}, aistrale.ConfigurationError),
        ({"extra_body": {"stream": True}}, aistrale.InvalidRequestError),
    ],
    ids=str,
)
def test_an_option_of_the_wrong_kind_is_an_error_of_ours(options: Any, error: type[Exception]) -> None:
    """At once, by its name."""
    with pytest.raises(error):
        aistrale.run("Hello", **{"provider": "echo", **options})


@pytest.mark.parametrize(("name", "hint"), [("messages", "first argument"), ("stream", "call stream")])
def test_what_other_packages_call_it_is_hinted_at(name: str, hint: str) -> None:
    """People come from somewhere."""
    with pytest.raises(TypeError, match=hint):
        aistrale.run("Hello", **{name: True})  # type: ignore[call-arg]
