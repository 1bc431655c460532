"""Read, add and change pipelines and their statuses.

Functions that write must be called in an ordered transaction, and check nothing: the caller checks
the rules in ``core.rules.structure`` first. No function here moves tickets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.ticket import Channel
from core.pipeline import Pipeline, Status, StatusState
from core.rules.structure import TRIGGERS, References
from gateway.errors import NotFound
from gateway.store.schema import tables
from gateway.store.setup import references as named_in

PIPELINE, STATUS, CHANNEL, TICKET = tables.pipeline, tables.status, tables.channel, tables.ticket
SWITCHES = (
    "set_close_date",
    "on_email_sent",
    "on_customer_reply",
    "strangers",
    "allow_back",
    "is_default",
    "relay",
)
CHANNEL_COLUMNS = (
    "id",
    "address",
    "name",
    "pipeline_id",
    "status_id",
    "tickets",
    "is_default",
    "allow",
    "deny",
    "outbound_status_id",
)
PIPELINES = sa.select(
    PIPELINE.c.id, PIPELINE.c.name, *(PIPELINE.c[name] for name in SWITCHES)
).order_by(PIPELINE.c.position, PIPELINE.c.id)
STATUSES = sa.select(
    STATUS.c.pipeline_id, STATUS.c.id, STATUS.c.name, STATUS.c.state, STATUS.c.position
).order_by(STATUS.c.position)
CHANNELS = sa.select(*(CHANNEL.c[name] for name in CHANNEL_COLUMNS)).order_by(CHANNEL.c.address)


async def load_pipelines(connection: AsyncConnection) -> dict[int, Pipeline]:
    """Return all pipelines, keyed by id, in their order."""
    steps: dict[int, list[Status]] = {}
    for pipeline_id, *status in await connection.execute(STATUSES):
        steps.setdefault(pipeline_id, []).append(Status(*status))
    rows = (await connection.execute(PIPELINES)).mappings()
    return {row["id"]: Pipeline(statuses=tuple(steps.get(row["id"], ())), **row) for row in rows}


async def load_channels(connection: AsyncConnection) -> list[Channel]:
    """Return all channels, sorted by address."""
    rows = (await connection.execute(CHANNELS)).mappings()
    return [
        Channel(**{**row, "allow": frozenset(row["allow"]), "deny": frozenset(row["deny"])})
        for row in rows
    ]


async def named(connection: AsyncConnection, name: str) -> Pipeline:
    """Return the pipeline of this name, ignoring case; NotFound where there is none."""
    folded = name.casefold()
    for pipeline in (await load_pipelines(connection)).values():
        if pipeline.name.casefold() == folded:
            return pipeline
    raise NotFound(f"unknown pipeline {name!r}")


async def add(
    connection: AsyncConnection, name: str, statuses: Sequence[tuple[str, StatusState]]
) -> Pipeline:
    """Add a pipeline with these statuses and both triggers off.

    The first pipeline of an installation becomes the default one.
    """
    last = (await connection.execute(sa.select(sa.func.max(PIPELINE.c.position)))).scalar()
    row = (
        sa.insert(PIPELINE)
        .values(name=name, position=1 + (last or 0), is_default=last is None)
        .returning(PIPELINE.c.id)
    )
    pipeline_id: int = (await connection.execute(row)).scalar_one()
    rows = [
        {"pipeline_id": pipeline_id, "name": step, "state": state, "position": at}
        for at, (step, state) in enumerate(statuses, 1)
    ]
    await connection.execute(sa.insert(STATUS), rows)
    return (await load_pipelines(connection))[pipeline_id]


async def change(connection: AsyncConnection, pipeline: Pipeline, **settings: Any) -> Pipeline:
    """Change a pipeline's ``name`` or any of :data:`SWITCHES`; ValueError for any other setting.

    The value of a trigger is a status id, or None for off. If this pipeline becomes the default,
    the former default stops being it.
    """
    if unknown := settings.keys() - {*SWITCHES, "name"}:
        raise ValueError(f"unknown settings of a pipeline: {sorted(unknown)}")
    if settings.get("is_default"):
        await connection.execute(sa.update(PIPELINE).values(is_default=False))
    if settings:
        own = PIPELINE.c.id == pipeline.id
        await connection.execute(sa.update(PIPELINE).where(own).values(settings))
    return (await load_pipelines(connection))[pipeline.id]


async def pipeline_references(connection: AsyncConnection, pipeline: Pipeline) -> References:
    """Return the number of tickets, the channels, and what else names a pipeline (P06).

    Its own workflows are deleted with it and do not count.
    """
    known = await load_pipelines(connection)
    channels = await load_channels(connection)
    statuses = [named_in.status_meant(known, pipeline, each.name) for each in pipeline.statuses]
    found = await named_in.using(
        connection,
        known,
        lambda use, own: (
            use.names("pipeline", pipeline.name) or any(meant(use, own) for meant in statuses)
        ),
        without={each.id for each in pipeline.statuses},
    )
    return References(
        tickets=await _count(connection, TICKET.c.pipeline_id == pipeline.id),
        channels=tuple(each.address for each in channels if each.pipeline_id == pipeline.id),
        actions=found.actions,
        others=found.conditions,
    )


async def delete(connection: AsyncConnection, pipeline: Pipeline) -> None:
    """Delete a pipeline with its statuses."""
    await connection.execute(sa.delete(STATUS).where(STATUS.c.pipeline_id == pipeline.id))
    await connection.execute(sa.delete(PIPELINE).where(PIPELINE.c.id == pipeline.id))


# ---- statuses


async def add_status(
    connection: AsyncConnection, pipeline: Pipeline, name: str, state: StatusState
) -> Status:
    """Add a status after the last status of a pipeline."""
    place = len(pipeline.statuses) + 1
    row = {"pipeline_id": pipeline.id, "name": name, "state": state, "position": place}
    insert = sa.insert(STATUS).values(row).returning(STATUS.c.id)
    return Status((await connection.execute(insert)).scalar_one(), name, state, place)


async def rename_status(connection: AsyncConnection, status: Status, name: str) -> None:
    """Rename a status; its tickets, triggers and channels refer to it as before."""
    await connection.execute(sa.update(STATUS).where(STATUS.c.id == status.id).values(name=name))


async def move_status(
    connection: AsyncConnection, pipeline: Pipeline, status: Status, position: int
) -> None:
    """Put a status at a position counted from 1 (P01)."""
    order = [each for each in pipeline.statuses if each.id != status.id]
    order.insert(position - 1, status)
    await _renumber(connection, order)


async def set_status_state(connection: AsyncConnection, status: Status, state: StatusState) -> None:
    """Make a status open or closed; the dates of its tickets do not change (C10)."""
    await connection.execute(sa.update(STATUS).where(STATUS.c.id == status.id).values(state=state))


async def live_tickets(connection: AsyncConnection, status: Status) -> int:
    """Count the tickets in a status, without deleted and merged tickets."""
    live = (TICKET.c.deleted_at.is_(None), TICKET.c.merged_into.is_(None))
    return await _count(connection, sa.and_(TICKET.c.status_id == status.id, *live))


async def references(connection: AsyncConnection, pipeline: Pipeline, status: Status) -> References:
    """Return what uses a status: how many tickets, and everything else by name (P04).

    The workflow of the status is deleted with it and does not count.
    """
    channels = await load_channels(connection)
    known = await load_pipelines(connection)
    meant = named_in.status_meant(known, pipeline, status.name)
    found = await named_in.using(connection, known, meant, without={status.id})
    replies = await named_in.replies_setting(connection, pipeline, status.name)
    return References(
        tickets=await _count(connection, TICKET.c.status_id == status.id),
        triggers=tuple(name for name in TRIGGERS if getattr(pipeline, name) == status.id),
        channels=tuple(
            each.address
            for each in channels
            if status.id in (each.status_id, each.outbound_status_id)
        ),
        actions=found.actions,
        others=(*found.conditions, *replies),
    )


async def repoint(
    connection: AsyncConnection, pipeline: Pipeline, status: Status, to: Status
) -> None:
    """Make triggers and channels that use ``status`` use the status ``to`` instead (P04)."""
    for column in (PIPELINE.c.on_email_sent, PIPELINE.c.on_customer_reply):
        await connection.execute(
            sa.update(PIPELINE)
            .where(PIPELINE.c.id == pipeline.id, column == status.id)
            .values({column.name: to.id})
        )
    for column in (CHANNEL.c.status_id, CHANNEL.c.outbound_status_id):
        await connection.execute(
            sa.update(CHANNEL).where(column == status.id).values({column.name: to.id})
        )


async def delete_status(connection: AsyncConnection, pipeline: Pipeline, status: Status) -> None:
    """Delete a status and renumber the statuses after it."""
    await connection.execute(sa.delete(STATUS).where(STATUS.c.id == status.id))
    await _renumber(connection, [each for each in pipeline.statuses if each.id != status.id])


async def arrange(
    connection: AsyncConnection,
    pipeline: Pipeline,
    wanted: Sequence[tuple[int | None, str, StatusState]],
) -> Pipeline:
    """Add, change and order statuses as ``wanted``; put the pipeline's other statuses after them.

    Each item of ``wanted`` is (id, name, state); the id of a new status is None.
    """
    for place, (number, name, state) in enumerate(wanted, 1):
        values = {"name": name, "state": state, "position": place}
        if number is None:
            await connection.execute(sa.insert(STATUS).values(pipeline_id=pipeline.id, **values))
        else:
            await connection.execute(sa.update(STATUS).where(STATUS.c.id == number).values(values))
    kept = {number for number, _, _ in wanted}
    rest = [status for status in pipeline.statuses if status.id not in kept]
    await _renumber(connection, rest, len(wanted) + 1)
    return (await load_pipelines(connection))[pipeline.id]


async def _renumber(connection: AsyncConnection, order: Sequence[Status], first: int = 1) -> None:
    """Give these statuses the positions from ``first`` on, in this order."""
    for place, status in enumerate(order, first):
        own = STATUS.c.id == status.id
        await connection.execute(sa.update(STATUS).where(own).values(position=place))


async def _count(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> int:
    """Return the number of tickets that meet a condition."""
    query = sa.select(sa.func.count()).select_from(TICKET).where(condition)
    return int((await connection.execute(query)).scalar_one())
