"""Import a mailbox: hold its lease, fetch the mail, process it.

When a connection breaks, the import connects again. It gives up after several connections without a
single mail. A refused login, a missing folder, or the loss of the lease ends the import at once.
Mail stored so far stays, and the next import continues with the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from gateway.cli.output import progress
from gateway.daemon.assemble import Installation
from gateway.errors import Unavailable, UsageError
from gateway.ingress.imap.account import ImapAccount, accounts, find_accounts
from gateway.ingress.imap.commands import ImapSession, LoginConnectionLost
from gateway.ingress.imap.connection import ConnectionLost, ImapTimeout, ProtocolError
from gateway.ingress.imap.fetch import FetchFailures
from gateway.ingress.imap.reader import MailboxReader
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.queues.wake import Wake

LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
MAX_FRUITLESS = 5  # connections in a row without a single mail
PAUSE_SECONDS = 1.0  # after the first fruitless connection; each further pause is 1 s longer


async def import_mailbox(
    opened: Installation, name: str, since: date | None, *, automation: bool
) -> dict[str, Any]:
    """Import the mailbox that has this name or serves this channel; return three counts.

    The counts are: mails imported, mails not imported yet, mails that could not be fetched.
    """
    found = find_accounts(accounts(opened.settings), name)
    if len(found) > 1:
        raise UsageError(
            f"{name} has several mailboxes; give one of the names "
            f"{', '.join(each.name for each in found)}"
        )
    opened.start_log()
    boxes = Mailboxes(opened.database)
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with _held(boxes, found[0], opened, stop) as lost, _processed(opened):
        done = await Import(opened, boxes, found[0], stop).run(since, automation=automation)
    if lost.is_set():
        raise Unavailable(
            f"another process took over mailbox {found[0].name} and continues with the rest"
        )
    return done


@dataclass
class Import:
    """An import of one mailbox, over as many connections as needed."""

    opened: Installation
    boxes: Mailboxes
    account: ImapAccount
    stop: asyncio.Event
    fetch_failures: FetchFailures = field(default_factory=FetchFailures)
    done: int = 0
    left: int = 0

    async def run(self, since: date | None, *, automation: bool) -> dict[str, Any]:
        """Import until nothing is left or ``stop`` is set; return the counts."""
        fruitless = barren = 0
        planned = False
        while not self.stop.is_set():
            before = self.done
            try:
                await self._connection(since, automation=automation, plan=not planned)
                break
            except (ConnectionLost, ProtocolError, ImapTimeout) as error:
                if isinstance(error, LoginConnectionLost):
                    raise
                planned = planned or self.left > 0 or self.done > 0
                suspected = (
                    self.fetch_failures.connection_broke()
                )  # the next connection then fetches differently
                barren = 0 if self.done > before else barren + 1
                fruitless = 0 if self.done > before or suspected else fruitless + 1
                if fruitless >= MAX_FRUITLESS or barren >= 10 * MAX_FRUITLESS:
                    raise
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), max(1, fruitless) * PAUSE_SECONDS)
        box = await self.boxes.get(self.account.name)
        owed = (await self.boxes.owed_counts()).get(box.id, 0) if box is not None else 0
        return {
            "mailbox": self.account.name,
            "imported": self.done,
            "left": self.left,
            "owed": owed,
        }

    async def _connection(self, since: date | None, *, automation: bool, plan: bool) -> None:
        session = await ImapSession.open(self.account.server())
        try:
            await self.account.sign_in(session, self.opened.tokens)
            accept = await self.opened.acceptor()
            box = await self.boxes.get(self.account.name)
            assert box is not None
            reader = MailboxReader(
                self.account,
                session,
                box,
                accept,
                self.boxes,
                self.opened.clock,
                self.fetch_failures,
            )
            await reader.open()
            if plan:
                await reader.plan(since, "all" if automation else "none")
            self.left = await reader.count()
            with progress("mails", self.left) as shown:
                if await reader.catch_up(self.stop, lambda mails: self._advance(mails, shown)):
                    self.left = 0
        finally:
            await session.close()

    def _advance(self, mails: int, shown: Callable[[int], None]) -> None:
        self.done += mails
        self.left = max(0, self.left - mails)
        shown(mails)


@asynccontextmanager
async def _held(
    boxes: Mailboxes, account: ImapAccount, opened: Installation, stop: asyncio.Event
) -> AsyncIterator[asyncio.Event]:
    """Hold the lease of a mailbox; raise Unavailable if another process has it.

    Yields an event that is set when the lease is lost.
    """
    await boxes.register([(account.name, account.place)])
    if account.name not in await boxes.claim([account.name], LEASE_SECONDS, opened.clock.now()):
        box = await boxes.get(account.name)
        raise Unavailable(
            f"mailbox {account.name} is being read by "
            f"{box.lease_owner if box is not None else 'another process'}: stop that daemon first"
        )
    lost = asyncio.Event()
    keeping = asyncio.create_task(_keep(boxes, account, opened, stop, lost))
    try:
        yield lost
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await boxes.release([account.name])


async def _keep(
    boxes: Mailboxes,
    account: ImapAccount,
    opened: Installation,
    stop: asyncio.Event,
    lost: asyncio.Event,
) -> None:
    while not lost.is_set():
        await asyncio.sleep(RENEW_SECONDS)
        with contextlib.suppress(Unavailable):
            if account.name not in await boxes.claim(
                [account.name], LEASE_SECONDS, opened.clock.now()
            ):
                lost.set()
                stop.set()


@asynccontextmanager
async def _processed(opened: Installation) -> AsyncIterator[None]:
    """Process stored mail while the import runs; at its end, process the remaining mail."""
    intake = await opened.intake()
    over = asyncio.Event()
    working = asyncio.create_task(intake.serve(over, Wake()))
    try:
        yield
    finally:
        over.set()
        await working
        await intake.drain()
