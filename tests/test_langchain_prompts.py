"""Stored prompts in LangChain, and LangChain's in the store."""

import asyncio
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import on_sqlite
from langchain_core.load import dumps, loads
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    merge_message_runs,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    HumanMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from upstream import Upstream

from aistrale import InvalidRequestError, prompts, telemetry
from aistrale.store.store import Store
from aistrale_langchain import AistraleCallbackHandler, AistraleLLM, ChatAistrale, prompt_from_store, prompt_to_store
from aistrale_langchain.messages import messages_of

pytestmark = pytest.mark.usefixtures("store")

both_kinds = pytest.mark.parametrize("kind", [ChatAistrale, AistraleLLM])
in_beta = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
on_many = settings(max_examples=50)

HARD = 'Reply to <{{who}}> & co. as {"name": "{{ who }}", "n": {}} {{!who}} $x \\n }{'
PIECES = [
    "{{a}}",
    "{{ b_1 }}",
    "{{!a}}",
    "{a}",
    "{",
    "}",
    "!",
    "a",
    " ",
    "<",
    "&",
    '"',
    "'",
    "\\",
    "\n",
    "%",
    "é",
    "{{ä}}",
]
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join)
VALUE = st.text("{}!a <&\"'\\\n", max_size=8)
PDF = "data:application/pdf;base64,AAAA"


# From the store


def test_a_stored_prompt_comes_out_byte_for_byte() -> None:
    """JSON, braces, `<>` and escapes included; it knows which version it is, and with what options."""
    prompts.create("reply", HARD, options={"temperature": 0})
    template = prompt_from_store("reply")
    assert isinstance(template, PromptTemplate)
    assert template.input_variables == ["who"]
    assert template.format(who="<b>{Ada}</b>") == prompts.render("reply", {"who": "<b>{Ada}</b>"})
    known = {"name": "reply", "version": 1, "options": {"temperature": 0}}
    assert template.metadata == {"aistrale_prompt": known}


@on_many
@given(TEXT, VALUE)
def test_any_text_comes_out_as_the_store_renders_it(text: str, value: str) -> None:
    """Whatever braces are in it, and in what is filled in."""
    stored = prompts.create("p", text) if not prompts.list() else prompts.update("p", text)
    values = dict.fromkeys(stored.variables, value)
    template = prompt_from_store("p", stored.version)
    assert isinstance(template, PromptTemplate)
    assert template.format(**values) == stored.render(values)


PART = st.one_of(
    TEXT.map(lambda text: {"type": "text", "text": text}),
    TEXT.map(lambda text: {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}),
    TEXT.map(lambda text: {"type": "image_url", "image_url": text}),
    st.tuples(TEXT, TEXT).map(lambda two: {"type": "image_url", "image_url": {"url": two[0], "detail": two[1]}}),
    st.tuples(TEXT, TEXT).map(lambda two: {"type": "file", "file": {"filename": two[0], "file_data": two[1]}}),
    TEXT.map(lambda text: {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}),
    TEXT.map(lambda text: {"type": "odd", "texts": [text, {"of": text}, [text]], "number": 1, "nothing": None}),
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant"]),
        "content": TEXT | st.lists(PART, min_size=1),
    },
    optional={"name": st.sampled_from(["ada", "bob"])},
)


@on_many
@given(st.lists(MESSAGE, min_size=1, max_size=3), VALUE)
def test_any_chat_comes_out_as_the_store_renders_it(messages: list[dict[str, Any]], value: str) -> None:
    """In texts, parts of any type, and wherever no variable may stand; roles and names with it."""
    stored = prompts.create("p", messages) if not prompts.list() else prompts.update("p", messages)
    values = dict.fromkeys(stored.variables, value)
    said = template_of("p", stored.version).format_messages(**values)
    rendered: Any = stored.render(values)
    assert [message.content for message in said] == [message.content for message in rendered]
    sent = messages_of(message.model_copy(update={"content": "Hi"}) for message in said)
    assert [(message.role, message.name) for message in sent] == [(message.role, message.name) for message in rendered]


def template_of(name: str, version: int | None = None) -> ChatPromptTemplate:
    template = prompt_from_store(name, version)
    assert isinstance(template, ChatPromptTemplate)
    return template


