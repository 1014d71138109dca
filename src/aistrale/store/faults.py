"""What is wrong with a database, as its driver says it, and what its user can do."""

from __future__ import annotations

import errno
import sqlite3


def said(error: BaseException) -> str:
    """The driver's own words, in one line without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__


_LOCKED = "Another process holds it for long: look for one that is stuck, or try again"
_FORBIDDEN = "Give this user the right to write there, or set AISTRALE_HOME elsewhere"
_FULL = "Make room on the disk; what was not written yet is kept as long as there is room for it"
_DAMAGED = "The file is damaged: keep a copy, then restore a backup or move it away"
FOREIGN = "The file is no SQLite database: move it away, or set AISTRALE_HOME or AISTRALE_DATABASE_URL"
_NO_FOLDER = "Look whether its folder exists and may be written, or set AISTRALE_HOME elsewhere"

_BY_SQLITE_CODE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _FORBIDDEN,
    sqlite3.SQLITE_PERM: _FORBIDDEN,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: FOREIGN,
    sqlite3.SQLITE_CANTOPEN: _NO_FOLDER,
    sqlite3.SQLITE_IOERR: "Look at the disk: reading or writing failed, or there is no room",
}
_BY_ERRNO = {
    errno.EISDIR: "Name a file in AISTRALE_DATABASE_URL, or move the folder away",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENOSPC: _FULL,
    errno.ENOTDIR: _NO_FOLDER,
    errno.ENOENT: _NO_FOLDER,
}

_BY_SQLSTATE = {  # PostgreSQL's appendix A
    "55P03": _LOCKED,
    "42501": "Give this user the right to do so on the server, or name another in AISTRALE_DATABASE_URL",
    "53100": "Make room on the server's disk; what was not written yet is kept meanwhile",
    "53300": "The server has too many connections: raise its max_connections, or end some",
    "28P01": "Look at the user and the password in AISTRALE_DATABASE_URL",
    "3D000": "Create that database on the server, or name another in AISTRALE_DATABASE_URL",
}


def advice(error: BaseException, is_sqlite: bool) -> str:
    """A sentence that says what to do."""
    found = None
    if isinstance(error, sqlite3.Error):
        found = _BY_SQLITE_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    elif isinstance(error, OSError) and error.errno is not None:
        found = _BY_ERRNO.get(error.errno)
    elif (state := getattr(error, "sqlstate", None)) is not None:
        found = _BY_SQLSTATE.get(state)
    if found is None:
        found = "Look whether the database server is up and AISTRALE_DATABASE_URL names it rightly"
        if is_sqlite:
            found = "Look at the file AISTRALE_HOME or AISTRALE_DATABASE_URL leads to"
    return f"{found}."


def is_about_the_file(error: BaseException) -> bool:
    """Whether connections are of no more use: they would go on reading what is damaged when another file is there."""
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes
