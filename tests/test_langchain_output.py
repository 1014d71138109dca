"""Answers of ChatAistrale in a shape, with and without tools beside it."""

import asyncio
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import pytest
from langchain_core import exceptions as langchain
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.tools import tool
from model_behaviour import behave
from pydantic import BaseModel, ConfigDict
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict
from upstream import END_OF_BODY, Answer, Request, Step, Upstream, events, plain

import aistrale
from aistrale_langchain import ChatAistrale

JSON = dict[str, Any]
T = TypeVar("T")


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


class OldPerson(BaseModelV1):
    """Somebody, as pydantic 1 has it."""

    name: str
    age: int


class TypedPerson(TypedDict):
    """Somebody."""

    name: Annotated[str, ..., "As in the passport"]
    age: int


@dataclass
class PlainPerson:
    name: str
    age: int


class Box(BaseModel, Generic[T]):
    inside: T


class Counts(BaseModel):
    by_name: dict[str, int]


AS_SCHEMA: JSON = {
    "title": "Person",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
ADA: JSON = {"name": "Ada", "age": 36}
METHODS = ("json_schema", "function_calling", "json_mode")
SHAPES: dict[str, Any] = {
    "class": Person,
    "old class": OldPerson,
    "typed": TypedPerson,
    "plain": PlainPerson,
    "schema": AS_SCHEMA,
}

in_every_method = pytest.mark.parametrize("method", METHODS)
in_every_shape = pytest.mark.parametrize("shape", SHAPES)


@tool
def weather(city: str) -> str:
    """How the weather is."""
    return f"Sunny in {city}"


async def _all_of(runnable: Any) -> list[Any]:
    return [piece async for piece in runnable.astream("Who?")]


def _whole(pieces: list[Any]) -> Any:
    """What a stream ends with; of an answer with `include_raw` its parts."""
    if pieces and isinstance(pieces[0], dict) and "raw" in pieces[0]:
        return {name: value for piece in pieces for name, value in piece.items()}
    return pieces[-1] if pieces else None


WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda runnable: runnable.invoke("Who?"),
    "ainvoke": lambda runnable: asyncio.run(runnable.ainvoke("Who?")),
    "stream": lambda runnable: _whole(list(runnable.stream("Who?"))),
    "astream": lambda runnable: _whole(asyncio.run(_all_of(runnable))),
}
in_every_way = pytest.mark.parametrize("way", WAYS)


def model(upstream: Upstream, **more: Any) -> ChatAistrale:
    given = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url, "max_retries": 0}
    return ChatAistrale(**{**given, **more})


