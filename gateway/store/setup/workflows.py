"""Read and write workflows, the enrolments of tickets in them, and the action log.

Only ``gateway.apply.applier`` writes enrolments (R7). The actions of a version never change, so
their tree is parsed once. The tree leaves out actions that this program cannot read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.workflow import Enrolment, Graph, Workflow, read
from core.pipeline import Pipeline
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import Work

WORKFLOW, VERSION, ENROLMENT, RUN = (
    tables.workflow,
    tables.workflow_version,
    tables.enrolment,
    tables.action_run,
)
SETTINGS = (
    "enabled",
    "re_enroll",
    "on_leave",
    "exclude_sources",
    "filter",
    "unenroll_when",
    "window",
)
CURRENT = (
    sa.select(
        WORKFLOW.c.id,
        WORKFLOW.c.pipeline_id,
        WORKFLOW.c.status_id,
        WORKFLOW.c.version,
        *(WORKFLOW.c[name] for name in SETTINGS),
        VERSION.c.actions,
    )
    .join(
        VERSION,
        sa.and_(VERSION.c.workflow_id == WORKFLOW.c.id, VERSION.c.version == WORKFLOW.c.version),
    )
    .where(WORKFLOW.c.deleted_at.is_(None))
    .order_by(WORKFLOW.c.id)
)
ENROLMENT_COLUMNS = tuple(field.name for field in fields(Enrolment))
ENROLMENTS = sa.select(*(ENROLMENT.c[name] for name in ENROLMENT_COLUMNS))
OF_TICKETS = ENROLMENTS.where(among(ENROLMENT.c.ticket, "tickets")).order_by(ENROLMENT.c.id)
DUE = (
    sa.select(ENROLMENT.c.id, ENROLMENT.c.ticket)
    .where(
        ENROLMENT.c.state == "ACTIVE",
        ENROLMENT.c.due_at <= sa.bindparam("now", type_=ENROLMENT.c.due_at.type),
    )
    .order_by(ENROLMENT.c.due_at, ENROLMENT.c.id)
    .limit(sa.bindparam("most"))
)
NEXT_DUE = sa.select(sa.func.min(ENROLMENT.c.due_at)).where(ENROLMENT.c.state == "ACTIVE")
DONE = sa.select(RUN.c.enrolment_id, RUN.c.action).where(
    among(RUN.c.enrolment_id, "ids"), RUN.c.key.is_not(None)
)
UPDATE = (
    sa.update(ENROLMENT)
    .where(ENROLMENT.c.id == sa.bindparam("_id"))
    .values(
        {name: sa.bindparam(name, type_=ENROLMENT.c[name].type) for name in ENROLMENT_COLUMNS[1:]}
    )
)


@dataclass(frozen=True, slots=True)
class ActionRun:
    """An entry of the action log: what an action did for a ticket (behaviour.md 3.1)."""

    id: int
    workflow_id: int
    enrolment_id: int | None
    ticket: int
    action: str | None
    version: int
    outcome: str
    detail: str | None
    at: datetime
    key: str | None = None


RUN_COLUMNS = tuple(field.name for field in fields(ActionRun))


@lru_cache(500)
def _graph(actions: str) -> Graph:
    """Return the tree of actions that a JSON text holds."""
    return read(json.loads(actions))[0]


def graph_of(actions: Any) -> Graph:
    """Return the tree of the actions of a version."""
    return _graph(json.dumps(actions))


async def load(
    connection: AsyncConnection, pipelines: Mapping[int, Pipeline]
) -> dict[int, Workflow]:
    """Return the workflows that are not deleted, keyed by the id of their status."""
    found: dict[int, Workflow] = {}
    for row in await connection.execute(CURRENT):
        pipeline = pipelines.get(row.pipeline_id)
        if pipeline is None or not pipeline.holds(row.status_id):
            continue
        values = {name: getattr(row, name) for name in SETTINGS}
        values["exclude_sources"] = frozenset(row.exclude_sources)
        name = f"{pipeline.name} / {pipeline.status(row.status_id).name}"
        found[row.status_id] = Workflow(
            row.id,
            row.pipeline_id,
            row.status_id,
            row.version,
            graph_of(row.actions),
            name=name,
            **values,
        )
    return found


async def enrolments(
    connection: AsyncConnection, tickets: Collection[int]
) -> dict[int, list[Enrolment]]:
    """Return all enrolments of each of these tickets, active and ended, oldest first."""
    found: dict[int, list[Enrolment]] = {number: [] for number in tickets}
    if tickets:
        for row in await connection.execute(OF_TICKETS, {"tickets": list(tickets)}):
            found[row.ticket].append(enrolment_of(row))
    return found


async def standing(connection: AsyncConnection, workflow_id: int) -> list[Enrolment]:
    """Return the active enrolments of a workflow."""
    query = ENROLMENTS.where(
        ENROLMENT.c.workflow_id == workflow_id, ENROLMENT.c.state == "ACTIVE"
    ).order_by(ENROLMENT.c.id)
    return [enrolment_of(row) for row in await connection.execute(query)]


def enrolment_of(row: sa.Row[Any]) -> Enrolment:
    """Return the enrolment that a row of :data:`ENROLMENTS` describes."""
    values = row._asdict()
    values["chain"] = tuple(values["chain"])
    return Enrolment(**values)


async def due(connection: AsyncConnection, now: datetime, most: int) -> list[tuple[int, int]]:
    """Return (enrolment, ticket) for up to ``most`` due enrolments, the longest overdue first."""
    return [
        (row.id, row.ticket) for row in await connection.execute(DUE, {"now": now, "most": most})
    ]


async def next_due(connection: AsyncConnection) -> datetime | None:
    """Return when the next enrolment is due; None where no enrolment is active."""
    found: datetime | None = (await connection.execute(NEXT_DUE)).scalar()
    return found


async def done(connection: AsyncConnection, ids: Collection[int]) -> dict[int, set[str]]:
    """Return the actions executed so far, keyed by enrolment."""
    found: dict[int, set[str]] = {each: set() for each in ids}
    if ids:
        for enrolment, action in await connection.execute(DONE, {"ids": list(ids)}):
            found[enrolment].add(action)
    return found


def writing(new: Iterable[Enrolment], changed: Iterable[Enrolment]) -> Work:
    """Return inserts and updates of enrolments.

    :func:`gateway.store.sql.bulk.write_rows` runs them.
    """
    updates = []
    for each in changed:
        row = _row(each)
        updates.append({"_id": row.pop("id"), **row})
    # Updates first: a ticket has at most one active enrolment in a workflow.
    return [(UPDATE, updates), (ENROLMENT, [_row(each) for each in new])]


def _row(enrolment: Enrolment) -> dict[str, Any]:
    """Return an enrolment as a row."""
    return {name: getattr(enrolment, name) for name in ENROLMENT_COLUMNS} | {
        "chain": list(enrolment.chain),
        "cause": dict(enrolment.cause),
    }


def writing_runs(rows: Iterable[ActionRun]) -> Work:
    """Return inserts of log entries.

    :func:`gateway.store.sql.bulk.write_rows` runs them.
    """
    return [(RUN, [{name: getattr(row, name) for name in RUN_COLUMNS} for row in rows])]


# ---- for the editor


async def add(
    connection: AsyncConnection,
    pipeline_id: int,
    status_id: int,
    actions: Any,
    author: str,
    now: datetime,
    **settings: Any,
) -> int:
    """Add a workflow with its first version; return its id."""
    values = {"exclude_sources": ["chat", "messenger"], **settings}
    row = (
        sa.insert(WORKFLOW)
        .values(pipeline_id=pipeline_id, status_id=status_id, version=1, **values)
        .returning(WORKFLOW.c.id)
    )
    number: int = (await connection.execute(row)).scalar_one()
    await _write_version(connection, number, 1, actions, author, now, None)
    return number


async def change(connection: AsyncConnection, workflow_id: int, **settings: Any) -> None:
    """Change any of :data:`SETTINGS` of a workflow; ValueError for any other setting."""
    if unknown := settings.keys() - set(SETTINGS):
        raise ValueError(f"unknown settings of a workflow: {sorted(unknown)}")
    if settings:
        await connection.execute(
            sa.update(WORKFLOW).where(WORKFLOW.c.id == workflow_id).values(settings)
        )


async def save(
    connection: AsyncConnection,
    workflow: Workflow,
    actions: Any,
    author: str,
    now: datetime,
    note: str | None = None,
) -> int:
    """Save a new version and return its number.

    The numbers have no gaps, and a saved version never changes.
    """
    version = workflow.version + 1
    await _write_version(connection, workflow.id, version, actions, author, now, note)
    await connection.execute(
        sa.update(WORKFLOW).where(WORKFLOW.c.id == workflow.id).values(version=version)
    )
    return version


async def _write_version(
    connection: AsyncConnection,
    workflow_id: int,
    version: int,
    actions: Any,
    author: str,
    now: datetime,
    note: str | None,
) -> None:
    """Insert one version."""
    values = {
        "workflow_id": workflow_id,
        "version": version,
        "actions": actions,
        "author": author,
        "at": now,
        "note": note,
    }
    await connection.execute(sa.insert(VERSION).values(values))


async def delete(connection: AsyncConnection, workflow_id: int, now: datetime) -> None:
    """Mark a workflow as deleted; its history stays. End the runs of the workflow before this."""
    await connection.execute(
        sa.update(WORKFLOW)
        .where(WORKFLOW.c.id == workflow_id)
        .values(enabled=False, deleted_at=now)
    )


async def actions_of(connection: AsyncConnection, workflow_id: int, version: int) -> Any:
    """Return the actions of a version, exactly as they were saved."""
    query = sa.select(VERSION.c.actions).where(
        VERSION.c.workflow_id == workflow_id, VERSION.c.version == version
    )
    return (await connection.execute(query)).scalar_one()
