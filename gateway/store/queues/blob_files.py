"""Blobs as files in a folder: store them, and delete those that belong to no mail.

A blob is durable before its mail is committed. If the commit fails, the blob may belong to no mail.
So each new blob gets a note, which is a small file. The note is written before the blob gets its
final name, and removed once the mail is committed or the blob is deleted. The next start reads the
notes that dead processes have left.

A blob is named after its content, so several mails can share one blob. Storing a blob replaces an
older file of the same name. Deleting checks by device and inode that the file was not replaced
meanwhile. A lock on the folder keeps renaming and deleting from running at the same time.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import BlobsUnavailable, DiskFull, NotFound
from gateway.store.sql import nodes
from gateway.store.sql.errors import NO_SPACE

CHUNK_BYTES = 1 << 20
PARTS_FOLDER = "parts"  # holds files that are being written, and notes
PART_SUFFIX = ".part"
NOTE_SUFFIX = ".note"
OTHER_HOST_SECONDS: Final = 3600.0  # no commit lasts longer, so an older note is nobody's
# Distinguishes this process from an earlier one with the same pid, as usual in containers.
_RUN: Final = secrets.token_hex(4)
INLINE_BYTES: Final = 256 << 10  # a raw mail up to this size lies in the database
Identity = tuple[int, int]  # device and inode of a file
ABSENT: Final[Identity] = (0, 0)


@dataclass(frozen=True, slots=True)
class PlacedBlob:
    """A stored blob whose mail is not committed yet: the blob's key, and its note if any."""

    key: str
    note: Path | None = None


@dataclass(frozen=True, slots=True)
class DoubtfulBlob:
    """The content of a note: a blob's key and file; ``had``: it replaced an older file."""

    key: str
    file: Identity
    had: bool


def key_of(sha256: str) -> str:
    """Return the key for bytes with this SHA-256 digest in hex."""
    return f"{sha256[:2]}/{sha256}"


class FileBlobs:
    """Blobs as files, two folders deep.

    A file is written under a temporary name, synced and renamed, and its folder is synced. So a
    file with its final name is complete. If the folder is removed while we use it, or hidden by a
    mount, it is not created again: mail would be stored where nobody looks for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._identity: Identity | None = None

    @property
    def parts(self) -> Path:
        """Return the folder of unfinished files and notes."""
        return self.folder / PARTS_FOLDER

    def inline(self, size: int) -> bool:
        """Return whether the mail is small enough to be kept in the database."""
        return size <= INLINE_BYTES

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Store a file without leaving a note; see :class:`Blobs`."""
        placed = await self.place(raw, sha256)
        await self.settle(placed)
        return placed.key

    async def place(self, raw: bytes | Path, sha256: str) -> PlacedBlob:
        """Store a file and leave a note; see :class:`Blobs`."""
        return await asyncio.to_thread(self._place, raw, key_of(sha256))

    def _place(self, raw: bytes | Path, key: str) -> PlacedBlob:
        with explained("write", self.folder):
            self._adopt()
            target = self.folder / key
            _make_folder(target.parent)
            name = f"{target.name}.{nodes.own()}-{_RUN}-{secrets.token_hex(6)}"
            aside, note = (self.parts / f"{name}{each}" for each in (PART_SUFFIX, NOTE_SUFFIX))
            placed = PlacedBlob(key, note)
            try:
                _write(raw, aside)
                with self._alone():
                    _write_note(note, _identity(aside), had=target.exists())
                    aside.rename(target)
                _sync(target.parent)
            except BaseException:
                with suppress(OSError):
                    aside.unlink(missing_ok=True)
                    self._withdraw(placed)
                raise
        return placed

    async def settle(self, placed: PlacedBlob) -> None:
        """Remove the note of a blob; see :class:`Blobs`."""
        if placed.note is not None:
            with explained("write", self.folder):
                await asyncio.to_thread(placed.note.unlink, missing_ok=True)

    async def withdraw(self, placed: PlacedBlob) -> None:
        """Delete a blob stored by :meth:`place`, and its note; see :class:`Blobs`."""
        with explained("delete", self.folder):
            await asyncio.to_thread(self._withdraw, placed)

    def _withdraw(self, placed: PlacedBlob) -> None:
        doubt = _read_note(placed.note) if placed.note is not None else None
        if placed.note is None or doubt is None or doubt.had:
            return  # another may rely on it; the next start finds out
        with self._alone():
            if _identity(self.folder / doubt.key) == doubt.file:
                (self.folder / doubt.key).unlink(missing_ok=True)
            placed.note.unlink(missing_ok=True)

    async def get(self, key: str) -> bytes:
        """Read a file; see :class:`Blobs`."""
        with explained("read", self.folder):
            try:
                return await asyncio.to_thread((self.folder / key).read_bytes)
            except FileNotFoundError:
                raise NotFound(f"no blob {key}") from None

    async def version(self, key: str) -> Identity | None:
        """Return device and inode of a blob's file; None while it is being stored."""
        with explained("read", self.folder):
            return await asyncio.to_thread(self._version, key)

    def _version(self, key: str) -> Identity | None:
        if not self.parts.is_dir():
            return _identity(self.folder / key)
        with self._alone():
            return None if self._placing(key) else _identity(self.folder / key)

    def _placing(self, key: str) -> bool:
        """Return whether a living process has stored this blob, but not yet committed its mail."""
        notes = self.parts.glob(f"{Path(key).name}.*{NOTE_SUFFIX}")
        return any(not _is_abandoned(note) for note in notes)

    async def delete(self, key: str, version: Identity | None = None) -> None:
        """Delete a file; with ``version``, only if it is still this file; see :class:`Blobs`."""
        with explained("delete", self.folder):
            await asyncio.to_thread(self._delete, key, version)

    def _delete(self, key: str, version: Identity | None) -> None:
        path = self.folder / key
        if version is None:
            path.unlink(missing_ok=True)
            return
        _make_folder(self.parts)
        with self._alone():
            if _identity(path) == version:
                path.unlink(missing_ok=True)

    async def listing(self) -> AsyncIterator[str]:
        """List the files; see :class:`Blobs`."""
        for path in await asyncio.to_thread(lambda: sorted(self.folder.glob("??/*"))):
            yield f"{path.parent.name}/{path.name}"

    async def probe(self) -> None:
        """Raise the reason why a blob cannot be written now; see :class:`Blobs`."""
        await asyncio.to_thread(self._probe)

    def _probe(self) -> None:
        with explained("write", self.folder):
            self._adopt()
            probe = self.parts / f"probe.{nodes.own()}-{_RUN}-{secrets.token_hex(6)}{PART_SUFFIX}"
            try:
                _write(b"probe", probe)
            finally:
                probe.unlink(missing_ok=True)
            for folder in self.folder.glob("??"):
                if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    def remove_leftovers(self) -> int:
        """Delete unfinished files of dead processes and return their number.

        A process on another machine that shares the folder may lose a file it is writing. It then
        asks its client to try again.
        """
        found = self.parts.glob(f"*{PART_SUFFIX}")
        abandoned = [path for path in found if _is_abandoned(path, other_hosts=True)]
        for path in abandoned:
            path.unlink(missing_ok=True)
        return len(abandoned)

    def doubtful(self) -> list[tuple[Path, DoubtfulBlob | None]]:
        """Return each note of a dead process with its content; None for a broken note."""
        found = sorted(self.parts.glob(f"*{NOTE_SUFFIX}"))
        return [(note, _read_note(note)) for note in found if _is_abandoned(note)]

    def _adopt(self) -> None:
        """Create the folder at the first call; later raise if it was removed or replaced."""
        if self._identity is None:
            _make_folder(self.parts)
            self._identity = _identity(self.folder)
        elif _identity(self.folder) != self._identity:
            raise BlobsUnavailable(
                f"the blob folder {self.folder} was removed or replaced while it was in use: put "
                "it back, or restart the daemon to use the new one"
            )
        _make_folder(self.parts)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which blobs are renamed and deleted."""
        descriptor = os.open(self.parts, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def explained(doing: str, folder: Path) -> Iterator[None]:
    """Raise an error of the file system as ``DiskFull`` or ``BlobsUnavailable`` with its reason."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO).lower()
        kind = DiskFull if error.errno in NO_SPACE else BlobsUnavailable
        place = error.filename2 or error.filename or folder  # of a link, the new name
        raise kind(f"cannot {doing} blobs: {reason} at {place}") from error