def saying(*deltas: JSON, ended_by: str = "stop") -> Answer:
    """An answer in these pieces, or as what they add up to."""
    head = {"id": "chatcmpl-1", "model": "gpt-test"}

    def answer(request: Request) -> list[Step]:
        if not request.body.get("stream"):
            message: JSON = {"role": "assistant", "content": None}
            for delta in deltas:
                for key, value in delta.items():
                    message[key] = value if key == "tool_calls" else (message.get(key) or "") + value
            choice = {"index": 0, "message": message, "finish_reason": ended_by}
            return plain({**head, "object": "chat.completion", "choices": [choice]})
        choices: list[JSON] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": ended_by})
        bodies = [{**head, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
        return [*events(*(json.dumps(body).encode() for body in bodies), b"[DONE]"), END_OF_BODY]

    return answer


def text(*pieces: str, ended_by: str = "stop") -> Answer:
    return saying(*({"content": piece} for piece in pieces), ended_by=ended_by)


def call(name: str, arguments: str) -> JSON:
    function: JSON = {"name": name, "arguments": arguments}
    entry: JSON = {"index": 0, "id": "call_1", "type": "function", "function": function}
    return {"tool_calls": [entry]}


def said(method: str, answer: str, *, ended_by: str = "stop") -> Answer:
    """An answer the way that a method has it."""
    if method == "function_calling":
        return saying(call("Person", answer), ended_by=ended_by)
    return text(answer[:9], answer[9:], ended_by=ended_by)


# Shapes


@in_every_way
@in_every_method
@pytest.mark.parametrize("kind", [Person, AS_SCHEMA])
def test_an_answer_comes_in_its_shape(upstream: Upstream, way: str, method: Any, kind: Any) -> None:
    """An instance of a class, else a dict."""
    upstream.default = said(method, json.dumps(ADA))
    found = WAYS[way](model(upstream).with_structured_output(kind, method=method))
    assert found == (Person(**ADA) if kind is Person else ADA)


@in_every_shape
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_every_kind_of_schema_is_understood(upstream: Upstream, shape: str, method: Any) -> None:
    """Whoever it was defined with; instances are of pydantic's classes alone."""
    upstream.default = behave
    kind = SHAPES[shape]
    found = model(upstream).with_structured_output(kind, method=method).invoke("Who?")
    expected: JSON = {"name": "text", "age": 3}
    assert found == (kind(**expected) if kind in (Person, OldPerson) else expected)
    sent = upstream.requests[0].body
    if method == "json_schema":
        asked = sent["response_format"]["json_schema"]
        name, schema = asked["name"], asked["schema"]
    else:
        asked = sent["tools"][0]["function"]
        name, schema = asked["name"], asked["parameters"]
    assert name in ("Person", "OldPerson", "TypedPerson", "PlainPerson")
    assert {key: value["type"] for key, value in schema["properties"].items()} == {"name": "string", "age": "integer"}
    assert schema["required"] == ["name", "age"]


@in_every_way
def test_some_json_needs_no_schema(upstream: Upstream, way: str) -> None:
    """Where the prompt describes it."""
    upstream.default = text('{"any": ', '"thing"}')
    found = WAYS[way](model(upstream).with_structured_output(method="json_mode"))
    assert found == {"any": "thing"}
    assert upstream.requests[0].body["response_format"] == {"type": "json_object"}


def test_json_within_markdown_is_read(upstream: Upstream) -> None:
    """As models write it that take no schema."""
    upstream.default = text(f"```json\n{json.dumps(ADA)}\n```")
    assert model(upstream).with_structured_output(Person).invoke("Who?") == Person(**ADA)


def test_a_model_that_does_not_stream_has_its_answer_read_all_the_same(upstream: Upstream) -> None:
    """In one piece, that is no chunk."""
    upstream.default = text(json.dumps(ADA))
    for kind in (Person, AS_SCHEMA):
        shaped = model(upstream, disable_streaming=True).with_structured_output(kind)
        assert list(shaped.stream("Who?")) == [Person(**ADA) if kind is Person else ADA]
    upstream.default = saying(call("weather", '{"city": "Rome"}'))
    shaped = model(upstream, disable_streaming=True).with_structured_output(Person, tools=[weather])
    assert list(shaped.stream("Who?")) == []


@in_every_method
def test_content_in_blocks_is_read(upstream: Upstream, method: Any) -> None:
    """As the newer version of LangChain's messages has it."""
    upstream.default = said(method, json.dumps(ADA))
    for way in WAYS.values():
        assert way(model(upstream, output_version="v1").with_structured_output(Person, method=method)) == Person(**ADA)


# Streams


def test_a_dict_grows_as_it_is_streamed(upstream: Upstream) -> None:
    """Each time with what there is of it; the last is all of it."""
    pieces = ('{"name": "A', 'da", "age"', ": 36}")
    grown = [{"name": "A"}, {"name": "Ada"}, ADA]
    calls = saying(call("Person", pieces[0]), *({"tool_calls": [_piece(more)]} for more in pieces[1:]))
    for method, answer in (("json_schema", text(*pieces)), ("json_mode", text(*pieces)), ("function_calling", calls)):
        upstream.default = answer
        shaped = model(upstream).with_structured_output(AS_SCHEMA, method=method)  # type: ignore[arg-type]
        assert list(shaped.stream("Who?")) == grown, method
        assert asyncio.run(_all_of(shaped)) == grown, method


def _piece(arguments: str) -> JSON:
    return {"index": 0, "function": {"arguments": arguments}}


def test_an_instance_of_the_providers_own_output_comes_once(upstream: Upstream) -> None:
    """Whole, as ChatOpenAI has it; by the other methods as soon as there is enough for one."""
    pieces = ('{"age": 36, "name": "A', 'da"}')
    once, twice = [Person(**ADA)], [Person(name="A", age=36), Person(**ADA)]
    calls = saying(call("Person", pieces[0]), {"tool_calls": [_piece(pieces[1])]})
    for method, answer, expected in (
        ("json_schema", text(*pieces), once),
        ("json_mode", text(*pieces), twice),
        ("function_calling", calls, twice),
    ):
        upstream.default = answer
        shaped = model(upstream).with_structured_output(Person, method=method)  # type: ignore[arg-type]
        assert list(shaped.stream("Who?")) == expected, method
        assert asyncio.run(_all_of(shaped)) == expected, method


# Tools beside a shape


@in_every_way
@in_every_method
@pytest.mark.parametrize("kind", [Person, AS_SCHEMA])
def test_a_model_that_calls_a_tool_gives_no_answer_yet(upstream: Upstream, way: str, method: Any, kind: Any) -> None:
    """None is parsed, and the call is in `raw`, whatever was said before it."""
    shaped = model(upstream).with_structured_output(kind, method=method, tools=[weather], include_raw=True)
    for before in ({}, {"content": "3 things I have to know:"}):
        upstream.default = saying(before, call("weather", '{"city": "Rome"}'), ended_by="tool_calls")
        found = WAYS[way](shaped)
        assert (found["parsed"], found["parsing_error"]) == (None, None)
        assert [(call["name"], call["args"]) for call in found["raw"].tool_calls] == [("weather", {"city": "Rome"})]


@in_every_way
@in_every_method
@pytest.mark.parametrize("kind", [Person, AS_SCHEMA])
def test_a_model_that_calls_a_tool_answers_none(upstream: Upstream, way: str, method: Any, kind: Any) -> None:
    """Without `raw`, too."""
    upstream.default = saying({"content": "3 things:"}, call("weather", '{"city": "Rome"}'), ended_by="tool_calls")
    assert WAYS[way](model(upstream).with_structured_output(kind, method=method, tools=[weather])) is None


@in_every_method
def test_a_model_with_tools_may_give_its_answer_at_once(upstream: Upstream, method: Any) -> None:
    """As if it had none."""
    upstream.default = said(method, json.dumps(ADA))
    assert model(upstream).with_structured_output(Person, method=method, tools=[weather]).invoke("Who?") == Person(
        **ADA
    )


@pytest.mark.parametrize(
    ("tools", "choice"),
    [([], {"type": "function", "function": {"name": "Person"}}), ([weather], "required")],
)
def test_a_schema_that_is_a_tool_is_forced_where_there_is_no_other(
    upstream: Upstream, tools: list[Any], choice: Any
) -> None:
    """Beside others it would make them useless: then the model has to call one of them all."""
    upstream.default = said("function_calling", json.dumps(ADA))
    model(upstream).with_structured_output(Person, method="function_calling", tools=tools).invoke("Who?")
    sent = upstream.requests[0].body
    assert [entry["function"]["name"] for entry in sent["tools"]] == ["Person", *(tool.name for tool in tools)]
    assert sent["tool_choice"] == choice
    assert sent["parallel_tool_calls"] is False


# What is no answer


@in_every_way
@in_every_method
def test_a_refusal_is_an_error(upstream: Upstream, way: str, method: Any) -> None:
    """Of Aistrale and of LangChain at once, with what the model said; beside `raw` if that was asked for."""
    upstream.default = saying({"refusal": "I would "}, {"refusal": "rather not."})
    with pytest.raises(aistrale.OutputError, match=r"^The model refused: I would rather not\.$") as caught:
        WAYS[way](model(upstream).with_structured_output(Person, method=method))
    assert isinstance(caught.value, langchain.OutputParserException)
    assert caught.value.text == caught.value.llm_output == "I would rather not."

    found = WAYS[way](model(upstream).with_structured_output(Person, method=method, include_raw=True))
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], aistrale.OutputError)
    assert found["raw"].additional_kwargs["refusal"] == "I would rather not."


