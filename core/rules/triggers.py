"""The status rule for an inbound message: S7 (trigger B), S8 and S9 (behaviour.md 2.1 step 9).

The first rule that applies decides, and one message moves a ticket at most once (INV1). Each
contested point (section 4) is a function of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.model.message import Kind
from core.model.ticket import SenderRole, Thread, Ticket
from core.pipeline import Pipeline

BY_KIND: Mapping[str, str] = {
    "bounce": "report",
    "report": "report",
    "loop": "report",
    "auto_reply": "auto-reply",
}
BY_ROLE: Mapping[str, str] = {"self": "written by us", "user": "user's own mail"}


@dataclass(frozen=True, slots=True)
class IncomingReply:
    """An inbound message on a thread of a ticket, with the facts that the status rule reads."""

    kind: Kind
    role: SenderRole
    thread: Thread
    answers_forward: bool  # In-Reply-To names a forward on the thread (E17b)
    late: bool  # an answer to it arrived before it (section 5, tie 4)
    automation: bool  # False while an archive is imported


@dataclass(frozen=True, slots=True)
class Ruling:
    """The outcome of a status rule.

    ``status_id`` is None for no move; ``why`` goes into the history, ``flags`` onto the ticket.
    """

    rule: Literal["A", "B", "S9"]
    status_id: int | None
    why: str
    flags: tuple[str, ...] = ()


def silent(reply: IncomingReply, pipeline: Pipeline) -> Ruling | None:
    """Return the ruling for a message that moves no ticket whatever the settings, else None.

    Rows S8, C11, E16-E18, E26, C20.
    """
    written = BY_KIND.get(reply.kind) or BY_ROLE.get(reply.role)
    if written is not None:
        return Ruling("B", None, written)
    if reply.thread.kind == "forward" or reply.answers_forward:
        return Ruling("B", None, "reply to a forward", ("needs_attention",))
    if reply.kind == "forward":
        return Ruling("B", None, "forward", ("needs_attention",))
    if reply.role == "machine":
        return Ruling("B", None, "machine")
    if reply.late:
        return Ruling("B", None, "earlier mail arrived late")
    if not reply.automation:
        return Ruling("B", None, "automation off")
    if reply.role == "stranger" and pipeline.strangers == "flag":
        return Ruling("B", None, "stranger", ("needs_attention", "unread_reply"))
    return None


def qualifies(thread: Thread, ticket: Ticket) -> bool:
    """Tell whether trigger B acts on a thread.

    It acts on the origin thread, and on a thread that was attached after the ticket had been closed
    and reopened (C2).
    """
    if thread.origin:
        return True
    if ticket.reopened_count == 0 or ticket.first_closed_at is None or thread.attached_at is None:
        return False
    return thread.attached_at >= ticket.first_closed_at


def status_rule(reply: IncomingReply, ticket: Ticket, pipeline: Pipeline) -> Ruling:
    """Return the ruling for a message on a ticket (E04-E13, E16-E18, E22-E26, E36, E37, E42).

    On a closed ticket S9 decides alone (C3). ``pipeline`` is the ticket's current one.
    """
    kept = silent(reply, pipeline)
    if kept is not None:
        return kept
    if pipeline.status(ticket.status_id).state == "closed":
        return Ruling("S9", pipeline.first_open().id, "reply on a closed ticket")
    if pipeline.on_customer_reply is None:
        return Ruling("B", None, "trigger B is off", ("unread_reply",))
    if not qualifies(reply.thread, ticket):
        return Ruling("B", None, "not the thread the ticket was created on", ("unread_reply",))
    if pipeline.on_customer_reply == ticket.status_id:
        return Ruling("B", None, "already in target")
    return Ruling("B", pipeline.on_customer_reply, "customer replied")
