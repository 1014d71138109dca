"""LangChain models, embeddings and a tracer over the Aistrale contract.

>>> from aistrale_langchain import ChatAistrale
>>> ChatAistrale(model="openai/gpt-4o").invoke("Hello, world!")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aistrale_langchain.callbacks import AistraleCallbackHandler as AistraleCallbackHandler
    from aistrale_langchain.callbacks import instrument as instrument
    from aistrale_langchain.callbacks import uninstrument as uninstrument
    from aistrale_langchain.chat import ChatAistrale as ChatAistrale
    from aistrale_langchain.embeddings import AistraleEmbeddings as AistraleEmbeddings
    from aistrale_langchain.llm import AistraleLLM as AistraleLLM
    from aistrale_langchain.prompts import prompt_from_store as prompt_from_store
    from aistrale_langchain.prompts import prompt_to_store as prompt_to_store

_HOMES = {
    "AistraleCallbackHandler": "callbacks",
    "AistraleEmbeddings": "embeddings",
    "AistraleLLM": "llm",
    "ChatAistrale": "chat",
    "instrument": "callbacks",
    "prompt_from_store": "prompts",
    "prompt_to_store": "prompts",
    "uninstrument": "callbacks",
}

__all__ = [
    "AistraleCallbackHandler",
    "AistraleEmbeddings",
    "AistraleLLM",
    "ChatAistrale",
    "instrument",
    "prompt_from_store",
    "prompt_to_store",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"aistrale_langchain.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
