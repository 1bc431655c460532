"""Put messages on threads, join threads, and attach them to tickets (behaviour.md section 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.decisions import tickets as d
from core.decisions.tickets import NEW
from core.mail.threading import ids_of
from core.model.message import MACHINE_KINDS, Attachment, Message
from core.model.ticket import Contact, Thread
from gateway.apply.context import ApplyContext, MailContext, address_of, required
from gateway.apply.people import sender_of
from gateway.store.tickets.threads import MessageRow, RefRow

MOST_PARENTS = 200  # of a mail are stored


def append_message(
    context: ApplyContext, decision: d.AppendMessage, mail: MailContext | None
) -> None:
    """Store the mail on its thread, and remember its Message-ID and those it refers to."""
    mail = required(mail)
    _choose_thread(context, decision, mail)
    sender = None if decision.role == "self" else sender_of(context, mail)
    customer = decision.speaks_for
    if customer is not None and customer.address:
        sender = context.unit.ensure_contact(customer.address, customer.name)
    mail.row = context.unit.allot("message")
    context.unit.pending.messages.append(_inbound_row(context, decision, mail, mail.row, sender))
    _remember_ids(context, decision, mail, sender)


def _remember_ids(
    context: ApplyContext, decision: d.AppendMessage, mail: MailContext, sender: Contact | None
) -> None:
    """Remember the Message-ID of the mail and those it refers to, and who claimed them."""
    message = mail.message
    claims = ((sender.id, mail.verdict == "pass"),) if decision.claims and sender else ()
    for each in ids_of(message):
        own = each == message.message_id
        mention = RefRow(
            ref=each,
            thread=mail.thread,
            message=mail.row if own else None,
            forward=own and message.kind == "forward",
            machine=own and message.kind in MACHINE_KINDS,
            claims=claims,
        )
        context.unit.remember(mention)


def _choose_thread(context: ApplyContext, decision: d.AppendMessage, mail: MailContext) -> None:
    """Set the mail's thread as decided; for NEW, create one unless the mail has a thread."""
    if decision.thread != NEW:
        thread = context.followed(decision.thread)
        mail.thread, mail.ticket = thread.id, thread.ticket or NEW
        if mail.ticket:
            mail.before = context.status_name(context.ticket(mail.ticket))
    elif mail.thread == NEW:
        mail.thread = _fresh_thread(context, mail).id


def _fresh_thread(context: ApplyContext, mail: MailContext) -> Thread:
    number = context.unit.allot("thread")
    thread = Thread(id=number, kind="normal", created_at=context.now, channel_id=mail.channel_id)
    context.unit.set_thread(thread, new=True)
    return thread


def _inbound_row(
    context: ApplyContext,
    decision: d.AppendMessage,
    mail: MailContext,
    number: int,
    sender: Contact | None,
) -> MessageRow:
    message = mail.message
    return MessageRow(
        id=number,
        thread_id=mail.thread,
        direction="outbound" if decision.outgoing else "inbound",
        kind=message.kind,
        sender_role=decision.role,
        head=_head(message),
        subject=message.subject,
        created_at=context.now,
        text=message.text,
        reply_text=message.reply_text,
        mail_id=mail.mail_id,
        message_id=message.message_id,
        parents=message.parents[:MOST_PARENTS],
        opens=decision.names,
        sender_id=sender.id if sender else None,
        author_id=mail.user.id if mail.user and decision.role == "user" else None,
        date=message.date,
        attachments=tuple(_attachment(each) for each in message.attachments),
        auth=mail.verdict,
        flags=tuple(sorted(set(decision.flags))),
        evidence=message.evidence,
    )


def _head(message: Message) -> dict[str, Any]:
    head = {
        "from": address_of(message.sender) if message.sender else None,
        "to": [address_of(each) for each in message.to],
        "cc": [address_of(each) for each in message.cc],
    }
    if message.reply_to:
        head["reply_to"] = [address_of(each) for each in message.reply_to]
    return head


