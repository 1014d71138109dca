"""How Python types become JSON schemas, and a model's answer their instances."""

import copy
import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from aistrale.exceptions import InvalidRequestError, OutputError
from aistrale.schema import (
    check_response_format,
    check_schema,
    check_tool,
    closed,
    parse_output,
    response_format_of,
    strict,
    tool_of,
)

# Tools


class Unit(BaseModel):
    symbol: Literal["C", "F"] = "C"


class Report(BaseModel):
    """Report the weather."""

    city: str = Field(description="Where")
    unit: Unit


class Undocumented(BaseModel):
    value: int


def get_weather(
    city: Annotated[str, Field(description="Where")], unit: Unit, days: int = 1, *, detailed: bool = False
) -> str:
    """The weather of a city.

    In any unit.
    """
    raise NotImplementedError


async def wait() -> None:
    raise NotImplementedError


class Station:
    def read(self, sensor: int) -> float:
        """Read a sensor."""
        raise NotImplementedError


def test_a_functions_annotations_are_its_parameters() -> None:
    """Names, types, defaults and descriptions; the docstring says what it does."""
    assert tool_of(get_weather) == snapshot(
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": """\
The weather of a city.

In any unit.\
""",
                "parameters": {
                    "$defs": {
                        "Unit": {
                            "properties": {
                                "symbol": {"default": "C", "enum": ["C", "F"], "title": "Symbol", "type": "string"}
                            },
                            "title": "Unit",
                            "type": "object",
                        }
                    },
                    "additionalProperties": False,
                    "properties": {
                        "city": {"description": "Where", "title": "City", "type": "string"},
                        "unit": {"$ref": "#/$defs/Unit"},
                        "days": {"default": 1, "title": "Days", "type": "integer"},
                        "detailed": {"default": False, "title": "Detailed", "type": "boolean"},
                    },
                    "required": ["city", "unit"],
                    "type": "object",
                },
            },
        }
    )


@pytest.mark.parametrize(
    ("function", "name", "properties"),
    [(wait, "wait", []), (Station().read, "read", ["sensor"])],
    ids=["async", "method"],
)
def test_any_function_called_by_name_is_a_tool(function: Any, name: str, properties: list[str]) -> None:
    """Async functions too, and methods of an object without their `self`."""
    tool = tool_of(function)["function"]
    assert tool["name"] == name
    assert list(tool["parameters"]["properties"]) == properties
    check_tool(tool_of(function))


def test_a_class_is_a_tool_whose_fields_are_parameters() -> None:
    """Its name and docstring are the tool's."""
    assert tool_of(Report) == snapshot(
        {
            "type": "function",
            "function": {
                "name": "Report",
                "description": "Report the weather.",
                "parameters": {
                    "$defs": {
                        "Unit": {
                            "properties": {
                                "symbol": {"default": "C", "enum": ["C", "F"], "title": "Symbol", "type": "string"}
                            },
                            "title": "Unit",
                            "type": "object",
                        }
                    },
                    "description": "Report the weather.",
                    "properties": {
                        "city": {"description": "Where", "title": "City", "type": "string"},
                        "unit": {"$ref": "#/$defs/Unit"},
                    },
                    "required": ["city", "unit"],
                    "title": "Report",
                    "type": "object",
                },
            },
        }
    )


def test_a_class_without_a_docstring_has_no_description() -> None:
    """What pydantic says of its own base class is not about the tool."""
    assert "description" not in tool_of(Undocumented)["function"]


def test_a_dict_is_a_tool_as_it_stands() -> None:
    """A copy of it: the caller's own is not handed around."""
    tool = {"type": "function", "function": {"name": "ping"}}
    assert tool_of(tool) == tool
    assert tool_of(tool) is not tool


def positional_only(city: str, /) -> None:
    raise NotImplementedError


def unsuited(value: Station) -> None:
    raise NotImplementedError


def unknown(value: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    raise NotImplementedError


@pytest.mark.parametrize(
    "tool", [positional_only, unsuited, unknown, 7, None, "get_weather", partial(get_weather, days=2)]
)
def test_what_cannot_be_called_by_name_is_no_tool(tool: Any) -> None:
    """It is refused at once, and not when the provider looks at it."""
    with pytest.raises(InvalidRequestError):
        tool_of(tool)


TOOLS: list[tuple[Any, str]] = [
    ("ping", "must be a dict"),
    ({}, "needs a name"),
    ({"type": "function", "function": {}}, "needs a name"),
    ({"type": "function", "function": {"name": ""}}, "needs a name"),
    ({"type": "function", "function": {"name": 7}}, "needs a name"),
    ({"type": "function", "name": "ping"}, "needs a name"),
    ({"type": "custom", "function": {"name": "ping"}}, "needs a name"),
    ({"type": "function", "function": {"name": "ping", "parameters": []}}, "the parameters of tool 'ping'"),
    ({"type": "function", "function": {"name": "ping", "parameters": {"type": "text"}}}, "there is no type 'text'"),
]


@pytest.mark.parametrize(("tool", "why"), TOOLS, ids=[str(tool) for tool, _ in TOOLS])
def test_a_malformed_tool_is_refused(tool: Any, why: str) -> None:
    """With the reason, and the shape that was wanted."""
    with pytest.raises(InvalidRequestError, match=why):
        check_tool(tool)


@pytest.mark.parametrize(
    "tool",
    [
        {"function": {"name": "ping"}},
        {"type": "function", "function": {"name": "ping", "parameters": None}},
        {"type": "custom", "custom": {"name": "sql"}},
        {"type": "web_search"},
    ],
    ids=str,
)
def test_a_providers_own_tool_is_not_ours_to_judge(tool: Any) -> None:
    """Nor is a function without parameters malformed."""
    check_tool(tool)


# Response formats


@dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Described(BaseModel):
    unit: Unit = Field(description="In which unit")
    other: Unit | None = None


class Choice(BaseModel):
    kind: Literal["a", "b"]
    tags: dict[str, int] = {}
    default: int = 3


def test_a_class_becomes_a_strict_format_and_its_reader() -> None:
    """Every property is required and none besides, as OpenAI's strict mode wants it."""
    assert response_format_of(Report) == (
        snapshot(
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "Report",
                    "schema": {
                        "$defs": {
                            "Unit": {
                                "properties": {"symbol": {"enum": ["C", "F"], "title": "Symbol", "type": "string"}},
                                "title": "Unit",
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["symbol"],
                            }
                        },
                        "description": "Report the weather.",
                        "properties": {
                            "city": {"description": "Where", "title": "City", "type": "string"},
                            "unit": {"$ref": "#/$defs/Unit"},
                        },
                        "required": ["city", "unit"],
                        "title": "Report",
                        "type": "object",
                        "additionalProperties": False,
                    },
                    "strict": True,
                },
            }
        ),
        Report,
    )


