"""What the books hold for calls: prompts by their name, and providers' keys."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from callers import KEY, SYNC, Calling, Way, our_ways
from keeping import ON, away, on_sqlite
from programs import run_program
from tenacity import wait_none
from upstream import Gate, Upstream, completion, failure, plain

import aistrale
from aistrale import (
    CallbackHandler,
    Client,
    InvalidRequestError,
    RetryPolicy,
    StoreError,
    budgets,
    prompts,
    telemetry,
    tokens,
)
from aistrale.gateway.keys import SECONDS
from aistrale.store.store import Store

STORED, OTHER, GIVEN, IN_ENVIRONMENT = "sk-stored-aaaaaaaa", "sk-stored-bbbbbbbb", "sk-given-cccccccc", "sk-env-dddd"
ADA = {"name": "Ada"}


@pytest.fixture(autouse=True)
def _master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's, so that no keyring is asked."""
    monkeypatch.setenv("AISTRALE_SECRET_KEY", "correct horse battery staple")


def asked(upstream: Upstream) -> Any:
    """The body of the last request."""
    return upstream.requests[-1].body


def keys(upstream: Upstream) -> list[str]:
    """The keys that requests came with."""
    return [request.headers["authorization"].removeprefix("Bearer ") for request in upstream.requests]


# Prompts


@our_ways
@pytest.mark.usefixtures("keeping")
def test_a_prompt_is_asked_by_its_name(upstream: Upstream, calling: Calling, way: Way) -> None:
    """With its variables; the span says which version it was."""
    prompts.create("greeting", "Hello {{name}}")
    prompts.update("greeting", "Good day, {{name}}")

    answer = calling(way).ask(prompt="greeting", variables=ADA)

    assert answer.text == "Good day, Ada"
    (span,) = telemetry.query()
    assert (span.attributes["gen_ai.prompt.name"], span.attributes["gen_ai.prompt.version"]) == ("greeting", "2")


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("greeting", "2"),
        ("greeting@1", "1"),
        ("greeting@production", "2"),
        ("greeting@first", "1"),
        ("greeting@latest", "3"),
    ],
)
@pytest.mark.usefixtures("keeping")
def test_the_name_may_say_which_version(calling: Calling, reference: str, version: str) -> None:
    """By its number or by a label; else it is the one in production."""
    prompts.create("greeting", "1 {{name}}", labels=["first"])
    prompts.update("greeting", "2 {{name}}", labels=["production"])
    prompts.update("greeting", "3 {{name}}")

    assert calling(SYNC).ask(reference, variables=ADA).text == f"{version} Ada"
    (span,) = telemetry.query()
    assert (span.attributes["gen_ai.prompt.name"], span.attributes["gen_ai.prompt.version"]) == ("greeting", version)


@on_sqlite
@our_ways
@pytest.mark.usefixtures("keeping")
def test_a_prompt_that_was_looked_up_is_asked_as_it_is(upstream: Upstream, calling: Calling, way: Way) -> None:
    """Its messages, its options, and no second look into the books."""
    messages = [{"role": "system", "content": "Be {{how}}."}, {"role": "user", "content": "Hi {{name}}"}]
    prompt = prompts.create("chat", messages, options={"temperature": 0.25})
    prompts.delete("chat")

    calling(way).ask(prompt, variables={**ADA, "how": "brief"})

    assert asked(upstream)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi Ada"},
    ]
    assert asked(upstream)["temperature"] == 0.25
    (span,) = telemetry.query()
    assert (span.attributes["gen_ai.prompt.name"], span.attributes["gen_ai.prompt.version"]) == ("chat", "1")


@pytest.mark.usefixtures("store")
def test_a_name_without_variables_is_a_text() -> None:
    """Whether there is a prompt of this name or not; an empty dict of variables makes it a name."""
    prompts.create("greeting", "Hello")
    client = Client(provider="echo")
    assert client.run("greeting").text == "greeting"
    assert client.run("greeting", variables={}).text == "Hello"


