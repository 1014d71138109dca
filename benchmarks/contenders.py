"""Who is measured, and how each makes one call. Every contender is in the form its own README shows.

A table maps a contender's name to an opener: a context manager that takes the upstream's base URL and
gives a ready client's call. The call returns the length of the text it received, which the worker
compares with what the upstream sent. Packages are imported by the opener, in the worker's own process.
"""

import json
import os
import random
import socket
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from benchmarks.upstream import TEXT

KEY = "sk-bench"
MODEL = "gpt-4o"
PROMPT = "Hello, world!"
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
HEADERS = {"Authorization": f"Bearer {KEY}"}
BODY = {"model": MODEL, "messages": MESSAGES}

Call = Callable[[], int]
AsyncCall = Callable[[], Awaitable[int]]
AnyCall = TypeVar("AnyCall", Call, AsyncCall)


class LostSpansError(Exception):
    """The calls made did not leave one span each."""


def _nothing() -> None:
    pass


def _no_remark(calls: int) -> str:
    return ""


@dataclass(frozen=True)
class Ready(Generic[AnyCall]):
    """An opened contender.

    `settle` lets work left in the background end, so that no other contender is measured against it.
    `audit` is told the number of calls made in all; it gives a remark for the report, or raises.
    """

    call: AnyCall
    settle: Callable[[], None] = _nothing
    audit: Callable[[int], str] = _no_remark


Opener = Callable[[str], AbstractContextManager[Ready[Call]]]
AsyncOpener = Callable[[str], AbstractAsyncContextManager[Ready[AsyncCall]]]


# Bare httpx: the floor of everything synchronous.


@contextmanager
def httpx_run(base_url: str) -> Iterator[Ready[Call]]:
    import httpx

    url = f"{base_url}/chat/completions"
    with httpx.Client(headers=HEADERS) as client:

        def call() -> int:
            answer = client.post(url, json=BODY).json()
            return len(answer["choices"][0]["message"]["content"])

        yield Ready(call)


@contextmanager
def httpx_stream(base_url: str) -> Iterator[Ready[Call]]:
    import httpx

    url = f"{base_url}/chat/completions"
    body = {**BODY, "stream": True}
    with httpx.Client(headers=HEADERS) as client:

        def call() -> int:
            with client.stream("POST", url, json=body) as response:
                return sum(
                    _delta_length(json.loads(line[6:]))
                    for line in response.iter_lines()
                    if line.startswith("data: ") and line[6:] != "[DONE]"
                )

        yield Ready(call)


def _delta_length(chunk: Mapping[str, Any]) -> int:
    return sum(len(choice["delta"].get("content") or "") for choice in chunk["choices"])


# The openai package.


@contextmanager
def openai_run(base_url: str) -> Iterator[Ready[Call]]:
    import openai

    with openai.OpenAI(base_url=base_url, api_key=KEY) as client:

        def call() -> int:
            answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
            return len(answer.choices[0].message.content or "")

        yield Ready(call)


@contextmanager
def openai_stream(base_url: str) -> Iterator[Ready[Call]]:
    import openai

    with openai.OpenAI(base_url=base_url, api_key=KEY) as client:

        def call() -> int:
            chunks: Any = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            return sum(_content_length(chunk.choices) for chunk in chunks)

        yield Ready(call)


def _content_length(choices: Sequence[Any]) -> int:
    return sum(len(choice.delta.content or "") for choice in choices)


@asynccontextmanager
async def openai_async(base_url: str) -> AsyncIterator[Ready[AsyncCall]]:
    import openai

    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:

        async def call() -> int:
            answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
            return len(answer.choices[0].message.content or "")

        yield Ready(call)


# LiteLLM, without the logging that doubles the time of its streams.


def _litellm() -> Any:
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.disable_streaming_logging = True
    return litellm


@contextmanager
def litellm_run(base_url: str) -> Iterator[Ready[Call]]:
    litellm = _litellm()
    options = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": KEY}

    def call() -> int:
        answer = litellm.completion(messages=MESSAGES, **options)
        return len(answer.choices[0].message.content or "")

    yield Ready(call)


@contextmanager
def litellm_stream(base_url: str) -> Iterator[Ready[Call]]:
    litellm = _litellm()
    options = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": KEY, "stream": True}

    def call() -> int:
        chunks = litellm.completion(messages=MESSAGES, **options)
        return sum(_content_length(chunk.choices) for chunk in chunks)

    yield Ready(call)


# Bare aiohttp: the reference of everything asynchronous, without its own limit of 100 connections.


@asynccontextmanager
async def aiohttp_async(base_url: str) -> AsyncIterator[Ready[AsyncCall]]:
    import aiohttp

    url = f"{base_url}/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def call() -> int:
            async with session.post(url, json=BODY) as response:
                answer = await response.json()
            return len(answer["choices"][0]["message"]["content"])

        yield Ready(call)


