"""Read and write tickets, their events, links and merges.

Only ``gateway.apply.applier`` calls the functions that write (R7). Functions that read take sets of
ticket numbers and return frozen core types. Functions that write take what :class:`UnitOfWork`
collected, and run one statement per table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.merging import JoinRecord, MergeRecord
from core.model.ticket import Ticket
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import Work

COLUMNS = tuple(field.name for field in fields(Ticket))
TABLE = tables.ticket
SELECT_TICKET = sa.select(*(TABLE.c[name] for name in COLUMNS))
BY_NUMBER = SELECT_TICKET.where(among(TABLE.c.number, "numbers"))
UPDATE = (
    sa.update(TABLE)
    .where(TABLE.c.number == sa.bindparam("_number"))
    .values(
        {
            name: sa.bindparam(name, type_=TABLE.c[name].type)
            for name in (*COLUMNS[1:], "subject_key")
        }
    )
)
TICKET_CONTACT = tables.ticket_contact
ASSOCIATED = sa.select(TICKET_CONTACT).where(among(TICKET_CONTACT.c.ticket, "numbers"))
LINKS = sa.select(tables.ticket_link).where(
    among(tables.ticket_link.c.ticket, "numbers") | among(tables.ticket_link.c.other, "numbers")
)
# Live tickets of these requesters with one of these subjects, newest first.
EARLIER_TICKETS = (
    sa.select(TABLE.c.number, TABLE.c.requester_id, TABLE.c.subject_key)
    .where(
        among(TABLE.c.requester_id, "requesters"),
        among(TABLE.c.subject_key, "keys"),
        TABLE.c.merged_into.is_(None),
        TABLE.c.deleted_at.is_(None),
    )
    .order_by(TABLE.c.number.desc())
    .limit(200)
)


@dataclass(frozen=True, slots=True)
class TicketEvent:
    """An entry in a ticket's history (interfaces.md 2.5, E).

    ``cause`` says what caused the event; keys without a value are left out.
    """

    id: int
    ticket: int
    at: datetime
    type: str
    actor: str
    cause: dict[str, str | None]
    before: str | None = None
    after: str | None = None
    detail: str | None = None


EVENT_COLUMNS = tuple(field.name for field in fields(TicketEvent))


def subject_key(subject: str) -> str:
    """Return a key for a subject: tickets with equal keys may be about the same matter.

    The key is the subject without reply prefixes, case-folded, cut to 80 characters.
    """
    rest = subject.strip()
    while True:
        prefix, colon, tail = rest.partition(":")
        if not colon or len(prefix) > 5 or not prefix.strip().isalpha():
            break
        rest = tail.strip()
    return rest.casefold()[:80]


def from_row(row: sa.Row[Any]) -> Ticket:
    """Return the ticket that a row of SELECT_TICKET describes."""
    values = row._asdict()
    values["flags"] = frozenset(values["flags"])
    values["tags"] = tuple(values["tags"])
    return Ticket(**values)


def to_row(ticket: Ticket) -> dict[str, Any]:
    """Return a ticket as a row with every column."""
    values = {name: getattr(ticket, name) for name in COLUMNS}
    values["flags"] = sorted(ticket.flags)
    values["tags"] = list(ticket.tags)
    values["subject_key"] = subject_key(ticket.subject)
    return values


async def load(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, Ticket]:
    """Return tickets, keyed by number, merged and deleted ones included.

    Unknown numbers are absent.
    """
    if not numbers:
        return {}
    rows = await connection.execute(BY_NUMBER, {"numbers": list(numbers)})
    return {row.number: from_row(row) for row in rows}


async def earlier(
    connection: AsyncConnection, requesters: Collection[int], keys: Collection[str]
) -> dict[tuple[int, str], list[int]]:
    """Return the numbers of live tickets, newest first, keyed by (requester, subject key) (E14)."""
    found: dict[tuple[int, str], list[int]] = {}
    if requesters and keys:
        for number, requester, key in await connection.execute(
            EARLIER_TICKETS, {"requesters": list(requesters), "keys": list(keys)}
        ):
            found.setdefault((requester, key), []).append(number)
    return found


async def listing(
    connection: AsyncConnection, *, everything: bool = False, numbers: Collection[int] | None = None
) -> list[Ticket]:
    """Return tickets, sorted by number; deleted and merged ones only with ``everything``."""
    query = SELECT_TICKET.order_by(TABLE.c.number)
    if not everything:
        query = query.where(TABLE.c.deleted_at.is_(None), TABLE.c.merged_into.is_(None))
    if numbers is not None:
        query = query.where(TABLE.c.number.in_(list(numbers)))
    return [from_row(row) for row in await connection.execute(query)]


async def in_status(connection: AsyncConnection, status_id: int) -> list[int]:
    """Return the numbers of the tickets in a status, deleted and merged ones included."""
    query = sa.select(TABLE.c.number).where(TABLE.c.status_id == status_id).order_by(TABLE.c.number)
    return list((await connection.execute(query)).scalars())


async def events(
    connection: AsyncConnection, numbers: Collection[int]
) -> dict[int, list[TicketEvent]]:
    """Return the history of each of these tickets, oldest event first."""
    table = tables.event
    found: dict[int, list[TicketEvent]] = {number: [] for number in numbers}
    query = sa.select(table).where(table.c.ticket.in_(list(numbers))).order_by(table.c.id)
    for row in await connection.execute(query):
        found[row.ticket].append(TicketEvent(*row))
    return found


async def links(
    connection: AsyncConnection, numbers: Collection[int]
) -> dict[int, list[tuple[int, str]]]:
    """Return the links of each ticket as (other ticket, kind), in both directions."""
    found: dict[int, list[tuple[int, str]]] = {number: [] for number in numbers}
    for row in await connection.execute(LINKS, {"numbers": list(numbers)}):
        if row.ticket in found:
            found[row.ticket].append((row.other, row.kind))
        if row.other in found:
            found[row.other].append((row.ticket, row.kind))
    return found


async def associated(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, set[int]]:
    """Return the contacts that agents have added to tickets."""
    found: dict[int, set[int]] = {number: set() for number in numbers}
    if numbers:
        for row in await connection.execute(ASSOCIATED, {"numbers": list(numbers)}):
            found[row.ticket].add(row.contact_id)
    return found


def writing(new: Iterable[Ticket], changed: Iterable[Ticket]) -> Work:
    """Return inserts and updates of whole rows of tickets.

    :func:`gateway.store.sql.bulk.write_rows` runs them.
    """
    return [
        (TABLE, [to_row(ticket) for ticket in new]),
        (UPDATE, [{**to_row(ticket), "_number": ticket.number} for ticket in changed]),
    ]


def writing_events(rows: Iterable[TicketEvent]) -> Work:
    """Return inserts of events.

    :func:`gateway.store.sql.bulk.write_rows` runs them.
    """
    return [(tables.event, [{name: getattr(row, name) for name in EVENT_COLUMNS} for row in rows])]


async def write_links(connection: AsyncConnection, rows: Collection[tuple[int, int, str]]) -> None:
    """Insert links that do not exist yet."""
    if not rows:
        return
    table = tables.ticket_link
    known = await links(connection, {ticket for ticket, _, _ in rows})
    fresh = {
        (ticket, other, kind) for ticket, other, kind in rows if (other, kind) not in known[ticket]
    }
    if fresh:
        await connection.execute(
            sa.insert(table),
            [{"ticket": a, "other": b, "kind": kind} for a, b, kind in sorted(fresh)],
        )


async def write_associated(
    connection: AsyncConnection, ticket: int, contact: int, *, present: bool
) -> None:
    """Add a contact to a ticket, or remove the contact from it."""
    row = {"ticket": ticket, "contact_id": contact}
    await connection.execute(sa.delete(TICKET_CONTACT).filter_by(**row))
    if present:
        await connection.execute(sa.insert(TICKET_CONTACT), row)


async def write_merge(
    connection: AsyncConnection,
    kind: str,
    ticket: int | None,
    into: int | None,
    at: datetime,
    moved: Mapping[str, Any],
) -> None:
    """Record what was moved by a merge, or by a join of threads, so that it can be undone."""
    values = {
        "kind": kind,
        "ticket": ticket,
        "into": into,
        "at": at,
        "moved": dict(moved),
        "undone_at": None,
    }
    await connection.execute(sa.insert(tables.merge), values)


async def last_merge(connection: AsyncConnection, ticket: int) -> MergeRecord | None:
    """Return a ticket's newest merge that was not undone, with the joins of threads it made."""
    table = tables.merge
    query = (
        sa.select(table)
        .where(table.c.ticket == ticket, table.c.undone_at.is_(None))
        .order_by(table.c.id.desc())
    )
    rows = (await connection.execute(query)).all()
    merge = next((row for row in rows if row.kind == "merge"), None)
    if merge is None:
        return None
    moved = merge.moved
    joins = tuple(_join_record(row) for row in rows if row.kind == "join" and row.at == merge.at)
    created_at = datetime.fromisoformat(moved["created_at"])
    return MergeRecord(
        id=merge.id,
        at=merge.at,
        threads=tuple(moved["threads"]),
        contacts=tuple(moved["contacts"]),
        flags=tuple(moved["flags"]),
        created_at=created_at,
        joins=joins,
    )


