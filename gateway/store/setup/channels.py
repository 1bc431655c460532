"""Read, add and change channels: addresses of ours at which mail becomes tickets.

Channels are never deleted, since threads came in through them (behaviour.md P07). The rules for
channels are in ``core.rules.structure``, and are checked before anything here is called.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from core.model.ticket import Channel
from core.pipeline import Pipeline
from gateway.errors import NotFound
from gateway.store.schema import tables
from gateway.store.setup.pipelines import load_channels

TABLE = tables.channel
SETTINGS = frozenset(
    {"name", "tickets", "status_id", "outbound_status_id", "is_default", "allow", "deny"}
)


async def at(connection: AsyncConnection, address: str) -> Channel:
    """Return the channel with this address; NotFound where there is none."""
    key = address_key(address)
    for channel in await load_channels(connection):
        if channel.address == key:
            return channel
    raise NotFound(f"no channel {address}")


async def add(
    connection: AsyncConnection,
    address: str,
    name: str,
    pipeline: Pipeline,
    status_id: int | None,
    now: datetime,
) -> Channel:
    """Add a channel; its tickets start in ``status_id``, or else in the first open status.

    The first channel of an installation becomes the default channel.
    """
    key = address_key(address)
    first = (await connection.execute(sa.select(TABLE.c.id).limit(1))).first() is None
    values = {
        "address": key,
        "name": name or key,
        "pipeline_id": pipeline.id,
        "status_id": status_id,
        "is_default": first,
    }
    await connection.execute(
        sa.insert(TABLE).values(**values, tickets=True, allow=[], deny=[], created_at=now)
    )
    return await at(connection, key)


async def change(
    connection: AsyncConnection,
    channel: Channel,
    *,
    pipeline: Pipeline | None = None,
    **values: Any,
) -> Channel:
    """Change the given values of a channel; ``allow`` and ``deny`` replace the lists (P07).

    With a new pipeline but no status, tickets start in its first open status. Raises ValueError for
    an unknown setting, and for a status without its pipeline.
    """
    if unknown := values.keys() - SETTINGS:
        raise ValueError(f"unknown settings of a channel: {sorted(unknown)}")
    for rules in ("allow", "deny"):
        if rules in values:
            values[rules] = sorted({address_key(each) for each in values[rules]})
    if pipeline is not None:
        if pipeline.id != channel.pipeline_id:
            values = {"status_id": None, "outbound_status_id": None} | values
        values["pipeline_id"] = pipeline.id
    elif values.get("status_id") is not None:
        raise ValueError("to set a status, set its pipeline too")
    if values.get("is_default"):
        await connection.execute(sa.update(TABLE).values(is_default=False))
    if values:
        await connection.execute(sa.update(TABLE).where(TABLE.c.id == channel.id).values(values))
    return await at(connection, channel.address)
