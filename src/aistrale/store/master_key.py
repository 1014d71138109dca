"""Where the master key is kept.

It is the first there is of: the variable `AISTRALE_SECRET_KEY`, an entry in the system's keyring, the file
`secret.key` in `AISTRALE_HOME`. If there is none, one is made when the first token is added.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aistrale.config import home
from aistrale.exceptions import StoreError
from aistrale.keys import Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

logger = logging.getLogger("aistrale")

VARIABLE = "AISTRALE_SECRET_KEY"
KEY_FILE = "secret.key"
FORMER = ".old"
"""What the name of the former master key ends with, where a new one has taken its place."""

_SERVICE = "aistrale"


class Source(Protocol):
    """A place a master key comes from; its `str` names it."""

    def read(self) -> Secret | None:
        """The master key, None if none is kept here. Raises StoreError."""

    def create(self, secret: Secret) -> Secret | None:
        """Keep this as the first master key, unless another process has just done so.

        Returns the one that is kept; None if none can be kept here. Raises StoreError.
        """

    def former(self) -> Secret | None:
        """The one before this, kept beside it when it was replaced."""

    def keep(self, secret: Secret, former: Secret | None) -> str:
        """Keep this master key from now on, and the former one beside it: that first, so that none is ever lost.

        Returns what the user has to know or do. Raises StoreError.
        """


class Environment:
    """The variable, which only its owner changes."""

    def __str__(self) -> str:
        return f"environment {VARIABLE}"

    def read(self) -> Secret | None:
        return _secret(os.environ.get(VARIABLE, ""))

    def create(self, secret: Secret) -> Secret | None:
        return None

    def former(self) -> Secret | None:
        return None

    def keep(self, secret: Secret, former: Secret | None) -> str:
        return f"Set {VARIABLE} to the new master key wherever these tokens are used: none can be read before"


class Keyring:
    """The system's keyring, with an entry for each `AISTRALE_HOME`."""

    def __init__(self, backend: KeyringBackend) -> None:
        self._backend = backend
        self._account = str(home().absolute())

    def __str__(self) -> str:
        return f"keyring {self._backend.name}"

    def read(self) -> Secret | None:
        return self._get(self._account)

    def create(self, secret: Secret) -> Secret | None:
        found = self.read()
        if found is not None:
            return found
        return self.read() if self._put(self._account, secret) else None

    def former(self) -> Secret | None:
        return self._get(self._account + FORMER)

    def keep(self, secret: Secret, former: Secret | None) -> str:
        beside = self._account + FORMER
        if not (self._put(beside, former or Secret("")) and self._put(self._account, secret)):
            raise StoreError(f"The {self} does not take the new master key: look whether it is locked, and try again")
        return f"The new master key is in the {self} as {self._account}, the former one as {beside}"

    def _get(self, account: str) -> Secret | None:
        try:
            return _secret(self._backend.get_password(_SERVICE, account) or "")
        except Exception as error:  # noqa: BLE001 - backends raise what they like
            _passed_over(error)
            return None

    def _put(self, account: str, secret: Secret) -> bool:
        try:
            self._backend.set_password(_SERVICE, account, secret.reveal())
        except Exception as error:  # noqa: BLE001 - backends raise what they like
            _passed_over(error)
            return False
        return True


