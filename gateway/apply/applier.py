"""Turn decisions into rows: the only interpreter of :data:`core.decisions.tickets.Decision`, and
the only place that changes a ticket (R7).

Decisions change a unit of work in memory. The caller then flushes it inside its own transaction.
Each decision has one handler in the modules beside this one, and a decision without a handler is a
type error.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import assert_never

from core.decisions import outgoing as o
from core.decisions import tickets as d
from core.events import Cause
from gateway.apply import outgoing, people, runs, state, threads, tickets
from gateway.apply.context import ApplyContext, MailContext, required
from gateway.store.tickets.unit_of_work import UnitOfWork


class Applier:
    """Performs decisions on a unit of work.

    The caller then awaits ``finish`` and flushes the unit.
    """

    def __init__(
        self, unit: UnitOfWork, now: datetime, actor: str = "system", zone: tzinfo = UTC
    ) -> None:
        self.context = ApplyContext(unit, now, actor, zone)

    @property
    def now(self) -> datetime:
        """The instant at which decisions are performed; a batch sets it mail by mail."""
        return self.context.now

    @now.setter
    def now(self, now: datetime) -> None:
        self.context.now = now

    @property
    def opened(self) -> int | None:
        """The number of the ticket opened last."""
        return self.context.opened

    def perform(self, decided: Iterable[d.Decision], mail: MailContext | None = None) -> None:
        """Perform decisions on the unit of work, in order; ``mail`` is the mail they concern."""
        for decision in decided:
            _perform(self.context, decision, mail)
            if mail is not None and not isinstance(decision, d.Finish):
                mail.notes.append(type(decision).__name__)

    async def finish(self) -> None:
        """Name tickets after their conversations, for all decisions performed so far."""
        await tickets.name_tickets(self.context)

    def remark(self, ticket: int, kind: str, cause: Cause, detail: str | None = None) -> None:
        """Write an entry into the history of a ticket about something other than its fields."""
        self.context.event(ticket, kind, cause, detail=detail)


# fmt: off
def _perform(context: ApplyContext, decision: d.Decision, mail: MailContext | None) -> None:
    match decision:
        case d.OpenTicket(): tickets.open_ticket(context, decision, mail)
        case d.LinkTickets(): tickets.link(context, decision, mail)
        case d.MergeTicket(): tickets.merge(context, decision)
        case d.UnmergeTicket(): tickets.unmerge(context, decision)
        case d.RenameTicket(): tickets.rename(context, decision, mail)
        case d.AppendMessage(): threads.append_message(context, decision, mail)
        case d.JoinThread(): threads.join(context, decision)
        case d.AttachThread(): threads.attach(context, decision, mail)
        case d.ContinueThread(): threads.continue_thread(context, decision, mail)
        case d.SplitOff(): threads.split_off(context, decision)
        case d.AddNote(): threads.add_note(context, decision)
        case d.AddParticipants(): people.add_participants(context, decision, mail)
        case d.UnseatPeople(): people.unseat(context, decision)
        case d.PlacePerson(): people.place_person(context, decision)
        case d.MarkContact(): people.mark_contact(context, decision, mail)
        case d.SetStatus(): state.set_status(context, decision, mail)
        case d.SetClosure(): state.set_closure(context, decision, mail)
        case d.SetFields(): state.set_fields(context, decision)
        case d.RaiseFlags(): state.raise_flags(context, decision, mail)
        case d.NoteCustomer(): state.note_customer(context, decision, mail)
        case d.NoteAgent(): state.note_agent(context, decision, mail)
        case d.SkipRule() | d.Remark(): state.remark(context, decision, mail)
        case o.ReplyRecorded(): state.record_reply(context, decision)
        case o.TellDeliveries(): state.tell_deliveries(context, decision)
        case o.QueueMail(): outgoing.queue_mail(context, decision, mail)
        case o.Relay(): outgoing.relay(context, decision, mail)
        case o.FailDelivery(): outgoing.fail_delivery(context, decision)
        case o.SettleDeliveries(): outgoing.settle_deliveries(context, decision)
        case o.FailDraft(): outgoing.fail_draft(context, decision)
        case o.DropNotices(): outgoing.drop_notices(context, decision)
        case o.Notify(): outgoing.notify(context, decision, mail)
        case o.AddTask(): outgoing.add_task(context, decision, mail)
        case o.FinishTask(): outgoing.finish_task(context, decision)
        case o.CallWebhook(): outgoing.call_webhook(context, decision, mail)
        case o.Enrol(): runs.enrol(context, decision, mail)
        case o.MoveRun(): runs.move(context, decision)
        case o.FinishRun(): runs.finish(context, decision)
        case o.CancelRuns(): runs.cancel(context, decision)
        case o.WakeRuns(): runs.wake(context, decision, mail)
        case o.RecordRun(): runs.record(context, decision, mail)
        case d.Finish(): required(mail).finish = decision
        case _: assert_never(decision)
# fmt: on
