"""Who is measured as a LangChain chat model: ours, and the one of OpenAI's partner package.

ChatAistrale is measured as it comes, its books kept. `traced` is it with our callback handler. `bare` is the floor: the
least that is a chat model, httpx or aiohttp and `json.loads` below LangChain's own classes.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from benchmarks.contenders import HEADERS, KEY, MODEL, PROMPT, AsyncCall, AsyncOpener, Call, Opener, Ready, httpx_run

Model = Callable[[str], Any]


def chat_openai(base_url: str) -> Any:
    from langchain_openai import ChatOpenAI

    options: Any = {"model": MODEL, "base_url": base_url, "api_key": KEY}
    return ChatOpenAI(**options)


def chat_aistrale(base_url: str) -> Any:
    from aistrale_langchain import ChatAistrale

    options: Any = {"model": MODEL, "provider": "openai", "base_url": base_url, "api_key": KEY}
    return ChatAistrale(**options)


def traced(base_url: str) -> Any:
    from aistrale_langchain import AistraleCallbackHandler

    return chat_aistrale(base_url).with_config(callbacks=[AistraleCallbackHandler()])


def bare(base_url: str) -> Any:
    import aiohttp
    import httpx
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

    url, sync = f"{base_url}/chat/completions", httpx.Client(headers=HEADERS)
    sessions: list[aiohttp.ClientSession] = []

    class Bare(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "bare"

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            return self._result(sync.post(url, json=self._body(messages)).json())

        async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            if not sessions:
                sessions.append(aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)))
            async with sessions[0].post(url, json=self._body(messages)) as response:
                return self._result(json.loads(await response.read()))

        def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            with sync.stream("POST", url, json=self._body(messages) | {"stream": True}) as response:
                for text in texts_in(response.iter_lines()):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=text))

        async def aclose(self) -> None:
            await sessions.pop().close()

        def _body(self, messages: Any) -> dict[str, Any]:
            return {"model": MODEL, "messages": [{"role": "user", "content": message.content} for message in messages]}

        def _result(self, body: Any) -> Any:
            text = body["choices"][0]["message"]["content"]
            return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])

    return Bare()


def texts_in(lines: Iterable[str]) -> Iterator[str]:
    """The pieces of text in an event stream."""
    for line in lines:
        if line.startswith("data: ") and line != "data: [DONE]":
            for choice in json.loads(line[6:])["choices"]:
                if text := choice["delta"].get("content"):
                    yield text


def invoking(of: Model) -> Opener:
    """Opens one whose call is `invoke`."""

    @contextmanager
    def run(base_url: str) -> Iterator[Ready[Call]]:
        model = of(base_url)
        yield Ready(lambda: len(model.invoke(PROMPT).content))

    return run


def streaming(of: Model) -> Opener:
    """Opens one whose call is `stream`."""

    @contextmanager
    def run(base_url: str) -> Iterator[Ready[Call]]:
        model = of(base_url)
        yield Ready(lambda: sum(len(chunk.content) for chunk in model.stream(PROMPT)))

    return run


def awaiting(of: Model) -> AsyncOpener:
    """Opens one whose call is `ainvoke`."""

    @asynccontextmanager
    async def run(base_url: str) -> AsyncIterator[Ready[AsyncCall]]:
        model = of(base_url)

        async def call() -> int:
            return len((await model.ainvoke(PROMPT)).content)

        yield Ready(call)
        if hasattr(model, "aclose"):
            await model.aclose()

    return run


def awaiting_chunks(of: Model) -> AsyncOpener:
    """Opens one whose call is `astream`."""

    @asynccontextmanager
    async def run(base_url: str) -> AsyncIterator[Ready[AsyncCall]]:
        model = of(base_url)

        async def call() -> int:
            return sum([len(chunk.content) async for chunk in model.astream(PROMPT)])

        yield Ready(call)

    return run


INVOKE: Mapping[str, Opener] = {
    "httpx": httpx_run,
    "bare": invoking(bare),
    "ChatOpenAI": invoking(chat_openai),
    "ChatAistrale": invoking(chat_aistrale),
}
CHUNKS: Mapping[str, Opener] = {
    "bare": streaming(bare),
    "ChatOpenAI": streaming(chat_openai),
    "ChatAistrale": streaming(chat_aistrale),
}
AINVOKE: Mapping[str, AsyncOpener] = {
    "bare": awaiting(bare),
    "ChatOpenAI": awaiting(chat_openai),
    "ChatAistrale": awaiting(chat_aistrale),
}
TOKENS: Mapping[str, AsyncOpener] = {"ChatAistrale": awaiting_chunks(chat_aistrale), "traced": awaiting_chunks(traced)}
