"""Tickets, threads, contacts, channels and users as frozen rows.

Ids are small integers from the store; ticket numbers only grow. A ticket in the trash has
``deleted_at``, a merged one ``merged_into``; their rows stay, so that old numbers can be followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

Source = Literal["email", "form", "phone", "chat", "messenger", "api", "manual"]
Priority = Literal["low", "medium", "high", "urgent"]
ThreadKind = Literal["normal", "forward"]
SenderRole = Literal["user", "contact", "stranger", "machine", "self"]
ParticipantRole = Literal["requester", "associated", "participant", "stranger"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A matter that somebody works on.

    ``closed_at`` is the instant of the last move to a closed status, ``close_date`` the date that
    people see and edit (behaviour.md 2.6).
    """

    number: int
    subject: str
    pipeline_id: int
    status_id: int
    source: Source
    created_at: datetime
    priority: Priority | None = None
    owner_id: int | None = None
    requester_id: int | None = None
    closed_at: datetime | None = None
    close_date: date | None = None
    first_closed_at: datetime | None = None
    reopened_count: int = 0
    last_reopened_at: datetime | None = None
    last_customer_message_at: datetime | None = None
    last_agent_message_at: datetime | None = None
    flags: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()
    merged_into: int | None = None
    deleted_at: datetime | None = None
    worked: bool = False  # a person replied, noted, moved or took it (section 5, joining)
    titled: bool = False  # a person chose subject or requester; joining keeps them
    first_response_at: datetime | None = None
    times_contacted: int = 0  # mails that users sent to contacts of the ticket


@dataclass(frozen=True, slots=True)
class Thread:
    """One mail conversation.

    ``redirect_to`` is the thread that new mail goes to instead, after a join or a continuation
    (E38).
    ``first_ticket`` is the ticket that it was first attached to: merging tickets changes
    ``ticket``, and never this (E36).
    """

    id: int
    kind: ThreadKind
    created_at: datetime
    channel_id: int | None = None
    ticket: int | None = None
    origin: bool = False
    attached_at: datetime | None = None
    redirect_to: int | None = None
    first_ticket: int | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    """A person outside.

    ``proven``: a mail of theirs was authenticated, or a user wrote to them (section 5,
    acknowledgements).
    """

    id: int
    address: str  # an address_key
    name: str
    blocked: bool = False
    automated: bool = False
    marketing_ok: bool = False
    proven: bool = False
    bounced_at: datetime | None = None  # mail to them failed; they have not written since
    language: str | None = None  # of templates for them


@dataclass(frozen=True, slots=True)
class Channel:
    """One of our addresses.

    Mail to a channel without ``tickets`` opens no ticket (S2). ``allow`` and ``deny`` hold
    addresses and ``@domain`` entries.
    """

    id: int
    address: str  # an address_key
    name: str
    pipeline_id: int
    status_id: int | None = None  # None = first open status
    tickets: bool = True
    is_default: bool = False
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    outbound_status_id: int | None = None  # O13; None = first open status


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account on this desk; ``addresses`` are verified address keys."""

    id: int
    name: str
    addresses: frozenset[str]
    role: Literal["admin", "automation", "agent", "reader"] = "agent"
    active: bool = True
    address: str = ""  # that they sign in with
    signature: str | None = None
    # what differs from the defaults: new, reply, failure (bool), digest (off, hourly, daily)
    notify: Mapping[str, Any] | None = None

    def wants(self, kind: str) -> bool:
        """Tell whether the user wants notices of this kind: ``new``, ``reply`` or ``failure``."""
        return bool((self.notify or {}).get(kind, True))
