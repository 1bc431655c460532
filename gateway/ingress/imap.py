"""The watcher of mailboxes: each one on exactly one process, read at once when the server tells of mail, and looked at every few minutes all the same.

What can go wrong: the server, the network, the database or the disk is away (tried again with growing pauses); a login or a token is refused (not
tried again before a quarter of an hour, or until somebody signs in); a mailbox fails for long. Each is a state of the mailbox that a person can see, and
a line in the log; none keeps other mailboxes from being read, and a lost lease ends the reading before anything is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway import log
from gateway.clock import Clock
from gateway.errors import TryAgain
from gateway.ingress.accept import Accept
from gateway.ingress.imap_account import Account
from gateway.ingress.imap_commands import Session
from gateway.ingress.imap_fetch import Suspicion
from gateway.ingress.imap_reader import Reader
from gateway.ingress.imap_session import Broken, ConnectionLost, Deadline, LoginRefused, Patience
from gateway.ingress.oauth import AccessRefused, Tokens
from gateway.store.mailboxes import Mailbox, Mailboxes, State
from gateway.store.marks import LeaseLost

ALARM = timedelta(minutes=10)  # a mailbox that fails for so long is told as an error
_log = log.logger("imap")


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often what happens, in seconds."""

    lease: float = 15.0  # for which a mailbox is ours
    look: float = 5.0  # between two looks at the leases
    idle: float = 270.0  # for which a server is asked to tell of mail (RFC 2177 allows 29 minutes, routers less), and then looked into
    poll: float = 30.0  # between two looks where the server tells nothing by itself
    first_pause: float = 1.0
    last_pause: float = 300.0
    refused: float = 900.0  # after a login that was refused
    goodbye: float = 10.0  # for what is under way when we are to stop
    patience: Patience = field(default_factory=Patience)


@dataclass(slots=True, eq=False)
class _Watch:
    """One mailbox that is ours."""

    account: Account
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    suspicion: Suspicion = field(default_factory=Suspicion)
    failures: int = 0  # in a row
    alarmed: bool = False
    task: asyncio.Task[None] | None = None


