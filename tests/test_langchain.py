"""ChatAistrale and AistraleLLM in LangChain's hands, beyond its own suites."""

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pytest
from langchain_core import exceptions as langchain
from langchain_core._api import suppress_langchain_deprecation_warning
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField
from model_behaviour import behave
from opentelemetry.sdk.trace import TracerProvider
from programs import printed, run_program
from upstream import Gate, Upstream, completion, failure, plain

import aistrale
from aistrale_langchain import AistraleCallbackHandler, AistraleEmbeddings, AistraleLLM, ChatAistrale
from aistrale_langchain.model import MOST_CLIENTS
from aistrale_langchain.runs import runs

both_kinds = pytest.mark.parametrize("kind", [ChatAistrale, AistraleLLM])


def options(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "model": "gpt-test",
        "provider": "openai",
        "api_key": "sk-test",
        "base_url": upstream.url,
        "max_retries": 0,
        **more,
    }


@pytest.fixture
def behaving(upstream: Upstream) -> Upstream:
    upstream.default = behave
    return upstream


def test_importing_it_loads_no_framework_and_reads_nothing(tmp_path: Any) -> None:
    """Not before a name is used."""
    program = """
        import os, sys
        before = dict(os.environ)
        import aistrale_langchain
        print("langchain_core" in sys.modules, dict(os.environ) == before, sorted(dir(aistrale_langchain))[:2])
    """
    assert printed(program, cwd=tmp_path) == "False True ['AistraleCallbackHandler', 'AistraleEmbeddings']\n"


# Chat


def everything(model: ChatAistrale, prompt: str) -> list[AIMessage]:
    """An answer by each way to one."""

    def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        return whole

    async def awaited() -> list[AIMessage]:
        return [await model.ainvoke(prompt), added([chunk async for chunk in model.astream(prompt)])]

    return [model.invoke(prompt), added(list(model.stream(prompt))), *asyncio.run(awaited())]


def test_every_way_to_an_answer_says_the_same_of_it(behaving: Upstream) -> None:
    """Text, usage once, model, provider and how it ended."""
    answers = everything(ChatAistrale(**options(behaving)), "Hello")
    assert {answer.text for answer in answers} == {"Hello there, how can I help you today?"}
    assert all(answer.usage_metadata == answers[0].usage_metadata for answer in answers)
    for answer in answers:
        told = {name: answer.response_metadata[name] for name in ("model_name", "model_provider", "finish_reason")}
        assert told == {"model_name": "gpt-test", "model_provider": "aistrale", "finish_reason": "stop"}


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_reasoning_goes_through_a_tool_loop(upstream: Upstream, version: Any) -> None:
    """In both versions of content, it is a block, and goes back to the provider with its signature."""
    detail = {"type": "reasoning.text", "text": "Six times seven.", "signature": "sig", "index": 0}
    call = {"id": "call_1", "type": "function", "function": {"name": "multiply", "arguments": '{"a": 6, "b": 7}'}}
    answer = {**completion(), "model": "gpt-test"}
    message = {"role": "assistant", "content": None, "reasoning": "Six times seven.", "reasoning_details": [detail]}
    answer["choices"] = [{"index": 0, "message": {**message, "tool_calls": [call]}, "finish_reason": "tool_calls"}]
    upstream.will(plain(answer))
    model = ChatAistrale(**options(upstream, provider="openrouter"), output_version=version)

    said = model.invoke("What is 6 * 7?")
    assert [block["reasoning"] for block in said.content_blocks if block["type"] == "reasoning"] == ["Six times seven."]
    model.invoke([HumanMessage("What is 6 * 7?"), said, ToolMessage("42", tool_call_id="call_1")])

    sent = upstream.requests[-1].body["messages"]
    assert sent[1]["tool_calls"][0]["function"]["name"] == "multiply"
    assert sent[1]["reasoning_details"] == [detail]
    assert sent[2]["content"] == "42"


ERRORS = [
    (400, langchain.ModelInvalidRequestError),
    (401, langchain.ModelAuthenticationError),
    (403, langchain.ModelPermissionDeniedError),
    (404, langchain.ModelNotFoundError),
    (429, langchain.ModelRateLimitError),
    (500, langchain.ModelAPIError),
    (503, langchain.ModelAPIError),
]


