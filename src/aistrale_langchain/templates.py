"""Templates that LangChain lacks: of a text that knows which stored prompt it is made of, of messages with fields."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.prompts import HumanMessagePromptTemplate, PromptTemplate
from langchain_core.prompts.message import BaseMessagePromptTemplate

from aistrale_langchain.serialization import register
from aistrale_langchain.stored import MARK, StoredText, mark_of


class StoredPromptValue(StringPromptValue):
    """A text, and the mark of the stored prompt that it was made of."""

    mark: list[dict[str, Any]]

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        return cls.__module__.split(".")

    def to_string(self) -> str:
        return StoredText.of(self.text, self.mark)

    def to_messages(self) -> list[BaseMessage]:
        return [HumanMessage(self.text, additional_kwargs={MARK: self.mark})]


class StoredPromptTemplate(PromptTemplate):
    """A text template that came from the store, or that one from there is a part of: `metadata` says which."""

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        return cls.__module__.split(".")

    def format_prompt(self, **kwargs: Any) -> PromptValue:
        return StoredPromptValue(text=self.format(**kwargs), mark=mark_of((self.metadata or {})[MARK]))

    async def aformat_prompt(self, **kwargs: Any) -> PromptValue:
        return self.format_prompt(**kwargs)

    def __add__(self, other: Any) -> PromptTemplate:
        return self._as_part(super().__add__(other))

    def __radd__(self, other: Any) -> PromptTemplate:
        return (
            self._as_part(PromptTemplate.__add__(other, self)) if isinstance(other, PromptTemplate) else NotImplemented
        )

    def _as_part(self, whole: PromptTemplate) -> PromptTemplate:
        return StoredPromptTemplate(**{**dict(whole), "metadata": self.metadata})


class StoredMessagePromptTemplate(BaseMessagePromptTemplate):
    """A message with a name, calls of tools or an answer of one, whose content is a template."""

    message: BaseMessage
    content: HumanMessagePromptTemplate

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        return cls.__module__.split(".")

    @property
    def input_variables(self) -> list[str]:
        return self.content.input_variables

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        content = self.content.format(**kwargs).content
        return [self.message.model_copy(update={"content": content}, deep=True)]

    def pretty_repr(self, html: bool = False) -> str:
        (message,) = self.format_messages(**{variable: f"{{{variable}}}" for variable in self.input_variables})
        return message.pretty_repr(html)


register(StoredPromptValue)
register(StoredPromptTemplate)
register(StoredMessagePromptTemplate)
