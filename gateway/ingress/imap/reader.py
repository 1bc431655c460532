r"""Store the mail of one folder, oldest first, and settle each mail on the server afterwards.

To settle a mail is to do what the setting ``after`` says: flag, move or delete it, or keep it as it
is. New mail is found by comparing UIDs with the database, never by sequence numbers or \Seen. A
mail and the position in the folder are stored in one transaction; the mail is settled after the
commit. Steps that a crash left undone are done when the folder is opened again.

If the server assigns new UIDs, everything is read again, and a mail with the same bytes as a stored
one is not stored twice. A mail that the server does not send, or that breaks the connection, is
recorded as unfetchable and retried later; other mails are still read. While database or disk fail,
nothing is changed on the server.
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
from gateway.ingress.imap.commands import MAX_UIDS, ImapSession, Selected
from gateway.ingress.imap.connection import CommandRefused
from gateway.ingress.imap.fetch import FetchedBatch, FetchedMail, Fetcher, FetchFailures
from gateway.ingress.imap.settle import PARTICIPLES, settle
from gateway.store.imap.mailboxes import Automation, Mailbox, Mailboxes
from gateway.store.imap.taken_mail import MailboxPosition

WINDOW_UIDS = 20_000  # in one search; the window grows where no mail is found
LOOK_BACK_UIDS = 500  # below the cursor, searched again
# Mail that arrived this shortly before the mailbox was first opened counts as new.
FRESH_FOR = timedelta(days=1)
RETRY_PAUSES = (  # before an unfetchable mail is tried again; the last one repeats
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)

_log = log.logger("imap")


class MailboxReader:
    """Reads an account's folder over an open session, while this process has the mailbox's lease.

    ``after_problem`` says why the server refused to settle mails, if it refused.
    """

    def __init__(
        self,
        account: ImapAccount,
        session: ImapSession,
        box: Mailbox,
        accept: Acceptor,
        boxes: Mailboxes,
        clock: Clock,
        fetch_failures: FetchFailures,
    ) -> None:
        self.account = account
        self.session = session
        self.box = box
        self.accept = accept
        self.boxes = boxes
        self.clock = clock
        self.fetch_failures = fetch_failures
        self.fetcher = Fetcher(session, accept.directory, fetch_failures)
        self.selected: Selected
        self.last = 0  # the cursor: UIDs up to here were searched
        self._stored = 0  # the last UID handed over for storing
        self._end = 0  # the newest UID when the folder was opened
        self.after_problem: str | None = None  # why the server refuses the action of `after`

    async def open(self) -> None:
        """Open the folder and compare its UIDVALIDITY and UIDNEXT with the database."""
        self.selected = await self.session.select(
            self.account.folder, read_only=self.account.after == "keep"
        )
        validity, following = self.selected.uidvalidity, self.selected.uidnext
        if following is None:
            following = max(await self.session.uids(1), default=0) + 1
        self._end = following - 1
        if validity != self.box.uidvalidity or following <= self.box.last_uid:
            _log.info(
                "mailbox has new UIDs",
                mailbox=self.account.log_name,
                first=self.box.first_seen_at is None,
            )
            await self.boxes.begin(self.box.id, validity, self._end, self.clock.now())
            self.box = await self._reload()
        self.last = self._stored = self.box.last_uid

    async def plan(self, since: date | None, automation: Automation) -> None:
        """Start reading the folder again from the first UID, with rules for the mail in it now.

        Mail older than ``since`` is left out; ``automation`` says for which mails the status rules
        apply.
        """
        await self.boxes.plan(self.box.id, since, automation, self._end, self.clock.now())
        self.box = await self._reload()
        self.last = self._stored = self.box.last_uid

    async def _reload(self) -> Mailbox:
        box = await self.boxes.get(self.box.name)
        assert box is not None  # rows are never deleted
        return box

    async def catch_up(
        self,
        stop: asyncio.Event,
        advance: Callable[[int], None] = lambda _: None,
        *,
        look_back: bool = True,
    ) -> bool:
        """Store all new mail; return False if ``stop`` was set before all was stored.

        ``advance`` is called with the number of mails of each batch. ``look_back`` also searches
        below the cursor (the UID reached so far): with several writers, a mail may appear later
        than one with a higher UID.
        """
        self.after_problem = None
        await self._settle_leftovers()
        while not stop.is_set():
            listed = await self.missing(stop)
            if not listed:
                break
            await self._take(listed, stop, advance)
        if look_back and not stop.is_set():
            await self._take(await self._look_back(), stop, advance, behind_cursor=True)
        if stop.is_set():
            return False
        await self._retry()
        if self.after_problem is not None:
            await self.boxes.mark_failing(
                self.box.id, "failing", self.after_problem, self.clock.now()
            )
        else:
            await self.boxes.mark_ok(self.box.id, self.clock.now())
        return True

    # ---- Which mails are new

    async def missing(self, stop: asyncio.Event) -> list[int]:
        """Return UIDs above the cursor that are not stored; move the cursor past stored ones."""
        at, size = self.last, WINDOW_UIDS
        found: list[int] = []
        while at < self._end and not found and not stop.is_set():
            upto = self._window_end(at, size)
            found = await self._unknown_uids(at + 1, upto)
            if not found:  # an old mailbox may have gaps of millions of UIDs
                at, size = upto, size * 2
        if at > self.last:
            await self.boxes.advance(self.box.id, at)
            self.last = self._stored = at
        if found or stop.is_set():
            return found
        self.session.new_mail.clear()
        return await self._unknown_uids(self.last + 1, None)

    def _window_end(self, at: int, size: int) -> int:
        """Return the last UID of the search window that begins after ``at``.

        The end is at most the newest UID, and no window holds mail from both before and after the
        first opening of the folder.
        """
        upto = min(at + size, self._end)
        return self.box.backlog_end if at < self.box.backlog_end < upto else upto

    async def _unknown_uids(self, first: int, last: int | None) -> list[int]:
        box = self.box
        is_old = last is not None and last <= box.backlog_end
        since = box.backlog_since if is_old else None
        undeleted = is_old and box.last_pass_at is None
        listed = await self.session.uids(first, last, since=since, undeleted=undeleted)
        known = await self.boxes.known(box.id, box.uidvalidity, listed) if listed else set()
        return [uid for uid in listed if uid not in known]

    async def _look_back(self) -> list[int]:
        """Return UIDs just below the cursor that are not stored.

        Mail from before the first opening of the folder is left out.
        """
        first = max(self.box.backlog_end + 1, self.last - LOOK_BACK_UIDS)
        return await self._unknown_uids(first, self.last) if first <= self.last else []

    async def count(self) -> int:
        """Return how many mails are still to be stored."""
        total, at, size = 0, self.last, WINDOW_UIDS
        while at < self._end:
            upto = self._window_end(at, size)
            found = len(await self._unknown_uids(at + 1, upto))
            total, at, size = total + found, upto, WINDOW_UIDS if found else size * 2
        return total

    # ---- Fetch, store, settle

    async def _take(
        self,
        uids: Sequence[int],
        stop: asyncio.Event,
        advance: Callable[[int], None],
        *,
        behind_cursor: bool = False,
    ) -> None:
        """Fetch mails in batches; store and settle each batch while the next is fetched.

        ``behind_cursor`` says that the cursor is past these mails already.
        """
        storing: asyncio.Task[list[int]] | None = None
        try:
            for group in _groups(uids, MAX_UIDS):
                async for batch in self._batches_with_room(group):
                    try:
                        await self._finish_storing(storing, advance)
                    except BaseException:
                        batch.discard()
                        raise
                    storing = asyncio.create_task(
                        self._store(batch.mails, behind_cursor=behind_cursor)
                    )
                self.last = max(self.last, group[-1])
                if stop.is_set():
                    break
            await self._finish_storing(storing, advance)
            storing = None
        finally:
            if storing is not None:
                await asyncio.wait({storing})

    async def _finish_storing(
        self, storing: asyncio.Task[list[int]] | None, advance: Callable[[int], None]
    ) -> None:
        """Wait for a commit, then settle its mails on the server."""
        if storing is not None:
            stored = await storing
            if self.account.after != "keep" and self.after_problem is None:
                await self._settle_some(stored)
            advance(len(stored))

    async def _batches_with_room(self, uids: Sequence[int]) -> AsyncIterator[FetchedBatch]:
        """Yield fetched batches after recording their problems; DiskFull if space is short."""
        self.accept.check_room()
        async for batch in self.fetcher.batches(uids):
            try:
                for uid, problem in batch.problems.items():
                    await self._record_unfetchable(uid, problem)
            except BaseException:
                batch.discard()
                raise
            yield batch

    async def _record_unfetchable(self, uid: int, problem: str) -> None:
        recorded = await self.boxes.owed(self.box.id, self.box.uidvalidity)
        before = next((each.tries for each in recorded if each.uid == uid), 0)
        retry_at = self.clock.now() + RETRY_PAUSES[min(before, len(RETRY_PAUSES) - 1)]
        await self.boxes.record_unfetchable(
            self.box.id, self.box.uidvalidity, uid, problem, retry_at
        )
        _log.warning(
            "mail cannot be fetched",
            mailbox=self.account.log_name,
            uid=uid,
            tries=before + 1,
            reason=log.redact(problem),
        )

    async def _store(
        self, taken: Sequence[FetchedMail], *, behind_cursor: bool = False
    ) -> list[int]:
        """Store these mails in one commit or a few; return their UIDs.

        Raises what :meth:`Acceptor.accept_all` raises.
        """
        positions = []
        for each in taken:
            follows = each.uid if behind_cursor else self._stored
            position = MailboxPosition(
                mailbox=self.box.id,
                uidvalidity=self.box.uidvalidity,
                uid=each.uid,
                follows=follows,
                settled=self.account.after == "keep",
            )
            positions.append(position)
            self._stored = max(self._stored, each.uid)
        await self.accept.accept_all(
            [(each.raw, self._envelope(each)) for each in taken], positions
        )
        return [each.uid for each in taken]

    def _envelope(self, mail: FetchedMail) -> Envelope:
        origin = f"{self.account.name}/{self.box.uidvalidity}/{mail.uid}"
        return Envelope(
            sender=None,
            recipients=(),
            source="imap",
            received_at=self.clock.now(),
            peer=self.account.host,
            trusted_hop=True,
            origin=origin,
            automation=self._rules_apply(mail),
            channel=self.account.channel,
        )

    def _rules_apply(self, mail: FetchedMail) -> bool:
        """Return whether status rules act on a mail.

        They act on all new mail. On mail that existed when the folder was first opened, they act
        only if :meth:`plan` was told so.
        """
        seen, plan = self.box.first_seen_at, self.box.backlog_automation
        if plan == "all" or seen is None or mail.uid > self.box.backlog_end:
            return True
        received = mail.received or seen
        return received > seen or (plan == "fresh" and received >= seen - FRESH_FOR)

    async def _retry(self) -> None:
        """Try again to fetch those unfetchable mails whose retry is due."""
        for each in await self.boxes.owed(self.box.id, self.box.uidvalidity, self.clock.now()):
            async for batch in self._batches_with_room([each.uid]):
                await self._settle_some(await self._store(batch.mails, behind_cursor=True))
                if not batch.mails and not batch.problems:
                    await self.boxes.drop_unfetchable(self.box.id, self.box.uidvalidity, [each.uid])

    async def _settle_leftovers(self) -> None:
        """Settle mails that a crash or a lost connection left unsettled."""
        while self.after_problem is None and (
            left := await self.boxes.unsettled(self.box.id, self.box.uidvalidity, MAX_UIDS)
        ):
            await self._settle_some(left)

    async def _settle_some(self, uids: Sequence[int]) -> None:
        """Settle stored mails; a refusal of the server is noted and does not stop the reading."""
        if not uids:
            return
        try:
            await settle(self.session, self.account, uids)
        except CommandRefused as error:
            self.after_problem = (
                f"mail is stored, but cannot be {PARTICIPLES[self.account.after]}: {error.message}"
            )
        else:
            await self.boxes.settle(self.box.id, self.box.uidvalidity, uids)


def _groups(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (uids[at : at + size] for at in range(0, len(uids), size))
