"""Models that are given up, forked, threaded and sent to other processes: nothing stays behind, the next call works."""

import asyncio
import multiprocessing
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from programs import run_program
from upstream import BOUND, HANG, Gate, Request, Step, Upstream, completion, events, failure, finish, plain

import aistrale
from aistrale_langchain import AistraleCallbackHandler, AistraleLLM, ChatAistrale
from aistrale_langchain.runs import MOST_RUNS, runs

KINDS = [ChatAistrale, AistraleLLM]
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def config(provider: TracerProvider) -> Iterator[Any]:
    """A run's configuration, with the handler in it; in the end no more runs are open than before."""
    before = len(runs)
    yield {"callbacks": [AistraleCallbackHandler(provider)]}
    assert len(runs) == before


def options(upstream: Upstream, provider: TracerProvider | None = None) -> dict[str, Any]:
    given: dict[str, Any] = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url}
    return {**given, "max_retries": 0, "client_options": {"tracer_provider": provider} if provider else {}}


# Given up


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


def asking(way: str, upstream: Upstream, provider: TracerProvider) -> Callable[[str, Any], Any]:
    """One way to have a model asked, as people do it in async code."""
    model: Any = (AistraleLLM if way == "a text model" else ChatAistrale)(**options(upstream, provider))
    chain: Any = ChatPromptTemplate([("user", "{word}")]) | model | StrOutputParser()
    agent: Any = create_agent(model, [weather]) if way == "an agent" else None

    async def read(pieces: AsyncIterator[Any]) -> None:
        async for _ in pieces:
            pass

    async def read_events(word: str, config: Any) -> None:
        async with await model.astream_events(word, config, version="v3") as found:
            await read(found)

    ways: dict[str, Callable[[str, Any], Any]] = {
        "a model": model.ainvoke,
        "a text model": model.ainvoke,
        "a chain": lambda word, config: chain.ainvoke({"word": word}, config),
        "an agent": lambda word, config: agent.ainvoke({"messages": [("user", word)]}, config),
        "a stream": lambda word, config: read(model.astream(word, config)),
        "a chain's stream": lambda word, config: read(chain.astream({"word": word}, config)),
        "events": read_events,
    }
    return ways[way]


WAYS = ["a model", "a text model", "a chain", "an agent", "a stream", "a chain's stream", "events"]


class Waiting:
    """An upstream whose answers hang once `opening` is sent; tells the event loop of each request that has come."""

    def __init__(self, upstream: Upstream, *opening: Step) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: dict[str, asyncio.Event] = {}
        self._opening = opening
        upstream.default = self._answer

    def arrival_of(self, word: str) -> asyncio.Event:
        return self._arrived.setdefault(word, asyncio.Event())

    def _answer(self, request: Request) -> list[Step]:
        word = request.body["messages"][-1]["content"]
        return [lambda: self._loop.call_soon_threadsafe(self.arrival_of(word).set), *self._opening, HANG]


class Bystander:
    """A stream that was begun before and is read on afterwards; it hears whatever the loop complains of meanwhile."""

    def __init__(self, upstream: Upstream, model: ChatAistrale) -> None:
        self._gate = Gate()
        upstream.will([*events("Still "), self._gate, *events("here")[1:], *finish(), b"0\r\n\r\n"])
        self._pieces = model.astream("Wait")
        self._complaints: list[dict[str, Any]] = []

    async def begin(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: self._complaints.append(told))
        self._text = (await anext(self._pieces)).text

    async def end(self) -> None:
        """Read on; the loop is as it would be had nothing else happened in it."""
        self._gate.open()
        assert self._text + "".join([piece.text async for piece in self._pieces]) == "Still here"
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=BOUND)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self._complaints == []


def assert_cancelled(spans: tuple[ReadableSpan, ...], calls: int) -> None:
    """So many calls to models were given up, and nothing failed."""
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    left = [
        span for span in spans if span.name == "chat gpt-test" and (span.attributes or {}).get("aistrale.cancelled")
    ]
    assert len(left) == calls


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")  # of the events
@pytest.mark.parametrize("way", WAYS)
async def test_a_thousand_cancellations_leave_nothing_behind(
    upstream: Upstream, provider: TracerProvider, exporter: InMemorySpanExporter, config: Any, way: str
) -> None:
    """No run, no task, no connection; a stream in the same loop goes on over its own."""
    bystander = Bystander(upstream, ChatAistrale(**options(upstream)))
    await bystander.begin()
    waiting, ask = Waiting(upstream), asking(way, upstream, provider)

    async def give_up(word: str) -> None:
        task = asyncio.ensure_future(ask(word, config))
        await asyncio.wait_for(waiting.arrival_of(word).wait(), BOUND)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for start in range(0, 1000, 50):
        await asyncio.gather(*(give_up(f"{number}") for number in range(start, start + 50)))

    await asyncio.to_thread(upstream.wait_until_open, 1)
    await bystander.end()
    assert_cancelled(exporter.get_finished_spans(), 1000)