# Aistrale, with telemetry on: a batch processor as an application has it, and every span counted.


class SpanCount:
    """An application's tracer provider whose exporter counts the spans and drops them."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class Counter(SpanExporter):
            spans = 0

            def export(self, spans: Sequence[Any]) -> SpanExportResult:
                self.spans += len(spans)
                return SpanExportResult.SUCCESS

        self._counter = Counter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(BatchSpanProcessor(self._counter))

    def flush(self) -> None:
        self.provider.force_flush()

    def audit(self, calls: int) -> str:
        """Raise LostSpansError unless each call left one span."""
        self.flush()
        if self._counter.spans != calls:
            raise LostSpansError(f"{calls:,} calls left {self._counter.spans:,} spans")
        return f"{calls:,} calls left as many spans"

    def ready(self, call: AnyCall) -> Ready[AnyCall]:
        return Ready(call, settle=self.flush, audit=self.audit)


def _aistrale_options(base_url: str, spans: SpanCount) -> dict[str, Any]:
    return {
        "provider": "openai",
        "base_url": base_url,
        "api_key": KEY,
        "model": MODEL,
        "tracer_provider": spans.provider,
    }


@contextmanager
def aistrale_run(base_url: str) -> Iterator[Ready[Call]]:
    import aistrale

    spans = SpanCount()
    with aistrale.Client(**_aistrale_options(base_url, spans)) as client:
        yield spans.ready(lambda: len(client.run(PROMPT).text))


@contextmanager
def aistrale_stream(base_url: str) -> Iterator[Ready[Call]]:
    import aistrale

    spans = SpanCount()
    with aistrale.Client(**_aistrale_options(base_url, spans)) as client:
        yield spans.ready(lambda: sum(len(chunk.text) for chunk in client.stream(PROMPT)))


@asynccontextmanager
async def aistrale_async(base_url: str) -> AsyncIterator[Ready[AsyncCall]]:
    import aistrale

    spans = SpanCount()
    async with aistrale.AsyncClient(**_aistrale_options(base_url, spans)) as client:

        async def call() -> int:
            return len((await client.run(PROMPT)).text)

        yield spans.ready(call)


# What keeping books costs: the same client with telemetry off, with the books alone on, and with the least in their
# place.


@contextmanager
def unobserved_run(base_url: str) -> Iterator[Ready[Call]]:
    import aistrale

    options = {"provider": "openai", "base_url": base_url, "api_key": KEY, "model": MODEL}
    with aistrale.Client(**options, telemetry=False) as client:
        yield Ready(lambda: len(client.run(PROMPT).text))


class _OneTable:
    """An SQLite table of spans as they are: no prices, sums, events or further indexes."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")
        self.database.execute(
            "CREATE TABLE spans (trace_id TEXT, span_id TEXT, name TEXT, began INTEGER, ended INTEGER, "
            "attributes TEXT, PRIMARY KEY (trace_id, span_id))"
        )

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        self.database.execute("BEGIN")
        self.database.executemany("INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.database.execute("COMMIT")

    def audit(self, calls: int) -> str:
        (found,) = self.database.execute("SELECT count(*) FROM spans").fetchone()
        if found != calls:
            raise LostSpansError(f"{calls:,} calls left {found:,} spans")
        return f"{calls:,} calls left as many spans"


def _exporter(table: _OneTable) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            table.add(
                (
                    *(f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"),
                    *(span.name, span.start_time, span.end_time, json.dumps(dict(span.attributes))),
                )
                for span in spans
            )
            return SpanExportResult.SUCCESS

    return Exporter()


@contextmanager
def sdk_run(base_url: str) -> Iterator[Ready[Call]]:
    """A span of OpenTelemetry's SDK by hand, and its JSON in one SQLite table."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    import aistrale

    address = urlsplit(base_url)
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "server.address": address.hostname,
        "server.port": address.port,
    }
    options = {"provider": "openai", "base_url": base_url, "api_key": KEY, "model": MODEL}
    with TemporaryDirectory() as folder, aistrale.Client(**options, telemetry=False) as client:
        table, provider = _OneTable(f"{folder}/spans.db"), TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_exporter(table), max_queue_size=20_000))
        tracer = provider.get_tracer("bare")

        def call() -> int:
            with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=asked) as span:
                answer = client.run(PROMPT)
                span.set_attributes(
                    {
                        "gen_ai.response.model": answer.model,
                        "gen_ai.response.id": answer.id,
                        "gen_ai.response.finish_reasons": [answer.finish_reason],
                        "gen_ai.usage.input_tokens": answer.usage.input_tokens,
                        "gen_ai.usage.output_tokens": answer.usage.output_tokens,
                    }
                )
            return len(answer.text)

        yield Ready(call, provider.force_flush, table.audit)


@contextmanager
def sdk_span(base_url: str) -> Iterator[Ready[Call]]:
    """A span of OpenTelemetry's SDK with ten attributes around nothing, dropped by its exporter."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    attributes = {f"gen_ai.attribute.{number}": MODEL for number in range(10)}
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Exporter(), max_queue_size=20_000))
    tracer = provider.get_tracer("bare")

    def call() -> int:
        with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes):
            return len(TEXT)

    yield Ready(call, provider.force_flush)


