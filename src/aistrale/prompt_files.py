"""Prompts as files that git can hold: YAML front matter, and then the text, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from yaml.constructor import ConstructorError

from aistrale.exceptions import InvalidRequestError
from aistrale.templates import (
    StoredPrompt,
    as_messages,
    as_note,
    as_options,
    as_text,
    check_labels,
    check_name,
    check_version,
)

SUFFIX = ".prompt.md"
"""How the name of a prompt's file ends; before that it is the prompt's name."""

_R = TypeVar("_R")


def encode_file(prompt: StoredPrompt) -> bytes:
    """A prompt as a file: front matter in YAML with what is set, and then the text, byte for byte.

    The messages of a chat are in the front matter, and nothing comes after it.
    """
    is_text = isinstance(prompt.template, str)
    front = {
        "name": prompt.name,
        "version": prompt.version,
        "labels": [*prompt.labels],
        "options": {name: prompt.options[name] for name in sorted(prompt.options)},
        "note": prompt.note,
        "messages": None if is_text else prompt.template,
    }
    told = {key: value for key, value in front.items() if value}
    shown = yaml.dump(told, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))
    return f"---\n{shown}---\n{prompt.template if is_text else ''}".encode()


def decode_file(data: bytes, file: str) -> dict[str, Any]:
    """What such a file says, as the arguments of `PromptStore.save`. Its `version` is where it came from, no more.

    Raises InvalidRequestError that names `file` and the line.
    """
    text = _decoded(data, file)
    match = _FRONT.match(text)
    if match is None:
        raise _bad(file, 1, "it must begin with a line ---, front matter in YAML, and another line ---")
    front, below, text = _front_matter(match[1], file), match[0].count("\n") + 1, text[match.end() :]
    said = {key: _checked(file, line, _FIELDS[key], value) for key, (line, value) in front.items()}
    name = Path(file).name.removesuffix(SUFFIX)
    if said.get("name", name) != name:
        raise _bad(file, front["name"][0], f"its name is {said['name']!r}, but the file is called {name!r}")
    if "messages" in said and text.strip():
        raise _bad(file, below, "it has messages, and a text below them: keep one of the two")
    return {
        "name": _checked(file, 1, check_name, name),
        "template": said["messages"] if "messages" in said else _checked(file, below, as_text, text),
        "options": said.get("options", {}),
        "labels": said.get("labels", ()),
        "note": said.get("note") or "",
    }


_FRONT = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)

_FIELDS: dict[str, Callable[[Any], Any]] = {
    "name": check_name,
    "version": check_version,
    "labels": check_labels,
    "options": as_options,
    "note": as_note,
    "messages": as_messages,
}


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode().removeprefix("\ufeff")  # which some editors begin a file with
    except UnicodeDecodeError as error:
        raise _bad(file, data.count(b"\n", 0, error.start) + 1, "it is not in UTF-8") from error


def _front_matter(text: str, file: str) -> dict[str, tuple[int, Any]]:
    """What is set in the front matter, each key with its line in the file."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else {}
    except yaml.YAMLError as error:
        raise _bad(file, *_complaint(error, text)) from error
    except RecursionError as error:
        raise _bad(file, 2, "its front matter is nested too deep") from error
    if not isinstance(values, dict):
        raise _bad(file, 2, "its front matter must be made of keys and values, such as 'note: Shorter'")
    lines = {key.value: key.start_mark.line + 2 for key, _ in node.value} if node else {}
    for key, line in lines.items():
        if key not in _FIELDS:
            raise _bad(file, line, f"its front matter has the key {key!r}; known are {', '.join(_FIELDS)}")
    return {key: (lines[key], value) for key, value in values.items() if value is not None}


def _complaint(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """The line of the file that YAML complains about, and what about it."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 2, "its front matter holds a control character"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return (mark.line if mark else 0) + 2, f"its front matter is not what we take as YAML: {problem}"


def _checked(file: str, line: int, check: Callable[[Any], _R], value: Any) -> _R:
    try:
        return check(value)
    except InvalidRequestError as error:
        raise _bad(file, line, error.message) from error


def _bad(file: str, line: int, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"{file}, line {line}: {what}")


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases, which can stand for more than fits in memory, tags, and keys set twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        events: Any = self
        event = events.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            raise ConstructorError(None, None, "there is an alias or a tag; write the value out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # of int, or of datetime
            raise ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise ConstructorError(None, None, f"the key {key.value} is set twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_LINES = re.compile("[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffe]*")
"""Text that YAML reads as it stands: no control characters, and no line breaks but the plain one."""


class _Dumper(yaml.SafeDumper):
    """YAML in which texts of several lines stand as they are, so that a change of one line is a diff of one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        analysis.allow_block = True  # PyYAML would quote for a tab, or a blank at a line's end
        return analysis


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if "\n" not in text else "|" if text.strip() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style if _LINES.fullmatch(text) else '"')


_Dumper.add_representer(str, _represent_text)
