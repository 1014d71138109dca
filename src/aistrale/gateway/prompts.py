"""Requests that are made of stored prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aistrale.exceptions import InvalidRequestError
from aistrale.models import REQUEST_FIELDS, CompletionRequest, Message

_REQUEST = frozenset(("model", *REQUEST_FIELDS))
_ROUTING = frozenset(("provider", "timeout", "max_retries", "fallbacks"))
"""What a prompt may say of how it is called. Not the address: whoever writes prompts would decide where keys go."""


def is_to_be_looked_up(request: CompletionRequest) -> bool:
    """Whether a request names a prompt that is in the books."""
    return request.prompt is not None and not request.messages and request.prompt.stored is None


def with_stored_prompt(request: CompletionRequest) -> CompletionRequest:
    """The request with the messages of its stored prompt, and the prompt's options where it has none itself.

    Raises StoreError if there is no such prompt, InvalidRequestError if its variables do not fit.
    """
    reference = request.prompt
    if reference is None or request.messages:
        return request
    stored = reference.stored
    if stored is None:
        from aistrale.store.store import open_store

        stored = open_store().prompts.get(reference.name)
    known = replace(reference, name=stored.name, version=stored.version, stored=stored)
    messages = tuple(Message.list_of(stored.render(reference.variables)))
    return replace(request, messages=messages, prompt=known, **_defaults(request, stored.name, stored.options))


def _defaults(request: CompletionRequest, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a prompt's options give a request."""
    for option in options:
        if option not in _REQUEST | _ROUTING:
            raise InvalidRequestError(f"The stored prompt {name!r} has an option {option!r}, which no call takes")
    given = {key: value for key, value in options.items() if key in _REQUEST and getattr(request, key) is None}
    routing: dict[str, Any] = {
        key: tuple(value) if key == "fallbacks" else value
        for key, value in options.items()
        if key in _ROUTING and getattr(request.options, key) is None
    }
    return {**given, "options": replace(request.options, **routing)}
