"""Try a workflow or a template on a ticket, in a transaction that is undone (behaviour.md 3.7).

The workflow is tried as if it were enabled; at a delay, the clock is set to the end of the delay.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from core.events import Cause, DryRunStarted
from core.model.workflow import Workflow
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

MOST_STEPS: Final = 1000


async def tryout(
    database: Database,
    clock: Clock,
    identity: MailIdentity,
    pipeline: str,
    status: str,
    number: int,
) -> dict[str, Any]:
    """Return what the workflow of a status would do to a ticket; Refused for unknown names.

    ``{"path": [{"action", "kind", "outcome", "detail"}], "mails": [{"to", "subject", "text"}]}``
    """
    async with rehearsal(database) as rehearsed, rehearsed.write(ordered=True) as connection:
        now = clock.now()
        unit = await UnitOfWork.open(connection, now)
        desk = Transaction(unit, now, identity.zone, BUILT_IN)
        ticket = await desk.ticket(number)
        own = desk.pipeline(pipeline)
        found = status_of(own, status)
        workflow = unit.desk.workflows.get(found.id)
        if workflow is None:
            raise Refused(f"status {status} of pipeline {own.name} has no workflow")
        # without the others, no workflow follows a move
        unit.desk.workflows = {found.id: replace(workflow, enabled=True)}
        templates = await template_catalogue.load(connection)
        runner = WorkflowRunner(unit, identity, now, templates, {})
        runner.act.do(DryRunStarted(ticket, workflow, Cause("user")))
        await _run_to_its_end(runner, ticket.number, now)
        return _shown(runner, workflow)


async def _run_to_its_end(runner: WorkflowRunner, ticket: int, now: datetime) -> None:
    """Execute the newest run of a ticket, with the clock set to the due time of each step."""
    number = runner.unit.enrolments[ticket][-1].id
    for _ in range(MOST_STEPS):
        if (run := runner.enrolment(number)).state != "ACTIVE":
            break
        runner.act.set_time(max(runner.act.now, run.due_at or now))
        await runner.step(run)


def _shown(runner: WorkflowRunner, workflow: Workflow) -> dict[str, Any]:
    kinds = {action.id: action.kind for action in workflow.graph.all()}
    path = [
        {
            "action": each.action,
            "kind": kinds.get(each.action or ""),
            "outcome": each.outcome,
            "detail": each.detail,
        }
        for each in runner.records
        if each.workflow == workflow.id and each.outcome != "RETRY"
    ]
    mails = [
        {"to": list(mail.recipients), "subject": mail.subject, "text": mail.text}
        for mail in runner.mails
    ]
    return {"path": path, "mails": mails}


async def preview(
    database: Database,
    clock: Clock,
    identity: MailIdentity,
    template: StoredTemplate,
    number: int,
    language: str | None,
) -> Rendered:
    """Render a template for a ticket, in ``language`` or, if None, in the requester's language."""
    async with rehearsal(database) as rehearsed, rehearsed.write(ordered=True) as connection:
        now = clock.now()
        unit = await UnitOfWork.open(connection, now)
        ticket = await Transaction(unit, now, identity.zone, BUILT_IN).ticket(number)
        composer = AutomaticMail(MailWriter(unit, identity, now))
        writer, contact = composer.writer, unit.contacts.get(ticket.requester_id or 0)
        found = await writer.own_thread(ticket, contact) if contact is not None else None
        found = found or writer.origin(ticket)
        thread = found or writer.fresh_thread(writer.channel_of(None))
        route = await writer.route(thread, fresh=found is None)
        if language is not None and contact is not None:
            contact = replace(contact, language=language)
        return composer.rendered(ticket, route, contact, template)
