"""Acts of users on tickets; each is one transaction (R7).

An act raises NotFound for an unknown name or number, and Refused if a rule forbids it; it then
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from core.mail import reply_tokens
from core.mail.threading import Entry, TicketRef, heads
from core.model.merging import JoinRecord
from core.model.message import address_key
from core.model.ticket import Contact, ParticipantRole, Priority, Source, Thread, Ticket
from core.pipeline import Pipeline, Status
from core.rules.rights import Right
from core.rules.undoing import JoinedMail, with_mail_since
from gateway.desk.transaction import Actor, Transaction, status_of
from gateway.errors import Conflict, Invalid, NotFound, Refused
from gateway.store.setup import workflow_history
from gateway.store.tickets import contacts, threads, tickets
from gateway.store.tickets.threads import MessageRow, people_in
from gateway.store.tickets.tickets import TicketEvent
from gateway.validation import refuse_unnamed

PersonChange = Literal["add", "approve", "remove"]


@dataclass(frozen=True, slots=True)
class ActResult:
    """The result of an act: its tickets, its history entries, and the message it wrote.

    ``redirected`` has the given numbers of merged tickets, with the tickets acted on instead.
    """

    tickets: tuple[int, ...]
    events: tuple[TicketEvent, ...]
    message: MessageRow | None = None
    redirected: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewTicket:
    """A ticket to open, from ``thread`` if given; names are as typed, None means the default."""

    subject: str | None = None
    requester: str | None = None
    pipeline: str | None = None
    status: str | None = None
    source: Source | None = None
    close_date: date | None = None
    priority: Priority | None = None
    thread: int | None = None


class TicketChanges(TypedDict, total=False):
    """Fields to set; ``owner`` is a user's address or name, ``requester`` an address."""

    subject: str
    priority: Priority | None
    close_date: date | None
    owner: str | None
    requester: str


