"""Structured output: the shape that is asked for, and an answer in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.json import parse_json_markdown
from pydantic import BaseModel

from aistrale.schema import response_format_of
from aistrale.schema import strict as made_strict
from aistrale_langchain.errors import OutputError, model_errors


def as_response_format(schema: Any, strict: bool | None) -> dict[str, Any]:
    """A schema as OpenAI's `response_format`; what is one already as it is. A class is strict unless told otherwise."""
    if isinstance(schema, Mapping):
        if schema.get("type") in ("json_schema", "json_object", "text"):
            return dict(schema)
        if "name" in schema and "schema" in schema:  # the inner half of one
            return {"type": "json_schema", "json_schema": dict(schema)}
    is_class = isinstance(schema, type) and (issubclass(schema, BaseModel) or is_dataclass(schema))
    with model_errors:
        if is_class and strict is not False:
            form, _ = response_format_of(schema)
        else:
            described = _json_schema(schema)
            form, _ = response_format_of(made_strict(described) if strict else described)
    if strict is not None:
        form["json_schema"]["strict"] = strict
    return form


def _json_schema(schema: Any) -> dict[str, Any]:
    """A schema however LangChain knows it."""
    if isinstance(schema, Mapping) and not {"name", "toolSpec"} & schema.keys() and schema.get("type") != "function":
        return dict(schema)
    return convert_to_json_schema(schema)


class StructuredOutputParser(JsonOutputParser):
    """An answer in its shape: a dict, or an instance of `pydantic_object`; None where the model calls tools instead.

    tool: the one whose arguments are the answer; without one its text is. A stream gives what there is so far, but an
    instance only at the end if `whole`. Raises OutputError for a refusal, and for what does not fit or was cut off.
    """

    tool: str | None = None
    whole: bool = False

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        message = cast(AIMessage, cast(ChatGeneration, result[0]).message)
        if partial and isinstance(message, AIMessageChunk) and message.chunk_position != "last":
            return self._so_far(result, message)
        if refusal := message.additional_kwargs.get("refusal"):
            raise OutputError(f"The model refused: {refusal}", text=refusal)
        if self.tool or message.tool_calls or message.invalid_tool_calls:
            _check_calls(message)
            found = self._arguments(message)
        else:
            found = _json(message)
        return found if found is None else self._instance(found)

    async def aparse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        return self.parse_result(result, partial=partial)  # it takes less time than to hand it to a thread

    def _so_far(self, result: list[Generation], message: AIMessageChunk) -> Any:
        if self.pydantic_object is not None and self.whole:
            return None
        found = self._arguments(message) if self.tool else super().parse_result(result, partial=True)
        if not isinstance(found, dict | list):  # such as a number that begins what is said before a tool is called
            return None
        try:
            return self._instance(found)
        except OutputError:
            return None

    def _arguments(self, message: AIMessage) -> dict[str, Any] | None:
        """What the model calls the tool with; None if it calls others, or only talks."""
        return next((call["args"] for call in message.tool_calls if call["name"] == self.tool), None)

    def _instance(self, found: Any) -> Any:
        kind: Any = self.pydantic_object
        if kind is None:
            return found
        text = json.dumps(found)
        try:
            return kind.model_validate_json(text) if issubclass(kind, BaseModel) else kind.parse_raw(text)
        except ValueError as error:
            raise OutputError(f"The model's answer is no {kind.__name__}: {error}", text=text) from error


def _check_calls(message: AIMessage) -> None:
    """Raise OutputError for calls that are not whole; a stream's look as if they were."""
    broken = next((call["args"] or "" for call in message.invalid_tool_calls), None)
    if broken is not None or message.response_metadata.get("finish_reason") == "length":
        raise OutputError(f"The model's call of a tool is not whole{_why(message)}", text=broken or "")


def _json(message: AIMessage) -> Any:
    """What the text says, maybe within Markdown."""
    text = str(message.text)
    try:
        return parse_json_markdown(text, parser=lambda part: json.loads(part, strict=False))
    except ValueError as error:
        raise OutputError(f"The model's answer is no JSON{_why(message)}: {error}", text=text) from error


_ENDS = {"length": " (it was cut off: raise max_tokens)", "content_filter": " (the provider's policy stopped it)"}


def _why(message: AIMessage) -> str:
    return _ENDS.get(message.response_metadata.get("finish_reason", ""), "")


def with_raw(bound: Runnable[Any, Any], parser: StructuredOutputParser) -> Runnable[Any, Any]:
    """The raw answer, what was parsed of it, and the error if that failed."""

    def parsed(answer: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        return {**answer, "parsed": parser.invoke(answer["raw"], config), "parsing_error": None}

    unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
    # Steps that stream would hand on a part before they fail, and what comes after that is no fallback's.
    whole = RunnableLambda(parsed).with_fallbacks([unparsed], exception_key="parsing_error")
    return RunnableMap(raw=bound) | whole
