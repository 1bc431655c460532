"""The file of an SQLite database, told from any other file that gets its name later.

A file that is removed or replaced while it is open takes every later commit with it: SQLite goes
on writing to a file that nobody will find again. So whoever commits asks here first, and once more
before the commit is confirmed. A restart adopts whatever file has the name then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gateway.errors import StoreUnavailable

LOG_SUFFIX: Final = "-wal"  # of the write-ahead log, which holds commits until a checkpoint
Identity = tuple[int, int]


class DatabaseReplaced(StoreUnavailable):
    """The file that was opened, or its log, is no longer where it was."""


class DatabaseFile:
    """The path of one open database, and which file it led to when it was first opened."""

    __slots__ = ("_identity", "_log", "path", "seconds")

    def __init__(self, path: Path, seconds: float) -> None:
        """Wait at most ``seconds`` for another writer in the next transaction."""
        self.path = path
        self.seconds = seconds
        self._log = path.with_name(path.name + LOG_SUFFIX)
        self._identity: Identity | None = None

    def adopt(self) -> None:
        """Create the file where there is none and remember it; do nothing the second time."""
        if self._identity is None:
            create(self.path)
            self._identity = identity(self.path)

    def check(self) -> None:
        """Raise :class:`DatabaseReplaced` if the path leads elsewhere now, or nowhere."""
        if self._identity is not None and identity(self.path) != self._identity:
            raise DatabaseReplaced(
                f"the database file {self.path} was removed or replaced while it was open: put it "
                "back, or restart the daemon to use the new one"
            )

    def log_identity(self) -> Identity | None:
        """Return which file the write-ahead log is, None where there is none."""
        return identity(self._log)

    def check_log(self, known: Identity | None) -> None:
        """Raise :class:`DatabaseReplaced` if the write-ahead log is another than ``known``."""
        if self.log_identity() != known:
            raise DatabaseReplaced(
                f"the log {self._log} of the database was removed or replaced while it "
                "was open: restart the daemon"
            )


def identity(path: Path) -> Identity | None:
    """Return device and inode of a file; None where there is none or it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create(path: Path) -> None:
    """Create the database file if it is missing; only our user can read it, since mail is private.

    SQLite gives its log and shared memory files the same rights.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