class TicketDesk(Actor):
    """Open, change, move, merge, split and delete tickets."""

    async def create(self, draft: NewTicket) -> ActResult:
        """Open a ticket by hand, or from a thread, which becomes its origin (scenario 12)."""
        if draft.subject is not None:
            refuse_unnamed("a ticket", "subject", draft.subject)
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            thread = await act.thread(draft.thread) if draft.thread is not None else None
            number = await (_open_on(act, draft, thread) if thread else _open(act, draft))
        return ActResult((number,), act.events)

    async def attach(self, number: int, thread_id: int) -> ActResult:
        """Put a thread on a ticket; the thread must not be on a ticket already.

        The first thread of a ticket becomes its origin thread (C18). If the ticket has no
        requester, the first sender on the thread becomes the requester.
        """
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket, thread = await act.ticket(number), await act.thread(thread_id)
            normal = (t for t in act.unit.threads_of(ticket.number) if t.kind == "normal")
            has_origin = any(each.origin for each in normal)
            heard_at = await _heard_on(act, thread)
            act.do(ThreadAttached(ticket, thread, has_origin, act.cause, heard_at))
            first = await _first_message(act, thread)
            if ticket.requester_id is None and first is not None and first.sender_id is not None:
                await _load_contact(act, first.sender_id)
                requester = (("requester_id", first.sender_id),)
                act.do(FieldsSet(act.unit.tickets[ticket.number], act.cause, requester))
        return ActResult((ticket.number,), act.events, redirected=act.redirected)

    async def note(self, number: int, text: str) -> ActResult:
        """Add a note for other users; it never moves the status (O07)."""
        if not text.strip():
            raise Invalid("a note needs a text", "text")
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket = await act.ticket(number)
            act.do(NoteWritten(ticket, text, act.cause))
        return ActResult((ticket.number,), act.events, act.messages[-1], act.redirected)

    async def finish_task(self, number: int, task: int) -> ActResult:
        """Mark a task of the ticket as done."""
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket = await act.ticket(number)
            act.do(TaskDone(ticket, task, await _open_task(act, ticket.number, task), act.cause))
        return ActResult((ticket.number,), act.events, redirected=act.redirected)

    async def move(
        self,
        numbers: Sequence[int],
        status: str,
        pipeline: str | None = None,
        close_date: date | None = None,
    ) -> ActResult:
        """Move tickets (all or none) to a status.

        If ``pipeline`` is None, the status is one of the ticket's own pipeline.
        """
        moved: list[int] = []
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            await act.unit.load_tickets(numbers)  # few statements: other writers are waiting
            for number in dict.fromkeys(numbers):
                ticket = await act.ticket(number)
                own = act.unit.desk.pipelines[ticket.pipeline_id]
                into = act.pipeline(pipeline) if pipeline is not None else own
                target = status_of(into, status).id
                asked = MoveAsked(
                    ticket, into, target, act.cause, person=True, close_date=close_date
                )
                act.do(asked)
                moved.append(ticket.number)
        return ActResult(tuple(dict.fromkeys(moved)), act.events, redirected=act.redirected)

    async def set(self, number: int, changes: TicketChanges) -> ActResult:
        """Set fields other than the status; a given close date overrules the rules (C08)."""
        if "subject" in changes:
            refuse_unnamed("a ticket", "subject", changes["subject"])
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket = await act.ticket(number)
            act.do(FieldsSet(ticket, act.cause, await _fields(act, changes)))
        return ActResult((ticket.number,), act.events, redirected=act.redirected)

    async def merge(self, number: int, into: int) -> ActResult:
        """Merge a ticket ``into`` another; its number then leads to the other ticket (P10)."""
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            survivor = await act.unmerged_ticket(into, trashed=True)
            merged = await act.unmerged_ticket(number, trashed=True)
            act.do(MergeAsked(merged, survivor, act.cause))
        return ActResult((survivor.number,), act.events)

    async def unmerge(self, number: int) -> ActResult:
        """Undo a merge of the last 30 days; the ticket gets back its threads and notes (P10)."""
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket = await act.exact_ticket(number)
            into = act.unit.tickets.get(ticket.merged_into or 0)
            record = await tickets.last_merge(act.connection, number)
            if record is not None:
                await act.unit.load_threads({*record.threads, *(j.thread for j in record.joins)})
                joins = [await _completed(act, each, ticket) for each in record.joins]
                record = replace(record, joins=tuple(joins))
            act.do(UnmergeAsked(ticket, into, record, act.now, act.cause))
        return ActResult((number,), act.events)

    async def split(self, number: int, messages: Sequence[int]) -> ActResult:
        """Split mails of a ticket off into a linked ticket of their own (P11)."""
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket = await act.unmerged_ticket(number)
            own = [t.id for t in act.unit.threads_of(ticket.number) if t.kind == "normal"]
            rows = await threads.messages(act.connection, own)
            act.do(_split(act, ticket, rows, tuple(dict.fromkeys(messages))))
        return ActResult((_opened(act),), act.events)

    async def delete(self, number: int) -> ActResult:
        """Move a ticket to the trash; mail for it then opens a new ticket (E38)."""
        async with self.acting(Right.DELETE_TICKETS) as act:
            ticket = await act.unmerged_ticket(number)
            act.do(FieldsSet(ticket, act.cause, (("deleted_at", act.now),)))
        return ActResult((ticket.number,), act.events)

    async def restore(self, number: int) -> ActResult:
        """Take a ticket out of the trash; its fields stay as they were."""
        async with self.acting(Right.DELETE_TICKETS) as act:
            ticket = await act.unmerged_ticket(number, trashed=True)
            if ticket.deleted_at is None:
                raise Refused(f"ticket {ticket.number} is not in the trash")
            act.do(FieldsSet(ticket, act.cause, (("deleted_at", None),)))
        return ActResult((ticket.number,), act.events)

    async def person(self, number: int, change: PersonChange, address: str) -> ActResult:
        """Add a contact to a ticket, approve a stranger as participant, or remove a contact."""
        async with self.acting(Right.WORK_ON_TICKETS) as act:
            ticket, contact = await act.ticket(number), await act.contact(address)
            part = act.unit.part_of(contact.id, None, ticket)
            act.do(PersonChanged(ticket, contact, part, change, act.cause))
        return ActResult((ticket.number,), act.events, redirected=act.redirected)


