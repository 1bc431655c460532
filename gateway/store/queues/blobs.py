"""Blob stores for large raw mail: files beside the database, an object store, or no store at all.

A blob's key is derived from the SHA-256 of its bytes. So equal content is stored once, and can be
verified at any time. ``put`` returns when the bytes are durable; only then may a row hold the key
(reliability.md 1).

A full store raises ``DiskFull``, any other failure ``BlobsUnavailable`` with the reason; nothing
was stored then. If a mail is not committed, a folder deletes the mail's blob
(:mod:`gateway.store.queues.blob_files`). An object store keeps it; ``db check`` lists such blobs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from gateway.errors import BlobsUnavailable, NotFound, Rejected, UsageError
from gateway.store.queues.blob_files import INLINE_BYTES, FileBlobs, Identity, PlacedBlob, key_of

if TYPE_CHECKING:
    from obstore.store import RetryConfig

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

    async def place(self, raw: bytes | Path, sha256: str) -> PlacedBlob:
        """Store like :meth:`put`, for a mail that is not committed yet.

        After the commit of the mail call ``settle``; if the commit failed, call ``withdraw``.
        """
        ...

    async def settle(self, placed: PlacedBlob) -> None:
        """Record that the mail of a blob from :meth:`place` is committed."""
        ...

    async def withdraw(self, placed: PlacedBlob) -> None:
        """Delete a blob from :meth:`place` whose mail will never be committed.

        If another mail may use the same blob, nothing is deleted.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes of a blob; raise NotFound where there is no such blob."""
        ...

    async def version(self, key: str) -> Identity | None:
        """Return a version for :meth:`delete`; storing the same content again changes the version.

        First call this, then look in the database whether a mail has the blob. If this returns
        None, the blob must not be deleted.
        """
        ...

    async def delete(self, key: str, version: Identity | None = None) -> None:
        """Delete a blob if it exists; with ``version``, only if it still has this version."""
        ...

    async def probe(self) -> None:
        """Raise the error with which storing a blob would fail now, if it can be found out."""
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
    """Delete unfinished files of dead processes and return their number (``file://`` only)."""
    blobs = open_blobs(url)
    return blobs.remove_leftovers() if isinstance(blobs, FileBlobs) else 0


async def intact(blobs: Blobs, key: str) -> bool:
    """Return whether the blob exists and its content matches its key."""
    try:
        raw = await blobs.get(key)
    except Rejected:
        return False
    return key_of(await asyncio.to_thread(_digest, raw)) == key


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _missing(key: str) -> NotFound:
    return NotFound(f"no blob {key}")


def _failed(error: BaseError) -> BlobsUnavailable:
    """Return our error for an object store's error, whose text may hold keys and addresses."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return BlobsUnavailable("the blob store refuses our key, or does not allow it this")
    return BlobsUnavailable("the blob store does not answer")


class _WithoutNotes:
    """A blob store without notes: it keeps the blobs of mails whose commit failed."""

    async def place(self, raw: bytes | Path, sha256: str) -> PlacedBlob:
        """Store bytes; see :class:`Blobs`."""
        return PlacedBlob(await self.put(raw, sha256))

    async def put(self, raw: bytes | Path, sha256: str) -> str:
        """Raise NotImplementedError; subclasses override this."""
        raise NotImplementedError

    async def settle(self, placed: PlacedBlob) -> None:
        """Do nothing."""

    async def withdraw(self, placed: PlacedBlob) -> None:
        """Do nothing."""

    async def version(self, key: str) -> Identity | None:  # noqa: ARG002 - the interface
        """Return the same for all blobs."""
        return (0, 0)

    async def probe(self) -> None:
        """Do nothing: only storing a mail shows whether the store works."""


class NoBlobs(_WithoutNotes):
    """The blob store of an installation that keeps all raw mail in the database."""

    def inline(self, size: int) -> bool:  # noqa: ARG002 - the interface
        """Return True: every raw mail is kept in the database."""
        return True

    async def get(self, key: str) -> bytes:
        """Raise NotFound: the blob was written while another store was configured."""
        raise _missing(key)

    async def delete(self, key: str, version: Identity | None = None) -> None:
        """Do nothing."""

    async def listing(self) -> AsyncIterator[str]:
        """Yield nothing."""
        nothing: tuple[str, ...] = ()
        for key in nothing:
            yield key


class RemoteBlobs(_WithoutNotes):
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
            raise _failed(error) from error
        return key_of(sha256)

    async def get(self, key: str) -> bytes:
        """Download an object; see :class:`Blobs`."""
        try:
            return bytes(await (await obstore.get_async(self.store, key)).bytes_async())
        except FileNotFoundError:
            raise _missing(key) from None
        except BaseError as error:
            raise _failed(error) from error

    async def delete(self, key: str, version: Identity | None = None) -> None:  # noqa: ARG002
        """Delete an object; see :class:`Blobs`."""
        try:
            await obstore.delete_async(self.store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _failed(error) from error

    async def listing(self) -> AsyncIterator[str]:
        """List the objects; see :class:`Blobs`."""
        async for page in obstore.list(self.store):
            for entry in page:
                yield entry["path"]
