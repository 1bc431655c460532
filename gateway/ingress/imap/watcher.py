"""The watcher of mailboxes: each one on exactly one process, read at once when the server tells of
mail, and looked at every few minutes all the same.

What can go wrong: the server, the network, the database or the disk is away (tried again with
growing pauses); a login or a token is refused (not tried again before a quarter of an hour, or
until somebody signs in); a mailbox fails for long. Each is a state of the mailbox that a person can
see, and a line in the log; none keeps other mailboxes from being read, and a lost lease ends the
reading before anything is stored.
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
from gateway.ingress.imap.commands import ImapSession, LostInLogin
from gateway.ingress.imap.connection import (
    Broken,
    CommandRefused,
    ConnectionLost,
    Deadline,
    LoginRefused,
    Patience,
)
from gateway.ingress.imap.fetch import Suspicion
from gateway.ingress.imap.reader import MailboxReader
from gateway.ingress.spool_files import remove_leftovers
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.imap.mailboxes import Mailbox, Mailboxes, State
from gateway.store.imap.taken_mail import MailboxLeaseLost

ALARM = timedelta(minutes=10)  # a mailbox that fails for so long is told as an error
_log = log.logger("imap")


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often what happens, in seconds."""

    lease: float = 15.0  # for which a mailbox is ours
    look: float = 5.0  # between two looks at the leases
    # for which a server is asked to tell of mail (RFC 2177 allows 29 minutes, routers less), and
    # then looked into
    idle: float = 270.0
    poll: float = 30.0  # between two looks where the server tells nothing by itself
    first_pause: float = 1.0
    last_pause: float = 300.0
    refused: float = 900.0  # after a login that was refused
    steady: float = (
        60.0  # a connection that lasted so long has made good for those that failed before
    )
    goodbye: float = 10.0  # for what is under way when we are to stop
    patience: Patience = field(default_factory=Patience)


@dataclass(slots=True, eq=False)
class _Watch:
    """One mailbox that is ours."""

    account: ImapAccount
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    suspicion: Suspicion = field(default_factory=Suspicion)
    failures: int = 0  # in a row
    hung_up: int = 0  # logins in a row that ended with the connection
    alarmed: bool = False
    polled: bool = False  # the server refuses IDLE
    warned_on: date | None = None  # the day on which it was last said that access will end
    task: asyncio.Task[None] | None = None


