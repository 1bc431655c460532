"""Changes of channels by administrators; channels are never deleted (behaviour.md S2, P07)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypedDict

from core.model.message import address_key
from core.model.ticket import Channel
from core.pipeline import Pipeline
from core.rules import structure
from core.rules.rights import Right
from gateway.desk.transaction import Actor, Transaction, enforce, status_of
from gateway.store.setup import channels, users
from gateway.validation import refuse_unnamed


class ChannelChanges(TypedDict, total=False):
    """New settings of a channel, names as typed; ``allow`` and ``deny`` replace the old lists."""

    name: str
    tickets: bool
    pipeline: str
    status: str
    outbound_status: str
    allow: Collection[str]
    deny: Collection[str]
    is_default: bool


class ChannelDesk(Actor):
    """Add and change channels."""

    async def add_channel(
        self,
        address: str,
        name: str | None = None,
        pipeline: str | None = None,
        status: str | None = None,
    ) -> Channel:
        """Add an address of ours whose mail becomes tickets."""
        if name is not None:
            refuse_unnamed("a channel", "name", name)
        async with self.acting(Right.MANAGE_CHANNELS) as act:
            connection, desk = act.unit.connection, act.unit.desk
            into = act.pipeline(pipeline) if pipeline is not None else desk.default_pipeline
            first = status_of(into, status).id if status is not None else None
            key, people = address_key(address), await users.load(connection)
            taken = {each for user in people for each in user.addresses}
            enforce(structure.refuse_channel(key, desk.channels.keys(), taken))
            return await channels.add(connection, key, name or "", into, first, act.now)

    async def set_channel(self, address: str, changes: ChannelChanges) -> Channel:
        """Change a channel; existing tickets and threads stay as they are (P07)."""
        if "name" in changes:
            refuse_unnamed("a channel", "name", changes["name"])
        async with self.acting(Right.MANAGE_CHANNELS) as act:
            channel = act.channel(address)
            into, values = _looked_up(act, channel, changes)
            return await channels.change(act.unit.connection, channel, pipeline=into, **values)


def _looked_up(
    act: Transaction, channel: Channel, changes: ChannelChanges
) -> tuple[Pipeline | None, dict[str, Any]]:
    """Return the new pipeline or None, and the other changes with status names turned into ids."""
    values: dict[str, Any] = dict(changes)
    names = {each: values.pop(each, None) for each in ("pipeline", "status", "outbound_status")}
    for rules in ("allow", "deny"):
        enforce(
            structure.refuse_sender_rules({address_key(each) for each in values.get(rules, ())})
        )
    into = act.pipeline(names["pipeline"]) if names["pipeline"] is not None else None
    for name in ("status", "outbound_status"):
        if names[name] is not None:
            into = into or act.unit.desk.pipelines[channel.pipeline_id]
            values[f"{name}_id"] = status_of(into, names[name]).id
    return into, values
