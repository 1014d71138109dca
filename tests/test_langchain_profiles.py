"""What ChatAistrale says of the models it can be."""

import json
from pathlib import Path

import pytest
from genai_prices.data_snapshot import get_snapshot

from aistrale_langchain import ChatAistrale, profiles

FILE = Path(profiles.__file__).with_name("context_windows.json")
IN_TABLE = {"xai": "x-ai"}
"""Providers that the table names otherwise."""


def of_table() -> dict[str, dict[str, int]]:
    """The context windows that the price table knows, for the providers that ChatAistrale names."""
    models = {provider.id: provider.models for provider in get_snapshot().providers}
    names = ("anthropic", "azure", "cerebras", "deepseek", "google", "groq", "mistral", "openai", "xai")
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
        ("xai", "grok-3", 131_072),
        ("openai", "gpt-of-tomorrow", None),
        ("ollama", "gpt-4o", None),
        (None, "gpt-4o", None),
    ],
)
def test_a_model_says_how_much_it_reads(provider: str | None, model: str, tokens: int | None) -> None:
    """Where its provider is named: anybody may call a model gpt-4o."""
    assert (ChatAistrale(model=model, provider=provider).profile or {}).get("max_input_tokens") == tokens


def test_the_profile_is_of_the_model_that_the_configuration_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a call would: by its model, else by whose key is there; where there is nothing, nothing is known."""
    assert ChatAistrale().profile is None
    monkeypatch.setenv("MISTRAL_API_KEY", "sk")
    assert (ChatAistrale().profile or {}).get("structured_output")
    monkeypatch.setenv("AISTRALE_MODEL", "openai/gpt-4o")
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    assert (ChatAistrale().profile or {}).get("max_input_tokens") == 128_000


def test_a_profile_of_ones_own_goes_first() -> None:
    """As LangChain has it."""
    model = ChatAistrale(model="openai/gpt-4o", profile={"max_input_tokens": 1000})
    assert model.profile == {"max_input_tokens": 1000}


if __name__ == "__main__":
    FILE.write_text(json.dumps(of_table(), indent=1, sort_keys=True) + "\n")
