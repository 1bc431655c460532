"""Decide what an inbound message causes, in the order of the steps of behaviour.md 2.1.

The first step that applies decides; the steps up to quarantine are in :mod:`core.rules.screening`.
Every branch ends in :class:`core.decisions.tickets.Finish` with a plain sentence, so that people
can find each mail. Nothing in a mail makes this raise (R6).
"""

from __future__ import annotations

from collections.abc import Mapping

from core.decisions.outgoing import Notify, Relay, WakeRuns
from core.decisions.tickets import (
    NEW,
    AddParticipants,
    AppendMessage,
    AttachThread,
    ContinueThread,
    Decision,
    MarkContact,
    NoteAgent,
    NoteCustomer,
    OpenTicket,
    RaiseFlags,
    Remark,
    RenameTicket,
    SetStatus,
    SkipRule,
)
from core.events import Cause, MailArrived
from core.mail.reply_tokens import bare
from core.model.message import Address, Message
from core.model.ticket import Thread, Ticket, User
from core.pipeline import Pipeline
from core.rules.joining import NOT_VOUCHED, linked, place
from core.rules.rights import Right, why_not
from core.rules.screening import (
    Trail,
    auto_reply,
    cause_of,
    duplicate,
    marks,
    own_mail,
    quarantine,
    report,
    sender_role,
    who,
)
from core.rules.triggers import IncomingReply, Ruling, status_rule

MACHINE_WRITTEN = frozenset({"auto_generated", "bulk"})


def receive(event: MailArrived, pipelines: Mapping[int, Pipeline]) -> list[Decision]:
    """Decide on an inbound message; ``pipelines`` holds all pipelines by id."""
    trail = Trail(event, role=sender_role(event))
    ended = duplicate(trail) or own_mail(trail) or report(trail)
    if ended is not None:
        return ended
    trail.step("sender", trail.role, who(trail.role))
    return auto_reply(trail) or quarantine(trail) or _file(trail, pipelines)


def _file(trail: Trail, pipelines: Mapping[int, Pipeline]) -> list[Decision]:
    """Put the mail on its thread, with a ticket or without (steps 7 to 9)."""
    event = trail.event
    tie = event.tie
    trail.step("tie", tie.matched_by or "none", _tied(event))
    if event.related:
        tickets = ", ".join(f"ticket {each.number}" for each in event.related)
        trail.step("related", tickets, NOT_VOUCHED)
    forwarded = "yes" if _is_forward(event, event.thread) else "no"
    trail.step("forward", forwarded, event.message.forward.rule if event.message.forward else "")
    if event.ticket is not None and event.ticket.deleted_at is not None:
        return _after_trash(trail, pipelines, event.ticket)
    thread, ticket = NEW, event.ticket
    if event.thread is not None:
        placed, ticket = place(event, event.thread, trail.decisions)
        thread = placed.id
    if ticket is None:
        return _fresh(trail, pipelines, thread)
    return _reply(trail, pipelines, thread, ticket)


def _is_forward(event: MailArrived, thread: Thread | None) -> bool:
    """Tell whether a mail on ``thread`` is a forward or an answer to a forward."""
    on_forward = thread is not None and thread.kind == "forward"
    return on_forward or event.tie.answers_forward or event.message.kind == "forward"


def _after_trash(
    trail: Trail, pipelines: Mapping[int, Pipeline], trashed: Ticket
) -> list[Decision]:
    """Continue the conversation with a new ticket of the same requester (E38).

    A stranger's mail opens a ticket of its own, since what they write must not reach the requester.
    """
    event = trail.event
    if trail.role == "stranger":
        return _on_their_own(trail, pipelines)
    if event.thread is None:
        return _fresh(trail, pipelines, NEW, trashed)
    if not _makes_tickets(event):
        trail.decisions.append(AppendMessage(event.thread.id, trail.role))
        why = "Its ticket is in the trash and its channel makes no tickets"
        return trail.end("done", f"{why}; it is kept on the conversation.")
    trail.decisions.append(ContinueThread(event.thread.id))
    return _fresh(trail, pipelines, NEW, trashed)


def _on_their_own(trail: Trail, pipelines: Mapping[int, Pipeline]) -> list[Decision]:
    """Open a ticket for a stranger's mail whose conversation has its ticket in the trash.

    A ticket that continues the trashed one would have its requester, who must not be told what a
    stranger writes.
    """
    trail.role = "contact"
    trail.step("own ticket", "yes", "a stranger's mail does not continue a ticket in the trash")
    return _fresh(trail, pipelines, NEW)


def _makes_tickets(event: MailArrived) -> bool:
    return bool(event.channels) and event.channels[0].tickets


