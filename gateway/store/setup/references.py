"""Find what names a status, pipeline, template or user, and write new names (behaviour.md P04).

Workflows and scheduled replies hold names; everything else holds ids, which a new name leaves as
they are. A changed workflow gets a new version.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.workflow import Workflow
from core.pipeline import Pipeline
from core.workflow.references import NameUse, renamed, uses
from gateway.store.schema import tables
from gateway.store.setup import workflows

Meant = Callable[[NameUse, Pipeline], bool]  # a name, in a workflow of this pipeline
OUTGOING, DELIVERY, TICKET = tables.outgoing, tables.delivery, tables.ticket
SCHEDULED = sa.select(OUTGOING.c.id, OUTGOING.c.ticket, OUTGOING.c.draft).where(
    OUTGOING.c.draft.is_not(None),
    sa.exists().where(DELIVERY.c.outgoing_id == OUTGOING.c.id, DELIVERY.c.state == "scheduled"),
)


@dataclass(frozen=True, slots=True)
class NewName:
    """A new name to write wherever ``meant`` is true; ``note`` explains it in the history."""

    meant: Meant
    name: str
    note: str
    author: str
    at: datetime


@dataclass(frozen=True, slots=True)
class UsingPlaces:
    """What uses a name, like the action "a of Support / New" or "filter of Support / New"."""

    actions: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    def __iter__(self) -> Any:
        yield from (f"the action {each}" for each in self.actions)
        yield from (f"the {each}" for each in self.conditions)


def status_meant(pipelines: Mapping[int, Pipeline], pipeline: Pipeline, name: str) -> Meant:
    """Return a test whether a use of a name means this status, even if it means others as well."""
    return lambda use, own: (
        use.names("status", name)
        and any(each.id == pipeline.id for each in use.pipelines(own, pipelines.values()))
    )


def unclear_status(pipelines: Mapping[int, Pipeline], pipeline: Pipeline, name: str) -> Meant:
    """Return a test whether a use of a name means this status and also one of another pipeline."""
    meant = status_meant(pipelines, pipeline, name)
    return lambda use, own: meant(use, own) and len(use.pipelines(own, pipelines.values())) > 1


async def using(
    connection: AsyncConnection,
    pipelines: Mapping[int, Pipeline],
    meant: Meant,
    without: Collection[int] = (),
) -> UsingPlaces:
    """Return what uses a name; leave out the workflows of the statuses ``without``."""
    actions, conditions = dict[str, None](), dict[str, None]()
    for flow in await _flows(connection, pipelines):
        if flow.workflow.status_id in without:
            continue
        for use in uses(flow.parts, flow.own.name):
            if meant(use, flow.own):
                kept = conditions if use.place in ("filter", "unenroll_when") else actions
                kept[f"{use.place} of {flow.workflow.name}"] = None
    return UsingPlaces(tuple(actions), tuple(conditions))


async def rename(
    connection: AsyncConnection, pipelines: Mapping[int, Pipeline], new: NewName
) -> None:
    """Write the new name in all actions and conditions of workflows."""
    for flow in await _flows(connection, pipelines):
        parts = renamed(flow.parts, flow.own.name, partial(_new_name, new, flow.own))
        actions = parts.pop("actions")
        if changed := {key: each for key, each in parts.items() if each != flow.parts[key]}:
            await workflows.change(connection, flow.workflow.id, **changed)
        if actions != flow.parts["actions"]:
            await workflows.save(connection, flow.workflow, actions, new.author, new.at, new.note)


def _new_name(new: NewName, own: Pipeline, use: NameUse) -> str | None:
    """Return the new name if this use is to be renamed, else None; ``own`` is its pipeline."""
    return new.name if new.meant(use, own) else None


@dataclass(frozen=True, slots=True)
class _Flow:
    """A workflow, its pipeline, and its actions and conditions as they are stored."""

    workflow: Workflow
    own: Pipeline
    parts: Mapping[str, Any]


async def _flows(connection: AsyncConnection, pipelines: Mapping[int, Pipeline]) -> list[_Flow]:
    """Return all workflows."""
    known = {each.id: each for each in (await workflows.load(connection, pipelines)).values()}
    found = []
    for row in await connection.execute(workflows.CURRENT):
        if (workflow := known.get(row.id)) is not None:
            parts = {key: getattr(row, key) for key in ("actions", "filter", "unenroll_when")}
            found.append(_Flow(workflow, pipelines[workflow.pipeline_id], parts))
    return found


# ---- scheduled replies: they may set a status of the pipeline in which their ticket is then


async def replies_setting(
    connection: AsyncConnection, pipeline: Pipeline, status: str
) -> tuple[str, ...]:
    """Return the scheduled replies that set a status, like "scheduled reply on ticket 3"."""
    found = await _replies(connection, pipeline, status)
    return tuple(f"scheduled reply on ticket {row.ticket}" for row in found)


async def rename_in_replies(
    connection: AsyncConnection, pipeline: Pipeline, old: str, new: str
) -> None:
    """Let scheduled replies that set status ``old`` set status ``new``."""
    for row in await _replies(connection, pipeline, old):
        draft = {**row.draft, "status": new}
        own = sa.update(OUTGOING).where(OUTGOING.c.id == row.id)
        await connection.execute(own.values(draft=draft))


async def _replies(connection: AsyncConnection, pipeline: Pipeline, status: str) -> list[Any]:
    """Return the scheduled replies (id, ticket, draft) that set this status."""
    rows = [
        row
        for row in await connection.execute(SCHEDULED.order_by(OUTGOING.c.id))
        if str(row.draft.get("status") or "").casefold() == status.casefold()
    ]
    places = await _pipelines_of(connection, {row.ticket for row in rows})
    return [row for row in rows if places.get(row.ticket) == pipeline.id]


async def _pipelines_of(connection: AsyncConnection, numbers: Iterable[int]) -> dict[int, int]:
    """Return the pipeline of each ticket; for a merged ticket, that of the surviving ticket."""
    found: dict[int, int] = {}
    for number in numbers:
        at: int | None = number
        while at is not None:
            query = sa.select(TICKET.c.pipeline_id, TICKET.c.merged_into)
            row = (await connection.execute(query.where(TICKET.c.number == at))).one()
            found[number], at = row.pipeline_id, row.merged_into
    return found
