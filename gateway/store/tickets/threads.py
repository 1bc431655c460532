"""Threads, their messages and the known Message-IDs as rows.

Only ``gateway.apply.applier`` calls the functions that write (R7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.mail.threading import Entry
from core.model.merging import JoinRecord
from core.model.message import MACHINE_KINDS
from core.model.ticket import ParticipantRole, Thread
from gateway.store.schema import tables
from gateway.store.schema.types import EPOCH
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import Work

REF_LIMIT = 300
COLUMNS = tuple(field.name for field in fields(Thread))
TABLE, MESSAGE = tables.thread, tables.message
SELECT_THREAD = sa.select(*(TABLE.c[name] for name in COLUMNS))
BY_ID = SELECT_THREAD.where(among(TABLE.c.id, "ids"))
BY_TICKET = SELECT_THREAD.where(among(TABLE.c.ticket, "tickets"))
# Known Message-IDs with the kind of their message.
REFS_BY_ID = (
    sa.select(tables.message_ref, tables.message.c.kind)
    .select_from(
        tables.message_ref.outerjoin(
            tables.message, tables.message.c.id == tables.message_ref.c.message
        )
    )
    .where(among(tables.message_ref.c.ref, "refs"))
)
PARTICIPANTS_BY_THREAD = sa.select(tables.participant).where(
    among(tables.participant.c.thread_id, "ids")
)
UPDATE = (
    sa.update(TABLE)
    .where(TABLE.c.id == sa.bindparam("_id"))
    .values({name: sa.bindparam(name, type_=TABLE.c[name].type) for name in COLUMNS[1:]})
)
UPDATE_REF = (
    sa.update(tables.message_ref)
    .where(
        tables.message_ref.c.ref == sa.bindparam("_ref"),
        tables.message_ref.c.thread_id == sa.bindparam("_thread"),
    )
    .values(
        message=sa.bindparam("_message"),
        forward=sa.bindparam("_forward"),
        claims=sa.bindparam("_claims", type_=tables.message_ref.c.claims.type),
    )
)
UPDATE_PARTICIPANT = (
    sa.update(tables.participant)
    .where(
        tables.participant.c.thread_id == sa.bindparam("_thread"),
        tables.participant.c.contact_id == sa.bindparam("_contact"),
    )
    .values(role=sa.bindparam("_role"))
)
MOST_CLAIMS = 8  # of one Message-ID on one thread are stored
CHUNK_VALUES = 5000  # values of one IN list; SQLite allows 32,766 parameters


@dataclass(slots=True)
class RefRow:
    """A known Message-ID; ``thread`` is where it was recorded, before redirects.

    ``claims`` are pairs, at most MOST_CLAIMS: a contact who sent or referenced the id while in the
    thread's circle, and whether that mail had the verdict pass.
    """

    ref: str
    thread: int
    message: int | None
    forward: bool = False
    machine: bool = False  # the message's kind is in MACHINE_KINDS; not stored
    claims: tuple[tuple[int, bool], ...] = ()

    def learn(self, other: RefRow) -> bool:
        """Add what is known of the id from another mail; return whether this changes anything."""
        before = (self.message, self.forward, self.machine, self.claims)
        if other.message is not None and (
            self.message is None
            or (other.forward and not self.forward)
            or (self.machine and not other.machine)
        ):
            if not other.machine and (self.message is None or self.machine):
                self.claims = other.claims
            self.message, self.machine = other.message, other.machine
            self.forward = self.forward or other.forward
        elif self.message is None and other.message is None:
            known = dict(self.claims)
            for contact, proven in other.claims:
                if contact in known or len(known) < MOST_CLAIMS:
                    known[contact] = proven or known.get(contact, False)
            self.claims = tuple(known.items())
        return before != (self.message, self.forward, self.machine, self.claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """A message as stored; JSON columns hold plain lists and objects."""

    id: int
    thread_id: int | None
    direction: str
    kind: str
    sender_role: str
    head: dict[str, Any]
    subject: str
    created_at: datetime
    text: str
    reply_text: str
    ticket_note: int | None = None
    mail_id: int | None = None
    message_id: str | None = None
    parents: tuple[str, ...] = ()
    opens: bool = False
    sender_id: int | None = None
    author_id: int | None = None
    date: datetime | None = None
    attachments: tuple[dict[str, Any], ...] = ()
    auth: str = "none"
    flags: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


MESSAGE_COLUMNS = tuple(field.name for field in fields(MessageRow))
SELECT_MESSAGE = sa.select(*(MESSAGE.c[name] for name in MESSAGE_COLUMNS))


def people_in(
    head: dict[str, Any], *parts: Literal["from", "to", "cc", "reply_to"]
) -> Iterator[dict[str, Any]]:
    """Yield the people in these parts of a message's head, or in all parts if none is named.

    Each has the keys "name" and "address"; the address may be None.
    """
    for part in parts or ("from", "to", "cc", "reply_to"):
        found = head.get(part) or ()
        yield from [found] if isinstance(found, dict) else found


def chunks(values: Collection[Any]) -> Iterable[list[Any]]:
    """Yield the values in lists that fit into one statement."""
    rows = list(values)
    return (rows[at : at + CHUNK_VALUES] for at in range(0, len(rows), CHUNK_VALUES))


async def load_refs(connection: AsyncConnection, refs: Collection[str]) -> list[RefRow]:
    """Return what is known of these Message-IDs (cut to REF_LIMIT, as they are stored)."""
    found: list[RefRow] = []
    if refs:
        rows = await connection.execute(REFS_BY_ID, {"refs": refs})
        found.extend(
            RefRow(
                row.ref,
                row.thread_id,
                row.message,
                row.forward,
                row.kind in MACHINE_KINDS,
                tuple((contact, proven) for contact, proven in row.claims or ()),
            )
            for row in rows
        )
    return found


async def load(connection: AsyncConnection, ids: Collection[int]) -> dict[int, Thread]:
    """Return threads by id; unknown ids are absent."""
    found: dict[int, Thread] = {}
    if ids:
        found.update(
            (row.id, Thread(*row)) for row in await connection.execute(BY_ID, {"ids": ids})
        )
    return found


async def of_tickets(connection: AsyncConnection, numbers: Collection[int]) -> list[Thread]:
    """Return every thread of these tickets."""
    if not numbers:
        return []
    return [Thread(*row) for row in await connection.execute(BY_TICKET, {"tickets": list(numbers)})]


async def first_of(connection: AsyncConnection, numbers: Collection[int]) -> list[int]:
    """Return the ids of the threads that were first attached to these tickets (E36)."""
    if not numbers:
        return []
    query = sa.select(TABLE.c.id).where(TABLE.c.first_ticket.in_(list(numbers)))
    return list((await connection.execute(query)).scalars())


async def participants(
    connection: AsyncConnection, ids: Collection[int]
) -> dict[int, dict[int, ParticipantRole]]:
    """Return the contact ids and roles of each thread."""
    found: dict[int, dict[int, ParticipantRole]] = {each: {} for each in ids}
    if ids:
        for row in await connection.execute(PARTICIPANTS_BY_THREAD, {"ids": ids}):
            found[row.thread_id][row.contact_id] = row.role
    return found


CANDIDATES = (
    sa.select(
        MESSAGE.c.thread_id,
        MESSAGE.c.id,
        MESSAGE.c.message_id,
        MESSAGE.c.parents,
        MESSAGE.c.date,
        MESSAGE.c.created_at,
        MESSAGE.c.sender_id,
        MESSAGE.c.subject,
    )
    .where(among(MESSAGE.c.thread_id, "ids"), MESSAGE.c.opens)
    .order_by(MESSAGE.c.id)
    .limit(sa.bindparam("most"))
)
# Which of these Message-IDs belong to messages of persons of the circle, with their threads.
HELD = (
    sa.select(tables.message_ref.c.ref, MESSAGE.c.thread_id)
    .join(MESSAGE, MESSAGE.c.id == tables.message_ref.c.message)
    .where(among(tables.message_ref.c.ref, "refs"), MESSAGE.c.kind.not_in(MACHINE_KINDS))
    .where(MESSAGE.c.sender_role != "stranger")
)


async def candidates(connection: AsyncConnection, ids: Collection[int]) -> dict[int, list[Entry]]:
    """Return, for each thread, the messages that may give the ticket its subject and requester.

    At most 1,000 rows are read, since a thread from an older version may have very many.
    """
    found: dict[int, list[Entry]] = {each: [] for each in ids}
    for row in await connection.execute(CANDIDATES, {"ids": ids, "most": 1000}):
        entry = Entry(
            message=row.id,
            message_id=row.message_id,
            parents=tuple(parent[:REF_LIMIT] for parent in row.parents),
            date=row.date or row.created_at or EPOCH,
            sender_id=row.sender_id,
            subject=row.subject,
        )
        found[row.thread_id].append(entry)
    return found


async def held(connection: AsyncConnection, refs: Collection[str]) -> set[tuple[str, int]]:
    """Return (Message-ID, thread) for those of these ids that people of a circle sent."""
    rows = await connection.execute(HELD, {"refs": refs})
    return {(row.ref, row.thread_id) for row in rows}


async def close_candidates(connection: AsyncConnection, ids: Collection[int]) -> None:
    """Record that these messages no longer give a ticket its subject and requester."""
    for piece in chunks(ids):
        await connection.execute(
            sa.update(MESSAGE).where(MESSAGE.c.id.in_(piece)).values(opens=False)
        )


async def messages(
    connection: AsyncConnection, ids: Collection[int], notes_of: Collection[int] = ()
) -> list[MessageRow]:
    """Return the messages of threads and the notes of tickets, oldest first."""
    wanted = MESSAGE.c.thread_id.in_(list(ids)) | MESSAGE.c.ticket_note.in_(list(notes_of))
    query = SELECT_MESSAGE.where(wanted).order_by(MESSAGE.c.id)
    return [_message(row) for row in await connection.execute(query)]


async def newest(connection: AsyncConnection, thread: int, limit: int) -> list[MessageRow]:
    """Return the last ``limit`` mails of a thread, oldest first, without notes."""
    query = SELECT_MESSAGE.where(MESSAGE.c.thread_id == thread, MESSAGE.c.direction != "note")
    query = query.order_by(MESSAGE.c.id.desc()).limit(limit)
    return [_message(row) for row in await connection.execute(query)][::-1]


def _message(row: sa.Row[Any]) -> MessageRow:
    values = row._asdict()
    for name in ("parents", "attachments", "flags", "evidence"):
        values[name] = tuple(values[name])
    return MessageRow(**values)


def writing(new: Iterable[Thread], changed: Iterable[Thread]) -> Work:
    """Return inserts and updates of whole rows, for ``write_rows``."""
    rows = [{name: getattr(thread, name) for name in COLUMNS} for thread in new]
    return [
        (TABLE, rows),
        (
            UPDATE,
            [
                {"_id": thread.id, **{name: getattr(thread, name) for name in COLUMNS[1:]}}
                for thread in changed
            ],
        ),
    ]


def writing_participants(
    new: Iterable[tuple[int, int, str]], changed: Iterable[tuple[int, int, str]]
) -> Work:
    """Return inserts and updates of (thread, contact, role), for ``write_rows``."""
    return [
        (
            tables.participant,
            [
                {"thread_id": thread, "contact_id": contact, "role": role}
                for thread, contact, role in new
            ],
        ),
        (
            UPDATE_PARTICIPANT,
            [
                {"_thread": thread, "_contact": contact, "_role": role}
                for thread, contact, role in changed
            ],
        ),
    ]


def writing_refs(new: Iterable[RefRow], changed: Iterable[RefRow]) -> Work:
    """Return inserts and updates of known Message-IDs, for ``write_rows``.

    A known id is updated when its message arrives.
    """
    return [
        (
            tables.message_ref,
            [
                {
                    "ref": row.ref,
                    "thread_id": row.thread,
                    "message": row.message,
                    "forward": row.forward,
                    "claims": row.claims or None,
                }
                for row in new
            ],
        ),
        (
            UPDATE_REF,
            [
                {
                    "_ref": row.ref,
                    "_thread": row.thread,
                    "_message": row.message,
                    "_forward": row.forward,
                    "_claims": row.claims or None,
                }
                for row in changed
            ],
        ),
    ]


def writing_messages(rows: Iterable[MessageRow]) -> Work:
    """Return inserts of messages, for ``write_rows``."""
    return [
        (tables.message, [{name: getattr(row, name) for name in MESSAGE_COLUMNS} for row in rows])
    ]


async def move_messages(
    connection: AsyncConnection, moves: Collection[tuple[int, int]]
) -> dict[int, list[int]]:
    """Move the messages of each (from, into) pair of threads.

    Returns the ids of moved messages by original thread, which :func:`take_back` needs.
    """
    table = tables.message
    moved: dict[int, list[int]] = {}
    for thread, into in moves:
        query = (
            sa.update(table)
            .where(table.c.thread_id == thread)
            .values(thread_id=into)
            .returning(table.c.id)
        )
        moved[thread] = sorted((await connection.execute(query)).scalars())
    return moved


async def redirect(
    connection: AsyncConnection, moves: Collection[tuple[int, int]]
) -> dict[int, list[int]]:
    """Let threads that redirect to the first of a (from, into) pair redirect to the second.

    One redirect then always leads to the final thread. Returns the ids of changed threads by
    the first thread of the pair.
    """
    followed: dict[int, list[int]] = {}
    for thread, into in moves:
        query = (
            sa.update(TABLE)
            .where(TABLE.c.redirect_to == thread)
            .values(redirect_to=into)
            .returning(TABLE.c.id)
        )
        followed[thread] = sorted((await connection.execute(query)).scalars())
    return followed


async def take_back(connection: AsyncConnection, record: JoinRecord) -> None:
    """Undo a join: move the messages back and restore the earlier redirects."""
    move = sa.update(MESSAGE).values(thread_id=record.thread)
    for piece in chunks(record.messages):
        await connection.execute(move.where(MESSAGE.c.id.in_(piece)))
    redirect = sa.update(TABLE).values(redirect_to=record.thread)
    for piece in chunks(record.followed):
        await connection.execute(redirect.where(TABLE.c.id.in_(piece)))


async def finally_at(
    connection: AsyncConnection, ids: Collection[int]
) -> dict[int, tuple[int, int | None]]:
    """Return the (thread, ticket) that each thread id stands for after joins and merges."""
    known: dict[int, Thread] = {}
    missing = set(ids)
    while missing:
        found = await load(connection, missing)
        known.update(found)
        missing = {
            thread.redirect_to for thread in found.values() if thread.redirect_to
        } - known.keys()
    at: dict[int, tuple[int, int | None]] = {}
    for each in set(ids) & known.keys():
        thread = known[each]
        while thread.redirect_to is not None:
            thread = known[thread.redirect_to]
        at[each] = (thread.id, thread.ticket)
    return at


async def drop_participants(connection: AsyncConnection, pairs: Iterable[tuple[int, int]]) -> None:
    """Delete (thread, contact) rows."""
    table = tables.participant
    for thread, contact in sorted(pairs):
        await connection.execute(
            sa.delete(table).where(table.c.thread_id == thread, table.c.contact_id == contact)
        )


async def split_off(connection: AsyncConnection, thread: int, ids: Collection[int]) -> None:
    """Move messages to another thread, with their own Message-IDs and their mails.

    Message-IDs that the messages only referred to stay with the old thread.
    """
    message, ref, mail = tables.message, tables.message_ref, tables.mail
    for piece in chunks(ids):
        await connection.execute(
            sa.update(message).where(message.c.id.in_(piece)).values(thread_id=thread)
        )
        await connection.execute(
            sa.update(ref).where(ref.c.message.in_(piece)).values(thread_id=thread)
        )
        await connection.execute(
            sa.update(mail).where(mail.c.message.in_(piece)).values(thread_id=thread)
        )