def _fresh(
    trail: Trail, pipelines: Mapping[int, Pipeline], thread: int, trashed: Ticket | None = None
) -> list[Decision]:
    """Open a ticket for a conversation that has none, if the channel makes tickets.

    Rows E01-E03, E14, E15, E20, E21, E25b, E28, E34, E35, E43.
    """
    event = trail.event
    customer = _original_sender(trail)
    trail.decisions.append(
        AppendMessage(
            thread,
            trail.role,
            names=thread == NEW or event.tie.names,
            claims=trail.role != "stranger",
            speaks_for=customer,
            flags=marks(trail),
        )
    )
    opening = (thread == NEW and trashed is None) or event.tie.first
    _participate(trail, thread, opening=opening)
    if not _makes_tickets(event):
        return _keep_without_ticket(trail)
    trail.decisions.append(
        _opening(trail, pipelines[event.channels[0].pipeline_id], thread, customer, trashed)
    )
    if thread != NEW:
        trail.decisions.append(RenameTicket(NEW, thread))
    trail.decisions.extend(linked(event, NEW))
    trail.decisions.extend(
        Remark(NEW, cause_of(event), f"also sent to {each.address}") for each in event.channels[1:]
    )
    _mark_sender(trail, NEW)
    if event.automation:
        sender = event.message.sender.key if event.message.sender else ""
        trail.decisions.append(Notify(NEW, "new", event.message.subject, but=sender))
    trail.step("status rule", "none", "a new ticket starts in its first status")
    if trashed is not None:
        return trail.end("done", "Its earlier ticket is in the trash, so it opened a new one.")
    return trail.end("done", "It opened a ticket.")


def _keep_without_ticket(trail: Trail) -> list[Decision]:
    """Keep a mail on a thread without a ticket, since its channel opens no tickets (S2)."""
    channels = trail.event.channels
    _mark_contact(trail)
    trail.step("status rule", "none", "the channel makes no tickets")
    why = f"Channel {channels[0].address} makes no tickets" if channels else "There is no channel"
    return trail.end("done", f"{why}, so it is kept as a conversation.")


def _opening(
    trail: Trail, pipeline: Pipeline, thread: int, customer: Address | None, trashed: Ticket | None
) -> OpenTicket:
    event = trail.event
    wanted = event.channels[0].status_id
    requester = customer or (NEW if event.message.sender is not None else None)
    if trail.role == "stranger" and thread != NEW:
        requester = None  # that is who began the conversation (E35)
    return OpenTicket(
        subject=_subject(event, trashed),
        pipeline_id=pipeline.id,
        status_id=wanted
        if wanted is not None and pipeline.holds(wanted)
        else pipeline.first_open().id,
        source="email",
        cause=cause_of(event),
        thread=thread,
        requester=trashed.requester_id or requester if trashed is not None else requester,
        flags=_opening_flags(trail, customer),
        links=event.earlier_open,
        note="earlier ticket deleted" if trashed is not None else None,
        enrols=event.automation,
    )


def _subject(event: MailArrived, trashed: Ticket | None) -> str:
    """Return the subject of a new ticket.

    If it continues a ticket in the trash, its requester is told the subject. So another person's
    words do not become it.
    """
    if trashed is None or event.sender.held_role == "requester":
        return event.message.subject
    return trashed.subject


def _reply(
    trail: Trail, pipelines: Mapping[int, Pipeline], thread: int, ticket: Ticket
) -> list[Decision]:
    """Append a message to a ticket and apply the status rule."""
    event = trail.event
    trail.decisions.append(
        AppendMessage(
            thread,
            trail.role,
            names=event.tie.names,
            claims=trail.role == "contact",
            speaks_for=_original_sender(trail),
            flags=marks(trail),
        )
    )
    row = _thread_of(event, thread, ticket)
    if event.thread is None:
        trail.decisions.append(AttachThread(ticket.number, NEW, row.origin, cause_of(event)))
    _participate(trail, thread, opening=event.thread is None)
    trail.decisions.extend(linked(event, ticket.number))
    _mark_sender(trail, ticket.number)
    if trail.role == "user":
        trail.decisions.append(NoteAgent(ticket.number))
    elif event.automation:
        trail.decisions.extend(_customer_wrote(event, ticket, row))
    pipeline = pipelines[ticket.pipeline_id]
    if pipeline.relay and row.kind == "normal" and event.relayed_by is not None:
        _relay(trail, ticket, event.relayed_by)
    ruling = status_rule(_incoming_reply(trail, row), ticket, pipeline)
    flags = (*ruling.flags, *marks(trail))
    if flags:
        trail.decisions.append(RaiseFlags(ticket.number, tuple(dict.fromkeys(flags))))
    return _ruled(trail, ticket, pipeline, ruling)


def _relay(trail: Trail, ticket: Ticket, user: User) -> None:
    """Send the customer a user's answer to a notice, if the user may send mail (E19)."""
    if not (trail.event.message.reply_text.strip() or trail.event.message.attachments):
        return
    if refused := why_not(user.role, Right.SEND_MAIL):
        trail.step("relay", "no", refused)
    else:
        trail.decisions.append(Relay(ticket.number, user.address))


def _incoming_reply(trail: Trail, thread: Thread) -> IncomingReply:
    event, tie = trail.event, trail.event.tie
    kind, automation = event.message.kind, event.automation
    return IncomingReply(kind, trail.role, thread, tie.answers_forward, tie.late, automation)


