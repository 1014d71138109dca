"""Texts to embed, in as many requests as their provider wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from aistrale.exceptions import InvalidRequestError
from aistrale.gateway.route import REMOTE
from aistrale.providers import Profile, Route, find_profile


def embedding_batches(
    texts: Sequence[str], route: Callable[[], Route], at_most: int | None = None
) -> list[Sequence[str]]:
    """The texts as they are sent, in their order: in each batch as many as the route's provider takes, of texts and of
    tokens, or `at_most`. Raises InvalidRequestError if one is empty.
    """
    for position, text in enumerate(texts):
        if not text:
            raise InvalidRequestError(f"Text {position} of {len(texts)} is empty: leave out what says nothing")
    if len(texts) < 2:
        return [texts] if texts else []
    profile = _profile(route())
    return list(_split(texts, at_most or profile.embedding_inputs, profile.embedding_tokens))


def _profile(route: Route) -> Profile:
    """Of the provider that embeds; a server passes them on to the one that its model is named after."""
    if route.provider != REMOTE:
        return route.profile
    return find_profile(route.model.partition("/")[0]) or route.profile


def _split(texts: Sequence[str], inputs: int, tokens: int | None) -> Iterator[Sequence[str]]:
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