@pytest.mark.parametrize("how", ["by name", "looked up"])
@pytest.mark.usefixtures("keeping")
def test_a_session_goes_on_from_a_prompt(upstream: Upstream, calling: Calling, how: str) -> None:
    """Its messages are a turn like any other; the span says whose they are."""
    prompts.create("greeting", "Hello {{name}}")
    prompt = "greeting" if how == "by name" else prompts.get("greeting")
    session = calling(SYNC).client.session(system="Be kind.")

    session.run(prompt, variables=ADA)
    session.stream("And you?").until_done()

    assert [message["content"] for message in asked(upstream)["messages"]] == [
        *("Be kind.", "Hello Ada", "Hello Ada", "And you?")
    ]
    second, first = telemetry.query()
    assert first.attributes["gen_ai.prompt.name"] == "greeting"
    assert "gen_ai.prompt.name" not in second.attributes


@pytest.mark.usefixtures("keeping")
async def test_an_async_session_goes_on_from_a_prompt(upstream: Upstream) -> None:
    """As a sync one does."""
    await prompts.create_async("greeting", "Hello {{name}}")
    async with (
        aistrale.AsyncClient(provider="openai", model="gpt-test", api_key="k", base_url=upstream.url) as client,
        client.session() as session,
    ):
        await session.run("greeting", variables=ADA)
    assert asked(upstream)["messages"] == [{"role": "user", "content": "Hello Ada"}]


@pytest.mark.usefixtures("store")
def test_a_batch_asks_many_prompts() -> None:
    """The same variables for each of the names."""
    prompts.create("hello", "Hello {{name}}")
    prompts.create("bye", "Bye {{name}}")
    client = Client(provider="echo")
    assert [str(answer) for answer in client.run_batch(["hello", "bye"], variables=ADA)] == ["Hello Ada", "Bye Ada"]
    again = asyncio.run(aistrale.AsyncClient.sharing(client).run_batch(["hello", "bye"], variables=ADA))
    assert [str(answer) for answer in again] == ["Hello Ada", "Bye Ada"]


@on_sqlite
@our_ways
@pytest.mark.usefixtures("store")
def test_a_prompt_there_is_not_is_an_error(upstream: Upstream, calling: Calling, way: Way) -> None:
    """Before anything is sent; so are variables that do not fit."""
    prompts.create("greeting", "Hello {{name}}")
    caller = calling(way)
    with pytest.raises(StoreError, match="no prompt 'farewell'"):
        caller.ask("farewell", variables=ADA)
    with pytest.raises(InvalidRequestError, match="missing: name"):
        caller.ask("greeting", variables={})
    with pytest.raises(InvalidRequestError, match="variables go with a stored prompt"):
        caller.ask([{"role": "user", "content": "Hello"}], variables=ADA)
    assert upstream.requests == []


# The options of prompts


OPTIONS = {"temperature": 0.1, "max_tokens": 10, "seed": 1, "stop": ["END"]}


@pytest.mark.usefixtures("store")
def test_a_prompts_options_are_below_those_of_the_client_and_of_the_call(upstream: Upstream, calling: Calling) -> None:
    """Each where the one before says nothing."""
    prompts.create("p", "Hello", options=OPTIONS)
    calling(SYNC, temperature=0.2, seed=2).ask("p", variables={}, seed=3)
    sent = {name: asked(upstream)[name] for name in OPTIONS}
    assert sent == {"temperature": 0.2, "max_tokens": 10, "seed": 3, "stop": ["END"]}


