"""Stored prompts in LangChain, and LangChain's in the store."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate

from aistrale import InvalidRequestError, prompts
from aistrale_langchain import prompt_from_store, prompt_to_store

pytestmark = pytest.mark.usefixtures("store")
HARD = 'Reply to <{{who}}> & co. as {"name": "{{ who }}", "n": {}} {{!who}} $x \\n }{'


def test_a_stored_prompt_comes_out_byte_for_byte() -> None:
    """JSON, braces, `<>` and escapes included; it knows which version it is."""
    prompts.create("reply", HARD)
    template = prompt_from_store("reply")
    assert isinstance(template, PromptTemplate)
    assert template.input_variables == ["who"]
    assert template.format(who="<b>{Ada}</b>") == prompts.render("reply", {"who": "<b>{Ada}</b>"})
    assert template.metadata == {"aistrale_prompt": {"name": "reply", "version": 1}}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("{}!a <&\"'\\\n", min_size=1, max_size=30))
def test_any_text_comes_out_as_the_store_renders_it(text: str) -> None:
    """Whatever braces are in it."""
    stored = prompts.create("p", text) if not prompts.list() else prompts.update("p", text)
    values = dict.fromkeys(stored.variables, "<v>{}")
    template = prompt_from_store("p", stored.version)
    assert isinstance(template, PromptTemplate)
    assert template.format(**values) == stored.render(values)


def test_a_chat_becomes_a_chat() -> None:
    """With its roles."""
    prompts.create("chat", [{"role": "system", "content": "Be {{mood}}."}, {"role": "user", "content": "Hi {x}"}])
    template = prompt_from_store("chat@1")
    assert isinstance(template, ChatPromptTemplate)
    said = template.format_messages(mood="kind")
    assert [(message.type, message.content) for message in said] == [("system", "Be kind."), ("human", "Hi {x}")]


def test_langchains_templates_can_be_stored() -> None:
    """And come back the same; what cannot be kept is refused."""
    prompt_to_store("text", PromptTemplate.from_template('Say {word} in {{"json": 1}}'))
    assert prompts.render("text", {"word": "hi"}) == 'Say hi in {"json": 1}'
    stored = prompt_to_store(
        "chat", ChatPromptTemplate([("system", "Be {mood}"), ("user", "{x}")]), labels=["production"]
    )
    assert stored.variables == ("mood", "x")
    for odd in (
        ChatPromptTemplate([MessagesPlaceholder("history")]),
        PromptTemplate.from_template("{x:>10}"),
        PromptTemplate.from_template("{{x}}", template_format="mustache"),
    ):
        with pytest.raises(InvalidRequestError):
            prompt_to_store("odd", odd)