@pytest.mark.parametrize("way", ["a model", "a text model", "a chain"])
async def test_a_thousand_streams_broken_out_of_leave_nothing_behind(
    upstream: Upstream, provider: TracerProvider, exporter: InMemorySpanExporter, config: Any, way: str
) -> None:
    """As `break` leaves them, with more to come that never does."""
    bystander = Bystander(upstream, ChatAistrale(**options(upstream)))
    await bystander.begin()
    Waiting(upstream, *events("One ", "two "))
    kind: Any = AistraleLLM if way == "a text model" else ChatAistrale
    model = kind(**options(upstream, provider))
    chain = ChatPromptTemplate([("user", "{word}")]) | model | StrOutputParser()

    async def break_out(word: str) -> None:
        pieces = chain.astream({"word": word}, config) if way == "a chain" else model.astream(word, config)
        async for _ in pieces:
            break

    for start in range(0, 1000, 50):
        await asyncio.gather(*(break_out(f"{number}") for number in range(start, start + 50)))

    await asyncio.to_thread(upstream.wait_until_open, 1)
    await bystander.end()
    assert_cancelled(exporter.get_finished_spans(), 1000)


@both_kinds
def test_a_sync_stream_broken_out_of_leaves_nothing_behind(
    upstream: Upstream, provider: TracerProvider, exporter: InMemorySpanExporter, config: Any, kind: Any
) -> None:
    """Its connection is let go at once."""
    upstream.default = [*events("One ", "two "), HANG]
    model = kind(**options(upstream, provider))
    for _ in range(20):
        for _ in model.stream("Hello", config):
            break
    upstream.wait_until_open(0)
    assert_cancelled(exporter.get_finished_spans(), 20)


@both_kinds
@pytest.mark.parametrize("way", ["generate", "agenerate"])
def test_a_failure_among_others_leaves_nothing_behind(
    upstream: Upstream, provider: TracerProvider, config: Any, kind: Any, way: str
) -> None:
    """LangChain tells handlers of the prompt that failed, and never of the others'."""
    upstream.default = lambda request: (
        failure(400) if request.body["messages"][0]["content"] == "b" else plain(completion())
    )
    model: Any = kind(**options(upstream, provider))
    prompts: Any = ["a", "b", "c"] if kind is AistraleLLM else [[HumanMessage(word)] for word in "abc"]

    def ask() -> Any:
        if way == "generate":
            return model.generate(prompts, **config)
        return asyncio.run(model.agenerate(prompts, **config))

    with pytest.raises(aistrale.InvalidRequestError):
        ask()


def test_what_is_never_told_to_end_is_forgotten_in_the_end(
    provider: TracerProvider, exporter: InMemorySpanExporter, config: Any
) -> None:
    """A foreign model's `ainvoke` that is cancelled tells nobody: the oldest of such runs make room for later ones."""
    (handler,) = config["callbacks"]
    begun = [uuid4() for _ in range(MOST_RUNS + 1)]
    for run_id in begun:
        handler.on_chat_model_start(None, [[]], run_id=run_id, metadata={"ls_provider": "acme"})
    assert len(runs) == MOST_RUNS
    (forgotten,) = exporter.get_finished_spans()
    assert (forgotten.attributes or {})["aistrale.cancelled"] is True
    for run_id in begun:
        handler.on_llm_error(asyncio.CancelledError(), run_id=run_id)
    assert len(exporter.get_finished_spans()) == len(begun)


# Event loops and threads


async def both_ways(model: Any, word: str, config: Any) -> list[str]:
    """An answer awaited, and an answer streamed."""
    answered, streamed = await model.ainvoke(word, config), [piece async for piece in model.astream(word, config)]
    return [answered if isinstance(answered, str) else answered.text, "".join(map(text_of, streamed))]


def text_of(piece: Any) -> str:
    return piece if isinstance(piece, str) else str(piece.text)


@both_kinds
def test_a_model_serves_one_event_loop_after_another(
    upstream: Upstream, provider: TracerProvider, config: Any, kind: Any
) -> None:
    """The same object over three `asyncio.run`; each loop's connections end with it, and those of sync calls stay."""
    model = kind(**options(upstream, provider))
    assert text_of(model.invoke("sync", config)) == "sync"
    for _ in range(3):
        assert asyncio.run(both_ways(model, "async", config)) == ["async", "async"]
        upstream.wait_until_open(1)
    assert text_of(model.invoke("sync", config)) == "sync"
    sync = {request.connection for request in upstream.requests if request.body["messages"][0]["content"] == "sync"}
    assert len(sync) == 1


