"""Templates are filled in exactly: what is a variable is replaced, and nothing else is touched."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import printed
from strategies import json_values, messages

from aistrale.exceptions import InvalidRequestError
from aistrale.models import Message
from aistrale.templates import (
    MAX_BYTES,
    StoredPrompt,
    as_messages,
    as_note,
    as_options,
    as_template,
    check_label,
    check_labels,
    check_name,
    check_version,
    escape,
    reference,
)

names = st.from_regex(r"[a-z_]\w{0,6}", fullmatch=True).filter(str.isidentifier)
braces = st.text(st.sampled_from("{}! \t\nax1é\\$"), max_size=30)


def prompt(template: Any) -> StoredPrompt:
    return StoredPrompt("greet", 3, as_template(template), {}, None, (), datetime(2026, 1, 1, tzinfo=UTC))


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("written", ["{{name}}", "{{ name }}", "{{\tname }}"])
def test_a_variable_is_replaced(written: str) -> None:
    """With blanks inside the braces or without."""
    assert prompt(f"Hello {written}!").render({"name": "Ada"}) == "Hello Ada!"


@pytest.mark.parametrize("name", ["x", "_", "class", "größe", "e\u0301", "名前", "a\u00b7b", "x1"])
def test_a_variable_is_called_what_python_takes_as_a_name(name: str) -> None:
    """In any script, and keywords too."""
    assert prompt(f"<{{{{{name}}}}}>").render({name: "Ada"}) == "<Ada>"


@pytest.mark.parametrize(
    "text",
    [
        '{ "a": {"b": 1}}',
        '{"a":{"b":{"c":[]}}}',
        "{single} {} {{}} {{ }} {{{}}}",
        "{{1}} {{a.b}} {{a-b}} {{x²}} {{a b}} {{#if x}} {{ x | upper }} {{ !x }}",
        "{{\nx}} {{x\n}} {{x} } {{x",
        "<b> <> $x ${x} %s %(x)s \\1 \\g<0> \\{x} C:\\new \\\\",
        "line\r\nline\rline\n\n\ttab\x85\u2028\ufeffé😀",
    ],
)
def test_all_else_is_left_alone(text: str) -> None:
    """Byte for byte."""
    assert prompt(text).variables == ()
    assert prompt(text).render() == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{{x}}}", "{A}"),
        ("{{{{x}}}}", "{{A}}"),
        ('{"a":{{x}}}', '{"a":A}'),
        ("\\{{x}}\\", "\\A\\"),
        ("${{x}}$ {{a{{x}} {{x}}{{x}}", "$A$ {{aA AA"),
        ("{{!x}} {{! x }} {{!!x}} {{x}}", "{{x}} {{ x }} {{!x}} A"),
    ],
)
def test_variables_stand_next_to_anything(template: str, text: str) -> None:
    """Braces and backslashes around one mean nothing; only the mark inside makes a variable no variable."""
    assert prompt(template).render({"x": "A"}) == text


def test_a_value_is_not_rendered_again() -> None:
    """Nor is it a pattern of any kind."""
    values = {"x": "{{y}} {{!y}} \\1 \\g<0> $1", "y": "{{x}}"}
    assert prompt("{{x}}|{{y}}").render(values) == f"{values['x']}|{values['y']}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        (3, "3"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        (["ä", 1], '["ä", 1]'),
        ({"a": {"b": '"'}}, '{"a": {"b": "\\""}}'),
    ],
)
def test_values_that_are_no_text_are_json(value: Any, text: str) -> None:
    """As a model reads it, not as Python prints it."""
    assert prompt("{{x}}").render({"x": value}) == text


@pytest.mark.parametrize("value", [object(), float("nan"), b"x", {1, 2}, datetime(2026, 1, 1)])
def test_a_value_that_is_neither_is_refused(value: Any) -> None:
    """The error names the variable, and does not show what is in it."""
    assert refused(prompt("{{x}}").render, {"x": value}) == (
        f"The variable 'x' of prompt 'greet' is a value of type {type(value).__name__}, "
        "which is neither a text nor JSON"
    )


@given(st.lists(st.tuples(braces, names), max_size=4), braces, st.dictionaries(names, st.text()))
def test_rendering_joins_texts_and_values(pieces: list[tuple[str, str]], tail: str, values: dict[str, str]) -> None:
    """Whatever the texts between the variables hold."""
    values = {name: values.get(name, "{{x}}") for _, name in pieces}
    template = "".join(f"{escape(text)}|{{{{{name}}}}}|" for text, name in pieces) + escape(tail)
    if template:
        assert prompt(template).variables == tuple(values)
        assert prompt(template).render(values) == "".join(f"{text}|{values[name]}|" for text, name in pieces) + tail


@given(braces | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_every_text_can_be_written(text: str) -> None:
    """Escaped, it has no variables and renders to itself."""
    if text:
        assert prompt(escape(text)).variables == ()
        assert prompt(escape(text)).render({}) == text


@given(braces)
def test_what_has_no_variables_and_no_escapes_is_its_own_rendering(text: str) -> None:
    """Ordinary text needs no escaping."""
    if text and escape(text) == text:
        assert prompt(text).render() == text


def test_rendering_takes_time_in_proportion_to_the_text() -> None:
    """Long runs of what almost is a variable included."""
    for text in ("{", "{{", "{{!", "{{a", "{{ ", "}}", "{{x"):
        long = text * (MAX_BYTES // len(text))
        assert prompt(long).render() == long


def test_variables_are_in_order_of_first_appearance() -> None:
    """Each once."""
    assert prompt("{{b}} {{a}} {{b}} {{!c}} {{d}}").variables == ("b", "a", "d")


def test_all_that_does_not_fit_is_in_one_error() -> None:
    """Missing, unknown, and what there is."""
    three = prompt("{{name}} {{city}} {{tone}}")
    assert refused(three.render, {"nmae": 1, "tone": "", "x": 2}) == (
        "The variables do not fit prompt 'greet', version 3: missing: name, city; unknown: nmae, x; "
        "it takes name, city, tone"
    )
    assert refused(three.render) == (
        "The variables do not fit prompt 'greet', version 3: missing: name, city, tone; it takes name, city, tone"
    )
    assert refused(prompt("Hello").render, {"x": 1}) == (
        "The variables do not fit prompt 'greet', version 3: unknown: x; it takes none"
    )
    assert refused(three.render, "name") == "variables must be a dict of names and values, not a value of type str"


CHAT = [
    {"role": "system", "content": "You speak {{language}}."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is {{what}}?", "cache_control": {"type": "{{kept}}"}},
            {"type": "image_url", "image_url": {"url": "https://images.test/{{image}}", "detail": "{{kept}}"}},
            {"type": "image_url", "image_url": "https://images.test/{{image}}"},
            {"type": "file", "file": {"file_id": "{{kept}}"}},
        ],
        "name": "{{kept}}",
    },
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "{{language}}"},
]


def test_a_chat_is_rendered_where_people_write_text() -> None:
    """Texts, text parts and image URLs; everything else stays."""
    chat = prompt(CHAT)
    assert chat.variables == ("language", "what", "image")

    rendered = chat.render({"language": "Welsh", "what": '{{"this"}}', "image": "a.png"})

    assert rendered == [
        Message("system", "You speak Welsh."),
        Message(
            "user",
            [
                {"type": "text", "text": 'What is {{"this"}}?', "cache_control": {"type": "{{kept}}"}},
                {"type": "image_url", "image_url": {"url": "https://images.test/a.png", "detail": "{{kept}}"}},
                {"type": "image_url", "image_url": "https://images.test/a.png"},
                {"type": "file", "file": {"file_id": "{{kept}}"}},
            ],
            name="{{kept}}",
        ),
        Message.from_dict(CHAT[2]),
        Message("tool", "Welsh", tool_call_id="1"),
    ]


def test_what_was_rendered_can_be_changed_without_changing_the_prompt() -> None:
    """Nothing is shared."""
    chat = prompt(CHAT)
    rendered = chat.render({"language": "", "what": "", "image": ""})
    assert isinstance(rendered, list)
    rendered[1].content[0]["cache_control"]["type"] = "changed"  # type: ignore[index, call-overload]
    assert chat.template == as_template(CHAT)


@given(st.lists(messages, min_size=1, max_size=3))
def test_messages_are_kept_in_one_form(chat: list[dict[str, Any]]) -> None:
    """Whether they come as dicts or as messages, and what was kept is kept the same again."""
    if "\\u0000" in json.dumps(chat):
        return
    kept = as_messages(chat)
    assert as_messages(kept) == kept
    assert as_template([Message.from_dict(message) for message in chat]) == kept


def test_one_message_is_a_chat() -> None:
    """As for `run`."""
    message = {"role": "user", "content": "Hello"}
    assert as_template(message) == as_template(Message("user", "Hello")) == as_template([message]) == [message]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "The template is empty: a prompt is a text or at least one message"),
        ([], "The template is empty: a prompt is a text or at least one message"),
        (3, "messages must be a list, not a value of type int"),
        (["Hello"], "A message must be a dict or a Message, not a value of type str"),
        (
            [{"role": "sytem"}],
            "Unknown role 'sytem' in a message; use one of system, developer, user, ",
        ),
        (
            [{"role": "user", "x": {1}}],
            "There is something in the template that is not JSON: Object of type set is not JSON serializable",
        ),
        (
            [{"role": "user", "x": float("inf")}],
            "There is something in the template that is not JSON: Out of range float values",
        ),
        (
            [{"role": "user", "reasoning_blocks": [{"x": 1}]}],
            "A message of the template cannot be read: ReasoningBlock.__init__() got an unexpected",
        ),
        ("a\0b", "There is a NUL character in the template, which not every database can keep"),
        (
            [{"role": "user", "content": "\\\0"}],
            "There is a NUL character in the template, which not every database can keep",
        ),
        ("\ud800", "There is half a character (a lone surrogate) in the template, which is no Unicode"),
        (
            [{"role": "user", "content": "\udfff"}],
            "There is half a character (a lone surrogate) in the template, which is no Unicode",
        ),
    ],
)
def test_what_cannot_be_a_template_is_refused(template: Any, message: str) -> None:
    """Before anything is written."""
    assert refused(as_template, template).startswith(message)


def test_a_template_that_is_too_long_is_refused() -> None:
    """The error says how long it is, and may be: bytes, not characters."""
    chat = [{"role": "user", "content": "x" * MAX_BYTES}]
    limit = "bytes in the template, and the limit is 1,048,576"
    assert refused(as_template, "x" * 5_000_000) == f"There are 5,000,000 {limit}"
    assert refused(as_template, "é" * 524_289) == f"There are 1,048,578 {limit}"
    assert refused(as_template, chat) == f"There are 1,048,609 {limit}"


def test_a_template_may_be_as_long_as_the_limit_and_talk_of_nul() -> None:
    """An escape that stands in a text is no NUL."""
    assert as_template("é" * (MAX_BYTES // 2)) == "é" * (MAX_BYTES // 2)
    assert as_template([{"role": "user", "content": r"\u0000 \\u0000"}]) == [
        {"role": "user", "content": r"\u0000 \\u0000"}
    ]


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_options_are_any_json(options: dict[str, Any]) -> None:
    """Copied, so that nobody changes them later."""
    if "\\u0000" not in json.dumps(options) and "api_key" not in options:
        assert as_options(options) == options
        assert as_options(options) is not options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "options must be a dict of options of run, not a value of type list"),
        ({1: 2}, "options must be a dict of options of run, not a value of type dict"),
        (
            {"x": object()},
            "There is something in the options that is not JSON: Object of type object is not JSON serializable",
        ),
        ({"x": "\0"}, "There is a NUL character in the options, which not every database can keep"),
        ({"api_key": "sk-123"}, "A prompt is kept in plain text: leave api_key out of its options"),
    ],
)
def test_options_that_are_none_are_refused(options: Any, message: str) -> None:
    """A key among them, which would end up in files."""
    assert refused(as_options, options) == message


def test_a_note_is_a_text() -> None:
    """An empty one is none."""
    assert as_note("Shorter") == "Shorter"
    assert as_note("") is None
    assert refused(as_note, 3) == "note must be a text, not a value of type int"
    assert refused(as_note, "\0") == "There is a NUL character in the note, which not every database can keep"


NAMES_ARE = "1 to 200 of the letters a-z and A-Z, digits, '.', '_' and '-', not beginning with '.' or '-'"


@pytest.mark.parametrize("name", ["a", "A.b_c-1", "_x", "9", "x" * 200])
def test_names_are_simple(name: str) -> None:
    """They fit into a file's name, and into an address."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a@1", ".", "..", ".a", "-a", "a b", "é", "a\n", "x" * 201, None, 3, b"a"])
