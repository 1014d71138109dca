"""`AistraleEmbeddings`: the vectors of any provider's model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from langchain_core.embeddings import Embeddings
from pydantic import Field

from aistrale.exceptions import InvalidRequestError
from aistrale.gateway.route import REMOTE
from aistrale.providers import Profile, find_profile
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
        with model_errors():
            for batch in self._batches(texts):
                vectors += self.client.embed(batch, model=self.model, dimensions=self.dimensions)
        return vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` for async code."""
        vectors: list[list[float]] = []
        with model_errors():
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

    def _batches(self, texts: list[str]) -> list[list[str]]:
        """The texts, as they are sent. Raises InvalidRequestError before anything is if one is empty."""
        for position, text in enumerate(texts):
            if not text:
                raise InvalidRequestError(f"Text {position} of {len(texts)} is empty: leave out what says nothing")
        if len(texts) < 2:
            return [texts] if texts else []
        profile = self._profile()
        return list(_split(texts, self.batch_size or profile.embedding_inputs, profile.embedding_tokens))

    def _profile(self) -> Profile:
        """Of the provider that embeds; a server passes them on to the one that its model is named after."""
        route = self.client.core.gateway.route()
        if route.provider != REMOTE:
            return route.profile
        return find_profile(route.model.partition("/")[0]) or route.profile


def _split(texts: list[str], inputs: int, tokens: int | None) -> Iterator[list[str]]:
    """Batches of so many texts and tokens at most, each as large as may be."""
    batch: list[str] = []
    left = tokens or 0
    for text in texts:
        size = len(text.encode(errors="replace")) if tokens else 0  # a token is a byte at least
        if batch and (len(batch) == inputs or size > left):
            yield batch
            batch, left = [], tokens or 0
        batch.append(text)
        left -= size
    yield batch
