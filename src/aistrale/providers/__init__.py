"""Which providers there are, and which codec reads each one's traffic.

A third party adds a provider by the entry-point group `aistrale.providers`: its name, and a `Profile`,
whose `protocol` may name a codec class of its own as `module:attribute`.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from aistrale.exceptions import ConfigurationError
from aistrale.providers.codec import Codec
from aistrale.providers.profile import Profile, Route
from aistrale.providers.profiles import PROFILES

__all__ = ["Codec", "Profile", "Route", "PROFILES", "codec_of", "find_profile", "provider_names", "telemetry_name"]

_CODECS = {
    "openai": "aistrale.providers.openai:OpenAICodec",
    "azure": "aistrale.providers.azure:AzureCodec",
    "anthropic": "aistrale.providers.anthropic:AnthropicCodec",
    "google": "aistrale.providers.google:GoogleCodec",
}


@cache
def _installed() -> dict[str, EntryPoint]:
    """What other packages bring, not yet loaded."""
    return {point.name: point for point in entry_points(group="aistrale.providers") if point.name not in PROFILES}


@cache
def find_profile(name: str) -> Profile | None:
    """The provider of that name, None if there is none.

    Other packages are only asked for a name that is not one of ours, and may not replace ours. Raises
    ConfigurationError if a package brings the provider but cannot be loaded.
    """
    own = PROFILES.get(name)
    if own is not None:
        return own
    point = _installed().get(name)
    if point is None:
        return None
    try:
        profile = point.load()
    except Exception as error:
        raise ConfigurationError(f"The provider {name!r} of {point.value} does not load: {error!r}") from error
    if not isinstance(profile, Profile):
        raise ConfigurationError(
            f"The entry point {name!r} of group aistrale.providers gives no Profile but {profile!r}"
        )
    return profile


def provider_names() -> list[str]:
    """The names of all providers there are."""
    return sorted({*PROFILES, *_installed()})


@lru_cache(maxsize=256)
def telemetry_name(provider: str) -> str:
    """A provider's name in the OpenTelemetry conventions."""
    profile = find_profile(provider)
    return (profile.telemetry_name if profile else None) or provider


@cache
def codec_of(protocol: str) -> Codec:
    """The codec of a wire protocol, loaded when first needed."""
    module, _, attribute = _CODECS.get(protocol, protocol).partition(":")
    try:
        return cast(Codec, getattr(import_module(module), attribute)())
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"There is no codec for the protocol {protocol!r}: {error}") from error
