r"""The bytes of mails out of an open folder: small ones together, large ones piece by piece into a
file, each within the limits of memory.

What can go wrong: the server leaves a mail out of its answer (it is asked for again, alone),
refuses it, gives no text, or breaks the connection on it. Such a mail is told with a sentence
instead of its bytes, and the others go on; which mail breaks connections is found by fetching one
at a time after a connection broke, and believed after three times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gateway.ingress.accept import Raw, SpoolFile
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connection import CommandRefused
from gateway.ingress.imap.grammar import Fetched
from gateway.ingress.mail_files import LARGEST
from gateway.ingress.spool_files import MailFile

AT_ONCE = 8 << 20  # bytes of mails in memory before they are handed over to be stored
TOGETHER = 2 << 20  # bytes of mails fetched by one command; a larger mail comes in pieces
PIECE = 1 << 20  # bytes of a large mail fetched at a time
STRIKES = 3  # connections that may break on a mail before it is put aside
_TOO_LARGE = f"it is larger than {LARGEST >> 20} MiB"


@dataclass(slots=True)
class Suspicion:
    """Outlives a connection: which mails were being fetched when it broke, and on which one it
    broke how often.
    """

    fetching: tuple[int, ...] = ()
    suspects: set[int] = field(default_factory=set)  # fetched alone until they were had
    strikes: dict[int, int] = field(default_factory=dict)

    def broken(self) -> bool:
        """The connection broke; whether a mail is suspected. Of several one may be guilty, one that
        was fetched alone has a strike.
        """
        if len(self.fetching) == 1:
            self.strikes[self.fetching[0]] = self.strikes.get(self.fetching[0], 0) + 1
        self.suspects.update(self.fetching)
        suspected, self.fetching = bool(self.fetching), ()
        return suspected


@dataclass(frozen=True, slots=True)
class Taken:
    """A mail as it came from the server; ``received`` is when it came into the mailbox, where the
    server tells.
    """

    uid: int
    raw: Raw
    received: datetime | None


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """What fetching gave, in the order asked for: mails, and those that are there but could not be
    had, with the reason. Others are gone.
    """

    mails: list[Taken] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def discard(self) -> None:
        """Removes the files of mails that will not be stored now."""
        discard(mail.raw for mail in self.mails)


class Fetcher:
    """Fetches on one session; files of large mails go to ``directory``."""

    def __init__(self, session: ImapSession, directory: Path, suspicion: Suspicion) -> None:
        self.session = session
        self.directory = directory
        self.suspicion = suspicion

    async def hauls(self, uids: Sequence[int]) -> AsyncIterator[FetchedBatch]:
        """The mails of these UIDs (as many as one command takes), some at a time, in order."""
        told = await self.session.fetch(uids, "RFC822.SIZE", "INTERNALDATE")
        sizes = {uid: _size(told.get(uid)) for uid in uids}
        for some in _batches(uids, sizes, AT_ONCE):
            bodies, problems = await self._bodies(some, sizes)
            yield FetchedBatch(
                [
                    Taken(uid, bodies[uid], told[uid].received if uid in told else None)
                    for uid in some
                    if uid in bodies
                ],
                problems,
            )

    async def _bodies(
        self, uids: Sequence[int], sizes: Mapping[int, int]
    ) -> tuple[dict[int, Raw], dict[int, str]]:
        bodies: dict[int, Raw] = {}
        problems: dict[int, str] = {}
        try:
            for some in _batches(
                [
                    uid
                    for uid in uids
                    if sizes[uid] <= TOGETHER and uid not in self.suspicion.suspects
                ],
                sizes,
                TOGETHER,
            ):
                bodies |= await self._together(some, sizes)
            for uid in await self._still(
                [uid for uid in uids if uid not in bodies]
            ):  # large, suspected, left out, or refused in company
                raw = await self._alone(uid, sizes[uid])
                if isinstance(raw, str):
                    problems[uid] = raw
                else:
                    bodies[uid] = raw
        except BaseException:
            discard(bodies.values())
            raise
        return bodies, problems

    async def _together(self, uids: Sequence[int], sizes: Mapping[int, int]) -> dict[int, Raw]:
        self.suspicion.fetching = tuple(uids)
        try:
            found = await self.session.fetch(uids, "BODY.PEEK[]")
        except CommandRefused:
            found = {}
        self.suspicion.fetching = ()
        return {
            uid: each.body
            for uid, each in found.items()
            if each.body or (each.body is not None and not sizes[uid])
        }

    async def _still(self, uids: Collection[int]) -> list[int]:
        """Those of the UIDs that the server lists."""
        listed = set(await self.session.uids(min(uids), max(uids))) if uids else set()
        return [uid for uid in uids if uid in listed]

    async def _alone(self, uid: int, size: int) -> Raw | str:
        """One mail, piece by piece; a sentence where that fails, or too many connections broke on
        it.
        """
        if size > LARGEST:
            return _TOO_LARGE
        if self.suspicion.strikes.get(uid, 0) >= STRIKES:
            del self.suspicion.strikes[uid]  # it is owed now, and tried anew when that is due
            return "the connection breaks whenever this mail is fetched"
        self.suspicion.fetching = (uid,)
        try:
            raw = await self._pieces(uid, size)
        except CommandRefused as error:
            raw = error.message
        self.suspicion.fetching = ()
        self.suspicion.suspects.discard(uid)
        return raw

    async def _pieces(self, uid: int, size: int) -> Raw | str:
        """The bytes of a mail, in a file where they are many; a sentence where the server does not
        give them.
        """
        first = await self.session.part(uid, 0, PIECE)
        if first is None or (size and not first):
            return "the server lists this mail but does not give its text"
        if size <= len(first) < PIECE:
            return first
        file = await asyncio.to_thread(MailFile, self.directory)
        try:
            problem = await self._rest(uid, size, first, file)
        except BaseException:
            await asyncio.to_thread(file.remove)
            raise
        if problem:
            await asyncio.to_thread(file.remove)
            return problem
        return await asyncio.to_thread(file.close)

    async def _rest(self, uid: int, size: int, first: bytes, file: MailFile) -> str:
        """Writes all pieces; a sentence where that cannot be. A server may be wrong about the size:
        the end is where it gives an empty piece.

        No piece at all is no end, unless the size says so: the mail was left out of the answer, or
        is gone.
        """
        piece: bytes | None = first
        offset = 0
        while piece:
            await asyncio.to_thread(file.write, piece)
            offset += len(piece)
            if offset > LARGEST:
                return _TOO_LARGE
            if len(piece) < PIECE and offset >= size:
                return ""
            piece = await self.session.part(uid, offset, PIECE)
        return (
            ""
            if piece is not None or offset == size
            else f"the server gave {offset} bytes of this mail and no more"
        )


def _size(told: Fetched | None) -> int:
    """What the server says; a mail of which it says nothing is not an empty one."""
    return told.size if told is not None and told.size is not None else 1


def discard(raws: Iterable[Raw]) -> None:
    """Removes files of mails."""
    for raw in raws:
        if isinstance(raw, SpoolFile):
            raw.discard()


def _batches(uids: Sequence[int], sizes: Mapping[int, int], limit: int) -> Iterator[list[int]]:
    """The UIDs in order, in pieces of not too many bytes."""
    some: list[int] = []
    size = 0
    for uid in uids:
        if some and size + sizes[uid] > limit:
            yield some
            some, size = [], 0
        some.append(uid)
        size += sizes[uid]
    if some:
        yield some
