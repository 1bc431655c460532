"""How much work waits in the queues beside the spool, in one query each; every one of them is
answered by an index of the waiting rows.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from gateway.store.engine import Database
from gateway.store.schema import tables

DELIVERY, ENROLMENT, NOTICE = tables.delivery, tables.enrolment, tables.notice


async def counts(database: Database, now: datetime) -> dict[str, tuple[str, float]]:
    """What each figure tells, and its value, by name."""
    waiting = sa.select(sa.func.count(), sa.func.min(DELIVERY.c.created_at)).where(
        DELIVERY.c.state.in_(("queued", "deferred"))
    )
    due = sa.select(sa.func.count()).where(ENROLMENT.c.state == "ACTIVE", ENROLMENT.c.due_at <= now)
    untold = sa.select(sa.func.count()).where(
        NOTICE.c.outgoing_id.is_(None), NOTICE.c.due_at <= now
    )
    async with database.read() as connection:
        number, oldest = (await connection.execute(waiting)).one()
        runs = (await connection.execute(due)).scalar_one()
        notices = (await connection.execute(untold)).scalar_one()
    age = (now - oldest).total_seconds() if oldest is not None else 0.0
    return {
        "outbox_waiting_deliveries": ("Recipients of mail that waits to go out", float(number)),
        "outbox_oldest_seconds": ("For how long the oldest of them waits", max(0.0, age)),
        "workflow_due_runs": ("Tickets whose turn in a workflow has come", float(runs)),
        "notices_due": ("What users are to be told by now", float(notices)),
    }
