"""Erase a person: delete the rows and blobs found by :mod:`gateway.store.erasure.plan`.

No row that is kept names the person afterwards. :func:`remove` works in one transaction. If a mail
has a blob, :func:`remove` only empties its row, except for the blob's key. :func:`drop_blobs` then
deletes the blobs and the emptied rows; if it crashes, its next call finishes the work. Tickets are
changed only by ``gateway.apply.applier`` (R7), before :func:`remove`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Mapping
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
ERASED_REASON = "The raw mail was erased together with a person it named."
BATCH_ROWS = 500  # rows with texts in memory at once
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
    """How many rows were deleted, or changed so that they no longer name the person.

    ``raw`` counts other people's mails that lost only their raw mail. ``others`` counts outgoing
    mails, Message-IDs, other contacts, and channels with a changed allow or deny list.
    """

    messages: int = 0
    mails: int = 0
    raw: int = 0
    changed_messages: int = 0
    changed_mails: int = 0
    changed_events: int = 0
    others: int = 0

    @property
    def nothing(self) -> bool:
        """Return whether nothing was deleted or changed."""
        return not any(getattr(self, name) for name in self.__slots__)


async def remove(connection: AsyncConnection, plan: Plan, redundant: Collection[int]) -> Removed:
    """Carry out a plan, in the transaction in which it was made.

    ``redundant`` holds the ids of history events that describe erased parts of tickets; they are
    deleted too.
    """
    if connection.dialect.name == "sqlite":
        # what is freed from here on is overwritten
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")
    sent = await remove_outgoing(connection, plan)
    await _drop_messages(connection, plan.messages)
    changed = await _hide_messages(connection, plan)
    await _drop_mails(connection, plan)
    changed_mails = await _hide(
        connection, MAIL, (plan.found["mail"] | plan.named) - plan.mails, plan.like
    )
    await _delete(connection, EVENT.c.id, redundant)
    await _drop_old_subjects(connection, plan)
    events = await _hide(connection, EVENT, plan.found["event"] - set(redundant), plan.like)
    contacts = plan.found["contact"] - {plan.contact.id if plan.contact else 0}
    others = len(await _hide(connection, CONTACT, contacts, plan.like))
    others += await _lists(connection, plan) + await _references(connection, plan)
    if plan.contact is not None:
        for column in (PARTICIPANT.c.contact_id, TICKET_CONTACT.c.contact_id, CONTACT.c.id):
            await _delete(connection, column, [plan.contact.id])
    return Removed(
        messages=len(plan.messages),
        mails=len(plan.mails),
        raw=len(plan.named),
        changed_messages=changed,
        changed_mails=len(changed_mails - plan.named),
        changed_events=len(events),
        others=others + sent,
    )


async def _drop_old_subjects(connection: AsyncConnection, plan: Plan) -> None:
    """Delete the earlier subjects of each ticket whose subject is erased."""
    changes = sa.update(EVENT).where(among(EVENT.c.ticket, "n"), EVENT.c.type == "subject_changed")
    numbers = [number for number, fields in plan.fields.items() if ("subject", ERASED) in fields]
    await connection.execute(changes.values(before=None, after=None), {"n": sorted(numbers)})


async def _delete(
    connection: AsyncConnection, column: sa.Column[Any], keys: Collection[Any]
) -> None:
    if keys:
        await connection.execute(
            sa.delete(column.table).where(among(column, "keys")), {"keys": sorted(keys)}
        )


async def _drop_messages(connection: AsyncConnection, ids: Collection[int]) -> None:
    """Delete messages from the search index and the table.

    Their Message-IDs stay known, so that a late reply finds its thread.
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


async def _hide_messages(connection: AsyncConnection, plan: Plan) -> int:
    """Remove the person from messages of other people; return how many messages changed.

    The address is replaced everywhere, but the name only in threads the person took part in. A
    message with the address adds its mail to ``plan.named``, so that its raw mail is deleted.
    """
    ids = await keys(
        connection,
        sa.select(MESSAGE.c.id).where(among(MESSAGE.c.thread_id, "t")),
        t=sorted(plan.threads),
    )
    hidden = [MESSAGE.c[name] for name in HIDDEN_COLUMNS[MESSAGE]]
    query = sa.select(MESSAGE.c.id, MESSAGE.c.mail_id, *hidden).where(among(MESSAGE.c.id, "ids"))
    ordered = sorted((ids | plan.found["message"]) - plan.messages)
    count = 0
    for at in range(0, len(ordered), BATCH_ROWS):
        some = (await connection.execute(query, {"ids": ordered[at : at + BATCH_ROWS]})).all()
        old, new, fresh = [], [], []
        for row in some:
            was = {name: getattr(row, name) for name in HIDDEN_COLUMNS[MESSAGE]}
            now = {
                name: plan.like.hidden_in(name, value, names=row.id in ids)
                for name, value in was.items()
            }
            if now == was:
                continue
            if row.mail_id is not None and any(
                plan.like.hidden_in(name, value) != value for name, value in was.items()
            ):
                plan.named.add(row.mail_id)
            old.append(_indexed(row.id, was))
            new.append(_indexed(row.id, now))
            fresh.append(update_row(row.id, now))
        await search.forget(connection, old)
        await write_rows(connection, [(UPDATES[MESSAGE], fresh)])
        await search.index(connection, new)
        count += len(fresh)
    return count


def _indexed(message_id: int, columns: Mapping[str, Any]) -> tuple[int, str, str]:
    """Return a message as it was indexed for search: id, subject and body."""
    body = search.body_of(columns["reply_text"], columns["text"])
    return message_id, columns["subject"], body


