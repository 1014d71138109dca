"""Requests as our codecs write them, held to the types of each provider's own SDK."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, Field
from sdk_types import misfits

from aistrale.http import HTTPRequest
from aistrale.models import JSON
from aistrale.options import completion_request, embedding_request
from aistrale.providers import Route, codec_of, find_profile

KEY = "sk-secret"
PNG = "data:image/png;base64,aW1hZ2U="
PDF = "data:application/pdf;base64,cGRm"

# What people pass as tools


def get_weather(city: Annotated[str, Field(description="Where")], days: int = 1) -> str:
    """The weather of a city."""
    raise NotImplementedError


class Weather(BaseModel):
    """Report the weather."""

    city: str
    celsius: float | None = None


SCHEMA_TOOL: JSON = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time of day.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}
BARE_TOOL: JSON = {"type": "function", "function": {"name": "ping"}}

# What they say


def call(id: str, name: str, **arguments: Any) -> JSON:
    """A tool call in an assistant message."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def result(id: str, content: Any, **more: Any) -> JSON:
    """The message that answers a tool call."""
    return {"role": "tool", "tool_call_id": id, "content": content, **more}


def user(*parts: JSON) -> list[JSON]:
    """A conversation of one user message in parts."""
    return [{"role": "user", "content": list(parts)}]


def after_a_call(*results: JSON) -> list[JSON]:
    """A conversation in which `get_weather` was called once for each result."""
    ids = [answer["tool_call_id"] for answer in results if answer["role"] == "tool"]
    calls = [call(id, "get_weather", city=f"City {id}") for id in ids]
    return [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": calls}, *results]


def image(url: str) -> JSON:
    return {"type": "image_url", "image_url": {"url": url}}


def file(**fields: str | None) -> JSON:
    return {"type": "file", "file": fields}


# What we send


def sent(model: str, prompt: Any = "Hello", *, stream: bool = False, base_url: str = "", **options: Any) -> HTTPRequest:
    """The HTTP request for a prompt and options; `model` names the provider too."""
    route = route_to(model, base_url)
    return codec_of(route.profile.protocol).encode(completion_request(prompt, options), route, stream=stream)


def sent_to_embed(model: str, texts: str | list[str], *, base_url: str = "", **options: Any) -> HTTPRequest:
    """The HTTP request for texts to embed."""
    route = route_to(model, base_url)
    return codec_of(route.profile.protocol).encode_embedding(embedding_request(texts, options), route)


def route_to(model: str, base_url: str = "") -> Route:
    """The route to "provider/model"."""
    provider, _, name = model.partition("/")
    profile = find_profile(provider)
    assert profile is not None
    return Route(profile, name, base_url or profile.base_url or "https://resource.example", KEY)


def body_of(model: str, prompt: Any = "Hello", *, stream: bool = False, **options: Any) -> JSON:
    """The body of that request, which the types of the provider's SDK must allow."""
    body: JSON = json.loads(sent(model, prompt, stream=stream, **options).body)
    found = misfits(model.partition("/")[0], body)
    assert not found, found
    return body


def added(model: str, prompt: Any = "Hello", *, stream: bool = False, **options: Any) -> JSON:
    """What of the body is there only because of the options."""
    plain = body_of(model, prompt, stream=stream)
    return {k: v for k, v in body_of(model, prompt, stream=stream, **options).items() if v != plain.get(k)}