@pytest.mark.usefixtures("store")
def test_a_limit_of_the_call_goes_before_the_prompts_by_either_name(upstream: Upstream, calling: Calling) -> None:
    """`max_tokens` and `max_completion_tokens` are one thing."""
    prompts.create("old", "Hello", options={"max_tokens": 100})
    prompts.create("new", "Hello", options={"max_completion_tokens": 100})
    limits: list[int | None] = []

    class Watching(CallbackHandler):
        def on_start(self, call: aistrale.Call) -> None:
            limits.append(call.request.output_limit)  # type: ignore[union-attr]

    caller = calling(SYNC, callbacks=[Watching()])
    for prompt in ("old", "new"):
        caller.ask(prompt, variables={}, max_tokens=5)
        caller.ask(prompt, variables={}, max_completion_tokens=5)
    assert limits == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("client", "expected"),
    [({}, "from-prompt"), ({"model": "echo/from-client"}, "from-client"), ({"provider": "echo"}, "from-prompt")],
)
@pytest.mark.usefixtures("store")
def test_a_prompts_model_is_below_the_clients(client: dict[str, str], expected: str) -> None:
    """It goes where nobody said which."""
    prompts.create("p", "Hello", options={"model": "echo/from-prompt"})
    assert Client(**client).run("p", variables={}).model == expected  # type: ignore[arg-type]
    assert Client(**client).run("p", variables={}, model="echo/from-call").model == "from-call"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "client", "attempts"),
    [(2, {}, 3), (2, {"max_retries": 0}, 1), (0, {"max_retries": 1}, 2)],
)
@pytest.mark.usefixtures("store")
def test_a_prompts_retries_are_below_the_clients(
    upstream: Upstream, calling: Calling, option: int, client: dict[str, Any], attempts: int
) -> None:
    """How it is called is an option like any other."""
    prompts.create("p", "Hello", options={"max_retries": option})
    upstream.default = failure(429)
    with pytest.raises(aistrale.RateLimitError):
        calling(SYNC, retry=RetryPolicy(wait=wait_none()), **client).ask("p", variables={})
    assert len(upstream.requests) == attempts


@pytest.mark.usefixtures("store")
def test_a_prompts_fallbacks_and_tools_are_used(
    upstream: Upstream, calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the call had named them."""
    tool = {"type": "function", "function": {"name": "weather"}}
    prompts.create("p", "Hello", options={"fallbacks": ["openai/gpt-other"], "tools": [tool]})
    upstream.will(failure(404))
    assert calling(SYNC).ask("p", variables={}).text == "Hello"
    assert [request.body["model"] for request in upstream.requests] == ["gpt-test", "gpt-other"]
    assert asked(upstream)["tools"] == [tool]


@pytest.mark.usefixtures("store")
def test_a_prompts_response_format_is_parsed(upstream: Upstream, calling: Calling) -> None:
    """As that of a call is."""
    prompts.create("p", "Hello", options={"response_format": {"type": "json_object"}})
    upstream.will(plain(completion('{"a": 1}')))
    assert calling(SYNC).ask("p", variables={}).parsed == {"a": 1}


@on_sqlite
@pytest.mark.parametrize("option", ["base_url", "api_url", "extra_headers", "callbacks"])
@pytest.mark.usefixtures("store")
def test_a_prompt_does_not_say_where_keys_go(
    upstream: Upstream, other_upstream: Upstream, calling: Calling, option: str
) -> None:
    """Whoever may write prompts may not read keys."""
    prompts.create("p", "Hello", options={option: other_upstream.url})
    with pytest.raises(InvalidRequestError, match=option):
        calling(SYNC).ask("p", variables={})
    assert upstream.requests == other_upstream.requests == []


# Keys


@our_ways
@pytest.mark.usefixtures("store")
def test_a_stored_key_goes_before_the_environments(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, calling: Calling, way: Way
) -> None:
    """And a call's or a client's own before that."""
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRONMENT)
    calling(way, api_key=None).ask()
    tokens.add("openai", STORED)
    caller = calling(way, api_key=None)
    caller.ask()
    caller.ask(api_key=GIVEN)
    calling(way, api_key=GIVEN).ask()
    assert keys(upstream) == [IN_ENVIRONMENT, STORED, GIVEN, GIVEN]


@pytest.mark.usefixtures("store")
def test_a_stored_key_is_its_own_providers(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, calling: Calling
) -> None:
    """Another provider's calls go without it, and so do addresses of nobody's."""
    monkeypatch.setenv("GROQ_API_KEY", IN_ENVIRONMENT)
    tokens.add("openai", STORED)
    calling(SYNC, api_key=None, provider="groq").ask()
    client = Client(base_url=upstream.url, model="m")
    client.run("Hello")
    assert [request.headers.get("authorization") for request in upstream.requests] == [f"Bearer {IN_ENVIRONMENT}", None]


@pytest.mark.usefixtures("store")
def test_the_default_of_several_keys_is_used(upstream: Upstream, calling: Calling) -> None:
    """Another one once that is made it, in a new client."""
    tokens.add("openai", STORED, "first")
    tokens.add("openai", OTHER, "second")
    calling(SYNC, api_key=None).ask()
    tokens.set_default("openai", "second")
    calling(SYNC, api_key=None).ask()
    assert keys(upstream) == [STORED, OTHER]


@pytest.mark.usefixtures("store")
def test_a_key_in_the_books_makes_its_provider_the_default(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a call names neither model nor provider."""
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
    tokens.add("openai", STORED)
    assert Client().run("Hello").text == "Hello"
    assert keys(upstream) == [STORED]


@our_ways
@pytest.mark.usefixtures("store")
def test_a_wrong_master_key_is_told(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, calling: Calling, way: Way
) -> None:
    """Rather than going on with another account's key; a call that brings its own is not concerned. With the right
    one, the stored key is used again.
    """
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRONMENT)
    tokens.add("openai", STORED)
    with monkeypatch.context() as wrong:
        wrong.setenv("AISTRALE_SECRET_KEY", "another")
        with pytest.raises(StoreError, match="Set AISTRALE_SECRET_KEY to the master key they were added with"):
            calling(way, api_key=None).ask()
        assert upstream.requests == []
        assert calling(way).ask("Hello").text == "Hello"
    assert calling(way, api_key=None).ask("Hello").text == "Hello"
    assert keys(upstream) == [KEY, STORED]


