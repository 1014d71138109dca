"""What the store keeps of LangChain's templates.

A template is checked, rendered once by LangChain with the names of its variables between two NULs, which no stored
prompt may hold, and read as ChatAistrale reads messages: what is stored is what would be sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from string import Formatter
from typing import Any, TypeAlias

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    HumanMessagePromptTemplate,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.prompts.dict import DictPromptTemplate
from langchain_core.prompts.image import ImagePromptTemplate
from langchain_core.utils.mustache import tokenize

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON
from aistrale.templates import Template, escape
from aistrale_langchain.messages import messages_of
from aistrale_langchain.parts import content_of
from aistrale_langchain.stored import MARK
from aistrale_langchain.templates import StoredMessagePromptTemplate, StoredPromptTemplate

Path: TypeAlias = tuple[str | None, ...]
Change: TypeAlias = Callable[[str, Path], str]
"""What becomes of a text that stands there in a content part."""

VARIABLE = re.compile("\0([^\0]+)\0")


def between_nuls(variable: str) -> str:
    """What stands for a variable in what is rendered once, to see where it comes."""
    return f"\0{variable}\0"


def changed(value: Any, change: Change, path: Path = ()) -> Any:
    """A copy of a content part with `change` made to each text in which LangChain looks for variables."""
    if isinstance(value, str):
        return change(value, path)
    if isinstance(value, Mapping):
        return {name: changed(entry, change, (*path, name)) for name, entry in value.items()}
    if isinstance(value, list | tuple):  # in lists of lists it looks for none
        return [changed(entry, change, (*path, None)) if isinstance(entry, str | Mapping) else entry for entry in value]
    return value


def as_stored(template: Any) -> Template:
    """A template of LangChain's as the store keeps it. Raises InvalidRequestError if any of it would be lost."""
    if not isinstance(template, PromptTemplate):
        return [*_messages(template)]
    _check_content(template)
    return _filled_in(_rendered(template, template.format))


_MESSAGES = (HumanMessage, SystemMessage, AIMessage, ToolMessage, FunctionMessage, ChatMessage)
_MESSAGE_TEMPLATES = (
    *(HumanMessagePromptTemplate, SystemMessagePromptTemplate, AIMessagePromptTemplate),
    *(ChatMessagePromptTemplate, StoredMessagePromptTemplate),
)
_CONTENT_TEMPLATES = (PromptTemplate, StoredPromptTemplate, ImagePromptTemplate, DictPromptTemplate)


def _messages(template: Any) -> Iterator[JSON]:
    """The messages of a chat, and of chats within it."""
    if type(template) is not ChatPromptTemplate:
        raise _refused(template, "a PromptTemplate can, and a ChatPromptTemplate of messages and templates of messages")
    messages: list[Any] = template.messages
    for message in messages:
        if isinstance(message, _MESSAGES):
            yield from (_kept(sent, escape, lambda text, _: text) for sent in _sent(message))
        elif type(message) in _MESSAGE_TEMPLATES:
            _check_content(message.content.prompt if type(message) is StoredMessagePromptTemplate else message.prompt)
            (rendered,) = _rendered(message, message.format_messages)
            yield from (_kept(sent, _filled_in, _without_variables) for sent in _sent(rendered))
        else:
            yield from _messages(message)
    _check_alone(template)


def _rendered(template: Any, render: Callable[..., Any]) -> Any:
    try:
        return render(**{variable: between_nuls(variable) for variable in template.input_variables})
    except (TypeError, ValueError) as error:
        raise _refused(template, f"LangChain does not render it itself: {error}") from error


def _refused(what: Any, instead: str) -> InvalidRequestError:
    return InvalidRequestError(f"A {type(what).__name__} cannot be stored: {instead}")


# What is checked before


def _check_content(content: Any) -> None:
    """Raise InvalidRequestError unless all that is done with variables is to put values where they stand."""
    for template in content if isinstance(content, list) else [content]:
        if type(template) not in _CONTENT_TEMPLATES:
            raise _refused(template, "a PromptTemplate can, and templates of content parts")
        _check_alone(template)
        changed(template.template, partial(_check_text, template.template_format))


def _check_text(format: str, text: str, _: Path) -> str:
    if "\0" in text:
        raise InvalidRequestError("There is a NUL character in the template, which not every database can keep")
    if odd := next(_beyond_variables(format, text), None):
        raise InvalidRequestError(
            f"A stored prompt has plain variables, and not {odd}: work the value out before, and pass it as a variable"
        )
    return text


