"""Decide whom a mail on a thread goes to where nobody has written whom it could answer."""

from __future__ import annotations

from collections.abc import Mapping

from core.model.ticket import ParticipantRole, Thread, Ticket


def first_recipient(
    ticket: Ticket, thread: Thread, roles: Mapping[int, ParticipantRole]
) -> int | None:
    """Return the contact: the ticket's requester, unless the thread is another's conversation.

    On the thread of a forward, or of a ticket that was merged into this one, it is one of the
    thread's own people (E17, E36). ``roles`` are those of the thread's participants.
    """
    people = [contact for contact, role in roles.items() if role != "stranger"]
    if thread.kind == "forward":
        return next(iter(people), None)
    if not people or thread.first_ticket in (None, ticket.number):
        return ticket.requester_id
    return min(people, key=lambda each: (roles[each] != "requester", each == ticket.requester_id))