@pytest.mark.parametrize(("status", "kind"), ERRORS)
@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_errors_are_langchains_and_ours(upstream: Upstream, status: int, kind: type[Exception], way: str) -> None:
    """Caught as either; they hold the answer and can be pickled."""
    model = ChatAistrale(**options(upstream))
    upstream.will(failure(status, "It went wrong"))

    async def streamed() -> None:
        _ = [chunk async for chunk in model.astream("Hello")]

    ask: Any = {
        "invoke": lambda: model.invoke("Hello"),
        "stream": lambda: list(model.stream("Hello")),
        "ainvoke": lambda: asyncio.run(model.ainvoke("Hello")),
        "astream": lambda: asyncio.run(streamed()),
    }[way]
    with pytest.raises(kind) as caught:
        ask()
    error: Any = caught.value
    assert isinstance(error, aistrale.APIError)
    assert error.response.status_code == status
    assert error.response.json()["error"]["message"] == "It went wrong"
    assert type(pickle.loads(pickle.dumps(error))) is type(error)
    assert error.is_retryable == (status in (429, 500, 503))


def test_a_prompt_that_is_too_long_is_an_overflow(upstream: Upstream) -> None:
    """Which summarization catches."""
    upstream.will(failure(400, "too long", "context_length_exceeded"))
    with pytest.raises(langchain.ContextOverflowError):
        ChatAistrale(**options(upstream)).invoke("Hello")


def test_a_model_can_be_pickled_and_shows_no_key(behaving: Upstream) -> None:
    """Used before or not."""
    model = ChatAistrale(**options(behaving, api_key="sk-very-secret"))
    model.invoke("Hello")
    again = pickle.loads(pickle.dumps(model))
    assert again.invoke("Hello").text == model.invoke("Hello").text
    assert "very-secret" not in f"{model!r} {model} {again!r}"


@both_kinds
def test_a_password_in_an_address_is_shown_to_nobody(behaving: Upstream, kind: Any) -> None:
    """Nor sent where a key goes in its place."""
    told, cache = Told(), Seen()
    model = kind(**options(behaving, base_url=behaving.url.replace("://", "://user:hush@"), cache=cache))
    in_every_way(model, {"callbacks": [told]})
    assert {request.headers["authorization"] for request in behaving.requests} == {"Bearer sk-test"}
    assert told.starts
    assert "hush" not in str([repr(model), str(model), dumps(model), told.starts, cache.keys])


def test_one_model_serves_many_event_loops(behaving: Upstream) -> None:
    """A script that calls asyncio.run again and again."""
    model = ChatAistrale(**options(behaving))
    assert len({asyncio.run(model.ainvoke("Hello")).text for _ in range(3)}) == 1


# Text


def test_a_chain_of_prompt_model_and_parser(upstream: Upstream) -> None:
    """The first thing people write."""
    chain = PromptTemplate.from_template("Say {word}") | AistraleLLM(**options(upstream)) | StrOutputParser()
    assert chain.invoke({"word": "cheese"}) == "Say cheese"
    assert asyncio.run(chain.ainvoke({"word": "cheese"})) == "Say cheese"
    assert "".join(chain.stream({"word": "cheese"})) == "Say cheese"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_batch_is_asked_at_once_and_each_has_its_usage(upstream: Upstream, way: str) -> None:
    """All of it has been sent before anything is answered; the answers come in order."""
    llm, gate = AistraleLLM(**options(upstream)), Gate()
    upstream.will(*[lambda request: [gate, *plain(completion(request.body["messages"][0]["content"]))]] * 3)

    def ask() -> LLMResult:
        prompts = ["a", "b", "c"]
        return llm.generate(prompts) if way == "sync" else asyncio.run(llm.agenerate(prompts))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        upstream.wait_for_requests(3)
        gate.open()
        result = answer.result()

    assert [each[0].text for each in result.generations] == ["a", "b", "c"]
    infos = [each[0].generation_info or {} for each in result.generations]
    assert [info["usage_metadata"]["total_tokens"] for info in infos] == [5, 5, 5]
    assert (result.llm_output or {})["token_usage"]["total_tokens"] == 15