class Watcher:
    """Reads all mailboxes whose leases it gets. ``tokens`` gives access tokens to those that need them."""

    name = "mailboxes"

    def __init__(
        self, accounts: Sequence[Account], accept: Accept, boxes: Mailboxes, tokens: Tokens, clock: Clock, rhythm: Rhythm | None = None
    ) -> None:
        self.accounts = {account.name: account for account in accounts}
        self.accept = accept
        self.boxes = boxes
        self.tokens = tokens
        self.clock = clock
        self.rhythm = rhythm or Rhythm()
        self._watches: dict[str, _Watch] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; what is being stored then is finished, and the leases are given back."""
        registered = False
        try:
            while not stop.is_set():
                try:
                    if not registered:
                        await self.boxes.register([(each.name, each.place, each.channel) for each in self.accounts.values()])
                        registered = True
                    await self._look()
                except TryAgain as error:
                    _log.warning("mailboxes cannot be claimed", reason=error.message)
                await wait(stop, self.rhythm.look)
        finally:
            await self._end(list(self._watches))
            with contextlib.suppress(TryAgain):  # then they run out
                await self.boxes.release(list(self.accounts))

    async def _look(self) -> None:
        """Keeps and takes leases; begins what is ours, ends what is not any more."""
        ours = await self.boxes.claim(list(self.accounts), self.rhythm.lease, self.clock.now())
        await self._end([name for name in self._watches if name not in ours])
        for name, box in ours.items():
            if name not in self._watches:
                watch = _Watch(self.accounts[name], alarmed=box.state == "failing")
                watch.task = asyncio.create_task(self._watch(watch), name=f"mailbox {name}")
                self._watches[name] = watch

    async def _end(self, names: Sequence[str]) -> None:
        ended = [self._watches.pop(name) for name in names]
        for watch in ended:
            watch.stop.set()
        await asyncio.gather(*(watch.task for watch in ended if watch.task is not None))

    async def _watch(self, watch: _Watch) -> None:
        """One mailbox, until its stop: connect, read, and again after each failure."""
        account = watch.account
        while not watch.stop.is_set():
            try:
                await self._session(watch)
                continue
            except (AccessRefused, LoginRefused) as error:
                await self._tell(watch, "refused", error.message)
                await self._wait_for_access(watch)
                continue
            except LeaseLost:
                _log.info("mailbox lost", mailbox=account.shown)
            except TryAgain as error:
                await self._tell(watch, "failing", error.message)
            except OSError as error:
                await self._tell(watch, "failing", f"a file of ours cannot be used: {error.strerror}")
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the reading of a mailbox in silence
                _log.error("mailbox stumbled", mailbox=account.shown, **log.error_fields(error))
                await self._tell(watch, "failing", f"something unforeseen happened here ({type(error).__name__}); the log says where")
            await wait(watch.stop, self._pause(watch.failures))
            watch.failures += 1

    def _pause(self, failures: int) -> float:
        longest = min(self.rhythm.last_pause, self.rhythm.first_pause * float(2 ** min(failures, 20)))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that many mailboxes do not come back at once; no secret

    async def _session(self, watch: _Watch) -> None:
        """One connection, from greeting to goodbye."""
        account, stop = watch.account, watch.stop
        session = await Session.open(account.server(), self.rhythm.patience)
        cut = asyncio.create_task(self._cut_off(session, stop))
        try:
            await account.sign_in(session, self.tokens)
            reader = Reader(account, session, await self._mine(account), self.accept, self.boxes, self.clock, watch.suspicion)
            await reader.open()
            while not stop.is_set():
                if await reader.catch_up(stop):
                    self._recovered(watch)
                    await self._news(session, stop)
        except (ConnectionLost, Broken, Deadline):
            watch.suspicion.broken()
            if not stop.is_set():
                raise
        finally:
            cut.cancel()
            await session.close()

    async def _cut_off(self, session: Session, stop: asyncio.Event) -> None:
        """A server that is silent does not keep us from stopping."""
        await stop.wait()
        await asyncio.sleep(self.rhythm.goodbye)
        session.abort()

    async def _mine(self, account: Account) -> Mailbox:
        box = await self.boxes.get(account.name)
        if box is None or box.lease_owner != self.boxes.database.node:
            raise LeaseLost("the mailbox is read by another process now")
        return box

    async def _news(self, session: Session, stop: asyncio.Event) -> None:
        """Returns when it is time to look again."""
        if "IDLE" in session.capabilities:
            await session.idle(self.rhythm.idle, stop)
        else:
            await wait(stop, self.rhythm.poll)
            if not stop.is_set():
                await session.noop()

    def _recovered(self, watch: _Watch) -> None:
        if watch.failures or watch.alarmed:
            _log.info("mailbox is well again", mailbox=watch.account.shown)
        watch.failures, watch.alarmed = 0, False

    async def _tell(self, watch: _Watch, state: State, problem: str) -> None:
        """Makes a failure a state of the mailbox, and says it: quietly the first time, as an error when it is refused or lasts."""
        if watch.stop.is_set():
            return
        say = _log.error if state == "refused" else _log.warning if watch.failures else _log.info
        say(f"mailbox {state}", mailbox=watch.account.shown, reason=log.redact(problem), failures=watch.failures + 1)
        try:
            box = await self._mine(watch.account)
            now = self.clock.now()
            await self.boxes.ailing(box.id, state, problem, now)
            since = box.failing_since
        except TryAgain:
            return  # without the database it is neither kept nor told for how long
        if state == "failing" and since is not None and now - since >= ALARM and not watch.alarmed:
            watch.alarmed = True
            _log.error("mailbox fails for long", mailbox=watch.account.shown, since=since.isoformat(), reason=log.redact(problem))

    async def _wait_for_access(self, watch: _Watch) -> None:
        """A refused login is tried again after a long pause, or as soon as somebody has signed in."""
        account = watch.account
        watch.failures += 1
        if account.client is None:
            await wait(watch.stop, self.rhythm.refused)
            return
        before = await self._changed(account)
        loop = asyncio.get_running_loop()
        until = loop.time() + self.rhythm.refused
        while not watch.stop.is_set() and loop.time() < until and await self._changed(account) == before:
            await wait(watch.stop, self.rhythm.look)

    async def _changed(self, account: Account) -> datetime | None:
        """When somebody last signed in."""
        with contextlib.suppress(TryAgain):
            row = await self.tokens.stored(account.client, account.username) if account.client is not None else None
            return row.changed_at if row is not None else None
        return None


async def wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleeps, but not beyond stop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
