"""Plan an erasure: which threads are the person's alone, and where other mail names the person.

Nothing is changed here. Users and channels are inside, everybody else is outside. A thread is the
person's alone when no other outsider wrote in it or took part in it. Exception: if the person
requested the thread's ticket, others may have taken part, but not written. Raises ``Unavailable``
while mail naming the person waits to be processed, and ``Refused`` where mail naming the person is
held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from core.model.ticket import Contact
from gateway.errors import Refused, Unavailable
from gateway.store.engine import Database
from gateway.store.erasure.find import (
    ERASED,
    Found,
    Likeness,
    highest_keys,
    raw_mails_naming,
    rows_naming,
    small_rows_naming,
)
from gateway.store.queues.blobs import Blobs
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.tickets.threads import chunks, people_in
from gateway.store.tickets.tickets import subject_key

MESSAGE, MAIL, TICKET, THREAD = tables.message, tables.mail, tables.ticket, tables.thread
PARTICIPANT, TICKET_CONTACT, CONTACT = tables.participant, tables.ticket_contact, tables.contact
REPORT_KINDS = ("bounce", "report")  # their senders are not people


@dataclass(frozen=True, slots=True)
class Survey:
    """The rows (keys by table) and raw mails that may name the person.

    It also holds the highest key of each table at the time of the search.
    """

    found: Found
    raw: set[int]
    highest_keys: dict[str, int]


@dataclass(slots=True)
class Plan:
    """The rows and mails to erase.

    ``fields`` are new values of tickets, to be written before anything is erased.
    """

    like: Likeness
    contact: Contact | None
    found: Found
    threads: set[int] = field(default_factory=set)  # shared with others
    messages: set[int] = field(default_factory=set)
    mails: set[int] = field(default_factory=set)
    named: set[int] = field(default_factory=set)  # mails of others whose raw mail names the person
    tickets: set[int] = field(default_factory=set)  # the person's alone
    fields: dict[int, tuple[tuple[str, object], ...]] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)  # tickets that lose something


async def survey(database: Database, blobs: Blobs, like: Likeness) -> Survey:
    """Search all mail, while others may write. This reads every raw mail, so it may take long."""
    async with database.read() as connection:
        highest = await highest_keys(connection)
        rows = await rows_naming(connection, like, {})
        return Survey(rows, await raw_mails_naming(connection, blobs, like, 0), highest)


async def names(database: Database, like: Likeness, looked: Survey) -> set[str]:
    """Return the display names that mails gave the person in From, To, Cc and Reply-To."""
    found: set[str] = set()
    query = sa.select(MESSAGE.c.head).where(among(MESSAGE.c.id, "ids"))
    async with database.read() as connection:
        for piece in chunks(looked.found["message"]):
            for head in (await connection.execute(query, {"ids": piece})).scalars():
                found.update(
                    each["name"] or ""
                    for each in people_in(head)
                    if address_key(each["address"] or "") == like.address
                )
    return found


async def plan(
    connection: AsyncConnection,
    blobs: Blobs,
    like: Likeness,
    contact: Contact | None,
    looked: Survey,
    ours: Collection[str],
) -> Plan:
    """Return what has to be erased; call it in an ordered transaction.

    ``ours`` are the addresses of users and channels, which do not count as outside. Raises
    ``Unavailable`` while mail naming the person is waiting, and ``Refused`` where mail naming the
    person is held.
    """
    raw = looked.raw | await raw_mails_naming(connection, blobs, like, looked.highest_keys["mail"])
    found = await rows_naming(connection, like, looked.highest_keys)
    found = {name: found[name] | looked.found[name] for name in found} | await small_rows_naming(
        connection, like
    )
    mails = await _mails(connection, raw | found["mail"])
    _refuse_unread(like, mails, raw)
    own_mails = {row.id for row in mails if _sent_by(row, like)}
    made = Plan(like, contact, found)
    own = await _own_messages(connection, contact, own_mails)
    await _conversations(connection, made, own, ours)
    made.mails = await _mails_of(connection, own_mails, made.messages)
    made.named = raw - made.mails
    return made


async def keys(connection: AsyncConnection, query: sa.Select[Any], **values: Any) -> set[Any]:
    """Return the single column of a query as a set, without NULL."""
    return set((await connection.execute(query, values)).scalars()) - {None}


async def _mails(connection: AsyncConnection, ids: Collection[int]) -> list[Any]:
    query = (
        sa.select(MAIL.c.id, MAIL.c.state, MAIL.c.sender, MAIL.c.envelope)
        .where(among(MAIL.c.id, "ids"))
        .order_by(MAIL.c.id)
    )
    return list((await connection.execute(query, {"ids": sorted(ids)})).all())


def _sent_by(row: Any, like: Likeness) -> bool:
    sender = row.sender if row.sender is not None else row.envelope["sender"]
    return address_key(sender or "") == like.address


def _refuse_unread(like: Likeness, mails: Iterable[Any], raw: Collection[int]) -> None:
    for row in mails:
        if row.state not in ("pending", "held") or not (row.id in raw or _sent_by(row, like)):
            continue
        if row.state == "pending":
            raise Unavailable("mail naming this person is not processed yet: try again later")
        raise Refused(f"mail {row.id} is held and names this person: retry or discard it first")


async def _own_messages(
    connection: AsyncConnection, contact: Contact | None, mails: Collection[int]
) -> set[int]:
    """Return the messages that came in the person's mails or have the person as sender.

    A user's mail can hold a message of the person: a mail that the user forwarded to us.
    """
    found = await keys(
        connection,
        sa.select(MESSAGE.c.id).where(among(MESSAGE.c.mail_id, "mails")),
        mails=sorted(mails),
    )
    if contact is not None:
        found |= await keys(
            connection, sa.select(MESSAGE.c.id).where(MESSAGE.c.sender_id == contact.id)
        )
    return found


async def _conversations(
    connection: AsyncConnection, made: Plan, own: set[int], ours: Collection[str]
) -> None:
    """Set the plan's threads, messages, tickets and fields; ``own`` are the person's messages."""
    number = made.contact.id if made.contact is not None else 0
    requested = await keys(
        connection, sa.select(TICKET.c.number).where(TICKET.c.requester_id == number)
    )
    put_on = await keys(
        connection, sa.select(TICKET_CONTACT.c.ticket).where(TICKET_CONTACT.c.contact_id == number)
    )
    ticket_of = await _threads(connection, number, own, requested | put_on)
    touched = set(ticket_of)
    theirs = {each for each in touched if ticket_of[each] in requested}
    alone = await _alone(connection, touched, theirs, number, own, ours)
    numbers = requested | put_on | {each for each in ticket_of.values() if each is not None}
    query = sa.select(TICKET.c.number, TICKET.c.subject, TICKET.c.merged_into)
    tickets = (
        await connection.execute(query.where(among(TICKET.c.number, "n")), {"n": sorted(numbers)})
    ).all()
    made.threads = touched - alone
    made.tickets = requested - await _shared(connection, numbers, alone)
    noted = made.tickets - {
        row.number
        for row in tickets
        if row.merged_into is not None and row.merged_into not in made.tickets
    }
    gone = sa.select(MESSAGE.c.id).where(
        sa.or_(among(MESSAGE.c.thread_id, "threads"), among(MESSAGE.c.ticket_note, "noted"))
    )
    made.messages = own | await keys(connection, gone, threads=sorted(alone), noted=sorted(noted))
    await _titles(connection, made, requested, tickets)


async def _threads(
    connection: AsyncConnection, contact: int, own: set[int], tickets: set[int]
) -> dict[int, int | None]:
    """Return the threads to consider, as thread id to ticket; None where a thread has no ticket.

    Included are threads in which the person wrote or took part, and all threads of ``tickets``.
    """
    found = await keys(
        connection,
        sa.select(MESSAGE.c.thread_id).where(among(MESSAGE.c.id, "ids")),
        ids=sorted(own),
    )
    found |= await keys(
        connection, sa.select(PARTICIPANT.c.thread_id).where(PARTICIPANT.c.contact_id == contact)
    )
    of_tickets = sa.select(THREAD.c.id).where(among(THREAD.c.ticket, "n"))
    found |= await keys(connection, of_tickets, n=sorted(tickets))
    query = sa.select(THREAD.c.id, THREAD.c.ticket).where(among(THREAD.c.id, "ids"))
    return dict((await connection.execute(query, {"ids": sorted(found)})).all())


async def _shared(connection: AsyncConnection, tickets: set[int], alone: set[int]) -> set[int]:
    """Return the tickets with a thread that is not the person's alone (not in ``alone``)."""
    query = sa.select(THREAD.c.id, THREAD.c.ticket).where(among(THREAD.c.ticket, "n"))
    rows = await connection.execute(query, {"n": sorted(tickets)})
    return {row.ticket for row in rows if row.id not in alone}


