"""Decisions about outgoing mail, workflow runs and notices to users.

``gateway.apply.applier`` performs them like all other decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.events import Cause
from core.model.delay import Awaited
from core.model.outgoing_mail import Outgoing
from core.model.workflow import EnrolmentState, RunOutcome


@dataclass(frozen=True, slots=True)
class QueueMail:
    """Put a mail on its thread, and queue it for each of its recipients.

    ``ticket`` is None for a mail without a ticket; ``notices`` are the ids of notices in the mail.
    """

    ticket: int | None
    mail: Outgoing
    cause: Cause
    notices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplyRecorded:
    """Record that a user sent mail from a ticket.

    ``contact`` tells whether the mail went to a contact of the ticket.
    """

    ticket: int
    contact: bool


@dataclass(frozen=True, slots=True)
class Relay:
    """Send an agent's answer to a notice on to the customer, as if written at the desk (E19)."""

    ticket: int
    user: str


@dataclass(frozen=True, slots=True)
class Enrol:
    """Start a run of a workflow for a ticket."""

    ticket: int
    workflow: int
    cause: Cause
    silent: str | None = None
    chain: tuple[int, ...] = ()
    began: str | None = None  # the rule that began the chain; None: the cause's own


@dataclass(frozen=True, slots=True)
class MoveRun:
    """Set the place at which a run stands, and the instant until which it waits."""

    enrolment: int
    place: str
    due_at: datetime
    entered_at: datetime
    wait_for: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class FinishRun:
    """End a run."""

    enrolment: int
    state: EnrolmentState
    reason: str


@dataclass(frozen=True, slots=True)
class CancelRuns:
    """End every run of a ticket (P10, P12)."""

    ticket: int
    reason: str


@dataclass(frozen=True, slots=True)
class WakeRuns:
    """Continue the runs that wait for an event, and those whose next action is to wait for it."""

    ticket: int
    event: Awaited


@dataclass(frozen=True, slots=True)
class RecordRun:
    """Write the outcome of an action into the action log.

    No two entries have the same ``key``; ``enrolment`` is None if the ticket was not enrolled.
    """

    workflow: int
    version: int
    ticket: int
    enrolment: int | None
    action: str | None
    outcome: RunOutcome
    detail: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify users of news about a ticket.

    ``but`` is the address key of the user who caused the news and is not notified.
    """

    ticket: int
    kind: Literal["new", "reply", "failure"]
    detail: str
    but: str = ""


@dataclass(frozen=True, slots=True)
class FailDelivery:
    """Mark a delivery as failed, even if a server accepted the mail before.

    ``hard``: the address does not exist.
    """

    delivery: int
    recipient: str
    reply: str
    hard: bool


@dataclass(frozen=True, slots=True)
class SettleDeliveries:
    """Record that these failed deliveries were reported on their tickets."""

    deliveries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TellDeliveries:
    """Write into the history of a ticket that a person cancelled or retried mail.

    ``settled``: no failed mail is left on the ticket.
    """

    ticket: int
    what: Literal["cancelled", "retried"]
    recipients: tuple[str, ...]
    settled: bool
    cause: Cause


@dataclass(frozen=True, slots=True)
class FailDraft:
    """Mark a scheduled mail as failed; the agenda then flags its ticket, as for all failed mail."""

    outgoing: int
    reason: str


@dataclass(frozen=True, slots=True)
class DropNotices:
    """Delete notices that cannot be sent."""

    notices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AddTask:
    """Add a task to a ticket; people do it, and mark it as done."""

    ticket: int
    text: str
    due_at: datetime | None
    cause: Cause


@dataclass(frozen=True, slots=True)
class FinishTask:
    """Mark a task as done."""

    ticket: int
    task: int
    text: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class CallWebhook:
    """Send the ticket to another program."""

    ticket: int
    url: str
    key: str
    cause: Cause


Outward = (
    QueueMail
    | Relay
    | Enrol
    | MoveRun
    | FinishRun
    | CancelRuns
    | WakeRuns
    | RecordRun
    | Notify
    | FailDelivery
    | SettleDeliveries
    | FailDraft
    | DropNotices
    | AddTask
    | FinishTask
    | CallWebhook
)
