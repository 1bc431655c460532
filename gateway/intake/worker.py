"""Takes mail from the spool and has it read and filed, in order of receipt: the loop of the daemon,
and one pass of a command.

Two stages, so that reading and filing overlap: claimed mails are read by the sandbox, a batch at a
time; each batch is one transaction. When a batch fails its mails run one by one, so that only the
guilty one is put back, and held after its second failure. When the database is away nobody is
guilty: the lease runs out and the mails are claimed again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.model.message import Message
from gateway import log, maillog
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.intake.batch import Batch, Item, Rules
from gateway.intake.sandbox.jobs import ReadFailure, ReadJob
from gateway.intake.sandbox.pool import Sandbox
from gateway.reading.parse import fallback
from gateway.store.engine import Database
from gateway.store.queues.spool import TRIES, Claimed, Finished, Spool
from gateway.store.queues.wake import Wake

BATCH = 256
CHUNK = 8  # mails one reading process takes at a time
LEASE_SECONDS = 120.0
POLL_SECONDS = (
    0.5  # how late mail is noticed that another process spooled, where no notification comes
)
RETRY_SECONDS = 2.0

_log = log.logger("intake")


@dataclass(frozen=True, slots=True)
class Read:
    """Claimed mails with what reading them gave."""

    mails: Sequence[Claimed]
    messages: Sequence[Message]


class Intake:
    """The intake of one process.

    ``now_of`` says at what instant a mail counts as processed (the clock, or its Date in a replay);
    ``filed`` is called when there may be work for others.
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

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Until ``stop``: read and file whatever is in the spool. What is in hand when it stops is
        finished first.
        """
        with contextlib.suppress(Unavailable):  # then the leases run out
            await self.spool.free_orphans(self.database.node)
        ready: asyncio.Queue[Read | None] = asyncio.Queue(maxsize=1)
        filing = asyncio.create_task(self._file_all(ready), name="filing")
        try:
            while not stop.is_set() and not filing.done():
                mails = await self._claim()
                if mails:
                    await ready.put(await self.read(mails))
                else:
                    await _first(stop.wait(), wake.wait("mail", POLL_SECONDS))
        finally:
            if not filing.done():
                await ready.put(None)
            await filing

    async def drain(self, ids: Collection[int] | None = None) -> list[Finished]:
        """One pass: file what is due, or just the mails named, until nothing is left; in order."""
        done: list[Finished] = []
        ready: asyncio.Queue[Read | None] = asyncio.Queue(maxsize=1)
        filing = asyncio.create_task(self._file_all(ready, done), name="filing")
        settled = False
        try:
            while not filing.done():
                mails = await self.spool.claim(
                    self.database.node, BATCH, LEASE_SECONDS, self.clock.now(), ids
                )
                if mails:
                    await ready.put(await self.read(mails))
                    settled = False
                elif settled:
                    break
                else:
                    await ready.join()  # what fails the first time is there again afterwards
                    settled = True
        finally:
            if not filing.done():
                await ready.put(None)
            await filing
        return done

    async def _claim(self) -> list[Claimed]:
        try:
            return await self.spool.claim(
                self.database.node, BATCH, LEASE_SECONDS, self.clock.now(), None
            )
        except Unavailable as error:
            _log.warning("claim failed", reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)
            return []

    async def _file_all(
        self, ready: asyncio.Queue[Read | None], done: list[Finished] | None = None
    ) -> None:
        while (batch := await ready.get()) is not None:
            filed = await self.file(batch)
            if done is not None:
                done += filed
            ready.task_done()

    async def read(self, mails: Sequence[Claimed]) -> Read:
        """Have mails read, several chunks at once. One that cannot be read becomes what its headers
        still tell (reliability.md 14).
        """
        jobs = [
            ReadJob(
                mail.raw, mail.envelope.sender == "" if mail.envelope.sender is not None else None
            )
            for mail in mails
        ]
        pieces = await asyncio.gather(
            *(self.sandbox.read_many(jobs[at : at + CHUNK]) for at in range(0, len(jobs), CHUNK))
        )
        results = [result for piece in pieces for result in piece]
        return Read(
            mails,
            [self._understood(mail, result) for mail, result in zip(mails, results, strict=True)],
        )

    def _understood(self, mail: Claimed, result: Message | ReadFailure) -> Message:
        if isinstance(result, Message):
            return result
        maillog.unreadable(mail_id=mail.id, reason=result.reason)
        return fallback(mail.raw, result.reason)

    async def file(self, batch: Read) -> list[Finished]:
        """One transaction for the batch; one a mail when that fails."""
        try:
            return await self._transaction(batch)
        except Unavailable as error:
            _log.warning("filing put off", reason=error.message, mails=len(batch.mails))
            with contextlib.suppress(Unavailable):  # then the leases run out
                await self.spool.put_off([mail.id for mail in batch.mails])
            await asyncio.sleep(RETRY_SECONDS)
            return []
        # whatever a mail made go wrong must not stop the queue
        except Exception as error:  # noqa: BLE001
            if len(batch.mails) > 1:
                single = [
                    Read((mail,), (message,))
                    for mail, message in zip(batch.mails, batch.messages, strict=True)
                ]
                return [done for one in single for done in await self.file(one)]
            await self._guilty(batch.mails[0], error)
            return []

    async def _transaction(self, batch: Read) -> list[Finished]:
        items = [
            Item(mail.id, mail.envelope, message, mail.released, self._now_of(message))
            for mail, message in zip(batch.mails, batch.messages, strict=True)
        ]
        async with self.database.write(ordered=True) as connection:
            rows = await Batch(connection, self.rules, items, items[-1].now).run()
        for row, item in zip(rows, items, strict=True):
            _tell(row, item)
        self._filed()
        return rows

    async def _guilty(self, mail: Claimed, error: Exception) -> None:
        reason = (
            f"It could not be processed: {type(error).__name__} in our rules. Nothing of it "
            "was changed; its raw form is kept."
        )
        with contextlib.suppress(Unavailable):
            await self.spool.fail([mail.id], reason, self.clock.now())
        maillog.failed(
            source=mail.envelope.source, error_id=f"mail-{mail.id}", exc=error, mail_id=mail.id
        )
        if mail.tries >= TRIES:
            maillog.held(mail_id=mail.id, reason=reason)


def _tell(row: Finished, item: Item) -> None:
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


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of several waits is over; the others are given up."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
