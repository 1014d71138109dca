"""Stored prompts as LangChain's templates, and LangChain's templates in the store.

LangChain's own mustache would escape `<` and `&` in values, so a stored prompt becomes an f-string template with every
brace of its text doubled: what is rendered is what `aistrale.prompts.render` gives, byte for byte, for values that are
texts; others come out as Python's `str`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    ChatPromptTemplate,
    HumanMessagePromptTemplate,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.prompts.dict import DictPromptTemplate
from langchain_core.prompts.message import BaseMessagePromptTemplate

from aistrale import prompts
from aistrale.exceptions import InvalidRequestError
from aistrale.gateway.prompts import with_stored_prompt
from aistrale.models import JSON, CompletionRequest, Message, PromptReference
from aistrale.templates import StoredPrompt
from aistrale_langchain.answers import calls_as_fields
from aistrale_langchain.stored import MARK, Mark, mark_of
from aistrale_langchain.storing import VARIABLE, as_stored, between_nuls, changed
from aistrale_langchain.templates import StoredMessagePromptTemplate, StoredPromptTemplate


def prompt_from_store(
    name: str, version: int | None = None, label: str | None = None
) -> PromptTemplate | ChatPromptTemplate:
    """A stored prompt as a template; calls that are made of it have its name and version on their spans.

    `metadata["aistrale_prompt"]` holds both, and the prompt's options, which a template cannot apply: bind them to
    the model, `model.bind(**options)`. Which version: as `aistrale.prompts.get`. Raises StoreError if there is none,
    and InvalidRequestError for what LangChain has no template for, and for options that no call takes.
    """
    stored = prompts.get(name, version, label)
    _check(stored)
    rendered = stored.render({variable: between_nuls(variable) for variable in stored.variables})
    about = {"name": stored.name, "version": stored.version, "options": stored.options}
    if isinstance(rendered, str):
        return StoredPromptTemplate.from_template(_f_string(rendered), metadata={MARK: about})
    mark = mark_of(about)
    return ChatPromptTemplate([_message_template(message, mark) for message in rendered], metadata={MARK: about})


def prompt_to_store(
    name: str,
    template: PromptTemplate | ChatPromptTemplate,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    note: str | None = None,
) -> StoredPrompt:
    """Write a LangChain template into the store, as the next version of the prompt of this name.

    It may be written as f-strings, or as mustache without sections, whose escaping of `<` and `&` in values is not
    kept. options: what to pass to `run` with it; if None, what the template came from the store with, else as in the
    newest version. Raises InvalidRequestError for what a stored prompt cannot hold: placeholders for messages, partial
    variables, formats such as `{x:>10}`, few-shot templates, and whatever else would be lost.
    """
    kept = as_stored(template)
    if options is None:
        options = (template.metadata or {}).get(MARK, {}).get("options") or None
    return prompts.save(name, kept, options=options, labels=labels, note=note)


def _check(stored: StoredPrompt) -> None:
    """Raise InvalidRequestError for options that no call takes, and variables that LangChain cannot be given."""
    reference = PromptReference(stored.name, version=stored.version, stored=stored)
    with_stored_prompt(CompletionRequest(messages=(Message("user", "check"),), prompt=reference))
    if taken := {"self", "stop"}.intersection(stored.variables):
        raise InvalidRequestError(
            f"LangChain knows no variables named {' or '.join(sorted(taken))}: "
            f"rename those of prompt {stored.name!r}, version {stored.version}"
        )


def _f_string(text: str) -> str:
    return VARIABLE.sub(r"{\1}", text.replace("{", "{{").replace("}", "}}"))


_TEMPLATES: Mapping[str, type[Any]] = {
    "system": SystemMessagePromptTemplate,
    "developer": SystemMessagePromptTemplate,
    "user": HumanMessagePromptTemplate,
    "assistant": AIMessagePromptTemplate,
}
_DEVELOPER = {"__openai_role__": "developer"}
_FIELDS = {"assistant": {"tool_calls"}, "tool": {"tool_call_id", "is_error"}}
"""What a message of a role may have besides content and name."""


def _message_template(message: Message, mark: Mark) -> BaseMessagePromptTemplate:
    fields = {name for name, value in message.to_dict(complete=True).items() if value is not None}
    lost = fields - {"role", "content", "name"} - _FIELDS.get(message.role, set())
    if any(call.extra or call.type == "custom" for call in message.tool_calls):
        lost.add("tool_calls that are more than those of functions")
    if lost or (message.content is None and message.role != "assistant"):
        wrong = f"with {', '.join(sorted(lost))}" if lost else "without content"
        raise InvalidRequestError(
            f"LangChain has no message of role {message.role!r} {wrong}: change the prompt, or give it to aistrale.run"
        )
    content = _content_template(message.content or "")
    more = {**(_DEVELOPER if message.role == "developer" else {}), MARK: mark}
    if fields <= {"role", "content"} and message.role in _TEMPLATES:
        template: BaseMessagePromptTemplate = _TEMPLATES[message.role](prompt=content, additional_kwargs=more)
        return template
    return StoredMessagePromptTemplate(
        message=_without_content(message, more), content=HumanMessagePromptTemplate(prompt=content)
    )


def _content_template(content: str | list[JSON]) -> Any:
    if isinstance(content, str):
        return PromptTemplate.from_template(_f_string(content))
    # As dicts all of them: LangChain's templates of texts and images leave out what is empty, or unknown to them.
    parts = [changed(part, lambda text, _: _f_string(text)) for part in content]
    return [DictPromptTemplate(template=part, template_format="f-string") for part in parts]


def _without_content(message: Message, more: JSON) -> BaseMessage:
    known: JSON = {"content": "", "name": message.name, "additional_kwargs": more}
    match message.role:
        case "user":
            return HumanMessage(**known)
        case "assistant":
            calls, invalid = calls_as_fields(message.tool_calls)
            return AIMessage(**known, tool_calls=calls, invalid_tool_calls=invalid)
        case "tool":
            status = "error" if message.extra.get("is_error") else "success"
            return ToolMessage(**known, tool_call_id=message.tool_call_id or "", status=status)
        case "function":
            return FunctionMessage(**{**known, "name": message.name or ""})
    return SystemMessage(**known)
