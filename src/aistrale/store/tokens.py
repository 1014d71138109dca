"""Providers' keys, encrypted. Each provider has one that is its default, as long as it has any."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from aistrale.exceptions import InvalidRequestError, StoreError
from aistrale.keys import Secret, Token
from aistrale.records import moment
from aistrale.store.database import Database
from aistrale.store.events import EventLog
from aistrale.store.master_key import master_key, replacing
from aistrale.store.schema import tokens
from aistrale.store.vault import Cipher, Vault

DEFAULT = "default"

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,32}")


class TokenStore:
    """The keys in one database. Names of providers are taken as they are."""

    def __init__(self, events: EventLog, database: Database) -> None:
        self._events = events
        self._database = database
        self._vault = Vault(database.name)

    def add(self, provider: str, token: Secret, label: str = DEFAULT, default: bool | None = None) -> Token:
        """Keep a key. The first of its provider is its default; a later one is with `default=True`.

        Raises InvalidRequestError for what is no token or label, and StoreError if the provider has one of
        this label, or if the others were encrypted with another master key.
        """
        token = _checked(token)
        if not _LABEL.fullmatch(label):  # which may be a key, by mistake: it is not repeated
            raise InvalidRequestError("A token's label is 1 to 32 letters, digits, dots, hyphens and underscores")
        master_key()  # a keyring may ask its user to unlock it: not while others wait for the transaction
        with self._events.transaction() as transaction:
            connection = transaction.connection
            cipher = self._vault.begin(connection)
            labels = [row.label for row in _rows(connection, provider)]
            if label in labels:
                raise StoreError(
                    f"{provider} has a token {label!r} already: replace its key with aistrale.tokens.rotate, "
                    "or add this one under another label"
                )
            values = {
                "provider": provider,
                "label": label,
                "secret": cipher.seal(provider, label, token),
                "masked": str(token),
                "is_default": False,
                "created": time.time_ns(),
            }
            connection.execute(insert(tokens).values(values))
            if default or not labels:
                _make_default(connection, provider, label)
            transaction.emit("token.added", {"provider": provider, "label": label})
            return _token(_row(connection, provider, label))

    def list(self, provider: str | None = None) -> list[Token]:
        """All tokens, or those of one provider, without their keys: by provider, the oldest first."""
        with self._database.read() as connection:
            return [_token(row) for row in _rows(connection, provider)]

    def get(self, provider: str, label: str | None = None) -> Token:
        """A token with its key: the one of this label, or the provider's default.

        Raises StoreError if there is none, or if it was encrypted with another master key.
        """
        with self._database.read() as connection:
            row = _row(connection, provider, label)
            cipher = self._vault.open(connection)
        return _token(row, cipher.unseal(row.secret, row.provider, row.label))

    def remove(self, provider: str, label: str = DEFAULT) -> None:
        """Delete a token. If it was its provider's default, the oldest other one is now.

        Works without the master key; once no token is left, the next may be added under another one.
        Raises StoreError if there is no such token.
        """
        with self._database.write() as connection:
            row = _row(connection, provider, label)
            connection.execute(delete(tokens).where(_is(provider, label)))
            others = _rows(connection, provider)
            if row.is_default and others:
                _make_default(connection, provider, others[0].label)
            if not _rows(connection):
                self._vault.clear(connection)

    def rotate(self, provider: str, token: Secret, label: str = DEFAULT) -> Token:
        """Put another key in a token's place; it stays the default if it was. Raises as `add` and `get` do."""
        token = _checked(token)
        master_key()
        with self._database.write() as connection:
            row = _row(connection, provider, label)
            cipher = self._vault.open(connection)
            values = {
                "secret": cipher.seal(row.provider, row.label, token),
                "masked": str(token),
                "rotated": time.time_ns(),
            }
            connection.execute(update(tokens).where(_is(provider, label)).values(values))
            return _token(_row(connection, provider, label))

    def set_default(self, provider: str, label: str) -> None:
        """Have the provider called with this token. Raises StoreError if there is no such token."""
        with self._database.write() as connection:
            _row(connection, provider, label)
            _make_default(connection, provider, label)

    def keys(self) -> Mapping[str, Token | StoreError]:
        """The default token of each provider that has one, with its key, or what `get` would raise for it.

        Without tokens, no master key is looked for. Raises StoreError if the database cannot be read.
        """
        with self._database.read() as connection:
            rows = connection.execute(select(tokens).where(tokens.c.is_default).order_by(tokens.c.provider)).all()
            if not rows:
                return {}
            try:
                cipher = self._vault.open(connection)
            except StoreError as error:
                if error.unavailable:
                    raise
                return {row.provider: error for row in rows}
        return {row.provider: _opened(cipher, row) for row in rows}

    def rotate_master_key(self, new: Secret) -> str:
        """Encrypt all tokens with another master key, and keep that where the former one was kept.

        Returns what the user has to know or do: `AISTRALE_SECRET_KEY` cannot be changed from here. Raises
        InvalidRequestError for an empty one, and StoreError if a token cannot be read or the new master key
        cannot be kept; then nothing has changed.
        """
        if not new.reveal().strip():
            raise InvalidRequestError("The new master key is empty")
        new = Secret(new.reveal().strip())
        master_key()
        with replacing() as replace, self._database.write() as connection:
            self._encrypt_anew(connection, new)
            return replace(new)

    def _encrypt_anew(self, connection: Connection, new: Secret) -> None:
        rows = _rows(connection)
        if not rows:
            self._vault.clear(connection)
            return
        before = self._vault.open(connection)
        after = self._vault.change(connection, new)
        for row in rows:
            secret = before.unseal(row.secret, row.provider, row.label)
            sealed = after.seal(row.provider, row.label, secret)
            connection.execute(update(tokens).where(_is(row.provider, row.label)).values(secret=sealed))


