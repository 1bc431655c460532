"""``decide(event, state, now)``: the one entrance to the rules.

A worklist: a move decided here is fed back as :class:`StatusChanged`, so that whatever must follow
a move follows it from every cause. Moves decided in answer to moves are bounded (behaviour.md 3.3).
Nothing here is performed; ``gateway.apply.applier`` does that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, assert_never

from core import closure
from core.decisions.outgoing import CancelRuns, FinishRun, FinishTask
from core.decisions.tickets import (
    NEW,
    AddNote,
    AttachThread,
    Decision,
    MergeTicket,
    NoteCustomer,
    OpenTicket,
    PlacePerson,
    RenameTicket,
    SetClosure,
    SetFields,
    SetStatus,
    SplitOff,
    UnmergeTicket,
)
from core.events import (
    Cause,
    DeliveriesHandled,
    DeliveryFailed,
    EmailSent,
    EnrolAsked,
    Event,
    FieldsSet,
    MailArrived,
    MergeAsked,
    MoveAsked,
    NoteWritten,
    PersonChanged,
    RunDue,
    SplitAsked,
    StatusChanged,
    TaskDone,
    ThreadAttached,
    TicketOpened,
    UnenrolAsked,
    UnmergeAsked,
)
from core.model.ticket import Ticket
from core.pipeline import Pipeline, Status
from core.rules import inbound, joining, outbound
from core.rules.refusal import Refusal
from core.state import State
from core.workflow import enrol, run
from core.workflow.enrol import Root, root_of

CHAIN_DEPTH = 10
UNDO = timedelta(days=30)  # P10


def decide(event: Event, state: State, now: datetime) -> tuple[Decision, ...]:
    """Everything that follows from ``event`` at the instant ``now`` (aware), in the order in which
    it is to be performed.
    """
    decisions: list[Decision] = []
    root = root_of(event)
    work = deque([(event, 0)])
    while work:
        current, depth = work.popleft()
        for decision in _react(current, state, now, root):
            decisions.append(decision)
            changed = _changed(decision, event, state, now)
            if changed is not None and depth < CHAIN_DEPTH:
                work.append((changed, depth + 1))
    return tuple(_finish_last(decisions))


def refusal(event: Event, state: State) -> Refusal | None:
    """Why a person may not have what he asks for, or None (P09, P10, INV6; the rest of the desk's
    checks stand beside its rows).
    """
    if isinstance(event, MoveAsked):
        return _refuse_move(event, state)
    if (
        isinstance(event, ThreadAttached | TicketOpened)
        and event.thread is not None
        and event.thread.ticket is not None
    ):
        return Refusal(f"thread {event.thread.id} already belongs to ticket {event.thread.ticket}")
    if isinstance(event, MergeAsked):
        return _refuse_merge(event)
    if isinstance(event, UnmergeAsked):
        return _refuse_unmerge(event)
    if isinstance(event, SplitAsked):
        return _refuse_split(event)
    if isinstance(event, PersonChanged):
        return _refuse_person(event)
    if isinstance(event, EnrolAsked | UnenrolAsked):
        return _refuse_enrolment(event, state)
    return None


def _refuse_enrolment(event: EnrolAsked | UnenrolAsked, state: State) -> Refusal | None:
    """Off means no new enrolments, by hand neither (INV12); a ticket is in a workflow at most once
    (INV13).
    """
    number, workflow = event.ticket.number, event.workflow
    inside = any(
        each.workflow_id == workflow.id and each.state == "ACTIVE"
        for each in state.enrolments.get(number, ())
    )
    if isinstance(event, UnenrolAsked):
        return None if inside else Refusal(f"ticket {number} is not in workflow {workflow.name}")
    if not workflow.enabled:
        return Refusal(f"workflow {workflow.name} is switched off")
    return Refusal(f"ticket {number} is in workflow {workflow.name} already") if inside else None


def _refuse_merge(event: MergeAsked) -> Refusal | None:
    if event.ticket.number == event.into.number:
        return Refusal("a ticket cannot be merged into itself")
    if event.ticket.merged_into is not None:
        return Refusal(
            f"ticket {event.ticket.number} was merged into ticket {event.ticket.merged_into} "
            "already"
        )
    for each in (event.ticket, event.into):
        if each.deleted_at is not None:
            return Refusal(f"ticket {each.number} is in the trash")
    return None


def _refuse_unmerge(event: UnmergeAsked) -> Refusal | None:
    if event.ticket.merged_into is None or event.into is None or event.record is None:
        return Refusal(f"ticket {event.ticket.number} is not merged into another")
    if event.into.merged_into is not None:
        return Refusal(
            f"ticket {event.into.number} was merged into ticket {event.into.merged_into} "
            "since: take that back first"
        )
    if event.asked_at - event.record.at > UNDO:
        return Refusal(f"ticket {event.ticket.number} was merged more than {UNDO.days} days ago")
    return None


def _refuse_split(event: SplitAsked) -> Refusal | None:
    number = event.ticket.number
    foreign = [each for each in event.chosen if each not in event.held]
    if foreign or not event.chosen:
        return Refusal(
            f"message {foreign[0]} is no mail of ticket {number}"
            if foreign
            else "no message is chosen"
        )
    if event.held <= set(event.chosen):
        return Refusal(f"nothing would be left on ticket {number}")
    return None


def _refuse_person(event: PersonChanged) -> Refusal | None:
    who, number = event.contact.address, event.ticket.number
    match event.change, event.part:
        case "remove", "requester":
            return Refusal(
                f"{who} is the requester of ticket {number}: choose another requester first"
            )
        case (("remove" | "approve"), None):
            return Refusal(f"{who} takes no part in ticket {number}")
        case _:
            return None


def _refuse_move(event: MoveAsked, state: State) -> Refusal | None:
    if event.ticket.deleted_at is not None and event.person:
        return Refusal(f"ticket {event.ticket.number} is in the trash")
    if (
        not event.person
        or event.pipeline.allow_back
        or event.pipeline.id != event.ticket.pipeline_id
    ):
        return None
    before = state.pipelines[event.ticket.pipeline_id].status(event.ticket.status_id)
    after = event.pipeline.status(event.status_id)
    if after.position < before.position:
        return Refusal(
            f"pipeline {event.pipeline.name} does not allow moving back from {before.name} to "
            f"{after.name}"
        )
    return None


# one arm an event, that is the point
def _react(event: Event, state: State, now: datetime, root: Root) -> list[Decision]:  # noqa: C901, PLR0912
    match event:
        case MailArrived():
            return inbound.receive(event, state.pipelines)
        case TicketOpened():
            return _open(event)
        case MoveAsked(ticket=ticket, pipeline=pipeline, status_id=status_id, cause=cause):
            return _move(ticket, pipeline, status_id, cause, event)
        case StatusChanged():
            after = closure.after_move(event, now, state.zone)
            moved = replace(event, ticket=_closed(event.ticket, after))
            return [*([after] if after is not None else []), *enrol.on_status(moved, root, state)]
        case ThreadAttached(
            ticket=ticket, thread=thread, has_origin=has_origin, cause=cause, heard_at=heard_at
        ):
            return [
                AttachThread(ticket.number, thread.id, not has_origin, cause),
                *_heard(ticket.number, heard_at),
            ]  # C18
        case MergeAsked(ticket=ticket, into=into, cause=cause):
            return [
                CancelRuns(ticket.number, "the ticket was merged"),
                MergeTicket(ticket.number, into.number, cause),
                *_after_merge(ticket, into, cause),
            ]
        case UnmergeAsked(ticket=ticket, into=into, record=record, cause=cause):
            return (
                [UnmergeTicket(ticket.number, into.number, record, cause)]
                if into is not None and record is not None
                else []
            )
        case SplitAsked():
            return _split(event)
        case TaskDone(ticket=ticket, task=task, text=text, cause=cause):
            return [FinishTask(ticket.number, task, text, cause)]
        case NoteWritten(ticket=ticket, text=text, cause=cause):
            return [AddNote(ticket.number, text, cause)]
        case PersonChanged():
            return _place(event)
        case FieldsSet(ticket=ticket, fields=fields, cause=cause):
            changed = tuple(
                (name, value) for name, value in fields if getattr(ticket, name) != value
            )
            trashed = (
                [CancelRuns(ticket.number, "the ticket was deleted")]
                if dict(changed).get("deleted_at") is not None
                else []
            )  # P12
            return [SetFields(ticket.number, changed, cause), *trashed] if changed else []
        case EmailSent(opens=opens):
            return [*(_open(opens) if opens is not None else []), *outbound.sent(event)]
        case RunDue():
            return run.run_due(event, state, now)
        case EnrolAsked(ticket=ticket, workflow=workflow, cause=cause):
            return enrol.by_hand(workflow, ticket.number, state, cause)
        case UnenrolAsked(ticket=ticket, workflow=workflow):
            held = (
                each
                for each in state.enrolments.get(ticket.number, ())
                if each.workflow_id == workflow.id and each.state == "ACTIVE"
            )
            return [
                FinishRun(each.id, "UNENROLLED", "a person took the ticket out") for each in held
            ]
        case DeliveryFailed():
            return outbound.failed(event)
        case DeliveriesHandled():
            return outbound.handled(event)
        case _:
            assert_never(event)


def _closed(ticket: Ticket, after: SetClosure | None) -> Ticket:
    """The ticket with the dates its move gave it: the close-date rule comes before the filters of
    workflows (3.3).
    """
    if after is None:
        return ticket
    close_date = ticket.close_date if after.close_date == "keep" else after.close_date
    return replace(
        ticket,
        closed_at=after.closed_at,
        close_date=close_date,
        reopened_count=ticket.reopened_count + after.reopened,
    )


def _after_merge(ticket: Ticket, into: Ticket, cause: Cause) -> list[Decision]:
    """P10: the older create date counts, whichever ticket survives."""
    if ticket.created_at >= into.created_at:
        return []
    return [SetFields(into.number, (("created_at", ticket.created_at),), cause)]


def _split(event: SplitAsked) -> list[Decision]:
    """P11: the new ticket starts in the first open status of the same pipeline; the old one's
    status stays.
    """
    first = event.pipeline.first_open().id
    opened = OpenTicket(
        event.subject,
        event.pipeline.id,
        first,
        event.ticket.source,
        event.cause,
        requester=event.requester,
        enrols=False,
    )
    return [
        opened,
        SplitOff(event.ticket.number, event.chosen, event.people, event.channel, event.cause),
        *_heard(NEW, event.heard_at),
    ]


def _heard(ticket: int, at: datetime | None) -> list[Decision]:
    """Mail that comes to a ticket with its thread was written before."""
    return [NoteCustomer(ticket, at)] if at is not None else []


def _place(event: PersonChanged) -> list[Decision]:
    """Who is on the ticket, by a person's choice; what he is already changes nothing (E24, section
    5).
    """
    role: Literal["associated", "participant"] | None
    match event.change:
        case "add" if event.part not in ("requester", "associated"):
            role = "associated"
        case "approve" if event.part == "stranger":
            role = "participant"
        case "remove":
            role = None
        case _:
            return []
    return [PlacePerson(event.ticket.number, event.contact.id, role, event.cause)]


def _open(event: TicketOpened) -> list[Decision]:
    thread = event.thread.id if event.thread else None
    opened: list[Decision] = [
        OpenTicket(
            event.subject,
            event.pipeline.id,
            event.status_id,
            event.source,
            event.cause,
            thread=thread,
            requester=event.requester.id if event.requester else None,
            close_date=event.close_date,
            priority=event.priority,
        )
    ]
    if thread is not None:
        opened.append(RenameTicket(NEW, thread))
    return [*opened, *_heard(NEW, event.heard_at)]


def _move(
    ticket: Ticket, pipeline: Pipeline, status_id: int, cause: Cause, event: MoveAsked
) -> list[Decision]:
    """A move, or nothing where the status is the same (C06); a date given without a move is an edit
    of the date (C08).
    """
    if ticket.status_id != status_id:
        return [
            SetStatus(
                ticket.number, pipeline.id, status_id, cause, event.close_date, event.migration
            )
        ]
    if event.close_date is not None and event.close_date != ticket.close_date:
        return [SetFields(ticket.number, (("close_date", event.close_date),), cause)]
    return []


def _changed(decision: Decision, event: Event, state: State, now: datetime) -> StatusChanged | None:
    """The event that a decision amounts to: a move, or being created in a status (C05)."""
    if isinstance(decision, SetStatus):
        ticket = _ticket_of(event)
        if ticket is None:
            return None
        before = _status(state, ticket.pipeline_id, ticket.status_id)
        pipeline = state.pipelines[decision.pipeline_id]
        state_now = pipeline.status(decision.status_id).state
        return StatusChanged(
            ticket,
            pipeline,
            before.state,
            state_now,
            decision.cause,
            decision.close_date,
            decision.migration,
            decision.status_id,
        )
    if isinstance(decision, OpenTicket):
        pipeline = state.pipelines[decision.pipeline_id]
        requester = (
            decision.requester
            if isinstance(decision.requester, int) and decision.requester != NEW
            else None
        )
        born = Ticket(
            NEW,
            decision.subject,
            decision.pipeline_id,
            decision.status_id,
            decision.source,
            now,
            priority=decision.priority,
            requester_id=requester,
            flags=frozenset(decision.flags),
        )
        reached = pipeline.status(decision.status_id).state
        return StatusChanged(
            born,
            pipeline,
            None,
            reached,
            decision.cause,
            decision.close_date,
            not decision.enrols,
            decision.status_id,
        )
    return None


def _status(state: State, pipeline_id: int, status_id: int) -> Status:
    return state.pipelines[pipeline_id].status(status_id)


def _ticket_of(event: Event) -> Ticket | None:
    match event:
        case MailArrived():
            return (
                joining.survivor(event) or event.ticket
            )  # a ticket made by hand has no thread to be placed on yet
        case TicketOpened():
            return None
        case EmailSent():
            return event.ticket
        case _:
            return event.ticket


def _finish_last(decisions: list[Decision]) -> list[Decision]:
    """How a mail ended is written down after everything that it caused."""
    return sorted(decisions, key=lambda decision: type(decision).__name__ == "Finish")
