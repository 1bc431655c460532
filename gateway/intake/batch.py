"""File a batch of mails that were read, in one transaction and in order of receipt.

A few queries load everything that the mails of the batch can touch. For each mail, its channel,
sender, verdict and thread are looked up in that data and handed to ``core.decide``;
:mod:`gateway.apply.applier` performs the decisions. Raw mail is not read here. If a batch raises,
nothing of it was written, and the caller files its mails one by one.
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
from core.mail.threading import JoinPolicy, MailTokens, ids_of
from core.model.message import Address, Envelope, Message
from core.model.ticket import Channel, User
from gateway.apply.applier import Applier
from gateway.apply.context import MailContext
from gateway.desk.transaction import state_of
from gateway.intake.recipients import channel_at, channels_of
from gateway.intake.token_lookup import (
    TokenLookup,
    load_deliveries,
    read_tokens,
    reported,
    reporting,
)
from gateway.reading import authentication
from gateway.store.queues.earlier_mail import EarlierMail, by_fingerprint, repeated
from gateway.store.queues.spool import Finished, finish
from gateway.store.tickets import conversation
from gateway.store.tickets.conversation import Conversation, Standing
from gateway.store.tickets.tickets import subject_key
from gateway.store.tickets.unit_of_work import Connection, UnitOfWork

REPEAT_WINDOW = timedelta(days=7)  # for mail without a Message-ID (behaviour.md 2.1 step 1)


@dataclass(frozen=True, slots=True)
class Item:
    """A mail of the batch, with the instant when it counts as processed (``now``)."""

    mail_id: int
    envelope: Envelope
    message: Message
    released: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings for all mail of a run.

    ``zone`` is the account's time zone. ``trusted`` are the ids of the servers whose
    Authentication-Results count. ``fallback`` is the address of the channel that gets mail
    addressed to none of our channels; if it is empty, the default channel gets such mail. ``join``
    tells whose mail may join threads (behaviour.md 5).
    """

    zone: tzinfo
    trusted: frozenset[str] = frozenset()
    fallback: str = ""
    join: JoinPolicy = "vouched"


def fingerprint(message: Message) -> bytes:
    """Return 16 bytes that are equal for copies of the same mail (behaviour.md 2.1 step 1)."""
    what = (
        f"{message.message_id}\0{message.content_digest}"
        if message.message_id
        else message.plain_digest
    )
    return hashlib.sha256(what.encode("utf-8", "replace")).digest()[:16]


UNPROVEN = Standing(proven=False, user=False)


def _unproven(verdict: Verdict) -> Verdict:
    """Return the verdict for an author whom it does not prove: "pass" becomes "none"."""
    return "none" if verdict == "pass" else verdict


def _addresses(message: Message) -> set[str]:
    """Return the addresses of sender and recipients, and of the sender of a forwarded mail."""
    forwarded = message.forward.sender if message.forward is not None else None
    boxes = (*message.to, *message.cc, message.sender, forwarded)
    boxes += (*message.reply_to, *message.original_from, *message.resent_from)
    return {each.key for each in boxes if each is not None}


