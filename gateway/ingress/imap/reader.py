r"""Takes in what lies in one folder of a mailbox, oldest first, and does with each mail on the
server what was asked for, after its commit.

Which mails are new is decided by UID against what the database knows, never by sequence numbers or
\\Seen. The order of things: bytes from the server, one transaction for mail and place, then the
flag, the move or the removal; a crash between any two is made up for at the next opening.

What can go wrong: the server gives other UIDs than before (then everything is read again, and what
is known by its bytes is not stored twice); it leaves a mail out of its answer, refuses it or breaks
the connection on it (then that mail is owed: written down, told, and tried again later, while the
others go on); the store or the disk is away (then nothing is done on the server).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date, timedelta

from core.model.message import Envelope
from gateway import log
from gateway.clock import Clock
from gateway.ingress.accept import Acceptor
from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import FETCH_MOST, ImapSession, Selected
from gateway.ingress.imap.connection import CommandRefused
from gateway.ingress.imap.fetch import FetchedBatch, Fetcher, Suspicion, Taken
from gateway.ingress.imap.settle import DONE, settle
from gateway.store.imap.mailboxes import Automation, Mailbox, Mailboxes
from gateway.store.imap.taken_mail import MailboxPosition

WINDOW = 20_000  # UIDs asked for at a time, and more where there are none
BEHIND = 500  # UIDs behind the cursor that are looked at again
FRESH = timedelta(
    days=1
    # mail that lay there no longer than this when the mailbox was first opened is answered like new
    # mail
)
RETRY = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)  # of owed mail, the last for ever

_log = log.logger("imap")


class MailboxReader:
    """The folder of an account on an open session, whose lease this process holds."""

    def __init__(
        self,
        account: ImapAccount,
        session: ImapSession,
        box: Mailbox,
        accept: Acceptor,
        boxes: Mailboxes,
        clock: Clock,
        suspicion: Suspicion,
    ) -> None:
        self.account = account
        self.session = session
        self.box = box
        self.accept = accept
        self.boxes = boxes
        self.clock = clock
        self.suspicion = suspicion
        self.fetcher = Fetcher(session, accept.directory, suspicion)
        self.selected: Selected
        self.last = 0  # everything up to here was looked at
        self._stored = 0  # the UID after which the next mail follows
        self._end = 0  # the newest UID at the opening
        self.trouble: str | None = None  # what the server refuses after the commit

    async def open(self) -> None:
        """Opens the folder and compares its numbers with ours."""
        self.selected = await self.session.select(
            self.account.folder, read_only=self.account.after == "keep"
        )
        validity, following = self.selected.uidvalidity, self.selected.uidnext
        if following is None:
            following = max(await self.session.uids(1), default=0) + 1
        self._end = following - 1
        if validity != self.box.uidvalidity or following <= self.box.last_uid:
            _log.info(
                "mailbox has new numbers",
                mailbox=self.account.shown,
                first=self.box.first_seen_at is None,
            )
            await self.boxes.begin(self.box.id, validity, self._end, self.clock.now())
            self.box = await self._again()
        self.last = self._stored = self.box.last_uid

    async def plan(self, since: date | None, automation: Automation) -> None:
        """Looks through everything once more, with wishes for what lies there now."""
        await self.boxes.plan(self.box.id, since, automation, self._end, self.clock.now())
        self.box = await self._again()
        self.last = self._stored = self.box.last_uid

    async def _again(self) -> Mailbox:
        box = await self.boxes.get(self.box.name)
        assert box is not None  # rows are never deleted
        return box

    async def catch_up(
        self,
        stop: asyncio.Event,
        advance: Callable[[int], None] = lambda _: None,
        *,
        behind: bool = True,
    ) -> bool:
        """Takes in everything that is there; whether it came to the end before ``stop``.
        ``advance`` is told how many mails are done.

        ``behind`` looks behind the cursor too: servers with several writers may show a mail after
        one with a higher UID.
        """
        self.trouble = None
        await self._settle()
        while not stop.is_set():
            listed = await self.missing(stop)
            if not listed:
                break
            await self._take(listed, stop, advance)
        if behind and not stop.is_set():
            await self._take(await self._overlooked(), stop, advance, beside=True)
        if stop.is_set():
            return False
        await self._retry()
        if self.trouble is not None:
            await self.boxes.mark_failing(self.box.id, "failing", self.trouble, self.clock.now())
        else:
            await self.boxes.mark_ok(self.box.id, self.clock.now())
        return True

    # ---- which

    async def missing(self, stop: asyncio.Event) -> list[int]:
        """UIDs beyond :attr:`last` that the database does not know, ascending. Where there are none
        the cursor moves on.
        """
        at, size = self.last, WINDOW
        found: list[int] = []
        while at < self._end and not found and not stop.is_set():
            upto = self._until(at, size)
            found = await self._window(at + 1, upto)
            at, size = (
                (at, size) if found else (upto, size * 2)
            )  # between the UIDs of an old mailbox there may be millions
        if at > self.last:
            await self.boxes.advance(self.box.id, at)
            self.last = self._stored = at
        if found or stop.is_set():
            return found
        self.session.news.clear()
        return await self._window(self.last + 1, None)

    def _until(self, at: int, size: int) -> int:
        """The end of the window after ``at``: at most what is there, and what lay there from the
        beginning apart from the rest.
        """
        upto = min(at + size, self._end)
        return self.box.backlog_end if at < self.box.backlog_end < upto else upto

    async def _window(self, first: int, last: int | None) -> list[int]:
        old = last is not None and last <= self.box.backlog_end
        since = self.box.backlog_since if old else None
        there = await self.session.uids(
            first, last, since=since, kept=old and self.box.last_pass_at is None
        )
        known = await self.boxes.known(self.box.id, self.box.uidvalidity, there) if there else set()
        return [uid for uid in there if uid not in known]

    async def _overlooked(self) -> list[int]:
        """Mails a little behind the cursor that the database does not know, of those that came in
        after the beginning.
        """
        first = max(self.box.backlog_end + 1, self.last - BEHIND)
        return await self._window(first, self.last) if first <= self.last else []

    async def count(self) -> int:
        """How many mails are still to be taken in, as of now."""
        total, at, size = 0, self.last, WINDOW
        while at < self._end:
            upto = self._until(at, size)
            found = len(await self._window(at + 1, upto))
            total, at, size = total + found, upto, WINDOW if found else size * 2
        return total

    # ---- fetch, store, settle

    async def _take(
        self,
        uids: Sequence[int],
        stop: asyncio.Event,
        advance: Callable[[int], None],
        *,
        beside: bool = False,
    ) -> None:
        """Fetches while what came before is being stored. ``beside``: the cursor is beyond these
        mails already.
        """
        storing: asyncio.Task[list[int]] | None = None
        try:
            for group in _groups(uids, FETCH_MOST):
                async for haul in self._hauls(group):
                    try:
                        await self._done(storing, advance)
                    except BaseException:
                        haul.discard()
                        raise
                    storing = asyncio.create_task(self._store(haul.mails, beside=beside))
                self.last = max(self.last, group[-1])
                if stop.is_set():
                    break
            await self._done(storing, advance)
            storing = None
        finally:
            if storing is not None:
                await asyncio.wait({storing})

    async def _done(
        self, storing: asyncio.Task[list[int]] | None, advance: Callable[[int], None]
    ) -> None:
        """Waits for a commit, and does with its mails what is to be done on the server."""
        if storing is not None:
            stored = await storing
            if self.account.after != "keep" and self.trouble is None:
                await self._settle_some(stored)
            advance(len(stored))

    async def _hauls(self, uids: Sequence[int]) -> AsyncIterator[FetchedBatch]:
        """What fetching gives, while there is room for it; what could not be had is written down
        first.
        """
        self.accept.check_room()
        async for haul in self.fetcher.hauls(uids):
            try:
                for uid, problem in haul.problems.items():
                    await self._owe(uid, problem)
            except BaseException:
                haul.discard()
                raise
            yield haul

    async def _owe(self, uid: int, problem: str) -> None:
        before = next(
            (
                each.tries
                for each in await self.boxes.owed(self.box.id, self.box.uidvalidity)
                if each.uid == uid
            ),
            0,
        )
        retry_at = self.clock.now() + RETRY[min(before, len(RETRY) - 1)]
        await self.boxes.record_unfetchable(
            self.box.id, self.box.uidvalidity, uid, problem, retry_at
        )
        _log.warning(
            "mail cannot be fetched",
            mailbox=self.account.shown,
            uid=uid,
            tries=before + 1,
            reason=log.redact(problem),
        )

    async def _store(self, taken: Sequence[Taken], *, beside: bool = False) -> list[int]:
        """One commit, or a few, for these mails; returns their UIDs. Raises what
        :meth:`Acceptor.accept_all` raises.
        """
        marks = []
        for each in taken:
            follows = each.uid if beside else self._stored
            marks.append(
                MailboxPosition(
                    self.box.id,
                    self.box.uidvalidity,
                    each.uid,
                    follows,
                    self.account.after == "keep",
                )
            )
            self._stored = max(self._stored, each.uid)
        await self.accept.accept_all([(each.raw, self._envelope(each)) for each in taken], marks)
        return [each.uid for each in taken]

    def _envelope(self, mail: Taken) -> Envelope:
        origin = f"{self.account.name}/{self.box.uidvalidity}/{mail.uid}"
        peer, channel = self.account.host, self.account.channel
        automation = self._answered(mail)
        return Envelope(
            None,
            (),
            "imap",
            self.clock.now(),
            peer,
            trusted_hop=True,
            origin=origin,
            automation=automation,
            channel=channel,
        )

    def _answered(self, mail: Taken) -> bool:
        """Whether rules act on a mail: always, unless it lay there before we came and the plan for
        such mail says otherwise.
        """
        seen, plan = self.box.first_seen_at, self.box.backlog_automation
        if plan == "all" or seen is None or mail.uid > self.box.backlog_end:
            return True
        received = mail.received or seen
        return received > seen or (plan == "fresh" and received >= seen - FRESH)

    async def _retry(self) -> None:
        """Once more for mails that could not be fetched and are due."""
        for each in await self.boxes.owed(self.box.id, self.box.uidvalidity, self.clock.now()):
            async for haul in self._hauls([each.uid]):
                await self._settle_some(await self._store(haul.mails, beside=True))
                if not haul.mails and not haul.problems:
                    await self.boxes.drop_unfetchable(self.box.id, self.box.uidvalidity, [each.uid])

    async def _settle(self) -> None:
        """What a crash or a lost connection left undone on the server."""
        while self.trouble is None and (
            left := await self.boxes.unsettled(self.box.id, self.box.uidvalidity, FETCH_MOST)
        ):
            await self._settle_some(left)

    async def _settle_some(self, uids: Sequence[int]) -> None:
        """Flags, moves or removes mails that are stored. A server that refuses does not keep new
        mail from being taken in.
        """
        if not uids:
            return
        try:
            await settle(self.session, self.account, uids)
        except CommandRefused as error:
            self.trouble = f"mail is taken in, but not {DONE[self.account.after]}: {error.message}"
        else:
            await self.boxes.settle(self.box.id, self.box.uidvalidity, uids)


def _groups(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (uids[at : at + size] for at in range(0, len(uids), size))