def test_no_callbacks_are_no_callbacks(upstream: Upstream) -> None:
    """An empty list of them is one."""
    llm = AistraleLLM(**options(upstream))
    assert llm.invoke("Hello", config={"callbacks": []}) == "Hello"
    assert asyncio.run(llm.ainvoke("Hello", config={"callbacks": []})) == "Hello"


@pytest.mark.parametrize("change", ["copied", "assigned", "deeply copied"])
def test_a_model_of_other_settings_calls_by_them(behaving: Upstream, change: str) -> None:
    """Also if it was used before."""
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url)
    model.invoke("Hello")
    if change == "assigned":
        model.model = "gpt-other"
    else:
        model = model.model_copy(update={"model": "gpt-other"}, deep=change == "deeply copied")
    assert model.invoke("Hello").response_metadata["model_name"] == "gpt-other"


def test_the_servers_key_goes_to_no_provider(behaving: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """AISTRALE_API_KEY is for who serves them; a provider gets its own."""
    monkeypatch.setenv("AISTRALE_API_KEY", "ak-server")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    ChatAistrale(model="openai/gpt-test", base_url=behaving.url).invoke("Hello")
    AistraleEmbeddings(model="openai/bge-m3", base_url=behaving.url).embed_query("Hello")
    chat, vectors = behaving.requests
    assert [chat.headers["authorization"], vectors.headers["authorization"]] == ["Bearer sk-provider"] * 2
    assert vectors.body["model"] == "bge-m3"


def test_a_tool_that_failed_is_told_to_openai_in_its_own_words(behaving: Upstream) -> None:
    """It knows no field for that."""
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url)
    call = {"name": "f", "args": {}, "id": "call_1"}
    model.invoke(
        [("user", "Hello"), AIMessage("", tool_calls=[call]), ToolMessage("no", tool_call_id="call_1", status="error")]
    )
    assert behaving.requests[-1].body["messages"][-1] == {"role": "tool", "content": "no", "tool_call_id": "call_1"}


def test_what_is_no_setting_is_an_option_or_a_mistake(behaving: Upstream) -> None:
    """Neither is passed over."""
    options: dict[str, Any] = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": behaving.url}
    AistraleLLM(**options, reasoning_effort="low").invoke("Hello")
    assert behaving.requests[-1].body["reasoning_effort"] == "low"
    for kind in (ChatAistrale, AistraleLLM, AistraleEmbeddings):
        with pytest.raises((TypeError, ValueError), match="temprature"):
            kind(**options, temprature=0.2)


def test_providers_own_tools_stay_as_they_are(behaving: Upstream) -> None:
    """Their type says whose they are."""
    own = {"type": "web_search", "search_context_size": "low"}
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url)
    assert model.bind_tools([own]).kwargs["tools"] == [own]  # type: ignore[attr-defined]


def test_a_stream_is_of_one_answer(behaving: Upstream) -> None:
    """Two at once would be one text."""
    model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=behaving.url, n=2)
    with pytest.raises(aistrale.InvalidRequestError, match="one answer"):
        list(model.stream("Hello"))


def test_an_answer_without_a_choice_is_empty(upstream: Upstream) -> None:
    """As filters leave it."""
    empty = {"id": "1", "object": "chat.completion", "model": "m", "choices": [], "usage": {"prompt_tokens": 3}}
    options: dict[str, Any] = {"model": "m", "provider": "openai", "api_key": "sk", "base_url": upstream.url}
    upstream.will(plain(empty), plain(empty))
    answer = ChatAistrale(**options).invoke("Hello")
    assert (answer.content, (answer.usage_metadata or {}).get("input_tokens")) == ("", 3)
    assert AistraleLLM(**options).invoke("Hello") == ""


# What nobody is to see


class Told(BaseCallbackHandler):
    """All that a handler hears of the start of a model."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []

    def on_llm_start(self, serialized: Any, prompts: list[str], **more: Any) -> None:
        self.starts.append({"serialized": serialized, "prompts": prompts, **more})

    def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
        self.starts.append({"serialized": serialized, **more})


class Seen(InMemoryCache):
    """A cache that remembers what it was asked by."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def lookup(self, prompt: str, llm_string: str) -> Any:
        self.keys.append(llm_string)
        return super().lookup(prompt, llm_string)


