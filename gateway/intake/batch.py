"""The story of a batch of mails, from what was read to rows: one ordered transaction, a few set
queries, one pass in order of receipt.

Everything a mail needs is resolved here (channel, sender, verdict, tie) and handed to
``core.decide``; what it decides ``gateway.apply.applier`` performs. Nothing here looks at raw mail.
When a batch raises, nothing of it was written and the caller takes it apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from core.decide import decide
from core.decisions.tickets import Finish
from core.events import Delivered, MailArrived, Original, Sender, Verdict
from core.mail.threading import TicketRef, Tie, ids_of, tie
from core.model.message import Envelope, Message
from core.model.ticket import Contact, Thread, Ticket, User
from gateway.apply.applier import Applier
from gateway.apply.context import MailContext
from gateway.desk.transaction import state_of
from gateway.intake.recipients import channel_at, channels_of
from gateway.intake.token_lookup import (
    TokenLookup,
    load_deliveries,
    read_marks,
    reported,
    reporting,
)
from gateway.reading.authentication import verdict
from gateway.store.queues.spool import EarlierMail, Finished, by_fingerprint, finish, repeated
from gateway.store.tickets.tickets import subject_key
from gateway.store.tickets.unit_of_work import Connection, UnitOfWork

REPEAT_WINDOW = timedelta(days=7)  # behaviour.md 2.1 step 1, for mail without a Message-ID


@dataclass(frozen=True, slots=True)
class Item:
    """A mail of the batch: its register entry and what reading it gave. ``now`` is the instant it
    counts as processed.
    """

    mail_id: int
    envelope: Envelope
    message: Message
    released: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all mail of a run: the account's zone, whose Authentication-Results count, and
    where mail goes that names no channel.

    ``fallback`` is the address of a channel; the default one where it is empty.
    """

    zone: tzinfo
    trusted: frozenset[str] = frozenset()
    fallback: str = ""


def fingerprint(message: Message) -> bytes:
    """16 bytes that two mails share when they are the same mail (behaviour.md 2.1 step 1)."""
    what = (
        f"{message.message_id}\0{message.content_digest}"
        if message.message_id
        else message.plain_digest
    )
    return hashlib.sha256(what.encode("utf-8", "replace")).digest()[:16]