def _customer_wrote(event: MailArrived, ticket: Ticket, thread: Thread) -> list[Decision]:
    """Wake runs that wait for the customer, and notify the ticket's owner."""
    sender = event.message.sender
    name = sender.name or sender.address if sender is not None else None
    key = sender.key if sender is not None else ""
    told = Notify(ticket.number, "reply", f"{name or 'somebody'} wrote", but=key)
    woken = [] if _is_forward(event, thread) else [WakeRuns(ticket.number, "customer_reply")]
    return [*woken, told]


def _ruled(trail: Trail, ticket: Ticket, pipeline: Pipeline, ruling: Ruling) -> list[Decision]:
    cause = Cause(ruling.rule, trail.event.message.message_id)
    if ruling.status_id is None or ruling.status_id == ticket.status_id:
        trail.decisions.append(SkipRule(ticket.number, cause, ruling.why))
        trail.step("status rule", "none", ruling.why)
        return trail.end(
            "done", f"It was added to ticket {ticket.number}; the status stays: {ruling.why}."
        )
    target = pipeline.status(ruling.status_id).name
    trail.decisions.append(SetStatus(ticket.number, pipeline.id, ruling.status_id, cause))
    trail.step("status rule", ruling.rule, f"{ruling.why}: to {target}")
    return trail.end(
        "done",
        f"It was added to ticket {ticket.number}, which moved to {target}: {ruling.why}.",
        rule=ruling.rule,
    )


def _thread_of(event: MailArrived, thread: int, ticket: Ticket) -> Thread:
    """Return the thread on which the message is put: an existing one, or else a new one.

    A new thread becomes the origin thread of its ticket, which has no mail yet (E41, C18).
    """
    for row, _ in ((event.thread, None), *event.joined):
        if row is not None and row.id == thread:
            return row
    return Thread(
        NEW,
        "normal",
        event.received_at,
        ticket=ticket.number,
        origin=True,
        attached_at=event.received_at,
    )


def _participate(trail: Trail, thread: int, *, opening: bool) -> None:
    """Give the people in From, To, Cc and Reply-To a role on the thread (section 5, circle).

    Only a mail that opens the thread, or whose sender is proven, brings people into the circle.
    People whom another mail names become strangers. The mail of a stranger adds only its sender.
    The third party of a forward stays a stranger (E17, E24).
    """
    event, role, message = trail.event, trail.role, trail.event.message
    if role == "stranger":
        trail.decisions.append(AddParticipants(thread, "stranger"))
        return
    part = None
    if role == "contact":
        part = event.sender.held_role or (
            "requester" if event.thread is None and event.ticket is None else "participant"
        )
    by_program = message.kind in MACHINE_WRITTEN  # nobody decided whom it names
    names = (opening and event.verdict != "fail") or (event.verdict == "pass" and not by_program)
    others = (*message.to, *message.cc, *_answered_elsewhere(message))
    trail.decisions.append(
        AddParticipants(thread, part, others, "participant" if names else "stranger")
    )


def _answered_elsewhere(message: Message) -> list[Address]:
    """Return the Reply-To addresses that differ from From in more than their plus part."""
    sender = bare(message.sender.key)[0] if message.sender else ""
    return [each for each in message.reply_to if bare(each.key)[0] != sender]


def _mark_sender(trail: Trail, ticket: int) -> None:
    event = trail.event
    if trail.role in ("contact", "stranger") and event.message.kind in ("human", "forward"):
        trail.decisions.append(NoteCustomer(ticket))
    _mark_contact(trail)


def _mark_contact(trail: Trail) -> None:
    """Mark a sender as a machine, as proven, or as reachable after failed mail."""
    event = trail.event
    automated = event.message.kind in MACHINE_WRITTEN and not event.sender.known
    heard = (
        event.sender.contact is not None
        and event.sender.contact.bounced_at is not None
        and event.verdict != "fail"
    )
    if automated or heard or event.verdict == "pass":
        trail.decisions.append(
            MarkContact(automated=automated, proven=event.verdict == "pass", heard=heard)
        )


def _original_sender(trail: Trail) -> Address | None:
    """Return the customer whose mail an agent forwarded to the channel, or None (E21).

    The forward must name that customer, and the agent must be proven to be the sender (section 5).
    """
    message = trail.event.message
    if (
        trail.role != "user"
        or message.kind != "forward"
        or message.forward is None
        or not trail.event.trusted_user
    ):
        return None
    sender = message.forward.sender
    return sender if sender is not None and sender.address else None


def _opening_flags(trail: Trail, customer: Address | None) -> tuple[str, ...]:
    kind = trail.event.message.kind
    flags = {
        "unverified": trail.event.verdict == "fail",
        "automated": kind in MACHINE_WRITTEN,
        "needs_attention": trail.role == "user" and kind == "forward" and customer is None,
    }
    return (*(name for name, holds in flags.items() if holds), *marks(trail))


def _tied(event: MailArrived) -> str:
    if event.tie.matched_by is None:
        return "it refers to no known conversation"
    return f"thread {event.tie.thread}" if event.tie.thread else f"ticket {event.tie.ticket}"
