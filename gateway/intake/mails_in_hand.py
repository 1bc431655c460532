"""Keep the mails that this process has claimed, from their reading until they are filed.

A mail is first read quickly, in a chunk with others. If that fails, it is a suspect: it is read
once more, alone and with all the time that a mail may take. Other mails do not wait for it, so a
mail that kills or hangs its reading process delays them by half a second only. They are filed in
the order of receipt. A command finishes all of its mails before it ends; there, suspects too are
filed in the order of receipt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.model.message import Message
from gateway import maillog
from gateway.errors import NotFound, Refused
from gateway.intake.sandbox.jobs import ReadFailure, ReadJob
from gateway.intake.sandbox.pool import Sandbox
from gateway.reading.parse import fallback
from gateway.store.queues.spool import Claimed

BATCH_MAILS: Final = 256
CHUNK_MAILS: Final = 8  # read by one process at a time
FILE_SECONDS: Final = 1.0  # longest wait of a mail that was read for others to be filed with


@dataclass(frozen=True, slots=True)
class ReadMails:
    """Claimed mails and their messages, in the same order."""

    mails: Sequence[Claimed]
    messages: Sequence[Message]


@dataclass(slots=True)
class _Place:
    """A mail in hand; it has no ``message`` until it is read."""

    mail: Claimed
    message: Message | None = None
    suspect: bool = False


class MailsInHand:
    """Claimed mails, in order of receipt.

    ``load`` returns the bytes of a mail again, since those of suspects are not kept in memory. If
    ``ordered``, later mails are not filed before a suspect. ``wanted`` is called when more mails
    should be claimed.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        load: Callable[[int], Awaitable[bytes]],
        *,
        ordered: bool,
        wanted: Callable[[], None] = lambda: None,
    ) -> None:
        self.sandbox = sandbox
        self.ordered = ordered
        self._load = load
        self._wanted = wanted
        self._places: dict[int, _Place] = {}
        self._fresh: deque[Claimed] = deque()
        self._suspects: deque[int] = deque()
        self._reading = 0  # mails that are being read quickly
        self._full = False  # since when nobody claims
        self._filing = False
        self._closed = False
        self._changed = asyncio.Condition()

    @property
    def ids(self) -> list[int]:
        """Return the ids of the mails in hand."""
        return list(self._places)

    @property
    def hungry(self) -> bool:
        """Tell whether there is room for more claimed mails."""
        few_to_read = len(self._fresh) <= CHUNK_MAILS * self.sandbox.processes
        waiting = len(self._places) - len(self._suspects)
        return few_to_read and waiting < 2 * BATCH_MAILS

    async def add(self, mails: Sequence[Claimed]) -> None:
        """Take claimed mails in hand."""
        async with self._changed:
            for mail in mails:
                if mail.id not in self._places:  # else our own lease had run out
                    self._places[mail.id] = _Place(mail)
                    self._fresh.append(mail)
            self._changed.notify_all()
        self._ask_for_more()

    def _ask_for_more(self) -> None:
        """Call ``wanted`` if there is room again."""
        if self.hungry and self._full:
            self._wanted()
        self._full = not self.hungry

    async def settled(self) -> None:
        """Wait until no mail is in hand and none is being filed."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._places and not self._filing)

    async def close(self) -> list[int]:
        """Make the reading and filing tasks end; return the ids of mails that will not be read."""
        async with self._changed:
            self._closed = True
            given_up = [mail.id for mail in self._fresh]
            given_up += [
                key for key, each in self._places.items() if each.suspect and each.message is None
            ]
            for key in given_up:
                del self._places[key]
            self._fresh.clear()
            self._suspects.clear()
            self._changed.notify_all()
        return given_up

    # ---- tasks

    async def read_quickly(self) -> None:
        """Read mails in chunks until :meth:`close`; each reading process has one such task."""
        while chunk := await self._next_chunk():
            jobs = [_job(mail, mail.raw) for mail in chunk]
            messages, lost = await self.sandbox.read_until_lost(jobs, quickly=True)
            async with self._changed:
                self._reading -= len(chunk)
                for mail, message in zip(chunk, messages, strict=False):
                    self._places[mail.id].message = message
                rest = chunk[len(messages) :]
                if lost is not None:
                    self._suspect(rest.pop(0))
                self._fresh.extendleft(reversed(rest))
                self._changed.notify_all()
            self._ask_for_more()

    async def _next_chunk(self) -> list[Claimed]:
        """Return the next mails to read; wait for them, but return none after :meth:`close`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fresh or self._closed)
            chunk = [self._fresh.popleft() for _ in range(min(CHUNK_MAILS, len(self._fresh)))]
            self._reading += len(chunk)
        return chunk

    def _suspect(self, mail: Claimed) -> None:
        """Put a mail aside that could not be read quickly."""
        self._places[mail.id] = _Place(_without_bytes(mail), suspect=True)
        self._suspects.append(mail.id)

    async def read_suspects(self) -> None:
        """Read suspects one by one, until cancelled."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._suspects)
                place = self._places[self._suspects[0]]
            message = await self._read_suspect(place.mail)
            async with self._changed:
                if place.mail.id in self._places:  # else it was given up
                    self._suspects.popleft()
                    place.message = message
                    if message is None:
                        del self._places[place.mail.id]
                self._changed.notify_all()

    async def _read_suspect(self, mail: Claimed) -> Message | None:
        """Return the message of a suspect, made from its header alone if it cannot be read.

        The result is None if the mail was erased meanwhile.
        """
        try:
            raw = await self._load(mail.id)
        except (NotFound, Refused):
            return None
        found = await self.sandbox.read_suspect(_job(mail, raw))
        if isinstance(found, ReadFailure):
            maillog.unreadable(mail_id=mail.id, reason=found.reason)
            return fallback(raw, found.reason)
        return found

    async def next_batch(self) -> ReadMails | None:
        """Return the next mails to be filed; None after :meth:`close`, when no mail is left.

        While other mails are being read, wait a little for them, so that one transaction files
        many.
        """
        now = asyncio.get_running_loop().time
        deadline: float | None = None
        async with self._changed:
            self._filing = False
            self._changed.notify_all()
            while True:
                ready = self._ready()
                late = deadline is not None and now() >= deadline
                others = self._fresh or self._reading
                if ready and (late or not others or len(ready) >= BATCH_MAILS):
                    return self._take(ready[:BATCH_MAILS])
                if self._closed and not self._places:
                    return None
                if ready and deadline is None:
                    deadline = now() + FILE_SECONDS
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._changed.wait()
                except TimeoutError:
                    pass

    def _ready(self) -> list[_Place]:
        """Return the mails that may be filed now, in order."""
        found = []
        for place in self._places.values():
            if place.message is not None:
                found.append(place)
            elif self.ordered or not place.suspect:
                break
        return found

    def _take(self, places: Sequence[_Place]) -> ReadMails:
        """Remove from the mails in hand those that are about to be filed."""
        self._filing = True
        for place in places:
            del self._places[place.mail.id]
        self._ask_for_more()
        return ReadMails(
            [place.mail for place in places],
            [place.message for place in places if place.message is not None],
        )


def _job(mail: Claimed, raw: bytes) -> ReadJob:
    """Return a mail as a job for a reading process, with whether the envelope sender is empty."""
    sender = mail.envelope.sender
    return ReadJob(raw, null_sender=None if sender is None else not sender)


def _without_bytes(mail: Claimed) -> Claimed:
    """Return a mail without its bytes, since those of many suspects would fill the memory."""
    return replace(mail, raw=b"")
