"""LangChain's own suites for chat models and embeddings, against an upstream that behaves as a model does."""

import re
from typing import Any, ClassVar

import httpx
import pytest
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from model_behaviour import behave
from upstream import Upstream
from vcr.request import Request

from aistrale_langchain import AistraleEmbeddings, ChatAistrale


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    """Cassettes hold no key, and a port that is nobody's: it differs with each recording.

    `pytest --record-mode=rewrite -k test_stream_time` records anew.
    """

    def without_port(request: Request) -> Request:
        request.uri = re.sub(r"//127\.0\.0\.1:\d+", "//127.0.0.1:1", request.uri)
        return request

    return {
        "filter_headers": ["authorization", "host", "idempotency-key", "traceparent"],
        "match_on": ["method", "path", "body"],
        "allow_playback_repeats": True,
        "before_record_request": without_port,
    }


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
    supports_video_inputs = True
    enable_vcr_tests = True
    structured_output_kwargs: ClassVar[dict[str, Any]] = {"method": "json_schema"}
    supported_usage_metadata_details: ClassVar[dict[str, list[str]]] = {
        way: ["reasoning_output", "cache_read_input", "cache_creation_input"] for way in ("invoke", "stream")
    }

    def _answered(self, *, stream: bool = False) -> AIMessage:
        model = ChatAistrale(**self.chat_model_params)
        if not stream:
            return model.invoke("Hello")
        first, *rest = model.stream("Hello")
        return sum(rest, first)

    invoke_with_reasoning_output = invoke_with_cache_read_input = invoke_with_cache_creation_input = _answered


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