class Watcher:
    """Reads all mailboxes whose leases it gets. ``tokens`` gives access tokens to those that need
    them.
    """

    name = "mailboxes"

    def __init__(
        self,
        accounts: Sequence[ImapAccount],
        accept: Acceptor,
        boxes: Mailboxes,
        tokens: Tokens,
        clock: Clock,
        rhythm: Intervals | None = None,
    ) -> None:
        self.accounts = {account.name: account for account in accounts}
        self.accept = accept
        self.boxes = boxes
        self.tokens = tokens
        self.clock = clock
        self.rhythm = rhythm or Intervals()
        self._watches: dict[str, _Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; what is being stored then is finished, and the leases are given back."""
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
                    await self._look()
                except Unavailable as error:
                    _log.warning("mailboxes cannot be claimed", reason=error.message)
                await wait(stop, self.rhythm.look)
        finally:
            self._end(list(self._watches))
            await asyncio.gather(*self._ending, return_exceptions=True)
            with contextlib.suppress(Unavailable):  # then they run out
                await self.boxes.release(list(self.accounts))

    async def _look(self) -> None:
        """Keeps and takes leases; begins what is ours, ends what is not any more. It waits for no
        mailbox, or the leases of others would run out.
        """
        ours = await self.boxes.claim(list(self.accounts), self.rhythm.lease, self.clock.now())
        self._end([name for name in self._watches if name not in ours])
        for name in ours:
            watch = self._watches.get(name)
            if watch is not None and watch.task is not None and watch.task.done():
                error = watch.task.exception() if not watch.task.cancelled() else None
                _log.error(
                    "mailbox reader ended",
                    mailbox=watch.account.shown,
                    **(log.error_fields(error) if error is not None else {}),
                )
                watch = None
            if watch is None and name not in {task.get_name() for task in self._ending}:
                watch = _Watch(self.accounts[name])
                watch.task = asyncio.create_task(self._watch(watch), name=name)
                self._watches[name] = watch

    def _end(self, names: Sequence[str]) -> None:
        for watch in [self._watches.pop(name) for name in names]:
            watch.stop.set()
            if watch.task is not None:
                self._ending.add(watch.task)
                watch.task.add_done_callback(self._ending.discard)

    async def _watch(self, watch: _Watch) -> None:
        """One mailbox, until its stop: connect, read, and again after each failure."""
        loop = asyncio.get_running_loop()
        while not watch.stop.is_set():
            began = loop.time()
            refused = await self._tried(watch)
            if watch.stop.is_set():
                return
            if refused:
                await self._wait_for_access(watch)
                continue
            if loop.time() - began >= self.rhythm.steady:
                watch.failures = 0
            await wait(watch.stop, self._pause(watch.failures))
            watch.failures += 1

    async def _tried(self, watch: _Watch) -> bool:
        """One connection, and what its end means; whether we are not let in."""
        try:
            await self._session(watch)
        except (AccessRefused, LoginRefused) as error:
            await self._tell(watch, "refused", error.message)
            return True
        except LostInLogin as error:
            watch.hung_up += 1
            await self._tell(watch, "refused" if watch.hung_up > 1 else "failing", error.message)
            return watch.hung_up > 1
        except MailboxLeaseLost:
            _log.info("mailbox lost", mailbox=watch.account.shown)
        except Unavailable as error:
            await self._tell(watch, "failing", error.message)
        except OSError as error:
            await self._tell(watch, "failing", f"a file of ours cannot be used: {error.strerror}")
        # whatever it is, it must not end the reading of a mailbox in silence
        except Exception as error:  # noqa: BLE001
            _log.error("mailbox stumbled", mailbox=watch.account.shown, **log.error_fields(error))
            await self._tell(
                watch,
                "failing",
                f"something unforeseen happened here ({type(error).__name__}); the log says where",
            )
        return False

    def _pause(self, failures: int) -> float:
        longest = min(
            self.rhythm.last_pause, self.rhythm.first_pause * float(2 ** min(failures, 20))
        )
        # so that many mailboxes do not come back at once; no secret
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    async def _session(self, watch: _Watch) -> None:
        """One connection, from greeting to goodbye."""
        stop = watch.stop
        entering = asyncio.create_task(self._entered(watch))
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
        cut = asyncio.create_task(self._cut_off(session, stop))
        try:
            await self._read(watch, session)
        except (ConnectionLost, Broken, Deadline):
            watch.suspicion.broken()
            if not stop.is_set():
                raise
        finally:
            cut.cancel()
            await session.close()

    async def _entered(self, watch: _Watch) -> ImapSession:
        """A session that is signed in."""
        session = await ImapSession.open(watch.account.server(), self.rhythm.patience)
        try:
            await watch.account.sign_in(session, self.tokens)
        except BaseException:
            session.abort()
            raise
        watch.hung_up = 0
        return session

    async def _read(self, watch: _Watch, session: ImapSession) -> None:
        account, stop = watch.account, watch.stop
        reader = MailboxReader(
            account,
            session,
            await self._mine(account),
            self.accept,
            self.boxes,
            self.clock,
            watch.suspicion,
        )
        await reader.open()
        loop = asyncio.get_running_loop()
        due = loop.time()  # when to look behind the cursor too
        while not stop.is_set():
            behind = loop.time() >= due
            if not await reader.catch_up(stop, behind=behind):
                continue
            if behind:
                due = loop.time() + self.rhythm.idle
                await self._warn(watch)
            if reader.trouble is not None:
                await self._tell(watch, "failing", reader.trouble)
            else:
                self._recovered(watch)
            await self._news(watch, session)

    async def _cut_off(self, session: ImapSession, stop: asyncio.Event) -> None:
        """A server that is silent does not keep us from stopping."""
        await stop.wait()
        await asyncio.sleep(self.rhythm.goodbye)
        session.abort()

    async def _mine(self, account: ImapAccount) -> Mailbox:
        box = await self.boxes.get(account.name)
        if box is None or box.lease_owner != self.boxes.database.node:
            raise MailboxLeaseLost("the mailbox is read by another process now")
        return box

    async def _news(self, watch: _Watch, session: ImapSession) -> None:
        """Returns when it is time to look again: the server tells of mail, or some minutes have
        passed.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if "IDLE" in session.capabilities and not watch.polled:
            try:
                await session.idle(self.rhythm.idle, watch.stop)
            except CommandRefused as error:
                watch.polled = True
                _log.warning(
                    "server does not idle",
                    mailbox=watch.account.shown,
                    reason=log.redact(error.message),
                )
            if session.news.is_set() or loop.time() - began >= min(
                self.rhythm.idle, self.rhythm.poll
            ):
                return
        await wait(
            watch.stop, self.rhythm.poll
        )  # nor is a server asked all the time that ends each wait at once
        if not watch.stop.is_set():
            await session.noop()

    def _recovered(self, watch: _Watch) -> None:
        if watch.alarmed or watch.failures:
            _log.info("mailbox is well", mailbox=watch.account.shown)
        watch.alarmed = False

    async def _tell(self, watch: _Watch, state: State, problem: str) -> None:
        """Makes a failure a state of the mailbox, and says it: quietly the first time, as an error
        when it is refused or lasts.
        """
        if watch.stop.is_set():
            return
        say = _log.error if state == "refused" else _log.warning if watch.failures else _log.info
        say(
            f"mailbox {state}",
            mailbox=watch.account.shown,
            reason=log.redact(problem),
            failures=watch.failures + 1,
        )
        try:
            box = await self._mine(watch.account)
            now = self.clock.now()
            await self.boxes.mark_failing(box.id, state, problem, now)
        except Unavailable:
            return  # without the database it is neither kept nor told for how long
        since = box.failing_since
        if state == "failing" and since is not None and now - since >= ALARM and not watch.alarmed:
            watch.alarmed = True
            _log.error(
                "mailbox fails for long",
                mailbox=watch.account.shown,
                since=since.isoformat(),
                reason=log.redact(problem),
            )

    async def _warn(self, watch: _Watch) -> None:
        """Says once a day that the access to a mailbox will end soon, while it still works."""
        account, today = watch.account, self.clock.now().date()
        if account.client is None or watch.warned_on == today:
            return
        problem = await self.tokens.problem(account.client, account.username)
        if problem is not None:
            watch.warned_on = today
            _log.warning("mailbox access ends", mailbox=account.shown, reason=log.redact(problem))

    async def _wait_for_access(self, watch: _Watch) -> None:
        """A refused login is tried again after a long pause, or as soon as somebody has signed in."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.rhythm.refused
        first = before = await self._signed_in(watch.account, None)
        while not watch.stop.is_set() and loop.time() < until and before == first:
            await wait(
                watch.stop,
                self.rhythm.look if watch.account.client is not None else self.rhythm.refused,
            )
            before = await self._signed_in(watch.account, before)

    async def _signed_in(self, account: ImapAccount, known: datetime | None) -> datetime | None:
        """When somebody last signed in; what is ``known`` where the database is away."""
        if account.client is None:
            return None
        try:
            row = await self.tokens.stored(account.client, account.username)
        except Unavailable:
            return known
        return row.changed_at if row is not None else None


async def wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleeps, but not beyond stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
