"""Store the raw bytes of new mail, and delete blobs whose mail was not committed.

Blobs are stored before the commit, so a commit that fails leaves blobs that belong to no mail. If
it is certain that the commit failed, they are deleted at once. If an error comes at the very end of
a commit, the mail may have been stored in spite of the error. Its blobs are then looked up in the
database later, at the latest by the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from gateway.errors import Unavailable
from gateway.store.engine import Database
from gateway.store.queues.blob_files import FileBlobs, PlacedBlob
from gateway.store.queues.blobs import Blobs
from gateway.store.schema import tables
from gateway.store.sql.any_of import among

MAIL = tables.mail
Place = bytes | PlacedBlob  # in the database, or in the blob store


class StoredFile(Protocol):
    """A file that holds a raw mail."""

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        ...


class RawMail(Protocol):
    """A raw mail to be stored: its bytes or file, their size and their SHA-256 in hex."""

    @property
    def raw(self) -> bytes | StoredFile:
        """Return the bytes, or the file that holds them."""
        ...

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the bytes in hex."""
        ...


class RawPlaces:
    """Stores the raw bytes of mails, and remembers blobs whose commit may have failed."""

    __slots__ = ("_blobs", "_database", "_doubtful")

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._doubtful: list[PlacedBlob] = []

    async def place(self, mails: Sequence[RawMail]) -> list[Place]:
        """Store the bytes of all mails, or raise the first error and delete what was stored."""
        found = await asyncio.gather(*(self._one(mail) for mail in mails), return_exceptions=True)
        places = [each for each in found if not isinstance(each, BaseException)]
        error = next((each for each in found if isinstance(each, BaseException)), None)
        if error is not None:
            await self.unused(places)
            raise error
        return places

    async def _one(self, mail: RawMail) -> Place:
        raw = mail.raw
        if not self._blobs.inline(mail.size):
            source = raw if isinstance(raw, bytes) else raw.path
            return await self._blobs.place(source, mail.sha256)
        return raw if isinstance(raw, bytes) else await asyncio.to_thread(raw.path.read_bytes)

    async def used(self, places: Sequence[Place]) -> None:
        """Record that these mails are committed; then decide on the blobs given to :meth:`doubt`.

        On SQLite, this commit has overwritten what a failed one left in the log, so the failed
        one can no longer take effect. PostgreSQL may still finish it, so there the next start
        decides.
        """
        with suppress(Unavailable):  # the mails are committed; the next start looks at the notes
            for placed in _blobs_of(places):
                await self._blobs.settle(placed)
            if self._doubtful and self._database.dialect == "sqlite":
                await self._look_up()

    async def _look_up(self) -> None:
        doubtful, self._doubtful = self._doubtful, []
        named = await named_blobs(self._database, [each.key for each in doubtful])
        for each in doubtful:
            await (self._blobs.settle if each.key in named else self._blobs.withdraw)(each)

    async def unused(self, places: Sequence[Place]) -> None:
        """Delete the blobs of mails that were not committed and never will be."""
        with suppress(Unavailable):  # the next start looks at the notes
            for placed in _blobs_of(places):
                await self._blobs.withdraw(placed)

    def doubt(self, places: Sequence[Place]) -> None:
        """Keep these blobs for now: their commit raised an error, but may have taken effect."""
        self._doubtful += _blobs_of(places)


def _blobs_of(places: Sequence[Place]) -> list[PlacedBlob]:
    return [place for place in places if isinstance(place, PlacedBlob)]


async def named_blobs(database: Database, keys: Collection[str]) -> set[str]:
    """Return which of these keys belong to a mail. This is slow: it reads all rows of mails."""
    query = sa.select(MAIL.c.blob).where(among(MAIL.c.blob, "keys"))
    async with database.read() as connection:
        return set((await connection.execute(query, {"keys": sorted(keys)})).scalars())


async def sweep(database: Database, blobs: Blobs) -> int:
    """Delete blobs of dead processes that belong to no mail; return how many were deleted."""
    if not isinstance(blobs, FileBlobs):
        return 0
    notes = await asyncio.to_thread(blobs.doubtful)
    if not notes:
        return 0
    # The order matters: a mail that is committed after this gets a newer version of its blob.
    versions = {
        doubt.key: await blobs.version(doubt.key) for _, doubt in notes if doubt is not None
    }
    named = await named_blobs(database, versions)
    swept = 0
    for note, doubt in notes:
        if doubt is not None and versions[doubt.key] == doubt.file and doubt.key not in named:
            await blobs.delete(doubt.key, doubt.file)
            swept += 1
        if doubt is None or versions[doubt.key] is not None:
            await blobs.settle(PlacedBlob("", note))
    return swept


async def lost_blobs(database: Database, blobs: Blobs) -> bool:
    """Return whether some mails have blobs, but the folder of blobs does not exist."""
    if not isinstance(blobs, FileBlobs) or await asyncio.to_thread(blobs.folder.is_dir):
        return False
    async with database.read() as connection:
        query = sa.select(MAIL.c.id).where(MAIL.c.blob.is_not(None)).limit(1)
        return (await connection.execute(query)).first() is not None