def test_a_chat_becomes_a_chat() -> None:
    """With templates of LangChain's own where it has them."""
    prompts.create("chat", [{"role": "system", "content": "Be {{mood}}."}, {"role": "user", "content": "Hi {x}"}])
    template = template_of("chat")
    assert [type(message) for message in template.messages] == [SystemMessagePromptTemplate, HumanMessagePromptTemplate]
    said = template.format_messages(mood="kind")
    assert [(message.type, message.content) for message in said] == [("system", "Be kind."), ("human", "Hi {x}")]


TOOLS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Use {{tool}}"},
    {"role": "user", "content": "What is {{what}}?", "name": "ada"},
    {
        "role": "assistant",
        "content": "I ask {{tool}}",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "ask", "arguments": '{"about": "{{what}}"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "ask", "arguments": "no JSON"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "{{what}} {is} it", "is_error": True},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "{{what}}"}]},
    {"role": "function", "name": "old", "content": "{{what}}"},
    {"role": "assistant", "content": "", "name": "bob"},
]


def test_tools_in_a_chat_are_langchains(upstream: Upstream) -> None:
    """Calls, results, names and the developer's role are sent as `aistrale.run` sends them."""
    prompts.create("tools", TOOLS[:-1])
    template, values = template_of("tools"), {"tool": "{it}", "what": "<that>"}
    said = template.format_messages(**values)
    assert [message.type for message in said] == ["system", "human", "ai", "tool", "tool", "function"]
    assert messages_of(said) == prompts.render("tools", values)
    (template | chat(upstream)).invoke(values)
    assert "aistrale_prompt" not in json.dumps(upstream.requests[-1].body)
    assert upstream.requests[-1].body["messages"][0] == {"role": "developer", "content": "Use {it}"}


def test_messages_are_made_anew_each_time() -> None:
    """Whoever gives one an id, as graphs do, changes no other."""
    prompts.create("tools", TOOLS)
    template = template_of("tools")
    first, second = (template.format_messages(tool="t", what="w") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one is not other
        assert one.additional_kwargs is not other.additional_kwargs
        assert one.additional_kwargs == other.additional_kwargs


def test_a_template_can_be_looked_at() -> None:
    """Messages with fields of their own included."""
    prompts.create("tools", TOOLS[:3])
    shown = template_of("tools").pretty_repr()
    assert all(said in shown for said in ("Use {tool}", "Name: ada", "What is {what}?", "I ask {tool}", "call_1"))


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user", "content": None, "weight": 1}, "weight"),
        ({"role": "user", "content": None}, "without content"),
        ({"role": "user", "content": "Hi", "tool_call_id": "1"}, "tool_call_id"),
        ({"role": "assistant", "content": "Hi", "refusal": "No"}, "refusal"),
        ({"role": "assistant", "reasoning_blocks": [{"text": "Hm"}]}, "reasoning_blocks"),
        (
            {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "x"}}]},
            "tool_calls",
        ),
        ({"role": "user", "content": "{{stop}}"}, "stop"),
        ({"role": "user", "content": "{{self}}"}, "self"),
    ],
)
@on_sqlite
def test_what_langchain_has_no_template_for_is_refused(message: dict[str, Any], named: str) -> None:
    """By its name, before anything is rendered."""
    prompts.create("odd", [message])
    with pytest.raises(InvalidRequestError, match=named):
        prompt_from_store("odd")


@on_sqlite
def test_what_says_nothing_is_no_reason_to_refuse() -> None:
    """Such as the nulls in a message that a provider answered."""
    prompts.create("p", [{"role": "assistant", "content": "{{x}}", "refusal": None}])
    assert template_of("p").format_messages(x="Hi")[0].content == "Hi"


# Options


@both_kinds
@on_sqlite
def test_options_are_bound(upstream: Upstream, kind: Any) -> None:
    """As the metadata has them; a template by itself applies none."""
    prompts.create("p", "Hi", options={"temperature": 0.5, "model": "gpt-other"})
    template = prompt_from_store("p")
    model = of(kind, upstream)
    bound = model.bind(**(template.metadata or {})["aistrale_prompt"]["options"])
    (template | bound).invoke({})
    (template | model).invoke({})
    first, second = (request.body for request in upstream.requests)
    assert (first["model"], first["temperature"]) == ("gpt-other", 0.5)
    assert (second["model"], "temperature" in second) == ("gpt-test", False)


