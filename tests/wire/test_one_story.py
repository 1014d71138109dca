"""One story wherever a call comes from: the SDK, LangChain and LlamaIndex tell the same of every recorded answer."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Any

import pytest
from keeping import on_sqlite
from llama_index.core.llms import ChatMessage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aistrale import AsyncClient, Client, telemetry
from aistrale.exceptions import AistraleError, APIError, OutputError
from aistrale.models import Completion
from aistrale_langchain import AistraleLLM as LangChainLLM
from aistrale_langchain import ChatAistrale
from aistrale_llamaindex import AistraleLLM as LlamaIndexLLM

from .exchanges import Exchange
from .readings import PROVIDERS
from .test_replayed import CHAT, serve

OF_ITS_OWN = ("aistrale.surface", "gen_ai.response.time_to_first_chunk")
"""Attributes in which the spans of two calls differ."""


@pytest.fixture(scope="module")
def replayed() -> Iterator[str]:
    """Where the recordings are served."""
    yield from serve()


@dataclass(frozen=True)
class Tale:
    """What one surface tells of an answer; None for what it has no field for."""

    text: str
    calls: tuple[tuple[str, Any], ...] | None
    finish_reason: str | None
    tokens: tuple[int, int] | None
    cost: Decimal | None = field(default=None, compare=False)


Way = Callable[[Exchange, dict[str, Any]], Tale]


def _of_completion(answer: Completion) -> Tale:
    calls = tuple((call.name, _args(call)) for call in answer.tool_calls)
    reason = answer.choices[0].finish_reason if answer.choices else None
    usage = answer.usage
    tokens = None if usage is None else (usage.input_tokens, usage.output_tokens)
    return Tale(answer.text, calls, reason, tokens, answer.cost)


def _args(call: Any) -> Any:
    try:
        return call.args if isinstance(call.args, dict) else call.arguments
    except OutputError:
        return call.arguments


def sdk(exchange: Exchange, options: dict[str, Any]) -> Tale:
    with Client(**options) as client:
        answer = client.stream("Hello").until_done() if exchange.streamed else client.run("Hello")
    return _of_completion(answer)


def sdk_async(exchange: Exchange, options: dict[str, Any]) -> Tale:
    async def ask() -> Completion:
        async with AsyncClient(**options) as client:
            return await (client.stream("Hello").until_done() if exchange.streamed else client.run("Hello"))

    return _of_completion(asyncio.run(ask()))


async def _chunks(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def _for_langchain(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "client_options": {"tracer_provider": options["tracer_provider"]}, "tracer_provider": None}


def _model(kind: Any, options: dict[str, Any]) -> Any:
    known = {name: value for name, value in _for_langchain(options).items() if value is not None}
    return kind(**known)


def _of_message(message: Any) -> Tale:
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    usage = message.usage_metadata
    return Tale(
        message.text,
        tuple((call["name"], call["args"]) for call in calls),
        message.response_metadata.get("finish_reason"),
        None if usage is None else (usage["input_tokens"], usage["output_tokens"]),
    )


def langchain_chat(exchange: Exchange, options: dict[str, Any]) -> Tale:
    model = _model(ChatAistrale, options)
    return _of_message(reduce(add, model.stream("Hello")) if exchange.streamed else model.invoke("Hello"))


def langchain_chat_async(exchange: Exchange, options: dict[str, Any]) -> Tale:
    model = _model(ChatAistrale, options)
    asked = _chunks(model.astream("Hello")) if exchange.streamed else model.ainvoke("Hello")
    found = asyncio.run(asked)
    return _of_message(reduce(add, found) if exchange.streamed else found)


def langchain_text(exchange: Exchange, options: dict[str, Any]) -> Tale:
    model = _model(LangChainLLM, options)
    asked = model._stream("Hello") if exchange.streamed else model.generate(["Hello"]).generations[0]
    whole = reduce(add, asked) if exchange.streamed else asked[0]
    info = whole.generation_info or {}
    usage = info.get("usage_metadata")
    tokens = None if usage is None else (usage["input_tokens"], usage["output_tokens"])
    return Tale(whole.text, None, info.get("finish_reason"), tokens)


def _of_response(text: str, response: Any, calls: tuple[Any, ...] | None) -> Tale:
    told = response.additional_kwargs
    tokens = (told["prompt_tokens"], told["completion_tokens"]) if "prompt_tokens" in told else None
    return Tale(text, calls, told.get("finish_reason"), tokens)


def _of_chat(response: Any) -> Tale:
    calls = [block for block in response.message.blocks if block.block_type == "tool_call"]
    told = tuple((call.tool_name, call.tool_kwargs) for call in calls)
    return _of_response(response.message.content or "", response, told)


def llamaindex_chat(exchange: Exchange, options: dict[str, Any]) -> Tale:
    llm, messages = _model(LlamaIndexLLM, options), [ChatMessage(content="Hello")]
    return _of_chat([*llm.stream_chat(messages)][-1] if exchange.streamed else llm.chat(messages))


def llamaindex_chat_async(exchange: Exchange, options: dict[str, Any]) -> Tale:
    llm, messages = _model(LlamaIndexLLM, options), [ChatMessage(content="Hello")]

    async def ask() -> Any:
        if exchange.streamed:
            return [response async for response in await llm.astream_chat(messages)][-1]
        return await llm.achat(messages)

    return _of_chat(asyncio.run(ask()))


def llamaindex_text(exchange: Exchange, options: dict[str, Any]) -> Tale:
    llm = _model(LlamaIndexLLM, options)
    response = [*llm.stream_complete("Hello")][-1] if exchange.streamed else llm.complete("Hello")
    return _of_response(response.text, response, None)


WAYS: tuple[Way, ...] = (
    sdk_async,
    *(langchain_chat, langchain_chat_async, langchain_text),
    *(llamaindex_chat, llamaindex_chat_async, llamaindex_text),
)


def told(way: Way, exchange: Exchange, url: str) -> tuple[Tale | AistraleError, dict[str, Any]]:
    """What a surface tells, or raises, and the attributes of the only span that it leaves."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    options = {
        "provider": PROVIDERS[exchange.api.partition(".")[0]],
        "model": "asked-model",
        "base_url": f"{url}/{exchange.id}",
        "api_key": "sk-test",
        "max_retries": 0,
        "tracer_provider": provider,
    }
    try:
        tale: Tale | AistraleError = way(exchange, options)
    except AistraleError as error:
        tale = error
    (span,) = exporter.get_finished_spans()
    attributes = {name: value for name, value in (span.attributes or {}).items() if name not in OF_ITS_OWN}
    return tale, {"name": span.name, "status": span.status.status_code, **attributes}