FORMATS: list[tuple[Any, str, Any]] = [
    (Point, "Point", Point),
    (Movie, "Movie", Movie),
    ({"title": "my answer!", "type": "object"}, "my_answer_", dict),
    ({"type": "object", "properties": {}}, "answer", dict),
    ({"title": "x" * 100, "type": "object"}, "x" * 64, dict),
    ({"title": "", "type": "object"}, "answer", dict),
]


@pytest.mark.parametrize(("value", "name", "reader"), FORMATS, ids=[name for _, name, _ in FORMATS])
def test_any_type_pydantic_knows_can_be_answered_in(value: Any, name: str, reader: Any) -> None:
    """Dataclasses, typed dicts and schemas too, under a name that OpenAI takes."""
    form, output_type = response_format_of(value)
    assert (form["json_schema"]["name"], output_type) == (name, reader)
    check_response_format(form)


@pytest.mark.parametrize(
    ("form", "reader"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, dict),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, dict),
    ],
)
def test_openais_own_shape_is_taken_as_it_is(form: Any, reader: Any) -> None:
    """What it asks for is what `parsed` gives."""
    assert response_format_of(form) == (form, reader)


@pytest.mark.parametrize(
    "value", [{}, {"type": "txt"}, {"properties": []}, Report(city="Rome", unit=Unit()), 7, "json", Station]
)
def test_what_is_no_format_is_refused(value: Any) -> None:
    """An instance, a word, a malformed schema, or a class pydantic cannot describe."""
    with pytest.raises(InvalidRequestError):
        response_format_of(value)