def test_other_names_are_refused(name: Any) -> None:
    """The error says what names look like."""
    shown = repr(name) if len(repr(name)) <= 80 else repr(name)[:80] + "..."
    assert refused(check_name, name) == f"{shown} is no name for a prompt: names are {NAMES_ARE}"


@pytest.mark.parametrize("label", ["", "a/b", "a@b", "3", "007", "x" * 201, None, 3])
def test_labels_are_no_versions(label: Any) -> None:
    """And otherwise like names."""
    shown = repr(label) if len(repr(label)) <= 80 else repr(label)[:80] + "..."
    assert refused(check_label, label) == (
        f"{shown} is no label: labels are {NAMES_ARE}; one of digits only would be a version"
    )


def test_latest_is_no_label_to_be_given() -> None:
    """It is where the newest version is."""
    assert refused(check_label, "latest") == "The label 'latest' is always on the newest version and cannot be moved"


def test_labels_are_a_list() -> None:
    """A text is not one of letters."""
    assert check_labels(["b", "a", "b"]) == ("b", "a")
    assert refused(check_labels, "production") == "labels must be a list, not a value of type str"


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", 2**31])
def test_a_version_is_a_number(version: Any) -> None:
    """One that every database can hold."""
    assert refused(check_version, version) == f"A version is a whole number from 1 on, not {version!r}"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("a",), ("a", None, None)),
        (("a@3",), ("a", 3, None)),
        (("a", 3), ("a", 3, None)),
        (("a@x",), ("a", None, "x")),
        (("a", None, "x"), ("a", None, "x")),
        (("a@latest",), ("a", None, "latest")),
    ],
)
def test_a_reference_names_a_version_at_most_once(arguments: Any, meant: Any) -> None:
    """By number or by label, in the name or apart from it."""
    assert reference(*arguments) == meant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a@3", 3), "Name one version of prompt 'a': by version, by label, or after an '@'"),
        (("a", 3, "x"), "Name one version of prompt 'a': by version, by label, or after an '@'"),
        (("a@b@c",), f"'b@c' is no label: labels are {NAMES_ARE}; one of digits only would be a version"),
        (("a@",), f"'' is no label: labels are {NAMES_ARE}; one of digits only would be a version"),
        (("a@²",), f"'²' is no label: labels are {NAMES_ARE}; one of digits only would be a version"),
        (("a@0",), "A version is a whole number from 1 on, not 0"),
        (("a@9999999999",), "A version is a whole number from 1 on, not 9999999999"),
        (("@3",), f"'' is no name for a prompt: names are {NAMES_ARE}"),
        ((None,), f"None is no name for a prompt: names are {NAMES_ARE}"),
    ],
)
def test_a_reference_that_is_none_is_refused(arguments: Any, message: str) -> None:
    """Whichever part of it is wrong."""
    assert refused(reference, *arguments) == message


def test_a_long_number_is_no_version() -> None:
    """However long."""
    assert re.match(r"'9{79}\.\.\. is no label", refused(reference, "a@" + "9" * 10_000))


def test_templates_stand_alone(tmp_path: Any) -> None:
    """No database and no YAML are loaded to fill in a text."""
    program = """
        import sys
        import aistrale.templates

        print([name for name in ("sqlalchemy", "yaml", "pydantic", "httpx") if name in sys.modules])
    """
    assert printed(program, cwd=tmp_path) == "[]\n"
