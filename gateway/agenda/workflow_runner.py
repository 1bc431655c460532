"""Execute workflow runs, action after action, until each waits or ends (behaviour.md 3.3).

The work is part of the caller's transaction. Every action sees the ticket as the previous action
left it. Before more mail is made for a ticket, its earlier mail of this transaction is written,
because the limits on automatic mail count all earlier mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from core.decisions.outgoing import FinishRun, QueueMail, RecordRun
from core.decisions.tickets import Decision
from core.events import Cause, Prepared, RunDue, RunOrphaned
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Ticket
from core.model.workflow import Action, Enrolment, Workflow
from core.workflow.run import MAILS, ahead
from gateway.agenda.action_mail import ActionMail, Templates
from gateway.agenda.transaction import AgendaTransaction
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, MailWriter
from gateway.store.tickets.unit_of_work import UnitOfWork

MOST_STEPS: Final = 200  # of one run in one transaction; a longer run goes on in the next


class WorkflowRunner:
    """Executes the runs of one transaction.

    ``done`` maps enrolment ids to the ids of actions executed before. ``records`` and ``mails``
    collect the log entries and mails of this transaction.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        identity: MailIdentity,
        now: datetime,
        templates: Templates,
        done: dict[int, set[str]],
    ) -> None:
        self.unit = unit
        self.act = AgendaTransaction(unit, now, identity.zone, "workflow")
        self.action_mail = ActionMail(
            AutomaticMail(MailWriter(unit, identity, now)), identity, templates
        )
        self.done = done
        self.mails: list[Outgoing] = []
        self.records: list[RecordRun] = []
        self._unwritten: set[int] = set()  # tickets whose mail is not in the database yet

    async def run(self, number: int) -> list[tuple[int, str]]:
        """Execute a run until it waits or ends; return (ticket, text) for each thing done."""
        log: list[tuple[int, str]] = []
        for _ in range(MOST_STEPS):
            if (run := self._due(number)) is None:
                break
            log += [(run.ticket, each) for each in await self.step(run)]
        return log

    def _due(self, number: int) -> Enrolment | None:
        """Return the run if it is due now, else None."""
        run = self.enrolment(number)
        is_due = run.state == "ACTIVE" and run.due_at is not None and run.due_at <= self.act.now
        return run if is_due else None

    async def step(self, run: Enrolment) -> list[str]:
        """Execute a run up to and including its next action; return what was done."""
        ticket = self._live_ticket(run.ticket)
        workflow = self.act.state.workflow(run.workflow_id)
        if ticket is None or workflow is None:
            return self._end(run, workflow)
        records = self._note(run, self.act.do(await self._event(ticket, workflow, run)))
        return [f"{workflow.name}: {_line(each)}" for each in records]

    def _live_ticket(self, number: int) -> Ticket | None:
        """Return the ticket; None if it was deleted or merged into another."""
        ticket = self.unit.tickets.get(number)
        gone = ticket is None or ticket.deleted_at is not None or ticket.merged_into is not None
        return None if gone else ticket

    def _end(self, run: Enrolment, workflow: Workflow | None) -> list[str]:
        """End a run whose ticket or workflow is gone; return why it ended."""
        ended = self.act.do(RunOrphaned(run, workflow))
        return [each.reason for each in ended if isinstance(each, FinishRun)]

    async def _event(self, ticket: Ticket, workflow: Workflow, run: Enrolment) -> RunDue:
        """Return the due event of a run, including the mail of the run's next action."""
        done = frozenset(self.done.get(run.id, ()))
        event = RunDue(ticket, workflow, run, done, Cause("workflow", workflow=workflow.name))
        event = replace(event, ahead=(found := ahead(event, self.act.state, self.act.now)))
        if found.action is None or found.action.kind not in MAILS:
            return event
        return replace(event, prepared=await self._prepare(ticket, run, found.action))

    async def _prepare(self, ticket: Ticket, run: Enrolment, action: Action) -> Prepared:
        """Prepare the mail of an action, once earlier mail of the ticket is written."""
        if ticket.number in self._unwritten:
            await self.write()
        return await self.action_mail.prepare(ticket, run, action)

    def _note(self, run: Enrolment, decided: Sequence[Decision]) -> list[RecordRun]:
        """Remember the log entries and mails that were decided; return the log entries."""
        records = [each for each in decided if isinstance(each, RecordRun)]
        self.records += records
        if mails := [each.mail for each in decided if isinstance(each, QueueMail)]:
            self.mails += mails
            self._unwritten.add(run.ticket)
        done = {each.action for each in records if each.key is not None and each.action is not None}
        self.done.setdefault(run.id, set()).update(done)
        return records

    async def write(self) -> None:
        """Write everything done so far into the transaction."""
        await self.act.write()
        self._unwritten.clear()

    def enrolment(self, number: int) -> Enrolment:
        """Return the run with this id as it stands now."""
        runs = (each for held in self.unit.enrolments.values() for each in held)
        return next(each for each in runs if each.id == number)


def _line(record: RecordRun) -> str:
    detail = f" ({record.detail})" if record.detail else ""
    return f"{record.action or '-'} {record.outcome}{detail}"