@on_sqlite
def test_options_that_no_call_takes_are_refused() -> None:
    """As `aistrale.run` refuses them: an address would decide where keys go."""
    prompts.create("p", "Hi", options={"base_url": "http://elsewhere"})
    with pytest.raises(InvalidRequestError, match="base_url"):
        prompt_from_store("p")


# On the spans of calls


def of(kind: Any, upstream: Upstream) -> Any:
    return kind(model="gpt-test", provider="openai", api_key="sk-test", base_url=upstream.url, max_retries=0)


def chat(upstream: Upstream) -> ChatAistrale:
    model: ChatAistrale = of(ChatAistrale, upstream)
    return model


def marks() -> list[tuple[str, str] | None]:
    """Which prompt and version is on the span of each call to a model."""
    calls = [span for span in telemetry.query() if span.name.startswith("chat ")]
    return [
        (str(span.attributes["gen_ai.prompt.name"]), str(span.attributes["gen_ai.prompt.version"]))
        if "gen_ai.prompt.name" in span.attributes
        else None
        for span in calls
    ]


def ask(chain: Any, way: str, input: Any) -> None:
    async def streamed() -> None:
        async for _ in chain.astream(input):
            pass

    match way:
        case "invoke":
            chain.invoke(input)
        case "stream":
            assert list(chain.stream(input))
        case "batch":
            chain.batch([input])
        case "ainvoke":
            asyncio.run(chain.ainvoke(input))
        case "astream":
            asyncio.run(streamed())
        case "abatch":
            asyncio.run(chain.abatch([input]))


@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "ainvoke", "astream", "abatch"])
@both_kinds
@on_sqlite
def test_a_call_says_which_prompt_it_was_made_of(keeping: Store, upstream: Upstream, kind: Any, way: str) -> None:
    """The version that was taken, without any handler, and without looking the prompt up again."""
    prompts.create("reply", "Hi {{who}}")
    chain = prompt_from_store("reply") | of(kind, upstream)
    prompts.update("reply", "Hello {{who}}", options={"temperature": 1})
    prompts.delete("reply", 1)
    ask(chain, way, {"who": "Ada"})
    assert marks() == [("reply", "1")]
    body = upstream.requests[-1].body
    assert (body["messages"], "temperature" in body) == ([{"role": "user", "content": "Hi Ada"}], False)


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
@on_sqlite
def test_a_call_of_a_chat_says_which_prompt_it_was_made_of(keeping: Store, upstream: Upstream, way: str) -> None:
    """Whatever the roles of its messages."""
    prompts.create("tools", TOOLS[:-1])
    ask(prompt_from_store("tools") | chat(upstream), way, {"tool": "it", "what": "that"})
    assert marks() == [("tools", "1")]


@both_kinds
@on_sqlite
def test_so_does_one_in_the_midst_of_a_chain(keeping: Store, upstream: Upstream, kind: Any) -> None:
    """With other steps around it, a model of many prompts, and a handler that traces all of them."""
    prompts.create("a", "Hi {{who}}")
    prompts.create("b", "Bye {{who}}")
    model = of(kind, upstream).with_retry()
    steps = {name: prompt_from_store(name) | model | StrOutputParser() for name in ("a", "b")}
    chain = RunnablePassthrough.assign(**steps) | RunnableLambda(lambda said: said["a"]) | model
    chain.invoke({"who": "Ada"}, {"callbacks": [AistraleCallbackHandler()]})
    assert sorted(marks(), key=str) == [("a", "1"), ("b", "1"), None]
    runs = [span for span in telemetry.query() if span.name.startswith("chain ")]
    assert {span.attributes["gen_ai.prompt.name"] for span in runs if "gen_ai.prompt.name" in span.attributes} == {
        *("a", "b")
    }


def grown(template: Any, before: Any) -> list[Any]:
    """A template, and what people make of one."""
    return [
        *(template, template + " More {y}", before + template, template.partial(who="Ada")),
        pickle.loads(pickle.dumps(template)),
        loads(dumps(template), allowed_objects="all", valid_namespaces=["aistrale_langchain"]),
    ]


VALUES = {"who": "Ada", "tool": "it", "what": "that", "y": "on"}


