"""JSON is read as Python's own `json` reads it."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aistrale.parsing import parse_json


def shown(read: Any, text: str | bytes) -> str:
    """What is read, to the last digit and with its types; or that it cannot be."""
    try:
        return repr(read(text))
    except (ValueError, RecursionError) as error:
        return type(error).__name__


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner))
numbers = st.from_regex(r"\A-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?\Z")
odd = st.text(st.sampled_from('"\\ud8019-+.eE[]{}:, \n'))


@given(values, st.booleans())
def test_values_are_read_as_they_were_written(value: Any, in_ascii: bool) -> None:
    """Whole numbers of any size, NaN and halves of characters too."""
    text = json.dumps(value, ensure_ascii=in_ascii)
    assert shown(parse_json, text) == shown(json.loads, text)


@given(numbers | odd)
@example("1e999")
@example("-0")
@example("-0.0")
@example('{"a": 1, "a": 2}')
@example('"\t"')
@example("\ufeff1")
@example("-NaN")
@example("+1")
@example("[" * 100_000)
@example("[" * 900 + "]" * 900)
@example("9" * 4300)
@example("9" * 4301)
def test_any_text_is_read_or_refused_alike(text: str) -> None:
    """So that nobody who is told what is wrong with an answer is told otherwise."""
    assert shown(parse_json, text) == shown(json.loads, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_bytes_are_read_in_any_encoding_of_unicode(encoding: str) -> None:
    assert parse_json('{"name": "Köln 😀"}'.encode(encoding)) == {"name": "Köln 😀"}
