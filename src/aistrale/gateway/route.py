"""Where a call goes: which provider, model, address and key.

A key and an address belong to the provider they were given for. They are never carried over to
another provider that a call's model name or a fallback leads to.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from aistrale.config import Config
from aistrale.exceptions import ConfigurationError, StoreError
from aistrale.gateway.keys import StoredKeys
from aistrale.http import host_of
from aistrale.models import CallOptions
from aistrale.providers import PROFILES, Profile, Route, find_profile, provider_names
from aistrale.providers.profile import without_credentials

COMPATIBLE = "compatible"
"""Whatever answers at a `base_url` that was given for no provider: it speaks OpenAI's protocol."""

REMOTE = "aistrale"


@dataclass(frozen=True, slots=True)
class Target:
    """A provider and a model as they were named; None where nobody named one.

    `is_explicit`: the provider was named by itself, so a model's name alone does not lead elsewhere.
    """

    provider: str | None = None
    model: str | None = None
    is_explicit: bool = False


class Router:
    """Finds the routes of calls, from what the call says, what its client was given, and the configuration."""

    def __init__(self, config: Config, model: str | None, options: CallOptions, keys: StoredKeys) -> None:
        self._config = config
        self._keys = keys
        self._base_url = options.base_url or config["base_url"]
        self._api_key = options.api_key
        self._is_remote = bool(config["api_url"]) and not self._base_url
        configured = _merged(_named(config["provider"], config["model"], None), Target())
        self._own = _merged(_named(options.provider, model, self._base_url), configured)

    def routes(
        self, model: str | None, options: CallOptions, fallbacks: Sequence[str], *, embedding: bool = False
    ) -> list[Route]:
        """The routes of a call in the order they are tried: its own, then its fallbacks.

        Raises ConfigurationError if one of them cannot be called.
        """
        target = self._target(model, options, embedding=embedding)
        if self._is_remote and options.base_url is None:
            key = options.api_key or self._api_key or self._config["api_key"]
            return [self._remote(name, key) for name in (_whole_name(target), *fallbacks)]
        first = self._first(target, options, embedding=embedding)
        return [first, *(self._fallback(name, first) for name in fallbacks)]

    def _target(self, model: str | None, options: CallOptions, *, embedding: bool) -> Target:
        own = self._own
        if embedding and model is None and own.model and "embed" not in own.model:
            own = replace(own, model=None)  # a chat model is none that embeds
        if model is None and options.provider is None and options.base_url is None:
            return own
        if options.provider is None and options.base_url is None and own.provider and _is_namespaced(own.provider):
            return _named(own.provider, model, None)  # a slash is part of its own models' names
        return _merged(_named(options.provider, model, options.base_url), own)

    def _first(self, target: Target, options: CallOptions, *, embedding: bool) -> Route:
        base_url, key = options.base_url, options.api_key
        provider = target.provider or _guess(target.model, self._keys)
        if self._own.provider in (None, provider):
            base_url, key = base_url or self._base_url, key or self._api_key
        return self._route(_profile(provider), target.model, base_url, key, embedding=embedding)

    def _fallback(self, name: str, first: Route) -> Route:
        target = _named(None, name, None)
        provider = target.provider or _by_name(name)
        provider = provider or (first.provider if "/" not in name else _guess(name, self._keys))
        if provider == first.provider:
            return replace(first, model=target.model or first.model)
        return self._route(_profile(provider), target.model, None, None)

    def _route(
        self, profile: Profile, model: str | None, base_url: str | None, key: str | None, *, embedding: bool = False
    ) -> Route:
        """A provider's route with the key of the call, else the one in the books, else the environment's."""
        is_asked = not key and profile.respond is None
        stored = self._keys.find(profile.name) if is_asked else None
        key = stored.reveal() if stored else key
        route = _route(profile, model, base_url, key, embedding=embedding, fault=self._keys.fault if is_asked else None)
        return replace(route, stored_key=stored.label if stored else None)

    def _remote(self, name: str | None, key: str | None) -> Route:
        """The server at `api_url`: it finds the provider itself."""
        if name is None:
            raise ConfigurationError('No model is named: pass model="provider/name"')
        return _route(_profile(REMOTE), name, f"{self._config['api_url'].rstrip('/')}/v1", key)


def _named(provider: str | None, model: str | None, base_url: str | None) -> Target:
    """The provider that stands beside a model or in its name; None if neither names one."""
    if provider is not None:
        prefix = f"{provider}/"
        if model is not None and model.startswith(prefix):
            model = _short(provider, model.removeprefix(prefix))
        return Target(provider, model, is_explicit=True)
    prefix, slash, rest = (model or "").partition("/")
    if slash and find_profile(prefix) is not None:
        return Target(prefix, _short(prefix, rest))
    if base_url is not None:
        return Target(COMPATIBLE, model, is_explicit=True)
    return Target(None, model)