def _beyond_variables(format: str, text: str) -> Iterator[str]:
    """What there is in a template besides plain text and plain variables."""
    if format == "f-string":
        for _, name, form, conversion in Formatter().parse(text):
            if name is not None and (form or conversion or not name.isidentifier()):
                yield f"{{{name}}} with a format" if form or conversion else f"{{{name}}}"
    elif format == "mustache":
        if "{{!" in text:
            yield "a comment"
        for kind, name in tokenize(text):
            if kind not in ("literal", "variable", "no escape") or (kind != "literal" and not name.isidentifier()):
                yield f"the {kind} {name!r}"
    else:
        yield format


_INSTEAD = {"partial_variables": "write their values into the text, or pass them when it is rendered"}


def _check_alone(template: Any) -> None:
    """Raise InvalidRequestError for what a template has besides its text."""
    for name in ("partial_variables", "output_parser", "tags", "metadata", "name"):
        value = getattr(template, name, None)
        if value and not (name == "metadata" and value.keys() == {MARK}):
            instead = _INSTEAD.get(name, f"store template.model_copy(update={{{name!r}: None}})")
            raise InvalidRequestError(
                f"A stored prompt has no {name}, as this {type(template).__name__} has: {instead}"
            )


# What becomes of messages

_READ: Mapping[type[BaseMessage], frozenset[str]] = {
    SystemMessage: frozenset(("__openai_role__",)),
    AIMessage: frozenset(("aistrale", "refusal", "reasoning_content", "tool_calls")),
}
"""Which of their `additional_kwargs` messages are sent with."""

_OF_BLOCKS = frozenset(("type", "text", "id", "index", "annotations", "extras", "metadata"))
"""What LangChain has in a text block: it is sent, or says nothing to the model."""


def _sent(message: BaseMessage) -> list[JSON]:
    """A message as ChatAistrale sends it. Raises InvalidRequestError for what it does not send."""
    read = next((names for kind, names in _READ.items() if isinstance(message, kind)), frozenset())
    if lost := message.additional_kwargs.keys() - read - {MARK}:
        raise _refused(message, f"no provider is sent its additional_kwargs {', '.join(sorted(lost))}: leave them out")
    sent = messages_of([message])
    is_told_elsewhere = any(one.tool_calls or one.reasoning_blocks for one in sent)
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict):
            _check_block(block, is_told_elsewhere)
    return [one.to_dict(complete=True) for one in sent]


def _check_block(block: JSON, is_told_elsewhere: bool) -> None:
    part = next(iter(content_of(HumanMessage([block]))), None)
    if part is None and not is_told_elsewhere:
        raise InvalidRequestError(f"A content part of type {block['type']!r} is sent to no provider: leave it out")
    if block["type"] == "text" and (lost := block.keys() - _OF_BLOCKS - {*(part or ())}):
        raise InvalidRequestError(f"No provider is sent the {', '.join(sorted(lost))} of a text part: leave it out")


_FILLED = frozenset((("text",), ("image_url",), ("image_url", "url")))
"""Where in a part of the type that comes first variables of a stored prompt may stand."""


def _kept(message: JSON, fill: Callable[[str], str], keep: Change) -> JSON:
    """A message with `fill` done to its texts where variables of a stored prompt may stand, and `keep` elsewhere."""

    def kept(part: JSON) -> Any:
        filled = [path for path in _FILLED if path[0] == part["type"]]
        return changed(part, lambda text, path: fill(text) if path in filled else keep(text, path))

    content = message.get("content")
    if content is None:
        return message
    return {**message, "content": fill(content) if isinstance(content, str) else [kept(part) for part in content]}


def _filled_in(text: str) -> str:
    """The store's template of a text with variables between NULs."""
    pieces = VARIABLE.split(text)
    return "".join(f"{{{{{piece}}}}}" if at % 2 else escape(piece) for at, piece in enumerate(pieces))


def _without_variables(text: str, path: Path) -> str:
    if found := VARIABLE.search(text):
        field = next(filter(None, reversed(path)))
        raise InvalidRequestError(
            f"The variable {found[1]!r} stands in {field!r} of a content part, where a stored prompt fills in none: "
            "they may stand in the text of messages and of text parts, and in the URLs of image parts"
        )
    return text
