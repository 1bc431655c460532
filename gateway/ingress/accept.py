"""The one door for mail: raw bytes and envelope in, a receipt out, and no receipt before the mail
is durable.

Mails that arrive while a commit runs wait for it and then go into the next one together, so that
the cost of a durable commit is shared. What can go wrong: the spool refuses or is away. Then a
group is tried again mail by mail, so that one bad mail does not refuse its neighbours, and each
caller gets the error of his own mail. A caller who goes away does not stop the commit of his mail.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway import maillog
from gateway.errors import DiskFull, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core.model.message import Envelope
    from gateway.ingress.limits import Limits
    from gateway.store.imap.taken_mail import MailboxPosition

IN_MEMORY = (
    256 << 10
)  # a larger mail goes through a file; the limit is that of raw mail kept in the database
GROUP_MAILS = 200
GROUP_BYTES = 16 << 20
_HASH_IN_THREAD = 1 << 20


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A raw mail that was streamed to a file of its own; ``sha256`` is the hex digest of its
    ``size`` bytes. It is not yet synced to disk.
    """

    path: Path
    size: int
    sha256: str

    def discard(self) -> None:
        """Removes the file where it still lies there."""
        self.path.unlink(missing_ok=True)


Raw = bytes | SpoolFile


@dataclass(frozen=True, slots=True)
class AcceptedMail:
    """One mail on its way into the spool: the bytes exactly as they are to be kept, their number
    and hex digest, and the envelope.

    ``mark`` tells of a mail of a mailbox which one it is; the spool takes each of those once.
    """

    raw: Raw
    size: int
    sha256: str
    envelope: Envelope
    mark: MailboxPosition | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof that a mail is durable: its number in the spool."""

    mail_id: int


class SpoolWriter(Protocol):
    """Where mail is kept. The store's spool is one; tests bring their own."""

    async def put(self, mails: Sequence[AcceptedMail]) -> list[int]:
        """Stores all of the mails or none, durably, and returns their ids in order.

        The file of a :class:`SpoolFile` may be moved away or read. Raises OSError, StoreUnavailable
        or DiskFull when nothing was stored.
        """
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    mail: AcceptedMail
    done: asyncio.Future[int]


class Acceptor:
    """Takes mail for all ways in. One instance serves the whole process, since commits are grouped
    across all sessions.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        limits: Limits,
        directory: Path,
        *,
        wake: Callable[[], None],
        free_space: Callable[[Path], int] | None = None,
    ) -> None:
        """``directory`` holds mail while it is received; ``wake`` is called after each commit;
        ``free_space`` tells the bytes left beside a path.
        """
        self.limits = limits
        self.directory = directory
        self._spool = spool
        self._wake = wake
        self._free_space = free_space if free_space is not None else free_bytes
        self._waiting: deque[_Waiting] = deque()
        self._committer: asyncio.Task[None] | None = None

    async def accept(self, raw: Raw, envelope: Envelope) -> Receipt:
        """Returns once the mail is durable. From the call on the file of a :class:`SpoolFile`
        belongs to the store, whatever happens.

        Raises DiskFull, StoreUnavailable or what else the spool raised; then the mail is not
        stored. A cancelled caller does not learn which.
        """
        try:
            self.check_room()
            mail = await _incoming(raw, envelope)
        except BaseException:
            if isinstance(raw, SpoolFile):
                raw.discard()
            raise
        return await self._receipt(self._queue(mail))

    async def accept_all(
        self, mails: Sequence[tuple[Raw, Envelope]], marks: Sequence[MailboxPosition] | None = None
    ) -> list[Receipt]:
        """The same for mails that lie ready, so that their ids ascend in the order given. Raises
        what the first that failed raised.

        ``marks``, one a mail, say which mails of a mailbox they are; one that is known already gets
        the receipt of the first time.
        """
        try:
            self.check_room()
            own: Sequence[MailboxPosition | None] = (
                marks if marks is not None else [None] * len(mails)
            )
            incoming = [await _incoming(*mail, mark) for mail, mark in zip(mails, own, strict=True)]
        except BaseException:
            for raw, _ in mails:
                if isinstance(raw, SpoolFile):
                    raw.discard()
            raise
        queued = [self._queue(mail) for mail in incoming]
        if (
            queued
        ):  # all of them first: an error that nobody looks at would be logged as a mistake of ours
            await asyncio.wait([waiting.done for waiting in queued])
        return [await self._receipt(waiting) for waiting in queued]

    def _queue(self, mail: AcceptedMail) -> _Waiting:
        waiting = _Waiting(mail, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_all(), name="accept")
        return waiting

    async def _receipt(self, waiting: _Waiting) -> Receipt:
        mail_id = await waiting.done
        mail = waiting.mail
        maillog.queued(
            mail_id=mail_id, source=mail.envelope.source, size=mail.size, peer=mail.envelope.peer
        )
        return Receipt(mail_id)

    def check_room(self) -> None:
        """Raises DiskFull while the disk has less room than :attr:`Limits.free_bytes`
        (reliability.md 1, item 27).
        """
        if self._free_space(self.directory) < self.limits.free_bytes:
            raise DiskFull("the disk has too little room for more mail")

    async def drain(self) -> None:
        """Waits until everything that was handed in is stored or refused."""
        while self._committer is not None:
            await asyncio.wait([self._committer])

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next_group())
        finally:
            self._committer = None
            for waiting in (
                self._waiting
            ):  # only when the loop is torn down: nobody may believe that his mail is safe
                _settle(waiting, StoreUnavailable("the program is stopping"))
            self._waiting.clear()

    def _next_group(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        size = group[0].mail.size
        while (
            self._waiting
            and len(group) < GROUP_MAILS
            and size + self._waiting[0].mail.size <= GROUP_BYTES
        ):
            size += self._waiting[0].mail.size
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        error = await self._put(group)
        if error is not None and (len(group) == 1 or isinstance(error, StoreUnavailable)):
            for waiting in group:
                _settle(waiting, error)
        elif error is not None:
            for waiting in group:
                await self._commit([waiting])
            return
        for waiting in group:
            if isinstance(waiting.mail.raw, SpoolFile):
                await asyncio.to_thread(
                    waiting.mail.raw.discard
                )  # to remove 25 MiB can take milliseconds

    async def _put(self, group: list[_Waiting]) -> Exception | None:
        """Stores a group and tells its callers; returns the error where nothing was stored."""
        try:
            ids = await self._spool.put([waiting.mail for waiting in group])
        # whatever it is, it becomes the answer to the client
        except Exception as error:  # noqa: BLE001
            return error
        except BaseException:
            for waiting in group:
                _settle(waiting, StoreUnavailable("the program is stopping"))
            raise
        for waiting, mail_id in zip(group, ids, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(mail_id)
        self._wake()
        return None


async def _incoming(
    raw: Raw, envelope: Envelope, mark: MailboxPosition | None = None
) -> AcceptedMail:
    if isinstance(raw, SpoolFile):
        return AcceptedMail(raw, raw.size, raw.sha256, envelope, mark)
    hashed = sha256(raw) if len(raw) < _HASH_IN_THREAD else await asyncio.to_thread(sha256, raw)
    return AcceptedMail(raw, len(raw), hashed.hexdigest(), envelope, mark)


def _settle(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)


def free_bytes(path: Path) -> int:
    """The bytes an unprivileged process may still write to the file system of ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
