"""Take mail from the spool, have it read, and file it on tickets in order of receipt.

:meth:`Intake.serve` is the loop of the daemon, :meth:`Intake.drain` one pass for a command.

There are two stages, so that reading and filing overlap: the sandbox reads the claimed mails, then
each batch is one transaction. If a batch fails, its mails are filed one by one, so that only the
mail that fails is put back, and held after its second failure. If the database is away, no mail
counts as failed: as soon as it is back, what we had claimed is released and claimed again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from core.model.message import Message
from gateway import log, maillog
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.intake.batch import Batch, Item, Rules
from gateway.intake.sandbox.jobs import ReadFailure, ReadJob
from gateway.intake.sandbox.pool import Sandbox
from gateway.reading import authentication
from gateway.reading.parse import fallback
from gateway.store.engine import Database
from gateway.store.queues.spool import TRIES, Claimed, Finished, Spool
from gateway.store.queues.wake import Wake

BATCH_MAILS = 256
CHUNK_MAILS = 8  # read by one process at a time
LEASE_SECONDS = 120.0
POLL_SECONDS = 0.5  # longest wait for mail spooled by another process, without notification
RETRY_SECONDS = 2.0

_log = log.logger("intake")


@dataclass(frozen=True, slots=True)
class ReadMails:
    """Claimed mails and their messages, in the same order."""

    mails: Sequence[Claimed]
    messages: Sequence[Message]


class Intake:
    """Takes mails from the spool, has them read, and turns them into tickets.

    ``now_of`` returns the instant when a mail counts as processed: by the clock, or its Date in a
    replay. ``filed`` is called after each batch, since filing may give work to other tasks.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        sandbox: Sandbox,
        rules: Rules,
        clock: Clock,
        *,
        now_of: Callable[[Message], datetime] | None = None,
        filed: Callable[[], None] = lambda: None,
    ) -> None:
        self.database = database
        self.spool = spool
        self.sandbox = sandbox
        self.rules = rules
        self.clock = clock
        self._now_of = now_of or (lambda _: clock.now())
        self._filed = filed
        self._held: set[int] = set()  # claimed, and not filed yet
        self._lost_touch = False  # the database was away since the last claim

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Read and file mail from the spool until ``stop`` is set, then finish claimed mails."""
        with contextlib.suppress(Unavailable):  # then the leases run out
            await self.spool.free_orphans(self.database.node)
        ready: asyncio.Queue[ReadMails | None] = asyncio.Queue(maxsize=1)
        filing = asyncio.create_task(self._file_all(ready), name="filing")
        try:
            while not stop.is_set() and not filing.done():
                mails = await self._claim_or_pause()
                if mails:
                    await ready.put(await self.read(mails))
                else:
                    await wake.wait_or_stop(stop, "mail", POLL_SECONDS)
        finally:
            if not filing.done():
                await ready.put(None)
            await filing

    async def drain(self, ids: Collection[int] | None = None) -> list[Finished]:
        """File all mails that are due, or only those in ``ids``; return the register entries."""
        done: list[Finished] = []
        ready: asyncio.Queue[ReadMails | None] = asyncio.Queue(maxsize=1)
        filing = asyncio.create_task(self._file_all(ready, done), name="filing")
        settled = False
        try:
            while not filing.done():
                mails = await self._claim(ids)
                if mails:
                    await ready.put(await self.read(mails))
                    settled = False
                elif settled:
                    break
                else:
                    await ready.join()  # mail that failed once can be claimed again afterwards
                    settled = True
        finally:
            if not filing.done():
                await ready.put(None)
            await filing
        return done

    async def _claim(self, ids: Collection[int] | None = None) -> list[Claimed]:
        """Lease the next mails that are due, but only those in ``ids`` if it is given."""
        node, now = self.database.node, self.clock.now()
        try:
            if self._lost_touch:
                await self.spool.release(node, self._held)
                self._lost_touch = False
            mails = await self.spool.claim(node, BATCH_MAILS, LEASE_SECONDS, now, ids)
        except Unavailable:
            self._lost_touch = True
            raise
        self._held.update(mail.id for mail in mails)
        return mails

    async def _claim_or_pause(self) -> list[Claimed]:
        """Lease the next mails that are due; if the database fails, pause and return none."""
        try:
            return await self._claim()
        except Unavailable as error:
            _log.warning("mail cannot be claimed", reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)
            return []

    async def _file_all(
        self, ready: asyncio.Queue[ReadMails | None], done: list[Finished] | None = None
    ) -> None:
        while (batch := await ready.get()) is not None:
            filed = await self.file(batch)
            self._held.difference_update(mail.id for mail in batch.mails)
            if done is not None:
                done += filed
            ready.task_done()

    async def read(self, mails: Sequence[Claimed]) -> ReadMails:
        """Read mails, several chunks at once.

        The message of an unreadable mail is made from its headers (reliability.md 14).
        """
        jobs = [ReadJob(mail.raw, null_sender=_is_null(mail.envelope.sender)) for mail in mails]
        pieces = await asyncio.gather(
            *(
                self.sandbox.read_many(jobs[at : at + CHUNK_MAILS])
                for at in range(0, len(jobs), CHUNK_MAILS)
            )
        )
        results = [result for piece in pieces for result in piece]
        messages = [_message_of(mail, result) for mail, result in zip(mails, results, strict=True)]
        return ReadMails(mails, list(map(self._without_void_results, mails, messages)))

    def _without_void_results(self, mail: Claimed, message: Message) -> Message:
        """Return the message of a mail without Authentication-Results if they do not count.

        All are dropped, not only those with an id of ours: then no spelling of it can get through.
        The raw mail keeps them, so that a person can see what was claimed.
        """
        if mail.envelope.results_count or not message.authentication:
            return message
        if authentication.is_from(message.authentication, self.rules.trusted):
            maillog.void_results(mail_id=mail.id, peer=mail.envelope.peer)
        return replace(message, authentication=())

    async def file(self, batch: ReadMails) -> list[Finished]:
        """File a batch in one transaction; if it fails, file each mail in its own transaction."""
        try:
            return await self._transaction(batch)
        except Unavailable as error:
            _log.warning("filing put off", reason=error.message, mails=len(batch.mails))
            self._lost_touch = True
            await asyncio.sleep(RETRY_SECONDS)
            return []
        except Exception as error:  # noqa: BLE001  # no mail may stop the queue
            if len(batch.mails) > 1:
                single = [
                    ReadMails((mail,), (message,))
                    for mail, message in zip(batch.mails, batch.messages, strict=True)
                ]
                return [done for one in single for done in await self.file(one)]
            await self._retry_or_hold(batch.mails[0], error)
            return []

    async def _transaction(self, batch: ReadMails) -> list[Finished]:
        items = [
            Item(
                mail_id=mail.id,
                envelope=mail.envelope,
                message=message,
                released=mail.released,
                now=self._now_of(message),
            )
            for mail, message in zip(batch.mails, batch.messages, strict=True)
        ]
        async with self.database.write(ordered=True) as connection:
            rows = await Batch(connection, self.rules, items, items[-1].now).run()
        for row, item in zip(rows, items, strict=True):
            _log_outcome(row, item)
        self._filed()
        return rows

    async def _retry_or_hold(self, mail: Claimed, error: Exception) -> None:
        """Put back a mail that failed; after its last try, hold it for a person to look at."""
        error_id = f"mail-{mail.id}"
        reason = f"internal error ({type(error).__name__}), see log entry {error_id}"
        with contextlib.suppress(Unavailable):
            await self.spool.fail([mail.id], reason, self.clock.now())
        maillog.failed(source=mail.envelope.source, error_id=error_id, exc=error, mail_id=mail.id)
        if mail.tries >= TRIES:
            maillog.held(mail_id=mail.id, reason=reason)


def _is_null(sender: str | None) -> bool | None:
    """Tell whether an envelope sender is the null path; None if the sender is unknown."""
    return None if sender is None else not sender


def _message_of(mail: Claimed, result: Message | ReadFailure) -> Message:
    """Return the message of a mail; if the mail could not be read, make it from the headers."""
    if isinstance(result, Message):
        return result
    maillog.unreadable(mail_id=mail.id, reason=result.reason)
    return fallback(mail.raw, result.reason)


def _log_outcome(row: Finished, item: Item) -> None:
    """Log the end state of a mail."""
    if row.state == "duplicate":
        maillog.duplicate(
            mail_id=row.mail_id, original=row.original_id or 0, source=item.envelope.source
        )
        return
    maillog.processed(
        mail_id=row.mail_id,
        state=row.state,
        kind=row.kind,
        ticket=row.ticket,
        thread=row.thread_id,
        rule=row.outcome["rule"],
        sender=row.sender,
    )