@on_sqlite
@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize("exchange", CHAT)
def test_every_surface_tells_the_same(exchange: Exchange, replayed: str) -> None:
    """Text, calls of tools, finish reason, tokens, errors, and the span of the call, with its cost in the books."""
    tale, span = told(sdk, exchange, replayed)
    for way in WAYS:
        other, its_span = told(way, exchange, replayed)
        assert its_span == span, way
        if isinstance(tale, AistraleError):
            assert isinstance(other, type(tale)), way
            assert isinstance(tale, APIError) is isinstance(other, APIError)
            assert getattr(other, "status", None) == getattr(tale, "status", None), way
            continue
        assert isinstance(other, Tale), (way, other)
        calls = tale.calls if other.calls is not None else None
        assert other == Tale(tale.text, calls, tale.finish_reason, tale.tokens), way
        assert other.cost == (tale.cost if way is sdk_async else None)  # frameworks' answers have no field for it
    kept = telemetry.query()
    assert len(kept) == 1 + len(WAYS)
    (cost,) = {(span.cost, span.cost_source) for span in kept}
    if isinstance(tale, Tale) and tale.cost is not None:
        assert cost[0] == tale.cost.quantize(Decimal("1e-12"))  # the books count picodollars
    else:
        assert cost == (None, None)
