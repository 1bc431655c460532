"""Scheduled mail: load the drafts that are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables

OUTGOING, DELIVERY, FILE = tables.outgoing, tables.delivery, tables.outgoing_file


@dataclass(frozen=True, slots=True)
class Draft:
    """A scheduled mail; ``files`` are (name, content type, content)."""

    document: dict[str, Any]
    files: tuple[tuple[str, str, bytes], ...]


@dataclass(frozen=True, slots=True)
class DueDraft:
    """A draft whose time has come.

    ``files_of`` is the id of the mail whose attachments are sent along, or None.
    """

    number: int
    author: str
    ticket: int | None
    files_of: int | None


async def due(connection: AsyncConnection, now: datetime, most: int) -> list[DueDraft]:
    """Return the drafts of at most ``most`` due deliveries, in the order of their due times."""
    query = (
        sa.select(OUTGOING.c.id, OUTGOING.c.draft, OUTGOING.c.ticket)
        .join(DELIVERY, DELIVERY.c.outgoing_id == OUTGOING.c.id)
        .where(
            DELIVERY.c.state == "scheduled", DELIVERY.c.due_at <= now, OUTGOING.c.draft.is_not(None)
        )
        .order_by(DELIVERY.c.due_at, DELIVERY.c.outgoing_id)
        .limit(most)
    )
    found = {row.id: row for row in await connection.execute(query)}
    return [
        DueDraft(row.id, str(row.draft["user"]), row.ticket, row.draft.get("files_of"))
        for row in found.values()
    ]


async def next_due(connection: AsyncConnection) -> datetime | None:
    """Return when the next scheduled mail is due, or None where no mail is scheduled."""
    found: datetime | None = (
        await connection.execute(
            sa.select(sa.func.min(DELIVERY.c.due_at)).where(DELIVERY.c.state == "scheduled")
        )
    ).scalar()
    return found


async def waiting(connection: AsyncConnection, number: int, now: datetime) -> Draft | None:
    """Return a draft if it is still due; None where it was deleted, cancelled or sent meanwhile."""
    open_ = sa.exists().where(
        DELIVERY.c.outgoing_id == OUTGOING.c.id,
        DELIVERY.c.state == "scheduled",
        DELIVERY.c.due_at <= now,
    )
    found: Any = (
        await connection.execute(sa.select(OUTGOING.c.draft).where(OUTGOING.c.id == number, open_))
    ).scalar()
    if found is None:
        return None
    query = (
        sa.select(FILE.c.filename, FILE.c.content_type, FILE.c.data)
        .where(FILE.c.outgoing_id == number)
        .order_by(FILE.c.position)
    )
    kept = sa.select(DELIVERY.c.recipient).where(
        DELIVERY.c.outgoing_id == number, DELIVERY.c.state == "scheduled"
    )
    left = set((await connection.execute(kept)).scalars())
    files = tuple(
        (row.filename, row.content_type, row.data) for row in await connection.execute(query)
    )
    return Draft({**found, "left": sorted(left)}, files)


async def mail_of(connection: AsyncConnection, message: int) -> int | None:
    """Return the mail id of a message, or None if it did not come in as a mail."""
    table = tables.message
    found: int | None = (
        await connection.execute(sa.select(table.c.mail_id).where(table.c.id == message))
    ).scalar()
    return found