async def _drop_mails(connection: AsyncConnection, plan: Plan) -> None:
    """Delete mails with their bytes. Where a mail has a blob, a row with the blob's key stays."""
    await _delete(connection, RAW_MAIL.c.mail_id, plan.mails | plan.named)
    large = await keys(
        connection,
        sa.select(MAIL.c.id).where(among(MAIL.c.id, "ids"), MAIL.c.blob.is_not(None)),
        ids=sorted(plan.mails),
    )
    await connection.execute(
        sa.update(MAIL).where(among(MAIL.c.original_id, "ids")).values(original_id=None),
        {"ids": sorted(plan.mails)},
    )
    await _delete(connection, MAIL.c.id, plan.mails - large)
    for mail_id in sorted(large):
        await _empty_mail_row(connection, mail_id)
    # a mail without bytes cannot be processed again
    state = sa.case((MAIL.c.state == "duplicate", "duplicate"), else_="done")
    reason = sa.case((MAIL.c.state.in_(("done", "duplicate")), MAIL.c.reason), else_=ERASED_REASON)
    erased = (
        sa.update(MAIL)
        .where(among(MAIL.c.id, "ids"))
        .values(
            sha256="", erased=sa.func.coalesce(MAIL.c.erased, "raw"), state=state, reason=reason
        )
    )
    await connection.execute(erased, {"ids": sorted(plan.named)})


async def _empty_mail_row(connection: AsyncConnection, mail_id: int) -> None:
    """Empty the row of a mail, except for the key of its blob."""
    row = sa.select(MAIL.c.source, MAIL.c.received_at).where(MAIL.c.id == mail_id)
    source, received_at = (await connection.execute(row)).one()
    values = EMPTY_MAIL_ROW | {
        "envelope": pack(Envelope(None, (), source, received_at)),
        "size": 0,
        "sha256": "",
        "erased": "row",
        "state": "done",
        "reason": ERASED_REASON,
    }
    await connection.execute(sa.update(MAIL).where(MAIL.c.id == mail_id).values(**values))


async def _hide(
    connection: AsyncConnection, table: sa.Table, ids: Collection[int], like: Likeness
) -> set[int]:
    """Remove the person from these rows; return the ids of the changed rows."""
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


async def _lists(connection: AsyncConnection, plan: Plan) -> int:
    """Remove the person from allow and deny lists of channels; return how many channels changed."""
    query = sa.select(CHANNEL.c.id, CHANNEL.c.allow, CHANNEL.c.deny).where(
        among(CHANNEL.c.id, "ids")
    )
    fresh = []
    for row in (await connection.execute(query, {"ids": sorted(plan.found["channel"])})).all():
        allow, deny = (
            [each for each in entries if not plan.like.is_in(each)]
            for entries in (row.allow, row.deny)
        )
        fresh.append(update_row(row.id, {"allow": allow, "deny": deny}))
    await write_rows(connection, [(UPDATES[CHANNEL], fresh)])
    return len(fresh)


async def _references(connection: AsyncConnection, plan: Plan) -> int:
    """Delete Message-IDs that contain the address; return how many."""
    gone = {ref for ref in plan.found["message_ref"] if plan.like.is_in_id(ref)}
    await _delete(connection, MESSAGE_REF.c.ref, gone)
    return len(gone)


async def drop_blobs(database: Database, blobs: Blobs) -> int:
    """Delete each blob that belongs only to erased mails; return how many were deleted.

    Then the emptied rows of erased mails are deleted. Where only the raw mail was erased, the row
    stays and loses the blob's key. Work that a crash interrupted is finished too.
    """
    erased = sa.select(MAIL.c.blob).where(MAIL.c.blob.is_not(None), MAIL.c.erased.is_not(None))
    async with database.read() as connection:
        spare = await keys(connection, erased)
    # Before the next look: a mail that is committed after it gets a newer version of its blob.
    versions = {key: await blobs.version(key) for key in spare}
    async with database.read() as connection:
        needed = await keys(
            connection,
            sa.select(MAIL.c.blob).where(among(MAIL.c.blob, "keys"), MAIL.c.erased.is_(None)),
            keys=sorted(spare),
        )
    if not spare:
        return 0
    for key in sorted(spare - needed):
        if (version := versions[key]) is not None:
            await blobs.delete(key, version)
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
    """Clear deleted data from SQLite's files: from the search index, free pages and the log.

    Returns False where a reader kept the log from being emptied. The index is rewritten piece by
    piece, so that others can write in between. On PostgreSQL, VACUUM does all this in its own time.
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
        pages = -MERGE_PAGES  # negative starts merging the index into one piece
        while _merge(connection, pages):
            pages = MERGE_PAGES
        # rows moved while secure_delete was off left copies in pages that are still in use
        if not always:
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute("VACUUM")
        busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy


def _overwrites(connection: sqlite3.Connection) -> bool:
    """Return whether this build of SQLite overwrites the data that it deletes (Debian's does)."""
    return bool(connection.execute("PRAGMA secure_delete").fetchone()[0])


def _merge(connection: sqlite3.Connection, pages: int) -> bool:
    """Rewrite one piece of SQLite's search index; return False if none was left (FTS5, 6.7)."""
    before = connection.total_changes
    connection.execute(
        "INSERT INTO message_search (message_search, rank) VALUES ('merge', ?)", (pages,)
    )
    return connection.total_changes - before >= 2