@pytest.mark.usefixtures("keeping")
def test_the_use_of_a_key_is_noted(upstream: Upstream, calling: Calling) -> None:
    """When the call that used it was over; no other key's, and not where a call brought its own."""
    tokens.add("openai", STORED)
    tokens.add("openai", OTHER, "second")
    tokens.add("groq", OTHER)
    calling(SYNC).ask()
    telemetry.query()
    assert [token.last_used for token in tokens.list()] == [None] * 3

    calling(SYNC, api_key=None).ask()
    newest = telemetry.query()[0]
    used = {(token.provider, token.label): token.last_used for token in tokens.list()}
    assert used.pop(("openai", "default")) is not None
    assert set(used.values()) == {None}
    assert abs((tokens.list("openai")[0].last_used - newest.started).total_seconds()) < newest.latency + 0.001


@pytest.mark.usefixtures("keeping")
def test_the_use_is_of_the_key_that_was_sent(upstream: Upstream, calling: Calling) -> None:
    """Even if another became the default before the call was over."""
    tokens.add("openai", STORED, "first")
    tokens.add("openai", OTHER, "second")
    gate = Gate()
    upstream.will([gate, *plain(completion())])
    caller = calling(SYNC, api_key=None)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(caller.ask)
        gate.wait_until_reached()
        tokens.set_default("openai", "second")
        gate.open()
        answer.result()

    assert keys(upstream) == [STORED]
    telemetry.query()
    assert {token.label: token.last_used is not None for token in tokens.list()} == {"first": True, "second": False}


