"""The changes that a unit of work has still to write, with one collection for each kind of row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.model.merging import JoinRecord
from core.model.ticket import Contact, Thread
from gateway.store.tickets.threads import MessageRow, RefRow
from gateway.store.tickets.tickets import TicketEvent


@dataclass(slots=True)
class Pending:
    """Changes of tickets, threads and contacts that are still to be written."""

    new_contacts: dict[int, Contact] = field(default_factory=dict)
    changed_contacts: set[int] = field(default_factory=set)
    new_tickets: set[int] = field(default_factory=set)
    changed_tickets: set[int] = field(default_factory=set)
    new_threads: set[int] = field(default_factory=set)
    changed_threads: set[int] = field(default_factory=set)
    new_participants: set[tuple[int, int]] = field(default_factory=set)
    changed_participants: set[tuple[int, int]] = field(default_factory=set)
    new_refs: dict[tuple[str, int], RefRow] = field(default_factory=dict)
    changed_refs: dict[tuple[str, int], RefRow] = field(default_factory=dict)
    messages: list[MessageRow] = field(default_factory=list)
    closed_candidates: set[int] = field(default_factory=set)  # messages that no longer name
    events: list[TicketEvent] = field(default_factory=list)
    links: list[tuple[int, int, str]] = field(default_factory=list)
    joins: list[tuple[int, int]] = field(default_factory=list)  # (thread, into)
    joined: dict[int, Thread] = field(default_factory=dict)  # threads as they were before
    merges: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    # (ticket, contact): True if put on it, False if taken off
    associated: dict[tuple[int, int], bool] = field(default_factory=dict)
    dropped_participants: set[tuple[int, int]] = field(default_factory=set)
    undone: list[int] = field(default_factory=list)  # ids of merges
    returns: list[JoinRecord] = field(default_factory=list)
    # (thread, messages that go there)
    splits: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