async def _completed(act: Transaction, join: JoinRecord, ticket: Ticket) -> JoinRecord:
    """Return the record of a join, completed with the mail and people that unmerging moves back."""
    unit = act.unit
    await unit.load_threads([join.into])
    thread = unit.follow(join.into)
    survivor = unit.live_ticket(thread.ticket) if thread is not None else None
    if thread is None or survivor is None:
        return join
    rows = await threads.messages(act.connection, [thread.id])
    await unit.load_contacts({key for row in rows for key in _keys_of(row)})
    mails = [_joined_mail(act, row, join.thread, ticket.number) for row in rows]
    kept = unit.associated[survivor.number] | {survivor.requester_id or 0}
    brought = unit.participants[join.thread]
    return with_mail_since(join, mails, unit.participants[thread.id], brought, kept)


def _joined_mail(act: Transaction, row: MessageRow, thread: int, number: int) -> JoinedMail:
    """Return the facts about a mail on a joined thread that the rules need."""
    people = {contact.id for key in _keys_of(row) if (contact := act.unit.contact_with(key))}
    pluses = (reply_tokens.bare(key)[1] for key in _keys_of(row))
    named = [reply_tokens.read_reply(act.unit.desk.keys, plus) for plus in pluses]
    addressed = {TicketRef(number), TicketRef(number, thread)} & {each for each in named if each}
    return JoinedMail(row.id, row.message_id, row.parents, frozenset(people), bool(addressed))


def _keys_of(row: MessageRow) -> set[str]:
    """Return the address keys of From, To, Cc and Reply-To of a message."""
    return {address_key(each["address"]) for each in people_in(row.head) if each["address"]}


async def _fields(act: Transaction, changes: TicketChanges) -> tuple[tuple[str, object], ...]:
    """Return the columns to set and their values, with owner and requester looked up."""
    fields: list[tuple[str, object]] = [
        (name, changes[name]) for name in ("subject", "priority", "close_date") if name in changes
    ]
    if "owner" in changes:
        owner = changes["owner"]
        fields.append(("owner_id", act.user(owner).id if owner is not None else None))
    if "requester" in changes:
        fields.append(("requester_id", (await act.contact(changes["requester"])).id))
    return tuple(fields)


async def _open_task(act: Transaction, number: int, task: int) -> str:
    """Return the text of a task of a ticket; Conflict if the task is done already."""
    tasks = {each["id"]: each for each in await workflow_history.tasks(act.connection, number)}
    if task not in tasks:
        raise NotFound(f"ticket {number} has no task {task}")
    if tasks[task]["done_at"] is not None:
        raise Conflict(f"task {task} of ticket {number} is already done")
    return str(tasks[task]["text"])


async def _open(act: Transaction, draft: NewTicket) -> int:
    """Open a ticket by hand; return its number."""
    named = draft.pipeline
    pipeline = act.pipeline(named) if named is not None else act.unit.desk.default_pipeline
    status = pipeline.first_open() if draft.status is None else status_of(pipeline, draft.status)
    requester = await act.contact(draft.requester) if draft.requester is not None else None
    opened = TicketOpened(
        subject=draft.subject or "",
        pipeline=pipeline,
        status_id=status.id,
        source=draft.source or "manual",
        cause=act.cause,
        requester=requester,
        priority=draft.priority,
        close_date=draft.close_date,
    )
    act.do(opened)
    return _opened(act)


async def _open_on(act: Transaction, draft: NewTicket, thread: Thread) -> int:
    """Open a ticket from a thread; return its number.

    Pipeline and status come from the channel, requester and subject from the thread, unless
    ``draft`` names others (E35).
    """
    pipeline, status = _place(act, draft, thread)
    first = await _first_message(act, thread)
    sender = first.sender_id if first is not None else None
    opened = TicketOpened(
        subject=first.subject if first is not None else "",
        pipeline=pipeline,
        status_id=status.id,
        source=draft.source or "email",
        cause=act.cause,
        requester=await _load_contact(act, sender) if sender is not None else None,
        thread=thread,
        priority=draft.priority,
        close_date=draft.close_date,
        heard_at=await _heard_on(act, thread),
    )
    act.do(opened)
    await act.applier.finish()
    return await _overruled(act, draft)


async def _overruled(act: Transaction, draft: NewTicket) -> int:
    """Set the opened ticket's subject and requester if ``draft`` has them; return its number."""
    number = _opened(act)
    fields: list[tuple[str, object]] = []
    if draft.subject is not None:
        fields.append(("subject", draft.subject))
    if draft.requester is not None:
        fields.append(("requester_id", (await act.contact(draft.requester)).id))
    if fields:
        act.do(FieldsSet(act.unit.tickets[number], act.cause, tuple(fields)))
    return number


