"""What ChatAistrale says of the models it can be."""

import json
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from langchain.agents import create_agent
from langchain_core.tools import tool
from model_behaviour import behave
from programs import printed
from pydantic import BaseModel
from upstream import Answer, Upstream, plain

import aistrale
from aistrale import tokens
from aistrale_langchain import ChatAistrale

FILE = Path(aistrale.__file__).parent / "providers/context_windows.json"
IN_TABLE = {"xai": "x-ai"}
"""Providers that the table names otherwise."""


def of_table() -> dict[str, dict[str, int]]:
    """The context windows that the price table knows, for the providers that ChatAistrale names.

    Azure's models have the names that whoever deployed them gave them.
    """
    models = {provider.id: provider.models for provider in get_snapshot().providers}
    names = ("anthropic", "cerebras", "deepseek", "google", "groq", "mistral", "openai", "xai")
    return {
        name: {model.id: model.context_window for model in models[IN_TABLE.get(name, name)] if model.context_window}
        for name in names
    }


def test_the_windows_are_those_of_the_price_table() -> None:
    """Run this file to write them anew."""
    assert json.loads(FILE.read_text()) == of_table()


@pytest.mark.parametrize(
    ("provider", "model", "tokens"),
    [
        (None, "openai/gpt-4o", 128_000),
        ("openai", "gpt-4o", 128_000),
        ("openai", "openai/gpt-4o", 128_000),
        ("openai", "gpt-4o-2024-08-06", 128_000),
        (None, "gpt-4o", 128_000),  # a call would ask OpenAI
        ("xai", "grok-3", 131_072),
        ("openai", "gpt-of-tomorrow", None),
        ("ollama", "gpt-4o", None),
        ("azure", "gpt-4o", None),
        ("nobody", "gpt-4o", None),
        (None, "nobody/gpt-4o", None),
        (None, "gpt", None),
    ],
)
def test_a_model_says_how_much_it_reads(provider: str | None, model: str, tokens: int | None) -> None:
    """Where its provider is known: anybody may call a model gpt-4o."""
    assert (ChatAistrale(model=model, provider=provider).profile or {}).get("max_input_tokens") == tokens


TAKES_SCHEMAS = [
    "openai/gpt-4o",
    "openai/gpt-4o-2024-08-06",
    "openai/gpt-4o-mini-2024-07-18",
    "openai/gpt-4.1-nano",
    "openai/o1",
    "openai/o1-2024-12-17",
    "openai/o3-mini",
    "openai/o4-mini-2025-04-16",
    "openai/gpt-5",
    "openai/gpt-5-mini-2025-08-07",
    "openai/gpt-5.4-mini",
    "openai/gpt-6-sol",
    "anthropic/claude-sonnet-4-5",
    "anthropic/claude-haiku-4-5-20251001",
    "anthropic/claude-opus-4-8",
    "anthropic/claude-opus-5",
    "anthropic/claude-sonnet-5-5",
    "google/gemini-3-pro-preview",
    "google/gemini-3.5-flash",
    "google/gemini-3.5-flash-lite",
    "xai/grok-4",
    "xai/grok-4-0709",
    "xai/grok-4.3",
    "xai/grok-4-1-fast-non-reasoning",
]
TAKES_NONE = [
    "openai/gpt-3.5-turbo",
    "openai/gpt-4",
    "openai/gpt-4-0613",
    "openai/gpt-4-turbo-2024-04-09",
    "openai/gpt-4o-2024-05-13",
    "openai/gpt-4o-audio-preview",
    "openai/gpt-4o-realtime-preview",
    "openai/gpt-4o-transcribe",
    "openai/chatgpt-4o-latest",
    "openai/o1-mini",
    "openai/o1-preview",
    "openai/o3-pro",  # of the Responses API alone
    "openai/gpt-5-image",
    "openai/gpt-oss-120b",
    "openai/gpt-realtime-2",
    "openai/text-embedding-3-small",
    "openai/whisper-1",
    "openai/Qwen/Qwen3-32B",
    "anthropic/claude-2",
    "anthropic/claude-2.1",
    "anthropic/claude-instant-1.2",
    "anthropic/claude-3-5-haiku-latest",
    "anthropic/claude-3-7-sonnet-20250219",
    "anthropic/claude-sonnet-4-0",
    "anthropic/claude-sonnet-4-20250514",
    "anthropic/claude-opus-4-1-20250805",
    "google/gemini-1.5-pro",
    "google/gemini-2.5-flash",  # not with tools beside it
    "google/gemini-3-pro-image-preview",
    "google/gemini-3.8-flash-tts",
    "google/gemini-embedding-001",
    "google/gemma-3",
    "google/claude-sonnet-4-5",
    "xai/grok-3",
    "xai/grok-2-1212",
    "xai/grok-4.20-multi-agent-0309",
    "xai/grok-code-fast-1",
    "mistral/mistral-large-latest",  # not with tools beside it
    "mistral/mistral-embed",
    "azure/gpt-4o",  # whatever was deployed under that name
    "groq/openai/gpt-oss-120b",  # not with tools beside it
    "deepseek/deepseek-chat",
    "openrouter/openai/gpt-4o",
    "ollama/gpt-4o",
    "echo/echo",
]