@in_every_way
@in_every_method
@pytest.mark.parametrize("kind", [Person, AS_SCHEMA])
def test_an_answer_that_was_cut_off_is_an_error(upstream: Upstream, way: str, method: Any, kind: Any) -> None:
    """No half of one, and it says what to do."""
    upstream.default = said(method, '{"age": 36, "name": "Ada Love', ended_by="length")
    with pytest.raises(aistrale.OutputError, match="it was cut off: raise max_tokens"):
        WAYS[way](model(upstream).with_structured_output(kind, method=method))
    found = WAYS[way](model(upstream).with_structured_output(kind, method=method, include_raw=True))
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], aistrale.OutputError)


def test_a_call_that_never_came_is_cut_off_too(upstream: Upstream) -> None:
    """Its tokens went into thinking; a model that only talks has just not called."""
    shaped = model(upstream).with_structured_output(Person, method="function_calling")
    upstream.will(text("Let me ", ended_by="length"), text("Hello"))
    with pytest.raises(aistrale.OutputError, match="raise max_tokens"):
        shaped.invoke("Who?")
    assert shaped.invoke("Who?") is None


@in_every_way
@in_every_method
def test_a_call_of_another_tool_that_was_cut_off_is_an_error(upstream: Upstream, way: str, method: Any) -> None:
    """Nobody is to call it with half of its arguments."""
    upstream.default = saying(call("weather", '{"city": "New Yo'), ended_by="length")
    with pytest.raises(aistrale.OutputError, match=r"call of a tool is not whole \(it was cut off"):
        WAYS[way](model(upstream).with_structured_output(Person, method=method, tools=[weather]))


