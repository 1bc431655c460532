"""What users are to be told, and failed mail that its ticket was not told of, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables

NOTICE, DELIVERY = tables.notice, tables.delivery
COLUMNS = ("id", "user_id", "kind", "ticket", "detail")
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
# SQLite takes the index of these only for a condition that is worded like the index's own.
UNREPORTED_FAILURES = (
    sa.select(DELIVERY.c.id, DELIVERY.c.last_reply)
    .where(sa.text("NOT delivery.settled"))
    .order_by(DELIVERY.c.id)
    .limit(sa.bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user is to be told."""

    id: int
    user_id: int
    kind: str
    ticket: int
    detail: str | None


async def due(connection: AsyncConnection, now: datetime, most: int) -> list[Notice]:
    """What is to be told by now and was not yet, the earliest first."""
    return [
        Notice(*row) for row in await connection.execute(SELECT_DUE, {"now": now, "most": most})
    ]


async def next_due(connection: AsyncConnection) -> datetime | None:
    """When the next is due."""
    found: datetime | None = (await connection.execute(NEXT_DUE)).scalar()
    return found


async def unsettled(connection: AsyncConnection, most: int) -> dict[int, str]:
    """Why each delivery failed of which its ticket does not know."""
    return {
        row.id: row.last_reply or ""
        for row in await connection.execute(UNREPORTED_FAILURES, {"most": most})
    }