async def _alone(
    connection: AsyncConnection,
    touched: set[int],
    theirs: set[int],
    number: int,
    own: set[int],
    ours: Collection[str],
) -> set[int]:
    """Return those of the ``touched`` threads that are the person's alone.

    No other outsider wrote in such a thread. No other outsider took part in it either, unless the
    thread is in ``theirs``: the threads of tickets that the person requested.
    """
    outside = [~among(CONTACT.c.address, "ours"), CONTACT.c.id != number]
    given = {"ids": sorted(touched), "ours": sorted(ours)}
    writing = sa.select(MESSAGE.c.thread_id).join(CONTACT, CONTACT.c.id == MESSAGE.c.sender_id)
    writing = writing.where(
        among(MESSAGE.c.thread_id, "ids"),
        *outside,
        MESSAGE.c.kind.not_in(REPORT_KINDS),
        ~among(MESSAGE.c.id, "own"),
    )
    wrote = await keys(connection, writing, **given, own=sorted(own))
    reading = (
        sa.select(PARTICIPANT.c.thread_id)
        .join(CONTACT, CONTACT.c.id == PARTICIPANT.c.contact_id)
        .where(among(PARTICIPANT.c.thread_id, "ids"), *outside)
    )
    present = await keys(connection, reading, **given)
    return touched - wrote - (present - theirs)


