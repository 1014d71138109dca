"""Prompts as they are stored: what one may hold, and how its variables are filled in. No I/O.

`{{name}}` stands for the variable `name`, a Python identifier; blanks inside the braces do not matter.
`{{!name}}` is the escape: it comes out as `{{name}}` (and `{{!!name}}` as `{{!name}}`). Nothing else is
special: other braces, JSON, backslashes and `$` come out byte for byte as they went in, and a value that
was filled in is not looked at again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON, Message, listed

MAX_BYTES = 1024 * 1024
"""How long a template may be in UTF-8 (of a chat: its JSON), and the options and the note of one."""

MAX_NAME = 200
"""How many characters the name of a prompt or of a label may have."""

LATEST = "latest"
"""The label that is always on the newest version."""

PRODUCTION = "production"
"""The label whose version is meant where none is named."""

Template: TypeAlias = str | list[JSON]
"""A text, or the messages of a chat in OpenAI's shape."""

Rendered: TypeAlias = str | list[Message]
"""A text, or the messages of a chat: what `run` takes."""


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """One version of a prompt.

    template: a text, or the messages of a chat: `[{"role": "user", "content": "..."}, ...]`.
    options: what to pass to `run` along with it, such as model and temperature; may be empty.
    note: what the version is about. labels: those on this version, sorted. created: in UTC.
    """

    name: str
    version: int
    template: Template
    options: JSON
    note: str | None
    labels: tuple[str, ...]
    created: datetime

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of its variables, in the order they first appear."""
        found: dict[str, None] = {}

        def look(text: str) -> str:
            found.update((match["name"], None) for match in _placeholders(text) if not match["escape"])
            return text

        _changed(self.template, look)
        return tuple(found)

    def render(self, variables: Mapping[str, Any] | None = None) -> Rendered:
        """The template with its variables filled in: a text, or the messages of a chat.

        A text is filled in as it is, anything else as JSON: True as `true`, None as `null`, a list as `[1, 2]`.
        In a chat, variables may stand in a message's text, in text parts, and in the URLs of image parts.
        Raises InvalidRequestError for variables that are missing or unknown, and values JSON does not know.
        """
        given = {} if variables is None else variables
        self._check(given)
        values = {name: self._written(name, value) for name, value in given.items()}
        filled = _changed(self.template, lambda text: _filled(text, values))
        return filled if isinstance(filled, str) else Message.list_of(filled)

    def _check(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping):
            raise InvalidRequestError(f"variables must be a dict of names and values, not {_kind(given)}")
        known = self.variables
        missing = [name for name in known if name not in given]
        unknown = [str(name) for name in given if name not in known]
        if missing or unknown:
            wrong = {"missing": missing, "unknown": unknown}
            said = [f"{word}: {', '.join(names)}" for word, names in wrong.items() if names]
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InvalidRequestError(
                f"The variables do not fit prompt {self.name!r}, version {self.version}: {'; '.join(said)}; {takes}"
            )

    def _written(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequestError(
                f"The variable {name!r} of prompt {self.name!r} is {_kind(value)}, which is neither a text nor JSON"
            ) from error


StoredPrompts: TypeAlias = list[StoredPrompt]
"""`list[StoredPrompt]`, for where `list` is a function of ours."""


def escape(text: str) -> str:
    """`text` as a template that renders to it, whatever it holds."""

    def mark(match: re.Match[str]) -> str:
        return "{{!" + match[0][2:] if match["name"].isidentifier() else match[0]

    return _PLACEHOLDER.sub(mark, text)


_PLACEHOLDER = re.compile(r"\{\{(?P<escape>!*)[ \t]*(?P<name>[^\s{}!]+)[ \t]*\}\}")
"""What may be a variable: `\\w` does not know all that Python takes in a name, so `isidentifier` has the last word."""


def _placeholders(text: str) -> Iterable[re.Match[str]]:
    return (match for match in _PLACEHOLDER.finditer(text) if match["name"].isidentifier())


def pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """A template's text in parts: what comes out as it is, each followed by the variable that comes then, or None."""
    plain, at = "", 0
    for match in _placeholders(text):
        plain += text[at : match.start()]
        at = match.end()
        if match["escape"]:
            plain += "{{" + match[0][3:]
        else:
            yield plain, match["name"]
            plain = ""
    yield plain + text[at:], None


