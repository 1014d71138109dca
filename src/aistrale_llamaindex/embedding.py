"""`AistraleEmbedding`: the vectors of any provider's model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, model_validator

from aistrale_llamaindex.connection import Connection
from aistrale_llamaindex.surface import SURFACE

_UNNAMED = "unknown"
"""What LlamaIndex says of a model without a name."""


def _named(name: Any) -> Any:
    return None if name == _UNNAMED else name


class AistraleEmbedding(Connection, BaseEmbedding):
    """Vectors of texts.

    >>> AistraleEmbedding(model="openai/text-embedding-3-small").get_query_embedding("Hello")

    embed_batch_size: how many texts LlamaIndex hands over at once; a request has no more of them, nor more tokens, than
    the provider takes. dimensions: the length of the vectors, where the model can.
    """

    embed_batch_size: int = Field(default=2048, gt=0, le=2048)
    dimensions: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_twice(cls, given: Any) -> Any:
        """LlamaIndex calls the model `model_name`."""
        if not isinstance(given, dict):
            return given
        name = given.get("model") or _named(given.get("model_name"))
        return {**given, "model": name, "model_name": name or _UNNAMED}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "model":
            super().__setattr__("model_name", value or _UNNAMED)
        elif name == "model_name":
            super().__setattr__("model", _named(value))

    @classmethod
    def class_name(cls) -> str:
        return "AistraleEmbedding"

    def to_payload(self) -> dict[str, Any]:
        """What handlers are told of the model, as of `AistraleLLM`."""
        return {**super().to_payload(), "surface": SURFACE}

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for batch in self._batches(texts):
            vectors += self.client.embed(batch, model=self.model, dimensions=self.dimensions)
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        # Many texts take a while to be measured, and which provider has a key is in the books.
        for batch in self._batches(texts) if len(texts) < 2 else await asyncio.to_thread(self._batches, texts):
            vectors += await self.async_client.embed(batch, model=self.model, dimensions=self.dimensions)
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._aget_text_embeddings([query]))[0]

    def _batches(self, texts: list[str]) -> list[Sequence[str]]:
        return self.client.core.gateway.embedding_batches(texts, self.model)
