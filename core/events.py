"""Events that the rules decide on; each carries the facts at the time of the event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from core.mail.threading import Tie
from core.model.merging import MergeRecord
from core.model.message import Address, Message
from core.model.outgoing_mail import Outgoing
from core.model.ticket import (
    Channel,
    Contact,
    ParticipantRole,
    Priority,
    Source,
    Thread,
    Ticket,
    User,
)
from core.model.workflow import Action, Enrolment, EnrolmentState, Graph, RunOutcome, Workflow
from core.pipeline import Pipeline

Verdict = Literal["pass", "fail", "none"]
Rule = Literal["A", "B", "S9", "user", "workflow", "api", "join", "merge", "mail", "admin"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something changed (INV9); ``message_id`` has no angle brackets."""

    rule: Rule
    message_id: str | None = None
    user: str | None = None  # address or name
    workflow: str | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """An earlier mail of which a copy has arrived."""

    mail_id: int | None  # None for a mail that we sent
    channel: Channel | None
    thread: int | None
    ticket: int | None
    repeated_at: frozenset[int] = frozenset()  # ids of channels that copies came through
    held: bool = False  # it is in quarantine, so nobody has read it


@dataclass(frozen=True, slots=True)
class Sender:
    """What the desk knows about the sender (From) of a mail."""

    contact: Contact | None
    user: User | None
    own_channel: bool
    known: bool  # a contact or user existed before this mail
    held_role: ParticipantRole | None  # on the tied thread or its ticket


@dataclass(frozen=True, slots=True)
class Delivered:
    """The delivery of our mail to one recipient; ``message_id`` identifies the mail."""

    id: int
    recipient: str
    state: str
    message_id: str | None
    ticket: int | None
    author_id: int | None
    automatic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MailArrived:
    """An inbound message with all that the rules need to know about it (behaviour.md 2.1).

    ``channels`` are our channels among its recipients; the settings of the first channel apply.
    """

    message: Message
    received_at: datetime
    channels: tuple[Channel, ...]
    sender: Sender
    verdict: Verdict
    tie: Tie
    duplicate_of: Original | None
    reused_id: bool
    own_copy: Original | None  # our mail that this is a copy of
    looped: bool  # its loop header names a channel of ours; those of other desks do not count
    spam: bool
    trusted_user: bool  # it may act as its user: verdict pass, or that user's signed token
    thread: Thread | None  # that the mail is tied to
    ticket: Ticket | None  # of that thread; may be in the trash
    joined: tuple[tuple[Thread, Ticket | None], ...]  # of ``tie.joins``
    earlier_open: tuple[int, ...]  # open tickets of the same sender and subject (E14)
    related: tuple[Ticket, ...] = ()  # of ``tie.related``: linked, not joined
    behind: Address | None = None  # the From that we replaced by the person behind it
    released: bool = False  # from quarantine, by a person
    automation: bool = True  # False while an archive is imported
    deliveries: tuple[Delivered, ...] = ()  # of ours that a report may be about
    returned: int | None = None  # the delivery whose return path the mail was sent to
    relayed_by: User | None = None  # E19: the user that the sender proved to be


