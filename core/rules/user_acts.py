"""Decide what follows when a person or program opens, moves, merges, splits or edits a ticket."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from core import closure
from core.decisions.outgoing import CancelRuns, FinishTask
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
    FieldsSet,
    MergeAsked,
    MoveAsked,
    NoteWritten,
    PersonChanged,
    SplitAsked,
    StatusChanged,
    TaskDone,
    ThreadAttached,
    TicketOpened,
    UnmergeAsked,
)
from core.model.ticket import Ticket
from core.state import State
from core.workflow import enrol
from core.workflow.enrol import Root


def opened(event: TicketOpened) -> list[Decision]:
    """Open a ticket; if a thread is given, name the ticket after the thread."""
    thread = event.thread.id if event.thread else None
    made = OpenTicket(
        subject=event.subject,
        pipeline_id=event.pipeline.id,
        status_id=event.status_id,
        source=event.source,
        cause=event.cause,
        thread=thread,
        requester=event.requester.id if event.requester else None,
        close_date=event.close_date,
        priority=event.priority,
    )
    renamed = [RenameTicket(NEW, thread)] if thread is not None else []
    return [made, *renamed, *_customer_wrote(NEW, event.heard_at)]


def moved(event: MoveAsked) -> list[Decision]:
    """Move a ticket; if it has that status already, only set a given close date (C06, C08)."""
    ticket = event.ticket
    if ticket.status_id != event.status_id:
        return [
            SetStatus(
                ticket=ticket.number,
                pipeline_id=event.pipeline.id,
                status_id=event.status_id,
                cause=event.cause,
                close_date=event.close_date,
                migration=event.migration,
            )
        ]
    if event.close_date is not None and event.close_date != ticket.close_date:  # C08
        return [SetFields(ticket.number, (("close_date", event.close_date),), event.cause)]
    return []


def after_move(event: StatusChanged, root: Root, state: State, now: datetime) -> list[Decision]:
    """Set closure dates, then end and start runs; workflow filters see the new dates (3.3)."""
    dates = closure.after_move(event, now, state.zone)
    if dates is None:
        return enrol.on_status(event, root, state)
    dated = replace(event, ticket=_dated(event.ticket, dates))
    return [dates, *enrol.on_status(dated, root, state)]


def _dated(ticket: Ticket, dates: SetClosure) -> Ticket:
    return replace(
        ticket,
        closed_at=dates.closed_at,
        close_date=ticket.close_date if dates.close_date == "keep" else dates.close_date,
        reopened_count=ticket.reopened_count + dates.reopened,
    )


def attached(event: ThreadAttached) -> list[Decision]:
    """Put a thread on a ticket; it becomes the origin thread if the ticket has none (C18)."""
    number = event.ticket.number
    made = AttachThread(number, event.thread.id, not event.has_origin, event.cause)
    return [made, *_customer_wrote(number, event.heard_at)]


def merged(event: MergeAsked) -> list[Decision]:
    """Merge a ticket into another, which gets the older of both creation dates (P10)."""
    ticket, into = event.ticket, event.into
    ended = CancelRuns(ticket.number, "the ticket was merged")
    decided: list[Decision] = [ended, MergeTicket(ticket.number, into.number, event.cause)]
    if ticket.created_at < into.created_at:
        decided.append(SetFields(into.number, (("created_at", ticket.created_at),), event.cause))
    return decided


def unmerged(event: UnmergeAsked) -> list[Decision]:
    """Undo the last merge of a ticket (P10)."""
    if event.into is None or event.record is None:
        return []
    return [UnmergeTicket(event.ticket.number, event.into.number, event.record, event.cause)]


def split(event: SplitAsked) -> list[Decision]:
    """Move mails to a new ticket in the first open status of the same pipeline (P11)."""
    made = OpenTicket(
        subject=event.subject,
        pipeline_id=event.pipeline.id,
        status_id=event.pipeline.first_open().id,
        source=event.ticket.source,
        cause=event.cause,
        requester=event.requester,
        enrols=False,
    )
    taken = SplitOff(
        ticket=event.ticket.number,
        messages=event.chosen,
        people=event.people,
        channel=event.channel,
        cause=event.cause,
    )
    return [made, taken, *_customer_wrote(NEW, event.heard_at)]


def _customer_wrote(ticket: int, at: datetime | None) -> list[Decision]:
    """Set when the customer last wrote; called after mail was put on a ticket."""
    return [NoteCustomer(ticket, at)] if at is not None else []


def note_written(event: NoteWritten) -> list[Decision]:
    """Put a note on a ticket (O07)."""
    return [AddNote(event.ticket.number, event.text, event.cause)]


def task_done(event: TaskDone) -> list[Decision]:
    """Finish a task of a ticket."""
    return [FinishTask(event.ticket.number, event.task, event.text, event.cause)]


def person_changed(event: PersonChanged) -> list[Decision]:
    """Put a contact on a ticket, approve a stranger or take somebody off (E24, section 5)."""
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


def fields_set(event: FieldsSet) -> list[Decision]:
    """Set the fields that change; a ticket put into the trash leaves its workflows (P12)."""
    ticket = event.ticket
    changed = tuple((name, value) for name, value in event.fields if getattr(ticket, name) != value)
    decided: list[Decision] = [SetFields(ticket.number, changed, event.cause)] if changed else []
    if dict(changed).get("deleted_at") is not None:
        decided.append(CancelRuns(ticket.number, "the ticket was deleted"))
    return decided
