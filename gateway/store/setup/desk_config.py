"""The configuration kept in the database, which is loaded as a whole for each batch of mail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.ticket import Channel, User
from core.model.workflow import Workflow
from core.pipeline import Pipeline
from gateway.store.schema import tables
from gateway.store.setup import pipelines, users, workflows


@dataclass(slots=True)
class DeskConfig:
    """The pipelines, channels, active users, signing keys and workflows in the database."""

    pipelines: Mapping[int, Pipeline]  # by id
    channels: Mapping[str, Channel]  # by address key
    users: Mapping[str, User]  # by address key
    keys: tuple[bytes, ...]  # the newest first
    workflows: Mapping[int, Workflow] = field(default_factory=dict)  # by status id

    @property
    def default_channel(self) -> Channel | None:
        """Return the channel for mail addressed to no channel; None where there is no channel."""
        return next(
            (channel for channel in self.channels.values() if channel.is_default),
            next(iter(self.channels.values()), None),
        )

    @property
    def default_pipeline(self) -> Pipeline:
        """Return the pipeline for tickets opened by hand."""
        return next(
            (each for each in self.pipelines.values() if each.is_default),
            next(iter(self.pipelines.values())),
        )


async def load_desk(connection: AsyncConnection) -> DeskConfig:
    """Load the configuration from the database."""
    loaded = await pipelines.load_pipelines(connection)
    channels = await pipelines.load_channels(connection)
    people = await users.load(connection)
    query = sa.select(tables.signing_key.c.secret).order_by(tables.signing_key.c.id.desc())
    keys = tuple((await connection.execute(query)).scalars())
    by_address = {address: user for user in people for address in user.addresses if user.active}
    return DeskConfig(
        loaded,
        {channel.address: channel for channel in channels},
        by_address,
        keys,
        await workflows.load(connection, loaded),
    )
