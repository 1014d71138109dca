"""LlamaIndex models, embeddings and a tracer over the Aistrale contract.

>>> from aistrale_llamaindex import AistraleLLM
>>> index.as_query_engine(llm=AistraleLLM(model="openai/gpt-4o"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aistrale_llamaindex.callbacks import AistraleCallbackHandler as AistraleCallbackHandler
    from aistrale_llamaindex.embedding import AistraleEmbedding as AistraleEmbedding
    from aistrale_llamaindex.llm import AistraleLLM as AistraleLLM
    from aistrale_llamaindex.prompts import prompt_from_store as prompt_from_store
    from aistrale_llamaindex.prompts import prompt_to_store as prompt_to_store
    from aistrale_llamaindex.tracing import instrument as instrument
    from aistrale_llamaindex.tracing import uninstrument as uninstrument

_HOMES = {
    "AistraleCallbackHandler": "callbacks",
    "AistraleEmbedding": "embedding",
    "AistraleLLM": "llm",
    "instrument": "tracing",
    "prompt_from_store": "prompts",
    "prompt_to_store": "prompts",
    "uninstrument": "tracing",
}

__all__ = [
    "AistraleCallbackHandler",
    "AistraleEmbedding",
    "AistraleLLM",
    "instrument",
    "prompt_from_store",
    "prompt_to_store",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"aistrale_llamaindex.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