def _filled(text: str, values: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        if not match["name"].isidentifier():
            return match[0]
        return "{{" + match[0][3:] if match["escape"] else values[match["name"]]

    return _PLACEHOLDER.sub(fill, text)


def _changed(template: Template, change: Callable[[str], str]) -> Template:
    """A copy of `template` with `change` made to each text in which variables may stand."""
    if isinstance(template, str):
        return change(template)
    messages = deepcopy(template)
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            message["content"] = change(content)
        for part in content if isinstance(content, list) else ():
            _change_part(part, change)
    return messages


def _change_part(part: JSON, change: Callable[[str], str]) -> None:
    image = part.get("image_url") if part["type"] == "image_url" else None
    if part["type"] == "text":
        part["text"] = change(part["text"])
    elif isinstance(image, str):
        part["image_url"] = change(image)
    elif isinstance(image, dict) and isinstance(image.get("url"), str):
        image["url"] = change(image["url"])


_WORD = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_NAMES_ARE = f"1 to {MAX_NAME} of the letters a-z and A-Z, digits, '.', '_' and '-', not beginning with '.' or '-'"
MAX_VERSION = 2**31 - 1


def check_name(name: Any) -> str:
    """`name` if a prompt may be called that. Raises InvalidRequestError."""
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise InvalidRequestError(f"{_shown(name)} is no name for a prompt: names are {_NAMES_ARE}")
    return name


def check_label(label: Any) -> str:
    """`label` if a version may carry it. Raises InvalidRequestError."""
    if label == LATEST:
        raise InvalidRequestError(f"The label {LATEST!r} is always on the newest version and cannot be moved")
    if not isinstance(label, str) or not _WORD.fullmatch(label) or label.isdecimal():
        raise InvalidRequestError(
            f"{_shown(label)} is no label: labels are {_NAMES_ARE}; one of digits only would be a version"
        )
    return label


def check_labels(labels: Any) -> tuple[str, ...]:
    """`labels`, each once. Raises InvalidRequestError."""
    return tuple(dict.fromkeys(check_label(label) for label in listed(labels, "labels")))


def check_version(version: Any) -> int:
    """`version` if it can be one. Raises InvalidRequestError."""
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= MAX_VERSION:
        raise InvalidRequestError(f"A version is a whole number from 1 on, not {_shown(version)}")
    return version


def reference(name: Any, version: Any = None, label: Any = None) -> tuple[str, int | None, str | None]:
    """Which prompt is meant: its name, and its version or label if one was named, be it as "name@3" or "name@label".

    Raises InvalidRequestError.
    """
    named, at, tail = name.partition("@") if isinstance(name, str) else (name, "", "")
    if (version is not None) + (label is not None) + bool(at) > 1:
        raise InvalidRequestError(f"Name one version of prompt {_shown(named)}: by version, by label, or after an '@'")
    if at:
        is_number = tail.isascii() and tail.isdecimal() and len(tail) < MAX_NAME
        version, label = (int(tail), None) if is_number else (None, tail)
    return (
        check_name(named),
        None if version is None else check_version(version),
        label if label is None or label == LATEST else check_label(label),
    )


def as_template(value: Any) -> Template:
    """A template as it is kept: a text, or messages in OpenAI's shape, their keys in one order.

    Takes what `run` takes: a text, a message, or a list of messages. Raises InvalidRequestError.
    """
    if isinstance(value, str):
        return as_text(value)
    return as_messages([value] if isinstance(value, Mapping | Message) else value)


def as_text(value: str) -> str:
    """A text template. Raises InvalidRequestError."""
    if not value:
        raise InvalidRequestError("The template is empty: a prompt is a text or at least one message")
    return _storable(value, "the template")


def as_messages(value: Any) -> list[JSON]:
    """The messages of a chat. Raises InvalidRequestError."""
    try:
        messages = [message.to_dict(complete=True) for message in Message.list_of(listed(value, "messages"))]
    except TypeError as error:
        raise InvalidRequestError(f"A message of the template cannot be read: {error}") from error
    if not messages:
        raise InvalidRequestError("The template is empty: a prompt is a text or at least one message")
    kept: list[JSON] = _json(messages, "the template")
    return kept


def as_options(value: Any) -> JSON:
    """Options as they are kept. Raises InvalidRequestError if they are not JSON, or hold a key to a provider."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidRequestError(f"options must be a dict of options of run, not {_kind(value)}")
    if "api_key" in value:
        raise InvalidRequestError("A prompt is kept in plain text: leave api_key out of its options")
    options: JSON = _json(dict(value), "the options")
    return options


def as_note(value: Any) -> str | None:
    """A note as it is kept; an empty one is none. Raises InvalidRequestError."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"note must be a text, not {_kind(value)}")
    return _storable(value, "the note") or None


def _json(value: Any, what: str) -> Any:
    """A copy of `value`, all of it JSON that databases can hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"There is something in {what} that is not JSON: {error}") from error
    if r"\u0000" in text.replace(r"\\", ""):  # without the escaped backslashes, what is left is an escaped NUL
        _storable("\0", what)
    return json.loads(_storable(text, what))


def _storable(text: str, what: str) -> str:
    if "\0" in text:
        raise InvalidRequestError(f"There is a NUL character in {what}, which not every database can keep")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"There is half a character (a lone surrogate) in {what}, which is no Unicode"
        ) from error
    if size > MAX_BYTES:
        raise InvalidRequestError(f"There are {size:,} bytes in {what}, and the limit is {MAX_BYTES:,}")
    return text


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


def _shown(value: Any) -> str:
    """A name as an error shows it: cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