@both_kinds
@in_beta
@on_sqlite
def test_what_is_made_of_a_text_says_it_too(keeping: Store, upstream: Upstream, kind: Any) -> None:
    """Added to, filled in, written out and read again, it renders what it should, and knows what it is of."""
    prompts.create("text", "Hi {{who}}")
    templates = grown(prompt_from_store("text"), PromptTemplate.from_template("Hm. "))
    for template in templates:
        (template | of(kind, upstream)).invoke(VALUES)
    sent = [request.body["messages"][0]["content"] for request in upstream.requests]
    assert sent == ["Hi Ada", "Hi Ada More on", "Hm. Hi Ada", "Hi Ada", "Hi Ada", "Hi Ada"]
    assert marks() == [("text", "1")] * len(templates)


@in_beta
@on_sqlite
def test_what_is_made_of_a_chat_says_it_too(keeping: Store, upstream: Upstream) -> None:
    """Parts of it, and chats it is a part of, as well."""
    prompts.create("chat", [{"role": "user", "content": "Hi {{who}}"}, TOOLS[2]])
    template = template_of("chat")
    templates = grown(template, ChatPromptTemplate([("user", "Hm.")]))
    templates += [template[1:], ChatPromptTemplate([template, ("user", "Bye")])]
    for one in templates:
        (one | chat(upstream)).invoke(VALUES)
    assert [len(request.body["messages"]) for request in upstream.requests] == [2, 3, 3, 2, 2, 2, 1, 3]
    assert marks() == [("chat", "1")] * len(templates)


@in_beta
@on_sqlite
def test_templates_are_the_same_when_they_are_read_again() -> None:
    """From LangChain's JSON, and from a pickle."""
    prompts.create("text", HARD)
    prompts.create("tools", [*TOOLS, {"role": "user", "content": [{"type": "image_url", "image_url": "{{what}}"}]}])
    for template in (prompt_from_store("text"), prompt_from_store("tools")):
        allowed: Any = {"allowed_objects": "all", "valid_namespaces": ["aistrale_langchain"]}
        assert loads(dumps(template), **allowed) == pickle.loads(pickle.dumps(template)) == template
    value = prompt_from_store("text").invoke({"who": "Ada"})
    assert loads(dumps(value), **allowed) == value


@on_sqlite
def test_of_several_prompts_the_last_counts(keeping: Store, upstream: Upstream) -> None:
    """What was said before it came earlier; LangChain's joining of messages changes nothing in that."""
    prompts.create("a", [{"role": "user", "content": "Hi"}])
    prompts.create("b", [{"role": "user", "content": "Hello"}])
    both = [*template_of("a").format_messages(), *template_of("b").format_messages()]
    chat(upstream).invoke([*both, AIMessage("Yes?"), HumanMessage("On it goes")])
    chat(upstream).invoke(merge_message_runs(both))
    chat(upstream).invoke([HumanMessage("Alone", additional_kwargs={"aistrale_prompt": "somebody else's"})])
    assert marks() == [None, ("b", "1"), ("b", "1")]


# Into the store


def test_langchains_templates_can_be_stored() -> None:
    """As the next version, labelled, with options."""
    prompt_to_store("text", PromptTemplate.from_template('Say {word} in {{"json": 1}}'))
    assert prompts.render("text", {"word": "hi"}) == 'Say hi in {"json": 1}'
    template = ChatPromptTemplate([("system", "Be {mood}"), ("user", "{x}")])
    stored = prompt_to_store("chat", template, options={"temperature": 0}, labels=["production"], note="first")
    assert (stored.variables, stored.options, stored.labels, stored.note) == (
        *(("mood", "x"), {"temperature": 0}),
        *(("production",), "first"),
    )


@on_many
@given(st.lists(st.sampled_from(["{a}", "{b_1}", "{{", "}}", "!", "a", " ", "<", "\n", "é", "{ä}"]), min_size=1), VALUE)
def test_any_f_string_renders_in_the_store_as_in_langchain(pieces: list[str], value: str) -> None:
    """Whatever braces come out of it."""
    template = PromptTemplate.from_template("".join(pieces))
    values = dict.fromkeys(template.input_variables, value)
    assert prompt_to_store("p", template).render(values) == template.format(**values)


