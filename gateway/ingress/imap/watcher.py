"""Watch all mailboxes: read new mail when the server announces it, and every few minutes.

Each mailbox is read by one process, which has the lease. After a failure of server, network,
database or disk the next try comes after a growing pause. After a refused login it comes in 15
minutes, or when somebody signs in. Each failure is recorded with the mailbox and logged, and never
keeps other mailboxes from being read. If the lease is lost, nothing more is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from gateway import log
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.ingress.accept import Acceptor
from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession, LoginConnectionLost
from gateway.ingress.imap.connection import (
    CommandRefused,
    ConnectionLost,
    ImapTimeout,
    LoginRefused,
    ProtocolError,
    Timeouts,
)
from gateway.ingress.imap.fetch import FetchFailures
from gateway.ingress.imap.reader import MailboxReader
from gateway.ingress.spool_files import remove_leftovers
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.imap.mailboxes import Mailbox, Mailboxes, State
from gateway.store.imap.taken_mail import MailboxLeaseLost

ALARM_AFTER = timedelta(minutes=10)  # a mailbox that fails this long is logged as an error
_log = log.logger("imap")


@dataclass(frozen=True, slots=True)
class Intervals:
    """Time limits and pauses of a watcher, in seconds."""

    lease: float = 15.0  # for which a claimed mailbox stays ours
    look: float = 5.0  # between two checks of the leases
    idle: float = 270.0  # of one IDLE (RFC 2177 allows 29 minutes, routers less)
    poll: float = 30.0  # between two searches without IDLE
    first_pause: float = 1.0  # after a failure
    last_pause: float = 300.0  # after many failures
    refused: float = 900.0  # after a refused login
    steady: float = 60.0  # a connection that lasts this long resets the pause
    goodbye: float = 10.0  # to finish work when stopping
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(slots=True, eq=False)
class _Watch:
    """One mailbox that this process reads."""

    account: ImapAccount
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    fetch_failures: FetchFailures = field(default_factory=FetchFailures)
    failures: int = 0  # in a row
    lost_logins: int = 0  # in a row, that ended with the connection
    alarmed: bool = False
    polled: bool = False  # because the server refuses IDLE
    warned_on: date | None = None  # the day of the last warning that access will end
    task: asyncio.Task[None] | None = None


class Watcher:
    """Reads every mailbox whose lease it gets; ``tokens`` supplies access tokens."""

    name = "mailboxes"

    def __init__(
        self,
        accounts: Sequence[ImapAccount],
        accept: Acceptor,
        boxes: Mailboxes,
        tokens: Tokens,
        clock: Clock,
        intervals: Intervals | None = None,
    ) -> None:
        self.accounts = {account.name: account for account in accounts}
        self.accept = accept
        self.boxes = boxes
        self.tokens = tokens
        self.clock = clock
        self.intervals = intervals or Intervals()
        self._watches: dict[str, _Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch the mailboxes until ``stop``; then finish storing and give the leases back."""
        await asyncio.to_thread(remove_leftovers, self.accept.directory)
        registered = False
        try:
            while not stop.is_set():
                try:
                    if not registered:
                        await self.boxes.register(
                            [(each.name, each.place) for each in self.accounts.values()]
                        )
                        registered = True
                    await self._claim()
                except Unavailable as error:
                    _log.warning("mailboxes cannot be claimed", reason=error.message)
                await wait(stop, self.intervals.look)
        finally:
            self._stop_watches(list(self._watches))
            await asyncio.gather(*self._ending, return_exceptions=True)
            with contextlib.suppress(Unavailable):  # the leases expire by themselves
                await self.boxes.release(list(self.accounts))

    async def _claim(self) -> None:
        """Renew and take leases; start reading where one is won, stop reading where one is lost.

        This never waits for a mailbox, since the leases of the others would expire meanwhile.
        """
        ours = await self.boxes.claim(list(self.accounts), self.intervals.lease, self.clock.now())
        self._stop_watches([name for name in self._watches if name not in ours])
        for name in ours:
            watch = self._watches.get(name)
            if watch is not None and watch.task is not None and watch.task.done():
                error = watch.task.exception() if not watch.task.cancelled() else None
                _log.error(
                    "mailbox reader ended unexpectedly",
                    mailbox=watch.account.log_name,
                    **(log.error_fields(error) if error is not None else {}),
                )
                watch = None
            if watch is None and name not in {task.get_name() for task in self._ending}:
                watch = _Watch(self.accounts[name])
                watch.task = asyncio.create_task(self._watch(watch), name=name)
                self._watches[name] = watch

    def _stop_watches(self, names: Sequence[str]) -> None:
        for watch in [self._watches.pop(name) for name in names]:
            watch.stop.set()
            if watch.task is not None:
                self._ending.add(watch.task)
                watch.task.add_done_callback(self._ending.discard)

    async def _watch(self, watch: _Watch) -> None:
        """Read one mailbox until it is stopped, and connect again after each failure."""
        loop = asyncio.get_running_loop()
        while not watch.stop.is_set():
            began = loop.time()
            refused = await self._connect_once(watch)
            if watch.stop.is_set():
                return
            if refused:
                await self._wait_for_access(watch)
                continue
            if loop.time() - began >= self.intervals.steady:
                watch.failures = 0
            await wait(watch.stop, self._pause(watch.failures))
            watch.failures += 1

    async def _connect_once(self, watch: _Watch) -> bool:
        """Read over one connection and record how it ended; return whether access was refused."""
        try:
            await self._session(watch)
        except (AccessRefused, LoginRefused) as error:
            await self._report_failure(watch, "refused", error.message)
            return True
        except LoginConnectionLost as error:
            watch.lost_logins += 1
            await self._report_failure(
                watch, "refused" if watch.lost_logins > 1 else "failing", error.message
            )
            return watch.lost_logins > 1
        except MailboxLeaseLost:
            _log.info("mailbox is read by another process", mailbox=watch.account.log_name)
        except Unavailable as error:
            await self._report_failure(watch, "failing", error.message)
        except OSError as error:
            await self._report_failure(
                watch, "failing", f"a local file cannot be used: {error.strerror}"
            )
        # no error may end the reading of a mailbox unnoticed
        except Exception as error:  # noqa: BLE001
            _log.error(
                "mailbox failed unexpectedly",
                mailbox=watch.account.log_name,
                **log.error_fields(error),
            )
            await self._report_failure(
                watch, "failing", f"internal error ({type(error).__name__}), see the log"
            )
        return False

    def _pause(self, failures: int) -> float:
        longest = min(
            self.intervals.last_pause, self.intervals.first_pause * float(2 ** min(failures, 20))
        )
        # spreads the reconnections of many mailboxes; not a secret
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    async def _session(self, watch: _Watch) -> None:
        """Read a mailbox over one connection, from greeting to logout."""
        stop = watch.stop
        entering = asyncio.create_task(self._signed_in_session(watch))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not entering.done():
                entering.cancel()
                await asyncio.wait({entering})
        if entering.cancelled():
            return
        session = entering.result()
        cut = asyncio.create_task(self._abort_after_stop(session, stop))
        try:
            await self._read(watch, session)
        except (ConnectionLost, ProtocolError, ImapTimeout):
            watch.fetch_failures.connection_broke()
            if not stop.is_set():
                raise
        finally:
            cut.cancel()
            await session.close()

    async def _signed_in_session(self, watch: _Watch) -> ImapSession:
        """Return a session that is signed in."""
        session = await ImapSession.open(watch.account.server(), self.intervals.timeouts)
        try:
            await watch.account.sign_in(session, self.tokens)
        except BaseException:
            session.abort()
            raise
        watch.lost_logins = 0
        return session

    async def _read(self, watch: _Watch, session: ImapSession) -> None:
        account, stop = watch.account, watch.stop
        reader = MailboxReader(
            account,
            session,
            await self._leased_mailbox(account),
            self.accept,
            self.boxes,
            self.clock,
            watch.fetch_failures,
        )
        await reader.open()
        loop = asyncio.get_running_loop()
        due = loop.time()  # when to search behind the cursor as well
        while not stop.is_set():
            look_back = loop.time() >= due
            if not await reader.catch_up(stop, look_back=look_back):
                continue
            if look_back:
                due = loop.time() + self.intervals.idle
                await self._warn_of_expiry(watch)
            if reader.after_problem is not None:
                await self._report_failure(watch, "failing", reader.after_problem)
            else:
                self._recovered(watch)
            await self._wait_for_mail(watch, session)

    async def _abort_after_stop(self, session: ImapSession, stop: asyncio.Event) -> None:
        """Abort the session some seconds after ``stop``, in case the server stays silent."""
        await stop.wait()
        await asyncio.sleep(self.intervals.goodbye)
        session.abort()

    async def _leased_mailbox(self, account: ImapAccount) -> Mailbox:
        box = await self.boxes.get(account.name)
        if box is None or box.lease_owner != self.boxes.database.node:
            raise MailboxLeaseLost("another process reads the mailbox now")
        return box

    async def _wait_for_mail(self, watch: _Watch, session: ImapSession) -> None:
        """Wait until the server announces mail, or a time limit or ``stop`` ends the wait."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if "IDLE" in session.capabilities and not watch.polled:
            try:
                await session.idle(self.intervals.idle, watch.stop)
            except CommandRefused as error:
                watch.polled = True
                _log.warning(
                    "server refuses IDLE",
                    mailbox=watch.account.log_name,
                    reason=log.redact(error.message),
                )
            if session.new_mail.is_set() or loop.time() - began >= min(
                self.intervals.idle, self.intervals.poll
            ):
                return
        # also if the server ended IDLE at once, so that it is not asked all the time
        await wait(watch.stop, self.intervals.poll)
        if not watch.stop.is_set():
            await session.noop()

    def _recovered(self, watch: _Watch) -> None:
        if watch.alarmed or watch.failures:
            _log.info("mailbox works again", mailbox=watch.account.log_name)
        watch.alarmed = False

    async def _report_failure(self, watch: _Watch, state: State, problem: str) -> None:
        """Record a failure with the mailbox and log it.

        The level is info, then warning; it is error if access is refused or the failure lasts.
        """
        if watch.stop.is_set():
            return
        log_line = (
            _log.error if state == "refused" else _log.warning if watch.failures else _log.info
        )
        log_line(
            f"mailbox {state}",
            mailbox=watch.account.log_name,
            reason=log.redact(problem),
            failures=watch.failures + 1,
        )
        try:
            box = await self._leased_mailbox(watch.account)
            now = self.clock.now()
            await self.boxes.mark_failing(box.id, state, problem, now)
        except Unavailable:
            return  # without the database the failure cannot be recorded
        since = box.failing_since
        if (
            state == "failing"
            and since is not None
            and now - since >= ALARM_AFTER
            and not watch.alarmed
        ):
            watch.alarmed = True
            _log.error(
                "mailbox keeps failing",
                mailbox=watch.account.log_name,
                since=since.isoformat(),
                reason=log.redact(problem),
            )

    async def _warn_of_expiry(self, watch: _Watch) -> None:
        """Log once a day that access to a mailbox will end soon; until then it works."""
        account, today = watch.account, self.clock.now().date()
        if account.client is None or watch.warned_on == today:
            return
        problem = await self.tokens.problem(account.client, account.username)
        if problem is not None:
            watch.warned_on = today
            _log.warning(
                "mailbox access ends soon", mailbox=account.log_name, reason=log.redact(problem)
            )

    async def _wait_for_access(self, watch: _Watch) -> None:
        """Wait after a refused login: for a long time, or until somebody has signed in."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.intervals.refused
        first = before = await self._last_sign_in(watch.account, None)
        while not watch.stop.is_set() and loop.time() < until and before == first:
            await wait(
                watch.stop,
                self.intervals.look if watch.account.client is not None else self.intervals.refused,
            )
            before = await self._last_sign_in(watch.account, before)

    async def _last_sign_in(self, account: ImapAccount, known: datetime | None) -> datetime | None:
        """Return when somebody last signed in; ``known`` if the database cannot be reached."""
        if account.client is None:
            return None
        try:
            row = await self.tokens.stored(account.client, account.username)
        except Unavailable:
            return known
        return row.changed_at if row is not None else None


async def wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for some seconds, or until ``stop`` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
