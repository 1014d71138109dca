"""Where the books are kept, told without loading a database library."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from aistrale.config import home
from aistrale.exceptions import ConfigurationError

DATABASE_VARIABLE = "AISTRALE_DATABASE_URL"

LEDGER = "aistrale_migrations"
"""The table that says which version a database is at."""

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


def database_url() -> str:
    """The database that `AISTRALE_DATABASE_URL` names, by default `aistrale.db` in `AISTRALE_HOME`.

    Raises ConfigurationError for one we cannot use.
    """
    url = os.environ.get(DATABASE_VARIABLE, "").strip()
    if not url:
        return f"{_SQLITE}{(home() / 'aistrale.db').absolute()}"
    scheme = url.partition(":")[0]
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return f"{_SQLITE}{sqlite_path(url)}"
    if scheme in _POSTGRES and "://" in url and _is_address(url):
        return "postgresql+psycopg" + url.removeprefix(scheme)
    raise ConfigurationError(
        f"{DATABASE_VARIABLE} takes sqlite:///path or postgresql://user@host/name, not one of {scheme!r}"
    )


def _is_address(url: str) -> bool:
    """Whether a URL can be taken apart in one way only: what is not plain in a password is to be percent-encoded."""
    try:
        parts = urlsplit(url)
        return parts.port != 0 and parts.netloc.count("@") == url.count("@") < 2
    except ValueError:
        return False


def shown(url: str) -> str:
    """A database's URL without its password."""
    return url if url.startswith(_SQLITE) else _without_password(url).partition("?")[0]  # it may be there, too


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    place = f"{name}@{host}" if name else host
    return urlunsplit((parts.scheme.partition("+")[0], place, parts.path, parts.query, ""))


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite database; None for another's."""
    return Path(url.removeprefix(_SQLITE)).expanduser().absolute() if url.startswith(_SQLITE) else None


def spool_folder(url: str) -> Path:
    """Where spans wait for this database, one file a batch: beside an SQLite file, else in AISTRALE_HOME."""
    path = sqlite_path(url)
    if path is not None:
        return path.with_name(f"{path.name}.spool")
    return home() / "spool" / sha256(_without_password(url).encode()).hexdigest()[:16]


def make_private(folder: Path) -> None:
    """Make a folder, and those above it, for this user only; one that is there stays as it is."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
