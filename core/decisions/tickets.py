"""What the rules decide. ``gateway.apply.applier`` performs each of these, in the transaction of
the work that caused it, and nothing else does.

Tickets and threads are named by number and id. A decision about the ticket that an
:class:`OpenTicket` just before it opens names it NEW; the thread of the mail in hand, when it has
none yet, is NEW as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from core.decisions.outgoing import Outward, ReplyRecorded, TellDeliveries
from core.events import Cause, MergeRecord
from core.mail.threading import MatchedBy
from core.model.message import Address
from core.model.ticket import ParticipantRole, Priority, SenderRole, Source

NEW: Final = 0  # numbers and ids start at 1
FinalState = Literal["done", "ignored", "quarantined", "duplicate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket:
    """Open a ticket; with ``thread`` it becomes that thread's, as origin. Participants of the
    thread are the ticket's.
    """

    subject: str
    pipeline_id: int
    status_id: int
    source: Source
    cause: Cause
    thread: int | None = None
    requester: int | Address | None = (
        None  # contact id; NEW = the sender of the mail in hand; an address not met before
    )
    close_date: date | None = None
    priority: Priority | None = None
    flags: tuple[str, ...] = ()
    links: tuple[int, ...] = ()
    note: str | None = None
    enrols: bool = True  # False: no status workflow follows (split, import of an archive)


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """Put the mail in hand on a thread, remembering every id it states. ``opens`` as in
    :class:`core.mail.threading.Entry`.
    """

    thread: int
    role: SenderRole
    outgoing: bool = False  # written by us outside the desk
    opens: bool = False
    speaks_for: Address | None = None  # the customer whose mail an agent forwarded (E21)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinThread:
    """Thread ``thread`` is the same conversation as ``into``: its messages, participants and memory
    go there (section 5, joining).
    """

    thread: int
    into: int


@dataclass(frozen=True, slots=True)
class RenameTicket:
    """Requester and subject become those of the conversation's head, unless a person chose them."""

    ticket: int
    thread: int


@dataclass(frozen=True, slots=True)
class AttachThread:
    """The thread becomes one of the ticket's."""

    ticket: int
    thread: int
    origin: bool
    cause: Cause


@dataclass(frozen=True, slots=True)
class ContinueThread:
    """The mail in hand starts a new thread that takes over the memory of ``thread``, whose ticket
    is in the trash (E38).
    """

    thread: int


@dataclass(frozen=True, slots=True)
class MergeTicket:
    """Everything of ``ticket`` goes to ``into``; its number redirects (P10)."""

    ticket: int
    into: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class UnmergeTicket:
    """``ticket`` stands on its own again: what ``record`` says was moved goes back, as far as it
    still is where it went (P10).
    """

    ticket: int
    into: int
    record: MergeRecord
    cause: Cause


@dataclass(frozen=True, slots=True)
class SplitOff:
    """Messages of ``ticket`` go onto a new thread, the origin of the ticket just opened; the two
    tickets are linked (P11).
    """

    ticket: int
    messages: tuple[int, ...]
    people: tuple[tuple[int, ParticipantRole], ...]
    channel: int | None
    cause: Cause


@dataclass(frozen=True, slots=True)
class AddNote:
    """Put a note on the ticket, for agents only."""

    ticket: int
    text: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class PlacePerson:
    """Give a contact a part in the ticket: ``associated``, ``participant`` (an approved stranger),
    or None to take him off.
    """

    ticket: int
    contact: int
    role: Literal["associated", "participant"] | None
    cause: Cause


@dataclass(frozen=True, slots=True)
class LinkTickets:
    """Two tickets concern each other; ``flag`` marks both as needing attention."""

    ticket: int
    other: int
    kind: Literal["related", "earlier", "joined"]


@dataclass(frozen=True, slots=True)
class SetStatus:
    """A move: the status really changes (behaviour.md section 1, *Move*). ``close_date`` is one
    given explicitly (C07).
    """

    ticket: int
    pipeline_id: int
    status_id: int
    cause: Cause
    close_date: date | None = None
    migration: bool = False  # P05: no status workflow follows


@dataclass(frozen=True, slots=True)
class SetClosure:
    """The fields that follow a move to a closed or an open status; None clears, "keep" leaves."""

    ticket: int
    cause: Cause
    closed_at: datetime | None
    close_date: date | Literal["keep"] | None
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class SetFields:
    """Plain fields written by a person; keys are fields of :class:`core.model.ticket.Ticket`."""

    ticket: int
    fields: tuple[tuple[str, object], ...]
    cause: Cause


@dataclass(frozen=True, slots=True)
class SkipRule:
    """A rule was asked and did not move the ticket; ``detail`` says why in a few words."""

    ticket: int
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Something worth telling on the ticket that changes nothing ("also sent to ...")."""

    ticket: int
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class RaiseFlags:
    """Add flags to the ticket."""

    ticket: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddParticipants:
    """External addresses seen on the thread get a part in it; nobody loses a stronger one he has.
    NEW = the sender of the mail in hand.
    """

    thread: int
    sender_role: ParticipantRole | None
    others: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class NoteCustomer:
    """A person outside wrote, now or at ``at``: ``last_customer_message_at``, which never goes
    back.
    """

    ticket: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NoteAgent:
    """An agent answered from outside the desk: a person has worked on the ticket (section 5,
    joining).
    """

    ticket: int


@dataclass(frozen=True, slots=True)
class MarkContact:
    """The sender's contact is marked."""

    automated: bool = False
    proven: bool = False
    heard: bool = False  # he wrote: mail to him is tried again


@dataclass(frozen=True, slots=True)
class Step:
    """One step of behaviour.md 2.1 as it went for a mail: what ``mail explain`` prints."""

    step: str
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """How the mail ends. ``reason`` is one plain sentence; ``rule`` names what decided the status,
    or None.
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
    | NoteCustomer
    | NoteAgent
    | MarkContact
    | ReplyRecorded
    | TellDeliveries
    | Outward
    | Finish
)
