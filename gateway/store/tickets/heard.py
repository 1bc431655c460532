"""Find the newest mail from outside on a thread, of certain people."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables
from gateway.store.sql.any_of import among

MESSAGE = tables.message
# A role is that of the day the mail came; whose word counts today is asked for by ``people``.
NEWEST = (
    sa.select(
        MESSAGE.c.id,
        MESSAGE.c.head,
        MESSAGE.c.reply_text,
        MESSAGE.c.text,
        MESSAGE.c.date,
        MESSAGE.c.created_at,
    )
    .where(
        MESSAGE.c.thread_id == sa.bindparam("thread"),
        MESSAGE.c.direction == "inbound",
        MESSAGE.c.sender_role.in_(("contact", "stranger")),
        among(MESSAGE.c.sender_id, "people"),
    )
    .order_by(MESSAGE.c.id.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class HeardMail:
    """A mail from outside: the id of its message, its people, what its author wrote, its time."""

    message: int
    head: dict[str, Any]
    words: str
    at: datetime


async def newest(
    connection: AsyncConnection, thread: int, people: Collection[int]
) -> HeardMail | None:
    """Return the newest mail on a thread that one of these contacts wrote."""
    if not people:
        return None
    found = await connection.execute(NEWEST, {"thread": thread, "people": sorted(people)})
    row = found.one_or_none()
    if row is None:
        return None
    words, at = row.reply_text or row.text, row.date or row.created_at
    return HeardMail(row.id, row.head, words, at)