def in_every_way(model: Any, config: Any, **given: Any) -> None:
    async def awaited() -> None:
        await model.ainvoke("Hello", config, **given)
        _ = [piece async for piece in model.astream("Hello", config, **given)]

    model.invoke("Hello", config, **given)
    list(model.stream("Hello", config, **given))
    asyncio.run(awaited())


@both_kinds
@pytest.mark.parametrize("where", ["a setting", "among options", "of the client"])
def test_headers_are_shown_to_nobody(behaving: Upstream, kind: Any, where: str) -> None:
    """They may hold a secret: not shown, serialized, told to handlers, nor part of a cache's key."""
    headers = {"extra_headers": {"X-Key": "hush"}}
    more = {"a setting": headers, "among options": {"model_kwargs": headers}, "of the client": {}}[where]
    client_options = headers if where == "of the client" else {}
    told, cache = Told(), Seen()
    model = kind(**options(behaving, **more, client_options=client_options, cache=cache))
    in_every_way(model, {"callbacks": [told]})
    assert {request.headers["x-key"] for request in behaving.requests} == {"hush"}
    assert told.starts
    assert cache.keys
    shown = [repr(model), str(model), dumps(model), model._identifying_params, told.starts, cache.keys]
    assert "hush" not in str(shown)


@both_kinds
@pytest.mark.parametrize("secret", ["extra_headers", "api_key"])
def test_a_calls_own_secrets_are_shown_to_nobody(behaving: Upstream, kind: Any, secret: str) -> None:
    """Neither its headers nor a key that it is made with."""
    given: dict[str, Any] = {"extra_headers": {"authorization": "Bearer sk-hush"}, "api_key": "sk-hush"}
    told, cache = Told(), Seen()
    model = kind(**options(behaving, cache=cache))
    in_every_way(model, {"callbacks": [told]}, **{secret: given[secret]})
    assert {request.headers["authorization"] for request in behaving.requests} == {"Bearer sk-hush"}
    assert told.starts
    assert cache.keys
    assert "hush" not in str([told.starts, cache.keys])


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")  # of `loads`
@both_kinds
def test_headers_are_given_where_a_model_is_loaded(behaving: Upstream, kind: Any) -> None:
    """As its key is; what else its client takes is written."""
    model = kind(**options(behaving, extra_headers={"X-Key": "hush"}, client_options={"telemetry": False}))
    secrets: Any = {"AISTRALE_API_KEY": "sk-test", "AISTRALE_EXTRA_HEADERS": {"X-Key": "found"}}
    allowed: Any = {"allowed_objects": [kind], "valid_namespaces": ["aistrale_langchain"]}
    again = loads(dumps(model), secrets_map=secrets, **allowed)
    again.invoke("Hello")
    assert behaving.requests[-1].headers["x-key"] == "found"
    assert again.client_options == {"telemetry": False}
    assert loads(dumps(model), secrets_map={}, **allowed).extra_headers is None


# One set of connections for a model and its copies


def configurable(model: Any) -> Any:
    """A model with fields that a call may configure: LangChain then makes another of it for the call."""
    return model.configurable_fields(temperature=ConfigurableField("heat"), model=ConfigurableField("model"))


def configured(**fields: Any) -> Any:
    return {"configurable": fields}


@both_kinds
def test_a_model_that_calls_configure_keeps_its_connection(behaving: Upstream, kind: Any) -> None:
    """One for sync calls, one in an event loop, however it is configured and asked."""
    model = configurable(kind(**options(behaving)))

    async def ask() -> None:
        for heat in range(3):
            await model.ainvoke("Hello", configured(heat=heat))
            _ = [piece async for piece in model.astream("Hello", configured(heat=heat))]

    for heat in range(3):
        model.invoke("Hello", configured(heat=heat))
        list(model.stream("Hello", configured(heat=heat)))
    assert behaving.accepted == 1
    asyncio.run(ask())
    assert behaving.accepted == 2
    assert [request.body["temperature"] for request in behaving.requests] == [0, 0, 1, 1, 2, 2] * 2


