"""Channels: the addresses of ours at which mail becomes tickets. They are never removed, since
threads came in through them (behaviour.md P07).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from core.model.ticket import Channel
from core.pipeline import Pipeline
from gateway.errors import Refused
from gateway.store.schema import tables
from gateway.store.setup.pipelines import load_channels

TABLE = tables.channel
ADDRESS_FORM = re.compile(r"[^@\s<>\"',;:()]+@[^@\s<>\"',;:()]+")
_RULE = re.compile(r"(?:[^@\s<>\"',;:()]+)?@[^@\s<>\"',;:()]+")


async def at(connection: AsyncConnection, address: str) -> Channel:
    """The channel with this address; Refused when there is none."""
    key = address_key(address)
    for channel in await load_channels(connection):
        if channel.address == key:
            return channel
    raise Refused(f"there is no channel {address}")


async def add(
    connection: AsyncConnection,
    address: str,
    name: str,
    pipeline: Pipeline,
    status_id: int | None,
    now: datetime,
) -> Channel:
    """Makes a channel whose mail becomes tickets of ``pipeline`` in a status (None: the first open
    one), the default when it is the first.

    Refused when the address is no address, a channel already or a user's: whoever writes from it
    would be two things at once.
    """
    key = address_key(address)
    if not ADDRESS_FORM.fullmatch(key):
        raise Refused(f"{address!r} is no address")
    known = await load_channels(connection)
    if key in {channel.address for channel in known}:
        raise Refused(f"there is a channel {key} already")
    users = sa.select(tables.user_address.c.address).where(tables.user_address.c.address == key)
    if (await connection.execute(users)).first() is not None:
        raise Refused(f"{key} is the address of a user")
    _refuse_foreign(pipeline, status_id)
    values = {
        "address": key,
        "name": name or key,
        "pipeline_id": pipeline.id,
        "status_id": status_id,
        "is_default": not known,
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
    """Sets ``name``, ``tickets``, ``status_id``, ``is_default``, ``allow`` or ``deny``, or moves
    the channel to another pipeline.

    Another pipeline without a status means its first open one; a status needs its ``pipeline``
    beside it. Existing tickets and threads stay as they are (P07). Refused for a status of another
    pipeline and for rules that are neither an address nor ``@domain``.
    """
    if unknown := values.keys() - {
        "name",
        "tickets",
        "status_id",
        "outbound_status_id",
        "is_default",
        "allow",
        "deny",
    }:
        raise ValueError(f"a channel has no {sorted(unknown)}")
    for rules in ("allow", "deny"):
        if rules in values:
            values[rules] = sorted(_rules(values[rules]))
    if pipeline is not None:
        _refuse_foreign(pipeline, values.get("status_id"))
        if pipeline.id != channel.pipeline_id:
            values = {"status_id": None, "outbound_status_id": None} | values
        values["pipeline_id"] = pipeline.id
    elif values.get("status_id") is not None:
        raise ValueError("a status needs its pipeline beside it")
    if values.get("is_default"):
        await connection.execute(sa.update(TABLE).values(is_default=False))
    if values:
        await connection.execute(sa.update(TABLE).where(TABLE.c.id == channel.id).values(values))
    return await at(connection, channel.address)


def _rules(given: Collection[str]) -> set[str]:
    rules = {address_key(each) for each in given}
    wrong = next((each for each in sorted(rules) if not _RULE.fullmatch(each)), None)
    if wrong is not None:
        raise Refused(f"{wrong!r} is neither an address nor @domain")
    return rules


def _refuse_foreign(pipeline: Pipeline, status_id: int | None) -> None:
    if status_id is not None and not pipeline.holds(status_id):
        raise Refused(f"that status is none of pipeline {pipeline.name!r}")
