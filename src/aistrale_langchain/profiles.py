"""What the models of a provider can do, so that agents choose how to ask them, and when to sum up what was said."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

from langchain_core.language_models import ModelProfile

_STRUCTURED = frozenset(("openai", "azure", "anthropic", "google", "mistral", "xai"))
"""Providers whose present models all take a JSON schema for their answer."""

_RELEASE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8}|\d{4}|\d{3}|latest|preview)$")
"""What a provider puts behind a model's name for one of its releases."""


def profile_of(provider: str | None, model: str | None) -> ModelProfile | None:
    """A model's profile; None where the provider is not named, or nothing is known of the model."""
    if provider is None and model is not None and "/" in model:
        provider, _, model = model.partition("/")
    profile = ModelProfile()
    if provider in _STRUCTURED:
        profile |= ModelProfile(
            text_inputs=True, text_outputs=True, tool_calling=True, tool_choice=True, structured_output=True
        )
    if provider and model and (window := _context_window(provider, model.removeprefix(f"{provider}/"))):
        profile["max_input_tokens"] = window
    return profile or None


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