async def _titles(
    connection: AsyncConnection, made: Plan, requested: set[int], tickets: Iterable[Any]
) -> None:
    """Plan the new subjects and requesters of tickets.

    If only erased messages had the subject, the whole subject is replaced. Otherwise only the
    address and the name in it are replaced.
    """
    subjects: dict[int, list[str]] = {}  # of erased messages, by ticket
    kept: dict[int, set[str]] = {}
    query = (
        sa.select(MESSAGE.c.id, MESSAGE.c.subject, THREAD.c.ticket)
        .join(THREAD, THREAD.c.id == MESSAGE.c.thread_id)
        .where(among(THREAD.c.ticket, "n"))
    )
    tickets = list(tickets)
    for row in await connection.execute(query, {"n": [each.number for each in tickets]}):
        if row.id in made.messages:
            subjects.setdefault(row.ticket, []).append(subject_key(row.subject))
        else:
            kept.setdefault(row.ticket, set()).add(subject_key(row.subject))
    known = {each.number for each in tickets}
    more = sa.select(TICKET.c.number, TICKET.c.subject).where(among(TICKET.c.number, "n"))
    tickets += (await connection.execute(more, {"n": sorted(made.found["ticket"] - known)})).all()
    for each in tickets:
        key = subject_key(each.subject)
        theirs = each.number in made.tickets or (
            key in subjects.get(each.number, ()) and key not in kept.get(each.number, ())
        )
        subject = ERASED if theirs else made.like.hidden(each.subject, names=each.number in known)
        fields: list[tuple[str, object]] = [("subject", subject)] if subject != each.subject else []
        if each.number in requested:
            fields.append(("requester_id", None))
        if fields:
            made.fields[each.number] = tuple(fields)
    made.touched = made.fields.keys() | subjects.keys()


async def _mails_of(connection: AsyncConnection, own: set[int], messages: set[int]) -> set[int]:
    """Return the mails to erase: the person's, those of erased messages, and their duplicates."""
    of_messages = sa.select(MAIL.c.id).where(among(MAIL.c.message, "messages"))
    found = own | await keys(connection, of_messages, messages=sorted(messages))
    found |= await keys(
        connection,
        sa.select(MESSAGE.c.mail_id).where(among(MESSAGE.c.id, "messages")),
        messages=sorted(messages),
    )
    return found | await keys(
        connection,
        sa.select(MAIL.c.id).where(among(MAIL.c.original_id, "mails")),
        mails=sorted(found),
    )
