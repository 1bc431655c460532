"""Set the roles of people on threads and tickets, and mark contacts (behaviour.md section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from core.decisions import tickets as d
from core.model.message import Address
from core.model.ticket import Contact
from gateway.apply.context import ApplyContext, MailContext, required


def sender_of(context: ApplyContext, mail: MailContext) -> Contact | None:
    """Return the contact of a mail's sender, created on first use; None without an address."""
    sender = mail.message.sender
    if sender is None or not sender.address:
        return None
    if mail.contact is None:
        mail.contact = context.unit.ensure_contact(sender.address, sender.name)
    return mail.contact


def add_participants(
    context: ApplyContext, decision: d.AddParticipants, mail: MailContext | None
) -> None:
    """Make the sender and the other external addresses of a mail participants of its thread."""
    thread = context.thread_id(decision.thread, mail)
    if decision.sender_role and (contact := sender_of(context, required(mail))):
        context.unit.set_participant(thread, contact.id, decision.sender_role)
    add_recipients(context, thread, decision.others, decision.others_role)


def add_recipients(
    context: ApplyContext,
    thread: int,
    people: Iterable[Address],
    role: Literal["participant", "stranger"] = "participant",
    *,
    proven: bool = False,
) -> None:
    """Give external addresses a role on a thread; with ``proven``, also mark them as proven."""
    for each in people:
        if each.address and not context.unit.is_ours(each.key):
            contact = context.unit.ensure_contact(each.address, each.name)
            context.unit.set_participant(thread, contact.id, role)
            if proven:
                _prove(context, contact)


def unseat(context: ApplyContext, decision: d.UnseatPeople) -> None:
    """Make contacts strangers on a thread."""
    thread = context.followed(decision.thread)
    for contact in decision.contacts:
        context.unit.unseat(thread.id, contact)


def _prove(context: ApplyContext, contact: Contact) -> None:
    if not contact.proven:
        context.unit.set_contact(replace(context.unit.contacts[contact.id], proven=True))


def place_person(context: ApplyContext, decision: d.PlacePerson) -> None:
    """Add a contact to a ticket, approve a stranger, or remove a contact from the ticket."""
    unit, number, contact = context.unit, decision.ticket, decision.contact
    address, cause = unit.contacts[contact].address, decision.cause
    match decision.role:
        case "associated":
            unit.set_associated(number, contact, present=True)
            context.event(number, "contact_added", cause, after=address)
        case "participant":
            for thread in unit.threads_of(number):
                if unit.participants[thread.id].get(contact) == "stranger":
                    unit.set_participant(thread.id, contact, "participant")
            context.event(number, "contact_approved", cause, before="stranger", after=address)
        case None:
            unit.set_associated(number, contact, present=False)
            for thread in unit.threads_of(number):
                unit.drop_participant(thread.id, contact)
            context.event(number, "contact_removed", cause, before=address)
    _clear_stranger_flag(context, number)


def _clear_stranger_flag(context: ApplyContext, number: int) -> None:
    """Clear ``new_participant`` once the ticket has no stranger left."""
    ticket, unit = context.unit.tickets[number], context.unit
    if "new_participant" in ticket.flags and not any(
        "stranger" in unit.participants[each.id].values() for each in unit.threads_of(number)
    ):
        context.change(number, flags=ticket.flags - {"new_participant"})


def mark_contact(context: ApplyContext, decision: d.MarkContact, mail: MailContext | None) -> None:
    """Mark the sender of a mail as a machine, as proven, or as reachable again."""
    sender = sender_of(context, required(mail))
    if sender is None:
        return
    contact = context.unit.contacts[sender.id]
    marked = replace(
        contact,
        automated=contact.automated or decision.automated,
        proven=contact.proven or decision.proven,
        bounced_at=None if decision.heard else contact.bounced_at,
    )
    if marked != contact:
        context.unit.set_contact(marked)
