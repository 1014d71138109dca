"""What the models of a provider can do, so that agents choose how to ask them for structured output."""

from __future__ import annotations

from langchain_core.language_models import ModelProfile

_STRUCTURED = frozenset(("openai", "azure", "anthropic", "google", "mistral", "xai"))
"""Providers whose present models all take a JSON schema for their answer."""


def profile_of(provider: str | None, model: str | None) -> ModelProfile | None:
    """A model's profile; None where the provider is not named, or not known well enough."""
    if provider is None and model is not None and "/" in model:
        provider = model.partition("/")[0]
    if provider not in _STRUCTURED:
        return None
    return ModelProfile(
        text_inputs=True, text_outputs=True, tool_calling=True, tool_choice=True, structured_output=True
    )