def _identity(path: Path) -> Identity:
    """Return device and inode of a file; ABSENT where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    return found.st_dev, found.st_ino


def _write_note(note: Path, file: Identity, *, had: bool) -> None:
    """Write a note about a blob's file. It is not synced: losing a note only wastes disk space."""
    with open(note, "x", opener=_private) as stream:
        stream.write(f"{file[0]} {file[1]} {int(had)}\n")


def _read_note(note: Path) -> DoubtfulBlob | None:
    """Return the content of a note; None if the note is incomplete or missing."""
    try:
        device, inode, had = note.read_text().split()
        return DoubtfulBlob(
            key_of(note.name.partition(".")[0]), (int(device), int(inode)), had == "1"
        )
    except (ValueError, FileNotFoundError):
        return None


def _is_abandoned(path: Path, *, other_hosts: bool = False) -> bool:
    """Return whether the process that made a file is dead; the file's name holds its id.

    A process of another host counts as dead once the file is old, or at once with ``other_hosts``.
    """
    maker, _, run = path.stem.partition(".")[2].rpartition("-")[0].rpartition("-")
    if run == _RUN:
        return False
    mine = nodes.own()
    if nodes.dead([maker], mine):
        return True
    if maker.rpartition("-")[0] == mine.rpartition("-")[0]:
        return False
    try:
        return other_hosts or time.time() - path.stat().st_mtime > OTHER_HOST_SECONDS
    except FileNotFoundError:
        return False


def _make_folder(folder: Path) -> None:
    """Create a private folder and its missing parents, durably."""
    if folder.is_dir():
        return
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        _sync(each.parent)


def _write(raw: bytes | Path, aside: Path) -> None:
    """Write and sync a new private file; link a source file instead of copying it if possible."""
    if isinstance(raw, Path):
        try:
            aside.hardlink_to(raw)
            aside.chmod(0o600)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
                raise
            aside.unlink(missing_ok=True)
        else:
            _sync(aside)
            return
    with open(aside, "xb", opener=_private) as file:
        if isinstance(raw, bytes):
            file.write(raw)
        else:
            with raw.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
