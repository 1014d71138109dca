"""Stored prompts as LlamaIndex's templates, and back: byte for byte, and known on the spans of calls."""

import asyncio
import pickle
from copy import deepcopy
from typing import Any

import pytest
from calls import kept
from keeping import on_sqlite
from llama_index.core import Document, PromptTemplate, SummaryIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, RichPromptTemplate
from llama_index.core.response_synthesizers.type import ResponseMode
from model_behaviour import behave
from upstream import Upstream

from aistrale import InvalidRequestError, StoreError, prompts, telemetry
from aistrale.store.store import Store
from aistrale_llamaindex import AistraleLLM, prompt_from_store, prompt_to_store

HARD = 'Reply to <{{who}}> & co. as {"name": "{{ who }}", "n": {}, "of": [{"a": {}}]} {{!who}} $x \\n }{ <br/>'
VALUES = ["<b>Ada & Co.</b>", '{"a": {"b": []}}', "{who} {{who}} {}", 'say "hi" \\ \n\t', ""]

pytestmark = [on_sqlite, pytest.mark.usefixtures("keeping")]


@pytest.fixture
def llm(upstream: Upstream) -> AistraleLLM:
    upstream.default = behave
    return AistraleLLM(model="gpt-test", provider="openai", api_key="sk", base_url=upstream.url, max_retries=0)


def sent(upstream: Upstream) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in upstream.requests[-1].body["messages"]]


@pytest.mark.parametrize("who", VALUES)
def test_a_stored_prompt_is_sent_byte_for_byte(llm: AistraleLLM, upstream: Upstream, who: str) -> None:
    """The provider gets what the store renders, a text and a chat."""
    prompts.create("text", HARD)
    prompts.create("chat", [{"role": "system", "content": HARD}, {"role": "user", "content": "{} <{{who}}>"}])
    llm.predict(prompt_from_store("text"), who=who)
    assert sent(upstream) == [("user", prompts.render("text", {"who": who}))]
    asyncio.run(llm.apredict(prompt_from_store("chat"), who=who))
    rendered: Any = prompts.render("chat", {"who": who})
    assert sent(upstream) == [(message.role, message.content) for message in rendered]


def test_its_name_and_version_are_on_the_spans_of_calls(llm: AistraleLLM, store: Store) -> None:
    """Also where the template was filled in in part, copied or pickled."""
    prompts.create("greet", "Hello {{who}}")
    prompts.update("greet", "Hi {{who}}", labels=["production"])
    template = prompt_from_store("greet@production")
    for each in (
        template,
        template.partial_format(who="Ada"),
        deepcopy(template),
        pickle.loads(pickle.dumps(template)),
    ):
        llm.predict(each, who="Ada")
    list(llm.stream_chat(template.format_messages(who="Ada")))
    telemetry.query()
    found = [(span.attributes["gen_ai.prompt.name"], span.attributes["gen_ai.prompt.version"]) for span in kept(store)]
    assert found == [("greet", "2")] * 5
    llm.chat([ChatMessage(content="Hello")])
    assert "gen_ai.prompt.name" not in telemetry.query(limit=1)[0].attributes


def test_a_query_engine_takes_it(llm: AistraleLLM, upstream: Upstream, own_loop: None) -> None:
    """In place of its own; what it offers beyond the prompt's variables is passed over."""
    prompts.create("qa", "By {{context_str}}: {{query_str}}")
    engine = SummaryIndex.from_documents([Document(text="Whales are mammals.")]).as_query_engine(
        llm=llm, text_qa_template=prompt_from_store("qa"), response_mode=ResponseMode.COMPACT
    )
    engine.query("What are whales?")
    assert sent(upstream) == [("user", "By Whales are mammals.: What are whales?")]


def test_what_is_missing_is_named(llm: AistraleLLM, upstream: Upstream) -> None:
    """A variable, and a prompt."""
    prompts.create("greet", "Hello {{who}}")
    with pytest.raises(InvalidRequestError, match="missing: who"):
        llm.predict(prompt_from_store("greet"))
    with pytest.raises(StoreError):
        prompt_from_store("nope")
    assert upstream.requests == []


KEPT: dict[str, tuple[BasePromptTemplate, Any]] = {
    "a text": (PromptTemplate("Say {word} in {language}"), "Say {{word}} in {{language}}"),
    "a variable in braces": (PromptTemplate("{{word}}"), "{{{word}}}"),
    "a text with JSON": (PromptTemplate('{"a": [{}], "b": "{word}"}'), '{"a": [{}], "b": "{{word}}"}'),
    "a chat": (
        ChatPromptTemplate.from_messages([("system", "Be {mood}."), ("user", "Say {word}")]),
        [{"role": "system", "content": "Be {{mood}}."}, {"role": "user", "content": "Say {{word}}"}],
    ),
}


@pytest.mark.parametrize(("template", "wanted"), KEPT.values(), ids=KEPT)
def test_a_template_goes_into_the_store_and_back(template: BasePromptTemplate, wanted: Any) -> None:
    """And renders the same."""
    stored = prompt_to_store("kept", template, labels=["production"])
    assert (stored.template, stored.version, stored.labels) == (wanted, 1, ("production",))
    values: Any = {variable: f"<{variable}> {{x}}" for variable in template.template_vars}
    again = prompt_from_store("kept@production")
    assert again.template_vars == template.template_vars
    told = [(message.role, message.content) for message in again.format_messages(**values)]
    assert told == [(message.role, message.content) for message in template.format_messages(**values)]
    assert prompt_to_store("kept", again).template == wanted


REFUSED: dict[str, tuple[Any, str]] = {
    "partial variables": (PromptTemplate("{a} {b}").partial_format(a="x"), "partial variables"),
    "mappings": (PromptTemplate("{a}", template_var_mappings={"b": "a"}), "template_var_mappings"),
    "functions": (PromptTemplate("{a}", function_mappings={"a": lambda **_: "x"}), "function_mappings"),
    "another kind": (RichPromptTemplate("{{ a }}"), "a RichPromptTemplate"),
    "what is a variable to the store alone": (PromptTemplate("{{ a }} {b}"), "come out differently"),
}


@pytest.mark.parametrize(("template", "why"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_lost_is_refused(template: Any, why: str) -> None:
    """By its name; nothing is kept."""
    with pytest.raises(InvalidRequestError, match=why):
        prompt_to_store("kept", template)
    assert prompts.list() == []
