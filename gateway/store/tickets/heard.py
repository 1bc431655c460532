"""Find the newest mail that one of the given contacts wrote on a thread."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.tickets.threads import people_in

MESSAGE = tables.message
# A role is that of the day the mail came; whose word counts today is asked for by ``people``.
NEWEST = (
    sa.select(
        MESSAGE.c.id,
        MESSAGE.c.sender_id,
        MESSAGE.c.head,
        MESSAGE.c.reply_text,
        MESSAGE.c.text,
        MESSAGE.c.date,
        MESSAGE.c.created_at,
        MESSAGE.c.auth,
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
# The heads of an author's newest mails on a thread, of those that are proven or of all.
HEADS = (
    sa.select(MESSAGE.c.head)
    .where(
        MESSAGE.c.thread_id == sa.bindparam("thread"),
        MESSAGE.c.direction == "inbound",
        MESSAGE.c.sender_id == sa.bindparam("author"),
        among(MESSAGE.c.auth, "verdicts"),
    )
    .order_by(MESSAGE.c.id.desc())
    .limit(100)
)


@dataclass(frozen=True, slots=True)
class HeardMail:
    """A mail from outside: its id (``message``), people (``head``), text and time.

    ``readers`` holds the address keys of the author and of everybody to whom the author wrote on
    the thread. By default the mail is quoted to nobody else (behaviour.md 5). If the mail has the
    verdict pass, only other mails with this verdict are used for ``readers``, since anybody could
    have written the rest in the author's name.
    """

    message: int
    head: dict[str, Any]
    words: str
    at: datetime
    readers: frozenset[str]


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
    verdicts = ["pass"] if row.auth == "pass" else ["pass", "none", "fail"]
    heads = await connection.execute(
        HEADS, {"thread": thread, "author": row.sender_id, "verdicts": verdicts}
    )
    readers = {
        address_key(each["address"])
        for head in heads.scalars()
        for each in people_in(head)
        if each["address"]
    }
    return HeardMail(row.id, row.head, words, at, frozenset(readers))
