"""A workflow tried on a ticket: the way it would go and the mails it would send, in a transaction
that is undone (behaviour.md 3.7).

Delays are passed over by moving the time on; the workflow counts as switched on. Nothing is sent,
nothing lasts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.decisions.outgoing import CancelRuns
from core.events import Cause
from core.workflow.enrol import by_hand
from gateway.agenda.workflow_runner import WorkflowRunner
from gateway.clock import Clock
from gateway.compose import template_catalogue
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, MailWriter
from gateway.compose.templates import Rendered
from gateway.desk.transaction import BUILT_IN, Transaction, status_of
from gateway.errors import Refused
from gateway.store.engine import Database
from gateway.store.setup.templates import StoredTemplate
from gateway.store.tickets.unit_of_work import UnitOfWork
from gateway.store.upkeep.rehearsal import rehearsal

MOST_STEPS = 1000


async def tryout(
    database: Database, clock: Clock, house: MailIdentity, pipeline: str, status: str, number: int
) -> dict[str, Any]:
    """``{"path": [{"action", "kind", "outcome", "detail"}], "mails": [{"to", "subject",
    "text"}]}``; Refused for names that are not there.
    """
    async with rehearsal(database) as rehearsed, rehearsed.write(ordered=True) as connection:
        now = clock.now()
        unit = await UnitOfWork.open(connection, now)
        act = Transaction(unit, now, house.zone, BUILT_IN)
        ticket = await act.ticket(number)
        own = act.pipeline(pipeline)
        found = status_of(own, status)
        workflow = unit.desk.workflows.get(found.id)
        if workflow is None:
            raise Refused(f"status {status} of pipeline {own.name} has no workflow")
        unit.desk.workflows = {
            found.id: replace(workflow, enabled=True)
        }  # no other one follows a move
        turn = WorkflowRunner(unit, house, now, await template_catalogue.load(connection), {})
        turn.applier.perform(
            [
                CancelRuns(ticket.number, "tried"),
                *by_hand(
                    workflow, ticket.number, replace(turn.state, enrolments={}), Cause("user")
                ),
            ]
        )
        run = unit.enrolments[ticket.number][-1]
        for _ in range(MOST_STEPS):
            run = next(each for each in unit.enrolments[ticket.number] if each.id == run.id)
            if run.state != "ACTIVE":
                break
            turn.at(max(turn.now, run.due_at or now))
            await turn.step(run)
        kinds = {action.id: action.kind for action in workflow.graph.all()}
        path = [
            {
                "action": each.action,
                "kind": kinds.get(each.action or ""),
                "outcome": each.outcome,
                "detail": each.detail,
            }
            for each in turn.records
            if each.workflow == workflow.id and each.outcome != "RETRY"
        ]
        mails = [
            {"to": list(mail.recipients), "subject": mail.subject, "text": mail.text}
            for mail in turn.mails
        ]
    return {"path": path, "mails": mails}


async def preview(
    database: Database,
    clock: Clock,
    house: MailIdentity,
    template: StoredTemplate,
    number: int,
    language: str | None,
) -> Rendered:
    """A template as it would be said to the requester of a ticket; what has no value is told."""
    async with rehearsal(database) as rehearsed, rehearsed.write(ordered=True) as connection:
        unit = await UnitOfWork.open(connection, clock.now())
        ticket = await Transaction(unit, clock.now(), house.zone, BUILT_IN).ticket(number)
        letters = AutomaticMail(MailWriter(unit, house, clock.now()))
        origin = letters.writer.origin(ticket)
        way = (
            await letters.writer.route(origin)
            if origin is not None
            else await letters.writer.route(
                letters.writer.fresh_thread(letters.writer.channel_of(None)), fresh=True
            )
        )
        contact = unit.contacts.get(ticket.requester_id or 0)
        if language is not None and contact is not None:
            contact = replace(contact, language=language)
        return letters.rendered(ticket, way, contact, template)
