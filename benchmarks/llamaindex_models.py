"""Who is measured as a LlamaIndex model: ours, and OpenAI's of LlamaIndex's own integrations.

AistraleLLM is measured as it comes, its books kept. `bare` is the floor: the least that is a model, httpx or aiohttp
and `json.loads` below LlamaIndex's own classes.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.contenders import HEADERS, KEY, MODEL, PROMPT, AsyncOpener, Opener, httpx_run
from benchmarks.frameworks import Model, awaiting, calling, texts_in


def openai(base_url: str) -> Any:
    from llama_index.llms.openai import OpenAI

    return OpenAI(model="gpt-4o-mini", api_base=base_url, api_key=KEY)  # it takes no names but those it knows


def aistrale(base_url: str) -> Any:
    from aistrale_llamaindex import AistraleLLM

    return AistraleLLM(model=MODEL, provider="openai", base_url=base_url, api_key=KEY)


def bare(base_url: str) -> Any:
    import aiohttp
    import httpx
    from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
    from llama_index.core.llms.callbacks import llm_completion_callback
    from llama_index.core.llms.custom import CustomLLM

    url, sync = f"{base_url}/chat/completions", httpx.Client(headers=HEADERS)
    sessions: list[aiohttp.ClientSession] = []

    def body(prompt: str, **more: Any) -> dict[str, Any]:
        return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **more}

    def text_of(answer: Any) -> str:
        return str(answer["choices"][0]["message"]["content"])

    class Bare(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name=MODEL)

        @llm_completion_callback()
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            return CompletionResponse(text=text_of(sync.post(url, json=body(prompt)).json()))

        @llm_completion_callback()
        async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            if not sessions:
                sessions.append(aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)))
            async with sessions[0].post(url, json=body(prompt)) as response:
                return CompletionResponse(text=text_of(json.loads(await response.read())))

        @llm_completion_callback()
        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            def gen() -> Iterator[CompletionResponse]:
                whole = ""
                with sync.stream("POST", url, json=body(prompt, stream=True)) as response:
                    for text in texts_in(response.iter_lines()):
                        whole += text
                        yield CompletionResponse(text=whole, delta=text)

            return gen()

        async def aclose(self) -> None:
            await sessions.pop().close()

    return Bare()


def _complete(model: Any) -> int:
    return len(model.complete(PROMPT).text)


async def _acomplete(model: Any) -> int:
    return len((await model.acomplete(PROMPT)).text)


def _stream_complete(model: Any) -> int:
    return sum(len(response.delta or "") for response in model.stream_complete(PROMPT))


_MODELS: Mapping[str, Model] = {"bare": bare, "OpenAI": openai, "AistraleLLM": aistrale}
COMPLETE: Mapping[str, Opener] = {"httpx": httpx_run} | {name: calling(of, _complete) for name, of in _MODELS.items()}
STREAM_COMPLETE: Mapping[str, Opener] = {name: calling(of, _stream_complete) for name, of in _MODELS.items()}
ACOMPLETE: Mapping[str, AsyncOpener] = {name: awaiting(of, _acomplete) for name, of in _MODELS.items()}
