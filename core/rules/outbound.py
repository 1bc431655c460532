"""Decide what a user's mail causes: trigger A (*email sent*) and more (behaviour.md 2.3).

The trigger fires when the mail is durably queued, in the same transaction.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

from core.decisions.outgoing import (
    FailDelivery,
    Notify,
    QueueMail,
    ReplyRecorded,
    SettleDeliveries,
    TellDeliveries,
    WakeRuns,
)
from core.decisions.tickets import NEW, Decision, RaiseFlags, Remark, SetFields, SetStatus, SkipRule
from core.events import (
    Cause,
    Delivered,
    DeliveriesHandled,
    DeliveryFailed,
    EmailSent,
    NoticesWritten,
)
from core.model.ticket import Ticket
from core.pipeline import Pipeline
from core.rules.triggers import Ruling
from core.rules.user_acts import opened

_NOBODY: Final = re.compile(r"5\.(?:1\.(?:[0-46]|10)|2\.1)[:;,.]?", re.ASCII)


def sent(event: EmailSent) -> list[Decision]:
    """Queue a user's mail.

    The mail opens a ticket (O13), belongs to a ticket, or has no ticket (O03).
    """
    if event.opens is not None:
        return [*opened(event.opens), QueueMail(NEW, event.mail, event.cause)]
    ticket, pipeline = event.ticket, event.pipeline
    if ticket is None or pipeline is None:
        return [QueueMail(None, event.mail, event.cause)]
    decided: list[Decision] = [QueueMail(ticket.number, event.mail, event.cause)]
    if event.mail.kind != "forward":
        decided.append(ReplyRecorded(ticket.number, event.associated))
        if ticket.owner_id is None and event.author is not None:
            decided.append(SetFields(ticket.number, (("owner_id", event.author.id),), event.cause))
        if event.associated:
            decided.append(WakeRuns(ticket.number, "agent_reply"))
    return [*decided, *_move(event, ticket, pipeline)]


def _move(event: EmailSent, ticket: Ticket, pipeline: Pipeline) -> list[Decision]:
    if event.status_id is None:
        return [_trigger(event, ticket, pipeline)]
    if event.status_id == ticket.status_id:  # O10: the status that a person chose wins over A
        return []
    return [SetStatus(ticket.number, pipeline.id, event.status_id, event.cause)]


def _trigger(event: EmailSent, ticket: Ticket, pipeline: Pipeline) -> SetStatus | SkipRule:
    ruling = sent_rule(event, ticket, pipeline)
    cause = Cause("A", event.mail.message_id, event.cause.user)
    if ruling.status_id is None:
        return SkipRule(ticket.number, cause, ruling.why)
    return SetStatus(ticket.number, pipeline.id, ruling.status_id, cause)


def sent_rule(event: EmailSent, ticket: Ticket, pipeline: Pipeline) -> Ruling:
    """Return the ruling of trigger A (S6; rows O01, O02, O04, O05, O09, O15).

    Trigger A never fires on the thread of a forward (S8b); it does fire on closed tickets (C5).
    """
    if event.mail.kind == "forward" or (
        event.mail.thread is not None and event.mail.thread.kind == "forward"
    ):
        return Ruling("A", None, "forward")
    if not event.associated:
        return Ruling("A", None, "no associated contact among the recipients")
    if pipeline.on_email_sent is None:
        return Ruling("A", None, "trigger A is off")
    if pipeline.on_email_sent == ticket.status_id:
        return Ruling("A", None, "already in target")
    return Ruling("A", pipeline.on_email_sent, "mail sent to a contact")


def failed(event: DeliveryFailed) -> list[Decision]:
    """Flag the ticket of failed mail and notify its owner; the ticket is not moved (O12)."""
    settled = SettleDeliveries(tuple(each.id for each in event.deliveries))
    if event.ticket is None:
        return [settled]
    ticket, reasons = event.ticket.number, event.reasons
    failures = (give_up(each, reasons.get(each.id, ""), ticket) for each in event.deliveries)
    # Scheduled mail that was never composed has no message on the ticket to show its failure.
    unsent = (
        Remark(ticket, event.cause, f"mail to {each.recipient} failed: {reasons.get(each.id, '')}")
        for each in event.deliveries
        if each.message_id is None
    )
    return [*chain.from_iterable(failures), *unsent, settled]


def give_up(delivery: Delivered, reply: str, ticket: int | None) -> list[Decision]:
    """Mark a delivery as failed; flag its ticket, if it has one, and notify the owner."""
    failure = FailDelivery(delivery.id, delivery.recipient, reply, is_hard(reply))
    return [failure, *(_tell(ticket, delivery, reply) if ticket is not None else ())]


def notices_written(event: NoticesWritten) -> list[Decision]:
    """Queue a mail that tells a user about their tickets."""
    return [QueueMail(event.ticket, event.mail, Cause("mail"), event.notices)]


def handled(event: DeliveriesHandled) -> list[Decision]:
    """Record that a person cancelled or retried mail of a ticket; the ticket is not moved.

    The flag of failed mail is cleared once no failed mail is left.
    """
    settled = event.what == "retried" and not event.failing
    return [TellDeliveries(event.ticket.number, event.what, event.recipients, settled, event.cause)]


def _tell(number: int, delivery: Delivered, reply: str) -> list[Decision]:
    return [
        RaiseFlags(number, ("delivery_failed",)),
        Notify(number, "failure", f"mail to {delivery.recipient} failed: {reply}"[:500]),
    ]


def is_hard(reply: str) -> bool:
    """Tell whether a server's reply says that the address does not exist or takes no mail.

    See RFC 3463 3.2 and RFC 7505. Codes 5.1.7 and 5.1.8 are about our address; 5.1.5 and 5.1.9 say
    that the address of the recipient is valid.
    """
    words = reply.replace("-", " ").split()[:3]
    return any(_NOBODY.fullmatch(word) for word in words) or words[:1] == ["551"]
