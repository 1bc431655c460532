"""Find the conversation a mail belongs to, in the unit of work of its batch (behaviour.md 5).

Nothing is changed here, and the database is not asked: the unit of work has loaded everything that
the Message-IDs, tokens and addresses of the mails lead to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.events import Original
from core.mail.threading import TicketRef, Tie, ids_of, tie
from core.model.message import Message
from core.model.ticket import Contact, ParticipantRole, Thread, Ticket
from gateway.store.tickets.tickets import subject_key
from gateway.store.tickets.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class MailTokens:
    """The signed tokens of a mail: our own Message-IDs with threads, an address and a tag."""

    own: Mapping[str, int]
    reply: TicketRef | None
    tag: TicketRef | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where a mail belongs, and which part its sender has there.

    ``joined`` are further threads of the same conversation with their tickets. ``copy_of`` is our
    own mail that came back. ``earlier`` is an open ticket of the sender with the same subject.
    """

    tie: Tie
    thread: Thread | None
    ticket: Ticket | None
    joined: tuple[tuple[Thread, Ticket | None], ...]
    contact: Contact | None
    part: ParticipantRole | None
    reused_id: bool
    copy_of: Original | None
    earlier: tuple[int, ...]


def find(unit: UnitOfWork, message: Message, tokens: MailTokens) -> Conversation:
    """Return the conversation of a mail, after following joins and merges."""
    contact = unit.contact_with(message.sender.key) if message.sender else None
    found = _tie(unit, message, tokens, contact)
    thread = unit.follow(found.thread) if found.thread is not None else None
    on_thread = thread.ticket if thread is not None else None
    ticket = unit.live_ticket(on_thread if on_thread is not None else found.ticket)
    fresh = thread is None and found.ticket is None
    return Conversation(
        tie=found,
        thread=thread,
        ticket=ticket,
        joined=_joined(unit, found),
        contact=contact,
        part=_part(unit, contact, thread, ticket),
        reused_id=_is_reused(unit, message),
        copy_of=_own_copy(unit, message, tokens),
        earlier=_earlier(unit, message, contact) if fresh else (),
    )


def copy_on(thread: Thread | None, ticket: Ticket | None) -> Original:
    """Return the original for a copy of our own mail; only the thread and ticket are filled in."""
    return Original(
        mail_id=None,
        channel=None,
        thread=thread.id if thread is not None else None,
        ticket=ticket.number if ticket is not None else None,
    )


def _own_copy(unit: UnitOfWork, message: Message, tokens: MailTokens) -> Original | None:
    """Return the original if this is a copy of our own mail; its Message-ID gives the thread."""
    number = tokens.own.get(message.message_id or "")
    if number is None:
        return None
    thread = unit.follow(number)
    return copy_on(thread, unit.live_ticket(thread.ticket) if thread is not None else None)


def _tie(unit: UnitOfWork, message: Message, tokens: MailTokens, contact: Contact | None) -> Tie:
    """Return the thread or ticket of a mail, by references, signed address and subject tag."""
    refs = unit.known_refs(ids_of(message))
    own = {
        each: thread.id
        for each, number in tokens.own.items()
        if each != message.message_id and (thread := unit.follow(number)) is not None
    }
    named = {*own.values(), *(ref.thread for rows in refs.values() for ref in rows)}
    tag = _current(unit, tokens.tag)
    return tie(
        message,
        refs,
        reply_address=_current(unit, tokens.reply),
        own_ids=own,
        subject_tag=tag if _takes_part(unit, message, contact, tag) else None,
        forward_threads=frozenset(each for each in named if unit.threads[each].kind == "forward"),
    )


def _current(unit: UnitOfWork, ref: TicketRef | None) -> TicketRef | None:
    """Return the ticket and thread that a token leads to today, after joins and merges.

    A token that names a thread leads there, wherever the thread went. One that names a ticket leads
    to that ticket's own thread, even if the ticket was merged away (E36).
    """
    ticket = unit.live_ticket(ref.ticket) if ref is not None else None
    if ref is None or ticket is None:
        return None
    named = unit.follow(ref.thread) if ref.thread is not None else None
    if named is None or named.ticket is None:
        named = _origin(unit, ref.ticket)
    if named is None or named.ticket is None:
        return TicketRef(ticket.number)
    return TicketRef(named.ticket, named.id)


def _origin(unit: UnitOfWork, number: int) -> Thread | None:
    """Return the origin thread of the ticket that has or once had this number, after joins.

    Threads that came from other tickets count only for the survivor's own number.
    """
    origins = [each for each in unit.threads.values() if each.origin and each.kind == "normal"]
    own = [each.id for each in origins if each.first_ticket == number]
    own = own or [each.id for each in origins if each.ticket == number]
    return unit.follow(min(own)) if own else None


def _takes_part(
    unit: UnitOfWork, message: Message, contact: Contact | None, tag: TicketRef | None
) -> bool:
    """Tell whether the sender is a user or has a part in the tagged ticket."""
    if tag is None:
        return False
    if message.sender is not None and message.sender.key in unit.desk.users:
        return True
    if contact is None:
        return False
    thread = unit.threads.get(tag.thread) if tag.thread is not None else None
    part = unit.part_of(contact.id, thread, unit.tickets.get(tag.ticket))
    return part in {"requester", "associated", "participant"}


def _part(
    unit: UnitOfWork, contact: Contact | None, thread: Thread | None, ticket: Ticket | None
) -> ParticipantRole | None:
    """Return the sender's part in the conversation."""
    if thread is not None and ticket is None and not unit.participants[thread.id]:
        return "participant"  # only machines wrote here so far, so the first person joins
    return unit.part_of(contact.id, thread, ticket) if contact is not None else None


def _joined(unit: UnitOfWork, found: Tie) -> tuple[tuple[Thread, Ticket | None], ...]:
    threads = (unit.follow(number) for number in found.joins)
    return tuple((each, unit.live_ticket(each.ticket)) for each in threads if each is not None)


def _is_reused(unit: UnitOfWork, message: Message) -> bool:
    """Tell whether the Message-ID was used before by a mail on a thread."""
    rows = unit.known_refs([message.message_id]) if message.message_id else {}
    return any(ref.held for refs in rows.values() for ref in refs)


def _earlier(unit: UnitOfWork, message: Message, contact: Contact | None) -> tuple[int, ...]:
    """Return the open ticket of the same contact with the same subject, at most one (E14)."""
    if contact is None:
        return ()
    return tuple(unit.earlier.get((contact.id, subject_key(message.subject)), [])[:1])
