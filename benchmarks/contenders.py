"""Who is measured, and how each makes one call. Every contender is in the form its own README shows.

A table maps a contender's name to an opener: a context manager that takes the upstream's base URL and
gives a ready client's call. The call returns the length of the text it received, which the worker
compares with what the upstream sent. Packages are imported by the opener, in the worker's own process.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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
