"""Who is measured as a LangChain chat model: ours, and the one of OpenAI's partner package.

ChatAistrale is measured as it comes, its books kept. `traced` is it with our callback handler. `bare` is the floor: the
least that is a chat model, httpx or aiohttp and `json.loads` below LangChain's own classes.
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.contenders import HEADERS, KEY, MODEL, PROMPT, AsyncOpener, Opener, httpx_run
from benchmarks.frameworks import Model, awaiting, calling, texts_in


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


def _invoke(model: Any) -> int:
    return len(model.invoke(PROMPT).content)


async def _ainvoke(model: Any) -> int:
    return len((await model.ainvoke(PROMPT)).content)


def _stream(model: Any) -> int:
    return sum(len(chunk.content) for chunk in model.stream(PROMPT))


async def _astream(model: Any) -> int:
    return sum([len(chunk.content) async for chunk in model.astream(PROMPT)])


_MODELS: Mapping[str, Model] = {"bare": bare, "ChatOpenAI": chat_openai, "ChatAistrale": chat_aistrale}
INVOKE: Mapping[str, Opener] = {"httpx": httpx_run} | {name: calling(of, _invoke) for name, of in _MODELS.items()}
CHUNKS: Mapping[str, Opener] = {name: calling(of, _stream) for name, of in _MODELS.items()}
AINVOKE: Mapping[str, AsyncOpener] = {name: awaiting(of, _ainvoke) for name, of in _MODELS.items()}
TOKENS: Mapping[str, AsyncOpener] = {
    name: awaiting(of, _astream) for name, of in {"ChatAistrale": chat_aistrale, "traced": traced}.items()
}
