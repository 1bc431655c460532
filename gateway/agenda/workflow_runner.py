"""Execute workflow runs, action after action, until each waits or ends (behaviour.md 3.3).

Works inside the transaction of its caller, which writes. Every action sees the ticket as the one
before left it. Mail of this transaction is written before the same ticket sends more, because what
may go out depends on what went out before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from core.decisions.outgoing import FinishRun, QueueMail, RecordRun
from core.decisions.tickets import Decision
from core.events import Cause, RunDue, RunOrphaned
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Ticket
from core.model.workflow import Enrolment, Workflow
from core.workflow.run import MAILS, ahead
from gateway.agenda.action_mail import ActionMail
from gateway.agenda.transaction import AgendaTransaction
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, MailWriter
from gateway.store.setup.templates import StoredTemplate
from gateway.store.tickets.unit_of_work import UnitOfWork

MOST_STEPS: Final = 200  # of one run in one transaction; a longer run goes on in the next


class WorkflowRunner:
    """Executes the runs of one transaction.

    ``done``: ids of the actions executed before, by enrolment. ``records`` and ``mails`` collect
    what was done.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        identity: MailIdentity,
        now: datetime,
        templates: Mapping[str, StoredTemplate],
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
        """Execute a run as far as it goes now; return (ticket, what was done)."""
        log: list[tuple[int, str]] = []
        for _ in range(MOST_STEPS):
            run = self._enrolment(number)
            if run.state != "ACTIVE" or run.due_at is None or run.due_at > self.act.now:
                break
            log += [(run.ticket, each) for each in await self.step(run)]
        return log

    async def step(self, run: Enrolment) -> list[str]:
        """Execute delays and branches up to one action, and that action; return what was done."""
        ticket = self.unit.tickets.get(run.ticket)
        workflow = self.act.state.workflow(run.workflow_id)
        gone = ticket is None or ticket.deleted_at is not None or ticket.merged_into is not None
        if ticket is None or workflow is None or gone:
            ended = self.act.do(RunOrphaned(run, workflow))
            return [each.reason for each in ended if isinstance(each, FinishRun)]
        decided = self.act.do(await self._event(ticket, workflow, run))
        records = [each for each in decided if isinstance(each, RecordRun)]
        self._note(run, decided, records)
        return [f"{workflow.name}: {_line(each)}" for each in records]

    async def _event(self, ticket: Ticket, workflow: Workflow, run: Enrolment) -> RunDue:
        """Return the event of a run, with the mail of the action that is next."""
        done = frozenset(self.done.get(run.id, ()))
        event = RunDue(ticket, workflow, run, done, Cause("workflow", workflow=workflow.name))
        event = replace(event, ahead=(found := ahead(event, self.act.state, self.act.now)))
        if found.action is None or found.action.kind not in MAILS:
            return event
        if ticket.number in self._unwritten:
            await self.write()
        return replace(event, prepared=await self.action_mail.prepare(ticket, run, found.action))

    def _note(
        self, run: Enrolment, decided: Sequence[Decision], records: Sequence[RecordRun]
    ) -> None:
        self.records += records
        if mails := [each.mail for each in decided if isinstance(each, QueueMail)]:
            self.mails += mails
            self._unwritten.add(run.ticket)
        done = {each.action for each in records if each.key is not None and each.action is not None}
        self.done.setdefault(run.id, set()).update(done)

    async def write(self) -> None:
        """Write everything done so far into the transaction."""
        await self.act.write()
        self._unwritten.clear()

    def _enrolment(self, number: int) -> Enrolment:
        runs = (each for held in self.unit.enrolments.values() for each in held)
        return next(each for each in runs if each.id == number)


def _line(record: RecordRun) -> str:
    detail = f" ({record.detail})" if record.detail else ""
    return f"{record.action or '-'} {record.outcome}{detail}"
