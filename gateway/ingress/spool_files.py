"""Files of large mail that is being received, in one folder, named after the process that writes
them.

What can go wrong: the process dies and leaves a file; :func:`remove_leftovers` finds it at the next
start, as its name tells whose it was.
"""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from gateway.ingress.accept import SpoolFile

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "incoming-"
_RUN = secrets.token_hex(
    4
)  # tells this process from one that had its number before, which in a container is always the same


class MailFile:
    """The file of one large mail; used from threads, by one at a time. Its methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        """Begins a file in ``directory``."""
        self._path = directory / f"{_PREFIX}{os.getpid()}-{_RUN}-{secrets.token_hex(4)}"
        self._stream: BinaryIO = self._path.open("xb", buffering=0)
        self._digest = sha256()
        self._size = 0

    def write(self, buffer: bytes | bytearray) -> None:
        """Appends, and takes into the digest."""
        self._digest.update(buffer)
        self._size += len(buffer)
        data = memoryview(buffer)
        while data:
            data = data[self._stream.write(data) :]

    def close(self) -> SpoolFile:
        """Ends the file; it is not synced: the store does that before it takes it over."""
        self._stream.close()  # unbuffered: nothing is left to be written that could fail
        return SpoolFile(self._path, self._size, self._digest.hexdigest())

    def remove(self) -> None:
        """Takes the file away, closed or not."""
        self._stream.close()
        self._path.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> int:
    """Removes files of receptions that a crash cut off, and none of a process that lives; returns
    their number.
    """
    removed = 0
    for path in directory.glob(f"{_PREFIX}*-*-*"):
        pid, run, _ = path.name.removeprefix(_PREFIX).split("-", 2)
        if pid.isdecimal() and (run != _RUN if int(pid) == os.getpid() else not _alive(int(pid))):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
