"""Take mail from the spool, have it read, and file it on tickets in order of receipt.

:meth:`Intake.serve` is the loop of the daemon, :meth:`Intake.drain` one pass for a command.

There are two stages, so that reading and filing overlap: the sandbox reads the claimed mails
(:mod:`gateway.intake.mails_in_hand`), then those that were read are filed in one transaction. If
it fails, its mails are filed one by one. Then only the mail that fails is put back into the spool,
and held after its second failure. If the database is away, no mail counts as failed: as soon as it
is back, what we had claimed is released and claimed again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from datetime import datetime

from core.model.message import Message
from gateway import log, maillog
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.intake.batch import Batch, Item, Rules
from gateway.intake.mails_in_hand import BATCH_MAILS, MailsInHand, ReadMails
from gateway.intake.sandbox.pool import Sandbox
from gateway.reading import authentication
from gateway.store.engine import Database
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import TRIES, Claimed, Finished, Spool
from gateway.store.queues.wake import Wake

LEASE_SECONDS = 120.0
RENEW_SECONDS = 30.0  # a lease outlasts several failures to renew it
POLL_SECONDS = 0.5  # longest wait for mail spooled by another process, without notification
RETRY_SECONDS = 2.0

_log = log.logger("intake")


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
        """Read and file what is in the spool until ``stop``.

        Then mails that are being read are finished, and all other claimed mails are given back.
        """
        with contextlib.suppress(Unavailable):  # then the leases run out
            await self.spool.free_orphans(self.database.node)
        async with self._reading(ordered=False, wanted=lambda: wake.notify("mail")) as hand:
            while not stop.is_set():
                mails = await self._claim_or_pause() if hand.hungry else []
                if mails:
                    await hand.add(mails)
                else:
                    await wake.wait_or_stop(stop, "mail", POLL_SECONDS)

    async def drain(self, ids: Collection[int] | None = None) -> list[Finished]:
        """File all mails that are due, or only those in ``ids``; return the register entries."""
        done: list[Finished] = []
        wanted = asyncio.Event()
        async with self._reading(done, ordered=True, wanted=wanted.set) as hand:
            settled = False
            while True:
                wanted.clear()
                if not hand.hungry:
                    await wanted.wait()
                elif mails := await self._claim(ids):
                    await hand.add(mails)
                    settled = False
                elif settled:
                    return done
                else:
                    await hand.settled()  # mail that failed once can be claimed again afterwards
                    settled = True

    @contextlib.asynccontextmanager
    async def _reading(
        self, done: list[Finished] | None = None, *, ordered: bool, wanted: Callable[[], None]
    ) -> AsyncIterator[MailsInHand]:
        """Run the tasks that read and file mails; at the end, wait for them.

        The register entries of filed mails are added to ``done``. If a task fails, the error is
        raised, and the leases of the mails in hand run out.
        """
        hand = MailsInHand(self.sandbox, self._bytes_of, ordered=ordered, wanted=wanted)
        try:
            async with asyncio.TaskGroup() as tasks:
                quick = [
                    tasks.create_task(hand.read_quickly()) for _ in range(self.sandbox.processes)
                ]
                endless = [
                    tasks.create_task(hand.read_suspects()),
                    tasks.create_task(self._renew_leases(hand)),
                ]
                tasks.create_task(self._file_all(hand, done), name="filing")
                yield hand
                given_up = await hand.close()
                await asyncio.gather(*quick)
                given_up += await hand.close()  # what they put aside in the end
                for each in endless:
                    each.cancel()
                if given_up:
                    with contextlib.suppress(Unavailable):  # then the leases run out
                        await self.spool.put_off(given_up)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _bytes_of(self, mail_id: int) -> bytes:
        """Return the bytes of a claimed mail; if the database is away, wait for it."""
        while True:
            try:
                return await MailRegister(self.database, self.spool.blobs).raw(mail_id)
            except Unavailable as error:
                _log.warning("mail not loaded", reason=error.message)
                await asyncio.sleep(RETRY_SECONDS)

    async def _renew_leases(self, hand: MailsInHand) -> None:
        """Renew the leases of the mails in hand, again and again, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if ids := hand.ids:
                with contextlib.suppress(Unavailable):  # tried again before the leases run out
                    await self.spool.renew(self.database.node, ids, LEASE_SECONDS, self.clock.now())

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

    async def _file_all(self, hand: MailsInHand, done: list[Finished] | None = None) -> None:
        while (batch := await hand.next_batch()) is not None:
            filed = await self.file(batch)
            self._held.difference_update(mail.id for mail in batch.mails)
            if done is not None:
                done += filed

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
                message=self._without_void_results(mail, message),
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

    def _without_void_results(self, mail: Claimed, message: Message) -> Message:
        """Return the message of a mail; drop Authentication-Results that do not count.

        All are dropped, not only those with a trusted id, so that no odd spelling of such an id is
        missed. The raw mail keeps them, so that a person can see what was claimed.
        """
        if mail.envelope.results_count or not message.authentication:
            return message
        if authentication.is_from(message.authentication, self.rules.trusted):
            maillog.void_results(mail_id=mail.id, peer=mail.envelope.peer)
        return replace(message, authentication=())

    async def _retry_or_hold(self, mail: Claimed, error: Exception) -> None:
        """Put back a mail that failed; after its last try, hold it for a person to look at."""
        error_id = f"mail-{mail.id}"
        reason = f"internal error ({type(error).__name__}), see log entry {error_id}"
        with contextlib.suppress(Unavailable):
            await self.spool.fail([mail.id], reason, self.clock.now())
        maillog.failed(source=mail.envelope.source, error_id=error_id, exc=error, mail_id=mail.id)
        if mail.tries >= TRIES:
            maillog.held(mail_id=mail.id, reason=reason)


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
