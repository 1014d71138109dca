"""What distinguishes one provider from another, as data."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aistrale.http import HTTPRequest, Responder


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A provider: where it is, which wire protocol it speaks, and where it departs from that.

    protocol: the codec that reads and writes its traffic.
    key_variables, base_url_variable: the provider's own environment variables.
    key_required: False for servers that usually run without one.
    key_header: the header that carries the key; `Authorization` carries it as a bearer token.
    embedding_inputs: how many texts it embeds in one request; the default is text-embeddings-inference's.
    embedding_tokens: how many tokens these may have together, None for any number.
    model_prefixes: what the names of its own models begin with, so that a bare name finds it.
    namespaced_models: its model names hold a slash themselves ("openai/gpt-4o" at OpenRouter).
    own_namespace: some of its models are named after itself ("openrouter/auto").
    takes_metadata: it takes `metadata`: never, always, or together with `store`.
    telemetry_name: `gen_ai.provider.name` of the OpenTelemetry conventions, if not `name`.
    drops: request fields the provider refuses and that only tune (they are left out, with a log line).
    renames: request fields it knows by another name.
    stream_usage: a stream has to be asked for its usage (`stream_options`).
    new_limit_models: a pattern of the names of models that take `max_completion_tokens` only.
    reasoning_field: where it wants its own reasoning back in an assistant message, None for nowhere.
    message_drops: fields of messages, and of their parts, that it refuses.
    takes_developer: its models know the role `developer`, not only `system`, which says the same.
    takes_audio_ids: the id of an answer that was spoken may mean something to it.
    needs_content: it wants `content` in every message, null beside tool calls.
    tool_call_id_length: how long a tool call's id must be, None for any.
    idempotency_header: the header under which it takes an idempotency key.
    respond: answers in process, without a network.
    """

    name: str
    protocol: str = "openai"
    base_url: str | None = None
    key_variables: tuple[str, ...] = ()
    base_url_variable: str | None = None
    key_required: bool = True
    key_header: str = "Authorization"
    default_model: str | None = None
    default_embedding_model: str | None = None
    embedding_inputs: int = 32
    embedding_tokens: int | None = None
    model_prefixes: tuple[str, ...] = ()
    namespaced_models: bool = False
    own_namespace: bool = False
    takes_metadata: Literal["never", "always", "with store"] = "never"
    telemetry_name: str | None = None
    drops: frozenset[str] = frozenset()
    renames: Mapping[str, str] = field(default_factory=dict)
    stream_usage: bool = True
    new_limit_models: str | None = None
    reasoning_field: Literal["reasoning_content", "reasoning", "reasoning_details"] | None = None
    message_drops: frozenset[str] = frozenset(("annotations", "cache_control", "images", "is_error"))
    takes_developer: bool = True
    takes_audio_ids: bool = False
    needs_content: bool = False
    tool_call_id_length: int | None = None
    idempotency_header: str | None = None
    respond: Responder | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Where one attempt goes: a provider, one of its models, an address and a key.

    credentials: the `user:password` that stood in the address. stored_key: the label of the token in the books that the
    key is of, None if it is from elsewhere.
    """

    profile: Profile
    model: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    credentials: str | None = field(default=None, repr=False)
    stored_key: str | None = None

    @property
    def provider(self) -> str:
        return self.profile.name

    def auth_headers(self) -> dict[str, str]:
        """The header that carries the key; without one, the credentials of the address, if it has any."""
        if not self.api_key:
            if not self.credentials:
                return {}
            return {"Authorization": f"Basic {b64encode(self.credentials.encode()).decode()}"}
        header = self.profile.key_header
        return {header: f"Bearer {self.api_key}" if header == "Authorization" else self.api_key}

    def request(self, url: str, body: bytes, **headers: str) -> HTTPRequest:
        """A JSON POST to `url` with this route's key."""
        return HTTPRequest("POST", url, {"Content-Type": "application/json", **self.auth_headers(), **headers}, body)


def without_credentials(text: str) -> str:
    """`text` without what stands before the @ of the URLs in it."""
    return re.sub(r"(\w{1,20}://)[^/@\s]{1,1000}@", r"\1", text) if "@" in text else text
