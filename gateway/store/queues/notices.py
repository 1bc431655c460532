"""Notifications waiting for users, and failed deliveries not yet reported on their tickets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables

NOTICE, DELIVERY = tables.notice, tables.delivery
COLUMNS = ("id", "user_id", "kind", "ticket", "detail", "thread_id")
SELECT_DUE = (
    sa.select(*(NOTICE.c[name] for name in COLUMNS))
    .where(
        NOTICE.c.outgoing_id.is_(None),
        NOTICE.c.due_at <= sa.bindparam("now", type_=NOTICE.c.due_at.type),
    )
    .order_by(NOTICE.c.due_at, NOTICE.c.id)
    .limit(sa.bindparam("most"))
)
NEXT_DUE = sa.select(sa.func.min(NOTICE.c.due_at)).where(NOTICE.c.outgoing_id.is_(None))
# SQLite only uses the index of these when the query repeats its condition.
UNREPORTED_FAILURES = (
    sa.select(DELIVERY.c.id, DELIVERY.c.last_reply)
    .where(sa.text("NOT delivery.settled"))
    .order_by(DELIVERY.c.id)
    .limit(sa.bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification that waits for a user."""

    id: int
    user_id: int
    kind: str
    ticket: int
    detail: str | None
    thread_id: int | None  # of the mail that it is about


async def due(connection: AsyncConnection, now: datetime, most: int) -> list[Notice]:
    """Return up to ``most`` unsent notifications that are due, earliest first."""
    return [
        Notice(*row) for row in await connection.execute(SELECT_DUE, {"now": now, "most": most})
    ]


async def next_due(connection: AsyncConnection) -> datetime | None:
    """Return when the next notification is due, or None where none waits."""
    found: datetime | None = (await connection.execute(NEXT_DUE)).scalar()
    return found


async def unsettled(connection: AsyncConnection, most: int) -> dict[int, str]:
    """Return failed deliveries that no ticket reports yet, as delivery id to the server's reply."""
    return {
        row.id: row.last_reply or ""
        for row in await connection.execute(UNREPORTED_FAILURES, {"most": most})
    }