class Batch:
    """The mails of one transaction; :meth:`run` files them."""

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
        """File every mail in order, and return the register entries that were written."""
        self.unit = await UnitOfWork.open(self.connection, self.now)
        lookups = [read_tokens(self.unit.desk, item.envelope, item.message) for item in self.items]
        await self._load(lookups)
        state = state_of(self.unit, self.rules.zone)
        applier = Applier(self.unit, self.now, zone=self.rules.zone)
        filed = []
        for item, lookup in zip(self.items, lookups, strict=True):
            applier.now = item.now
            event = self._event(item, lookup)
            mail = MailContext(
                message=event.message,
                mail_id=item.mail_id,
                received_at=item.envelope.received_at,
                verdict=event.verdict,
                user=event.sender.user,
                channel_id=_channel_id(event),
            )
            applier.perform(decide(event, state, item.now), mail)
            self._remember(item, mail, event)
            filed.append((item, mail, event, self._outcome(mail, event)))
        await applier.finish()
        await self.unit.flush()
        rows = [self._finished(*each) for each in filed]
        await finish(self.connection, rows)
        return rows

    # ---- loading

    async def _load(self, lookups: Sequence[TokenLookup]) -> None:
        """Load the threads, tickets, contacts and deliveries that the batch can touch."""
        named = [
            each for lookup in lookups for each in (lookup.reply, lookup.tag) if each is not None
        ]
        threads = {thread for lookup in lookups for thread in lookup.own.values()}
        threads |= {each.thread for each in named if each.thread}
        await self.unit.load_for(
            {each for lookup in lookups for each in ids_of(lookup.message)},
            {each for item in self.items for each in _addresses(item.message)},
            threads,
            {each.ticket for each in named},
        )
        self.deliveries = await load_deliveries(self.unit, lookups)
        await self.unit.load_earlier(
            {
                (contact.id, subject_key(item.message.subject))
                for item in self.items
                if (sender := item.message.sender) is not None
                and (contact := self.unit.contact_with(sender.key)) is not None
            }
        )
        await self._load_known()

    async def _load_known(self) -> None:
        """Load the earlier copies of the mails of the batch, and the threads of these copies."""
        self.known = await by_fingerprint(
            self.connection, {fingerprint(item.message) for item in self.items}
        )
        if not self.known:
            return
        self.repeated = await repeated(self.connection, self.known.keys())
        # A mail without a Message-ID has no other link to its original.
        threads = {known.thread for known in self.known.values() if known.thread}
        unseen = threads - self.unit.threads.keys()
        if unseen:
            await self.unit.load_for((), (), unseen, ())

    # ---- one mail

    def _event(self, item: Item, lookup: TokenLookup) -> MailArrived:
        """Return the mail as an event for ``core.decide``, with all that the mail can touch."""
        unit, envelope, mail = self.unit, item.envelope, item.message
        message = reporting(lookup, self.deliveries, envelope)
        deliveries = reported(message, lookup, self.deliveries)
        verdict = self._verdict(mail)
        user = unit.desk.users.get(mail.sender.key) if mail.sender else None
        standing = Standing(
            proven=verdict == "pass",
            user=user is not None and (verdict == "pass" or user.id == lookup.relay),
        )
        tokens = MailTokens(lookup.reply, lookup.own, lookup.tag)
        found = conversation.find(unit, message, tokens, standing, self.rules.join)
        behind = self._person_behind(message, found)
        if behind is not None:
            message, verdict = replace(message, sender=behind), _unproven(verdict)
            found = conversation.find(unit, message, tokens, UNPROVEN, self.rules.join)
        relays = user is not None and user.id == lookup.relay and verdict != "fail"
        return MailArrived(
            message=message,
            received_at=envelope.received_at,
            channels=self._channels(envelope, mail),
            sender=self._sender(message, user, found),
            verdict=verdict,
            tie=found.tie,
            duplicate_of=self._original(item, verdict),
            reused_id=found.reused_id,
            own_copy=found.copy_of,
            looped=any(channel_at(unit.desk.channels, each) for each in mail.loop_marks),
            spam=mail.spam_flag and (envelope.trusted_hop or self._has_trusted_results(mail)),
            trusted_user=user is not None and verdict == "pass",
            thread=found.thread,
            ticket=found.ticket,
            joined=found.joined,
            related=found.related,
            earlier_open=found.earlier,
            behind=mail.sender if behind is not None else None,
            released=item.released,
            automation=envelope.automation,
            deliveries=deliveries,
            returned=lookup.returned,
            relayed_by=user if relays else None,
        )

    def _person_behind(self, message: Message, found: Conversation) -> Address | None:
        """Return the author of a mail with our channel in From, if the mail belongs to no thread.

        Web forms, groups and forwarding mailboxes write such mail and name the author elsewhere.
        """
        sender = message.sender
        if sender is None or channel_at(self.unit.desk.channels, sender.key) is None:
            return None
        if found.thread is not None or found.tie.ticket is not None or found.copy_of is not None:
            return None
        forwarded = message.forward.sender if message.forward is not None else None
        named = (*message.original_from, *message.reply_to, *message.resent_from, forwarded)
        people = (each for each in named if each is not None and each.key)
        return next((each for each in people if not self.unit.is_ours(each.key)), None)

    def _channels(self, envelope: Envelope, message: Message) -> tuple[Channel, ...]:
        """Return the addressed channels, else the channel of the mailbox, else the fallback."""
        desk = self.unit.desk
        named = (
            channel_at(desk.channels, each) for each in (envelope.channel, self.rules.fallback)
        )
        fallback = next((each for each in named if each is not None), desk.default_channel)
        return channels_of(desk.channels, fallback, envelope, message)

    def _verdict(self, message: Message) -> Verdict:
        """Return the verdict on the sender; if From has several authors, "pass" becomes "none"."""
        # Such a "pass" is about one of the authors, and nobody can tell which.
        domain = message.sender.key.rpartition("@")[2] if message.sender else ""
        verdict: Verdict = authentication.verdict(
            message.authentication, self.rules.trusted, domain
        )
        several = any(defect.startswith("several ") for defect in message.defects)
        return "none" if verdict == "pass" and several else verdict

    def _sender(self, message: Message, user: User | None, found: Conversation) -> Sender:
        """Return what the desk knows about the sender."""
        key = message.sender.key if message.sender else None
        return Sender(
            contact=found.contact,
            user=user,
            own_channel=key is not None and channel_at(self.unit.desk.channels, key) is not None,
            known=found.contact is not None or user is not None,
            held_role=found.part,
        )

    def _has_trusted_results(self, message: Message) -> bool:
        """Tell whether a trusted server wrote results into the mail; then its spam flag counts."""
        ids = {each.lower() for each in self.rules.trusted}
        return any(each.authserv_id in ids for each in message.authentication)

    # ---- copies of earlier mail

    def _original(self, item: Item, verdict: Verdict) -> Original | None:
        """Return the earlier mail of which this mail is a copy; None if it is no copy."""
        known = self.known.get(fingerprint(item.message))
        if known is None or known.mail_id == item.mail_id:
            return None
        if item.message.message_id is None and abs(item.now - known.processed_at) > REPEAT_WINDOW:
            return None
        if verdict == "pass" and not known.proven and not _like(known, item.message):
            return None  # somebody may have sent it first, in the author's name
        thread = self.unit.follow(known.thread) if known.thread is not None else None
        ticket = self.unit.live_ticket(thread.ticket if thread is not None else known.ticket)
        channel = next(
            (each for each in self.unit.desk.channels.values() if each.id == known.channel), None
        )
        return Original(
            mail_id=known.mail_id,
            channel=channel,
            thread=thread.id if thread else None,
            ticket=ticket.number if ticket else None,
            repeated_at=frozenset(at for mail, at in self.repeated if mail == known.mail_id),
            held=known.state == "quarantined",
        )

    def _remember(self, item: Item, mail: MailContext, event: MailArrived) -> None:
        """Record this mail and the failed deliveries it reports, for later mails of the batch."""
        failed = {row.id for row in self.unit.outward.failed}
        self.deliveries.update(
            (each.id, replace(each, state="failed"))
            for each in event.deliveries
            if each.id in failed
        )
        if mail.finish is None:
            return
        if mail.finish.state == "duplicate":
            if (channel := _channel_id(event)) is not None and mail.finish.original is not None:
                self.repeated.add((mail.finish.original, channel))
            return
        key = fingerprint(item.message)
        if key not in self.known or self.known[key].state == "quarantined":
            self.known[key] = EarlierMail(
                mail_id=item.mail_id,
                processed_at=item.now,
                thread=mail.thread or None,
                ticket=mail.ticket or None,
                channel=_channel_id(event),
                state=mail.finish.state,
                kind=item.message.kind,
                proven=event.verdict == "pass",
                readers=_readers(item.message),
                parents=frozenset(item.message.parents),
            )
        if mail.created_ticket and mail.contact is not None:
            self.unit.earlier.setdefault(
                (mail.contact.id, subject_key(item.message.subject)), []
            ).insert(0, mail.ticket)

    # ---- the register

    def _finished(
        self, item: Item, mail: MailContext, event: MailArrived, outcome: dict[str, Any]
    ) -> Finished:
        """Return the register entry of a mail."""
        ended = _ended(mail)
        original = _repeated(event, ended)
        thread_id = original.thread if original is not None else mail.thread or None
        thread = self.unit.follow(thread_id) if thread_id else None
        ticket = self.unit.live_ticket(
            thread.ticket if thread is not None else (original.ticket if original else None)
        )
        message = item.message
        return Finished(
            mail_id=item.mail_id,
            state=ended.state,
            kind=message.kind,
            channel_id=_channel_id(event),
            message_id=message.message_id,
            sender=author.address if (author := event.message.sender) else None,
            subject=message.subject,
            fingerprint=fingerprint(message),
            original_id=ended.original,
            message=mail.row,
            thread_id=thread.id if thread else None,
            ticket=ticket.number if ticket else None,
            reason=ended.reason,
            outcome=outcome,
            processed_at=item.now,
        )

    def _outcome(self, mail: MailContext, event: MailArrived) -> dict[str, Any]:
        """Return what `mail explain` and `replay --json` show in addition to the register entry.

        Call this right after a mail is filed, since later mails of the batch may move its ticket.
        """
        ended = _ended(mail)
        original = _repeated(event, ended)
        ticket = self.unit.live_ticket(
            mail.ticket or (original.ticket if original is not None else None)
        )
        after = (
            self.unit.desk.pipelines[ticket.pipeline_id].status(ticket.status_id).name
            if ticket
            else None
        )
        before = after if original is not None else mail.before
        return {
            "sender_role": ended.role,
            "created_ticket": mail.created_ticket,
            "matched_by": ended.matched_by,
            "status": {"before": before, "after": after} if ticket else None,
            "close_date": ticket.close_date.isoformat() if ticket and ticket.close_date else None,
            "decisions": mail.notes,
            "rule": ended.rule,
            "steps": [
                {"step": each.step, "verdict": each.verdict, "why": each.why}
                for each in ended.steps
            ],
        }