class Batch:
    """One transaction's worth of mails; :meth:`run` is the whole story."""

    def __init__(
        self, connection: Connection, rules: Rules, items: Sequence[Item], now: datetime
    ) -> None:
        self.connection = connection
        self.rules = rules
        self.items = items
        self.now = now
        self.unit: UnitOfWork
        self.known: dict[bytes, EarlierMail] = {}
        self.repeated: set[tuple[int, int]] = set()
        self.deliveries: dict[int, Delivered] = {}

    async def run(self) -> list[Finished]:
        """Decide and perform every mail in order; returns the register entries as written."""
        self.unit = await UnitOfWork.open(self.connection, self.now)
        marks = [read_marks(self.unit.desk, item.envelope, item.message) for item in self.items]
        await self._load(marks)
        state = state_of(self.unit, self.rules.zone)
        applier = Applier(self.unit, self.now, zone=self.rules.zone)
        hands = []
        for item, mark in zip(self.items, marks, strict=True):
            applier.now = item.now
            event = self._event(item, mark)
            hand = MailContext(
                event.message,
                item.mail_id,
                item.envelope.received_at,
                event.verdict,
                event.sender.user,
                _channel_id(event),
            )
            applier.perform(decide(event, state, item.now), hand)
            self._remember(item, hand, event)
            hands.append((item, hand, event, self._outcome(hand, event)))
        await applier.finish()
        await self.unit.flush()
        rows = [self._finished(*each) for each in hands]
        await finish(self.connection, rows)
        return rows

    # ---- what the batch touches

    async def _load(self, marks: Sequence[TokenLookup]) -> None:
        refs: set[str] = set()
        addresses: set[str] = set()
        for item, mark in zip(self.items, marks, strict=True):
            message = item.message
            refs.update(ids_of(mark.message))
            addresses.update(
                each.key
                for each in (
                    *message.to,
                    *message.cc,
                    *((message.sender,) if message.sender else ()),
                )
            )
            if message.forward is not None and message.forward.sender is not None:
                addresses.add(message.forward.sender.key)
        named = [each for mark in marks for each in (mark.reply, mark.tag) if each is not None]
        threads = {thread for mark in marks for thread in mark.own.values()} | {
            each.thread for each in named if each.thread
        }
        await self.unit.load_for(refs, addresses, threads, {each.ticket for each in named})
        self.deliveries = await load_deliveries(self.unit, marks)
        pairs = {
            (contact.id, subject_key(i.message.subject))
            for i in self.items
            if i.message.sender and (contact := self.unit.contact_at(i.message.sender.key))
        }
        await self.unit.load_earlier(pairs)
        self.known = await by_fingerprint(
            self.connection, {fingerprint(item.message) for item in self.items}
        )
        if self.known:
            self.repeated = await repeated(self.connection, self.known.keys())
        # A mail without a Message-ID leads to its original by nothing else.
        unseen = {
            known.thread for known in self.known.values() if known.thread
        } - self.unit.threads.keys()
        if unseen:
            await self.unit.load_for((), (), unseen, ())

    # ---- one mail

    def _event(self, item: Item, mark: TokenLookup) -> MailArrived:
        unit, message, envelope = (
            self.unit,
            reporting(mark, self.deliveries, item.envelope),
            item.envelope,
        )
        named = (
            channel_at(unit.desk.channels, each) for each in (envelope.channel, self.rules.fallback)
        )
        fallback = next(
            (channel for channel in named if channel is not None), unit.desk.default_channel
        )
        channels = channels_of(unit.desk.channels, fallback, envelope, message)
        found = self._tie(mark, message)
        thread = unit.follow(found.thread) if found.thread is not None else None
        ticket = unit.live_ticket(
            thread.ticket if thread is not None and thread.ticket is not None else found.ticket
        )
        judged = self._verdict(message)
        user = unit.desk.users.get(message.sender.key) if message.sender else None
        sender = self._sender(message, user, thread, ticket)
        joined = tuple(
            (each, unit.live_ticket(each.ticket))
            for number in found.joins
            if (each := unit.follow(number)) is not None
        )
        copy = mark.own.get(message.message_id or "")
        return MailArrived(
            message=message,
            received_at=item.envelope.received_at,
            channels=channels,
            sender=sender,
            verdict=judged,
            tie=found,
            duplicate_of=self._original(item),
            reused_id=self._reused(message),
            own_copy=self._sent(copy) if copy is not None else None,
            looped=any(channel_at(unit.desk.channels, each) for each in message.loop_marks),
            spam=message.spam_flag and (envelope.trusted_hop or self._trusted(message)),
            trusted_user=user is not None and judged == "pass",
            thread=thread,
            ticket=ticket,
            joined=joined,
            earlier_open=self._earlier(message, sender.contact)
            if thread is None and found.ticket is None
            else (),
            released=item.released,
            automation=envelope.automation,
            deliveries=reported(message, mark, self.deliveries),
            returned=mark.returned,
            relayed_by=user
            if user is not None and user.id == mark.relay and judged != "fail"
            else None,
        )

    def _verdict(self, message: Message) -> Verdict:
        """What authentication says. With several authors "pass" is about one of them, and nobody
        can tell which: it proves nothing.
        """
        judged: Verdict = verdict(message.authentication, self.rules.trusted)
        return (
            "none"
            if judged == "pass" and any(defect.startswith("several ") for defect in message.defects)
            else judged
        )

    def _tie(self, mark: TokenLookup, message: Message) -> Tie:
        unit = self.unit
        refs = unit.known_refs(ids_of(message))
        own = {
            each: thread.id
            for each, number in mark.own.items()
            if each != message.message_id and (thread := unit.follow(number)) is not None
        }
        named = {*own.values(), *(ref.thread for rows in refs.values() for ref in rows)}
        forwards = frozenset(each for each in named if unit.threads[each].kind == "forward")
        reply, tag = self._marked(mark.reply), self._marked(mark.tag)
        if tag is not None and not self._takes_part(message, tag):
            tag = None
        return tie(
            message,
            refs,
            reply_address=reply,
            own_ids=own,
            subject_tag=tag,
            forward_threads=forwards,
        )

    def _marked(self, mark: TicketRef | None) -> TicketRef | None:
        """What a mark names as things stand: merges followed, and the thread when it still is one
        of the ticket's.
        """
        ticket = self.unit.live_ticket(mark.ticket) if mark is not None else None
        if mark is None or ticket is None:
            return None
        own = [
            thread
            for thread in self.unit.threads_of(ticket.number)
            if thread.redirect_to is None or ticket.deleted_at is not None
        ]
        named = self.unit.follow(mark.thread) if mark.thread is not None else None
        if named is None or named.ticket != ticket.number:
            named = next(
                (thread for thread in own if thread.origin and thread.kind == "normal"), None
            )
        return TicketRef(ticket.number, named.id if named is not None else None)

    def _takes_part(self, message: Message, tag: TicketRef) -> bool:
        if message.sender is None:
            return False
        contact, ticket = (
            self.unit.contact_at(message.sender.key),
            self.unit.tickets.get(tag.ticket),
        )
        thread = self.unit.threads.get(tag.thread) if tag.thread is not None else None
        part = self.unit.part_of(contact.id, thread, ticket) if contact is not None else None
        return message.sender.key in self.unit.desk.users or part in (
            "requester",
            "associated",
            "participant",
        )

    def _sender(
        self, message: Message, user: User | None, thread: Thread | None, ticket: Ticket | None
    ) -> Sender:
        unit = self.unit
        contact = unit.contact_at(message.sender.key) if message.sender else None
        part = unit.part_of(contact.id, thread, ticket) if contact is not None else None
        if thread is not None and ticket is None and not unit.participants[thread.id]:
            part = (
                "participant"  # only machines wrote here so far: whoever comes first is no stranger
            )
        own = (
            message.sender is not None
            and channel_at(unit.desk.channels, message.sender.key) is not None
        )
        return Sender(contact, user, own, contact is not None or user is not None, part)

    def _earlier(self, message: Message, contact: Contact | None) -> tuple[int, ...]:
        if contact is None:
            return ()
        numbers = self.unit.earlier.get((contact.id, subject_key(message.subject)), [])
        return tuple(numbers[:1])

    def _trusted(self, message: Message) -> bool:
        """Whether a server of ours left its results in the mail, so that its other marks are ours
        too.
        """
        ids = {each.lower() for each in self.rules.trusted}
        return any(each.authserv_id in ids for each in message.authentication)

    # ---- the same mail again

    def _sent(self, thread_id: int) -> Original:
        """The mail of ours that came back, by the thread in its signed id: it stands in no register
        of mail.
        """
        thread = self.unit.follow(thread_id)
        ticket = self.unit.live_ticket(thread.ticket) if thread is not None else None
        return Original(
            None, None, thread.id if thread else None, ticket.number if ticket else None
        )

    def _original(self, item: Item) -> Original | None:
        known = self.known.get(fingerprint(item.message))
        if known is None or known.mail_id == item.mail_id:
            return None
        if item.message.message_id is None and abs(item.now - known.processed_at) > REPEAT_WINDOW:
            return None
        thread = self.unit.follow(known.thread) if known.thread is not None else None
        ticket = self.unit.live_ticket(thread.ticket if thread is not None else known.ticket)
        channel = next(
            (each for each in self.unit.desk.channels.values() if each.id == known.channel), None
        )
        again = frozenset(place for mail, place in self.repeated if mail == known.mail_id)
        place = thread.id if thread else None
        return Original(
            known.mail_id,
            channel,
            place,
            ticket.number if ticket else None,
            again,
            known.state == "quarantined",
        )

    def _reused(self, message: Message) -> bool:
        rows = self.unit.known_refs([message.message_id]) if message.message_id else {}
        return any(ref.held for refs in rows.values() for ref in refs)

    def _remember(self, item: Item, hand: MailContext, event: MailArrived) -> None:
        """Later mails of the batch see this one as earlier mail, and deliveries that came back by
        it as failed.
        """
        failed = {row.id for row in self.unit.outward.failed}
        self.deliveries.update(
            (each.id, replace(each, state="failed"))
            for each in event.deliveries
            if each.id in failed
        )
        if hand.finish is None:
            return
        if hand.finish.state == "duplicate":
            if (channel := _channel_id(event)) is not None and hand.finish.original is not None:
                self.repeated.add((hand.finish.original, channel))
            return
        mark = fingerprint(item.message)
        if mark not in self.known or self.known[mark].state == "quarantined":
            place = (hand.thread or None, hand.ticket or None, _channel_id(event))
            self.known[mark] = EarlierMail(item.mail_id, item.now, *place, hand.finish.state)
        if hand.created_ticket and hand.contact is not None:
            self.unit.earlier.setdefault(
                (hand.contact.id, subject_key(item.message.subject)), []
            ).insert(0, hand.ticket)

    # ---- the register

    def _finished(
        self, item: Item, hand: MailContext, event: MailArrived, outcome: dict[str, Any]
    ) -> Finished:
        ended = _ended(hand)
        original = _repeated(event, ended)
        thread_id = original.thread if original is not None else hand.thread or None
        thread = self.unit.follow(thread_id) if thread_id else None
        ticket = self.unit.live_ticket(
            thread.ticket if thread is not None else (original.ticket if original else None)
        )
        message = item.message
        return Finished(
            item.mail_id,
            ended.state,
            message.kind,
            _channel_id(event),
            message.message_id,
            message.sender.address if message.sender else None,
            message.subject,
            fingerprint(message),
            ended.original,
            hand.row,
            thread.id if thread else None,
            ticket.number if ticket else None,
            ended.reason,
            outcome,
            item.now,
        )

    def _outcome(self, hand: MailContext, event: MailArrived) -> dict[str, Any]:
        """What `mail explain` and `replay --json` tell beside the columns, as it is now: later
        mails of the batch may move the ticket again.
        """
        ended = _ended(hand)
        original = _repeated(event, ended)
        ticket = self.unit.live_ticket(
            hand.ticket or (original.ticket if original is not None else None)
        )
        after = (
            self.unit.desk.pipelines[ticket.pipeline_id].status(ticket.status_id).name
            if ticket
            else None
        )
        before = after if original is not None else hand.before
        return {
            "sender_role": ended.role,
            "created_ticket": hand.created_ticket,
            "matched_by": ended.matched_by,
            "status": {"before": before, "after": after} if ticket else None,
            "close_date": ticket.close_date.isoformat() if ticket and ticket.close_date else None,
            "decisions": hand.notes,
            "rule": ended.rule,
            "steps": [
                {"step": each.step, "verdict": each.verdict, "why": each.why}
                for each in ended.steps
            ],
        }


def _channel_id(event: MailArrived) -> int | None:
    return event.channels[0].id if event.channels else None


def _repeated(event: MailArrived, ended: Finish) -> Original | None:
    """What a mail that was not taken is a copy of: another mail, one of ours, or what our loop
    header came round with.
    """
    if ended.state == "duplicate" or event.own_copy is not None:
        return event.duplicate_of if ended.state == "duplicate" else event.own_copy
    if ended.state != "ignored" or not (event.looped or event.message.kind == "loop"):
        return None
    return Original(
        None,
        None,
        event.thread.id if event.thread else None,
        event.ticket.number if event.ticket else None,
    )


def _ended(hand: MailContext) -> Finish:
    if hand.finish is None:
        raise LookupError("a mail ended in no state")
    return hand.finish
