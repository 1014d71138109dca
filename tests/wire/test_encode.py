"""Every recorded OpenAI-shaped request survives being read and written again."""

import json
from typing import Any

import pytest

from aistrale.http import HTTPRequest
from aistrale.providers import Profile, Route, codec_of, find_profile
from aistrale.providers.openai import decode_embedding_request, decode_request

from .exchanges import Exchange, params

PROVIDER_AT = {
    "api.openai.com": "openai",
    "traceloop-stg.openai.azure.com": "azure",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.deepseek.com": "deepseek",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
    "api.cerebras.ai": "cerebras",
    "ollama.com": "ollama",
}
"""Whose quirks a host has; any other host has none, as `vllm`."""

CHAT, EMBEDDINGS = params("openai.chat"), params("openai.embeddings")


def route_to_its_host(exchange: Exchange) -> Route:
    profile = find_profile(PROVIDER_AT.get(exchange.host, "vllm"))
    assert profile is not None
    return Route(profile, exchange.request["model"], f"https://{exchange.host}", "sk-secret")


def encoded_again(exchange: Exchange) -> HTTPRequest:
    route = route_to_its_host(exchange)
    codec = codec_of(route.profile.protocol)
    if exchange.api == "openai.embeddings":
        return codec.encode_embedding(decode_embedding_request(exchange.request), route)
    request, stream = decode_request(exchange.request)
    return codec.encode(request, route, stream=stream)


def documented_changes(body: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """`body` with what we say we change: a stream is asked for its usage, and `any` is Mistral's `required`."""
    changed = dict(body)
    if body.get("stream") and profile.stream_usage:
        changed["stream_options"] = {"include_usage": True, **body.get("stream_options", {})}
    if body.get("tool_choice") == "any":
        changed["tool_choice"] = "required"
    return changed


def exactly(value: Any) -> str:
    """JSON in which 1, 1.0 and true differ, and the order of keys does not."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("exchange", CHAT)
def test_a_chat_request_survives_reading_and_writing(exchange: Exchange) -> None:
    """No field, known or unknown, null or not, is lost, added or altered beyond the documented changes."""
    wanted = documented_changes(exchange.request, route_to_its_host(exchange).profile)
    assert exactly(json.loads(encoded_again(exchange).body)) == exactly(wanted)


@pytest.mark.parametrize("exchange", CHAT)
def test_schemas_keep_the_order_of_their_properties(exchange: Exchange) -> None:
    """Models fill in properties in the order of the schema, so that order is part of the request."""
    sent = json.loads(encoded_again(exchange).body)
    for field in ("tools", "response_format", "functions"):
        assert json.dumps(sent.get(field)) == json.dumps(exchange.request.get(field))


@pytest.mark.parametrize("exchange", EMBEDDINGS)
def test_an_embeddings_request_survives_reading_and_writing(exchange: Exchange) -> None:
    """The same for embeddings, without exception."""
    assert exactly(json.loads(encoded_again(exchange).body)) == exactly(exchange.request)
