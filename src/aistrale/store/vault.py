"""The vault: where the master key is kept, and how tokens are encrypted with it.

The master key is the first there is of: the variable `AISTRALE_SECRET_KEY`, an entry in the system's keyring,
the file `secret.key` in `AISTRALE_HOME`. If there is none, one is made when the first token is added.

Tokens are encrypted with Fernet, under a key that scrypt derives from the master key and a salt in the database.
Beside the salt stands a verifier, by which another master key is recognised before anything is written with it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import stat
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlalchemy import Connection, delete, insert, select

from aistrale.config import home
from aistrale.exceptions import StoreError
from aistrale.keys import Secret
from aistrale.store.schema import secret_salts

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

logger = logging.getLogger("aistrale")

VARIABLE = "AISTRALE_SECRET_KEY"
KEY_FILE = "secret.key"
FORMER = ".old"
"""What the name of the former master key ends with, where a new one has taken its place."""

_SERVICE = "aistrale"
_NAME = "tokens"
_KNOWN = b"aistrale tokens"


class Source(Protocol):
    """A place a master key comes from; its `str` names it."""

    def read(self) -> Secret | None:
        """The master key, None if none is kept here. Raises StoreError."""

    def create(self, secret: Secret) -> Secret | None:
        """Keep this as the first master key, unless another process has just done so.

        Returns the one that is kept; None if none can be kept here. Raises StoreError.
        """

    def replace(self, secret: Secret) -> str:
        """Keep this master key from now on, and the former one beside it.

        Returns what the user has to know or do. Raises StoreError, and then has changed nothing.
        """


class Environment:
    """The variable, which only its owner changes."""

    def __str__(self) -> str:
        return f"environment {VARIABLE}"

    def read(self) -> Secret | None:
        return _secret(os.environ.get(VARIABLE, ""))

    def create(self, secret: Secret) -> Secret | None:
        return None

    def replace(self, secret: Secret) -> str:
        return f"Set {VARIABLE} to the new master key wherever these tokens are used: none can be read before"


class Keyring:
    """The system's keyring, with an entry for each `AISTRALE_HOME`."""

    def __init__(self, backend: KeyringBackend) -> None:
        self._backend = backend
        self._account = str(home().absolute())

    def __str__(self) -> str:
        return f"keyring {self._backend.name}"

    def read(self) -> Secret | None:
        try:
            return _secret(self._backend.get_password(_SERVICE, self._account) or "")
        except Exception as error:  # noqa: BLE001 - backends raise what they like
            _passed_over(error)
            return None

    def create(self, secret: Secret) -> Secret | None:
        found = self.read()
        if found is not None:
            return found
        return self.read() if self._put(self._account, secret) else None

    def replace(self, secret: Secret) -> str:
        former, beside = self.read(), self._account + FORMER
        if former is None or not (self._put(beside, former) and self._put(self._account, secret)):
            raise StoreError(f"The {self} does not take the new master key: look whether it is locked, and try again")
        return f"The new master key is in the {self} as {self._account}, the former one as {beside}"

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

    def replace(self, secret: Secret) -> str:
        former = self.path.with_name(self.path.name + FORMER)
        try:
            with self._written(secret) as name:
                former.unlink(missing_ok=True)
                os.link(self.path, former)
                os.replace(name, self.path)
        except OSError as error:
            raise self._failed("be kept", error) from error
        return f"The new master key is in the {self}, the former one in {former}"

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
    replaced: list[MasterKey] = []

    def replace(new: Secret) -> str:
        former = master_key() or create_master_key(new)
        if former.secret == new:
            return f"The new master key is in the {former.source}"
        said = former.source.replace(new)
        replaced.append(former)
        return said

    try:
        yield replace
    except BaseException:
        for former in replaced:
            former.source.replace(former.secret)
        raise


