"""LangChain's own suites for chat models and embeddings, against an upstream that behaves as a model does."""

from typing import Any

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from model_behaviour import behave
from upstream import Upstream

from aistrale_langchain import AistraleEmbeddings, ChatAistrale


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatAistrale]:
        return ChatAistrale

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "openai/gpt-test", "api_key": "sk-test"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"AISTRALE_API_KEY": "ak-env"}, {"model": "openai/gpt-test"}, {"api_key": "ak-env"}


class TestIntegration(ChatModelIntegrationTests):
    upstream: Upstream

    @pytest.fixture(autouse=True)
    def _behaving(self, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
        upstream.default = behave
        type(self).upstream = upstream
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "aistrale")
        # The suite fetches its media from the internet.
        monkeypatch.setattr(httpx, "get", lambda url, **_: httpx.Response(200, content=b"\x89PNG or %PDF or RIFF"))

    @property
    def chat_model_class(self) -> type[ChatAistrale]:
        return ChatAistrale

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "gpt-test", "provider": "openai", "api_key": "sk-test", "base_url": self.upstream.url}

    has_tool_calling = True
    has_tool_choice = True
    supports_json_mode = True
    supports_model_override = True
    model_override_value = "gpt-other"
    returns_usage_metadata = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_pdf_inputs = True
    supports_audio_inputs = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True
    supports_anthropic_inputs = True


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[AistraleEmbeddings]:
        return AistraleEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "openai/embed-test", "api_key": "sk-test"}


class TestEmbeddingsIntegration(EmbeddingsIntegrationTests):
    upstream: Upstream

    @pytest.fixture(autouse=True)
    def _behaving(self, upstream: Upstream) -> None:
        upstream.default = behave
        type(self).upstream = upstream

    @property
    def embeddings_class(self) -> type[AistraleEmbeddings]:
        return AistraleEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "embed-test", "provider": "openai", "api_key": "sk-test", "base_url": self.upstream.url}