def _checked(token: Secret) -> Secret:
    """The token without the blanks around it."""
    flaw = _flaw(token.reveal())
    if flaw is not None:
        raise InvalidRequestError(f"This is no token: {flaw}")
    return Secret(token.reveal().strip())


def _flaw(text: object) -> str | None:
    """Why a text is no token, in words that do not repeat it. Raises nothing, for its argument is plain."""
    if not isinstance(text, str):
        return f"it must be a text, not {type(text).__name__}"
    text = text.strip()
    if not text:
        return "it is empty"
    if any(letter.isspace() for letter in text):
        return "it has blanks or line breaks inside"
    if not (text.isascii() and text.isprintable()):
        return "it has characters that are no printable ASCII; copy it anew from its provider's page"
    return None


def _is(provider: str, label: str | None) -> Any:
    """The token of this label, or the provider's default."""
    return (tokens.c.provider == provider) & (tokens.c.is_default if label is None else tokens.c.label == label)


def _rows(connection: Connection, provider: str | None = None) -> list[Row[Any]]:
    """All tokens or those of one provider, the oldest of each provider first."""
    query = select(tokens).order_by(tokens.c.provider, tokens.c.created, tokens.c.label)
    if provider is not None:
        query = query.where(tokens.c.provider == provider)
    return list(connection.execute(query))


def _row(connection: Connection, provider: str, label: str | None) -> Row[Any]:
    row = connection.execute(select(tokens).where(_is(provider, label))).one_or_none()
    if row is None:
        raise StoreError(_missing(connection, provider))
    return row


def _missing(connection: Connection, provider: str) -> str:
    """What there is instead of a token. What was asked for is not repeated: it may be a key, by mistake."""
    labels = [repr(row.label) for row in _rows(connection, provider)]
    if labels:
        return f"{provider} has no token of this label; there are: {', '.join(labels)}"
    providers = sorted({row.provider for row in _rows(connection)})
    there = f"; there are tokens of: {', '.join(providers)}" if providers else ""
    return f"There is no token of this provider{there}. Add one with aistrale.tokens.add(provider, token)"


def _make_default(connection: Connection, provider: str, label: str) -> None:
    # The former one first: the database holds that there is never more than one.
    connection.execute(update(tokens).where(_is(provider, None)).values(is_default=False))
    connection.execute(update(tokens).where(_is(provider, label)).values(is_default=True))


def _opened(cipher: Cipher, row: Row[Any]) -> Token | StoreError:
    try:
        return _token(row, cipher.unseal(row.secret, row.provider, row.label))
    except StoreError as error:
        return error


def _token(row: Row[Any], secret: Secret | None = None) -> Token:
    return Token(
        provider=row.provider,
        label=row.label,
        masked=row.masked,
        is_default=bool(row.is_default),
        created=moment(row.created),
        rotated=None if row.rotated is None else moment(row.rotated),
        last_used=None if row.last_used is None else moment(row.last_used),
        secret=secret,
    )