@in_every_method
def test_a_call_that_is_no_json_is_an_error(upstream: Upstream, method: Any) -> None:
    """With what it was."""
    upstream.default = saying(call("Person", '{"name" = "Ada"}'), ended_by="tool_calls")
    with pytest.raises(aistrale.OutputError, match="call of a tool is not whole") as caught:
        model(upstream).with_structured_output(Person, method=method).invoke("Who?")
    assert caught.value.text == '{"name" = "Ada"}'


def test_an_answer_that_a_filter_stopped_says_so(upstream: Upstream) -> None:
    """An empty one has nothing else to say."""
    upstream.default = text("", ended_by="content_filter")
    with pytest.raises(aistrale.OutputError, match="the provider's policy stopped it"):
        model(upstream).with_structured_output(AS_SCHEMA).invoke("Who?")


@in_every_way
@in_every_method
@pytest.mark.parametrize("kind", [Person, OldPerson])
def test_an_answer_that_does_not_fit_its_class_is_an_error(
    upstream: Upstream, way: str, method: Any, kind: Any
) -> None:
    """Which names the class and the field, and can be sent to another process."""
    answer = '{"name": "Ada", "age": "unknown"}'
    upstream.default = saying(call(kind.__name__, answer)) if method == "function_calling" else text(answer)
    with pytest.raises(aistrale.OutputError, match=rf"is no {kind.__name__}: .*\s.*age") as caught:
        WAYS[way](model(upstream).with_structured_output(kind, method=method))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.text, again.args) == (str(caught.value), answer, caught.value.args)


def test_an_instance_is_read_from_json_and_not_from_python(upstream: Upstream) -> None:
    """JSON has no tuples: a strict class takes a list for one, as LangChain's own parser does not."""

    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        pair: tuple[int, int]

    with pytest.raises(langchain.OutputParserException):
        PydanticOutputParser(pydantic_object=Strict).parse('{"pair": [1, 2]}')
    upstream.default = text('{"pair": [1, 2]}')
    assert model(upstream).with_structured_output(Strict).invoke("Which?") == Strict(pair=(1, 2))


# What is asked for


@pytest.mark.parametrize("given", [{"method": "xml"}, {"method": None}])
def test_a_method_that_is_none_is_refused_with_those_there_are(upstream: Upstream, given: JSON) -> None:
    """All three of them."""
    with pytest.raises(ValueError, match="'json_schema', 'function_calling', 'json_mode', not"):
        model(upstream).with_structured_output(Person, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schema": None, "method": "json_schema"}, "schema must be specified"),
        ({"schema": None, "method": "function_calling"}, "schema must be specified"),
        ({"schema": Person, "method": "json_mode", "strict": True}, "strict needs a schema"),
    ],
)
def test_what_a_method_cannot_do_is_refused(upstream: Upstream, given: JSON, message: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=message):
        model(upstream).with_structured_output(**given)


def formats(upstream: Upstream, schema: Any, **given: Any) -> JSON:
    """What is sent of a schema."""
    upstream.default = text(json.dumps(ADA))
    model(upstream).with_structured_output(schema, include_raw=True, **given).invoke("Who?")
    sent: JSON = upstream.requests[-1].body["response_format"]
    assert sent["type"] == "json_schema"
    return dict(sent["json_schema"])


