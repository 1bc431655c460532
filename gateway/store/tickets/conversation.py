"""Find the conversation a mail belongs to, in the unit of work of its batch (behaviour.md 5).

Nothing is changed here, and the database is not asked: the unit of work has loaded everything that
the Message-IDs, tokens and addresses of the mails lead to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.events import Original
from core.mail.circle import Circle, Writer
from core.mail.threading import JoinPolicy, MailTokens, Ref, TicketRef, Tie, ids_of, tie
from core.model.message import MACHINE_KINDS, Message
from core.model.ticket import Contact, ParticipantRole, Thread, Ticket
from gateway.store.tickets.tickets import subject_key
from gateway.store.tickets.unit_of_work import UnitOfWork

MOST_RELATED = 5  # tickets that one mail is linked to


@dataclass(frozen=True, slots=True)
class Conversation:
    """The thread and ticket that a mail belongs to, and the role ``part`` of its sender there.

    ``joined`` and ``related`` are the threads of ``tie.joins`` and ``tie.related``, with their
    tickets. ``copy_of`` is our own mail that came back. ``earlier`` is an open ticket of the sender
    with the same subject.
    """

    tie: Tie
    thread: Thread | None
    ticket: Ticket | None
    joined: tuple[tuple[Thread, Ticket | None], ...]
    related: tuple[Ticket, ...]
    contact: Contact | None
    part: ParticipantRole | None
    reused_id: bool
    copy_of: Original | None
    earlier: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether the sender of a mail has proven their address, and whether they are a user."""

    proven: bool
    user: bool


def find(
    unit: UnitOfWork,
    message: Message,
    tokens: MailTokens,
    standing: Standing,
    policy: JoinPolicy = "vouched",
) -> Conversation:
    """Return the conversation of a mail, after following joins and merges.

    ``tokens`` may name threads that were joined since, and tickets that were merged since.
    """
    contact = unit.contact_with(message.sender.key) if message.sender else None
    found = _tie(unit, message, tokens, _writer(unit, message, contact, standing), policy)
    thread = unit.follow(found.thread) if found.thread is not None else None
    on_thread = thread.ticket if thread is not None else None
    ticket = unit.live_ticket(on_thread if on_thread is not None else found.ticket)
    fresh = thread is None and found.ticket is None
    return Conversation(
        tie=found,
        thread=thread,
        ticket=ticket,
        joined=tuple((each, unit.live_ticket(each.ticket)) for each in _live(unit, found.joins)),
        related=_related(unit, found, ticket),
        contact=contact,
        part=_part(unit, contact, thread, ticket),
        reused_id=_is_reused(unit, message),
        copy_of=_own_copy(unit, message, tokens),
        earlier=_earlier(unit, message, contact) if fresh else (),
    )


def _live(unit: UnitOfWork, numbers: Iterable[int]) -> list[Thread]:
    threads = (unit.follow(number) for number in numbers)
    return [each for each in threads if each is not None]


def _related(unit: UnitOfWork, found: Tie, ticket: Ticket | None) -> tuple[Ticket, ...]:
    """Return the other live tickets, MOST_RELATED at most, that share an id with the mail."""
    tickets = (unit.live_ticket(each.ticket) for each in _live(unit, found.related))
    others = {
        each.number: each
        for each in tickets
        if each is not None and each.deleted_at is None and each != ticket
    }
    return tuple(others[number] for number in sorted(others)[:MOST_RELATED])


def _writer(
    unit: UnitOfWork, message: Message, contact: Contact | None, standing: Standing
) -> Writer:
    """Return the contact ids of a mail's sender and recipients; unknown people are left out."""
    people = (*message.to, *message.cc, *message.reply_to)
    known = (unit.contact_with(each.key) for each in people)
    return Writer(
        contact.id if contact is not None else None,
        frozenset(each.id for each in known if each is not None),
        proven=standing.proven,
        user=standing.user,
        machine=message.kind in MACHINE_KINDS,
    )


