"""The keys that are in the books: they go before those of the environment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from typing import TypeAlias

from aistrale.exceptions import StoreError
from aistrale.forks import gate
from aistrale.keys import Token
from aistrale.logs import warn_once_a_minute
from aistrale.store.asking import MOST_SECONDS
from aistrale.store.peek import SharedWatch, Watch, watch

SECONDS = 5.0
"""How long a look into the books is good for."""

Keys: TypeAlias = Mapping[str, Token | StoreError]


class StoredKeys:
    """The default key of each provider, as the books at `url` have it; without books (None) there are none."""

    def __init__(self, url: str | None) -> None:
        self._source: _FileKeys | _SharedKeys | None = None
        if url is not None:
            seen = watch(url)
            self._source = _shared_keys(url, seen) if isinstance(seen, SharedWatch) else _FileKeys(url, seen)
        self._url = url
        self.fault: StoreError | None = None
        """Why the books could not be read when they were asked last; None if they could."""

    @property
    def blocking(self) -> bool:
        """Whether the next look has to wait for the books."""
        return self._source is not None and self._source.blocking

    def find(self, provider: str) -> Token | None:
        """A provider's token, with its key.

        Raises StoreError if it cannot be decrypted. A database that cannot be used has none but those it told before.
        """
        if self._source is None:
            return None
        try:
            found, self.fault = self._source.find(provider), None
        except StoreError as error:
            if not error.unavailable:
                raise
            self.fault = error
            warn_once_a_minute(
                str(self._url), "keys of the books cannot be read, the environment's are taken: %s", error
            )
            return None
        if isinstance(found, StoreError):
            raise StoreError(str(found)) from found
        return found


class _FileKeys:
    """Those of a file of one's own: read again once that is some seconds ago, or something was changed."""

    def __init__(self, url: str, seen: Watch) -> None:
        self._url, self._watch = url, seen
        self._keys: Keys = {}
        self._fault: StoreError | None = None
        self._read_at, self._changes = -SECONDS, 0

    @property
    def blocking(self) -> bool:
        is_known = time.monotonic() - self._read_at < SECONDS and self._watch.changes == self._changes
        return not is_known and self._watch.now().has_keys

    def find(self, provider: str) -> Token | StoreError | None:
        seen = self._watch.now()
        if not seen.has_key(provider) and not self._watch.is_paused("providers"):
            if not seen.has_keys:
                self._keys, self._fault = {}, None  # the last of them was removed
            return None
        if self.blocking:
            self._read()
        found = self._keys.get(provider)
        if found is None and self._fault is not None:
            raise StoreError(str(self._fault), unavailable=True) from self._fault
        return found

    def _read(self) -> None:
        changes = self._watch.changes
        try:
            self._keys, self._fault = self._watch.ask("providers", partial(_read, self._url)), None
        except StoreError as error:
            if not error.unavailable:
                raise
            self._fault = error
        self._read_at, self._changes = time.monotonic(), changes


class _SharedKeys:
    """Those of a shared database, for all of a process: read behind the calls, once they are known.

    A call waits for them where the database has one of its provider: whose account pays is no matter of luck.
    """

    def __init__(self, url: str, seen: SharedWatch) -> None:
        self._watch = seen
        self._keys = seen.remember("providers", partial(_read, url))

    @property
    def blocking(self) -> bool:
        if self._keys.is_known or self._watch.away is not None:
            return False
        seen = self._watch.at_once()
        return seen is None or seen.has_keys

    def find(self, provider: str) -> Token | StoreError | None:
        if not self._watch.now().has_key(provider) and not self._watch.is_paused("providers"):
            return None
        if not self._keys.is_known and self._watch.away is None:
            _prepare()
        found = self._keys.now(MOST_SECONDS).get(provider)
        if isinstance(found, StoreError):
            self._keys.forget()  # it may be mended by then
        return found


@cache
def _shared_keys(url: str, seen: SharedWatch) -> _SharedKeys:
    return _SharedKeys(url, seen)


def _read(url: str) -> Keys:
    from aistrale.store.store import open_store

    return open_store(url).tokens.keys()


def _prepare() -> None:
    """What takes a while and is not the database's fault: loading, and a keyring that its user has to unlock."""
    with gate.undivided():
        import aistrale.store.tokens  # noqa: F401
        from aistrale.store.master_key import master_key
    with suppress(StoreError):  # told where the keys are read
        master_key()
