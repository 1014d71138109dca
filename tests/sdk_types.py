"""What the providers' own SDKs say to the shape of a request body.

Not by pydantic's reading of their TypedDicts, which passes over unknown keys and reads an Iterable only
when someone iterates over it.
"""

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from typing_extensions import get_type_hints, is_typeddict

JSON = dict[str, Any]


def misfits(provider: str, body: JSON) -> list[str]:
    """Where `body` departs from the types of the provider's SDK; OpenAI's stand for all compatible providers."""
    return {"anthropic": _anthropic, "google": _google}.get(provider, _openai)(body)


def _anthropic(body: JSON) -> list[str]:
    from anthropic.types.message_create_params import MessageCreateParamsBase

    # The SDK speaks the API's version of 2026, which knows these no more; we speak that of 2023, which does.
    sampling = ("temperature", "top_p", "top_k")
    body = {key: value for key, value in _without_stream(body).items() if key not in sampling}
    return _in_value(body, MessageCreateParamsBase, "body")


def _openai(body: JSON) -> list[str]:
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    return _in_value(_without_stream(body), CompletionCreateParamsBase, "body")


def _without_stream(body: JSON) -> JSON:
    return {key: value for key, value in body.items() if key != "stream"}


def _google(body: JSON) -> list[str]:
    from google.genai import types

    fields: dict[str, Any] = {
        "contents": list[types.Content],
        "systemInstruction": types.Content,
        "tools": list[types.Tool],
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
        "safetySettings": list[types.SafetySetting],
        "cachedContent": str,
    }
    found = [f"body.{name}: there is no such field" for name in body if name not in fields]
    for name in body.keys() & fields.keys():
        try:
            TypeAdapter(fields[name]).validate_python(body[name])
        except ValidationError as error:
            found += [f"body.{name}.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return found


def _in_value(value: Any, kind: Any, path: str) -> list[str]:
    if is_typeddict(kind):
        return _in_dict(value, kind, path)
    if check := _BY_ORIGIN.get(get_origin(kind)):
        return check(value, get_args(kind), path)
    if kind in (object, Any):
        return []
    wanted = {float: (int, float), None: NoneType}.get(kind, get_origin(kind) or kind)
    fits = isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))
    return [] if fits else [f"{path}: {value!r} is no {kind}"]


def _in_dict(value: Any, kind: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no dict"]
    hints = get_type_hints(kind)
    found = [f"{path}: {kind.__name__} needs {key!r}" for key in sorted(kind.__required_keys__ - value.keys())]
    for key, entry in value.items():
        if key in hints:
            found += _in_value(entry, hints[key], f"{path}.{key}")
        else:
            found.append(f"{path}: {kind.__name__} has no {key!r}")
    return found


def _in_union(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    return min((_in_value(value, kind, path) for kind in kinds), key=len)


def _in_literal(value: Any, allowed: tuple[Any, ...], path: str) -> list[str]:
    return [] if value in allowed else [f"{path}: {value!r} is none of {allowed}"]


def _in_list(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{path}: {value!r} is no list"]
    return [miss for i, entry in enumerate(value) for miss in _in_value(entry, kinds[0], f"{path}[{i}]")]


def _in_mapping(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no dict"]
    return [miss for key, entry in value.items() for miss in _in_value(entry, kinds[1], f"{path}.{key}")]


def _in_wrapped(value: Any, kinds: tuple[Any, ...], path: str) -> list[str]:
    return _in_value(value, kinds[0], path)


_BY_ORIGIN: dict[Any, Callable[[Any, tuple[Any, ...], str], list[str]]] = {
    Union: _in_union,
    Literal: _in_literal,
    list: _in_list,
    Iterable: _in_list,
    dict: _in_mapping,
    Annotated: _in_wrapped,
    Required: _in_wrapped,
    NotRequired: _in_wrapped,
}
