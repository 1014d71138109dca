"""How tokens are encrypted: with Fernet, under a key that scrypt derives from the master key and a salt.

The salt is in the database, and beside it a verifier, by which another master key is recognised before
anything is written with it.
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlalchemy import Connection, delete, insert, select

from aistrale.exceptions import StoreError
from aistrale.keys import Secret
from aistrale.store.master_key import VARIABLE, create_master_key, fresh_secret, master_key, sources
from aistrale.store.schema import secret_salts

_NAME = "tokens"
_KNOWN = b"aistrale tokens"


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
        return self.change(connection, (master_key() or create_master_key(fresh_secret())).secret)

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