def test_copies_of_a_model_share_its_connection(behaving: Upstream) -> None:
    """Made by whichever way, used before or not; one that is sent elsewhere has its own."""
    model = ChatAistrale(**options(behaving))
    hot = model.model_copy(update={"temperature": 1.0})
    for one in (hot, model, copy(model), deepcopy(hot), ChatAistrale(**options(behaving), clients=model.clients)):
        one.invoke("Hello")
    assert behaving.accepted == 1
    pickle.loads(pickle.dumps(model)).invoke("Hello")
    assert behaving.accepted == 2


def test_a_texts_models_own_options_take_no_connection(behaving: Upstream) -> None:
    """They are settings of a copy."""
    llm = AistraleLLM(**options(behaving))
    for heat in range(3):
        llm.invoke("Hello", temperature=heat)
    assert behaving.accepted == 1


@pytest.mark.parametrize(
    "other", [{"api_key": "sk-other"}, {"timeout": 7.0}, {"client_options": {"extra_headers": {"x-tenant": "b"}}}]
)
def test_models_of_other_settings_share_nothing(behaving: Upstream, other: dict[str, Any]) -> None:
    """Neither connections nor keys nor headers."""
    model = ChatAistrale(**options(behaving))
    model.invoke("Hello")
    changed = ChatAistrale(**{**options(behaving, clients=model.clients), **other})
    changed.invoke("Hello")
    first, second = behaving.requests
    assert first.connection != second.connection
    headers = [
        {name: request.headers.get(name) for name in ("authorization", "x-tenant")} for request in (first, second)
    ]
    assert (headers[0] == headers[1]) == ("timeout" in other)


def test_threads_share_the_connections_of_a_configured_model(behaving: Upstream) -> None:
    """There are never more than threads."""
    model = configurable(ChatAistrale(**options(behaving)))
    model.invoke("Hello", configured(heat=0))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda heat: model.invoke("Hello", configured(heat=heat)).text, range(40)))
    assert set(answers) == {"Hello there, how can I help you today?"}
    assert behaving.accepted <= 4


def test_connections_that_nobody_uses_are_closed(behaving: Upstream) -> None:
    """Beyond the latest, and all of them once there is no model any more."""
    model = configurable(ChatAistrale(**options(behaving)))
    for number in range(MOST_CLIENTS + 5):
        model.invoke("Hello", configured(model=f"gpt-{number}"))
    behaving.wait_until_open(MOST_CLIENTS)
    assert "sk-test" not in repr(model.default.clients) + repr(vars(model.default.clients))
    del model
    gc.collect()
    behaving.wait_until_open(0)


def test_a_child_has_connections_of_its_own(behaving: Upstream) -> None:
    """After a fork, for copies as well."""
    program = """
        import os, sys, warnings
        from langchain_core.runnables import ConfigurableField
        from aistrale_langchain import ChatAistrale

        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        model = ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=sys.argv[1])
        model = model.configurable_fields(temperature=ConfigurableField("heat"))
        ask = lambda heat: model.invoke("Hello", {"configurable": {"heat": heat}})
        ask(0.0)
        pid = os.fork()
        if not pid:
            ask(1.0), ask(1.1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        ask(0.1)
    """
    done = run_program(program, cwd=Path(__file__).parent, arguments=(behaving.url,))
    assert (done.returncode, done.stderr) == (0, "")
    used = {request.body["temperature"]: request.connection for request in behaving.requests}
    assert used[0.0] == used[0.1]
    assert used[1.0] == used[1.1] != used[0.0]


# What langchain-core forgets


