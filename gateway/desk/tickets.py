"""What a person can do with tickets: each act is one transaction, event -> rules ->
``gateway.apply.applier`` -> book (R7).

A rule that forbids it, a name or number that is not there, comes out as ``Refused`` with a
sentence, and nothing was changed. Several tickets moved at once are moved all or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypedDict

from core.events import (
    FieldsSet,
    MergeAsked,
    MoveAsked,
    NoteWritten,
    PersonChanged,
    SplitAsked,
    TaskDone,
    ThreadAttached,
    TicketOpened,
    UnmergeAsked,
)
from core.mail.threading import Entry, head
from core.model.ticket import Channel, Contact, ParticipantRole, Priority, Source, Thread, Ticket
from core.pipeline import Pipeline, Status
from gateway.desk.transaction import Actor, Transaction, status_of
from gateway.errors import Refused
from gateway.store.setup import workflow_history
from gateway.store.tickets import contacts, threads, tickets
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.tickets import TicketEvent
from gateway.validation import refuse_unnamed


@dataclass(frozen=True, slots=True)
class ActResult:
    """What an act did: the tickets it was about, what it wrote into histories, and the message it
    made.
    """

    tickets: tuple[int, ...]
    events: tuple[TicketEvent, ...]
    message: MessageRow | None = None


@dataclass(frozen=True, slots=True)
class NewTicket:
    """A ticket to be made. Names are as typed; None = the default. With ``thread`` it is made from
    a conversation without a ticket.
    """

    subject: str | None = None
    requester: str | None = None
    pipeline: str | None = None
    status: str | None = None
    source: Source | None = None
    close_date: date | None = None
    priority: Priority | None = None
    thread: int | None = None


class TicketChanges(TypedDict, total=False):
    """Fields to be set; those left out stay. ``owner`` is a user's address or name, ``requester``
    an address.
    """

    subject: str
    priority: Priority | None
    close_date: date | None
    owner: str | None
    requester: str


class TicketDesk(Actor):
    """What this person can do with tickets; see the module."""

    async def create(self, draft: NewTicket) -> ActResult:
        """A ticket by hand, or out of a conversation that has none, whose origin thread that
        conversation then is (scenario 12).
        """
        if draft.subject is not None:
            refuse_unnamed("a ticket", "subject", draft.subject)
        async with self.acting() as act:
            number = await (
                _open(act, draft)
                if draft.thread is None
                else _open_on_thread(act, draft, draft.thread)
            )
        return ActResult((number,), act.events)

    async def attach(self, number: int, thread_id: int) -> ActResult:
        """A conversation without a ticket goes onto this one; the first becomes its origin (C18).
        Its first sender is the requester of a ticket without.
        """
        async with self.acting() as act:
            ticket, thread = await act.ticket(number), await act.thread(thread_id)
            has_origin = any(
                each.origin and each.kind == "normal" for each in act.unit.threads_of(ticket.number)
            )
            act.do(
                ThreadAttached(ticket, thread, has_origin, act.cause, await _heard_on(act, thread))
            )
            first = await _first(act, thread)
            if ticket.requester_id is None and first is not None and first.sender_id is not None:
                await _know(act, first.sender_id)
                act.do(
                    FieldsSet(
                        act.unit.tickets[ticket.number],
                        act.cause,
                        (("requester_id", first.sender_id),),
                    )
                )
        return ActResult((ticket.number,), act.events)

    async def note(self, number: int, text: str) -> ActResult:
        """A note for other agents; it never moves the status (O07)."""
        if not text.strip():
            raise Refused("a note needs a text")
        async with self.acting() as act:
            ticket = await act.ticket(number)
            act.do(NoteWritten(ticket, text, act.cause))
        return ActResult((ticket.number,), act.events, act.messages[-1])

    async def finish_task(self, number: int, task: int) -> ActResult:
        """A task of the ticket is done."""
        async with self.acting() as act:
            ticket = await act.ticket(number)
            found = next(
                (
                    each
                    for each in await workflow_history.tasks(act.unit.connection, ticket.number)
                    if each["id"] == task
                ),
                None,
            )
            if found is None:
                raise Refused(f"ticket {ticket.number} has no task {task}")
            if found["done_at"] is not None:
                raise Refused(f"task {task} of ticket {ticket.number} is done already")
            act.do(TaskDone(ticket, task, found["text"], act.cause))
        return ActResult((ticket.number,), act.events)

    async def move(
        self,
        numbers: Sequence[int],
        status: str,
        pipeline: str | None = None,
        close_date: date | None = None,
    ) -> ActResult:
        """Move tickets to a status of their own pipeline, or of the named one; all of them or none."""
        moved: list[int] = []
        async with self.acting() as act:
            await act.unit.load_tickets(
                numbers
            )  # all with a few statements, while everybody else waits
            for number in dict.fromkeys(numbers):
                ticket = await act.ticket(number)
                into = (
                    act.pipeline(pipeline)
                    if pipeline is not None
                    else act.unit.desk.pipelines[ticket.pipeline_id]
                )
                act.do(
                    MoveAsked(
                        ticket,
                        into,
                        status_of(into, status).id,
                        act.cause,
                        person=True,
                        close_date=close_date,
                    )
                )
                moved.append(ticket.number)
        return ActResult(tuple(dict.fromkeys(moved)), act.events)

    async def set(self, number: int, changes: TicketChanges) -> ActResult:
        """Write fields that are not the status (C08: a close date is stored as given)."""
        if "subject" in changes:
            refuse_unnamed("a ticket", "subject", changes["subject"])
        async with self.acting() as act:
            ticket = await act.ticket(number)
            fields: list[tuple[str, object]] = [
                (name, changes[name])
                for name in ("subject", "priority", "close_date")
                if name in changes
            ]
            if "owner" in changes:
                fields.append(
                    (
                        "owner_id",
                        act.user(changes["owner"]).id if changes["owner"] is not None else None,
                    )
                )
            if "requester" in changes:
                fields.append(("requester_id", (await act.contact(changes["requester"])).id))
            act.do(FieldsSet(ticket, act.cause, tuple(fields)))
        return ActResult((ticket.number,), act.events)

    async def merge(self, number: int, into: int) -> ActResult:
        """Ticket ``number`` goes into another, with its threads, people and notes; its number
        redirects (P10).
        """
        async with self.acting() as act:
            survivor = await act.ticket(into, trashed=True)
            act.do(MergeAsked(await _itself(act, number), survivor, act.cause))
        return ActResult((survivor.number,), act.events)

    async def unmerge(self, number: int) -> ActResult:
        """A merge of the last 30 days is taken back: the ticket stands on its own again, with what
        it brought.
        """
        async with self.acting() as act:
            ticket = await _itself(act, number)
            into = (
                act.unit.tickets.get(ticket.merged_into) if ticket.merged_into is not None else None
            )
            record = await tickets.last_merge(act.unit.connection, number)
            if record is not None:
                await act.unit.load_threads(
                    {*record.threads, *(join.thread for join in record.joins)}
                )
            act.do(UnmergeAsked(ticket, into, record, act.now, act.cause))
        return ActResult((number,), act.events)

    async def split(self, number: int, messages: Sequence[int]) -> ActResult:
        """Mails of a ticket become a ticket of their own, whose origin is the thread made of them;
        both are linked (P11).
        """
        async with self.acting() as act:
            ticket = await act.ticket(number)
            own = [
                thread for thread in act.unit.threads_of(ticket.number) if thread.kind == "normal"
            ]
            rows = await threads.messages(act.unit.connection, [thread.id for thread in own])
            held = {row.id: row for row in rows if row.direction != "note"}
            act.do(_split(act, ticket, held, tuple(dict.fromkeys(messages))))
        return ActResult((_opened(act),), act.events)

    async def delete(self, number: int) -> ActResult:
        """Into the trash: number, threads and references stay, mail that comes for it opens a new
        ticket (E38).
        """
        async with self.acting() as act:
            ticket = await act.ticket(number)
            act.do(FieldsSet(ticket, act.cause, (("deleted_at", act.now),)))
        return ActResult((ticket.number,), act.events)

    async def restore(self, number: int) -> ActResult:
        """Out of the trash again, as it was."""
        async with self.acting() as act:
            ticket = await act.ticket(number, trashed=True)
            if ticket.deleted_at is None:
                raise Refused(f"ticket {ticket.number} is not in the trash")
            act.do(FieldsSet(ticket, act.cause, (("deleted_at", None),)))
        return ActResult((ticket.number,), act.events)

    async def person(
        self, number: int, change: Literal["add", "approve", "remove"], address: str
    ) -> ActResult:
        """Put a contact on the ticket, approve a stranger as participant, or take somebody off it."""
        async with self.acting() as act:
            ticket = await act.ticket(number)
            contact = await act.contact(address)
            part = act.unit.part_of(contact.id, None, ticket)
            act.do(PersonChanged(ticket, contact, part, change, act.cause))
        return ActResult((ticket.number,), act.events)


async def _open(act: Transaction, draft: NewTicket) -> int:
    pipeline = (
        act.pipeline(draft.pipeline)
        if draft.pipeline is not None
        else act.unit.desk.default_pipeline
    )
    status = (
        status_of(pipeline, draft.status) if draft.status is not None else pipeline.first_open()
    )
    requester = await act.contact(draft.requester) if draft.requester is not None else None
    act.do(
        TicketOpened(
            draft.subject or "",
            pipeline,
            status.id,
            draft.source or "manual",
            act.cause,
            requester=requester,
            priority=draft.priority,
            close_date=draft.close_date,
        )
    )
    return _opened(act)


async def _open_on_thread(act: Transaction, draft: NewTicket, thread_id: int) -> int:
    """Pipeline and status are the channel's, requester and subject the conversation's, unless the
    draft says otherwise (E35).
    """
    thread = await act.thread(thread_id)
    channel = next(
        (each for each in act.unit.desk.channels.values() if each.id == thread.channel_id), None
    )
    pipeline, status = _place(act, draft, channel)
    first = await _first(act, thread)
    requester = (
        await _know(act, first.sender_id)
        if first is not None and first.sender_id is not None
        else None
    )
    act.do(
        TicketOpened(
            first.subject if first is not None else "",
            pipeline,
            status.id,
            draft.source or "email",
            act.cause,
            requester=requester,
            thread=thread,
            priority=draft.priority,
            close_date=draft.close_date,
            heard_at=await _heard_on(act, thread),
        )
    )
    number = _opened(act)
    await act.applier.finish()
    fields: list[tuple[str, object]] = (
        [("subject", draft.subject)] if draft.subject is not None else []
    )
    if draft.requester is not None:
        fields.append(("requester_id", (await act.contact(draft.requester)).id))
    if fields:
        act.do(FieldsSet(act.unit.tickets[number], act.cause, tuple(fields)))
    return number


def _place(act: Transaction, draft: NewTicket, channel: Channel | None) -> tuple[Pipeline, Status]:
    """Where a ticket out of a conversation starts."""
    desk = act.unit.desk
    own = desk.pipelines[channel.pipeline_id] if channel is not None else desk.default_pipeline
    pipeline = act.pipeline(draft.pipeline) if draft.pipeline is not None else own
    if draft.status is not None:
        return pipeline, status_of(pipeline, draft.status)
    if channel is not None and channel.status_id is not None and pipeline.holds(channel.status_id):
        return pipeline, pipeline.status(channel.status_id)
    return pipeline, pipeline.first_open()


async def _first(act: Transaction, thread: Thread) -> Entry | None:
    """The message a conversation is named after, or its first one."""
    entries = (await threads.outline(act.unit.connection, [thread.id]))[thread.id]
    return head(entries) or min(entries, key=lambda entry: entry.message, default=None)


async def _heard_on(act: Transaction, thread: Thread) -> datetime | None:
    return _heard(await threads.messages(act.unit.connection, [thread.id]))


def _heard(rows: Iterable[MessageRow]) -> datetime | None:
    """When a person outside wrote the last of these messages (behaviour.md 2.6)."""
    people = (
        row
        for row in rows
        if row.direction == "inbound" and row.sender_role in ("contact", "stranger")
    )
    return max((row.created_at for row in people if row.kind in ("human", "forward")), default=None)


async def _know(act: Transaction, contact_id: int) -> Contact | None:
    for contact in await contacts.load(act.unit.connection, ids=[contact_id]):
        act.unit.put_contact(contact)
    return act.unit.contacts.get(contact_id)


def _split(
    act: Transaction, ticket: Ticket, held: Mapping[int, MessageRow], chosen: tuple[int, ...]
) -> SplitAsked:
    """Subject and requester are those of the first chosen mail; people keep the part they had in
    its thread.
    """
    unit, rows = act.unit, [held[each] for each in sorted(chosen) if each in held]
    people: dict[int, ParticipantRole] = {}
    for row in rows:
        parts = unit.participants.get(row.thread_id or 0, {})
        named = {
            contact.id
            for each in (*row.head["to"], *row.head["cc"])
            if (contact := unit.contact_at(each["address"])) is not None
        }
        people.update(
            {
                contact: role
                for contact, role in parts.items()
                if contact in named or contact == row.sender_id
            }
        )
    requester = next(
        (row.sender_id for row in rows if row.sender_id is not None and row.direction == "inbound"),
        None,
    )
    parts_now: list[tuple[int, ParticipantRole]] = [
        (each, "participant" if role == "requester" else role) for each, role in people.items()
    ]
    if requester is not None:
        parts_now.append((requester, "requester"))
    channel = next(
        (unit.threads[row.thread_id].channel_id for row in rows if row.thread_id in unit.threads),
        None,
    )
    return SplitAsked(
        ticket,
        unit.desk.pipelines[ticket.pipeline_id],
        chosen,
        frozenset(held),
        next((row.subject for row in rows), ""),
        requester,
        tuple(parts_now),
        channel,
        act.cause,
        _heard(rows),
    )


async def _itself(act: Transaction, number: int) -> Ticket:
    """The ticket of this very number, even when it was merged away."""
    await act.ticket(number, trashed=True)
    return act.unit.tickets[number]


def _opened(act: Transaction) -> int:
    if act.applier.opened is None:
        raise LookupError("no ticket was opened")
    return act.applier.opened