@pytest.mark.parametrize("kind", [Person, PlainPerson])
def test_a_class_is_strict_unless_told_otherwise(upstream: Upstream, kind: Any) -> None:
    """By the core's rule: every object closed, all of its fields required."""
    for strict in (None, True):
        sent = formats(upstream, kind, strict=strict)
        assert sent["strict"] is True
        assert sent["schema"]["additionalProperties"] is False
    sent = formats(upstream, kind, strict=False)
    assert sent["strict"] is False
    assert "additionalProperties" not in sent["schema"]


def test_a_schema_is_as_strict_as_told(upstream: Upstream) -> None:
    """Untold, it is sent as it is."""
    schema = {**AS_SCHEMA, "required": ["name"]}
    assert formats(upstream, schema) == {"name": "Person", "schema": schema}
    assert formats(upstream, schema, strict=False) == {"name": "Person", "schema": schema, "strict": False}
    strict = {**schema, "required": ["name", "age"], "additionalProperties": False}
    assert formats(upstream, schema, strict=True) == {"name": "Person", "schema": strict, "strict": True}
    assert schema["required"] == ["name"]


def test_a_class_that_cannot_be_strict_is_not(upstream: Upstream) -> None:
    """OpenAI's strict mode has no objects with names of their own making."""
    assert "strict" not in formats(upstream, Counts)


def test_a_name_that_providers_refuse_is_made_one_they_take(upstream: Upstream) -> None:
    """Letters, digits, _ and -."""
    assert formats(upstream, Box[int])["name"] == "Box_int_"
    assert formats(upstream, {**AS_SCHEMA, "title": "A person, in short"})["name"] == "A_person__in_short"


def test_a_schema_needs_no_title(upstream: Upstream) -> None:
    """Its name says nothing of it."""
    untitled = {key: value for key, value in AS_SCHEMA.items() if key != "title"}
    assert formats(upstream, untitled) == {"name": "answer", "schema": untitled}


def test_langchains_own_schemas_are_understood(upstream: Upstream) -> None:
    """A TypedDict's annotations, functions, and tools as providers write them; OpenAI's formats stay as they are."""
    assert formats(upstream, TypedPerson)["schema"]["properties"]["name"]["description"] == "As in the passport"

    def person(name: str, age: int) -> None:
        """Somebody."""

    parameters = {key: value for key, value in AS_SCHEMA.items() if key != "title"}
    for schema in (
        person,
        {"name": "person", "parameters": parameters},
        {"name": "person", "input_schema": parameters},
        {"type": "function", "function": {"name": "person", "parameters": parameters}},
    ):
        sent = formats(upstream, schema)
        assert (sent["name"], set(sent["schema"]["properties"])) == ("person", {"name", "age"}), schema
    inner = {"name": "person", "schema": parameters, "strict": False}
    assert formats(upstream, inner) == formats(upstream, {"type": "json_schema", "json_schema": inner}) == inner


def test_what_is_no_schema_is_refused_as_both(upstream: Upstream) -> None:
    """Before anything is sent, saying where it is wrong."""
    with pytest.raises(aistrale.InvalidRequestError, match="there is no type 'strin'") as caught:
        model(upstream).with_structured_output({"type": "object", "properties": {"name": {"type": "strin"}}})
    assert isinstance(caught.value, langchain.ModelInvalidRequestError)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_tools_beside_a_shape_are_as_strict_as_it_is(upstream: Upstream, method: Any) -> None:
    """All of them, where it was asked for."""
    upstream.default = said(method, json.dumps(ADA))
    for strict in (True, None):
        model(upstream).with_structured_output(Person, method=method, tools=[weather], strict=strict).invoke("Who?")
        sent = upstream.requests[-1].body
        assert [entry["function"].get("strict") for entry in sent["tools"]] == [strict] * len(sent["tools"])


@in_every_method
def test_further_options_are_those_of_the_call(upstream: Upstream, method: Any) -> None:
    """Over what the method itself would choose."""
    upstream.default = said(method, json.dumps(ADA))
    more: JSON = {"temperature": 0.5, "tools": [weather], "tool_choice": "auto", "parallel_tool_calls": True}
    model(upstream).with_structured_output(Person, method=method, **more).invoke("Who?")
    sent = upstream.requests[0].body
    assert (sent["temperature"], sent["tool_choice"], sent["parallel_tool_calls"]) == (0.5, "auto", True)
    model(upstream).with_structured_output(Person, method=method, temperature=0.5).invoke("Who?")
    assert upstream.requests[1].body["temperature"] == 0.5
