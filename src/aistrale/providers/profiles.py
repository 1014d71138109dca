"""The providers Aistrale knows. One more that speaks a known protocol is one more entry here.

The order is the order of preference where nobody chose: the first with a key is taken.
Sources: each provider's API reference; quirks are noted where they are not obvious.
"""

from __future__ import annotations

from aistrale.providers.echo import respond
from aistrale.providers.profile import Profile

_REASONING_MODELS = r"o\d|gpt-([5-9]|\d\d)"
_NO_TOP_K = frozenset(("top_k",))

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="openai",
            takes_audio_ids=True,
            drops=_NO_TOP_K,
            model_prefixes=("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-"),
            base_url="https://api.openai.com/v1",
            base_url_variable="OPENAI_BASE_URL",
            key_variables=("OPENAI_API_KEY",),
            default_model="gpt-5.4-mini",
            default_embedding_model="text-embedding-3-small",
            embedding_inputs=2048,
            embedding_tokens=300_000,
            new_limit_models=_REASONING_MODELS,
            idempotency_header="Idempotency-Key",
            takes_metadata="with store",
        ),
        Profile(
            name="anthropic",
            model_prefixes=("claude-",),
            protocol="anthropic",
            base_url="https://api.anthropic.com",
            base_url_variable="ANTHROPIC_BASE_URL",
            key_variables=("ANTHROPIC_API_KEY",),
            key_header="x-api-key",
            default_model="claude-sonnet-5-5",
        ),
        Profile(
            name="google",
            model_prefixes=("gemini-",),
            protocol="google",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            base_url_variable="GOOGLE_GEMINI_BASE_URL",
            key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            key_header="x-goog-api-key",
            default_model="gemini-3.5-flash",
            default_embedding_model="gemini-embedding-001",
            embedding_inputs=100,
            telemetry_name="gcp.gemini",
        ),
        Profile(
            # The model is the deployment's name, and the base URL the resource's own.
            name="azure",
            takes_audio_ids=True,
            drops=_NO_TOP_K,
            embedding_inputs=2048,
            embedding_tokens=300_000,
            protocol="azure",
            base_url_variable="AZURE_OPENAI_ENDPOINT",
            key_variables=("AZURE_OPENAI_API_KEY",),
            key_header="api-key",
            telemetry_name="azure.ai.openai",
            new_limit_models=_REASONING_MODELS,
            takes_metadata="with store",
        ),
        Profile(
            name="groq",
            takes_developer=False,
            namespaced_models=True,
            drops=_NO_TOP_K,
            base_url="https://api.groq.com/openai/v1",
            base_url_variable="GROQ_BASE_URL",
            key_variables=("GROQ_API_KEY",),
            default_model="openai/gpt-oss-120b",
        ),
        Profile(
            # Refuses unknown fields with 422; its streams always carry usage; its errors name what embeddings it takes.
            name="mistral",
            takes_developer=False,
            model_prefixes=("mistral-", "ministral-", "magistral-", "codestral-", "pixtral-"),
            base_url="https://api.mistral.ai/v1",
            key_variables=("MISTRAL_API_KEY",),
            default_model="mistral-small-latest",
            default_embedding_model="mistral-embed",
            embedding_inputs=512,
            embedding_tokens=16_384,
            telemetry_name="mistral_ai",
            renames={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
            drops=frozenset(("user", "top_k")),
            message_drops=frozenset(("annotations", "cache_control", "images", "is_error", "name")),
            stream_usage=False,
            tool_call_id_length=9,
        ),
        Profile(
            name="deepseek",
            takes_developer=False,
            needs_content=True,
            model_prefixes=("deepseek-",),
            base_url="https://api.deepseek.com",
            key_variables=("DEEPSEEK_API_KEY",),
            default_model="deepseek-v4-flash",
            reasoning_field="reasoning_content",
        ),
        Profile(
            name="together",
            takes_developer=False,
            namespaced_models=True,
            base_url="https://api.together.xyz/v1",
            key_variables=("TOGETHER_API_KEY",),
            default_model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        ),
        Profile(
            # Reports each answer's cost in `usage.cost`.
            name="openrouter",
            takes_audio_ids=True,
            own_namespace=True,
            message_drops=frozenset(),
            namespaced_models=True,
            base_url="https://openrouter.ai/api/v1",
            key_variables=("OPENROUTER_API_KEY",),
            default_model="openrouter/auto",
            reasoning_field="reasoning_details",
        ),
        Profile(
            name="huggingface",
            takes_developer=False,
            namespaced_models=True,
            base_url="https://router.huggingface.co/v1",
            key_variables=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
            default_model="openai/gpt-oss-120b",
        ),
        Profile(
            name="cerebras",
            takes_developer=False,
            base_url="https://api.cerebras.ai/v1",
            key_variables=("CEREBRAS_API_KEY",),
            default_model="gpt-oss-120b",
            new_limit_models="",
        ),
        Profile(
            name="xai",
            takes_developer=False,
            model_prefixes=("grok-",),
            base_url="https://api.x.ai/v1",
            key_variables=("XAI_API_KEY",),
            default_model="grok-4.3",
            telemetry_name="x_ai",
        ),
        Profile(
            name="ollama",
            namespaced_models=True,
            base_url="http://localhost:11434/v1",
            base_url_variable="OLLAMA_BASE_URL",
            key_variables=("OLLAMA_API_KEY",),
            key_required=False,
            reasoning_field="reasoning",
        ),
        Profile(
            name="vllm",
            takes_metadata="always",
            namespaced_models=True,
            base_url="http://localhost:8000/v1",
            base_url_variable="VLLM_BASE_URL",
            key_variables=("VLLM_API_KEY",),
            key_required=False,
        ),
        Profile(
            name="llamacpp",
            takes_metadata="always",
            namespaced_models=True,
            base_url="http://localhost:8080/v1",
            base_url_variable="LLAMACPP_BASE_URL",
            key_variables=("LLAMACPP_API_KEY",),
            key_required=False,
        ),
        Profile(
            # Whatever speaks OpenAI's protocol at a `base_url` that was given without a provider.
            name="compatible",
            takes_audio_ids=True,
            takes_metadata="always",
            message_drops=frozenset(),
            key_required=False,
            namespaced_models=True,
        ),
        Profile(
            # Another Aistrale: keys, prompts and books are the server's.
            name="aistrale",
            takes_audio_ids=True,
            takes_metadata="always",
            message_drops=frozenset(),
            base_url_variable="AISTRALE_API_URL",
            key_variables=("AISTRALE_API_KEY",),
            key_required=False,
            idempotency_header="Idempotency-Key",
            reasoning_field="reasoning_details",
        ),
        Profile(
            name="echo",
            model_prefixes=("echo",),
            base_url="echo:",
            key_required=False,
            default_model="echo",
            default_embedding_model="echo",
            embedding_inputs=2048,
            respond=respond,
        ),
    )
}