class Cipher:
    """Encrypts tokens, each bound to its provider and label."""

    def __init__(self, secret: Secret, salt: str) -> None:
        self._fernet = _derived(secret, salt)

    def verifier(self) -> str:
        """A text by which another cipher tells whether it is of the same master key and salt."""
        return self._fernet.encrypt(_KNOWN).decode()

    def fits(self, verifier: str) -> bool:
        """Whether a cipher of the same master key and salt wrote `verifier`."""
        try:
            return self._fernet.decrypt(verifier) == _KNOWN
        except (InvalidToken, ValueError):
            return False

    def seal(self, provider: str, label: str, secret: Secret) -> str:
        """The token encrypted, as text."""
        return self._fernet.encrypt(
            json.dumps({"provider": provider, "label": label, "token": secret.reveal()}).encode()
        ).decode()

    def unseal(self, sealed: str, provider: str, label: str) -> Secret:
        """The token in `sealed`. Raises StoreError if it is damaged, or was sealed for another provider or label."""
        secret = self._opened(sealed, provider, label)
        if secret is None:
            raise StoreError(
                f"The token {label!r} of {provider} is damaged, or another was put in its place. Nothing was changed: "
                f"restore a backup, or give its key anew with aistrale.tokens.rotate({provider!r}, ..., {label!r})"
            )
        return secret

    def _opened(self, sealed: str, provider: str, label: str) -> Secret | None:
        # Raises nothing, for its variables are plain, and a traceback may show them.
        try:
            entry: Any = json.loads(self._fernet.decrypt(sealed))
        except (InvalidToken, ValueError):
            return None
        match entry:
            case {"provider": owner, "label": name, "token": str(token)} if (owner, name) == (provider, label):
                return Secret(token)
        return None


class Vault:
    """The ciphers of one database, which messages call `name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self, connection: Connection) -> Cipher:
        """The cipher the tokens there are encrypted with. Raises StoreError if the master key is not the one."""
        row = connection.execute(select(secret_salts).where(secret_salts.c.name == _NAME)).one_or_none()
        if row is None:
            raise StoreError(
                f"The salt of the tokens is gone from {self._name}. "
                "Restore a backup of it, or remove the tokens and add them again"
            )
        key = master_key()
        if key is None:
            looked = ", ".join(map(str, sources()))
            raise self._refused(f"a master key, and here is none (looked in: {looked})")
        cipher = Cipher(key.secret, row.salt)
        if not cipher.fits(row.verifier):
            raise self._refused(f"another master key than the one from {key.source}")
        return cipher

    def begin(self, connection: Connection) -> Cipher:
        """`open` for what writes tokens: the first of them decides for a master key, which is made if need be."""
        if connection.execute(select(secret_salts.c.name).where(secret_salts.c.name == _NAME)).first():
            return self.open(connection)
        return self.change(connection, (master_key() or create_master_key(_fresh())).secret)

    def change(self, connection: Connection, secret: Secret) -> Cipher:
        """A cipher of this master key and a new salt, for all the tokens from now on."""
        salt = secrets.token_urlsafe(16)
        cipher = Cipher(secret, salt)
        self.clear(connection)
        connection.execute(insert(secret_salts).values(name=_NAME, salt=salt, verifier=cipher.verifier()))
        return cipher

    def clear(self, connection: Connection) -> None:
        """Forget the master key: no token is left that needs it."""
        connection.execute(delete(secret_salts).where(secret_salts.c.name == _NAME))

    def _refused(self, why: str) -> StoreError:
        return StoreError(
            f"The tokens in {self._name} were encrypted with {why}. Nothing was changed. Set {VARIABLE} to the master "
            "key they were added with, or unlock the keyring or restore the file that holds it. If it is lost, remove "
            "the tokens and add them again"
        )


@lru_cache(maxsize=16)
def _derived(secret: Secret, salt: str) -> Fernet:
    # In one expression: a variable would show the key in a traceback.
    return Fernet(
        urlsafe_b64encode(
            Scrypt(salt=salt.encode(), length=32, n=2**14, r=8, p=1).derive(
                secret.reveal().encode("utf-8", "surrogateescape")
            )
        )
    )


def _secret(text: str) -> Secret | None:
    return Secret(text.strip()) if text.strip() else None


def _fresh() -> Secret:
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
