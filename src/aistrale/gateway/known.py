"""What is known of a model before it is called: whose it is, and how much it reads."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

from aistrale.config import Config
from aistrale.exceptions import ConfigurationError
from aistrale.gateway.keys import StoredKeys
from aistrale.gateway.route import REMOTE, Router
from aistrale.keys import Token
from aistrale.models import NO_OPTIONS, CallOptions
from aistrale.store.location import database_url

_RELEASE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8}|\d{4}|\d{3}|latest|preview)$")
"""What a provider puts behind a model's name for one of its releases."""


def routed(
    provider: str | None, model: str | None, base_url: str | None, api_url: str | None
) -> tuple[str | None, str | None]:
    """The provider and the model that a call leads to, as far as this is known without opening the books.

    No key is needed for it: it may be there by the time of a call. None and None where nothing leads anywhere.
    """
    try:
        config = Config({"api_url": api_url})
        keys = _ClosedBooks(None if config["api_url"] else database_url())
        options = CallOptions(provider=provider, base_url=base_url, api_key=_ANY_KEY)
        route = Router(config, model, options, keys).routes(None, NO_OPTIONS, ())[0]
    except ConfigurationError:
        return None, None
    return (None if route.provider == REMOTE else route.provider), route.model


_ANY_KEY = "any"
"""Routes have keys, but which key it is says nothing of the model."""


class _ClosedBooks(StoredKeys):
    """The keys of books that stay closed: opening them takes long, and making a model should not."""

    def find(self, provider: str) -> Token | None:
        if self.blocking:
            raise ConfigurationError("Which providers have a key is not known: the books would have to be opened")
        return super().find(provider)


def context_window(provider: str, model: str) -> int | None:
    """How many tokens a provider's model reads at once, in the release that is named or any; None if not known."""
    known = _context_windows().get(provider, {})
    return known.get(model) or known.get(_RELEASE.sub("", model))


@cache
def _context_windows() -> dict[str, dict[str, int]]:
    """Tokens by provider and model, as genai-prices has them: its own table takes half a second to load."""
    windows: dict[str, dict[str, int]] = json.loads(
        files("aistrale.providers").joinpath("context_windows.json").read_text(encoding="ascii")
    )
    return windows
