"""Change the status, closure dates, fields and flags of a ticket (behaviour.md section 1, 2.6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from core.decisions import tickets as d
from core.decisions.outgoing import ReplyRecorded, TellDeliveries
from core.events import Cause
from gateway.apply.context import ApplyContext, MailContext

ATTENTION: Final = frozenset({"unread_reply", "needs_attention"})  # cleared once a person acts


def set_status(context: ApplyContext, decision: d.SetStatus, mail: MailContext | None) -> None:
    """Move a ticket; a move by a person or program clears the flags that ask for attention."""
    ticket, cause = context.ticket(decision.ticket, mail), decision.cause
    before = context.status_name(ticket)
    changes: dict[str, Any] = {}
    if cause.rule in ("user", "api"):
        changes = {"worked": True, "flags": ticket.flags - ATTENTION}
    context.change(
        ticket.number, pipeline_id=decision.pipeline_id, status_id=decision.status_id, **changes
    )
    after = context.status_name(context.ticket(ticket.number))
    if mail is not None:
        mail.before = before
    context.event(ticket.number, "status_changed", cause, before=before, after=after, mail=mail)


def set_closure(context: ApplyContext, decision: d.SetClosure, mail: MailContext | None) -> None:
    """Set the dates that follow from a move, and count a reopening."""
    ticket = context.ticket(decision.ticket, mail)
    changes: dict[str, Any] = {"closed_at": decision.closed_at}
    if decision.close_date != "keep":
        changes["close_date"] = decision.close_date
    if decision.closed_at is not None and ticket.first_closed_at is None:
        changes["first_closed_at"] = decision.closed_at
    if decision.reopened:
        changes |= {"reopened_count": ticket.reopened_count + 1, "last_reopened_at": context.now}
    context.change(ticket.number, **changes)
    after = context.ticket(ticket.number).close_date
    if after != ticket.close_date:
        before, after_text = _text(ticket.close_date), _text(after)
        context.event(
            ticket.number,
            "close_date_changed",
            decision.cause,
            before=before,
            after=after_text,
            mail=mail,
        )


def set_fields(context: ApplyContext, decision: d.SetFields) -> None:
    """Set fields. If a person sets subject or requester, the ticket is not renamed later."""
    number, cause = decision.ticket, decision.cause
    ticket = context.unit.tickets[number]
    changes: dict[str, Any] = dict(decision.fields)
    if cause.rule == "user":
        changes["worked"] = True
        changes["titled"] = ticket.titled or bool({"subject", "requester_id"} & changes.keys())
    context.change(number, **changes)
    for name, value in decision.fields:
        if name == "deleted_at":
            _record_trash(context, number, cause, restored=value is None)
            continue
        context.event(
            number,
            f"{name.removesuffix('_id')}_changed",
            cause,
            before=_shown(context, name, getattr(ticket, name)),
            after=_shown(context, name, value),
        )


def _record_trash(context: ApplyContext, number: int, cause: Cause, *, restored: bool) -> None:
    """Record that a ticket was deleted or restored; if restored, let its threads get replies."""
    # replies that went on with another ticket in the meantime stay there (E38)
    for thread in context.unit.threads_of(number) if restored else ():
        if thread.redirect_to is not None:
            context.unit.set_thread(replace(thread, redirect_to=None))
    context.event(number, "restored" if restored else "deleted", cause)


def _shown(context: ApplyContext, name: str, value: object) -> str | None:
    """Return a field's value as the history shows it: people by address or name."""
    if name == "requester_id" and isinstance(value, int):
        contact = context.unit.contacts.get(value)
        return contact.address if contact else f"contact {value}"
    if name == "owner_id" and isinstance(value, int):
        return _user_name(context, value)
    return _text(value)


def _user_name(context: ApplyContext, number: int) -> str:
    users = context.unit.desk.users.values()
    return next((each.name for each in users if each.id == number), f"user {number}")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def note_customer(
    context: ApplyContext, decision: d.NoteCustomer, mail: MailContext | None
) -> None:
    """Set the date when a customer last wrote, unless the ticket has a later one already."""
    ticket, at = context.ticket(decision.ticket, mail), decision.at or context.now
    before = ticket.last_customer_message_at
    later = max(at, before) if before is not None else at
    context.change(ticket.number, last_customer_message_at=later)


def note_agent(context: ApplyContext, decision: d.NoteAgent, mail: MailContext | None) -> None:
    """Record that a person has worked on the ticket."""
    context.change(context.number(decision.ticket, mail), worked=True)


def record_reply(context: ApplyContext, decision: ReplyRecorded) -> None:
    """For a user's mail, clear the flags that ask for attention and set response dates (2.6)."""
    ticket = context.unit.tickets[decision.ticket]
    changes: dict[str, Any] = {
        "last_agent_message_at": context.now,
        "worked": True,
        "flags": ticket.flags - ATTENTION,
    }
    if decision.contact:
        changes["times_contacted"] = ticket.times_contacted + 1
        changes["first_response_at"] = ticket.first_response_at or context.now
    context.change(decision.ticket, **changes)


def tell_deliveries(context: ApplyContext, decision: TellDeliveries) -> None:
    """Record that a person cancelled or retried mail; if ``settled``, clear ``delivery_failed``."""
    number = decision.ticket
    if decision.settled:
        flags = context.unit.tickets[number].flags
        context.change(number, flags=flags - {"delivery_failed"})
    recipients = ", ".join(decision.recipients)
    context.event(number, f"mail_{decision.what}", decision.cause, after=recipients)


def raise_flags(context: ApplyContext, decision: d.RaiseFlags, mail: MailContext | None) -> None:
    """Add flags to a ticket."""
    context.raise_flags(context.number(decision.ticket, mail), decision.flags)


def remark(
    context: ApplyContext, decision: d.Remark | d.SkipRule, mail: MailContext | None
) -> None:
    """Write a remark, or the reason why a rule did nothing, into the history."""
    kind = "remark" if isinstance(decision, d.Remark) else "rule_skipped"
    number = context.number(decision.ticket, mail)
    context.event(number, kind, decision.cause, detail=decision.detail, mail=mail)
