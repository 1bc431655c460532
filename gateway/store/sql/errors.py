"""Translate errors of databases, drivers and disks into errors of this program.

When a database is away, busy or full, the same request may succeed later, so the mail stays with
its sender. Errors that are not recognised pass through unchanged, as faults of this program. No
message of ours quotes a driver, since its text may contain data.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy.exc

from gateway.errors import DiskFull, StoreUnavailable, TicketgateError, Unavailable, UnusablePath

BUSY = "the database is busy with another writer"
AWAY = "the database does not answer"
FULL = "the disk of the database is full"
READ_ONLY = "the database is read-only"
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
# Nothing can be created at the path until a person changes it or its permissions.
NO_PLACE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}

# SQLite primary result codes (sqlite.org/rescode.html) whose cause is outside this program.
SQLITE: dict[int, tuple[type[Unavailable], str]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailable, BUSY),
    sqlite3.SQLITE_LOCKED: (StoreUnavailable, BUSY),
    sqlite3.SQLITE_FULL: (DiskFull, FULL),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "the disk of the database reports an error"),
    sqlite3.SQLITE_CANTOPEN: (StoreUnavailable, "the database file cannot be opened"),
    sqlite3.SQLITE_READONLY: (StoreUnavailable, "the database file cannot be written"),
    sqlite3.SQLITE_PERM: (StoreUnavailable, "the database file cannot be opened"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailable, "the database is out of memory"),
    sqlite3.SQLITE_PROTOCOL: (StoreUnavailable, BUSY),
    sqlite3.SQLITE_CORRUPT: (StoreUnavailable, "the database file is damaged"),
    sqlite3.SQLITE_NOTADB: (StoreUnavailable, "the database file is not a database"),
}
# PostgreSQL SQLSTATE classes and codes (documentation, appendix A); the longest match counts.
POSTGRESQL: dict[str, tuple[type[Unavailable], str]] = {
    "08": (StoreUnavailable, AWAY),
    "28": (StoreUnavailable, "the database refuses the user or the password"),
    "3D": (StoreUnavailable, "the database server has no database of that name"),
    "40": (StoreUnavailable, BUSY),
    "53": (StoreUnavailable, "the database is out of resources"),
    "53100": (DiskFull, FULL),
    "55000": (StoreUnavailable, "the database does not accept connections now"),
    "55P03": (StoreUnavailable, BUSY),
    "57": (StoreUnavailable, AWAY),
    "58": (StoreUnavailable, "the disk of the database reports an error"),
    "25006": (StoreUnavailable, READ_ONLY),
}


def meaning(error: BaseException) -> TicketgateError | None:
    """Return the TicketgateError for a database, driver or disk error; None for any other error."""
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        if error.connection_invalidated:
            return StoreUnavailable(AWAY)
        return meaning(error.orig) if error.orig is not None else None
    if isinstance(error, sqlite3.Error):
        return _told(SQLITE.get(getattr(error, "sqlite_errorcode", -1) & 0xFF))
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return _told(
            next((POSTGRESQL[state[:size]] for size in (5, 2) if state[:size] in POSTGRESQL), None)
        )
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return DiskFull("no space left on the disk")
    if isinstance(error, OSError | sqlalchemy.exc.TimeoutError | TimeoutError | ConnectionError):
        return StoreUnavailable(AWAY)
    if type(error).__module__.startswith("asyncpg") and type(error).__name__ in {
        "InterfaceError",
        "InternalClientError",
    }:
        return StoreUnavailable(AWAY)
    return None


def _told(found: tuple[type[Unavailable], str] | None) -> TicketgateError | None:
    return found[0](found[1]) if found is not None else None


@contextmanager
def placed(path: Path, what: str = "the database") -> Iterator[None]:
    """Raise :class:`UnusablePath` if the block cannot create ``what`` at ``path``.

    Errors such as a full or broken disk pass through.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise UnusablePath(
            f"cannot create {what} at {path}: {error.strerror} ({error.filename})"
        ) from error


@contextmanager
def translated() -> Iterator[None]:
    """Run the block; raise errors of a database, driver or disk as a TicketgateError.

    The original error is its cause.
    """
    try:
        yield
    except TicketgateError:
        raise
    except Exception as error:
        ours = meaning(error)
        if ours is None:
            raise
        raise ours from error
