"""What a command is given, by argument, by option and through a pipe."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aistrale.exceptions import InvalidRequestError
from aistrale.options import RunOptions, check_names


def prompt_of(argument: str | None) -> str:
    """What is asked: what was piped in, the argument, or the one above the other. An empty text if there is neither."""
    return "\n\n".join(part for part in (_piped(), argument) if part)


def _piped() -> str:
    """The text on standard input, where that is a pipe or a file, without the end of its last line."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # it is closed
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return ""
    try:
        return sys.stdin.buffer.read().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"What was piped in is no UTF-8 text: {error}") from error


def pairs_of(given: Iterable[str], what: str) -> dict[str, str]:
    """`name=value` texts. Raises InvalidRequestError for any other; what: whose they are, for that."""
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidRequestError(f"{what} is given as name=value, not {text!r}")
        pairs[name.strip()] = value
    return pairs


def options_of(given: Iterable[str]) -> dict[str, Any]:
    """Options of a call: their values are JSON where they are that, such as 0.2 and true, else texts.

    Raises InvalidRequestError for an option there is not, and for a key, which others would see where processes are
    listed.
    """
    options = {name.replace("-", "_"): _value(text) for name, text in pairs_of(given, "An option").items()}
    if "api_key" in options:
        raise InvalidRequestError("A key is not for the command line: put it into the environment, or the books")
    try:
        check_names(options, _OPTIONS)
    except TypeError as error:
        raise InvalidRequestError(f"An option is unknown: {error}") from error
    return options


_OPTIONS = frozenset(RunOptions.__annotations__) - {"callbacks", "variables", "tools"}
"""What can be said in a line: tools are functions, and variables have an option of their own."""


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def schema_of(text: str) -> dict[str, Any]:
    """A JSON schema: out of a file, as JSON, or in short, as "name, age int, bio: a sentence or two".

    In short, fields are apart by commas, or by lines, and each is a name, its type (str, int, float or bool; str if
    there is none) and, behind a colon, what it is. Raises InvalidRequestError for anything else.
    """
    if text.lstrip().startswith("{"):
        return _json_schema(text, "The schema")
    if text.endswith(".json") or Path(text).is_file():
        try:
            return _json_schema(Path(text).read_text(encoding="utf-8"), text)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"The schema {text} cannot be read: {error}") from error
    lines = text.splitlines() if "\n" in text.strip() else text.split(",")
    properties = dict(_field(line) for line in lines if line.strip())
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _json_schema(text: str, what: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{what} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{what} is no JSON schema: that is an object")
    return schema


_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def _field(line: str) -> tuple[str, dict[str, str]]:
    declared, _, description = line.partition(":")
    match declared.split():
        case [name]:
            kind = "str"
        case [name, kind] if kind in _TYPES:
            pass
        case _:
            types = ", ".join(_TYPES)
            raise InvalidRequestError(f"The schema's field {line.strip()!r} is no name and type ({types})")
    described = {"description": description.strip()} if description.strip() else {}
    return name, {"type": _TYPES[kind], **described}
