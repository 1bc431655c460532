"""Where large raw mails lie: files beside the database, an object store, or the database itself.

A blob's key is the SHA-256 of its bytes, so that the same content is kept once and can be verified
at any time. ``put`` returns when the bytes are durable; only then may a row name them
(reliability.md 1, item 1). What can go wrong: the disk is full or gone, the object store does not
answer (``DiskFull``, ``StoreUnavailable``); a crash between blob and row leaves a blob that no row
names, which ``db check`` lists.
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

from gateway.errors import Refused, Rejected, StoreUnavailable, UsageError
from gateway.store.sql.errors import translated

if TYPE_CHECKING:
    from obstore.store import RetryConfig

INLINE_BYTES = 256 << 10  # a raw mail up to this size lies in the database
CHUNK_BYTES = 1 << 20
PARTS_FOLDER = "parts"  # the folder of what is being written
PART_SUFFIX = ".part"
RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
}  # a client waits for his answer meanwhile


class Blobs(Protocol):
    """A blob store."""

    def inline(self, size: int) -> bool:
        """Whether a raw mail of ``size`` bytes goes into the database instead."""
        ...

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Keeps the bytes, or those of a file, durably; returns their key. ``sha256`` is their hex
        digest. The file stays where it is.
        """
        ...

    async def get(self, key: str) -> bytes:
        """The bytes; Refused when there are none."""
        ...

    async def delete(self, key: str) -> None:
        """Forgets the bytes; nothing happens when there are none."""
        ...

    def listing(self) -> AsyncIterator[str]:
        """All keys, in no order."""
        ...


def open_blobs(url: str) -> Blobs:
    """The blob store at ``file://folder`` (relative to the working directory), ``database:``,
    ``s3://``, ``gs://`` or ``az://``.
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
                "the blob address is not like file://folder, database: or s3://bucket/prefix"
            )


def remove_leftovers(url: str) -> int:
    """Removes the files of blobs that were being written when their process died; returns their
    number. For ``file://`` stores; else 0.

    A process of another machine on the same folder may lose a file that way, and tells its client
    to try again.
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
    """Whether the blob is there and is what its key says."""
    try:
        raw = await blobs.get(key)
    except Rejected:
        return False
    return key_of(await asyncio.to_thread(_digest, raw)) == key


def key_of(sha256: str) -> str:
    """The key of the bytes with this hex digest."""
    return f"{sha256[:2]}/{sha256}"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _gone(key: str) -> Refused:
    return Refused(f"the blob {key} is missing")


class NoBlobs:
    """Everything lies in the database."""

    def inline(self, size: int) -> bool:  # noqa: ARG002 - part of what a blob store is asked
        """Always."""
        return True

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Never asked for."""
        raise NotImplementedError

    async def get(self, key: str) -> bytes:
        """There is none: the blobs were kept elsewhere when this mail came in."""
        raise _gone(key)

    async def delete(self, key: str) -> None:
        """There is none."""

    async def listing(self) -> AsyncIterator[str]:
        """None."""
        nothing: tuple[str, ...] = ()
        for key in nothing:
            yield key


class FileBlobs:
    """Files in a folder, two levels deep. Written aside, synced, renamed, and the folder synced: a
    file that has its name is whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def inline(self, size: int) -> bool:
        """Small ones."""
        return size <= INLINE_BYTES

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """See :class:`Blobs`."""
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
        _sync(
            target.parent
        )  # also where the file was there: whoever wrote it may not have come this far

    async def get(self, key: str) -> bytes:
        """See :class:`Blobs`."""
        with translated():
            try:
                return await asyncio.to_thread((self.folder / key).read_bytes)
            except FileNotFoundError:
                raise _gone(key) from None

    async def delete(self, key: str) -> None:
        """See :class:`Blobs`."""
        with translated():
            await asyncio.to_thread((self.folder / key).unlink, missing_ok=True)

    async def listing(self) -> AsyncIterator[str]:
        """See :class:`Blobs`."""
        for path in await asyncio.to_thread(lambda: sorted(self.folder.glob("??/*"))):
            yield f"{path.parent.name}/{path.name}"


def _make_folder(folder: Path) -> None:
    """A folder only we can look into, durable with all its parents."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        _sync(each.parent)


def _write(raw: bytes | Path, aside: Path) -> None:
    """Puts the bytes into a new file and on the disk; a file on the same file system is linked, not
    copied.
    """
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
    """An object store, which confirms a write when it is durable."""

    def __init__(self, store: obstore.store.ObjectStore) -> None:
        self.store = store

    def inline(self, size: int) -> bool:
        """Small ones."""
        return size <= INLINE_BYTES

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """See :class:`Blobs`."""
        try:
            await obstore.put_async(self.store, key_of(sha256), raw)
        except BaseError as error:
            raise StoreUnavailable("the blob store does not answer") from error
        return key_of(sha256)

    async def get(self, key: str) -> bytes:
        """See :class:`Blobs`."""
        try:
            return bytes(await (await obstore.get_async(self.store, key)).bytes_async())
        except FileNotFoundError:
            raise _gone(key) from None
        except BaseError as error:
            raise StoreUnavailable("the blob store does not answer") from error

    async def delete(self, key: str) -> None:
        """See :class:`Blobs`."""
        try:
            await obstore.delete_async(self.store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable("the blob store does not answer") from error

    async def listing(self) -> AsyncIterator[str]:
        """See :class:`Blobs`."""
        async for page in obstore.list(self.store):
            for entry in page:
                yield entry["path"]
