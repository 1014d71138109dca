"""Which stored prompt a text or a message was made of: a mark that goes with it from the template to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import BaseMessage

from aistrale.models import PromptReference

MARK = "aistrale_prompt"
"""Where messages have their mark among their `additional_kwargs`, which no provider is sent; so have templates in their
metadata what is known of the prompt."""

Mark: TypeAlias = list[dict[str, Any]]
"""A list, since LangChain joins those of messages that it merges, and would join the texts of a dict."""


class StoredText(str):
    """A text that was made of a stored prompt."""

    mark: Mark

    @classmethod
    def of(cls, text: str, mark: Mark) -> StoredText:
        marked = cls(text)
        marked.mark = mark
        return marked


def mark_of(about: Mapping[str, Any]) -> Mark:
    """The mark of what is made of the prompt of this name and version."""
    return [{"name": about["name"], "version": about["version"]}]


def reference_in(prompt: str | Sequence[BaseMessage]) -> PromptReference | None:
    """The stored prompt that a text or messages were made of, of several the last; None if they were made of none."""
    if isinstance(prompt, str):
        return _reference(prompt.mark) if isinstance(prompt, StoredText) else None
    found = (_reference(message.additional_kwargs.get(MARK)) for message in reversed(prompt))
    return next(filter(None, found), None)


def _reference(mark: Any) -> PromptReference | None:
    match mark:
        case [*_, {"name": str(name), "version": int(version)}]:
            return PromptReference(name, version=version)
    return None
