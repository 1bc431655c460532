"""Pipelines and their statuses as rows, and the rules about changing them (behaviour.md 2.5).

Every writer works inside the caller's ordered transaction and raises ``Refused`` with the reason
before it has changed anything. Tickets are not moved here: who wants a status gone moves its
tickets first, with the rules of a move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.ticket import Channel
from core.pipeline import Pipeline, Status, StatusState, problem
from gateway.errors import Refused
from gateway.store.schema import tables
from gateway.store.setup import status_references
from gateway.validation import refuse_unnamed

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
PIPELINES = sa.select(
    PIPELINE.c.id, PIPELINE.c.name, *(PIPELINE.c[name] for name in SWITCHES)
).order_by(PIPELINE.c.position, PIPELINE.c.id)
STATUSES = sa.select(
    STATUS.c.pipeline_id, STATUS.c.id, STATUS.c.name, STATUS.c.state, STATUS.c.position
).order_by(STATUS.c.position)
CHANNELS = sa.select(
    *(
        CHANNEL.c[name]
        for name in (
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
    )
).order_by(CHANNEL.c.address)


async def load_pipelines(connection: AsyncConnection) -> dict[int, Pipeline]:
    """All pipelines by number, in their order."""
    steps: dict[int, list[Status]] = {}
    for pipeline_id, *status in await connection.execute(STATUSES):
        steps.setdefault(pipeline_id, []).append(Status(*status))
    rows = (await connection.execute(PIPELINES)).mappings()
    return {row["id"]: Pipeline(statuses=tuple(steps.get(row["id"], ())), **row) for row in rows}


async def load_channels(connection: AsyncConnection) -> list[Channel]:
    """All channels by address."""
    rows = (await connection.execute(CHANNELS)).mappings()
    return [
        Channel(**{**row, "allow": frozenset(row["allow"]), "deny": frozenset(row["deny"])})
        for row in rows
    ]


async def named(connection: AsyncConnection, name: str) -> Pipeline:
    """The pipeline of this name, compared without case; Refused when there is none."""
    folded = name.casefold()
    for pipeline in (await load_pipelines(connection)).values():
        if pipeline.name.casefold() == folded:
            return pipeline
    raise Refused(f"there is no pipeline {name!r}")


def status_named(pipeline: Pipeline, name: str) -> Status:
    """The status of this name; Refused when the pipeline has none."""
    found = pipeline.named(name)
    if found is None:
        raise Refused(f"the pipeline {pipeline.name!r} has no status {name!r}")
    return found


async def add(
    connection: AsyncConnection, name: str, statuses: Sequence[tuple[str, StatusState]]
) -> Pipeline:
    """Makes a pipeline with these statuses in order; both triggers are off. Refused for a name in
    use or unsound statuses (P03).
    """
    known = await load_pipelines(connection)
    _refuse_name(name, (pipeline.name for pipeline in known.values()), "pipeline")
    _refuse_unsound(
        tuple(Status(0, step, state, place) for place, (step, state) in enumerate(statuses, 1))
    )
    place = 1 + (
        (await connection.execute(sa.select(sa.func.max(PIPELINE.c.position)))).scalar() or 0
    )
    row = (
        sa.insert(PIPELINE)
        .values(name=name, position=place, is_default=not known)
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
    """Sets switches of a pipeline, or its ``name``. Triggers take a status number of this pipeline,
    or None for off.

    A new default pipeline takes that mark from the old one. Refused for a status of another
    pipeline or a name in use; ValueError for a switch that does not exist.
    """
    if unknown := settings.keys() - {*SWITCHES, "name"}:
        raise ValueError(f"a pipeline has no {sorted(unknown)}")
    for trigger in ("on_email_sent", "on_customer_reply"):
        target = settings.get(trigger)
        if target is not None and not pipeline.holds(target):
            raise Refused(f"that status is none of pipeline {pipeline.name!r}")
    if "name" in settings:
        others = (
            each.name
            for each in (await load_pipelines(connection)).values()
            if each.id != pipeline.id
        )
        _refuse_name(settings["name"], others, "pipeline")
    if settings.get("is_default") is False and pipeline.is_default:
        raise Refused("one pipeline has to be the default: make another one the default instead")
    if settings.get("is_default"):
        await connection.execute(sa.update(PIPELINE).values(is_default=False))
    if settings:
        await connection.execute(
            sa.update(PIPELINE).where(PIPELINE.c.id == pipeline.id).values(settings)
        )
    return (await load_pipelines(connection))[pipeline.id]


async def delete(connection: AsyncConnection, pipeline: Pipeline) -> None:
    """Removes a pipeline. Refused for the default one, and while tickets or channels are in it
    (P06).
    """
    if pipeline.is_default:
        raise Refused("the default pipeline cannot be deleted")
    tickets = await _count(connection, TICKET, TICKET.c.pipeline_id == pipeline.id)
    channels = [
        each.address for each in await load_channels(connection) if each.pipeline_id == pipeline.id
    ]
    if tickets or channels:
        uses = References(tickets, (), tuple(channels))
        raise Refused(f"the pipeline {pipeline.name!r} is in use: {uses}")
    await connection.execute(sa.delete(STATUS).where(STATUS.c.pipeline_id == pipeline.id))
    await connection.execute(sa.delete(PIPELINE).where(PIPELINE.c.id == pipeline.id))


# ---- statuses


@dataclass(frozen=True, slots=True)
class References:
    """What keeps a status or a pipeline: tickets (trash and merged ones too), triggers that lead to
    it, channels that start in it, actions that move to it.
    """

    tickets: int
    triggers: tuple[str, ...]
    channels: tuple[str, ...]
    actions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.tickets or self.triggers or self.channels or self.actions)

    def __str__(self) -> str:
        """A list for a sentence: ``2 tickets, the trigger on_email_sent, the channel
        a@example.org``.
        """
        tickets = (
            [f"{self.tickets} ticket{'s' if self.tickets != 1 else ''}"] if self.tickets else []
        )
        rest = (("trigger", self.triggers), ("channel", self.channels), ("action", self.actions))
        return ", ".join(
            [*tickets, *(f"the {what} {each}" for what, names in rest for each in names)]
        )


async def add_status(
    connection: AsyncConnection, pipeline: Pipeline, name: str, state: StatusState
) -> Status:
    """Adds a status at the end."""
    _refuse_name(name, (status.name for status in pipeline.statuses), "status")
    place = len(pipeline.statuses) + 1
    row = (
        sa.insert(STATUS)
        .values(pipeline_id=pipeline.id, name=name, state=state, position=place)
        .returning(STATUS.c.id)
    )
    return Status((await connection.execute(row)).scalar_one(), name, state, place)


async def rename_status(
    connection: AsyncConnection, pipeline: Pipeline, status: Status, name: str
) -> None:
    """Gives a status another name; tickets, triggers and channels stay with it."""
    _refuse_name(name, (each.name for each in pipeline.statuses if each.id != status.id), "status")
    await connection.execute(sa.update(STATUS).where(STATUS.c.id == status.id).values(name=name))


async def move_status(
    connection: AsyncConnection, pipeline: Pipeline, status: Status, position: int
) -> None:
    """Puts a status at a position counted from 1; the first open status follows at once and no
    ticket moves (P01).
    """
    if not 1 <= position <= len(pipeline.statuses):
        raise Refused(
            f"the pipeline {pipeline.name!r} has the positions 1 to {len(pipeline.statuses)}"
        )
    order = [each for each in pipeline.statuses if each.id != status.id]
    order.insert(position - 1, status)
    await _renumber(connection, order)


async def set_status_state(
    connection: AsyncConnection, pipeline: Pipeline, status: Status, state: StatusState
) -> int:
    """Makes a status open or closed and tells how many tickets sit in it: their dates are not
    touched (C10). Refused by P03.
    """
    _refuse_unsound(
        tuple(
            replace(each, state=state) if each.id == status.id else each
            for each in pipeline.statuses
        )
    )
    await connection.execute(sa.update(STATUS).where(STATUS.c.id == status.id).values(state=state))
    return await _count(
        connection,
        TICKET,
        sa.and_(
            TICKET.c.status_id == status.id,
            TICKET.c.deleted_at.is_(None),
            TICKET.c.merged_into.is_(None),
        ),
    )


async def references(connection: AsyncConnection, pipeline: Pipeline, status: Status) -> References:
    """What keeps a status from being deleted (P04)."""
    tickets = await _count(connection, TICKET, TICKET.c.status_id == status.id)
    triggers = tuple(
        name
        for name in ("on_email_sent", "on_customer_reply")
        if getattr(pipeline, name) == status.id
    )
    channels = tuple(
        each.address
        for each in await load_channels(connection)
        if status.id in (each.status_id, each.outbound_status_id)
    )
    known = await load_pipelines(connection)
    return References(
        tickets,
        triggers,
        channels,
        await status_references.uses(connection, known, pipeline, status.name),
    )


async def repoint(
    connection: AsyncConnection, pipeline: Pipeline, status: Status, to: Status
) -> None:
    """Makes triggers and channels that use a status use another one: half of the wizard of P04,
    moving the tickets is the other.
    """
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


async def refuse_needed(pipeline: Pipeline, status: Status) -> None:
    """Refused when the pipeline would be left without an open or a closed status (P03)."""
    _refuse_unsound(tuple(each for each in pipeline.statuses if each.id != status.id))


async def delete_status(connection: AsyncConnection, pipeline: Pipeline, status: Status) -> None:
    """Removes a status that nothing uses. Refused with every reference and its count (P04), or by
    P03.
    """
    await refuse_needed(pipeline, status)
    if uses := await references(connection, pipeline, status):
        raise Refused(f"the status {status.name!r} is in use: {uses}")
    await connection.execute(sa.delete(STATUS).where(STATUS.c.id == status.id))
    await _renumber(connection, [each for each in pipeline.statuses if each.id != status.id])


async def arrange(
    connection: AsyncConnection,
    pipeline: Pipeline,
    wanted: Sequence[tuple[int | None, str, StatusState]],
) -> Pipeline:
    """Gives a pipeline these statuses in this order: (number, name, state), None for a new one.
    Others of its statuses stay behind them.

    Refused when the wanted ones are not sound (P03), or one of them is another pipeline's.
    """
    _refuse_unsound(
        tuple(
            Status(number or 0, name, state, place)
            for place, (number, name, state) in enumerate(wanted, 1)
        )
    )
    numbers = [number for number, _, _ in wanted if number is not None]
    if len(set(numbers)) != len(numbers) or not all(pipeline.holds(number) for number in numbers):
        raise Refused(f"two statuses of pipeline {pipeline.name!r} would be one")
    for place, (number, name, state) in enumerate(wanted, 1):
        _refuse_name(name, (), "status")
        values = {"name": name, "state": state, "position": place}
        if number is None:
            await connection.execute(sa.insert(STATUS).values(pipeline_id=pipeline.id, **values))
        else:
            await connection.execute(sa.update(STATUS).where(STATUS.c.id == number).values(values))
    rest = [status for status in pipeline.statuses if status.id not in numbers]
    for place, status in enumerate(rest, len(wanted) + 1):
        await connection.execute(
            sa.update(STATUS).where(STATUS.c.id == status.id).values(position=place)
        )
    return (await load_pipelines(connection))[pipeline.id]


async def _renumber(connection: AsyncConnection, order: Sequence[Status]) -> None:
    for place, status in enumerate(order, 1):
        await connection.execute(
            sa.update(STATUS).where(STATUS.c.id == status.id).values(position=place)
        )


async def _count(
    connection: AsyncConnection, table: sa.Table, condition: sa.ColumnElement[bool]
) -> int:
    return int(
        (
            await connection.execute(sa.select(sa.func.count()).select_from(table).where(condition))
        ).scalar_one()
    )


def _refuse_unsound(statuses: tuple[Status, ...]) -> None:
    if why := problem(statuses):
        raise Refused(why)


def _refuse_name(name: str, taken: Any, what: str) -> None:
    refuse_unnamed(f"a {what}", "name", name)
    if name.casefold() in {each.casefold() for each in taken}:
        raise Refused(f"there is a {what} {name!r} already")
