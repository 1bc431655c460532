"""What the rules may know besides the event: pipelines, workflows, people, the time zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from core.model.ticket import Contact, Ticket, User
from core.model.workflow import Enrolment, Workflow
from core.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class State:
    """What the rules may know besides the event.

    ``workflows`` are by status id; ``enrolments`` by ticket number, ended ones included.
    """

    pipelines: Mapping[int, Pipeline]
    zone: tzinfo
    workflows: Mapping[int, Workflow] = field(default_factory=dict)
    enrolments: Mapping[int, Sequence[Enrolment]] = field(default_factory=dict)
    contacts: Mapping[int, Contact] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)  # by every address

    def workflow(self, number: int) -> Workflow | None:
        """Return the workflow with this id, or None."""
        return next((each for each in self.workflows.values() if each.id == number), None)

    def owner(self, ticket: Ticket) -> User | None:
        """Return the owner of a ticket, or None."""
        return (
            next((user for user in self.users.values() if user.id == ticket.owner_id), None)
            if ticket.owner_id is not None
            else None
        )

    def facts(self, ticket: Ticket, requester: str = "") -> dict[str, Any]:
        """Return the fields of a ticket for :mod:`core.model.condition`.

        ``requester`` is their address where the ticket does not know them yet.
        """
        pipeline, owner = self.pipelines[ticket.pipeline_id], self.owner(ticket)
        known = self.contacts.get(ticket.requester_id) if ticket.requester_id is not None else None
        address = known.address if known is not None else requester
        return {
            "number": ticket.number,
            "subject": ticket.subject,
            "pipeline": pipeline.name,
            "status": pipeline.status(ticket.status_id).name,
            "priority": ticket.priority,
            "source": ticket.source,
            "owner": owner.address if owner is not None else None,
            "requester": address or None,
            "requester_domain": address.rpartition("@")[2] or None,
            "tags": ticket.tags,
            "flags": ticket.flags,
            "created_at": ticket.created_at.astimezone(self.zone),
            "closed_at": ticket.closed_at.astimezone(self.zone) if ticket.closed_at else None,
            "close_date": ticket.close_date,
            "reopened_count": ticket.reopened_count,
            "last_customer_message_at": ticket.last_customer_message_at.astimezone(self.zone)
            if ticket.last_customer_message_at
            else None,
            "last_agent_message_at": ticket.last_agent_message_at.astimezone(self.zone)
            if ticket.last_agent_message_at
            else None,
            "first_response_at": ticket.first_response_at.astimezone(self.zone)
            if ticket.first_response_at
            else None,
            "times_contacted": ticket.times_contacted,
        }
