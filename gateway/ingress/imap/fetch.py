"""Fetch mails from an open folder: small ones together, large ones in pieces into a file.

Memory stays bounded. A mail that the server leaves out of its answer is requested again on its own.
A mail that the server refuses or sends without text is reported as a problem, and the other mails
are still fetched. To find a mail that breaks connections, mails are fetched one at a time after a
break; after three breaks a mail counts as unfetchable.
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
from gateway.ingress.imap.grammar import FetchResponse
from gateway.ingress.mail_files import MAX_MAIL_BYTES
from gateway.ingress.spool_files import MailFile

BATCH_BYTES = 8 << 20  # of mails in memory before they are stored
COMMAND_BYTES = 2 << 20  # of mails fetched by one command; a larger mail comes in pieces
PIECE_BYTES = 1 << 20  # of a large mail, fetched at a time
MAX_BREAKS = 3  # connections that may break on a mail before it counts as unfetchable
_TOO_LARGE = f"it is larger than {MAX_MAIL_BYTES >> 20} MiB"


@dataclass(slots=True)
class FetchFailures:
    """Remembers, over many connections, which mails were being fetched when a connection broke.

    ``fetching`` are the mails of the current command; ``breaks`` has, for each mail, the number of
    breaks while only that mail was fetched.
    """

    fetching: tuple[int, ...] = ()
    suspects: set[int] = field(default_factory=set)  # fetched one at a time
    breaks: dict[int, int] = field(default_factory=dict)

    def connection_broke(self) -> bool:
        """Note that the connection broke; return whether a mail in the fetch may be the cause."""
        if len(self.fetching) == 1:
            self.breaks[self.fetching[0]] = self.breaks.get(self.fetching[0], 0) + 1
        self.suspects.update(self.fetching)
        suspected, self.fetching = bool(self.fetching), ()
        return suspected


@dataclass(frozen=True, slots=True)
class FetchedMail:
    """A mail from the server; ``received`` is when it reached the mailbox, if known."""

    uid: int
    raw: Raw
    received: datetime | None


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """Fetched mails in the order asked for; ``problems`` says why others could not be fetched.

    A mail that is in neither ``mails`` nor ``problems`` is gone from the server.
    """

    mails: list[FetchedMail] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def discard(self) -> None:
        """Remove the files of mails that will not be stored now."""
        discard(mail.raw for mail in self.mails)


class Fetcher:
    """Fetches mails over one session; files of large mails go to ``directory``."""

    def __init__(
        self, session: ImapSession, directory: Path, fetch_failures: FetchFailures
    ) -> None:
        self.session = session
        self.directory = directory
        self.fetch_failures = fetch_failures

    async def batches(self, uids: Sequence[int]) -> AsyncIterator[FetchedBatch]:
        """Yield the mails with these UIDs in batches; pass no more UIDs than one FETCH takes."""
        listed = await self.session.fetch(uids, "RFC822.SIZE", "INTERNALDATE")
        sizes = {uid: _size(listed.get(uid)) for uid in uids}
        for some in _split(uids, sizes, BATCH_BYTES):
            bodies, problems = await self._bodies(some, sizes)
            yield FetchedBatch(
                [
                    FetchedMail(uid, bodies[uid], listed[uid].received if uid in listed else None)
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
            suspects = self.fetch_failures.suspects
            small = [uid for uid in uids if sizes[uid] <= COMMAND_BYTES and uid not in suspects]
            for some in _split(small, sizes, COMMAND_BYTES):
                bodies |= await self._fetch_many(some, sizes)
            # the others are large, suspected, left out, or were refused together
            for uid in await self._still_listed([uid for uid in uids if uid not in bodies]):
                raw = await self._fetch_one(uid, sizes[uid])
                if isinstance(raw, str):
                    problems[uid] = raw
                else:
                    bodies[uid] = raw
        except BaseException:
            discard(bodies.values())
            raise
        return bodies, problems

    async def _fetch_many(self, uids: Sequence[int], sizes: Mapping[int, int]) -> dict[int, Raw]:
        self.fetch_failures.fetching = tuple(uids)
        try:
            found = await self.session.fetch(uids, "BODY.PEEK[]")
        except CommandRefused:
            found = {}
        self.fetch_failures.fetching = ()
        return {
            uid: each.body
            for uid, each in found.items()
            if each.body or (each.body is not None and not sizes[uid])
        }

    async def _still_listed(self, uids: Collection[int]) -> list[int]:
        """Return which of the UIDs the server still lists."""
        listed = set(await self.session.uids(min(uids), max(uids))) if uids else set()
        return [uid for uid in uids if uid in listed]

    async def _fetch_one(self, uid: int, size: int) -> Raw | str:
        """Return one mail, fetched in pieces, or a sentence saying why that failed."""
        if size > MAX_MAIL_BYTES:
            return _TOO_LARGE
        if self.fetch_failures.breaks.get(uid, 0) >= MAX_BREAKS:
            del self.fetch_failures.breaks[uid]  # recorded as unfetchable now, and retried later
            return "the connection breaks whenever this mail is fetched"
        self.fetch_failures.fetching = (uid,)
        try:
            raw = await self._fetch_pieces(uid, size)
        except CommandRefused as error:
            raw = error.message
        self.fetch_failures.fetching = ()
        self.fetch_failures.suspects.discard(uid)
        return raw

    async def _fetch_pieces(self, uid: int, size: int) -> Raw | str:
        """Return a mail's bytes, as a file if they are many, or a sentence saying what failed."""
        first = await self.session.part(uid, 0, PIECE_BYTES)
        if first is None or (size and not first):
            return "the server lists this mail but does not send its text"
        if size <= len(first) < PIECE_BYTES:
            return first
        file = await asyncio.to_thread(MailFile, self.directory)
        try:
            problem = await self._write_pieces(uid, size, first, file)
        except BaseException:
            await asyncio.to_thread(file.remove)
            raise
        if problem:
            await asyncio.to_thread(file.remove)
            return problem
        return await asyncio.to_thread(file.close)

    async def _write_pieces(self, uid: int, size: int, first: bytes, file: MailFile) -> str:
        """Write all pieces of a mail to the file; return "" or a sentence saying why that failed.

        The size that the server states may be wrong, so a piece of no bytes also ends the mail. If
        the server sends no piece at all, the mail is complete if the size agrees; otherwise the
        server left it out, or the mail is gone.
        """
        piece: bytes | None = first
        offset = 0
        while piece:
            await asyncio.to_thread(file.write, piece)
            offset += len(piece)
            if offset > MAX_MAIL_BYTES:
                return _TOO_LARGE
            if len(piece) < PIECE_BYTES and offset >= size:
                return ""
            piece = await self.session.part(uid, offset, PIECE_BYTES)
        return (
            ""
            if piece is not None or offset == size
            else f"the server sent only {offset} bytes of this mail"
        )


def _size(listed: FetchResponse | None) -> int:
    """Return the size of a mail as the server tells it, or 1 if the size is unknown."""
    return listed.size if listed is not None and listed.size is not None else 1


def discard(raws: Iterable[Raw]) -> None:
    """Remove the files of mails."""
    for raw in raws:
        if isinstance(raw, SpoolFile):
            raw.discard()


def _split(uids: Sequence[int], sizes: Mapping[int, int], limit: int) -> Iterator[list[int]]:
    """Split the UIDs, in order, into lists whose mails together have at most ``limit`` bytes."""
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
