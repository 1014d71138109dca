"""Where a call goes: which provider, model, address and key.

A key and an address belong to the provider they were given for. They are never carried over to
another provider that a call's model name or a fallback leads to.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aistrale.config import Config
from aistrale.exceptions import ConfigurationError
from aistrale.models import CallOptions
from aistrale.providers import Profile, Route, find_profile, profiles
from aistrale.transport.base import host_of

COMPATIBLE = Profile(name="compatible", key_required=False)
"""Whatever answers at a `base_url` given without a provider: it speaks OpenAI's protocol."""

REMOTE = "aistrale"


@dataclass(frozen=True, slots=True)
class Target:
    """A provider and a model as they were named; None where nobody named one."""

    provider: str | None
    model: str | None


class Router:
    """Finds the routes of calls, from what the call says, what its client was given, and the configuration."""

    def __init__(self, config: Config, model: str | None, options: CallOptions) -> None:
        self._config = config
        self._base_url = options.base_url or config["base_url"]
        self._api_key = options.api_key
        self._is_remote = bool(config["api_url"]) and not self._base_url
        own = Target(options.provider or config["provider"], model or config["model"])
        self._own = own if self._is_remote else _named(own)

    def routes(
        self, model: str | None, options: CallOptions, fallbacks: Sequence[str], *, embedding: bool = False
    ) -> list[Route]:
        """The routes of a call in the order they are tried: its own, then its fallbacks.

        Raises ConfigurationError if one of them cannot be called.
        """
        if self._is_remote and options.base_url is None:
            return [self._remote(name) for name in (_join(options.provider, model), *fallbacks)]
        first = self._first(model, options, embedding=embedding)
        return [first, *(self._fallback(name, first) for name in fallbacks)]

    def _first(self, model: str | None, options: CallOptions, *, embedding: bool) -> Route:
        target = self._target(Target(options.provider, model))
        base_url, key = options.base_url, options.api_key
        if target.provider is None or self._own.provider in (None, target.provider):
            base_url, key = base_url or self._base_url, key or self._api_key
        if target.provider is not None:
            profile = _profile(target.provider)
        elif base_url is not None:
            profile = COMPATIBLE
        else:
            profile = _profile(_guess(target.model))
        return _route(profile, target.model, base_url, key, embedding=embedding)

    def _target(self, asked: Target) -> Target:
        """What is called: what the call names, and the client's own where it names nothing."""
        own = self._own
        if asked.model is None:
            return Target(asked.provider or own.provider, own.model if asked.provider in (None, own.provider) else None)
        if asked.provider is None and own.provider is not None:
            if _profile(own.provider).namespaced_models:
                return _named(Target(own.provider, asked.model))
            named = _named(asked)
            return named if named.provider else Target(own.provider, asked.model)
        return _named(asked)

    def _fallback(self, name: str, first: Route) -> Route:
        target = _named(Target(None, name))
        provider = target.provider or _guess(target.model, otherwise=first.provider)
        if provider == first.provider:
            return Route(first.profile, target.model or first.model, first.base_url, first.api_key)
        return _route(_profile(provider), target.model, None, None)

    def _remote(self, name: str | None) -> Route:
        """The server at `api_url`: it finds the provider itself."""
        model = name or _join(self._own.provider, self._own.model)
        if model is None:
            raise ConfigurationError('No model is named: pass model="provider/name"')
        url = f"{self._config['api_url'].rstrip('/')}/v1"
        return _route(_profile(REMOTE), model, url, self._api_key or self._config["api_key"])


def _join(provider: str | None, model: str | None) -> str | None:
    return f"{provider}/{model}" if provider and model and not model.startswith(f"{provider}/") else model


def _named(target: Target) -> Target:
    """Take the provider out of a model name such as "openai/gpt-4o", unless one was named beside it."""
    if target.model is None or "/" not in target.model:
        return target
    prefix, _, rest = target.model.partition("/")
    if target.provider is not None:
        own = find_profile(target.provider)
        whole = prefix != target.provider or (own is not None and own.namespaced_models and "/" not in rest)
        return target if whole else Target(target.provider, rest)
    profile = find_profile(prefix)
    if profile is None:
        return target
    return Target(prefix, target.model if profile.namespaced_models and "/" not in rest else rest)


def _guess(model: str | None, otherwise: str | None = None) -> str:
    """The provider of a bare model name, or of no name at all."""
    if model is None:
        return _first_with_key()
    for profile in profiles().values():
        if profile.model_prefixes and model.startswith(profile.model_prefixes):
            return profile.name
    if otherwise is not None:
        return otherwise
    prefix, slash, _ = model.partition("/")
    if slash:
        raise _unknown(prefix)
    raise ConfigurationError(f'Whose model is {model!r}? Write it as "provider/{model}", or pass provider=')


def _first_with_key() -> str:
    for profile in profiles().values():
        if profile.default_model and profile.key_required and _key_in_environment(profile):
            return profile.name
    variables = ", ".join(p.key_variables[0] for p in list(profiles().values())[:3] if p.key_variables)
    raise ConfigurationError(
        f"No model is named and no provider has a key: set one of {variables}, ..., "
        'or pass model="provider/name" (provider="echo" needs no key)'
    )


def _profile(name: str | None) -> Profile:
    profile = find_profile(name) if name else None
    if profile is None:
        raise _unknown(str(name))
    return profile


def _unknown(name: str) -> ConfigurationError:
    known = sorted(set(profiles()) - {REMOTE})
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigurationError(f"Unknown provider {name!r}.{hint} Known are: {', '.join(known)}")


def _route(
    profile: Profile, model: str | None, base_url: str | None, key: str | None, *, embedding: bool = False
) -> Route:
    model = model or (profile.default_embedding_model if embedding else profile.default_model)
    if not model:
        raise ConfigurationError(f'{profile.name} has no default model: pass model="{profile.name}/..."')
    if base_url is None and profile.base_url_variable:
        base_url = os.environ.get(profile.base_url_variable, "").strip() or None
    base_url = base_url or profile.base_url
    if base_url is None:
        raise ConfigurationError(f"{profile.name} needs a base URL: set {profile.base_url_variable} or pass base_url=")
    if profile.respond is None:
        _check_url(base_url)
    key = _clean(key) if key else _key_in_environment(profile)
    if key:
        _check_key(key, profile.name)
    elif profile.key_required:
        raise ConfigurationError(
            f"No API key for {profile.name}: set {' or '.join(profile.key_variables) or 'one'}, or pass api_key="
        )
    return Route(profile, model, base_url, key or None)


def _key_in_environment(profile: Profile) -> str | None:
    return next((key for name in profile.key_variables if (key := _clean(os.environ.get(name, "")))), None)


def _clean(key: str) -> str:
    return key.strip() if isinstance(key, str) else key


def _check_key(key: str, provider: str) -> None:
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"The API key for {provider} holds what no key holds: a space, a line break or such")


@lru_cache(maxsize=256)
def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError):
        fine = False
    if not fine:
        raise ConfigurationError(
            f"The base URL {host_of(str(url))!r} is no address one can call: it must read http(s)://host[:port][/path]"
        )
