"""The keys that are in the books: they go before those of the environment."""

from __future__ import annotations

import time

from aistrale.exceptions import StoreError
from aistrale.keys import Token
from aistrale.logs import warn_once_a_minute
from aistrale.store.peek import watch

SECONDS = 5.0
"""How long a look into the books is good for."""


class StoredKeys:
    """The default key of each provider, as the books at `url` have it; without books (None) there are none."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._keys: dict[str, Token | StoreError] = {}
        self._read_at, self._changes = -SECONDS, 0

    @property
    def blocking(self) -> bool:
        """Whether the next look has to open the books."""
        if self._url is None:
            return False
        seen = watch(self._url)
        is_known = time.monotonic() - self._read_at < SECONDS and seen.changes == self._changes
        return not is_known and seen.now().tokens

    def find(self, provider: str) -> Token | None:
        """A provider's token, with its key.

        Raises StoreError if it cannot be decrypted. A database that cannot be used has none.
        """
        if self.blocking:
            self._read()
        elif self._keys and self._url is not None:
            seen = watch(self._url)
            if not seen.now().tokens and not seen.is_away("tokens"):
                self._keys = {}  # the last of them was removed
        found = self._keys.get(provider)
        if isinstance(found, StoreError):
            raise StoreError(str(found)) from found
        return found

    def _read(self) -> None:
        from aistrale.store.store import open_store

        assert self._url is not None
        changes = watch(self._url).changes
        try:
            self._keys = dict(open_store(self._url).tokens.keys())
        except StoreError as error:
            if not error.unavailable:
                raise
            watch(self._url).look_away("tokens")
            warn_once_a_minute(self._url, "keys of the books cannot be read, the environment's are taken: %s", error)
        self._read_at, self._changes = time.monotonic(), changes