def test_what_came_from_the_store_goes_back_as_it_was() -> None:
    """Escapes, parts, tools and options."""
    tidy = HARD.replace("{{ who }}", "{{who}}")
    parts = [
        {"type": "text", "text": tidy, "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "https://{{who}}/{{tool}}", "detail": "low {{!x}}"}},
        {"type": "image_url", "image_url": "https://{{who}}"},
        {"type": "file", "file": {"filename": "{{a}}.pdf", "file_data": PDF}},
        {"type": "input_audio", "input_audio": {"data": "{{a}}", "format": "wav"}},
    ]
    prompts.create("text", tidy, options={"temperature": 0})
    prompts.create("chat", [*TOOLS[:-1], {"role": "user", "content": parts}])
    for name in ("text", "chat"):
        again = prompt_to_store(f"{name}-2", prompt_from_store(name))
        assert (again.template, again.options) == (prompts.get(name).template, prompts.get(name).options)
    assert prompt_to_store("text", prompt_from_store("text")).version == 1


IMAGE = HumanMessagePromptTemplate.from_template(
    [
        "Look {{here}}:",
        {"type": "text", "text": "{what}"},
        {"type": "image_url", "image_url": "https://{host}/a.png"},
        {"type": "image_url", "image_url": {"url": "https://{host}/{what}.png", "detail": "low"}},
        {"type": "image", "base64": "{what}", "mime_type": "image/png"},
        {"type": "file", "file": {"filename": "{{a}}.pdf", "file_data": PDF}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
)
CALL = {"name": "ask", "args": {"about": "{{x}}"}, "id": "call_1", "type": "tool_call"}
WHOLE: list[Any] = [
    ("system", "Be {mood}"),
    SystemMessage("{{literally}}", additional_kwargs={"__openai_role__": "developer"}),
    SystemMessagePromptTemplate.from_template("{mood}", additional_kwargs={"__openai_role__": "developer"}),
    ChatMessagePromptTemplate.from_template("{mood}", role="developer"),
    HumanMessage("{mood} {{mood}}", name="ada"),
    AIMessage("", tool_calls=[CALL]),
    AIMessage([{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "{{y}}"}]),
    AIMessagePromptTemplate.from_template("{mood}", additional_kwargs={"refusal": "No"}),
    ToolMessage("It {is}", tool_call_id="call_1", status="error"),
    HumanMessage([{"type": "tool_result", "tool_use_id": "call_2", "content": "{{z}}"}]),
    ChatMessage(content="So {it} goes", role="user"),
    IMAGE,
    ChatPromptTemplate([("user", "{what}"), ("ai", "{mood}")]),
    HumanMessagePromptTemplate.from_template("{{{mood}}} and {{what}} {x}", template_format="mustache"),
]


@pytest.mark.parametrize("message", WHOLE, ids=lambda one: type(one).__name__)
@on_sqlite
def test_all_that_is_sent_of_a_chat_is_stored(message: Any) -> None:
    """Roles, names, calls, results, reasoning and parts; what was plain text in LangChain stays that."""
    template = ChatPromptTemplate([message])
    known = {"mood": "kind {x}", "what": "that", "host": "example.com"}
    values = {name: known[name] for name in template.input_variables}
    assert prompt_to_store("whole", template).render(values) == messages_of(template.format_messages(**values))


@on_sqlite
def test_mustache_is_stored_if_it_has_plain_variables_only() -> None:
    """What they are filled with is not escaped for HTML any more."""
    template = PromptTemplate.from_template("{{ a }} {{{b}}} {{& c}} {d} {", template_format="mustache")
    stored = prompt_to_store("m", template)
    assert stored.render({"a": "<a>", "b": "<b>", "c": "<c>"}) == "<a> <b> <c> {d} {"


def part(**fields: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate([HumanMessagePromptTemplate.from_template([fields])])


def one(message: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate([message])


def mustache(text: str) -> PromptTemplate:
    return PromptTemplate.from_template(text, template_format="mustache")


class Shouting(PromptTemplate):
    """A template that does more than its text says."""

    def format(self, **kwargs: Any) -> str:
        return super().format(**kwargs).upper()


class Reminding(ChatPromptTemplate):
    """A chat that adds to its messages."""

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        return [*super().format_messages(**kwargs), SystemMessage("Remember your manners.")]


EXAMPLE = PromptTemplate.from_template("{x}")
FEW: Any = FewShotPromptTemplate(examples=[{"x": "1"}], example_prompt=EXAMPLE, suffix="{y}", input_variables=["y"])
FEW_CHAT = FewShotChatMessagePromptTemplate(examples=[{"x": "1"}], example_prompt=ChatPromptTemplate([("user", "{x}")]))
HI: Any = PromptTemplate.from_template("Hi {x}")


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (FEW, "FewShotPromptTemplate"),
        (one(FEW_CHAT), "FewShotChatMessagePromptTemplate"),
        (one(HumanMessagePromptTemplate(prompt=FEW)), "FewShotPromptTemplate"),
        (one(MessagesPlaceholder("history")), "MessagesPlaceholder"),
        (one(MessagesPlaceholder("history", optional=True)), "MessagesPlaceholder"),
        (HI | RunnableLambda(str), "RunnableSequence"),
        (Shouting.from_template("Hi"), "Shouting"),
        (Reminding([("user", "Hi")]), "Reminding"),
        (PromptTemplate.from_template("{x:>10}"), "{x} with a format"),
        (PromptTemplate.from_template("{x!r}"), "{x} with a format"),
        (PromptTemplate.from_template("{a-b}"), "{a-b}"),
        (PromptTemplate.from_template("{self}"), "does not render it itself"),
        (PromptTemplate.from_template("\0x\0 {x}"), "NUL"),
        (mustache("{{#x}}{{y}}{{/x}}"), "section 'x'"),
        (mustache("{{a.b}}"), "variable 'a.b'"),
        (mustache("Hi {{! to you }}"), "comment"),
        (HI.partial(x="Ada"), "partial_variables"),
        (one(("user", "Hi {x}")).partial(x="Ada"), "partial_variables"),
        (one(one(("user", "Hi {x}")).partial(x="Ada")), "partial_variables"),
        (one(HumanMessagePromptTemplate(prompt=HI.partial(x="Ada"))), "partial_variables"),
        (HI.model_copy(update={"output_parser": StrOutputParser()}), "output_parser"),
        (HI.model_copy(update={"tags": ["a"]}), "tags"),
        (HI.model_copy(update={"metadata": {"a": 1}}), "metadata"),
        (HI.model_copy(update={"name": "greeting"}), "name"),
        (one(HumanMessage("Hi", additional_kwargs={"weight": 1})), "weight"),
        (one(AIMessage("Hi", additional_kwargs={"function_call": {}})), "function_call"),
        (one(HumanMessagePromptTemplate(prompt=HI, additional_kwargs={"refusal": "No"})), "refusal"),
        (one(HumanMessage([{"type": "reasoning", "reasoning": "Hm"}, "Hi"])), "reasoning"),
        (one(HumanMessage([{"type": "text", "text": "Hi", "weight": 1}])), "weight"),
        (part(type="file", file={"filename": "{x}.pdf", "file_data": PDF}), "'x' stands in 'filename'"),
        (part(type="image_url", image_url={"url": "https://a", "detail": "{x}"}), "'x' stands in 'detail'"),
        (part(type="odd", texts=["{x}"]), "'x' stands in 'texts'"),
        (part(type="odd", texts=["{x:>3}"]), "{x} with a format"),
        (part(type="image_url", image_url={"url": "https://a", "path": "b"}), "path"),
        (one(ChatMessagePromptTemplate(role="narrator", prompt=HI)), "narrator"),
        (one(ChatMessage(content="Hi", role="narrator")), "narrator"),
    ],
)
@on_sqlite
def test_what_would_be_lost_is_refused(template: Any, named: str) -> None:
    """By its name, with nothing written."""
    with pytest.raises(InvalidRequestError) as refused:
        prompt_to_store("odd", template)
    assert named in str(refused.value)
    assert prompts.list() == []


@on_sqlite
def test_jinja_is_refused() -> None:
    """It can do more than fill in, and LangChain needs a package to read it."""
    template = HI.model_copy(update={"template": "{{ x | upper }}", "template_format": "jinja2"})
    with pytest.raises(InvalidRequestError, match="jinja2"):
        prompt_to_store("odd", template)