def copy_on(thread: Thread | None, ticket: Ticket | None) -> Original:
    """Describe the mail of ours that came back as a copy, by its thread and ticket only."""
    return Original(
        mail_id=None,
        channel=None,
        thread=thread.id if thread is not None else None,
        ticket=ticket.number if ticket is not None else None,
    )


def _own_copy(unit: UnitOfWork, message: Message, tokens: MailTokens) -> Original | None:
    """Return the thread and ticket of our own mail if this is a copy of it, else None."""
    number = tokens.own.get(message.message_id or "")
    if number is None:
        return None
    thread = unit.follow(number)
    return copy_on(thread, unit.live_ticket(thread.ticket) if thread is not None else None)


def _tie(
    unit: UnitOfWork, message: Message, tokens: MailTokens, writer: Writer, policy: JoinPolicy
) -> Tie:
    """Return the thread or ticket of a mail, by references, signed address and subject tag."""
    refs = unit.known_refs(ids_of(message))
    own = {
        each: thread.id
        for each, number in tokens.own.items()
        if each != message.message_id and (thread := unit.follow(number)) is not None
    }
    reply, tag = _current(unit, tokens.reply), _current(unit, tokens.tag)
    circles = _circles(unit, refs, own.values(), (reply, tag))
    if tag is not None and not _takes_part(unit, message, writer, tag, circles):
        tag = None
    return tie(message, MailTokens(reply, own, tag), refs, circles, writer, policy)


def _circles(
    unit: UnitOfWork,
    refs: Mapping[str, Sequence[Ref]],
    own: Iterable[int],
    tokens: Iterable[TicketRef | None],
) -> dict[int, Circle]:
    """Return the circle of every thread that a mail may be tied to."""
    named = {*own, *(ref.thread for rows in refs.values() for ref in rows)}
    named |= {each.thread for each in tokens if each is not None and each.thread is not None}
    return {each: unit.circle(unit.threads[each]) for each in named}


def _current(unit: UnitOfWork, ref: TicketRef | None) -> TicketRef | None:
    """Return the ticket and thread that a token leads to today, after joins and merges.

    A token that names a thread leads to the ticket on which the thread is now. A token that names
    a ticket leads to this ticket's origin thread, even after the ticket was merged (E36).
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
    """Return the origin thread of the ticket with this number, even if it was merged.

    Joins are followed. A thread that was first on another ticket is returned only if the ticket
    has no origin thread of its own.
    """
    origins = [each for each in unit.threads.values() if each.origin and each.kind == "normal"]
    own = [each.id for each in origins if each.first_ticket == number]
    own = own or [each.id for each in origins if each.ticket == number]
    return unit.follow(min(own)) if own else None


def _takes_part(
    unit: UnitOfWork,
    message: Message,
    writer: Writer,
    tag: TicketRef,
    circles: Mapping[int, Circle],
) -> bool:
    """Tell whether the sender is a user or is in the circle of the tagged ticket."""
    if message.sender is not None and message.sender.key in unit.desk.users:
        return True
    if tag.thread is not None:
        return writer.inside(circles[tag.thread])
    ticket = unit.tickets.get(tag.ticket)
    return ticket is not None and writer.sender in unit.people_of(ticket)


def _part(
    unit: UnitOfWork, contact: Contact | None, thread: Thread | None, ticket: Ticket | None
) -> ParticipantRole | None:
    """Return the sender's role in the conversation."""
    if thread is not None and ticket is None and not unit.participants[thread.id]:
        return "participant"  # only machines wrote here so far, so the first person joins
    return unit.part_of(contact.id, thread, ticket) if contact is not None else None


def _is_reused(unit: UnitOfWork, message: Message) -> bool:
    """Tell whether another mail with the same Message-ID is on a thread already."""
    rows = unit.known_refs([message.message_id]) if message.message_id else {}
    return any(ref.held for refs in rows.values() for ref in refs)


def _earlier(unit: UnitOfWork, message: Message, contact: Contact | None) -> tuple[int, ...]:
    """Return the open ticket of the same contact with the same subject, at most one (E14)."""
    if contact is None:
        return ()
    return tuple(unit.earlier.get((contact.id, subject_key(message.subject)), [])[:1])
