"""Files for large mails while they are received, named after the process that writes them.

The name lets :func:`remove_leftovers` find the files of a process that died.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from gateway.errors import DiskFull, StoreUnavailable
from gateway.ingress.accept import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFIX = "incoming-"
# Distinguishes this process from an earlier one with the same pid, as usual in containers.
_RUN = secrets.token_hex(4)


class MailFile:
    """The file of one large mail; one thread at a time may use it.

    Errors of the file system are raised as ``DiskFull`` or ``StoreUnavailable`` with their reason.
    """

    def __init__(self, directory: Path) -> None:
        """Create a file in ``directory``."""
        self._path = directory / f"{_PREFIX}{os.getpid()}-{_RUN}-{secrets.token_hex(4)}"
        with _explained(directory):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            self._stream: BinaryIO = os.fdopen(os.open(self._path, flags, 0o600), "wb", 0)
        self._digest = sha256()
        self._size = 0

    def write(self, buffer: bytes | bytearray) -> None:
        """Append bytes and update the digest."""
        self._digest.update(buffer)
        self._size += len(buffer)
        data = memoryview(buffer)
        with _explained(self._path.parent):
            while data:
                data = data[self._stream.write(data) :]

    def close(self) -> SpoolFile:
        """Close the file without syncing it; the store syncs the file when it takes it."""
        self._stream.close()  # unbuffered, so nothing is left to write
        return SpoolFile(self._path, self._size, self._digest.hexdigest())

    def remove(self) -> None:
        """Remove the file, closed or not."""
        self._stream.close()
        self._path.unlink(missing_ok=True)


def probe_folder(directory: Path) -> None:
    """Check that a large mail can be received in ``directory``; raises an error if it cannot."""
    file = MailFile(directory)
    try:
        file.write(b"probe")
    finally:
        file.remove()


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turn an error of the file system into one that says what failed, why and where."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailable
        raise kind(f"cannot write incoming mail: {reason} at {directory}") from error


def remove_leftovers(directory: Path) -> int:
    """Remove files of processes that died; return their number."""
    leftovers = [path for path in directory.glob(f"{_PREFIX}*-*-*") if _is_leftover(path.name)]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _is_leftover(name: str) -> bool:
    """Return whether the process that made a file died, even if we have the same pid now."""
    pid, run, _ = name.removeprefix(_PREFIX).split("-", 2)
    if not pid.isdecimal():
        return False
    return run != _RUN if int(pid) == os.getpid() else not _alive(int(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
