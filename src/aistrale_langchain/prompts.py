"""Stored prompts as LangChain's templates, and LangChain's templates in the store.

LangChain's own mustache would escape `<` and `&` in values, so a stored prompt becomes an f-string template with every
brace of its text doubled: what is rendered is what `aistrale.prompts.render` gives, byte for byte, for values that are
texts; others come out as Python's `str`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    ChatPromptTemplate,
    HumanMessagePromptTemplate,
    PromptTemplate,
    SystemMessagePromptTemplate,
)

from aistrale import prompts
from aistrale.exceptions import InvalidRequestError
from aistrale.store.store import open_store
from aistrale.templates import StoredPrompt, escape, pieces

_ROLES: Mapping[str, type[Any]] = {
    "system": SystemMessagePromptTemplate,
    "developer": SystemMessagePromptTemplate,
    "user": HumanMessagePromptTemplate,
    "assistant": AIMessagePromptTemplate,
}
_MESSAGES = {SystemMessage: "system", HumanMessage: "user", AIMessage: "assistant"}


def prompt_from_store(
    name: str, version: int | None = None, label: str | None = None
) -> PromptTemplate | ChatPromptTemplate:
    """A stored prompt as a template; its name and version are in the metadata, and on the spans of what it is used in.

    Which version: as `aistrale.prompts.get`. Raises StoreError if there is none, and InvalidRequestError for messages
    that LangChain has no template for.
    """
    stored = prompts.get(name, version, label)
    template = stored.template
    if isinstance(template, str):
        return PromptTemplate(
            template=_to_f_string(template), input_variables=list(stored.variables), metadata=_metadata(stored)
        )
    return ChatPromptTemplate([_message(message) for message in template], metadata=_metadata(stored))


def prompt_to_store(
    name: str, template: PromptTemplate | ChatPromptTemplate, *, labels: Sequence[str] = (), note: str | None = None
) -> StoredPrompt:
    """Write a LangChain template into the store, as the next version of the prompt of this name.

    Raises InvalidRequestError for what a stored prompt cannot hold: placeholders for messages, partial variables,
    formats such as `{x:>10}`, and templates that are no f-strings.
    """
    kept: Any
    if isinstance(template, PromptTemplate):
        kept = _from_prompt(template)
    else:
        kept = [_from_message(message) for message in template.messages]
    return open_store().prompts.save(name, kept, labels=labels, note=note)


def _metadata(stored: StoredPrompt) -> dict[str, Any]:
    return {"aistrale_prompt": {"name": stored.name, "version": stored.version}}


def _to_f_string(text: str) -> str:
    written = []
    for plain, variable in pieces(text):
        written.append(plain.replace("{", "{{").replace("}", "}}"))
        if variable is not None:
            written.append(f"{{{variable}}}")
    return "".join(written)


def _message(message: Mapping[str, Any]) -> Any:
    kind, content = _ROLES.get(message["role"]), message.get("content")
    if kind is None or not isinstance(content, str | list) or set(message) - {"role", "content"}:
        raise InvalidRequestError(f"LangChain has no template for a message such as {dict(message)!r}")
    if isinstance(content, str):
        return kind.from_template(_to_f_string(content))
    return kind.from_template([_in_f_strings(part) for part in content])


def _in_f_strings(value: Any) -> Any:
    if isinstance(value, str):
        return _to_f_string(value)
    if isinstance(value, Mapping):
        return {key: entry if key == "type" else _in_f_strings(entry) for key, entry in value.items()}
    return value


def _from_prompt(template: PromptTemplate) -> str:
    if template.template_format != "f-string" or template.partial_variables:
        raise InvalidRequestError("Only f-string templates without partial variables can be stored")
    return _from_f_string(template.template)


def _from_f_string(text: str) -> str:
    written = []
    for plain, variable, format, conversion in Formatter().parse(text):
        written.append(escape(plain))
        if variable is None:
            continue
        if format or conversion or not variable.isidentifier():
            raise InvalidRequestError(f"A stored prompt knows plain variables only, not {{{variable}}} with a format")
        written.append(f"{{{{{variable}}}}}")
    return "".join(written)


def _from_message(message: Any) -> dict[str, Any]:
    if isinstance(message, BaseMessage):
        role = _MESSAGES.get(type(message))
        if role is not None and isinstance(message.content, str):
            return {"role": role, "content": escape(message.content)}
    for role, kind in _ROLES.items():
        if isinstance(message, kind) and isinstance(message.prompt, PromptTemplate):
            return {"role": role, "content": _from_prompt(message.prompt)}
    raise InvalidRequestError(f"A {type(message).__name__} cannot be stored: texts of system, user and assistant can")