@contextmanager
def bare_run(base_url: str) -> Iterator[Ready[Call]]:
    """The least that keeps a call: a dict in a queue, and a thread that puts its JSON into one SQLite table."""
    import aistrale

    options = {"provider": "openai", "base_url": base_url, "api_key": KEY, "model": MODEL}
    queue: deque[tuple[str, str, str, int, int, dict[str, Any]]] = deque()
    adding, ended = threading.Lock(), threading.Event()
    with TemporaryDirectory() as folder, aistrale.Client(**options, telemetry=False) as client:
        table = _OneTable(f"{folder}/spans.db")

        def settle() -> None:
            with adding:
                waiting = [queue.popleft() for _ in range(len(queue))]
                table.add((*span, json.dumps(attributes)) for *span, attributes in waiting)

        def work() -> None:
            while not ended.wait(0.5):
                settle()

        def call() -> int:
            began = time.time_ns()
            answer = client.run(PROMPT)
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": MODEL,
                "gen_ai.response.model": answer.model,
                "gen_ai.response.id": answer.id,
                "gen_ai.response.finish_reasons": [answer.finish_reason],
                "gen_ai.usage.input_tokens": answer.usage.input_tokens,
                "gen_ai.usage.output_tokens": answer.usage.output_tokens,
            }
            ids = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
            queue.append((*ids, f"chat {MODEL}", began, time.time_ns(), attributes))
            return len(answer.text)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield Ready(call, settle, table.audit)
        finally:
            ended.set()
            worker.join()


@contextmanager
def booked_run(base_url: str) -> Iterator[Ready[Call]]:
    import aistrale
    from aistrale.store.location import database_url
    from aistrale.tracing.books import bring_up_to_date

    options = {"provider": "openai", "base_url": base_url, "api_key": KEY, "model": MODEL}
    surface = f"bench {os.getpid()}"
    with aistrale.Client(**options, telemetry="store", surface=surface) as client:

        def audit(calls: int) -> str:
            found = sum(group.calls for group in aistrale.telemetry.summary(surface=surface))
            if found != calls + 1:
                raise LostSpansError(f"{calls + 1:,} calls left {found:,} spans")
            return f"{calls + 1:,} calls left as many spans in the books"

        def settle() -> None:
            bring_up_to_date(database_url())

        client.run(PROMPT)
        settle()  # the books are open
        yield Ready(lambda: len(client.run(PROMPT).text), settle, audit)


BOOKS: Mapping[str, Opener] = {
    "unobserved": unobserved_run,
    "booked": booked_run,
    "SDK": sdk_run,
    "bare": bare_run,
    "span": sdk_span,
}
RUN: Mapping[str, Opener] = {
    "httpx": httpx_run,
    "openai": openai_run,
    "litellm": litellm_run,
    "aistrale": aistrale_run,
}
STREAM: Mapping[str, Opener] = {
    "httpx": httpx_stream,
    "openai": openai_stream,
    "litellm": litellm_stream,
    "aistrale": aistrale_stream,
}
ASYNC: Mapping[str, AsyncOpener] = {
    "aiohttp": aiohttp_async,
    "aistrale": aistrale_async,
    "openai": openai_async,
}
NAMES = tuple(dict.fromkeys((*RUN, *STREAM, *ASYNC, "langchain-openai")))
"""Every contender's name; also the name of its package on PyPI."""


# What a collector that is down costs the calls whose spans it is to get.


@contextmanager
def refusing() -> Iterator[str]:
    """The address of nobody."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def silent() -> Iterator[str]:
    """The address of somebody who takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


DOWN: Mapping[str, Callable[[], AbstractContextManager[str]]] = {"refusing": refusing, "silent": silent}


def _sending_to(down: Callable[[], AbstractContextManager[str]]) -> Opener:
    @contextmanager
    def run(base_url: str) -> Iterator[Ready[Call]]:
        import aistrale

        options = {"provider": "openai", "base_url": base_url, "api_key": KEY, "model": MODEL}
        with down() as address:
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
            with aistrale.Client(**options, telemetry="otlp") as client:
                yield Ready(lambda: len(client.run(PROMPT).text))

    return run


COLLECTORS: Mapping[str, Opener] = {
    "unobserved": unobserved_run,
    **{name: _sending_to(down) for name, down in DOWN.items()},
}