def _place(act: Transaction, draft: NewTicket, thread: Thread) -> tuple[Pipeline, Status]:
    """Return the pipeline and status in which a ticket opened from a thread starts."""
    desk = act.unit.desk
    channel = next((each for each in desk.channels.values() if each.id == thread.channel_id), None)
    own = desk.pipelines[channel.pipeline_id] if channel is not None else desk.default_pipeline
    pipeline = act.pipeline(draft.pipeline) if draft.pipeline is not None else own
    if draft.status is not None:
        return pipeline, status_of(pipeline, draft.status)
    first = channel.status_id if channel is not None else None
    if first is not None and pipeline.holds(first):
        return pipeline, pipeline.status(first)
    return pipeline, pipeline.first_open()


async def _first_message(act: Transaction, thread: Thread) -> Entry | None:
    """Return the message that gives a ticket its subject; None if no person wrote on the thread."""
    entries = (await threads.candidates(act.unit.connection, [thread.id]))[thread.id]
    parents = {parent for entry in entries for parent in entry.parents}
    held = await threads.held(act.unit.connection, parents) if parents else set()
    found = heads(entries, {ref for ref, at in held if at == thread.id})
    return found[0] if found else None


async def _heard_on(act: Transaction, thread: Thread) -> datetime | None:
    """Return when a contact or stranger last wrote on a thread; None if never."""
    return _last_heard(await threads.messages(act.unit.connection, [thread.id]))


def _last_heard(rows: Iterable[MessageRow]) -> datetime | None:
    """Return when a contact or stranger last wrote one of these messages (behaviour.md 2.6)."""
    return max((row.created_at for row in rows if _is_heard(row)), default=None)


def _is_heard(row: MessageRow) -> bool:
    """Return whether a contact or stranger, and no machine, wrote this message."""
    outside = row.direction == "inbound" and row.sender_role in ("contact", "stranger")
    return outside and row.kind in ("human", "forward")


async def _load_contact(act: Transaction, contact_id: int) -> Contact | None:
    """Load a contact into the unit of work and return it; None if there is no such contact."""
    for contact in await contacts.load(act.unit.connection, ids=[contact_id]):
        act.unit.put_contact(contact)
    return act.unit.contacts.get(contact_id)


def _split(
    act: Transaction, ticket: Ticket, messages: Iterable[MessageRow], chosen: tuple[int, ...]
) -> SplitAsked:
    """Return the event that asks to split; the first chosen mail gives subject and requester."""
    held = {row.id: row for row in messages if row.direction != "note"}
    unit, rows = act.unit, [held[each] for each in sorted(chosen) if each in held]
    inbound = (row.sender_id for row in rows if row.direction == "inbound")
    requester = next((each for each in inbound if each is not None), None)
    known = (unit.threads[row.thread_id] for row in rows if row.thread_id in unit.threads)
    return SplitAsked(
        ticket=ticket,
        pipeline=unit.desk.pipelines[ticket.pipeline_id],
        chosen=chosen,
        held=frozenset(held),
        subject=next((row.subject for row in rows), ""),
        requester=requester,
        people=_people_of(act, rows, requester),
        channel=next((thread.channel_id for thread in known), None),
        cause=act.cause,
        heard_at=_last_heard(rows),
    )


def _people_of(
    act: Transaction, rows: Sequence[MessageRow], requester: int | None
) -> tuple[tuple[int, ParticipantRole], ...]:
    """Return the people on mails to split off, each with the person's role on the old thread."""
    roles: dict[int, ParticipantRole] = {}
    for row in rows:
        head_of = (*row.head["to"], *row.head["cc"])
        contacts_of = (act.unit.contact_at(each["address"]) for each in head_of)
        named = {contact.id for contact in contacts_of if contact is not None} | {row.sender_id}
        held = act.unit.participants.get(row.thread_id or 0, {})
        roles.update({contact: role for contact, role in held.items() if contact in named})
    found: list[tuple[int, ParticipantRole]] = [
        (each, "participant" if role == "requester" else role) for each, role in roles.items()
    ]
    return (*found, (requester, "requester")) if requester is not None else tuple(found)


def _opened(act: Transaction) -> int:
    """Return the number of the ticket that this act opened."""
    if act.applier.opened is None:
        raise LookupError("no ticket was opened")
    return act.applier.opened
