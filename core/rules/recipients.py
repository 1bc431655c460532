"""Choose the recipient of a mail that we write on a thread without answering a message."""

from __future__ import annotations

from collections.abc import Mapping

from core.model.ticket import ParticipantRole, Thread, Ticket


def first_recipient(
    ticket: Ticket, thread: Thread, roles: Mapping[int, ParticipantRole]
) -> int | None:
    """Return the contact who gets a first mail on a thread: as a rule, the ticket's requester.

    If the thread began as a forward, or with a ticket that was merged into this one, it is one of
    the thread's own people (E17, E36). ``roles`` are those of the thread's participants.
    """
    people = [contact for contact, role in roles.items() if role != "stranger"]
    if thread.kind == "forward":
        return next(iter(people), None)
    if not people or thread.first_ticket in (None, ticket.number):
        return ticket.requester_id
    return min(people, key=lambda each: (roles[each] != "requester", each == ticket.requester_id))