class KeyFile:
    """A file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return f"file {self.path}"

    def read(self) -> Secret | None:
        try:
            mode = self.path.stat().st_mode
            secret = _secret(self.path.read_bytes().decode("utf-8", "surrogateescape"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("be read", error) from error
        if secret is None:
            raise StoreError(f"The master key's {self} is empty: restore it, or delete it and set {VARIABLE}")
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            _warn_of_mode(self.path, stat.S_IMODE(mode))
        return secret

    def create(self, secret: Secret) -> Secret | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._written(secret) as name:
                is_first = _linked(name, self.path)
        except OSError as error:
            raise self._failed("be kept", error) from error
        if is_first:
            logger.warning(
                "The master key of your tokens is now in %s. Whoever can read that file and the database can read the "
                "tokens. To do better, set %s, or have a keyring (pip install keyring) before the first token is added",
                self.path,
                VARIABLE,
            )
        return self.read()

    @property
    def _beside(self) -> Path:
        return self.path.with_name(self.path.name + FORMER)

    def former(self) -> Secret | None:
        try:
            return _secret(self._beside.read_bytes().decode("utf-8", "surrogateescape"))
        except OSError:
            return None

    def keep(self, secret: Secret, former: Secret | None) -> str:
        try:
            if former is None:
                self._beside.unlink(missing_ok=True)
            else:
                with self._written(former) as name:
                    os.replace(name, self._beside)
            with self._written(secret) as name:
                os.replace(name, self.path)
        except OSError as error:
            raise self._failed("be kept", error) from error
        return f"The new master key is in the {self}, the former one in {self._beside}"

    @contextmanager
    def _written(self, secret: Secret) -> Iterator[str]:
        """A file of a passing name that holds the secret, safe on the disk and of mode 0600, as mkstemp makes it."""
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secret.reveal().encode("utf-8", "surrogateescape"))
                file.flush()
                os.fsync(file.fileno())
            yield name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)

    def _failed(self, verb: str, error: OSError) -> StoreError:
        return StoreError(
            f"The master key cannot {verb} in the {self}: {error.strerror or error}. "
            f"Set {VARIABLE}, or let AISTRALE_HOME name a folder this user may write to"
        )


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A master key and where it came from."""

    source: Source
    secret: Secret


def sources() -> Iterator[Source]:
    """The places a master key may come from, the one that counts most first."""
    yield Environment()
    backend = _keyring_backend()
    if backend is not None:
        yield Keyring(backend)
    yield KeyFile(home() / KEY_FILE)


def master_key() -> MasterKey | None:
    """The master key as it is set now, None if there is none yet. Raises StoreError if its file cannot be read."""
    for source in sources():
        secret = source.read()
        if secret is not None:
            return MasterKey(source, secret)
    return None


def create_master_key(secret: Secret) -> MasterKey:
    """The first master key, kept in the keyring, or else in the file. Raises StoreError."""
    for source in sources():
        kept = source.create(secret)
        if kept is not None:
            return MasterKey(source, kept)
    raise StoreError(f"A master key can be kept nowhere: set {VARIABLE}")


def master_key_source() -> Source:
    """Where the master key comes from; if there is none yet, where it will be kept. Makes none."""
    key = master_key()
    return key.source if key is not None else next(islice(sources(), 1, None))


@contextmanager
def replacing() -> Iterator[Callable[[Secret], str]]:
    """Gives a function that keeps a new master key where the present one is. If the block fails, that is undone.

    The function returns what the user has to know or do, and raises StoreError.
    """
    replaced: list[tuple[MasterKey, Secret | None]] = []

    def replace(new: Secret) -> str:
        present = master_key() or create_master_key(new)
        if present.secret == new:
            return f"The new master key is in the {present.source}"
        replaced.append((present, present.source.former()))
        return present.source.keep(new, present.secret)

    try:
        yield replace
    except BaseException:
        for present, former in replaced:
            _put_back(present, former)
        raise


def _put_back(present: MasterKey, former: Secret | None) -> None:
    source, secret = present.source, present.secret
    try:
        # In two steps, the second of which touches only what is beside it: the present one is always somewhere.
        source.keep(secret, secret)
        source.keep(secret, former)
    except StoreError as error:
        if source.read() != secret:
            logger.warning("the master key could not be put back, it is beside the new one: %s", error)


def _secret(text: str) -> Secret | None:
    return Secret(text.strip()) if text.strip() else None


def fresh_secret() -> Secret:
    return Secret(secrets.token_urlsafe(32))


def _linked(name: str, path: Path) -> bool:
    """Give a file its name, unless another process was first."""
    try:
        os.link(name, path)
    except FileExistsError:
        return False
    return True


def _keyring_backend() -> KeyringBackend | None:
    """The keyring in use, None if there is none to speak of."""
    try:
        import keyring
        from keyring.backends import fail, null

        backend = keyring.get_keyring()
    except Exception as error:  # noqa: BLE001 - not installed, or not in order
        _passed_over(error)
        return None
    return None if isinstance(backend, (fail.Keyring, null.Keyring)) else backend


def _passed_over(error: Exception) -> None:
    logger.debug("The keyring is passed over: %s", type(error).__name__)


@lru_cache(maxsize=16)
def _warn_of_mode(path: Path, mode: int) -> None:
    """Once in a process, not at every look at the file."""
    logger.warning("Others than its owner may open %s (mode %o), which holds your master key: chmod 600 it", path, mode)
