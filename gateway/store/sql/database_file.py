"""Notice when the file of an open SQLite database is removed or replaced.

SQLite would go on writing to the old file, which nobody can find any more, and every later commit
would be lost. So each commit calls the checks here twice: before it writes, and again before it is
confirmed. After a restart, the file that then has the name is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gateway.errors import StoreUnavailable

LOG_SUFFIX: Final = "-wal"  # of the write-ahead log, which holds commits until a checkpoint
Identity = tuple[int, int]


class DatabaseReplaced(StoreUnavailable):
    """The open database file or its log was removed or replaced."""


class DatabaseFile:
    """The path of an open database, with device and inode of the file it led to."""

    __slots__ = ("_identity", "_log", "path", "seconds")

    def __init__(self, path: Path, seconds: float) -> None:
        """Take the path, and how long the next transaction waits for another writer."""
        self.path = path
        self.seconds = seconds
        self._log = path.with_name(path.name + LOG_SUFFIX)
        self._identity: Identity | None = None

    def adopt(self) -> None:
        """At the first call, create a missing file and remember the file's identity."""
        if self._identity is None:
            create(self.path)
            self._identity = identity(self.path)

    def check(self) -> None:
        """Raise :class:`DatabaseReplaced` if the file was removed or replaced."""
        if self._identity is not None and identity(self.path) != self._identity:
            raise DatabaseReplaced(
                f"the database file {self.path} was removed or replaced while it was open: put it "
                "back, or restart the daemon to use the new one"
            )

    def log_identity(self) -> Identity | None:
        """Return device and inode of the write-ahead log; None if there is none."""
        return identity(self._log)

    def check_log(self, known: Identity | None) -> None:
        """Raise :class:`DatabaseReplaced` if the write-ahead log is not the file ``known``."""
        if self.log_identity() != known:
            raise DatabaseReplaced(
                f"the log {self._log} of the database was removed or replaced while it "
                "was open: restart the daemon"
            )


def identity(path: Path) -> Identity | None:
    """Return device and inode of a file; None if it does not exist or cannot be accessed."""
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
