"""Blob stores for large raw mail: files beside the database, an object store, or no store at all.

A blob's key is derived from the SHA-256 of its bytes. So equal content is stored once, and can be
verified at any time. ``put`` returns when the bytes are durable; only then may a row hold the key
(reliability.md 1).

A full store raises ``DiskFull``, an unreachable one ``StoreUnavailable``; in both cases nothing was
stored. A crash after a blob is stored and before its row is committed leaves a blob without a row.
``db check`` lists such blobs.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError

from gateway.errors import NotFound, Rejected, StoreUnavailable, UsageError
from gateway.store.sql.errors import translated

if TYPE_CHECKING:
    from obstore.store import RetryConfig

INLINE_BYTES = 256 << 10  # a raw mail up to this size lies in the database
CHUNK_BYTES = 1 << 20
PARTS_FOLDER = "parts"  # holds files that are being written
PART_SUFFIX = ".part"
RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
}  # not for long, since a client waits for the reply meanwhile


class Blobs(Protocol):
    """The interface of a blob store."""

    def inline(self, size: int) -> bool:
        """Return whether a raw mail of ``size`` bytes is kept in the database, not as a blob."""
        ...

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Store bytes, or a copy of a file, durably; return the key.

        ``sha256`` is the digest of the content in hex.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes of a blob; raise NotFound where there is no such blob."""
        ...

    async def delete(self, key: str) -> None:
        """Delete a blob; do nothing where there is none."""
        ...

    def listing(self) -> AsyncIterator[str]:
        """Yield all keys, in no particular order."""
        ...


def open_blobs(url: str) -> Blobs:
    """Open a blob store: ``file://folder``, ``database:``, ``s3://``, ``gs://`` or ``az://``.

    A relative folder is taken from the working directory. Raises UsageError for any other URL.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            return FileBlobs(Path(parts.netloc + parts.path))
        case "database":
            return NoBlobs()
        case "s3" | "gs" | "az":
            return RemoteBlobs(obstore.store.from_url(url, retry_config=RETRIES))
        case _:
            raise UsageError(
                "the blob URL must be like file://folder, database: or s3://bucket/prefix"
            )


def remove_leftovers(url: str) -> int:
    """Delete files that dead processes left unfinished; return how many (``file://`` only).

    A process on another machine that shares the folder may lose a file it is writing. It then asks
    its client to try again.
    """
    blobs = open_blobs(url)
    found = (
        list((blobs.folder / PARTS_FOLDER).glob(f"*{PART_SUFFIX}"))
        if isinstance(blobs, FileBlobs)
        else []
    )
    abandoned = [
        path
        for path in found
        if not Path("/proc", path.suffixes[-2][1:].partition("-")[0]).exists()
    ]
    for path in abandoned:
        path.unlink(missing_ok=True)
    return len(abandoned)


async def intact(blobs: Blobs, key: str) -> bool:
    """Return whether the blob exists and its content matches its key."""
    try:
        raw = await blobs.get(key)
    except Rejected:
        return False
    return key_of(await asyncio.to_thread(_digest, raw)) == key


def key_of(sha256: str) -> str:
    """Return the key for bytes with this SHA-256 digest in hex."""
    return f"{sha256[:2]}/{sha256}"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _missing(key: str) -> NotFound:
    return NotFound(f"no blob {key}")


class NoBlobs:
    """The blob store of an installation that keeps all raw mail in the database."""

    def inline(self, size: int) -> bool:  # noqa: ARG002 - the interface
        """Return True: every raw mail is kept in the database."""
        return True

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Raise NotImplementedError: nobody calls this, since :meth:`inline` is always True."""
        raise NotImplementedError

    async def get(self, key: str) -> bytes:
        """Raise NotFound: the blob was written while another store was configured."""
        raise _missing(key)

    async def delete(self, key: str) -> None:
        """Do nothing."""

    async def listing(self) -> AsyncIterator[str]:
        """Yield nothing."""
        nothing: tuple[str, ...] = ()
        for key in nothing:
            yield key


class FileBlobs:
    """Blobs as files, two folders deep.

    A file is written under a temporary name, synced and renamed, and its folder is synced. So a
    file with its final name is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def inline(self, size: int) -> bool:
        """Return whether the mail is small enough to be kept in the database."""
        return size <= INLINE_BYTES

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Store a file; see :class:`Blobs`."""
        with translated():
            await asyncio.to_thread(self._put, raw, key_of(sha256))
        return key_of(sha256)

    def _put(self, raw: bytes | Path, key: str) -> None:
        target = self.folder / key
        if not target.parent.is_dir():
            _make_folder(target.parent)
        if not target.exists():
            aside = (
                self.folder
                / PARTS_FOLDER
                / f"{target.name}.{os.getpid()}-{secrets.token_hex(6)}{PART_SUFFIX}"
            )
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                _write(raw, aside)
                aside.rename(target)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
        # also where the file exists already: its writer may have died before this
        _sync(target.parent)

    async def get(self, key: str) -> bytes:
        """Read a file; see :class:`Blobs`."""
        with translated():
            try:
                return await asyncio.to_thread((self.folder / key).read_bytes)
            except FileNotFoundError:
                raise _missing(key) from None

    async def delete(self, key: str) -> None:
        """Delete a file; see :class:`Blobs`."""
        with translated():
            await asyncio.to_thread((self.folder / key).unlink, missing_ok=True)

    async def listing(self) -> AsyncIterator[str]:
        """List the files; see :class:`Blobs`."""
        for path in await asyncio.to_thread(lambda: sorted(self.folder.glob("??/*"))):
            yield f"{path.parent.name}/{path.name}"


def _make_folder(folder: Path) -> None:
    """Create a private folder and its missing parents, durably."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        _sync(each.parent)


def _write(raw: bytes | Path, aside: Path) -> None:
    """Write and sync a new file; link a source file instead of copying it where possible."""
    if isinstance(raw, Path):
        try:
            aside.hardlink_to(raw)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
                raise
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


class RemoteBlobs:
    """An object store; it confirms a write when the object is durable."""

    def __init__(self, store: obstore.store.ObjectStore) -> None:
        self.store = store

    def inline(self, size: int) -> bool:
        """Return whether the mail is small enough to be kept in the database."""
        return size <= INLINE_BYTES

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Upload an object; see :class:`Blobs`."""
        try:
            await obstore.put_async(self.store, key_of(sha256), raw)
        except BaseError as error:
            raise StoreUnavailable("the blob store does not answer") from error
        return key_of(sha256)

    async def get(self, key: str) -> bytes:
        """Download an object; see :class:`Blobs`."""
        try:
            return bytes(await (await obstore.get_async(self.store, key)).bytes_async())
        except FileNotFoundError:
            raise _missing(key) from None
        except BaseError as error:
            raise StoreUnavailable("the blob store does not answer") from error

    async def delete(self, key: str) -> None:
        """Delete an object; see :class:`Blobs`."""
        try:
            await obstore.delete_async(self.store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable("the blob store does not answer") from error

    async def listing(self) -> AsyncIterator[str]:
        """List the objects; see :class:`Blobs`."""
        async for page in obstore.list(self.store):
            for entry in page:
                yield entry["path"]
