"""What the models of a provider can do, so that agents choose how to ask them, and when to sum up what was said."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

from langchain_core.language_models import ModelProfile

from aistrale.config import Config
from aistrale.exceptions import ConfigurationError
from aistrale.gateway.keys import StoredKeys
from aistrale.gateway.route import REMOTE, Router
from aistrale.keys import Token
from aistrale.models import NO_OPTIONS, CallOptions
from aistrale.store.location import database_url

_STRUCTURED = {
    # GPT-4o from August 2024 on and what came after it. Those behind the Responses API alone (pro, codex) are left out.
    # https://platform.openai.com/docs/guides/structured-outputs#supported-models
    "openai": r"(?!gpt-4o-2024-05-13)(gpt-4o(-mini)?|gpt-4\.1(-mini|-nano)?|o1|o3|o3-mini|o4-mini"
    r"|gpt-([5-9]|\d\d)(\.\d+)?(-(mini|nano|astra|luna|sol|terra))?)(-\d{4}-\d\d-\d\d)?",
    # Claude 4.5 and later; Opus 4.1 was in the beta only.
    # https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs
    "anthropic": r"claude-[a-z]+-(4-[5-9]|([5-9]|\d\d)(-\d\d?)?)(-\d{8})?",
    # Gemini 3 and later: those before it take no tools beside a schema.
    # https://ai.google.dev/gemini-api/docs/structured-output
    "google": r"gemini-([3-9]|\d\d)(\.\d+)?-(pro|flash|flash-lite)(-preview)?",
    # Grok 4, for the same reason.
    # https://docs.x.ai/docs/guides/structured-outputs#structured-outputs-with-tools
    "xai": r"grok-4([.-]\d+)?(-fast)?(-(non-)?reasoning)?(-latest)?",
}
"""The names of models that take a JSON schema for their answer, and tools beside it, at their provider.

What is missing here costs little, for an agent then has the answer given to a tool; what is wrong breaks its calls. So
names have to fit as a whole, and providers are left out that refuse tools beside a schema (Mistral, Groq), that know
no schemas (DeepSeek), whose models are of many makers (OpenRouter, Together, ...) or have the names that whoever
deployed them gave them (Azure).
"""

_RELEASE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8}|\d{4}|\d{3}|latest|preview)$")
"""What a provider puts behind a model's name for one of its releases."""


def profile_of(provider: str | None, model: str | None) -> ModelProfile | None:
    """A model's profile; None where its provider is not named, beside it or in its name, or nothing is known of it."""
    if provider is None and model is not None:
        provider, _, model = model.partition("/")
    if not provider or not model:
        return None
    model = model.removeprefix(f"{provider}/")
    profile = ModelProfile()
    if re.fullmatch(_STRUCTURED.get(provider, ""), model):
        profile |= ModelProfile(
            text_inputs=True, text_outputs=True, tool_calling=True, tool_choice=True, structured_output=True
        )
    if window := _context_window(provider, model):
        profile["max_input_tokens"] = window
    return profile or None


def routed(
    provider: str | None, model: str | None, base_url: str | None, api_url: str | None
) -> tuple[str | None, str | None]:
    """The provider and the model that a call leads to, as far as this is known without opening the books.

    No key is needed for it: it may be there by the time of a call. None and None where nothing leads anywhere.
    """
    try:
        config = Config({"api_url": api_url})
        keys = _ClosedBooks(None if config["api_url"] else database_url())
        options = CallOptions(provider=provider, base_url=base_url, api_key=_ANY_KEY)
        route = Router(config, model, options, keys).routes(None, NO_OPTIONS, ())[0]
    except ConfigurationError:
        return None, None
    return (None if route.provider == REMOTE else route.provider), route.model


_ANY_KEY = "any"
"""Routes have keys, but which key it is says nothing of the model."""


class _ClosedBooks(StoredKeys):
    """The keys of books that stay closed: opening them takes long, and making a model should not."""

    def find(self, provider: str) -> Token | None:
        if self.blocking:
            raise ConfigurationError("Which providers have a key is not known: the books would have to be opened")
        return super().find(provider)


def _context_window(provider: str, model: str) -> int | None:
    known = _context_windows().get(provider, {})
    return known.get(model) or known.get(_RELEASE.sub("", model))


@cache
def _context_windows() -> dict[str, dict[str, int]]:
    """Tokens by provider and model, as genai-prices has them: its own table takes half a second to load."""
    windows: dict[str, dict[str, int]] = json.loads(
        files("aistrale_langchain").joinpath("context_windows.json").read_text(encoding="ascii")
    )
    return windows
