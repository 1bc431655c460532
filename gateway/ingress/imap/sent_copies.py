"""Puts copies of what users write into the folder of sent mail of the channel's mailbox: each once,
marked as read, with the date it went out.

A copy is looked for by its Message-ID before it is made, so that one whose confirmation got lost is
not made twice; nor is one that the server has kept by itself. What can go wrong: the server, the
network or the provider is away, or the folder cannot be opened or made (the mailbox rests for 1
min, 2 min, 4 min ... 4 h, after a refused login a quarter of an hour at least); the server refuses
one mail (that one rests, the others go on); whoever makes a copy dies (it is taken again after five
minutes). What hinders a copy stands in its row, and none keeps mail from going out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway import log
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connection import CommandRefused, ImapError, LoginRefused, Patience
from gateway.ingress.imap.watcher import wait
from gateway.oauth.http import TokenUnavailable
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.engine import Database
from gateway.store.imap.sent_copies import Copies, Copy

POLL_SECONDS: Final = 10.0
SECONDS: Final = 240.0  # for one copy in all
LEASE: Final = timedelta(seconds=300)  # longer, so that nobody else takes a copy that is being made
FIRST_PAUSE: Final = timedelta(minutes=1)
LAST_PAUSE: Final = timedelta(hours=4)
REFUSED_PAUSE: Final = timedelta(minutes=15)
WHOLE_LOOK: Final = timedelta(hours=1)  # between two looks at everything of the last days
GOODBYE_SECONDS: Final = 10.0  # for what is under way when we are to stop
_log = log.logger("sent")


@dataclass(slots=True)
class _State:
    """What one process remembers of a mailbox."""

    after: int | None = None  # of the last plan
    looked_at: datetime | None = None  # at everything
    failures: int = 0  # in a row
    rests_until: datetime | None = None


class SentCopies:
    """Keeps the folders of sent mail of those ``accounts`` that have one."""

    name = "sent"

    def __init__(
        self,
        accounts: Sequence[ImapAccount],
        database: Database,
        tokens: Tokens,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        self.accounts = [each for each in accounts if each.sent_folder]
        self.copies = Copies(database)
        self.tokens = tokens
        self.clock = clock
        self.patience = patience or Patience()
        self._states = {each.name: _State() for each in self.accounts}

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; a copy that is being made then gets some seconds, and is looked for and
        made by the next process otherwise.
        """
        await asyncio.gather(stop.wait(), *(self._keep(each, stop) for each in self.accounts))

    async def _keep(self, account: ImapAccount, stop: asyncio.Event) -> None:
        """One mailbox; it waits for no other."""
        while not stop.is_set():
            work = asyncio.create_task(self._tried(account))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({work}, timeout=GOODBYE_SECONDS if not work.done() else 0)
            finally:
                work.cancel()
                stopping.cancel()
                await asyncio.gather(work, stopping, return_exceptions=True)
            await wait(stop, POLL_SECONDS)

    async def _tried(self, account: ImapAccount) -> None:
        try:
            await self.catch_up(account)
        except Unavailable as error:  # the database
            _log.warning("copies wait", mailbox=account.shown, reason=error.message)
        # whatever it is, it must not end the daemon, nor the copies of other
        # mailboxes
        except Exception as error:  # noqa: BLE001
            _log.error("copies stumbled", mailbox=account.shown, **log.error_fields(error))

    async def catch_up(self, account: ImapAccount) -> int:
        """One pass: makes every copy that is due for a mailbox, unless it rests; returns how many
        were made. Raises what the database does.
        """
        state = self._states[account.name]
        if state.rests_until is not None and self.clock.now() < state.rests_until:
            return 0
        await self._plan(account, state)
        copy = await self._take(account)
        made = 0
        session: ImapSession | None = None
        try:
            while copy is not None:
                async with asyncio.timeout(SECONDS):
                    session = session or await self._entered(account)
                    made += await self._make(session, account, copy)
                state.failures = 0
                copy = await self._take(account)
            if session is not None:
                await session.close()
        except (
            ImapError,
            AccessRefused,
            TokenUnavailable,
            OSError,
        ) as error:  # a TimeoutError is one
            await self._rest(account, state, copy, error)
        finally:
            if session is not None:
                session.abort()
        if made:
            _log.info("copies of sent mail", mailbox=account.shown, made=made)
        return made

    async def _plan(self, account: ImapAccount, state: _State) -> None:
        now = self.clock.now()
        if state.looked_at is None or now - state.looked_at >= WHOLE_LOOK:
            state.after, state.looked_at = None, now
        state.after = await self.copies.plan({account.name: account.channel}, now, state.after)

    async def _take(self, account: ImapAccount) -> Copy | None:
        now = self.clock.now()
        return await self.copies.take(account.name, now, now + LEASE)

    async def _entered(self, account: ImapAccount) -> ImapSession:
        """A session that is signed in and has the folder open, which is made where it is missing."""
        session = await ImapSession.open(account.server(), self.patience)
        try:
            await account.sign_in(session, self.tokens)
            try:
                await session.select(account.sent_folder, read_only=True)
            except CommandRefused:
                if account.sent_folder in await session.folders():
                    raise
                await session.create(account.sent_folder)
                await session.select(account.sent_folder, read_only=True)
        except BaseException:
            session.abort()
            raise
        return session

    async def _make(self, session: ImapSession, account: ImapAccount, copy: Copy) -> bool:
        """Whether the copy is there now; where the server refuses this one, the others go on."""
        try:
            if copy.message_id is None or not await session.holds(copy.message_id):
                await session.append(account.sent_folder, copy.raw, copy.sent_at)
        except CommandRefused as error:
            _log.warning(
                "copy refused",
                mailbox=account.shown,
                mail=copy.outgoing,
                reason=log.redact(error.message),
            )
            await self.copies.hindered(copy, error.message, self.clock.now() + pause(copy.attempts))
            return False
        await self.copies.done(copy, self.clock.now())
        return True

    async def _rest(
        self, account: ImapAccount, state: _State, copy: Copy | None, error: Exception
    ) -> None:
        """The mailbox cannot be used now."""
        state.failures += 1
        refused = isinstance(error, LoginRefused | AccessRefused)
        length = max(pause(state.failures), REFUSED_PAUSE) if refused else pause(state.failures)
        problem = getattr(error, "message", "") or (
            "the server is too slow"
            if isinstance(error, TimeoutError)
            else "a file of ours cannot be used"
        )
        now = self.clock.now()
        state.rests_until = now + length
        say = _log.error if refused else _log.warning
        say(
            "copies hindered",
            mailbox=account.shown,
            reason=log.redact(problem),
            failures=state.failures,
            until=state.rests_until.isoformat(),
        )
        if copy is not None:
            await self.copies.hindered(copy, problem, now + max(length, pause(copy.attempts)))
        await self.copies.all_hindered(account.name, problem, now, state.rests_until)


def pause(tries: int) -> timedelta:
    """How long to wait after so many tries."""
    return min(FIRST_PAUSE * (1 << min(tries - 1, 20)), LAST_PAUSE)