def _attachment(each: Attachment) -> dict[str, Any]:
    return {
        name: getattr(each, name)
        for name in ("filename", "content_type", "size", "sha256", "inline", "content_id", "part")
    }


def join(context: ApplyContext, decision: d.JoinThread) -> None:
    """Join a thread into another one, which takes over its participants and its role as origin."""
    unit = context.unit
    for contact, role in unit.participants[decision.thread].items():
        unit.set_participant(decision.into, contact, role)
    joined, kept = unit.threads[decision.thread], unit.threads[decision.into]
    unit.set_thread(replace(joined, redirect_to=kept.id, ticket=None))
    if joined.origin and joined.ticket is not None and kept.ticket is not None:
        unit.set_thread(replace(kept, origin=True))
    unit.pending.joins.append((joined.id, kept.id))
    unit.pending.joined[joined.id] = joined


def attach(context: ApplyContext, decision: d.AttachThread, mail: MailContext | None) -> None:
    """Put a thread on a ticket."""
    unit, number = context.unit, decision.ticket
    thread = unit.threads[context.thread_id(decision.thread, mail)]
    unit.set_thread(replace(thread, ticket=number, origin=decision.origin, attached_at=context.now))
    if mail is not None:
        mail.ticket = number
        mail.before = context.status_name(unit.tickets[number])
    context.event(number, "thread_attached", decision.cause, after=str(thread.id), mail=mail)


def continue_thread(
    context: ApplyContext, decision: d.ContinueThread, mail: MailContext | None
) -> None:
    """Replace a thread of a trashed ticket by a new thread with the same people (E38).

    Call this before the mail is appended, so that the old thread can redirect to the new one.
    """
    unit, mail = context.unit, required(mail)
    fresh = _fresh_thread(context, mail)
    for contact, role in unit.participants[decision.thread].items():
        unit.set_participant(fresh.id, contact, role)
    unit.set_thread(replace(unit.threads[decision.thread], redirect_to=fresh.id))
    mail.thread = fresh.id


def add_note(context: ApplyContext, decision: d.AddNote) -> None:
    """Store a note on the ticket, and on its origin thread where it has one."""
    unit, cause = context.unit, decision.cause
    user = unit.desk.users.get(cause.user or "")
    origins = (each for each in unit.threads_of(decision.ticket) if each.origin)
    origin = next((thread for thread in origins if thread.kind == "normal"), None)
    author = {
        "name": user.name if user else cause.user or context.actor,
        "address": cause.user if user else None,
    }
    unit.pending.messages.append(
        MessageRow(
            id=unit.allot("message"),
            thread_id=origin.id if origin else None,
            direction="note",
            kind="human",
            sender_role="user",
            head={"from": author, "to": [], "cc": []},
            subject="",
            created_at=context.now,
            text=decision.text,
            reply_text=decision.text,
            ticket_note=decision.ticket,
            author_id=user.id if user else None,
            date=context.now,
        )
    )
    context.event(decision.ticket, "note_added", cause)
    if cause.rule == "user":
        context.change(decision.ticket, worked=True)


def split_off(context: ApplyContext, decision: d.SplitOff) -> None:
    """Move messages onto a new thread, the origin of the ticket just opened (P11)."""
    unit, number, old = context.unit, context.number(NEW), decision.ticket
    thread = Thread(
        id=unit.allot("thread"),
        kind="normal",
        created_at=context.now,
        channel_id=decision.channel,
        ticket=number,
        origin=True,
        attached_at=context.now,
    )
    unit.set_thread(thread, new=True)
    for contact, role in decision.people:
        unit.set_participant(thread.id, contact, role)
    unit.pending.splits.append((thread.id, decision.messages))
    unit.add_link(number, old, "related")
    cause = decision.cause
    context.event(number, "split", cause, before=str(old), detail=f"split off ticket {old}")
    moved = f"mails went to ticket {number}"
    context.event(old, "split", cause, after=str(number), detail=moved)
    context.change(old, worked=True)
