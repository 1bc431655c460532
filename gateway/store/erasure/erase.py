"""A person leaves: the rows and blobs that :mod:`gateway.store.erasure.plan` found go, and what
stays does not name him.

All of it is one transaction, but the blobs: their mails are stripped in it, the blobs go
afterwards, and then the rows that named them, so that a crash between leaves rows that the next
:func:`drop_blobs` finishes. Tickets are changed by ``gateway.apply.applier`` only (R7), before
:func:`remove`. What can go wrong: somebody reads while the log of SQLite is to be emptied; then
:func:`scour` says so.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import Envelope
from gateway.store.engine import Database, file_of
from gateway.store.erasure.erase_outgoing import remove_outgoing
from gateway.store.erasure.find import ERASED, TEXTS, Likeness
from gateway.store.erasure.plan import Plan, keys
from gateway.store.erasure.rows import update_by_id, update_row
from gateway.store.queues.blobs import Blobs
from gateway.store.queues.mail_register import pack
from gateway.store.schema import tables
from gateway.store.sql import sqlite
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import write_rows
from gateway.store.sql.errors import translated
from gateway.store.tickets import search

MESSAGE, EVENT, MAIL, RAW_MAIL, CHANNEL = (
    tables.message,
    tables.event,
    tables.mail,
    tables.raw_mail,
    tables.channel,
)
PARTICIPANT, TICKET_CONTACT, MESSAGE_REF, CONTACT = (
    tables.participant,
    tables.ticket_contact,
    tables.message_ref,
    tables.contact,
)
ERASED_REASON = "Its raw form was erased together with a person whom it named."
BATCH_ROWS = 500  # rows with texts in memory at a time
MERGE_PAGES = 2000  # of the search index, rewritten in one transaction

HIDDEN_COLUMNS = {**TEXTS, CONTACT: ("name",), CHANNEL: ("allow", "deny")}
UPDATES = {table: update_by_id(table, columns) for table, columns in HIDDEN_COLUMNS.items()}
EMPTY_MAIL_ROW: dict[str, Any] = dict.fromkeys(
    (
        "kind",
        "channel_id",
        "message_id",
        "sender",
        "subject",
        "fingerprint",
        "original_id",
        "message",
        "thread_id",
        "ticket",
        "outcome",
    )
)


@dataclass(frozen=True, slots=True)
class Removed:
    """What went: rows, and rows that stay without him. ``raw`` are mails of others that stay
    without their raw form.
    """

    messages: int = 0
    mails: int = 0
    raw: int = 0
    changed_messages: int = 0
    changed_mails: int = 0
    changed_events: int = 0
    # mails that went out, Message-IDs, names of other contacts, entries of allow and deny lists
    others: int = 0

    @property
    def nothing(self) -> bool:
        """Whether he was not there at all."""
        return not any(getattr(self, name) for name in self.__slots__)


async def remove(connection: AsyncConnection, made: Plan, redundant: Collection[int]) -> Removed:
    """Does it, in the transaction of the plan. ``redundant`` are events that told what a ticket
    lost.
    """
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(
            "PRAGMA secure_delete = ON"
        )  # what is freed from here on is overwritten
    sent = await remove_outgoing(connection, made)
    await _drop_messages(connection, made.messages)
    changed = await _hide_messages(connection, made)
    await _drop_mails(connection, made)
    changed_mails = await _hide(
        connection, MAIL, (made.found["mail"] | made.named) - made.mails, made.like
    )
    await _delete(connection, EVENT.c.id, redundant)
    titles = (
        sa.update(EVENT)
        .where(among(EVENT.c.ticket, "n"), EVENT.c.type == "subject_changed")
        .values(before=None, after=None)
    )
    await connection.execute(
        titles,
        {
            "n": sorted(
                number for number, fields in made.fields.items() if ("subject", ERASED) in fields
            )
        },
    )
    events = await _hide(connection, EVENT, made.found["event"] - set(redundant), made.like)
    others = len(
        await _hide(
            connection,
            CONTACT,
            made.found["contact"] - {made.contact.id if made.contact else 0},
            made.like,
        )
    )
    others += await _lists(connection, made) + await _references(connection, made)
    if made.contact is not None:
        for column in (PARTICIPANT.c.contact_id, TICKET_CONTACT.c.contact_id, CONTACT.c.id):
            await _delete(connection, column, [made.contact.id])
    return Removed(
        messages=len(made.messages),
        mails=len(made.mails),
        raw=len(made.named),
        changed_messages=changed,
        changed_mails=len(changed_mails - made.named),
        changed_events=len(events),
        others=others + sent,
    )


async def _delete(
    connection: AsyncConnection, column: sa.Column[Any], keys: Collection[Any]
) -> None:
    if keys:
        await connection.execute(
            sa.delete(column.table).where(among(column, "keys")), {"keys": sorted(keys)}
        )


async def _drop_messages(connection: AsyncConnection, ids: Collection[int]) -> None:
    """Messages out of the index and the table; their Message-IDs stay known, so that a late reply
    finds its conversation.
    """
    query = sa.select(MESSAGE.c.id, MESSAGE.c.subject, MESSAGE.c.reply_text, MESSAGE.c.text).where(
        among(MESSAGE.c.id, "ids")
    )
    ordered = sorted(ids)
    for at in range(0, len(ordered), BATCH_ROWS):
        some = (await connection.execute(query, {"ids": ordered[at : at + BATCH_ROWS]})).all()
        await search.forget(
            connection,
            [(row.id, row.subject, search.body_of(row.reply_text, row.text)) for row in some],
        )
    await connection.execute(
        sa.update(MESSAGE_REF).where(among(MESSAGE_REF.c.message, "ids")).values(message=None),
        {"ids": ordered},
    )
    await connection.execute(
        sa.update(MAIL).where(among(MAIL.c.message, "ids")).values(message=None), {"ids": ordered}
    )
    await _delete(connection, MESSAGE.c.id, ordered)


async def _hide_messages(connection: AsyncConnection, made: Plan) -> int:
    """What others wrote stays, without his address and, in conversations he took part in, his name;
    those that named him lose their raw form.
    """
    ids = await keys(
        connection,
        sa.select(MESSAGE.c.id).where(among(MESSAGE.c.thread_id, "t")),
        t=sorted(made.threads),
    )
    columns = (
        MESSAGE.c.id,
        MESSAGE.c.mail_id,
        *(MESSAGE.c[name] for name in HIDDEN_COLUMNS[MESSAGE]),
    )
    query = sa.select(*columns).where(among(MESSAGE.c.id, "ids"))
    ordered = sorted((ids | made.found["message"]) - made.messages)
    count = 0
    for at in range(0, len(ordered), BATCH_ROWS):
        some = (await connection.execute(query, {"ids": ordered[at : at + BATCH_ROWS]})).all()
        old, new, fresh = [], [], []
        for row in some:
            was = {name: getattr(row, name) for name in HIDDEN_COLUMNS[MESSAGE]}
            now = {
                name: made.like.hidden_in(name, value, names=row.id in ids)
                for name, value in was.items()
            }
            if now == was:
                continue
            if row.mail_id is not None and any(
                made.like.hidden_in(name, value) != value for name, value in was.items()
            ):
                made.named.add(row.mail_id)
            old.append((row.id, was["subject"], search.body_of(was["reply_text"], was["text"])))
            new.append((row.id, now["subject"], search.body_of(now["reply_text"], now["text"])))
            fresh.append(update_row(row.id, now))
        await search.forget(connection, old)
        await write_rows(connection, [(UPDATES[MESSAGE], fresh)])
        await search.index(connection, new)
        count += len(fresh)
    return count


async def _drop_mails(connection: AsyncConnection, made: Plan) -> None:
    """Raw forms and rows; a row whose bytes lie in a blob keeps nothing but the blob's key until
    that is gone.
    """
    await _delete(connection, RAW_MAIL.c.mail_id, made.mails | made.named)
    large = await keys(
        connection,
        sa.select(MAIL.c.id).where(among(MAIL.c.id, "ids"), MAIL.c.blob.is_not(None)),
        ids=sorted(made.mails),
    )
    await connection.execute(
        sa.update(MAIL).where(among(MAIL.c.original_id, "ids")).values(original_id=None),
        {"ids": sorted(made.mails)},
    )
    await _delete(connection, MAIL.c.id, made.mails - large)
    row = sa.select(MAIL.c.source, MAIL.c.received_at).where(MAIL.c.id == sa.bindparam("id"))
    for mail_id in sorted(large):
        source, received_at = (await connection.execute(row, {"id": mail_id})).one()
        values = EMPTY_MAIL_ROW | {
            "envelope": pack(Envelope(None, (), source, received_at)),
            "size": 0,
            "sha256": "",
            "erased": "row",
        }
        await connection.execute(
            sa.update(MAIL)
            .where(MAIL.c.id == mail_id)
            .values(**values, state="done", reason=ERASED_REASON)
        )
    # Nothing can be processed again that has no bytes.
    state = sa.case((MAIL.c.state == "duplicate", "duplicate"), else_="done")
    reason = sa.case((MAIL.c.state.in_(("done", "duplicate")), MAIL.c.reason), else_=ERASED_REASON)
    erased = (
        sa.update(MAIL)
        .where(among(MAIL.c.id, "ids"))
        .values(sha256="", erased="raw", state=state, reason=reason)
    )
    await connection.execute(erased, {"ids": sorted(made.named)})


async def _hide(
    connection: AsyncConnection, table: sa.Table, ids: Collection[int], like: Likeness
) -> set[int]:
    """Hides him in these rows; which ones really named him."""
    query = sa.select(table.c.id, *(table.c[name] for name in HIDDEN_COLUMNS[table])).where(
        among(table.c.id, "ids")
    )
    fresh = []
    for row in await connection.execute(query, {"ids": sorted(ids)}):
        was = {name: getattr(row, name) for name in HIDDEN_COLUMNS[table]}
        now = {name: like.hidden_in(name, value) for name, value in was.items()}
        if now != was:
            fresh.append(update_row(row.id, now))
    await write_rows(connection, [(UPDATES[table], fresh)])
    return {row["_id"] for row in fresh}


async def _lists(connection: AsyncConnection, made: Plan) -> int:
    """Entries of allow and deny lists."""
    query = sa.select(CHANNEL.c.id, CHANNEL.c.allow, CHANNEL.c.deny).where(
        among(CHANNEL.c.id, "ids")
    )
    fresh = []
    for row in (await connection.execute(query, {"ids": sorted(made.found["channel"])})).all():
        allow, deny = (
            [each for each in entries if not made.like.is_in(each)]
            for entries in (row.allow, row.deny)
        )
        fresh.append(update_row(row.id, {"allow": allow, "deny": deny}))
    await write_rows(connection, [(UPDATES[CHANNEL], fresh)])
    return len(fresh)


async def _references(connection: AsyncConnection, made: Plan) -> int:
    """Message-IDs that hold his address are forgotten; others name nobody."""
    gone = {ref for ref in made.found["message_ref"] if made.like.is_in_id(ref)}
    await _delete(connection, MESSAGE_REF.c.ref, gone)
    return len(gone)


async def drop_blobs(database: Database, blobs: Blobs) -> int:
    """Deletes the blobs of erased mail that no other mail needs, then what still named them; also
    what a crash left of an earlier time.
    """
    erased = sa.select(MAIL.c.blob).where(MAIL.c.blob.is_not(None), MAIL.c.erased.is_not(None))
    async with database.read() as connection:
        spare = await keys(connection, erased)
        needed = await keys(
            connection,
            sa.select(MAIL.c.blob).where(among(MAIL.c.blob, "keys"), MAIL.c.erased.is_(None)),
            keys=sorted(spare),
        )
    if not spare:
        return 0
    for key in sorted(spare - needed):
        await blobs.delete(key)
    async with database.write() as connection:
        mine = [MAIL.c.blob.is_not(None), MAIL.c.erased.is_not(None), among(MAIL.c.blob, "keys")]
        await connection.execute(
            sa.delete(MAIL).where(*mine, MAIL.c.erased == "row"), {"keys": sorted(spare)}
        )
        await connection.execute(
            sa.update(MAIL).where(*mine).values(blob=None), {"keys": sorted(spare)}
        )
    return len(spare - needed)


async def scour(database: Database) -> bool:
    """Takes what was deleted out of the files of SQLite as well: search index, free pages, log.
    False when a reader kept the log from being emptied.

    PostgreSQL does so by VACUUM in its own time. The index is rewritten piece by piece, others
    write between.
    """
    path = file_of(database.url)
    if path is None:
        return True
    with translated():
        return await asyncio.to_thread(_scour, path)


def _scour(path: Path) -> bool:
    with closing(sqlite.open_file(path, "write")) as connection:
        always = _overwrites(connection)
        connection.execute("PRAGMA secure_delete = ON")
        pages = (
            -MERGE_PAGES
        )  # the first call begins to make one piece of the index, the others go on
        while _merge(connection, pages):
            pages = MERGE_PAGES
        # rows that were moved while it was off left copies behind, in pages that are still in use
        if not always:
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute("VACUUM")
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy


def _overwrites(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite was built to overwrite whatever it deletes or moves (Debian's is)."""
    return bool(connection.execute("PRAGMA secure_delete").fetchone()[0])


def _merge(connection: sqlite3.Connection, pages: int) -> bool:
    """One piece of work; False when there was none left (SQLite, FTS5 section 6.7: fewer than two
    changes).
    """
    before = connection.total_changes
    connection.execute(
        "INSERT INTO message_search (message_search, rank) VALUES ('merge', ?)", (pages,)
    )
    return connection.total_changes - before >= 2
