"""`AistraleEmbeddings`: the vectors of any provider's model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from langchain_core.embeddings import Embeddings
from pydantic import Field

from aistrale_langchain.errors import model_errors
from aistrale_langchain.model import Connection


class AistraleEmbeddings(Connection, Embeddings):
    """Vectors of texts.

    >>> AistraleEmbeddings(model="openai/text-embedding-3-small").embed_query("Hello")

    batch_size: how many texts are sent in one request at most, by default as many as the provider takes; fewer where
    it takes no more tokens. dimensions: the length of the vectors, where the model can.
    """

    batch_size: int | None = Field(default=None, ge=1)
    dimensions: int | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts, in their order. Raises errors that are Aistrale's and LangChain's."""
        vectors: list[list[float]] = []
        with model_errors:
            for batch in self._batches(texts):
                vectors += self.client.embed(batch, model=self.model, dimensions=self.dimensions)
        return vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` for async code."""
        vectors: list[list[float]] = []
        with model_errors:
            # Many texts take a while to be measured, and which provider has a key is in the books.
            batches = self._batches(texts) if len(texts) < 2 else await asyncio.to_thread(self._batches, texts)
            for batch in batches:
                vectors += await self.async_client.embed(batch, model=self.model, dimensions=self.dimensions)
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` for async code."""
        return (await self.aembed_documents([text]))[0]

    def _batches(self, texts: list[str]) -> list[Sequence[str]]:
        return self.client.core.gateway.embedding_batches(texts, self.model, at_most=self.batch_size)
