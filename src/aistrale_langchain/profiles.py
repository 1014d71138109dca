"""What the models of a provider can do, so that agents choose how to ask them, and when to sum up what was said."""

from __future__ import annotations

import re

from langchain_core.language_models import ModelProfile

from aistrale.gateway.known import context_window

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
    if window := context_window(provider, model):
        profile["max_input_tokens"] = window
    return profile or None