class Late(BaseCallbackHandler):
    """A handler that is not run inline; it hears less where another is."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.ends = 0

    def on_llm_start(self, serialized: Any, prompts: list[str], **more: Any) -> None:
        told = {name: value for name, value in more.items() if name != "run_id"}
        self.starts.append({"serialized": serialized, "prompts": prompts, **told})

    def on_llm_end(self, response: LLMResult, **more: Any) -> None:
        self.ends += 1

    @property
    def heard(self) -> list[dict[str, Any]]:
        return sorted(self.starts, key=lambda start: str(start["prompts"]))


ASKED: dict[str, Callable[[AistraleLLM, list[Any]], Coroutine[Any, Any, object]]] = {
    "a batch": lambda llm, handlers: llm.agenerate(
        ["a", "b", "c"], ["stop"], handlers, run_name="asked", tags=["t"], metadata={"user_id": "ada"}, top_p=0.5
    ),
    "a batch of names": lambda llm, handlers: llm.agenerate(
        ["a", "b", "a"],
        callbacks=[handlers] * 3,
        run_name=["one", None, "three"],  # type: ignore[arg-type]
        metadata=[{}] * 3,
    ),
    "a batch without names": lambda llm, handlers: llm.agenerate(["a", "b"], callbacks=handlers),
    "ainvoke": lambda llm, handlers: llm.ainvoke("a", {"callbacks": handlers, "run_name": "asked"}, temperature=1),
    "abatch": lambda llm, handlers: llm.abatch(["a", "b"], {"callbacks": handlers, "run_name": "asked"}),
    "astream": lambda llm, handlers: read(llm.astream("a", {"callbacks": handlers, "run_name": "asked"}, top_p=0.5)),
    "astream without a name": lambda llm, handlers: read(llm.astream("a", {"callbacks": handlers})),
}


async def read(pieces: AsyncIterator[str]) -> None:
    async for _ in pieces:
        pass


@pytest.mark.parametrize("way", ASKED)
@pytest.mark.parametrize("cached", [False, True])
def test_a_late_handler_hears_of_each_start_beside_ours(upstream: Upstream, way: str, cached: bool) -> None:
    """What it hears alone, to the last detail (langchain issue 39633); also where one answer was in a cache."""

    async def heard(*beside: BaseCallbackHandler) -> Late:
        llm, late = AistraleLLM(**options(upstream, cache=InMemoryCache() if cached else None)), Late()
        if cached:
            await llm.agenerate(["b"], ["stop"] if way == "a batch" else None)
        await ASKED[way](llm, [*beside, late])
        return late

    alone = asyncio.run(heard())
    beside = asyncio.run(heard(AistraleCallbackHandler(TracerProvider())))
    assert len(beside.heard) == beside.ends
    assert beside.heard == alone.heard
    assert beside.heard
    assert len(runs) == 0


# An Aistrale server


def test_a_server_is_asked_as_it_is_documented(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AistraleLLM(api_url=..., model=..., provider=...)` in `prompt | llm | parser`: the server finds the provider."""
    monkeypatch.setenv("AISTRALE_API_KEY", "ak-server")
    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")  # or spans go there as well, and wait for a server that is gone
    llm = AistraleLLM(api_url=f"http://{upstream.host}", model="gpt-4", provider="openai")
    chain = PromptTemplate.from_template("Say {word}") | llm | StrOutputParser()
    assert chain.invoke({"word": "cheese"}) == "Say cheese"
    assert "".join(chain.stream({"word": "cheese"})) == "Say cheese"
    assert asyncio.run(chain.ainvoke({"word": "cheese"})) == "Say cheese"
    for request in upstream.requests:
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer ak-server"
        assert request.body["model"] == "openai/gpt-4"
        assert request.body["messages"] == [{"role": "user", "content": "Say cheese"}]
    assert [bool(request.body.get("stream")) for request in upstream.requests] == [False, True, False]


def test_a_server_is_asked_by_the_classic_chain(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same request, from an LLMChain."""
    from langchain_classic.chains import LLMChain

    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")
    llm = AistraleLLM(api_url=f"http://{upstream.host}", model="gpt-4", provider="openai", api_key="ak-server")
    with suppress_langchain_deprecation_warning():
        chain = LLMChain(llm=llm, prompt=PromptTemplate.from_template("Say {word}"))
        assert chain.run("cheese") == "Say cheese"
    assert chain.invoke({"word": "cheese"})["text"] == "Say cheese"
    assert asyncio.run(chain.ainvoke({"word": "cheese"}))["text"] == "Say cheese"
    assert {request.path for request in upstream.requests} == {"/v1/chat/completions"}
    assert {request.body["model"] for request in upstream.requests} == {"openai/gpt-4"}
    assert {request.headers["authorization"] for request in upstream.requests} == {"Bearer ak-server"}
