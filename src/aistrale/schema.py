"""How Python types become JSON schemas for a model, and its answer comes back as their instances."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from aistrale.exceptions import InvalidRequestError, OutputError

JSONSchema: TypeAlias = dict[str, Any]


def tool_of(tool: Any) -> JSONSchema:
    """The OpenAI-shaped tool that `tool` stands for: a dict, an annotated function or a pydantic class.

    A function's parameters come from its annotations (`Annotated[int, Field(description=...)]` too), its
    description from its docstring. Raises InvalidRequestError for anything else.
    """
    if isinstance(tool, Mapping):
        return dict(tool)
    if _is_model_class(tool):
        name, parameters = tool.__name__, _schema_of(tool, f"the tool {tool.__name__!r}")
    elif callable(tool) and hasattr(tool, "__name__"):
        name, parameters = tool.__name__, _parameters_of(tool)
    else:
        raise InvalidRequestError(f"A tool must be a dict, a function or a pydantic class, not {kind_of(tool)}")
    # A class's own docstring: pydantic's is inherited, and says nothing of the tool.
    description = inspect.cleandoc(vars(tool).get("__doc__") or "") if isinstance(tool, type) else inspect.getdoc(tool)
    function = {"name": name, "description": description or "", "parameters": parameters}
    return {"type": "function", "function": {key: value for key, value in function.items() if value != ""}}


def _parameters_of(function: Callable[..., Any]) -> JSONSchema:
    name = function.__name__
    schema = _schema_of(function, f"the parameters of {name!r}")
    if schema.get("type") != "object":
        raise InvalidRequestError(f"{name!r} has positional-only parameters; a tool is called by name")
    schema.setdefault("properties", {})
    return schema


def _schema_of(kind: Any, where: str) -> JSONSchema:
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return TypeAdapter[Any](kind).json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise InvalidRequestError(f"There is no JSON schema for {where}: {error}") from error


def response_format_of(value: Any) -> tuple[JSONSchema, Any]:
    """The OpenAI-shaped response format for `value`, and the type to parse the answer into.

    `value` is a pydantic class (or any type pydantic can adapt), a JSON schema, or OpenAI's own shape.
    A class is made strict as OpenAI defines it, so that the answer is sure to fit.
    Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(value, Mapping):
        if value.get("type") in ("text", "json_object", "json_schema"):
            return dict(value), None if value["type"] == "text" else dict
        check_schema(value, "response_format")
        if not value:
            raise InvalidRequestError("response_format is an empty dict: pass a JSON schema or a pydantic class")
        name = _identifier(str(value.get("title", "answer")))
        return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(value)}}, dict
    if not isinstance(value, type) and not hasattr(value, "__origin__"):
        raise InvalidRequestError(f"response_format must be a JSON schema or a pydantic class, not {kind_of(value)}")
    schema = strict(_schema_of(value, "response_format"))
    name = _identifier(getattr(value, "__name__", "answer"))
    if schema.get("type") != "object" or not _can_be_strict(schema):
        return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}, value
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}, value


def strict(schema: JSONSchema) -> JSONSchema:
    """A copy of `schema` in which every object is closed and requires all its properties.

    Defaults go: a property the model must give needs none, and OpenAI refuses them. So does a reference
    with anything beside it: what it refers to is put in its place, or, where that would never end, what
    stands beside it goes.
    """
    schema = copy.deepcopy(schema)
    _make_strict(schema, schema, ())
    return schema


def _make_strict(schema: Any, root: JSONSchema, within: tuple[str, ...]) -> None:
    if not isinstance(schema, dict):
        return
    schema.pop("default", None)
    reference = schema.get("$ref")
    if reference is not None and len(schema) > 1:
        if reference in within:
            schema.clear()
            schema["$ref"] = reference
        else:
            within = (*within, reference)
            del schema["$ref"]
            for key, value in copy.deepcopy(_resolve(reference, root)).items():
                schema.setdefault(key, value)
    if schema.get("type") == "object" and "properties" in schema:
        schema["additionalProperties"] = False
        schema["required"] = list(schema["properties"])
    for _, child in _children(schema, "the schema"):
        _make_strict(child, root, within)


def _resolve(reference: str, root: JSONSchema) -> JSONSchema:
    value: Any = root
    for key in reference.removeprefix("#/").split("/"):
        value = value[key]
    result: JSONSchema = value
    return result


def _can_be_strict(schema: Any) -> bool:
    """OpenAI's strict mode knows no objects with names of their own making, such as `dict[str, int]`."""
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    return all(_can_be_strict(child) for _, child in _children(schema, "the schema"))


def parse_output(text: str, output_type: Any) -> Any:
    """Read a model's answer as `output_type`: dict means plain JSON. Raises OutputError if it does not fit."""
    try:
        if output_type is dict:
            return json.loads(text)
        from pydantic import TypeAdapter

        return TypeAdapter(output_type).validate_json(text)
    except ValueError as error:
        name = getattr(output_type, "__name__", str(output_type))
        what = "is no JSON" if output_type is dict else f"is no {name}"
        raise OutputError(f"The model's answer {what}: {error}", text=text) from error