@dataclass(frozen=True, slots=True)
class TicketOpened:
    """A person or program opens a ticket; if ``thread`` is given, it is put on the ticket.

    ``heard_at`` is when a customer last wrote on that thread.
    """

    subject: str
    pipeline: Pipeline
    status_id: int
    source: Source
    cause: Cause
    requester: Contact | None = None
    thread: Thread | None = None
    priority: Priority | None = None
    close_date: date | None = None
    channel: Channel | None = None
    heard_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MoveAsked:
    """A person, workflow or program asks to move a ticket to a status.

    A ``close_date`` given explicitly wins over every rule (C07).
    """

    ticket: Ticket
    pipeline: Pipeline
    status_id: int
    cause: Cause
    person: bool  # bound by the pipeline's rules for people (P09)
    close_date: date | None = None
    migration: bool = False  # P05: sets dates, starts no workflow


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A move that the rules decided; :func:`core.decide.decide` hands it to the rules again."""

    ticket: Ticket
    pipeline: Pipeline
    was_state: Literal["open", "closed"] | None  # None: a new ticket
    state: Literal["open", "closed"]
    cause: Cause
    close_date: date | None = None
    migration: bool = False  # starts no workflow
    status_id: int = 0  # that the ticket reached


@dataclass(frozen=True, slots=True)
class ThreadAttached:
    """An agent puts a thread without a ticket on a ticket.

    ``heard_at`` is when a customer last wrote on that thread.
    """

    ticket: Ticket
    thread: Thread
    has_origin: bool
    cause: Cause
    heard_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MergeAsked:
    """``ticket`` is to be merged into ``into`` (P10)."""

    ticket: Ticket
    into: Ticket
    cause: Cause


@dataclass(frozen=True, slots=True)
class UnmergeAsked:
    """The merge of ``ticket`` is to be undone (P10).

    ``record`` describes the last merge of ``ticket``; None if no merge is left to undo.
    """

    ticket: Ticket
    into: Ticket | None
    record: MergeRecord | None
    asked_at: datetime
    cause: Cause


@dataclass(frozen=True, slots=True)
class SplitAsked:
    """The mails in ``chosen`` are to be moved from their ticket to a new ticket (P11).

    ``people`` are the senders and recipients of the chosen mails, ``held`` are all mails of the
    ticket. ``heard_at`` is the time of the last chosen mail that a customer wrote.
    """

    ticket: Ticket
    pipeline: Pipeline
    chosen: tuple[int, ...]
    held: frozenset[int]
    subject: str
    requester: int | None
    people: tuple[tuple[int, ParticipantRole], ...]
    channel: int | None
    cause: Cause
    heard_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NoteWritten:
    """An agent writes a note for other agents (O07)."""

    ticket: Ticket
    text: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class PersonChanged:
    """An agent puts a contact on a ticket, approves a stranger, or takes somebody off."""

    ticket: Ticket
    contact: Contact
    part: ParticipantRole | None  # that they have now
    change: Literal["add", "approve", "remove"]
    cause: Cause


@dataclass(frozen=True, slots=True)
class FieldsSet:
    """An agent sets fields of :class:`core.model.ticket.Ticket` other than the status."""

    ticket: Ticket
    cause: Cause
    fields: tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class EmailSent:
    """A user's mail is ready to go out (behaviour.md 2.3).

    ``ticket`` is None for a mail without a ticket (O03). ``associated``: a recipient is the
    requester or an associated contact (C20). ``status_id`` is a status chosen with the mail (O10).
    """

    mail: Outgoing
    cause: Cause
    ticket: Ticket | None = None
    pipeline: Pipeline | None = None
    associated: bool = False
    author: User | None = None
    status_id: int | None = None
    opens: TicketOpened | None = None  # O13: the ticket that it opens


@dataclass(frozen=True, slots=True)
class Prepared:
    """The mails of an action, or the reason why there are none.

    ``retry`` tells whether a later attempt may work.
    """

    mails: tuple[Outgoing, ...] = ()
    outcome: RunOutcome = "OK"
    detail: str | None = None
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """A delay, branch or skipped action that a run passed on its way to the next action."""

    action: Action
    outcome: RunOutcome
    detail: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """The next part of a run: passed actions, and then an ``action``, a wait, or the end.

    ``place`` is where the run stands after everything in ``passed``. ``until`` and ``entered_at``
    are set for a wait, ``ends`` and ``reason`` for the end.
    """

    passed: tuple[Passed, ...]
    place: str
    action: Action | None = None
    until: datetime | None = None
    entered_at: datetime | None = None
    wait_for: str | None = None
    attempts: int = 0
    ends: EnrolmentState | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunDue:
    """A run of a ticket in a workflow is due.

    ``done``: ids of the actions that this enrolment has executed. ``ahead``: the result of
    :func:`core.workflow.run.ahead`, if the caller has it already. ``prepared``: the mails of the
    action in ``ahead``.
    """

    ticket: Ticket
    workflow: Workflow
    enrolment: Enrolment
    done: frozenset[str]
    cause: Cause
    ahead: Ahead | None = None
    prepared: Prepared | None = None


@dataclass(frozen=True, slots=True)
class RunOrphaned:
    """A run is due, but its ticket or its workflow is gone.

    ``workflow`` is None if the workflow is gone.
    """

    enrolment: Enrolment
    workflow: Workflow | None


@dataclass(frozen=True, slots=True)
class RunFailed:
    """Executing a run failed with an error that no rule foresees; ``why`` names the error."""

    enrolment: Enrolment
    workflow: Workflow | None
    why: str


@dataclass(frozen=True, slots=True)
class DryRunStarted:
    """A workflow is tried out on a ticket, in a transaction that is undone (behaviour.md 3.7)."""

    ticket: Ticket
    workflow: Workflow
    cause: Cause


@dataclass(frozen=True, slots=True)
class WorkflowEdited:
    """A person edited the actions of a workflow that a ticket is in (behaviour.md 3.4).

    ``workflow`` is the new version, ``before`` holds the old actions. A run that stands at one of
    the ``ended`` places ends.
    """

    ticket: Ticket
    workflow: Workflow
    before: Graph
    enrolment: Enrolment
    ended: frozenset[str]


@dataclass(frozen=True, slots=True)
class EnrolAsked:
    """A person enrols a ticket; filters and the once-rule do not apply (behaviour.md 3.2)."""

    ticket: Ticket
    workflow: Workflow
    cause: Cause


@dataclass(frozen=True, slots=True)
class UnenrolAsked:
    """A person takes a ticket out of a workflow; ``reason`` says why the run ended."""

    ticket: Ticket
    workflow: Workflow
    cause: Cause
    reason: str = "a person took the ticket out"


@dataclass(frozen=True, slots=True)
class TaskDone:
    """An agent has finished a task of a ticket."""

    ticket: Ticket
    task: int
    text: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """A server refused mail for good, or mail could not be delivered for days.

    ``reasons`` maps the id of a delivery to the reason. ``ticket`` is None for mail without a
    ticket.
    """

    ticket: Ticket | None
    deliveries: tuple[Delivered, ...]
    reasons: Mapping[int, str]
    cause: Cause


@dataclass(frozen=True, slots=True)
class DeliveriesHandled:
    """A person cancelled mail of a ticket, or queued it again.

    ``failing``: the ticket has other failed mail.
    """

    ticket: Ticket
    what: Literal["cancelled", "retried"]
    recipients: tuple[str, ...]
    failing: bool
    cause: Cause


@dataclass(frozen=True, slots=True)
class DraftFailed:
    """A scheduled mail could not be built when it was due; ``outgoing`` is its id."""

    outgoing: int
    reason: str


@dataclass(frozen=True, slots=True)
class NoticesWritten:
    """A mail to a user about their tickets was written; ``notices`` are ids of its notices."""

    ticket: int
    mail: Outgoing
    notices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoticesUnsendable:
    """No mail can carry these notices: the user left, or has no address to write to."""

    notices: tuple[int, ...]


Event = (
    EmailSent
    | RunDue
    | RunOrphaned
    | RunFailed
    | DryRunStarted
    | WorkflowEdited
    | EnrolAsked
    | UnenrolAsked
    | DeliveryFailed
    | DeliveriesHandled
    | DraftFailed
    | NoticesWritten
    | NoticesUnsendable
    | MailArrived
    | TicketOpened
    | MoveAsked
    | StatusChanged
    | ThreadAttached
    | MergeAsked
    | UnmergeAsked
    | SplitAsked
    | NoteWritten
    | TaskDone
    | PersonChanged
    | FieldsSet
)
