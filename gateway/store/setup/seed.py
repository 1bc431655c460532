"""The first data of a new installation: a pipeline, a channel, counters and a signing key.

Each is only inserted where its table is empty, so that an upgrade never brings back what was
deleted.
"""

from __future__ import annotations

import os
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.clock import Clock
from gateway.store.schema import tables
from gateway.store.setup import default_workflows, pipelines

COUNTERS = (
    "ticket",
    "thread",
    "message",
    "event",
    "contact",
    "outgoing",
    "delivery",
    "enrolment",
    "action_run",
    "notice",
    "webhook_call",
    "task",
)
STATUSES = (
    ("New", "open"),
    ("Waiting on contact", "open"),
    ("Waiting on us", "open"),
    ("Closed", "closed"),
)


async def sow(connection: AsyncConnection) -> None:
    """Insert the first data where they are missing, in the caller's transaction."""
    now = Clock.from_environ(os.environ).now()
    known = set((await connection.execute(sa.select(tables.counter.c.name))).scalars())
    missing = [{"name": name, "value": 0} for name in COUNTERS if name not in known]
    if missing:
        await connection.execute(sa.insert(tables.counter), missing)
    if await _empty(connection, tables.signing_key):
        await connection.execute(
            sa.insert(tables.signing_key).values(secret=os.urandom(32), created_at=now)
        )
    if await _empty(connection, tables.pipeline):
        await _support(connection, now)
    if await _empty(connection, tables.workflow):
        for pipeline in (await pipelines.load_pipelines(connection)).values():
            await default_workflows.workflows_for(connection, pipeline, now)


async def _empty(connection: AsyncConnection, table: sa.Table) -> bool:
    """Return whether a table has no rows."""
    count = await connection.execute(sa.select(sa.func.count()).select_from(table))
    return count.scalar_one() == 0


async def _support(connection: AsyncConnection, now: datetime) -> None:
    """Insert the pipeline *Support* and a channel; triggers A and B are on (interfaces.md 6)."""
    made = sa.insert(tables.pipeline).values(name="Support", position=1, is_default=True)
    pipeline: int = (await connection.execute(made.returning(tables.pipeline.c.id))).scalar_one()
    rows = [
        {"pipeline_id": pipeline, "name": name, "state": state, "position": place}
        for place, (name, state) in enumerate(STATUSES, 1)
    ]
    await connection.execute(sa.insert(tables.status), rows)
    status = tables.status.c
    own = sa.select(status.name, status.id).where(status.pipeline_id == pipeline)
    ids = dict((await connection.execute(own)).all())
    triggers = sa.update(tables.pipeline).where(tables.pipeline.c.id == pipeline)
    await connection.execute(
        triggers.values(
            on_email_sent=ids["Waiting on contact"], on_customer_reply=ids["Waiting on us"]
        )
    )
    if await _empty(connection, tables.channel):
        channel = {
            "address": "support@localhost",
            "name": "Support",
            "pipeline_id": pipeline,
            "is_default": True,
            "allow": [],
            "deny": [],
            "created_at": now,
        }
        await connection.execute(sa.insert(tables.channel).values(channel))
