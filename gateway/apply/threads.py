"""The mail in hand goes onto a thread: messages, participants, joined threads and the memory of
Message-IDs (behaviour.md section 5).

This is the half of :mod:`gateway.apply.applier` that touches threads and people but no ticket;
nobody else uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.decisions import tickets as d
from core.events import Cause
from core.mail.threading import ids_of
from core.model.message import MACHINE_KINDS, Address, Message
from core.model.ticket import Contact, Thread, Ticket, User
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.tickets import TicketEvent
from gateway.store.tickets.unit_of_work import UnitOfWork

NEW = d.NEW


@dataclass(slots=True)
class MailContext:
    """The mail in hand while its decisions are performed, and what they made of it."""

    message: Message
    mail_id: int | None
    received_at: datetime
    verdict: str
    user: User | None
    channel_id: int | None
    contact: Contact | None = None  # of From; made on first use
    thread: int = NEW
    ticket: int = NEW
    row: int | None = None  # the message's id
    created_ticket: bool = False
    before: str | None = None
    finish: d.Finish | None = None
    notes: list[str] = field(default_factory=list)  # the decisions, named, for `replay --json`


def held(hand: MailContext | None) -> MailContext:
    """The mail in hand; LookupError where a decision needs one and there is none, which is a
    mistake of the rules.
    """
    if hand is None:
        raise LookupError("the decision is about a mail, and none is in hand")
    return hand


class Filing:
    """Works on a book. ``actor`` is who acts when no mail is in hand."""

    def __init__(self, unit: UnitOfWork, now: datetime, actor: str = "system") -> None:
        self.unit = unit
        self.now = now
        self.actor = actor
        self.opened: int | None = None

    def _append(self, decision: d.AppendMessage, hand: MailContext) -> None:
        unit, message = self.unit, hand.message
        if decision.thread == NEW and hand.thread == NEW:
            thread = Thread(unit.allot("thread"), "normal", self.now, channel_id=hand.channel_id)
            unit.set_thread(thread, new=True)
            hand.thread = thread.id
        elif decision.thread != NEW:
            hand.thread = self._followed(decision.thread).id
            hand.ticket = unit.threads[hand.thread].ticket or NEW
            if hand.ticket:
                hand.before = self._status_name(unit.tickets[hand.ticket])
        sender = None if decision.role == "self" else self._sender(hand)
        if decision.speaks_for is not None and decision.speaks_for.address:
            sender = unit.ensure_contact(decision.speaks_for.address, decision.speaks_for.name)
        hand.row = unit.allot("message")
        flags = set(decision.flags)
        unit.pending.messages.append(
            MessageRow(
                hand.row,
                hand.thread,
                "outbound" if decision.outgoing else "inbound",
                message.kind,
                decision.role,
                _head(message),
                message.subject,
                self.now,
                message.text,
                message.reply_text,
                mail_id=hand.mail_id,
                message_id=message.message_id,
                parents=message.parents[:200],
                opens=decision.opens,
                sender_id=sender.id if sender else None,
                author_id=hand.user.id if hand.user and decision.role == "user" else None,
                date=message.date,
                attachments=tuple(_attachment(each) for each in message.attachments),
                auth=hand.verdict,
                flags=tuple(sorted(flags)),
                evidence=message.evidence,
            )
        )
        for each in ids_of(message):
            own = each == message.message_id
            unit.remember(
                each,
                hand.thread,
                hand.row if own else None,
                forward=own and message.kind == "forward",
                machine=own and message.kind in MACHINE_KINDS,
            )

    def _followed(self, thread: int) -> Thread:
        """The thread as it stands; one with a redirect was joined a moment ago, by this very batch."""
        found = self.unit.follow(thread)
        return found if found is not None else self.unit.threads[thread]

    def _join(self, thread: int, into: int) -> None:
        unit = self.unit
        for contact, role in unit.participants[thread].items():
            unit.set_participant(into, contact, role)
        joined, kept = unit.threads[thread], unit.threads[into]
        unit.set_thread(replace(joined, redirect_to=into, ticket=None))
        if joined.origin and joined.ticket is not None and kept.ticket is not None:
            unit.set_thread(replace(kept, origin=True))
        unit.pending.joins.append((thread, into))
        unit.pending.joined[thread] = joined

    def _attach(self, decision: d.AttachThread, hand: MailContext | None) -> None:
        thread = self.unit.threads[self._thread_id(decision.thread, hand)]
        number = decision.ticket
        self.unit.set_thread(
            replace(thread, ticket=number, origin=decision.origin, attached_at=self.now)
        )
        if hand is not None:
            hand.ticket = number
            hand.before = self._status_name(self.unit.tickets[number])
        self._event(number, "thread_attached", decision.cause, after=str(thread.id), hand=hand)

    def _continue(self, thread: int, hand: MailContext) -> None:
        """The new thread is made here, so that the old one's memory can point at it; AppendMessage
        NEW then uses it. Its people stay.
        """
        fresh = Thread(self.unit.allot("thread"), "normal", self.now, channel_id=hand.channel_id)
        self.unit.set_thread(fresh, new=True)
        for contact, role in self.unit.participants[thread].items():
            self.unit.set_participant(fresh.id, contact, role)
        self.unit.set_thread(replace(self.unit.threads[thread], redirect_to=fresh.id))
        hand.thread = fresh.id

    def _note(self, ticket: int, text: str, cause: Cause) -> None:
        """A note lies on the origin thread where there is one, and beside the ticket anyway (it may
        have no mail yet).
        """
        unit = self.unit
        user = unit.desk.users.get(cause.user or "")
        origin = next(
            (
                thread
                for thread in unit.threads_of(ticket)
                if thread.origin and thread.kind == "normal"
            ),
            None,
        )
        unit.pending.messages.append(
            MessageRow(
                unit.allot("message"),
                origin.id if origin else None,
                "note",
                "human",
                "user",
                {
                    "from": {
                        "name": user.name if user else cause.user or self.actor,
                        "address": cause.user if user else None,
                    },
                    "to": [],
                    "cc": [],
                },
                "",
                self.now,
                text,
                text,
                ticket_note=ticket,
                author_id=user.id if user else None,
                date=self.now,
            )
        )
        self._event(ticket, "note_added", cause)

    def _split_off(self, decision: d.SplitOff) -> None:
        unit, number = self.unit, self._number(NEW, None)
        thread = Thread(
            unit.allot("thread"),
            "normal",
            self.now,
            channel_id=decision.channel,
            ticket=number,
            origin=True,
            attached_at=self.now,
        )
        unit.set_thread(thread, new=True)
        for contact, role in decision.people:
            unit.set_participant(thread.id, contact, role)
        unit.pending.splits.append((thread.id, decision.messages))
        unit.pending.links.append((number, decision.ticket, "related"))
        self._event(
            number,
            "split",
            decision.cause,
            before=str(decision.ticket),
            detail=f"split off ticket {decision.ticket}",
        )
        self._event(
            decision.ticket,
            "split",
            decision.cause,
            after=str(number),
            detail=f"mails went to ticket {number}",
        )

    def _place(self, decision: d.PlacePerson) -> None:
        unit, number, contact = self.unit, decision.ticket, decision.contact
        address = unit.contacts[contact].address
        match decision.role:
            case "associated":
                unit.set_associated(number, contact, present=True)
                self._event(number, "contact_added", decision.cause, after=address)
            case "participant":
                for thread in unit.threads_of(number):
                    if unit.participants[thread.id].get(contact) == "stranger":
                        unit.set_participant(thread.id, contact, "participant")
                self._event(
                    number, "contact_approved", decision.cause, before="stranger", after=address
                )
            case None:
                unit.set_associated(number, contact, present=False)
                for thread in unit.threads_of(number):
                    unit.drop_participant(thread.id, contact)
                self._event(number, "contact_removed", decision.cause, before=address)

    def _participants(self, decision: d.AddParticipants, hand: MailContext) -> None:
        unit, thread = self.unit, self._thread_id(decision.thread, hand)
        if decision.sender_role is not None and (contact := self._sender(hand)) is not None:
            unit.set_participant(thread, contact.id, decision.sender_role)
        for each in decision.others:
            if each.address and not self._ours(each.key):
                contact = unit.ensure_contact(each.address, each.name)
                unit.set_participant(thread, contact.id, "participant")

    def _ours(self, key: str) -> bool:
        """Whether an address is a channel's (with or without a plus part) or an agent's."""
        local, at, domain = key.rpartition("@")
        channels = self.unit.desk.channels
        return (
            key in channels
            or local.partition("+")[0] + at + domain in channels
            or key in self.unit.desk.users
        )

    def _sender(self, hand: MailContext) -> Contact | None:
        sender = hand.message.sender
        if sender is None or not sender.address:
            return None
        if hand.contact is None:
            hand.contact = self.unit.ensure_contact(sender.address, sender.name)
        return hand.contact

    def _mark(self, hand: MailContext, *, automated: bool, proven: bool, heard: bool) -> None:
        contact = self._sender(hand)
        if contact is None:
            return
        contact = self.unit.contacts[contact.id]
        bounced = None if heard else contact.bounced_at
        marked = replace(
            contact,
            automated=contact.automated or automated,
            proven=contact.proven or proven,
            bounced_at=bounced,
        )
        if marked != contact:
            self.unit.set_contact(marked)

    def _number(self, ticket: int, hand: MailContext | None) -> int:
        if ticket != NEW:
            return ticket
        number = hand.ticket if hand is not None else self.opened
        if not number:
            raise LookupError("a decision names the ticket just opened, and none was")
        return number

    def _thread_id(self, thread: int, hand: MailContext | None) -> int:
        if thread == NEW:
            return held(hand).thread
        return self._followed(thread).id

    def _status_name(self, ticket: Ticket) -> str:
        return self.unit.desk.pipelines[ticket.pipeline_id].status(ticket.status_id).name

    def _event(
        self,
        ticket: int,
        kind: str,
        cause: Cause,
        *,
        before: str | None = None,
        after: str | None = None,
        detail: str | None = None,
        hand: MailContext | None = None,
    ) -> None:
        actor = self.actor
        if hand is not None:
            actor = hand.message.sender.key if hand.message.sender else "unknown sender"
        named = {
            "rule": cause.rule,
            "message_id": cause.message_id,
            "workflow": cause.workflow,
            "action": cause.action,
            "user": cause.user,
        }
        event = TicketEvent(
            self.unit.allot("event"),
            ticket,
            self.now,
            kind,
            cause.user or actor,
            named,
            before,
            after,
            detail,
        )
        self.unit.pending.events.append(event)

    def remark(self, ticket: int, kind: str, cause: Cause, detail: str | None = None) -> None:
        """Write into the history what changed rows beside the ticket (people put on it, a note)."""
        self._event(ticket, kind, cause, detail=detail)


def address_of(address: Address) -> dict[str, str | None]:
    """An address as the head of a stored message holds it."""
    return {"name": address.name, "address": address.address}


def _head(message: Message) -> dict[str, Any]:
    return {
        "from": address_of(message.sender) if message.sender else None,
        "to": [address_of(each) for each in message.to],
        "cc": [address_of(each) for each in message.cc],
    }


def _attachment(each: Any) -> dict[str, Any]:
    return {
        name: getattr(each, name)
        for name in ("filename", "content_type", "size", "sha256", "inline", "content_id", "part")
    }