@both_kinds
def test_threads_share_a_model(upstream: Upstream, provider: TracerProvider, config: Any, kind: Any) -> None:
    """Four with sync code, four with event loops of their own, all at once; each gets its own answers."""
    model = kind(**options(upstream, provider))

    def ask(thread: int) -> list[str]:
        word = f"thread {thread}"
        if thread % 2:
            return asyncio.run(both_ways(model, word, config))
        return [text_of(model.invoke(word, config)), "".join(map(text_of, model.stream(word, config)))]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers == [[f"thread {thread}"] * 2 for thread in range(8)]


# Other processes

IN_A_CHILD = """
import asyncio, os, sys, threading, traceback, warnings
from opentelemetry.sdk.trace import TracerProvider
from aistrale_langchain import AistraleCallbackHandler, AistraleLLM, ChatAistrale
from aistrale_langchain.runs import runs

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
kind = {"ChatAistrale": ChatAistrale, "AistraleLLM": AistraleLLM}[sys.argv[2]]
model = kind(model="gpt-test", provider="openai", api_key="sk", base_url=sys.argv[1], max_retries=0)
config = {"callbacks": [AistraleCallbackHandler(TracerProvider())]}

def text(piece):
    return piece if isinstance(piece, str) else piece.text

def sync(word):
    return text(model.invoke(word, config)) == word == "".join(text(piece) for piece in model.stream(word, config))

async def awaited(word):
    streamed = "".join([text(piece) async for piece in model.astream(word, config)])
    return text(await model.ainvoke(word, config)) == word == streamed

def child(work):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
FORKS = {
    "sync": """
assert sync("parent")
ended(child(lambda: sync("child") and asyncio.run(awaited("child"))))
assert sync("parent")
assert len(runs) == 0
""",
    "async": """
with asyncio.Runner() as runner:
    assert runner.run(awaited("parent"))
    ended(child(lambda: asyncio.run(awaited("child")) and sync("child")))
    assert runner.run(awaited("parent"))
assert len(runs) == 0
""",
    "in the midst of a stream": """
stream = model.stream("parent parent", config)
assert text(next(stream)) == "parent "
ended(child(lambda: sync("child") and asyncio.run(awaited("child"))))
assert text(next(stream)) == "parent"
assert "".join(map(text, stream)) == ""
assert len(runs) == 0
""",
    "while threads call": """
from langchain_core.runnables import RunnableLambda
sys.setswitchinterval(1e-5)  # so that a fork finds threads wherever they may be
echo, done = RunnableLambda(lambda word: word), threading.Event()
assert sync("thread")
def call():
    while not done.is_set():
        assert echo.invoke("thread", config) == "thread"
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
try:
    for _ in range(30):
        ended(child(lambda: sync("child")))
finally:
    done.set()
for thread in threads:
    thread.join()
assert len(runs) == 0
""",
}


@both_kinds
@pytest.mark.parametrize("fork", FORKS)
def test_a_model_works_on_after_a_fork(upstream: Upstream, fork: str, kind: type[Any]) -> None:
    """A child uses its parent's model over connections of its own; the parent's go on as they were."""
    arguments = (upstream.url, kind.__name__)
    done = run_program(IN_A_CHILD + FORKS[fork], cwd=Path(__file__).parent, arguments=arguments)
    assert (done.returncode, done.stderr) == (0, "")
    used: dict[str, set[int]] = {"parent": set(), "child": set(), "thread": set()}
    for request in upstream.requests:
        used[request.body["messages"][-1]["content"].split()[0]].add(request.connection)
    assert used["child"]
    assert not used["child"] & (used["parent"] | used["thread"])
    assert len(used["parent"]) <= 1
    upstream.wait_until_open(0)


@both_kinds
def test_a_model_can_be_sent_to_another_process(upstream: Upstream, kind: Any) -> None:
    """Used before or not, to a process that shares nothing with ours; answers and errors come back."""
    model = kind(**options(upstream))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert text_of(pool.submit(model.invoke, "Hello").result()) == "Hello"
        assert text_of(model.invoke("Hello")) == "Hello"
        assert text_of(pool.submit(model.invoke, "Hello again").result()) == "Hello again"
        upstream.will(failure(429, "Slow down"))
        with pytest.raises(aistrale.RateLimitError, match="Slow down"):
            pool.submit(model.invoke, "Hello").result()
    assert pickle.loads(pickle.dumps(model)) == model
