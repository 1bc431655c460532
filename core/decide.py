"""``decide(event, state, now)``: the only entrance to the rules.

A move decided here is handed to the rules again as :class:`core.events.StatusChanged`, so that
every move has the same consequences, whatever caused it. The number of moves that follow from moves
is limited (behaviour.md 3.3). Nothing is performed here; ``gateway.apply.applier`` does that.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final, assert_never

from core import events as e
from core.decisions import outgoing as o
from core.decisions import tickets as d
from core.decisions.tickets import NEW, Decision
from core.model.ticket import Ticket
from core.pipeline import StatusState
from core.rules import inbound, joining, outbound, user_acts
from core.rules.refusal import Refusal
from core.state import State
from core.workflow import edit, enrol, run
from core.workflow.enrol import Root, root_of

CHAIN_DEPTH: Final = 10
UNDO_PERIOD: Final = timedelta(days=30)  # how long a merge can be undone (P10)


def decide(event: e.Event, state: State, now: datetime) -> tuple[Decision, ...]:
    """Return all decisions that follow from an event, in order of execution; ``now`` is aware."""
    decisions: list[Decision] = []
    root = root_of(event)
    work = deque([(event, 0)])
    while work:
        current, depth = work.popleft()
        for decision in _react(current, state, now, root):
            decisions.append(decision)
            changed = _status_changed(decision, event, state, now)
            if changed is not None and depth < CHAIN_DEPTH:
                work.append((changed, depth + 1))
    # how a mail ended comes after everything that it caused
    return tuple(sorted(decisions, key=lambda decision: isinstance(decision, d.Finish)))


# fmt: off
def _react(event: e.Event, state: State, now: datetime, root: Root) -> list[Decision]:
    match event:
        case e.MailArrived(): return inbound.receive(event, state.pipelines)
        case e.TicketOpened(): return user_acts.opened(event)
        case e.MoveAsked(): return user_acts.moved(event)
        case e.StatusChanged(): return user_acts.after_move(event, root, state, now)
        case e.ThreadAttached(): return user_acts.attached(event)
        case e.MergeAsked(): return user_acts.merged(event)
        case e.UnmergeAsked(): return user_acts.unmerged(event)
        case e.SplitAsked(): return user_acts.split(event)
        case e.PersonChanged(): return user_acts.person_changed(event)
        case e.FieldsSet(): return user_acts.fields_set(event)
        case e.NoteWritten(): return user_acts.note_written(event)
        case e.TaskDone(): return user_acts.task_done(event)
        case e.EmailSent(): return outbound.sent(event)
        case e.DeliveryFailed(): return outbound.failed(event)
        case e.DeliveriesHandled(): return outbound.handled(event)
        case e.DraftFailed(): return [o.FailDraft(event.outgoing, event.reason)]
        case e.NoticesWritten(): return outbound.notices_written(event)
        case e.NoticesUnsendable(): return [o.DropNotices(event.notices)]
        case e.EnrolAsked(): return enrol.by_hand(event, state)
        case e.UnenrolAsked(): return enrol.taken_out(event, state)
        case e.DryRunStarted(): return enrol.dry_run(event)
        case e.RunDue(): return run.run_due(event, state, now)
        case e.RunOrphaned(): return run.orphaned(event)
        case e.RunFailed(): return run.failed(event, now)
        case e.WorkflowEdited(): return edit.edited(event, state)
        case _: assert_never(event)
# fmt: on


def _status_changed(
    decision: Decision, event: e.Event, state: State, now: datetime
) -> e.StatusChanged | None:
    """Return the event for a decision that moves or opens a ticket (C05); else None."""
    if isinstance(decision, d.SetStatus):
        ticket = _ticket_of(event)
        return _moved(decision, ticket, state) if ticket is not None else None
    return _created(decision, state, now) if isinstance(decision, d.OpenTicket) else None


def _moved(decision: d.SetStatus, ticket: Ticket, state: State) -> e.StatusChanged:
    before = state.pipelines[ticket.pipeline_id].status(ticket.status_id).state
    return _reached(decision, ticket, before, state, migration=decision.migration)


def _created(decision: d.OpenTicket, state: State, now: datetime) -> e.StatusChanged:
    requester = decision.requester
    ticket = Ticket(
        number=NEW,
        subject=decision.subject,
        pipeline_id=decision.pipeline_id,
        status_id=decision.status_id,
        source=decision.source,
        created_at=now,
        priority=decision.priority,
        requester_id=requester if isinstance(requester, int) and requester != NEW else None,
        flags=frozenset(decision.flags),
    )
    return _reached(decision, ticket, None, state, migration=not decision.enrols)


def _reached(
    decision: d.SetStatus | d.OpenTicket,
    ticket: Ticket,
    before: StatusState | None,
    state: State,
    *,
    migration: bool,
) -> e.StatusChanged:
    pipeline = state.pipelines[decision.pipeline_id]
    return e.StatusChanged(
        ticket=ticket,
        pipeline=pipeline,
        was_state=before,
        state=pipeline.status(decision.status_id).state,
        cause=decision.cause,
        close_date=decision.close_date,
        migration=migration,
        status_id=decision.status_id,
    )


def _ticket_of(event: e.Event) -> Ticket | None:
    """Return the ticket that the rules would move on this event, or None."""
    if isinstance(event, e.MailArrived):  # a ticket opened by a person may have no thread
        return joining.survivor(event) or event.ticket
    ticket = getattr(event, "ticket", None)
    return ticket if isinstance(ticket, Ticket) else None


# ---- what people may not do


def refusal(event: e.Event, state: State) -> Refusal | None:
    """Return why a rule forbids what a person asks for, or None (P09, P10, P11, INV6, INV12)."""
    reason = _reason(event, state)
    return Refusal(reason) if reason is not None else None


def _reason(event: e.Event, state: State) -> str | None:
    match event:
        case e.MoveAsked():
            return _why_not_move(event, state)
        case e.ThreadAttached() | e.TicketOpened():
            thread = event.thread
            if thread is None or thread.ticket is None:
                return None
            return f"thread {thread.id} already belongs to ticket {thread.ticket}"
        case e.MergeAsked():
            return _why_not_merge(event)
        case e.UnmergeAsked():
            return _why_not_unmerge(event)
        case e.SplitAsked():
            return _why_not_split(event)
        case e.PersonChanged():
            return _why_not_change_person(event)
        case e.EnrolAsked() | e.UnenrolAsked():
            return _why_not_enrol(event, state)
        case _:
            return None


def _why_not_move(event: e.MoveAsked, state: State) -> str | None:
    """Return why a person may not move a ticket, or None.

    A person may not move a ticket in the trash, nor move a ticket back if its pipeline forbids that
    (P09).
    """
    ticket, pipeline = event.ticket, event.pipeline
    if not event.person:
        return None
    if ticket.deleted_at is not None:
        return f"ticket {ticket.number} is in the trash"
    if pipeline.allow_back or pipeline.id != ticket.pipeline_id:
        return None
    before = state.pipelines[ticket.pipeline_id].status(ticket.status_id)
    after = pipeline.status(event.status_id)
    if after.position >= before.position:
        return None
    return f"pipeline {pipeline.name} does not allow moving back from {before.name} to {after.name}"


def _why_not_merge(event: e.MergeAsked) -> str | None:
    ticket, into = event.ticket, event.into
    if ticket.number == into.number:
        return "a ticket cannot be merged into itself"
    if ticket.merged_into is not None:
        return f"ticket {ticket.number} is already merged into ticket {ticket.merged_into}"
    trashed = next((each.number for each in (ticket, into) if each.deleted_at is not None), None)
    return f"ticket {trashed} is in the trash" if trashed is not None else None


def _why_not_unmerge(event: e.UnmergeAsked) -> str | None:
    number, into, record = event.ticket.number, event.into, event.record
    if event.ticket.merged_into is None or into is None or record is None:
        return f"ticket {number} is not merged into another"
    if into.merged_into is not None:
        return f"first undo the merge of ticket {into.number} into ticket {into.merged_into}"
    late = event.asked_at - record.at > UNDO_PERIOD
    return f"ticket {number} was merged more than {UNDO_PERIOD.days} days ago" if late else None


def _why_not_split(event: e.SplitAsked) -> str | None:
    number = event.ticket.number
    foreign = [each for each in event.chosen if each not in event.held]
    if foreign:
        return f"message {foreign[0]} does not belong to ticket {number}"
    if not event.chosen:
        return "no message was chosen"
    return f"nothing would be left on ticket {number}" if event.held <= set(event.chosen) else None


def _why_not_change_person(event: e.PersonChanged) -> str | None:
    who, number = event.contact.address, event.ticket.number
    if event.change != "add" and event.part is None:
        return f"{who} does not take part in ticket {number}"
    if event.change == "remove" and event.part == "requester":
        return f"{who} is the requester of ticket {number}: choose another requester first"
    return None


def _why_not_enrol(event: e.EnrolAsked | e.UnenrolAsked, state: State) -> str | None:
    """Return why a ticket may not enter or leave a workflow (INV12, INV13), or None."""
    number, workflow = event.ticket.number, event.workflow
    inside = state.is_in(number, workflow.id)
    if isinstance(event, e.UnenrolAsked):
        return None if inside else f"ticket {number} is not in workflow {workflow.name}"
    if not workflow.enabled:
        return f"workflow {workflow.name} is switched off"
    return f"ticket {number} is already in workflow {workflow.name}" if inside else None