@pytest.mark.parametrize("model", [*TAKES_SCHEMAS, *TAKES_NONE])
def test_what_a_model_can_do_is_claimed_where_its_provider_says_so(model: str) -> None:
    """A claim that is missing costs an agent little; one that is wrong breaks its calls."""
    profile = ChatAistrale(model=model).profile or {}
    claims = [profile.get(name) for name in ("structured_output", "tool_calling", "tool_choice")]
    assert claims == ([True] * 3 if model in TAKES_SCHEMAS else [None] * 3)


@pytest.mark.parametrize(
    ("given", "is_known"),
    [
        ({"model": "gpt-4o"}, False),
        ({}, False),
        ({"model": "Qwen/Qwen3-32B", "provider": "openai"}, False),
        ({"model": "gpt-4o", "provider": "openai"}, True),  # a proxy of OpenAI's
        ({"model": "openai/gpt-4o"}, True),
    ],
)
def test_of_a_server_at_an_address_only_what_is_named_is_known(given: dict[str, Any], is_known: bool) -> None:
    """Its provider beside the address, and a model that is one of that provider's."""
    model = ChatAistrale(base_url="http://localhost:8000/v1", **given)
    assert (model.profile is not None) == is_known


def test_the_profile_is_of_the_model_that_the_configuration_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a call would: by its model, else by whose key is there; where there is nothing, nothing is known."""
    assert ChatAistrale().profile is None
    monkeypatch.setenv("XAI_API_KEY", "sk")
    assert (ChatAistrale().profile or {}).get("structured_output")
    monkeypatch.setenv("AISTRALE_MODEL", "openai/o3-mini")  # its key may come later
    assert (ChatAistrale().profile or {}).get("max_input_tokens") == 200_000
    monkeypatch.setenv("AISTRALE_API_URL", "http://localhost:1")
    assert (ChatAistrale().profile or {}).get("max_input_tokens") == 200_000
    assert (ChatAistrale(provider="xai").profile or {}).get("structured_output")


def test_a_model_is_made_where_the_configuration_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first call will say so; what it is itself does not depend on that."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "perhaps")
    assert ChatAistrale(model="gpt-4o")._resolve_model_profile() is None
    assert ChatAistrale(model="openai/gpt-4o").profile is not None


def test_to_make_a_model_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the price table nor the books, nor a client: whose key is in the books is not known yet."""
    tokens.add("openai", "sk-of-the-books")
    monkeypatch.setenv("XAI_API_KEY", "sk")  # a call would go by the books
    assert ChatAistrale().profile is None
    program = """
        import sys
        from aistrale_langchain import ChatAistrale
        named, found = ChatAistrale(model="gpt-4o"), ChatAistrale()
        print(named.profile["max_input_tokens"], found.profile)
        print([name for name in ("genai_prices", "sqlalchemy") if name in sys.modules])
        print("client" in vars(named) or "client" in vars(found))
    """
    assert printed(program, cwd=tmp_path) == "128000 None\n[]\nFalse\n"


class Report(BaseModel):
    """What there is to say of a city's weather."""

    city: str


@tool
def weather(city: str) -> str:
    """How the weather is."""
    return f"Sunny in {city}"


def by_tool(name: str, arguments: str) -> Answer:
    """An answer that is the call of a tool."""
    call = {"id": "call_2", "type": "function", "function": {"name": name, "arguments": arguments}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    return plain({"id": "chatcmpl-2", "object": "chat.completion", "model": "test", "choices": [choice]})


@pytest.mark.parametrize(
    ("provider", "model", "asks_for_a_schema"),
    [("openai", "gpt-5.4-mini", True), ("xai", "grok-4.3", True), ("mistral", "mistral-large-latest", False)],
)
def test_an_agent_asks_a_model_as_it_can_be_asked(
    upstream: Upstream, provider: str, model: str, asks_for_a_schema: bool
) -> None:
    """For a schema beside its tools, or by one more tool: Mistral refuses both at once."""
    upstream.default = behave
    if not asks_for_a_schema:
        upstream.will(behave, by_tool("Report", '{"city": "text"}'))
    given: dict[str, Any] = {"api_key": "sk", "base_url": upstream.url, "max_retries": 0}
    made = ChatAistrale(model=model, provider=provider, **given)
    agent: Any = create_agent(made, [weather], response_format=Report)
    answer = agent.invoke({"messages": [("user", "How is the weather?")]})
    assert answer["structured_response"] == Report(city="text")
    assert len(upstream.requests) == 2
    for request in upstream.requests:
        assert ("response_format" in request.body) == asks_for_a_schema
        names = [entry["function"]["name"] for entry in request.body["tools"]]
        assert names == (["weather"] if asks_for_a_schema else ["weather", "Report"])


def test_a_profile_of_ones_own_goes_first() -> None:
    """As LangChain has it."""
    model = ChatAistrale(model="openai/gpt-4o", profile={"max_input_tokens": 1000})
    assert model.profile == {"max_input_tokens": 1000}


if __name__ == "__main__":
    FILE.write_text(json.dumps(of_table(), indent=1, sort_keys=True) + "\n")