def _short(provider: str, rest: str) -> str:
    """A model's name without its provider's, unless that belongs to it ("openrouter/auto")."""
    profile = find_profile(provider)
    is_whole = profile is not None and profile.own_namespace and "/" not in rest
    return f"{provider}/{rest}" if is_whole else rest


def _merged(asked: Target, own: Target) -> Target:
    """What is called: what was asked for, and of one's own what belongs to that."""
    if asked.model is None:
        provider = asked.provider or own.provider
        return Target(provider, own.model if provider == own.provider else None, asked.is_explicit or own.is_explicit)
    if asked.provider is not None:
        return asked
    if own.is_explicit:
        return Target(own.provider, asked.model, is_explicit=True)
    return Target(_by_name(asked.model) or own.provider, asked.model)


def _whole_name(target: Target) -> str | None:
    """A model's name with its provider's, for a server that finds the provider itself."""
    provider, model = target.provider, target.model
    if model is None and provider is not None:
        model = _profile(provider).default_model
    if model is None or provider is None or model.startswith(f"{provider}/"):
        return model
    return f"{provider}/{model}"


def _by_name(model: str) -> str | None:
    """The provider whose own models are named like this one."""
    known = (name for name, profile in PROFILES.items() if profile.model_prefixes and "/" not in model)
    return next((name for name in known if model.startswith(PROFILES[name].model_prefixes)), None)


def _is_namespaced(provider: str) -> bool:
    profile = find_profile(provider)
    return profile is not None and profile.namespaced_models


def _guess(model: str | None, keys: StoredKeys) -> str:
    """The provider where nobody named one: the first that has a key, for no model in particular."""
    if model is None:
        return _first_with_key(keys)
    prefix, slash, _ = model.partition("/")
    if slash:
        raise _unknown(prefix)
    raise ConfigurationError(f'Whose model is {model!r}? Write it as "provider/{model}", or pass provider=')


def _first_with_key(keys: StoredKeys) -> str:
    for profile in PROFILES.values():
        if not profile.default_model or not profile.key_required:
            continue
        if keys.find(profile.name) or _key_in_environment(profile):
            return profile.name
    variables = ", ".join(profile.key_variables[0] for profile in list(PROFILES.values())[:3])
    raise ConfigurationError(
        f"No model is named and no provider has a key: set one of {variables}, ..., "
        f'or pass model="provider/name" (provider="echo" needs no key){_told(keys.fault)}'
    )


def _told(fault: StoreError | None) -> str:
    """What is added to an error that no key was found."""
    return "" if fault is None else f". There may be one in the books, which cannot be read: {fault}"


def _profile(name: str | None) -> Profile:
    profile = find_profile(name) if name else None
    if profile is None:
        raise _unknown(str(name))
    return profile


def _unknown(name: str) -> ConfigurationError:
    known = [provider for provider in provider_names() if provider != REMOTE]
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ConfigurationError(f"Unknown provider {name!r}.{hint} Known are: {', '.join(known)}")


def _route(
    profile: Profile,
    model: str | None,
    base_url: str | None,
    key: str | None,
    *,
    embedding: bool = False,
    fault: StoreError | None = None,
) -> Route:
    """fault: why the books could not be asked for the key."""
    model = model or (profile.default_embedding_model if embedding else profile.default_model)
    if not model:
        raise ConfigurationError(f'{profile.name} has no default model: pass model="{profile.name}/..."')
    if base_url is None and profile.base_url_variable:
        base_url = os.environ.get(profile.base_url_variable, "").strip() or None
    base_url = base_url or profile.base_url
    if base_url is None:
        variable = f"set {profile.base_url_variable} or " if profile.base_url_variable else ""
        raise ConfigurationError(f"{profile.name} needs a base URL: {variable}pass base_url=")
    if profile.respond is None:
        _check_url(base_url)
    key = _clean(key) if key else _key_in_environment(profile)
    if key:
        _check_key(key, profile.name)
    elif profile.key_required:
        raise ConfigurationError(
            f"No API key for {profile.name}: set {' or '.join(profile.key_variables) or 'one'}, pass api_key=, "
            f'or keep one: aistrale.tokens.add("{profile.name}", ...){_told(fault)}'
        )
    address = without_credentials(base_url)
    credentials = unquote(urlsplit(base_url).netloc.rpartition("@")[0]) if address != base_url else None
    return Route(profile, model, address, key or None, credentials)


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
        labels = (parts.hostname or "").rstrip(".").split(".")
        fine = parts.scheme in ("http", "https") and parts.port != 0 and all(0 < len(label) < 64 for label in labels)
    except (ValueError, AttributeError):
        fine = False
    if not fine:
        raise ConfigurationError(
            f"The base URL {host_of(str(url))!r} is no address one can call: it must read http(s)://host[:port][/path]"
        )
