"""The single entry for mail: raw bytes and envelope in, a receipt out once the mail is durable.

Mails that arrive during a commit go into the next one together, so they share its cost. If the
spool refuses a group, it is tried again mail by mail, so one bad mail does not fail the others and
each caller gets the error of its own mail. A cancelled caller does not stop the commit.

If storing a group finds that the database is away, all mails that wait behind it are refused too,
so that no caller waits for the database twice. The reason is logged once, and again when mail can
be stored.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway import log, maillog
from gateway.errors import BlobsUnavailable, DiskFull, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core.model.message import Envelope
    from gateway.ingress.connection_limits import Limits
    from gateway.store.imap.taken_mail import MailboxPosition

IN_MEMORY = 256 << 10  # a larger mail goes through a file, and into the blob store
GROUP_MAILS = 200  # in one commit, at most
GROUP_BYTES = 16 << 20
TROUBLE_SECONDS = 60.0  # a refusal tells about the store that long, unless mail is stored again
_HASH_IN_THREAD = 1 << 20  # bytes from which hashing would block the event loop
_log = log.logger("accept")


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A raw mail in its own file, which is not synced yet; ``sha256`` is its hex digest."""

    path: Path
    size: int
    sha256: str

    def discard(self) -> None:
        """Remove the file if it still exists; if that fails, the next start removes it."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("received file cannot be removed", **log.error_fields(error))


Raw = bytes | SpoolFile


@dataclass(frozen=True, slots=True)
class AcceptedMail:
    """A mail on its way to the spool: its bytes, their number and digest, and its envelope.

    ``mark`` identifies a mail of a mailbox; the spool takes only one mail with the same mark.
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
    """The place where mail is stored: the spool of the store, or of a test."""

    async def put(self, mails: Sequence[AcceptedMail]) -> list[int]:
        """Store all of the mails durably, or none, and return their ids in order.

        The spool may move or read the file of a :class:`SpoolFile`. Raises OSError,
        StoreUnavailable or DiskFull if nothing was stored.
        """
        ...