@pytest.mark.parametrize(
    "value", [None, {}, {"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}}]
)
def test_a_malformed_format_is_refused(value: Any) -> None:
    """A schema is needed where one is promised."""
    with pytest.raises(InvalidRequestError, match="response_format"):
        check_response_format(value)


@pytest.mark.parametrize("model", [Report, Node, Choice, Described], ids=lambda model: model.__name__)
def test_a_strict_schema_is_the_one_openais_sdk_makes(model: type[BaseModel]) -> None:
    """Closed, all required, and a reference with words beside it spelled out, since strict mode takes none.

    Defaults, which the SDK leaves in, are refused too: "'default' is not permitted".
    """
    assert strict(model.model_json_schema()) == without_defaults(to_strict_json_schema(model))


def without_defaults(schema: Any) -> Any:
    """A schema without the keyword; a property of that name is none."""
    if isinstance(schema, list):
        return [without_defaults(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    named = ("properties", "$defs")
    return {
        key: {name: without_defaults(child) for name, child in value.items()}
        if key in named
        else without_defaults(value)
        for key, value in schema.items()
        if key != "default"
    }


def test_making_a_schema_strict_leaves_the_original_alone() -> None:
    """It may be another's, or a cached one."""
    schema = Report.model_json_schema()
    before = copy.deepcopy(schema)
    strict(schema)
    closed(schema)
    assert schema == before


# Schemas

SCHEMAS: list[tuple[Any, str]] = [
    ([], "must be a JSON schema"),
    ({"type": "text"}, "there is no type 'text'"),
    ({"type": ["string", "text"]}, "there is no type 'text'"),
    ({"type": None}, "type"),
    ({"type": 7}, "type"),
    ({"type": [["string"]]}, "type"),
    ({"properties": []}, "'properties' must be a dict"),
    ({"properties": {"a": 7}}, "at properties.a"),
    ({"items": {"type": "text"}}, "at items"),
    ({"anyOf": {}}, "'anyOf' must be a list"),
    ({"anyOf": [{}, {"properties": {"a": {"type": "text"}}}]}, r"at anyOf\[1\], at properties.a"),
    ({"$defs": {"A": {"required": "a"}}}, r"at \$defs.A"),
    ({"required": [7]}, "'required' must be a list of names"),
    ({"required": None}, "'required' must be a list of names"),
]


@pytest.mark.parametrize(("schema", "why"), SCHEMAS, ids=[str(schema) for schema, _ in SCHEMAS])
def test_what_is_no_schema_is_refused_with_its_place(schema: Any, why: str) -> None:
    """A provider would say no more than 400."""
    with pytest.raises(InvalidRequestError, match=why):
        check_schema(schema, "the schema")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        {"type": ["string", "null"], "x-mine": 7},
        {"additionalProperties": False, "not": {}},
        {"properties": {"type": {"type": "string"}, "required": {"type": "boolean"}}},
    ],
    ids=str,
)
def test_any_dialect_will_do(schema: Any) -> None:
    """Keywords we do not know are not ours to judge, and a property may be called as it likes."""
    check_schema(schema, "the schema")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "string", "a"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "properties", "items", "anyOf", "required", "$defs", "additionalProperties", "a"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    )
)
def test_any_value_is_a_schema_or_refused(value: Any) -> None:
    """The check raises nothing else, and what it lets through can be closed."""
    try:
        check_schema(value, "it")
    except InvalidRequestError:
        return
    if isinstance(value, dict):
        closed(value)


