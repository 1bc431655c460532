"""What the rules decide about mail that goes out, runs of workflows, and what users are told.
``gateway.apply.applier`` performs these as all others.
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
    """Put a mail on its thread and into the outbox, for each of its recipients.

    ``ticket`` is None for a mail without a ticket; ``notices`` are those that the mail covers.
    """

    ticket: int | None
    mail: Outgoing
    cause: Cause
    notices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplyRecorded:
    """A user wrote from the ticket; ``contact``: to somebody associated with it."""

    ticket: int
    contact: bool


@dataclass(frozen=True, slots=True)
class Relay:
    """The mail in hand, an agent's answer to our notice, goes out to the customer as if written at
    the desk (E19).
    """

    ticket: int
    user: str


@dataclass(frozen=True, slots=True)
class Enrol:
    """The ticket starts on its way through a workflow."""

    ticket: int
    workflow: int
    cause: Cause
    silent: str | None = None
    chain: tuple[int, ...] = ()
    began: str | None = None  # the rule that began the chain; None: the cause's own


@dataclass(frozen=True, slots=True)
class MoveRun:
    """A run stands somewhere else, or waits."""

    enrolment: int
    place: str
    due_at: datetime
    entered_at: datetime
    wait_for: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class FinishRun:
    """A run is over."""

    enrolment: int
    state: EnrolmentState
    reason: str


@dataclass(frozen=True, slots=True)
class CancelRuns:
    """Every run of the ticket is over (P10, P12)."""

    ticket: int
    reason: str


@dataclass(frozen=True, slots=True)
class WakeRuns:
    """Runs of the ticket that wait for this event go on, those too that have reached the delay and
    had no turn since.
    """

    ticket: int
    event: Awaited


@dataclass(frozen=True, slots=True)
class RecordRun:
    """What became of an action. ``key`` makes it the only one of its kind; ``enrolment`` None:
    nobody was enrolled.
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
    """Users are to be told, but not whoever did it (``but``, an address key)."""

    ticket: int
    kind: Literal["new", "reply", "failure"]
    detail: str
    but: str = ""


@dataclass(frozen=True, slots=True)
class FailDelivery:
    """A delivery that was taken by the next server came back, or ended there; ``hard``: the address
    does not exist.
    """

    delivery: int
    recipient: str
    reply: str
    hard: bool


@dataclass(frozen=True, slots=True)
class SettleDeliveries:
    """The tickets of these deliveries know of their end."""

    deliveries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TellDeliveries:
    """The history of a ticket tells what a person did about its mail; ``settled``: nothing of it
    lies there failed any more.
    """

    ticket: int
    what: Literal["cancelled", "retried"]
    recipients: tuple[str, ...]
    settled: bool
    cause: Cause


@dataclass(frozen=True, slots=True)
class FailDraft:
    """A scheduled mail is not sent; its ticket is told as of any mail that failed."""

    outgoing: int
    reason: str


@dataclass(frozen=True, slots=True)
class DropNotices:
    """Delete notices that no mail will cover."""

    notices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AddTask:
    """Something for people to do."""

    ticket: int
    text: str
    due_at: datetime | None
    cause: Cause


@dataclass(frozen=True, slots=True)
class FinishTask:
    """A task is done."""

    ticket: int
    task: int
    text: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class CallWebhook:
    """Tell another program about the ticket."""

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
