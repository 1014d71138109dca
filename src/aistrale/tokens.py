"""Providers' keys, kept encrypted in the books: `aistrale.tokens.add("openai", key)`.

A provider may have several, each with a label; one of them is its default. They are encrypted with a master
key: `AISTRALE_SECRET_KEY`, or one that is made and kept in the system's keyring, or else in a file.
Functions that end in `_async` do the same for async code, in a thread.
"""

from __future__ import annotations

import asyncio
import builtins
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aistrale.exceptions import ConfigurationError
from aistrale.keys import Secret, Token
from aistrale.store.location import database_url
from aistrale.store.peek import watch
from aistrale.threads import in_thread

if TYPE_CHECKING:
    from aistrale.store.tokens import TokenStore


def add(provider: str, token: str | Secret, label: str = "default", *, default: bool | None = None) -> Token:
    """Keep a key of a provider. The first becomes its default; a later one does with `default=True`.

    Raises ConfigurationError for a provider there is not, InvalidRequestError for what is no token or label,
    and StoreError if the provider has a token of this label (`rotate` replaces it) or if the tokens there
    are were encrypted with another master key.
    """
    token = Secret(token)  # first of all: a traceback may show variables
    _check_provider(provider)
    with _changing() as tokens:
        return tokens.add(provider, token, label, default)


def list(provider: str | None = None) -> builtins.list[Token]:
    """All tokens, or those of one provider, without their keys: by provider, the oldest first."""
    return _store().list(provider)


def get(provider: str, label: str | None = None) -> Token:
    """A token with its key: the one of this label, or the provider's default. `.reveal()` gives the key plain.

    Raises StoreError if there is none, or if it was encrypted with another master key.
    """
    return _store().get(provider, label)


def remove(provider: str, label: str = "default") -> None:
    """Delete a token. If it was its provider's default, the oldest other one is from now on.

    Raises StoreError if there is none of this label. Works without the master key.
    """
    with _changing() as tokens:
        tokens.remove(provider, label)


def rotate(provider: str, token: str | Secret, label: str = "default") -> Token:
    """Put another key in a token's place; it keeps its label, and stays the default if it was.

    Raises InvalidRequestError for what is no token, and StoreError if there is nothing to replace, or if it
    was encrypted with another master key.
    """
    token = Secret(token)
    with _changing() as tokens:
        return tokens.rotate(provider, token, label)


def set_default(provider: str, label: str) -> None:
    """Make a token its provider's default. Raises StoreError if there is none of this label."""
    with _changing() as tokens:
        tokens.set_default(provider, label)


def master_key_source() -> str:
    """Where the master key comes from, or would be kept if there is none yet.

    `environment AISTRALE_SECRET_KEY`, `keyring <its name>` or `file <its path>`. Makes no key. Raises StoreError
    if the file is there but cannot be read.
    """
    from aistrale.store.master_key import master_key_source

    return str(master_key_source())


def rotate_master_key(new: str | Secret) -> str:
    """Encrypt all tokens with another master key, and keep that where the former one was kept.

    The former one is kept beside it, for backups and for other databases. Returns, in a sentence, what to know
    or do: `AISTRALE_SECRET_KEY` cannot be changed from here and must be set to the new one by whoever set it.
    Raises InvalidRequestError for an empty one, and StoreError if a token cannot be read or the new master
    key cannot be kept; then nothing has changed.
    """
    new = Secret(new)
    return _store().rotate_master_key(new)


async def add_async(
    provider: str, token: str | Secret, label: str = "default", *, default: bool | None = None
) -> Token:
    """`add` for async code."""
    token = Secret(token)
    return await asyncio.to_thread(add, provider, token, label, default=default)


async def rotate_async(provider: str, token: str | Secret, label: str = "default") -> Token:
    """`rotate` for async code."""
    token = Secret(token)
    return await asyncio.to_thread(rotate, provider, token, label)


async def rotate_master_key_async(new: str | Secret) -> str:
    """`rotate_master_key` for async code."""
    new = Secret(new)
    return await asyncio.to_thread(rotate_master_key, new)


# Those above take what no traceback may show, so each wraps it first.
list_async = in_thread(list)
get_async = in_thread(get)
remove_async = in_thread(remove)
set_default_async = in_thread(set_default)
master_key_source_async = in_thread(master_key_source)


def _store() -> TokenStore:
    from aistrale.store.store import open_store

    return open_store().tokens


@contextmanager
def _changing() -> Iterator[TokenStore]:
    """The store, to change a token in: calls of this process then look for keys anew."""
    try:
        yield _store()
    finally:
        watch(database_url()).look_again()


def _check_provider(name: str) -> None:
    from aistrale.providers import find_profile, provider_names

    if find_profile(name) is None:  # the name may be a key, by mistake: it is not repeated
        known = [provider for provider in provider_names() if provider != "aistrale"]  # a server, with a key of its own
        close = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"There is no such provider.{hint} Known are: {', '.join(known)}")