@pytest.mark.usefixtures("keeping")
def test_the_use_of_a_fallbacks_key_is_noted(
    upstream: Upstream, other_upstream: Upstream, calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was used as much as the first one's."""
    monkeypatch.setenv("GROQ_BASE_URL", other_upstream.url)
    tokens.add("openai", STORED)
    tokens.add("groq", OTHER)
    upstream.will(failure(404))
    calling(SYNC, api_key=None, fallbacks=["groq/llama"]).ask()
    assert (keys(upstream), keys(other_upstream)) == ([STORED], [OTHER])
    telemetry.query()
    assert all(token.last_used is not None for token in tokens.list())


@pytest.mark.usefixtures("keeping", "upstream")
def test_an_answer_from_the_cache_uses_no_key(calling: Calling) -> None:
    """Nothing was sent with it."""
    tokens.add("openai", STORED)
    caller = calling(SYNC, api_key=None, cache=True)
    caller.ask()
    telemetry.query()
    used = tokens.list()[0].last_used
    assert caller.ask().cached
    telemetry.query()
    assert tokens.list()[0].last_used == used


def removed() -> None:
    tokens.remove("openai")


def rotated() -> None:
    tokens.rotate("openai", OTHER)


@pytest.mark.parametrize(("change", "then"), [(removed, IN_ENVIRONMENT), (rotated, OTHER)])
@pytest.mark.usefixtures("store")
def test_a_key_that_was_changed_is_not_used_by_a_new_client(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, calling: Calling, change: Callable[[], None], then: str
) -> None:
    """Nor, after some seconds, by one that is there already."""
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRONMENT)
    tokens.add("openai", STORED)
    caller = calling(SYNC, api_key=None)
    caller.ask()
    change()
    calling(SYNC, api_key=None).ask()
    assert keys(upstream) == [STORED, then]


@on_sqlite
@pytest.mark.usefixtures("store")
def test_a_client_sees_a_change_within_seconds(
    upstream: Upstream, other_upstream: Upstream, monkeypatch: pytest.MonkeyPatch, calling: Calling
) -> None:
    """Without being made anew."""
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRONMENT)
    for provider in ("openai", "groq"):
        tokens.add(provider, STORED)
    callers = (
        calling(SYNC, api_key=None),
        calling(SYNC, api_key=None, provider="groq", base_url=other_upstream.url),
    )
    for caller in callers:
        caller.ask()
    tokens.remove("openai")
    tokens.rotate("groq", OTHER)

    deadline = monotonic() + SECONDS + 2
    while STORED in (keys(upstream)[-1], keys(other_upstream)[-1]):
        assert monotonic() < deadline, "the old key is still used"
        sleep(0.05)
        for caller in callers:
            caller.ask()
    assert (keys(upstream)[-1], keys(other_upstream)[-1]) == (IN_ENVIRONMENT, OTHER)


def test_a_key_stays_known_while_the_books_are_away(
    keeping: Store, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, calling: Calling
) -> None:
    """A call does not change its account because a database has a bad moment."""
    monkeypatch.setenv("OPENAI_API_KEY", IN_ENVIRONMENT)
    tokens.add("openai", STORED)
    budgets.set("b", 100, hard=True)  # so that each call looks
    caller = calling(SYNC, api_key=None)
    caller.ask()
    with away("budgets", keeping):
        end = monotonic() + (1.2 if keeping.database.is_sqlite else 0.3)  # a file is looked into once a second
        while monotonic() < end:
            caller.ask()
            sleep(0.05)
    assert set(keys(upstream)) == {STORED}


def test_calls_show_no_stored_key(store: Store, upstream: Upstream, tmp_path: Path) -> None:
    """Not where they fail and show all they have."""
    tokens.add("openai", STORED)
    upstream.default = failure(401, f"Incorrect API key provided: {STORED}")
    program = f"""
        import logging
        logging.basicConfig(level=logging.DEBUG)
        import aistrale
        aistrale.run("Hello", provider="openai", model="m", base_url={upstream.url!r})
    """
    done = run_program(program, cwd=tmp_path, env=ON)
    assert keys(upstream) == [STORED]
    assert "AuthenticationError" in done.stderr
    assert STORED not in done.stderr
    assert STORED not in str(telemetry.query())


def test_a_token_that_cannot_be_opened_concerns_its_provider_alone(
    store: Store, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are called with the environment's key, or none."""
    tokens.add("openai", STORED)
    monkeypatch.setenv("AISTRALE_SECRET_KEY", "another")
    monkeypatch.setenv("MISTRAL_API_KEY", IN_ENVIRONMENT)

    assert Client(provider="echo").run("Hello").text == "Hello"
    Client(model="mistral/m", base_url=upstream.url).run("Hello")
    with pytest.raises(StoreError, match="AISTRALE_SECRET_KEY"):
        Client(model="openai/m", base_url=upstream.url).run("Hello")
    assert keys(upstream) == [IN_ENVIRONMENT]
