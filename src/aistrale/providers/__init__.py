"""Which providers there are, and which codec reads each one's traffic.

A third party adds a provider by the entry-point group `aistrale.providers`: its name, and a `Profile`,
whose `protocol` may name a codec class of its own as `module:attribute`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import cast

from aistrale.exceptions import ConfigurationError
from aistrale.providers.codec import Codec
from aistrale.providers.profile import Profile, Route
from aistrale.providers.profiles import PROFILES

__all__ = ["Codec", "Profile", "Route", "codec_of", "find_profile", "profiles"]

_CODECS = {
    "openai": "aistrale.providers.openai:OpenAICodec",
    "azure": "aistrale.providers.azure:AzureCodec",
    "anthropic": "aistrale.providers.anthropic:AnthropicCodec",
    "google": "aistrale.providers.google:GoogleCodec",
}


@cache
def profiles() -> dict[str, Profile]:
    """All known providers by name: our own first, then those of installed packages, which may not replace ours."""
    from importlib.metadata import entry_points

    third_party: dict[str, Profile] = {}
    for point in entry_points(group="aistrale.providers"):
        profile = point.load()
        if not isinstance(profile, Profile):
            raise ConfigurationError(
                f"The entry point {point.name!r} of group aistrale.providers gives no Profile but {profile!r}"
            )
        third_party[point.name] = profile
    return third_party | PROFILES


def find_profile(name: str) -> Profile | None:
    """The provider of that name; installed packages are only asked for one we do not know ourselves."""
    return PROFILES.get(name) or profiles().get(name)


@cache
def codec_of(protocol: str) -> Codec:
    """The codec of a wire protocol, loaded when first needed."""
    module, _, attribute = _CODECS.get(protocol, protocol).partition(":")
    try:
        return cast(Codec, getattr(import_module(module), attribute)())
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"There is no codec for the protocol {protocol!r}: {error}") from error
