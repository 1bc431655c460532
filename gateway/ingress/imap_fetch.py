r"""The bytes of mails out of an open folder: small ones together, large ones piece by piece into a file, each within the limits of memory.

What can go wrong: the server leaves a mail out of its answer (it is asked for again, alone), refuses it, gives no text, or breaks the connection on it.
Such a mail is told with a sentence instead of its bytes, and the others go on; which mail breaks connections is found by fetching one at a time after
a connection broke, and believed after three times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gateway.ingress.accept import Raw, SpoolFile
from gateway.ingress.files import LARGEST
from gateway.ingress.imap_commands import Session
from gateway.ingress.imap_session import Said
from gateway.ingress.incoming import MailFile

TOGETHER = 2 << 20  # bytes of mails fetched at a time; a larger mail comes in pieces
PIECE = 1 << 20  # bytes of a large mail fetched at a time
STRIKES = 3  # connections that may break on a mail before it is put aside


@dataclass(slots=True)
class Suspicion:
    """Outlives a connection: which mails were being fetched when it broke, and on which one it broke how often."""

    fetching: tuple[int, ...] = ()
    strikes: dict[int, int] = field(default_factory=dict)
    wary: bool = False  # one mail at a time, until everything is taken in

    def broken(self) -> None:
        """The connection broke. A mail that was fetched alone is suspected; of several one may be guilty."""
        if len(self.fetching) == 1:
            self.strikes[self.fetching[0]] = self.strikes.get(self.fetching[0], 0) + 1
        self.wary = self.wary or len(self.fetching) > 1
        self.fetching = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """A mail as it came from the server; ``received`` is when it came into the mailbox, where the server tells."""

    uid: int
    raw: Raw
    received: datetime | None


@dataclass(frozen=True, slots=True)
class Haul:
    """What fetching gave, in the order asked for: mails, and those that are there but could not be had, with the reason. Others are gone."""

    mails: list[Taken] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def discard(self) -> None:
        """Removes the files of mails that will not be stored now."""
        discard(mail.raw for mail in self.mails)


class Fetcher:
    """Fetches on one session; files of large mails go to ``directory``."""

    def __init__(self, session: Session, directory: Path, suspicion: Suspicion) -> None:
        self.session = session
        self.directory = directory
        self.suspicion = suspicion

    async def fetch(self, uids: Sequence[int]) -> Haul:
        """The mails of these UIDs (as many as one command takes)."""
        told = await self.session.fetch(uids, "RFC822.SIZE", "INTERNALDATE")
        sizes = {uid: told[uid].size or 0 if uid in told else 0 for uid in uids}
        bodies: dict[int, Raw] = {}
        problems: dict[int, str] = {}
        try:
            for some in _batches([uid for uid in uids if uid in told and sizes[uid] <= TOGETHER], sizes):
                bodies |= await self._together(some)
            for uid in await self._still([uid for uid in uids if uid not in bodies]):  # large, left out, or refused in company
                raw = await self._alone(uid, sizes[uid])
                if isinstance(raw, str):
                    problems[uid] = raw
                else:
                    bodies[uid] = raw
        except BaseException:
            discard(bodies.values())
            raise
        return Haul([Taken(uid, bodies[uid], told[uid].received if uid in told else None) for uid in uids if uid in bodies], problems)

    async def _together(self, uids: Sequence[int]) -> dict[int, Raw]:
        if any(self.suspicion.strikes.get(uid, 0) >= STRIKES for uid in uids):
            return {}
        self.suspicion.fetching = tuple(uids)
        try:
            found = await self.session.fetch(uids, "BODY.PEEK[]")
        except Said:
            found = {}
        self.suspicion.fetching = ()
        return {uid: each.body for uid, each in found.items() if each.body is not None}

    async def _still(self, uids: Collection[int]) -> list[int]:
        """Those of the UIDs that the server lists."""
        listed = set(await self.session.uids(min(uids), max(uids))) if uids else set()
        return [uid for uid in uids if uid in listed]

    async def _alone(self, uid: int, size: int) -> Raw | str:
        """One mail, piece by piece; a sentence where that fails, or too many connections broke on it."""
        if self.suspicion.strikes.pop(uid, 0) >= STRIKES:
            return "the connection breaks whenever this mail is fetched"
        self.suspicion.fetching = (uid,)
        try:
            raw = await self._pieces(uid, size)
        except Said as error:
            raw = error.message
        self.suspicion.fetching = ()
        return raw

    async def _pieces(self, uid: int, size: int) -> Raw | str:
        """The bytes of a mail, in a file where they are many; a sentence where the server does not give them."""
        first = await self.session.part(uid, 0, PIECE)
        if first is None:
            return "the server lists this mail but does not give its text"
        if size <= len(first) < PIECE:
            return first
        file = await asyncio.to_thread(MailFile, self.directory)
        try:
            whole = await self._rest(uid, size, first, file)
        except BaseException:
            await asyncio.to_thread(file.remove)
            raise
        if not whole:
            await asyncio.to_thread(file.remove)
            return f"it is larger than {LARGEST >> 20} MiB"
        return await asyncio.to_thread(file.close)

    async def _rest(self, uid: int, size: int, first: bytes, file: MailFile) -> bool:
        """Writes all pieces; False where there are too many. A server may be wrong about the size: the end is where nothing comes any more."""
        piece, offset = first, 0
        while piece:
            await asyncio.to_thread(file.write, piece)
            offset += len(piece)
            if offset > LARGEST:
                return False
            if len(piece) < PIECE and offset >= size:
                break
            piece = await self.session.part(uid, offset, PIECE) or b""
        return True


def discard(raws: Iterable[Raw]) -> None:
    """Removes files of mails."""
    for raw in raws:
        if isinstance(raw, SpoolFile):
            raw.discard()


def _batches(uids: Sequence[int], sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Mails that are fetched by one command: not too many bytes."""
    some: list[int] = []
    size = 0
    for uid in uids:
        if some and size + sizes[uid] > TOGETHER:
            yield some
            some, size = [], 0
        some.append(uid)
        size += sizes[uid]
    if some:
        yield some