@dataclass(slots=True, eq=False)
class _PendingMail:
    mail: AcceptedMail
    done: asyncio.Future[int]


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why mail was last refused, and when; ``large``: only mail stored as a blob is affected."""

    reason: str
    large: bool
    at: float


class Acceptor:
    """Accepts mail from all sources; one per process, so that all sessions share its commits."""

    def __init__(
        self,
        spool: SpoolWriter,
        limits: Limits,
        directory: Path,
        *,
        wake: Callable[[], None],
        free_space: Callable[[Path], int] | None = None,
    ) -> None:
        """Receive large mails in ``directory``; call ``wake`` after each commit.

        ``free_space`` returns the free bytes of a path's file system.
        """
        self.limits = limits
        self.directory = directory
        self._spool = spool
        self._wake = wake
        self._free_space = free_space if free_space is not None else free_bytes
        self._pending: deque[_PendingMail] = deque()
        self._commit_task: asyncio.Task[None] | None = None
        self._trouble: _Trouble | None = None

    @property
    def trouble(self) -> str | None:
        """The reason why mail was recently refused; None after such mail has been stored again."""
        found = self._trouble
        recent = found is not None and time.monotonic() - found.at <= TROUBLE_SECONDS
        return found.reason if found is not None and recent else None

    async def accept(self, raw: Raw, envelope: Envelope) -> Receipt:
        """Return a receipt once the mail is durable; the store takes over the file of a SpoolFile.

        Raises DiskFull, StoreUnavailable or another error of the spool; then the mail is not
        stored. A caller that is cancelled does not learn whether the mail was stored.
        """
        try:
            self.check_room()
            mail = await _with_digest(raw, envelope)
        except BaseException:
            if isinstance(raw, SpoolFile):
                raw.discard()
            raise
        return await self._receipt(self._queue(mail))

    async def accept_all(
        self, mails: Sequence[tuple[Raw, Envelope]], marks: Sequence[MailboxPosition] | None = None
    ) -> list[Receipt]:
        """Accept several mails, with ids in the same order; raise the error of the first failure.

        ``marks``, one per mail, identify mails of a mailbox; for a known mark, the receipt of the
        first mail with that mark is returned.
        """
        try:
            self.check_room()
            positions: Sequence[MailboxPosition | None] = (
                marks if marks is not None else [None] * len(mails)
            )
            incoming = [
                await _with_digest(*mail, mark) for mail, mark in zip(mails, positions, strict=True)
            ]
        except BaseException:
            for raw, _ in mails:
                if isinstance(raw, SpoolFile):
                    raw.discard()
            raise
        queued = [self._queue(mail) for mail in incoming]
        if queued:  # await all of them first, or asyncio logs errors that nobody retrieved
            await asyncio.wait([waiting.done for waiting in queued])
        return [await self._receipt(waiting) for waiting in queued]

    def _queue(self, mail: AcceptedMail) -> _PendingMail:
        waiting = _PendingMail(mail, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        if self._commit_task is None:
            self._commit_task = asyncio.create_task(self._commit_all(), name="accept")
        return waiting

    async def _receipt(self, waiting: _PendingMail) -> Receipt:
        mail_id = await waiting.done
        mail = waiting.mail
        maillog.queued(
            mail_id=mail_id, source=mail.envelope.source, size=mail.size, peer=mail.envelope.peer
        )
        return Receipt(mail_id)

    def check_room(self) -> None:
        """Raise DiskFull if less than ``limits.free_bytes`` is free (reliability.md 27)."""
        if self._free_space(self.directory) < self.limits.free_bytes:
            error = DiskFull(f"not enough disk space for more mail at {self.directory}")
            self._refusing(error)
            raise error

    def _refusing(self, error: Exception, *, large: bool = False) -> None:
        """Remember why the store refuses mail, and log each new reason."""
        if isinstance(error, StoreUnavailable | DiskFull):
            if self._trouble is None or self._trouble.reason != error.message:
                _log.error("mail refused until the store works", reason=error.message)
            self._trouble = _Trouble(error.message, large, time.monotonic())

    def _stored(self, *, large: bool) -> None:
        """Forget why mail was refused, since such mail has been stored again."""
        if self._trouble is not None and (large or not self._trouble.large):
            _log.warning("mail is stored again", reason=self._trouble.reason)
            self._trouble = None

    async def drain(self) -> None:
        """Wait until every mail handed to ``accept`` is stored or refused."""
        while self._commit_task is not None:
            await asyncio.wait([self._commit_task])

    async def _commit_all(self) -> None:
        try:
            while self._pending:
                await self._commit(self._next_group())
        finally:
            self._commit_task = None
            for waiting in self._pending:  # the loop is being closed: these mails are not safe
                _fail(waiting, StoreUnavailable("the program is stopping"))
            self._pending.clear()

    def _next_group(self) -> list[_PendingMail]:
        group = [self._pending.popleft()]
        size = group[0].mail.size
        while (
            self._pending
            and len(group) < GROUP_MAILS
            and size + self._pending[0].mail.size <= GROUP_BYTES
        ):
            size += self._pending[0].mail.size
            group.append(self._pending.popleft())
        return group

    async def _commit(self, group: list[_PendingMail]) -> None:
        error = await self._put(group)
        away = isinstance(error, StoreUnavailable) and not isinstance(error, BlobsUnavailable)
        if error is not None and not away and len(group) > 1:
            for waiting in group:
                await self._commit([waiting])
            return
        if error is not None:
            self._refusing(error, large=not away and group[0].mail.size > IN_MEMORY)
            if away:
                group = [*group, *self._pending]
                self._pending.clear()
            for waiting in group:
                _fail(waiting, error)
        for waiting in group:
            if isinstance(waiting.mail.raw, SpoolFile):
                # removing 25 MiB can take milliseconds
                await asyncio.to_thread(waiting.mail.raw.discard)

    async def _put(self, group: list[_PendingMail]) -> Exception | None:
        """Store a group of mails and tell their callers; return the error if nothing was stored."""
        try:
            ids = await self._spool.put([waiting.mail for waiting in group])
        # any error becomes the answer to the client
        except Exception as error:  # noqa: BLE001
            return error
        except BaseException:
            for waiting in group:
                _fail(waiting, StoreUnavailable("the program is stopping"))
            raise
        for waiting, mail_id in zip(group, ids, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(mail_id)
        self._stored(large=any(waiting.mail.size > IN_MEMORY for waiting in group))
        self._wake()
        return None


async def _with_digest(
    raw: Raw, envelope: Envelope, mark: MailboxPosition | None = None
) -> AcceptedMail:
    if isinstance(raw, SpoolFile):
        return AcceptedMail(raw, raw.size, raw.sha256, envelope, mark)
    hashed = sha256(raw) if len(raw) < _HASH_IN_THREAD else await asyncio.to_thread(sha256, raw)
    return AcceptedMail(raw, len(raw), hashed.hexdigest(), envelope, mark)


def _fail(waiting: _PendingMail, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)


def free_bytes(path: Path) -> int:
    """Return how many bytes an unprivileged process may still write to a path's file system."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
