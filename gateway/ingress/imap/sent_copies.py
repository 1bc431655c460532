"""Put one copy of each mail that a user wrote into the sent folder of the channel's mailbox.

Copies are marked as read and carry the date when the mail went out. Before a copy is made, its
Message-ID is searched for. So no second copy is made if a confirmation got lost, or if the server
made a copy itself.

If the server or the folder fails, the mailbox pauses for 1, 2, 4 … 240 minutes; after a refused
login, for at least 15 minutes. If the server refuses one mail, only that mail pauses. The reason is
stored with the copy; sending is never held up. If a process dies while it makes a copy, another
takes over after five minutes.
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
from gateway.ingress.imap.connection import CommandRefused, ImapError, LoginRefused, Timeouts
from gateway.ingress.imap.watcher import wait
from gateway.oauth.http import TokenUnavailable
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.engine import Database
from gateway.store.imap.sent_copies import Copies, Copy

POLL_SECONDS: Final = 10.0
COPY_SECONDS: Final = 240.0  # to make one copy
LEASE: Final = timedelta(seconds=300)  # longer, so no other process takes the same copy
FIRST_PAUSE: Final = timedelta(minutes=1)
LAST_PAUSE: Final = timedelta(hours=4)
REFUSED_PAUSE: Final = timedelta(minutes=15)
FULL_PLAN_INTERVAL: Final = timedelta(hours=1)  # between searches through the last days
GOODBYE_SECONDS: Final = 10.0  # to finish a copy when stopping
_log = log.logger("sent")


@dataclass(slots=True)
class _State:
    """What this process remembers about a mailbox."""

    after: int | None = None  # where the next plan begins
    planned_fully_at: datetime | None = None
    failures: int = 0  # in a row
    paused_until: datetime | None = None


class SentCopies:
    """Puts copies into the sent folders of those ``accounts`` that have one."""

    name = "sent"

    def __init__(
        self,
        accounts: Sequence[ImapAccount],
        database: Database,
        tokens: Tokens,
        clock: Clock,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.accounts = [each for each in accounts if each.sent_folder]
        self.copies = Copies(database)
        self.tokens = tokens
        self.clock = clock
        self.timeouts = timeouts or Timeouts()
        self._states = {each.name: _State() for each in self.accounts}

    async def run(self, stop: asyncio.Event) -> None:
        """Make copies until ``stop``; a copy in progress gets some seconds to finish.

        If it does not finish, the next process looks for the copy and makes it if it is missing.
        """
        await asyncio.gather(
            stop.wait(), *(self._serve_mailbox(each, stop) for each in self.accounts)
        )

    async def _serve_mailbox(self, account: ImapAccount, stop: asyncio.Event) -> None:
        """Make the copies of one mailbox until ``stop``, independently of other mailboxes."""
        while not stop.is_set():
            work = asyncio.create_task(self._catch_up_safely(account))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({work}, timeout=GOODBYE_SECONDS if not work.done() else 0)
            finally:
                work.cancel()
                stopping.cancel()
                await asyncio.gather(work, stopping, return_exceptions=True)
            await wait(stop, POLL_SECONDS)

    async def _catch_up_safely(self, account: ImapAccount) -> None:
        try:
            await self.catch_up(account)
        except Unavailable as error:  # the database
            _log.warning(
                "copies of sent mail wait for the database",
                mailbox=account.log_name,
                reason=error.message,
            )
        # no error may end the daemon or the copies of other mailboxes
        except Exception as error:  # noqa: BLE001
            _log.error(
                "copies of sent mail failed unexpectedly",
                mailbox=account.log_name,
                **log.error_fields(error),
            )

    async def catch_up(self, account: ImapAccount) -> int:
        """Make all copies due for a mailbox, unless the mailbox pauses; return their number.

        Raises only errors of the database.
        """
        state = self._states[account.name]
        if state.paused_until is not None and self.clock.now() < state.paused_until:
            return 0
        await self._plan(account, state)
        copy = await self._take(account)
        made = 0
        session: ImapSession | None = None
        try:
            while copy is not None:
                async with asyncio.timeout(COPY_SECONDS):
                    session = session or await self._open_session(account)
                    made += await self._make(session, account, copy)
                state.failures = 0
                copy = await self._take(account)
            if session is not None:
                await session.close()
        # OSError includes TimeoutError
        except (ImapError, AccessRefused, TokenUnavailable, OSError) as error:
            await self._pause_mailbox(account, state, copy, error)
        finally:
            if session is not None:
                session.abort()
        if made:
            _log.info("copies of sent mail made", mailbox=account.log_name, made=made)
        return made

    async def _plan(self, account: ImapAccount, state: _State) -> None:
        now = self.clock.now()
        if state.planned_fully_at is None or now - state.planned_fully_at >= FULL_PLAN_INTERVAL:
            state.after, state.planned_fully_at = None, now
        state.after = await self.copies.plan({account.name: account.channel}, now, state.after)

    async def _take(self, account: ImapAccount) -> Copy | None:
        now = self.clock.now()
        return await self.copies.take(account.name, now, now + LEASE)

    async def _open_session(self, account: ImapAccount) -> ImapSession:
        """Return a session with the sent folder open; create the folder if it is missing."""
        session = await ImapSession.open(account.server(), self.timeouts)
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
        """Make a copy unless it exists; return False if the server refuses this mail, else True."""
        try:
            if copy.message_id is None or not await session.has_message_id(copy.message_id):
                await session.append(account.sent_folder, copy.raw, copy.sent_at)
        except CommandRefused as error:
            _log.warning(
                "copy of sent mail refused",
                mailbox=account.log_name,
                mail=copy.outgoing,
                reason=log.redact(error.message),
            )
            await self.copies.hindered(copy, error.message, self.clock.now() + pause(copy.attempts))
            return False
        await self.copies.done(copy, self.clock.now())
        return True

    async def _pause_mailbox(
        self, account: ImapAccount, state: _State, copy: Copy | None, error: Exception
    ) -> None:
        """Record that the mailbox cannot be used for now."""
        state.failures += 1
        refused = isinstance(error, LoginRefused | AccessRefused)
        length = max(pause(state.failures), REFUSED_PAUSE) if refused else pause(state.failures)
        problem = getattr(error, "message", "") or (
            "the server is too slow"
            if isinstance(error, TimeoutError)
            else "a local file cannot be used"
        )
        now = self.clock.now()
        state.paused_until = now + length
        log_line = _log.error if refused else _log.warning
        log_line(
            "copies of sent mail delayed",
            mailbox=account.log_name,
            reason=log.redact(problem),
            failures=state.failures,
            until=state.paused_until.isoformat(),
        )
        if copy is not None:
            await self.copies.hindered(copy, problem, now + max(length, pause(copy.attempts)))
        await self.copies.all_hindered(account.name, problem, now, state.paused_until)


def pause(tries: int) -> timedelta:
    """Return how long to wait after this number of failed tries."""
    return min(FIRST_PAUSE * (1 << min(tries - 1, 20)), LAST_PAUSE)
