"""Choose thread and ticket of a mail, and join threads that it shows to be one conversation.

See behaviour.md 5, joining. Every mail that is kept goes through here, machines' mail too: which
threads are one conversation must not depend on the order of arrival.
"""

from __future__ import annotations

from core.decisions.tickets import (
    Decision,
    JoinThread,
    LinkTickets,
    MergeTicket,
    RenameTicket,
    UnseatPeople,
)
from core.events import Cause, MailArrived
from core.model.ticket import Thread, Ticket

WORKED_ON_BOTH = "the mail answers both, but somebody has worked on each of them"
NOT_VOUCHED = (
    "the mail shares a Message-ID with both tickets, but its sender does not take part in both; "
    "merge them if they are one matter"
)


def survivor(event: MailArrived) -> Ticket | None:
    """Return the ticket of a mail after the threads of its conversation are joined."""
    into = _group(event)[0]
    return into[1] if into is not None else None


def _group(
    event: MailArrived,
) -> tuple[tuple[Thread, Ticket | None] | None, list[tuple[Thread, Ticket | None]], list[Ticket]]:
    """Return (thread and ticket of the mail, pairs to join to them, tickets that stay separate).

    The tied thread is compared with those that the mail shows to be the same conversation. The
    ticket with the lower number survives if nobody has worked on the other; tickets in the trash
    take no part.
    """
    if event.thread is None or (event.ticket is not None and event.ticket.deleted_at is not None):
        return None, [], []
    tied = (event.thread, event.ticket)
    live = [tied, *(pair for pair in event.joined if pair[1] is None or pair[1].deleted_at is None)]
    into, rest, beside = tied, [], []
    for pair in live[1:]:
        first, second = sorted(
            (into, pair),
            key=lambda each: (each[1] is None, each[1].number if each[1] else 0, each[0].id),
        )
        if (
            second[1] is not None
            and first[1] is not None
            and second[1].number != first[1].number
            and second[1].worked
        ):
            beside.append(pair[1] if pair[1] is not None else second[1])
            continue
        into = first
        rest.append(second)
    return into, rest, beside


def place(
    event: MailArrived, thread: Thread, decisions: list[Decision]
) -> tuple[Thread, Ticket | None]:
    """Join the mail's ``thread`` with threads that the mail shows to be the same conversation.

    The result is the thread on which the mail is put, and the ticket of that thread. Members of the
    circle whom the tie makes strangers become strangers there.
    """
    into, rest, beside = _group(event)
    into_thread, ticket = into if into is not None else (thread, event.ticket)
    if event.tie.strangers:
        leave = tuple(sorted(event.tie.strangers))
        threads = (into_thread, *(each for each, _ in rest))
        decisions.extend(UnseatPeople(each.id, leave) for each in threads)
    for joined, other in rest:
        decisions.append(JoinThread(joined.id, into_thread.id))
        if other is not None and ticket is not None and other.number != ticket.number:
            decisions.append(
                MergeTicket(other.number, ticket.number, Cause("join", event.message.message_id))
            )
    if ticket is not None:
        cause = Cause("join", event.message.message_id)
        decisions.extend(
            LinkTickets(ticket.number, other.number, "joined", cause, WORKED_ON_BOTH)
            for other in beside
        )
        if into is not None and (rest or event.tie.renames):
            decisions.append(RenameTicket(ticket.number, into_thread.id))
    return into_thread, ticket


def linked(event: MailArrived, ticket: int) -> list[Decision]:
    """Link a mail's ticket with other tickets that know one of the mail's Message-IDs."""
    cause = Cause("join", event.message.message_id)
    return [
        LinkTickets(ticket, other.number, "maybe", cause, NOT_VOUCHED)
        for other in event.related
        if other.number != ticket
    ]
