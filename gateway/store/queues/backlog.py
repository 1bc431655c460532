"""Count the work that waits: in the outbox, in workflows, and as notifications.

Each count is one query on an index that contains only the waiting rows.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from gateway.store.engine import Database
from gateway.store.schema import tables

DELIVERY, ENROLMENT, NOTICE = tables.delivery, tables.enrolment, tables.notice


async def counts(database: Database, now: datetime) -> dict[str, tuple[str, float]]:
    """Return (description, present value) for each figure, keyed by the name of its metric."""
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
        "outbox_waiting_deliveries": ("Recipients of mail that waits to be sent", float(number)),
        "outbox_oldest_seconds": ("Age in seconds of the oldest such mail", max(0.0, age)),
        "workflow_due_runs": ("Workflow runs that are due", float(runs)),
        "notices_due": ("Notices to users that are due", float(notices)),
    }
