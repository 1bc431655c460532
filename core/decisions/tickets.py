"""Decisions about tickets, threads and people.

Only ``gateway.apply.applier`` performs them, in the transaction of the work that caused them.
Tickets are named by number, threads by id. NEW stands for the ticket opened last (by
:class:`OpenTicket`), or for the thread of the mail that is being processed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from core.decisions.outgoing import Outward, ReplyRecorded, TellDeliveries
from core.events import Cause
from core.mail.threading import MatchedBy
from core.model.merging import MergeRecord
from core.model.message import Address
from core.model.ticket import ParticipantRole, Priority, SenderRole, Source

NEW: Final = 0  # numbers and ids start at 1
FinalState = Literal["done", "ignored", "quarantined", "duplicate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket:
    """Open a ticket; ``thread`` becomes its origin.

    ``requester`` is a contact id, NEW for the sender of the mail, or an address.
    """

    subject: str
    pipeline_id: int
    status_id: int
    source: Source
    cause: Cause
    thread: int | None = None
    requester: int | Address | None = None
    close_date: date | None = None
    priority: Priority | None = None
    flags: tuple[str, ...] = ()
    links: tuple[int, ...] = ()
    note: str | None = None
    enrols: bool = True  # False: no status workflow follows (split, import of an archive)


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """Put the mail on a thread and remember every Message-ID that it states.

    ``names``: the mail may become the head of the conversation. ``claims``: the sender is in the
    circle of the thread, so the Message-IDs are recorded as their claims.
    """

    thread: int
    role: SenderRole
    outgoing: bool = False  # written by us outside the desk
    names: bool = False
    claims: bool = False
    speaks_for: Address | None = None  # the customer whose mail an agent forwarded (E21)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinThread:
    """Move the messages, people and Message-IDs of ``thread`` to ``into`` (section 5, joining)."""

    thread: int
    into: int


@dataclass(frozen=True, slots=True)
class RenameTicket:
    """Name a ticket after the head of its conversation, unless a person chose the name."""

    ticket: int
    thread: int


@dataclass(frozen=True, slots=True)
class AttachThread:
    """Put a thread on a ticket."""

    ticket: int
    thread: int
    origin: bool
    cause: Cause


@dataclass(frozen=True, slots=True)
class ContinueThread:
    """Continue ``thread``, whose ticket is in the trash, on a new thread (E38)."""

    thread: int


@dataclass(frozen=True, slots=True)
class MergeTicket:
    """Move everything of ``ticket`` to ``into``; the old number then leads to ``into`` (P10)."""

    ticket: int
    into: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class UnmergeTicket:
    """Move back everything in ``record`` that is still on ``into`` (P10)."""

    ticket: int
    into: int
    record: MergeRecord
    cause: Cause


@dataclass(frozen=True, slots=True)
class SplitOff:
    """Move messages to a new origin thread of the ticket just opened; link it to the old ticket."""

    ticket: int
    messages: tuple[int, ...]
    people: tuple[tuple[int, ParticipantRole], ...]
    channel: int | None
    cause: Cause


@dataclass(frozen=True, slots=True)
class AddNote:
    """Put a note for agents on a ticket."""

    ticket: int
    text: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class PlacePerson:
    """Give a contact a part in a ticket.

    ``role``: ``associated``, ``participant`` (an approved stranger), or None to remove the contact.
    """

    ticket: int
    contact: int
    role: Literal["associated", "participant"] | None
    cause: Cause


@dataclass(frozen=True, slots=True)
class LinkTickets:
    """Link two tickets and flag both; ``why`` is written into the history of both."""

    ticket: int
    other: int
    kind: Literal["joined", "maybe"]
    cause: Cause
    why: str


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Move a ticket to another status (behaviour.md section 1, *Move*).

    ``close_date`` is set if the caller gave a date (C07).
    """

    ticket: int
    pipeline_id: int
    status_id: int
    cause: Cause
    close_date: date | None = None
    migration: bool = False  # P05: no status workflow follows


@dataclass(frozen=True, slots=True)
class SetClosure:
    """Set the closure fields after a move; None clears a date, and "keep" does not change it."""

    ticket: int
    cause: Cause
    closed_at: datetime | None
    close_date: date | Literal["keep"] | None
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class SetFields:
    """Set fields of :class:`core.model.ticket.Ticket` other than the status."""

    ticket: int
    fields: tuple[tuple[str, object], ...]
    cause: Cause


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Write into the history why a rule did not move the ticket; ``detail`` is the reason."""

    ticket: int
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Write a remark like "also sent to ..." into the history, without changing the ticket."""

    ticket: int
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class RaiseFlags:
    """Add flags to a ticket."""

    ticket: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddParticipants:
    """Give external addresses a role on a thread; a stronger role that they have stays.

    ``sender_role`` is the role of the mail's sender, ``others_role`` that of the ``others``.
    """

    thread: int
    sender_role: ParticipantRole | None
    others: tuple[Address, ...] = ()
    others_role: Literal["participant", "stranger"] = "participant"


@dataclass(frozen=True, slots=True)
class UnseatPeople:
    """Make contacts strangers on a thread, because a mail that is put on it does not name them."""

    thread: int
    contacts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoteCustomer:
    """Set the time when the customer last wrote: ``at``, or now if ``at`` is None.

    If the ticket already has a later time, that time is kept.
    """

    ticket: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NoteAgent:
    """Record that an agent answered outside the desk, so the ticket counts as worked on."""

    ticket: int


@dataclass(frozen=True, slots=True)
class MarkContact:
    """Mark the sender's contact as a machine, as proven, or as reachable again."""

    automated: bool = False
    proven: bool = False
    heard: bool = False  # they wrote: mail to them is tried again


@dataclass(frozen=True, slots=True)
class Step:
    """The result for a mail of one step of behaviour.md 2.1, as ``mail explain`` prints it."""

    step: str
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Set the final state of a mail.

    ``reason`` is one plain sentence; ``rule`` names the rule that moved the ticket, or None.
    """

    state: FinalState
    reason: str
    role: SenderRole
    matched_by: MatchedBy | None = None
    original: int | None = None
    rule: str | None = None
    steps: tuple[Step, ...] = ()


Decision = (
    OpenTicket
    | AppendMessage
    | JoinThread
    | RenameTicket
    | AttachThread
    | ContinueThread
    | MergeTicket
    | UnmergeTicket
    | SplitOff
    | AddNote
    | PlacePerson
    | LinkTickets
    | SetStatus
    | SetClosure
    | SetFields
    | SkipRule
    | Remark
    | RaiseFlags
    | AddParticipants
    | UnseatPeople
    | NoteCustomer
    | NoteAgent
    | MarkContact
    | ReplyRecorded
    | TellDeliveries
    | Outward
    | Finish
)