CLOSED: list[tuple[Any, Any]] = [
    ({"type": "string"}, {"type": "string"}),
    ({"type": "object"}, {"type": "object", "additionalProperties": False}),
    ({"type": "object", "additionalProperties": True}, {"type": "object", "additionalProperties": True}),
    (
        {"type": "array", "items": {"type": "object"}},
        {"type": "array", "items": {"type": "object", "additionalProperties": False}},
    ),
    (
        {"anyOf": [{"type": "object"}, True], "$defs": {"A": {"type": "object"}}},
        {
            "anyOf": [{"type": "object", "additionalProperties": False}, True],
            "$defs": {"A": {"type": "object", "additionalProperties": False}},
        },
    ),
    (
        {"type": "object", "properties": {"type": {"const": "object"}}},
        {"type": "object", "properties": {"type": {"const": "object"}}, "additionalProperties": False},
    ),
]


@pytest.mark.parametrize(("schema", "wanted"), CLOSED, ids=[str(schema) for schema, _ in CLOSED])
def test_a_closed_schema_takes_no_further_properties(schema: Any, wanted: Any) -> None:
    """At every depth, unless it says otherwise."""
    assert closed(schema) == wanted


# Answers


def test_an_answer_is_read_as_its_type() -> None:
    """A class, anything else pydantic adapts, or plain JSON."""
    assert parse_output('{"city": "Rome", "unit": {"symbol": "F"}}', Report) == Report(
        city="Rome", unit=Unit(symbol="F")
    )
    assert parse_output('{"x": 1}', Point) == Point(1)
    assert parse_output("[1, 2]", list[int]) == [1, 2]
    assert parse_output('{"a": [1.5, null]}', dict) == {"a": [1.5, None]}


@given(st.integers(), st.booleans() | st.none())
def test_an_instance_survives_being_written_and_read(value: int, flag: bool | None) -> None:
    """What a model writes to the schema of a type is an instance of it."""
    kind = TypeAdapter(tuple[int, bool | None])
    assert parse_output(kind.dump_json((value, flag)).decode(), tuple[int, bool | None]) == (value, flag)


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("Sure! Here it is", dict, "is no JSON"),
        ("", dict, "is no JSON"),
        ('{"city": "Rome"}', Report, "is no Report"),
        ('{"city": "Ro', Report, "is no Report"),
        ('["a"]', list[int], "is no list"),
    ],
)
def test_an_answer_that_does_not_fit_is_kept(text: str, kind: Any, why: str) -> None:
    """The error says what was wanted and holds what came."""
    with pytest.raises(OutputError, match=why) as caught:
        parse_output(text, kind)
    assert caught.value.text == text


def test_a_schema_can_be_sent() -> None:
    """It is JSON, whatever its type."""
    for value in (Report, Node, Choice, Described, Point, Movie):
        json.dumps(response_format_of(value)[0])


class Branch(BaseModel):
    inner: "Branch | None" = Field(None, description="A smaller one")


def test_a_strict_schema_of_a_class_within_itself_ends() -> None:
    """A described reference to the class itself cannot be spelled out for ever: the description goes."""
    schema = response_format_of(Branch)[0]["json_schema"]["schema"]
    assert schema["required"] == ["inner"]
    check_schema(schema, "it")


@pytest.mark.parametrize("kind", [dict[str, int], list[int]])
def test_what_openais_strict_mode_cannot_say_is_not_called_strict(kind: Any) -> None:
    """Objects with names of their own making, and roots that are no objects."""
    assert "strict" not in response_format_of(kind)[0]["json_schema"]


@pytest.mark.parametrize("name", ["<lambda>", "two words", "x" * 129, "é"])
def test_a_tool_needs_a_name_that_providers_take(name: str) -> None:
    """A lambda has none."""
    with pytest.raises(InvalidRequestError, match="no name for a tool"):
        check_tool({"type": "function", "function": {"name": name}})