def _join_record(row: sa.Row[Any]) -> JoinRecord:
    moved = row.moved
    messages, followed = tuple(moved["messages"]), tuple(moved["followed"])
    return JoinRecord(row.id, moved["thread"], moved["into"], moved["origin"], messages, followed)


async def undo_merge(connection: AsyncConnection, merge_id: int, at: datetime) -> None:
    """Record that a merge was undone."""
    await connection.execute(
        sa.update(tables.merge).where(tables.merge.c.id == merge_id).values(undone_at=at)
    )


async def requested_by(connection: AsyncConnection, contact_id: int) -> list[int]:
    """Return the numbers of the live tickets requested by a contact."""
    live = (TABLE.c.deleted_at.is_(None), TABLE.c.merged_into.is_(None))
    query = sa.select(TABLE.c.number).where(TABLE.c.requester_id == contact_id, *live)
    return list((await connection.execute(query.order_by(TABLE.c.number))).scalars())


async def absorbed(connection: AsyncConnection, number: int) -> list[int]:
    """Return the numbers of the tickets merged into this one, also by way of other tickets."""
    merged = targets = [number]
    while targets:
        query = sa.select(TABLE.c.number).where(TABLE.c.merged_into.in_(targets))
        targets = list((await connection.execute(query.order_by(TABLE.c.number))).scalars())
        merged = merged + targets
    return merged[1:]


async def titled_like(connection: AsyncConnection, text: str, limit: int) -> list[int]:
    """Return the numbers of the newest tickets whose subject contains a text, ignoring case."""
    query = sa.select(TABLE.c.number).where(TABLE.c.subject.icontains(text, autoescape=True))
    newest = query.order_by(TABLE.c.number.desc()).limit(limit)
    return list((await connection.execute(newest)).scalars())
