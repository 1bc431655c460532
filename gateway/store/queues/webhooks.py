"""Webhook calls: a process claims a call, makes it, and records the result.

A claim is a lease, so that no transaction is open while a server is called. When the process dies
or takes too long, the call is claimed again after the lease and made a second time. The receiver
recognises the repeated call by its key, which stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from gateway.store.engine import Database
from gateway.store.schema import tables
from gateway.store.sql.any_of import among

State = Literal["queued", "sent", "deferred", "failed"]
CALL = tables.webhook_call
# The index of waiting calls is only used when the query repeats its condition, with literals.
IS_WAITING = sa.text("webhook_call.state IN ('queued', 'deferred')")
_NOW = sa.bindparam("now", type_=CALL.c.due_at.type)
# The first due calls that nobody holds, locked.
CLAIMABLE = (
    sa.select(
        CALL.c.id,
        CALL.c.ticket,
        CALL.c.url,
        CALL.c.body,
        CALL.c.key,
        CALL.c.attempts,
        CALL.c.created_at,
    )
    .where(
        IS_WAITING,
        CALL.c.due_at <= _NOW,
        sa.or_(CALL.c.lease_until.is_(None), CALL.c.lease_until < _NOW),
    )
    .order_by(CALL.c.due_at, CALL.c.id)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
TAKE_LEASE = (
    sa.update(CALL)
    .where(among(CALL.c.id, "ids"))
    .values(
        lease_owner=sa.bindparam("owner"),
        lease_until=sa.bindparam("until", type_=CALL.c.lease_until.type),
        attempts=CALL.c.attempts + 1,
    )
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call claimed by one process.

    ``attempts`` includes the attempt about to be made; ``body`` is JSON.
    """

    id: int
    ticket: int | None
    url: str
    body: str
    key: str | None
    attempts: int
    created_at: datetime


class Calls:
    """The webhook calls in ``database``."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    async def claim(self, most: int, seconds: float, now: datetime) -> list[Call]:
        """Claim up to ``most`` due calls, earliest first, for ``seconds`` from ``now``."""
        async with self.database.write(durable=False) as connection:
            rows = (await connection.execute(CLAIMABLE, {"now": now, "most": most})).all()
            if rows:
                lease = {"owner": self.database.node, "until": now + timedelta(seconds=seconds)}
                await connection.execute(TAKE_LEASE, {"ids": [row.id for row in rows], **lease})
        return [
            Call(
                id=row.id,
                ticket=row.ticket,
                url=row.url,
                body=row.body,
                key=row.key,
                attempts=row.attempts + 1,
                created_at=row.created_at,
            )
            for row in rows
        ]

    async def next_due(self) -> datetime | None:
        """Return when the next call is due, or None where no call waits."""
        async with self.database.read() as connection:
            found: datetime | None = (
                await connection.execute(sa.select(sa.func.min(CALL.c.due_at)).where(IS_WAITING))
            ).scalar()
        return found

    async def settle(self, call: int, state: State, reply: str, due_at: datetime | None) -> None:
        """Record the result of a call; do nothing if another process claimed it meanwhile.

        ``due_at`` is the time of the next attempt, None where no attempt follows.
        """
        mine = sa.update(CALL).where(
            CALL.c.id == call, CALL.c.lease_owner == self.database.node, IS_WAITING
        )
        async with self.database.write() as connection:
            await connection.execute(
                mine.values(
                    state=state, last_reply=reply, due_at=due_at, lease_owner=None, lease_until=None
                )
            )

    async def put_off(self, reason: str) -> None:
        """Mark new calls as deferred, with the reason why no call can be made now.

        The calls stay due.
        """
        fresh = sa.text(
            "webhook_call.state IN ('queued', 'deferred') AND webhook_call.state = 'queued'"
        )
        async with self.database.read() as connection:
            if (
                await connection.execute(sa.select(CALL.c.id).where(fresh).limit(1))
            ).first() is None:
                return
        async with self.database.write() as connection:
            await connection.execute(
                sa.update(CALL).where(fresh).values(state="deferred", last_reply=reason)
            )
