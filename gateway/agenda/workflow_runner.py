"""A run has its turn: action after action, each against the ticket as it is by then, until the run
waits or is over (behaviour.md 3.3).

It works inside the transaction of its caller, which writes. What may go out next depends on what
went out before: mail that is not written yet is counted where it lies, and written before the same
conversation is looked at again. What can go wrong: a ticket or a workflow that is gone ends the
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from core.decide import decide
from core.decisions.outgoing import FinishRun, QueueMail, RecordRun
from core.events import Cause, RunDue
from core.model.outgoing_mail import Outgoing
from core.model.workflow import Enrolment
from core.workflow.run import MAILS, ahead
from gateway.agenda.action_mail import ActionMail
from gateway.apply.applier import Applier
from gateway.compose.automatic_mail import AutomaticMail
from gateway.compose.route import MailIdentity, MailWriter
from gateway.desk.transaction import state_of
from gateway.store.setup.templates import StoredTemplate
from gateway.store.tickets.unit_of_work import UnitOfWork

TURNS = 200  # actions of one run in one transaction; a longer one goes on in the next


class WorkflowRunner:
    """The turns of one transaction. ``done``: the actions that had theirs, by enrolment;
    ``records`` and ``mails``: what became of them.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        house: MailIdentity,
        now: datetime,
        templates: Mapping[str, StoredTemplate],
        done: dict[int, set[str]],
    ) -> None:
        self.unit = unit
        self.now = now
        self.state = state_of(unit, house.zone)
        self.applier = Applier(unit, now, "workflow", house.zone)
        self.mailing = ActionMail(AutomaticMail(MailWriter(unit, house, now)), house, templates)
        self.done = done
        self.mails: list[Outgoing] = []
        self._unwritten: set[int] = (
            set()
        )  # tickets with mail of this transaction that is not in the database
        self.records: list[RecordRun] = []

    def at(self, now: datetime) -> None:
        """It is later now: for trying a workflow out."""
        self.now = self.applier.now = now

    async def take(self, number: int) -> list[tuple[int, str]]:
        """(ticket, what was done) of one run, as far as it goes now."""
        told: list[tuple[int, str]] = []
        for _ in range(TURNS):
            run = self._run(number)
            if run.state != "ACTIVE" or run.due_at is None or run.due_at > self.now:
                break
            told += [(run.ticket, each) for each in await self.step(run)]
        return told

    async def step(self, run: Enrolment) -> list[str]:
        """Delays and branches up to one action, and that action."""
        ticket = self.unit.tickets.get(run.ticket)
        workflow = self.state.workflow(run.workflow_id)
        if (
            ticket is None
            or ticket.deleted_at is not None
            or ticket.merged_into is not None
            or workflow is None
        ):
            why = "the workflow was deleted" if workflow is None else "the ticket is gone"
            self.applier.perform([FinishRun(run.id, "UNENROLLED", why)])
            return [why]
        event = RunDue(
            ticket,
            workflow,
            run,
            frozenset(self.done.get(run.id, ())),
            Cause("workflow", workflow=workflow.name),
        )
        action = ahead(event, self.state, self.now).action
        if action is not None and action.kind in MAILS:
            if ticket.number in self._unwritten:
                await self.write()
            event = replace(event, prepared=await self.mailing.prepare(ticket, run, action))
        decided = decide(event, self.state, self.now)
        self.applier.perform(decided)
        records = [each for each in decided if isinstance(each, RecordRun)]
        self.records += records
        if mails := [each.mail for each in decided if isinstance(each, QueueMail)]:
            self.mails += mails
            self._unwritten.add(ticket.number)
        self.done.setdefault(run.id, set()).update(
            each.action for each in records if each.key is not None and each.action is not None
        )
        return [
            (
                f"{workflow.name}: {each.action or '-'} "
                f"{each.outcome}{f' ({each.detail})' if each.detail else ''}"
            )
            for each in records
        ]

    async def write(self) -> None:
        """Everything that was done so far, into the transaction."""
        await self.applier.finish()
        await self.unit.flush()
        self._unwritten.clear()

    def _run(self, number: int) -> Enrolment:
        return next(
            each for held in self.unit.enrolments.values() for each in held if each.id == number
        )