def _like(known: EarlierMail, message: Message) -> bool:
    """Tell whether an earlier mail went to the same people and was treated like this one."""
    alike = known.kind == message.kind and known.readers == _readers(message)
    return alike and known.state == "done" and known.parents == frozenset(message.parents)


def _readers(message: Message) -> frozenset[str]:
    """Return the address keys in To, Cc and Reply-To of a mail."""
    people = (*message.to, *message.cc, *message.reply_to)
    return frozenset(each.key for each in people if each.key)


def _channel_id(event: MailArrived) -> int | None:
    """Return the id of the channel whose settings apply to a mail, or None."""
    return event.channels[0].id if event.channels else None


def _repeated(event: MailArrived, ended: Finish) -> Original | None:
    """Return the earlier mail, or the mail of ours, that a filed mail is a copy of; else None.

    A mail that ended as a loop counts as a copy of ours; the result then names only its thread and
    its ticket.
    """
    if ended.state == "duplicate" or event.own_copy is not None:
        return event.duplicate_of if ended.state == "duplicate" else event.own_copy
    if ended.state != "ignored" or not (event.looped or event.message.kind == "loop"):
        return None
    return conversation.copy_on(event.thread, event.ticket)


def _ended(mail: MailContext) -> Finish:
    """Return the end state of a mail that was filed."""
    if mail.finish is None:
        raise LookupError("no decision finished this mail")
    return mail.finish
