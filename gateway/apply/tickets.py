"""Open, merge and unmerge tickets, and name them after their conversation (behaviour.md P10, 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from core.decisions import tickets as d
from core.decisions.tickets import NEW
from core.mail.threading import Entry, heads
from core.model.message import MACHINE_KINDS, Address
from core.model.ticket import Thread, Ticket
from gateway.apply.context import ApplyContext, MailContext, required
from gateway.apply.people import sender_of
from gateway.store.tickets import threads
from gateway.store.tickets.threads import REF_LIMIT, MessageRow

MOST_CANDIDATES = 16  # messages of a thread that may name it are kept


def open_ticket(context: ApplyContext, decision: d.OpenTicket, mail: MailContext | None) -> None:
    """Open a ticket; the thread that it starts with becomes its origin."""
    unit, cause = context.unit, decision.cause
    number = unit.allot("ticket")
    requester = _requester(context, decision.requester, mail)
    ticket = Ticket(
        number=number,
        subject=decision.subject,
        pipeline_id=decision.pipeline_id,
        status_id=decision.status_id,
        source=decision.source,
        created_at=context.now,
        priority=decision.priority,
        requester_id=requester,
        close_date=decision.close_date,
        flags=frozenset(decision.flags),
        worked=cause.rule == "user",
        titled=cause.rule in ("user", "api") and decision.thread is None,
    )
    unit.set_ticket(ticket, new=True)
    context.opened = number
    if mail is not None:
        mail.ticket, mail.created_ticket = number, True
    if decision.thread is not None:
        thread = unit.threads[context.thread_id(decision.thread, mail)]
        unit.set_thread(replace(thread, ticket=number, origin=True, attached_at=context.now))
        if requester is not None:
            unit.set_participant(thread.id, requester, "requester")
    status = context.status_name(ticket)
    context.event(number, "ticket_created", cause, after=status, detail=decision.note, mail=mail)
    for other in decision.links:
        unit.add_link(number, other, "earlier")


def _requester(
    context: ApplyContext, wanted: int | Address | None, mail: MailContext | None
) -> int | None:
    """Return the contact id of the requester; NEW is the sender of the mail."""
    match wanted:
        case Address(name=name, address=str(address)):
            return context.unit.ensure_contact(address, name).id
        case int() if wanted == NEW:
            contact = sender_of(context, required(mail))
            return contact.id if contact else None
        case int():
            return wanted
        case _:
            return None


def link(context: ApplyContext, decision: d.LinkTickets, mail: MailContext | None) -> None:
    """Link two tickets, flag both, and record the reason; do nothing if they are linked already."""
    number, other = context.number(decision.ticket, mail), decision.other
    if not context.unit.add_link(number, other, decision.kind):
        return
    flag = "needs_attention" if decision.kind == "joined" else "maybe_related"
    for one, two in ((number, other), (other, number)):
        context.raise_flags(one, (flag,))
        detail = f"linked with ticket {two}: {decision.why}"
        context.event(one, "linked", decision.cause, after=str(two), detail=detail)


# ---- merging


def merge(context: ApplyContext, decision: d.MergeTicket) -> None:
    """Move the threads and people of a ticket to another, and store what was moved (P10)."""
    unit, number, into, cause = context.unit, decision.ticket, decision.into, decision.cause
    ticket, survivor = unit.tickets[number], unit.tickets[into]
    moved = [thread.id for thread in unit.threads_of(number)]
    for thread in moved:
        unit.set_thread(replace(unit.threads[thread], ticket=into))
    context.change(number, merged_into=into)
    by_person = cause.rule != "join"  # so that no later mail takes a seat from anybody
    worked = survivor.worked or ticket.worked or by_person
    context.change(into, flags=survivor.flags | ticket.flags, worked=worked)
    people = _people_to_move(context, decision)
    for contact in people:
        unit.set_associated(into, contact, present=True)
    record = {
        "threads": moved,
        "contacts": people,
        "flags": sorted(survivor.flags),
        "created_at": survivor.created_at.isoformat(),
    }
    unit.pending.merges.append((number, into, record))
    context.event(number, "merged", cause, after=str(into))
    detail = f"ticket {number} was merged into this one"
    context.event(into, "merged", cause, before=str(number), detail=detail)


def _people_to_move(context: ApplyContext, decision: d.MergeTicket) -> list[int]:
    """Return the contacts of the merged ticket that the surviving ticket lacks."""
    tickets, people = context.unit.tickets, context.unit.associated
    wanted, requester = set(people[decision.ticket]), tickets[decision.ticket].requester_id
    if requester is not None and decision.cause.rule != "join":  # a join: one conversation anyway
        wanted.add(requester)
    return sorted(wanted - people[decision.into] - {tickets[decision.into].requester_id})


def unmerge(context: ApplyContext, decision: d.UnmergeTicket) -> None:
    """Undo a merge: move back what it moved, except what was moved again later (P10)."""
    unit, number, into, record = context.unit, decision.ticket, decision.into, decision.record
    ticket, survivor = unit.tickets[number], unit.tickets[into]
    _return_threads(context, decision)
    for contact in record.contacts:
        unit.set_associated(into, contact, present=False)
    brought = ticket.flags - set(record.flags)
    untouched = survivor.created_at == ticket.created_at
    created_at = record.created_at if untouched else survivor.created_at
    context.change(into, flags=survivor.flags - brought, created_at=created_at)
    context.change(number, merged_into=None)
    unit.pending.returns.extend(record.joins)
    unit.pending.undone.extend((record.id, *(join.id for join in record.joins)))
    context.event(number, "unmerged", decision.cause, before=str(into))
    detail = f"ticket {number} stands on its own again"
    context.event(into, "unmerged", decision.cause, after=str(number), detail=detail)


def _return_threads(context: ApplyContext, decision: d.UnmergeTicket) -> None:
    unit, number, record = context.unit, decision.ticket, decision.record
    for thread in [unit.threads[each] for each in record.threads]:
        if thread.redirect_to is None and thread.ticket == decision.into:
            unit.set_thread(replace(thread, ticket=number))
    for join in record.joins:
        joined, kept = unit.threads[join.thread], context.followed(join.into)
        unit.set_thread(replace(joined, redirect_to=None, ticket=number, origin=join.origin))
        for contact, role in join.came:
            unit.set_participant(joined.id, contact, role)
        for contact in join.left:
            unit.drop_participant(kept.id, contact)
        if join.since:
            unit.pending.splits.append((joined.id, join.since))


# ---- naming


def rename(context: ApplyContext, decision: d.RenameTicket, mail: MailContext | None) -> None:
    """Note that a ticket may need another name; :func:`name_tickets` sets it once per batch."""
    number = context.number(decision.ticket, mail)
    context.renames[number] = context.thread_id(decision.thread, mail)


async def name_tickets(context: ApplyContext) -> None:
    """Give the noted tickets the sender and subject of the first mail of their conversation (5).

    Runs two queries for the whole batch. Messages of the batch itself are added, since they are not
    in the database yet. Messages of joined threads are looked up on their old threads, since they
    move only when the unit is flushed. Messages of strangers never name a ticket.
    """
    unit, wanted = context.unit, _threads_that_name(context)
    entries, held = await _candidates(context, wanted.values())
    for number, thread in wanted.items():
        roles = unit.participants[thread]
        mine = [each for each in entries[thread] if roles.get(each.sender_id or 0) != "stranger"]
        found = heads(mine, held[thread])
        if found:
            first = found[0]
            context.change(number, requester_id=first.sender_id, subject=first.subject)
            kept = {each.message for each in found[:MOST_CANDIDATES]}
            unit.pending.closed_candidates |= {each.message for each in entries[thread]} - kept
    context.renames.clear()


async def _candidates(
    context: ApplyContext, wanted: Iterable[int]
) -> tuple[dict[int, list[Entry]], dict[int, set[str]]]:
    """Return, by thread, the messages that may name a ticket, and their parents on the thread."""
    unit = context.unit
    into = {each: unit.follow(each) for each in unit.threads}
    final = {each: found.id for each, found in into.items() if found is not None}
    targets = set(wanted)
    stored = {each for each, found in final.items() if found in targets}
    stored -= unit.pending.new_threads
    entries: dict[int, list[Entry]] = {each: [] for each in targets}
    found = await threads.candidates(unit.connection, stored) if stored else {}
    for thread, rows in found.items():
        entries[final[thread]] += [
            row for row in rows if row.message not in unit.pending.closed_candidates
        ]
    fresh = [row for row in unit.pending.messages if final.get(row.thread_id or 0) in targets]
    for row in fresh:
        if row.opens:
            entries[final[row.thread_id or 0]].append(_entry(row))
    parents = {parent for rows in entries.values() for row in rows for parent in row.parents}
    held: dict[int, set[str]] = {each: set() for each in targets}
    for ref, thread in await threads.held(unit.connection, parents) if parents else ():
        if final.get(thread) in targets:
            held[final[thread]].add(ref)
    for row in fresh:
        if row.message_id and row.kind not in MACHINE_KINDS and row.sender_role != "stranger":
            held[final[row.thread_id or 0]].add(row.message_id[:REF_LIMIT])
    return entries, held


def _threads_that_name(context: ApplyContext) -> dict[int, int]:
    """Return, for each noted ticket that no person named, the thread to name the ticket after."""
    return {
        number: found.id
        for number, thread in context.renames.items()
        if not context.unit.tickets[number].titled
        and (found := _only_origin(context, number, thread)) is not None
    }


def _only_origin(context: ApplyContext, number: int, thread: int) -> Thread | None:
    """Return the thread if it is the ticket's only origin thread, else None."""
    found = context.unit.follow(thread)
    threads_of = context.unit.threads_of(number)
    origins = {each.id for each in threads_of if each.origin and each.redirect_to is None}
    return found if found is not None and origins == {found.id} else None


def _entry(row: MessageRow) -> Entry:
    return Entry(
        message=row.id,
        message_id=row.message_id,
        parents=tuple(parent[:REF_LIMIT] for parent in row.parents),
        date=row.date or row.created_at,
        sender_id=row.sender_id,
        subject=row.subject,
    )
