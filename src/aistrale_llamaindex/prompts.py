"""Stored prompts as LlamaIndex's templates, and LlamaIndex's templates in the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from typing import Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt as as_prompt
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate

from aistrale import prompts
from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON, Message, PromptReference
from aistrale.templates import StoredPrompt
from aistrale_llamaindex.messages import messages_of, role_and_content

MARK = "aistrale_prompt"
"""Where messages say which stored prompt they were made of, among their `additional_kwargs`, which nobody is sent."""


class StoredPromptTemplate(BasePromptTemplate):
    """A stored prompt wherever LlamaIndex takes a template: what is rendered is what `aistrale.prompts.render` gives.

    Variables that it does not have are passed over, for query engines offer what they know. Raises InvalidRequestError
    for those that are missing.
    """

    stored: StoredPrompt

    def __init__(self, stored: StoredPrompt, **fields: Any) -> None:
        about = {"prompt_type": "custom", MARK: {"name": stored.name, "version": stored.version}}
        known = {"metadata": about, "kwargs": {}, "output_parser": None, "template_vars": list(stored.variables)}
        super().__init__(**{**known, **fields, "stored": stored})

    def partial_format(self, **kwargs: Any) -> StoredPromptTemplate:
        partial = copy(self)
        partial.kwargs = {**self.kwargs, **kwargs}
        return partial

    def format(
        self,
        llm: Any = None,
        messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None = None,
        completion_to_prompt: Callable[[str], str] | None = None,
        **kwargs: Any,
    ) -> str:
        rendered = self._rendered(kwargs)
        if isinstance(rendered, str):
            text = rendered if completion_to_prompt is None else completion_to_prompt(rendered)
        else:
            text = (messages_to_prompt or as_prompt)(self._messages(rendered))
        return text if self.output_parser is None else self.output_parser.format(text)

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        rendered = self._rendered(kwargs)
        told = [Message("user", rendered)] if isinstance(rendered, str) else rendered
        messages = self._messages(told)
        return messages if self.output_parser is None else self.output_parser.format_messages(messages)

    def get_template(self, llm: Any = None) -> str:
        template = self.stored.template
        return template if isinstance(template, str) else as_prompt(self._messages(Message.list_of(template)))

    def _rendered(self, kwargs: Mapping[str, Any]) -> str | list[Message]:
        every = self._map_all_vars({**self.kwargs, **kwargs})
        return self.stored.render({name: every[name] for name in self.stored.variables if name in every})

    def _messages(self, messages: Sequence[Message]) -> list[ChatMessage]:
        found = [role_and_content(message) for message in messages]
        for message in found:
            message.additional_kwargs[MARK] = self.metadata[MARK]
        return found


def prompt_from_store(name: str, version: int | None = None, label: str | None = None) -> StoredPromptTemplate:
    """A stored prompt as a template; chats that are made of it have its name and version on their spans.

    Which version: as `aistrale.prompts.get`. Raises StoreError if there is none.
    """
    return StoredPromptTemplate(prompts.get(name, version, label))


def prompt_to_store(
    name: str,
    template: BasePromptTemplate,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    note: str | None = None,
) -> StoredPrompt:
    """Write a LlamaIndex template into the store, as the next version of the prompt of this name.

    options: what to pass to `aistrale.run` with it; if None, as in the newest version. Raises InvalidRequestError for
    what a stored prompt cannot hold: partial variables, mappings, functions, output parsers, templates that choose
    others, and texts whose braces would come out differently.
    """
    kept = _kept(template)
    if _differs(template, kept):
        raise InvalidRequestError(f"Braces in the template of {name!r} would come out differently: leave them out")
    return prompts.save(name, kept, options=options, labels=labels, note=note)


def reference_in(messages: Sequence[ChatMessage]) -> PromptReference | None:
    """The stored prompt that messages were made of, of several the last; None if they were made of none."""
    for message in reversed(messages):
        match message.additional_kwargs.get(MARK):
            case {"name": str(name), "version": int(version)}:
                return PromptReference(name, version=version)
    return None


_VARIABLE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")


def _kept(template: BasePromptTemplate) -> str | list[JSON]:
    if isinstance(template, StoredPromptTemplate) and not template.kwargs:
        return template.stored.template
    lost = [
        word
        for word, given in (
            ("partial variables", template.kwargs),
            ("template_var_mappings", template.template_var_mappings),
            ("function_mappings", template.function_mappings),
            ("an output parser", template.output_parser),
        )
        if given
    ]
    if lost or type(template) not in (PromptTemplate, ChatPromptTemplate):
        what = " and ".join(lost) or f"a {type(template).__name__}"
        raise InvalidRequestError(f"A stored prompt cannot hold {what}")
    if isinstance(template, PromptTemplate):
        return _VARIABLE.sub(r"{{\1}}", template.template)
    assert isinstance(template, ChatPromptTemplate)
    return [_changed(message.to_dict()) for message in messages_of(template.message_templates)]


def _changed(value: Any) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(r"{{\1}}", value)
        case list():
            return [_changed(entry) for entry in value]
        case dict():
            return {key: _changed(entry) if key in ("content", "text") else entry for key, entry in value.items()}
    return value


def _differs(template: BasePromptTemplate, kept: Any) -> bool:
    """Whether what is kept renders otherwise than the template, for values that stand nowhere else."""
    if isinstance(template, StoredPromptTemplate):
        return False
    stored = StoredPrompt("check", 1, kept, {}, None, (), datetime.now(UTC))
    values: dict[str, Any] = {variable: f"\x01{variable}\x01" for variable in template.template_vars}
    if set(stored.variables) != set(values):
        return True
    rendered = stored.render(values)
    if isinstance(rendered, str):
        return rendered != template.format(**values)
    return rendered != messages_of(template.format_messages(**values))