def _is_model_class(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "model_json_schema")


def _identifier(name: str) -> str:
    """`name` as OpenAI takes it: letters, digits, _ and -, at most 64."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:64] or "answer"


_TOOL_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def check_tool(tool: Any) -> None:
    """Raise InvalidRequestError unless `tool` is OpenAI-shaped with a name, or a provider's own kind of tool."""
    if not isinstance(tool, dict):
        raise InvalidRequestError(f"A tool must be a dict or a function, not {kind_of(tool)}")
    kind = tool.get("type", "function")
    if kind not in ("function", "custom"):
        return  # a provider's own tool, such as web_search: its keys are the provider's to check
    body = tool.get(kind)
    if not isinstance(body, dict) or not isinstance(body.get("name"), str) or not body["name"]:
        raise InvalidRequestError(
            'A tool needs a name: {"type": "function", "function": {"name": ..., "parameters": {...}}}'
        )
    if not _TOOL_NAME.fullmatch(body["name"]):
        raise InvalidRequestError(
            f"{body['name'][:100]!r} is no name for a tool: use up to 128 letters, digits, and _ - . :, "
            "and a named function instead of a lambda"
        )
    if body.get("parameters") is not None:
        check_schema(body["parameters"], f"the parameters of tool {body['name']!r}")


def check_response_format(value: Any) -> None:
    """Raise InvalidRequestError unless `value` is an OpenAI-shaped response format."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequestError(
            "response_format must be a JSON schema, a pydantic class, or OpenAI's "
            f'{{"type": "json_schema", ...}}, not {value!r}'
        )
    if kind == "json_schema":
        body = value.get("json_schema")
        if not isinstance(body, dict) or "schema" not in body:
            raise InvalidRequestError('response_format of type json_schema needs {"json_schema": {"schema": {...}}}')
        check_schema(body["schema"], "the schema of response_format")


_SCHEMA_TYPES = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))
_SCHEMA_OF = ("items", "additionalProperties", "not")
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions", "patternProperties")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def check_schema(schema: Any, where: str) -> None:
    """Raise InvalidRequestError if `schema` cannot be a JSON schema, saying where.

    It checks the shape (JSON Schema 2020-12, sections 10 and 6.1), not every keyword: dialects differ.
    """
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{where} must be a JSON schema (a dict), not {kind_of(schema)}")
    kinds = schema.get("type", ())
    for kind in kinds if isinstance(kinds, list | tuple) else [kinds]:
        # Gemini's own dialect writes the names in capitals.
        if not isinstance(kind, str) or kind.lower() not in _SCHEMA_TYPES:
            raise InvalidRequestError(f"{where} is no JSON schema: there is no type {kind!r}")
    for path, child in _children(schema, where):
        check_schema(child, f"{where}, at {path}")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise InvalidRequestError(f"{where} is no JSON schema: 'required' must be a list of names")


def _children(schema: JSONSchema, where: str) -> Iterator[tuple[str, Any]]:
    """The schemas within a schema, each with where it stands. Raises InvalidRequestError for misplaced ones."""
    for key in _SCHEMA_OF:
        if key in schema:
            yield key, schema[key]
    for key in _SCHEMAS_BY_NAME:
        named = schema.get(key, {})
        if not isinstance(named, dict):
            raise InvalidRequestError(f"{where} is no JSON schema: {key!r} must be a dict")
        yield from ((f"{key}.{name}", child) for name, child in named.items())
    for key in _SCHEMA_LISTS:
        listed = schema.get(key, [])
        if not isinstance(listed, list):
            raise InvalidRequestError(f"{where} is no JSON schema: {key!r} must be a list")
        yield from ((f"{key}[{position}]", child) for position, child in enumerate(listed))


def kind_of(value: Any) -> str:
    """How an error names a value it cannot use, without showing it."""
    return f"a value of type {type(value).__name__}"


def closed(schema: JSONSchema) -> JSONSchema:
    """A copy of `schema` in which every object that does not say otherwise takes no further properties."""

    def close(part: JSONSchema) -> JSONSchema:
        is_open = part.get("type") == "object" and "additionalProperties" not in part
        return {**part, "additionalProperties": False} if is_open else part

    result: JSONSchema = _mapped(schema, close)
    return result


def without(keywords: frozenset[str], schema: JSONSchema) -> JSONSchema:
    """A copy of `schema` that leaves out the keywords."""
    result: JSONSchema = _mapped(schema, lambda part: {k: value for k, value in part.items() if k not in keywords})
    return result


def _mapped(schema: Any, change: Callable[[JSONSchema], JSONSchema]) -> Any:
    """A copy of a schema with `change` made to it and to every schema within it."""
    if not isinstance(schema, dict):
        return schema
    result = dict(change(schema))
    for key in _SCHEMA_OF:
        if key in result:
            result[key] = _mapped(result[key], change)
    for key in _SCHEMA_LISTS:
        if key in result:
            result[key] = [_mapped(child, change) for child in result[key]]
    for key in _SCHEMAS_BY_NAME:
        if key in result:
            result[key] = {name: _mapped(child, change) for name, child in result[key].items()}
    return result
