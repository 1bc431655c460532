"""Where the raw bytes of new mail go, and what becomes of blobs whose commit failed.

Blobs are placed before the commit, so a commit that fails leaves blobs that no mail names. They
are deleted at once where that is certain. A commit that fails at its very end may have happened
all the same: its blobs are looked up in the database later, at the latest by the next start.
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
    """Places the raw bytes of mails, and remembers the blobs that failed commits left in doubt."""

    __slots__ = ("_blobs", "_database", "_doubtful")

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._doubtful: list[PlacedBlob] = []

    async def place(self, mails: Sequence[RawMail]) -> list[Place]:
        """Place all mails, or raise the first error and delete what was placed."""
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
        """Settle the blobs of committed mails, and those that an earlier commit left in doubt.

        On SQLite the log of the failed commit is overwritten by now, so it cannot come back.
        PostgreSQL may still be about to finish it; there the next start looks.
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
        """Delete the blobs of mails that no commit has stored or will store."""
        with suppress(Unavailable):  # the next start looks at the notes
            for placed in _blobs_of(places):
                await self._blobs.withdraw(placed)

    def doubt(self, places: Sequence[Place]) -> None:
        """Keep the blobs of a commit that failed at its end until it is known what happened."""
        self._doubtful += _blobs_of(places)


def _blobs_of(places: Sequence[Place]) -> list[PlacedBlob]:
    return [place for place in places if isinstance(place, PlacedBlob)]


async def named_blobs(database: Database, keys: Collection[str]) -> set[str]:
    """Return those of these keys that a mail names; reads all mails, so ask seldom."""
    query = sa.select(MAIL.c.blob).where(among(MAIL.c.blob, "keys"))
    async with database.read() as connection:
        return set((await connection.execute(query, {"keys": sorted(keys)})).scalars())


async def sweep(database: Database, blobs: Blobs) -> int:
    """Delete the blobs that dead processes placed and no mail names; return their number."""
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
    """Return whether mails name blobs, but there is no folder of blobs at all."""
    if not isinstance(blobs, FileBlobs) or await asyncio.to_thread(blobs.folder.is_dir):
        return False
    async with database.read() as connection:
        query = sa.select(MAIL.c.id).where(MAIL.c.blob.is_not(None)).limit(1)
        return (await connection.execute(query)).first() is not None
