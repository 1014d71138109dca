"""Requests that are made of stored prompts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from aistrale.exceptions import InvalidRequestError
from aistrale.models import REQUEST_FIELDS, CompletionRequest, Message
from aistrale.schema import response_format_of, tool_of
from aistrale.templates import StoredPrompt

_REQUEST = frozenset(("model", *REQUEST_FIELDS))
_ROUTING = frozenset(("provider", "timeout", "max_retries", "fallbacks"))
"""What a prompt may say of how it is called. Not the address: whoever writes prompts would decide where keys go."""


def is_to_be_looked_up(request: CompletionRequest) -> bool:
    """Whether a request names a prompt that is in the books."""
    return request.prompt is not None and not request.messages and request.prompt.stored is None


def with_stored_prompt(request: CompletionRequest, given: Collection[str] = ()) -> CompletionRequest:
    """The request with the messages of its stored prompt, and the prompt's options where it has none itself. One that
    has its messages already stays as it is.

    given: options that the client was made with, which go before the prompt's. Raises StoreError if there is no such
    prompt, InvalidRequestError if its variables do not fit.
    """
    reference = request.prompt
    if reference is None or (request.messages and reference.stored is None):
        return request
    stored = reference.stored or look_up(reference.name)
    known = replace(reference, name=stored.name, version=stored.version, stored=stored)
    messages = request.messages or tuple(Message.list_of(stored.render(reference.variables)))
    return replace(request, messages=messages, prompt=known, **_defaults(request, stored, given))


def look_up(name: str) -> StoredPrompt:
    """A prompt in the books, by its name, which may say a version or a label too. Raises StoreError."""
    from aistrale.store.store import open_store

    return open_store().prompts.get(name)


def _defaults(request: CompletionRequest, stored: StoredPrompt, given: Collection[str]) -> dict[str, Any]:
    """What a prompt's options give a request."""
    fields: dict[str, Any] = {}
    routing: dict[str, Any] = {}
    for name, value in stored.options.items():
        if name not in _REQUEST | _ROUTING:
            raise InvalidRequestError(f"The stored prompt {stored.name!r} has an option {name!r}, which no call takes")
        taken = request.options if name in _ROUTING else request
        if name in given or getattr(taken, name) is not None:
            continue
        match name:
            case "provider" if request.model or "model" in given or request.options.base_url or "base_url" in given:
                pass  # whoever named a model or an address has said whose it is
            case "max_tokens" | "max_completion_tokens" if request.output_limit is not None:
                pass
            case "response_format":
                fields["response_format"], fields["output_type"] = response_format_of(value)
            case "tools":
                fields["tools"] = tuple(tool_of(tool) for tool in value)
            case "fallbacks":
                routing["fallbacks"] = tuple(value)
            case _:
                (routing if name in _ROUTING else fields)[name] = value
    return {**fields, "options": replace(request.options, **routing)}
