"""The facts that rules read besides the event: pipelines, workflows, people, the time zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from core.model.ticket import Contact, Ticket, User
from core.model.workflow import Enrolment, Workflow
from core.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class State:
    """The facts that rules read besides the event.

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
        if ticket.owner_id is None:
            return None
        return next((user for user in self.users.values() if user.id == ticket.owner_id), None)

    def runs(self, ticket: int, workflow: int) -> list[Enrolment]:
        """Return the runs of a ticket in a workflow, ended ones included."""
        return [each for each in self.enrolments.get(ticket, ()) if each.workflow_id == workflow]

    def is_in(self, ticket: int, workflow: int) -> bool:
        """Tell whether a ticket has an active run in a workflow."""
        return any(each.state == "ACTIVE" for each in self.runs(ticket, workflow))

    def facts(self, ticket: Ticket, requester: str = "") -> dict[str, Any]:
        """Return the fields of a ticket for :mod:`core.model.condition`.

        ``requester`` is the address to use where the requester is not a known contact.
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
            "created_at": self._local(ticket.created_at),
            "closed_at": self._local(ticket.closed_at),
            "close_date": ticket.close_date,
            "reopened_count": ticket.reopened_count,
            "last_customer_message_at": self._local(ticket.last_customer_message_at),
            "last_agent_message_at": self._local(ticket.last_agent_message_at),
            "first_response_at": self._local(ticket.first_response_at),
            "times_contacted": ticket.times_contacted,
        }

    def _local(self, instant: datetime | None) -> datetime | None:
        return instant.astimezone(self.zone) if instant is not None else None
