"""The history of workflows: enrolments, the action log, versions, comments and tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.workflow import Enrolment
from gateway.store.schema import tables
from gateway.store.setup.workflows import (
    ENROLMENTS,
    RUN,
    RUN_COLUMNS,
    VERSION,
    ActionRun,
    enrolment_of,
)

COMMENT, ENROLMENT, TASK, TICKET = (
    tables.action_comment,
    tables.enrolment,
    tables.task,
    tables.ticket,
)
WORKFLOW = tables.workflow


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on an action, written for other users (behaviour.md 3.6)."""

    id: int
    action: str
    author: str
    text: str
    at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """One saved version of a workflow."""

    version: int
    actions: Any
    author: str
    at: datetime
    note: str | None


async def of_status(connection: AsyncConnection, status_id: int) -> list[int]:
    """Return the ids of all workflows that a status has had, deleted ones included."""
    query = (
        sa.select(WORKFLOW.c.id).where(WORKFLOW.c.status_id == status_id).order_by(WORKFLOW.c.id)
    )
    return list((await connection.execute(query)).scalars())


async def enrolments(
    connection: AsyncConnection, workflow_ids: Collection[int], ticket: int | None = None
) -> list[Enrolment]:
    """Return all enrolments in these workflows, active and ended, oldest first."""
    query = ENROLMENTS.where(ENROLMENT.c.workflow_id.in_(workflow_ids)).order_by(ENROLMENT.c.id)
    if ticket is not None:
        query = query.where(ENROLMENT.c.ticket == ticket)
    return [enrolment_of(row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of the action log.

    A field that is None does not filter. Entries at exactly the first or last instant are included.
    """

    ticket: int | None = None
    action: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def runs(
    connection: AsyncConnection, workflow_ids: Collection[int], wanted: Wanted = Wanted()
) -> list[ActionRun]:
    """Return the action log of these workflows, oldest first."""
    query = (
        sa.select(*(RUN.c[name] for name in RUN_COLUMNS))
        .where(RUN.c.workflow_id.in_(workflow_ids))
        .order_by(RUN.c.id)
    )
    for name in ("ticket", "action", "outcome"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(RUN.c[name] == value)
    if wanted.since is not None:
        query = query.where(RUN.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(RUN.c.at <= wanted.until)
    return [ActionRun(*row) for row in await connection.execute(query)]


async def forget_runs(connection: AsyncConnection, before: datetime, most: int) -> int:
    """Delete up to ``most`` entries of the action log older than ``before``; return how many.

    Entries of active enrolments are kept, since they tell which actions must not be repeated.
    """
    active = sa.exists().where(ENROLMENT.c.id == RUN.c.enrolment_id, ENROLMENT.c.state == "ACTIVE")
    old = sa.select(RUN.c.id).where(RUN.c.at < before, ~active).order_by(RUN.c.at).limit(most)
    return (await connection.execute(sa.delete(RUN).where(RUN.c.id.in_(old)))).rowcount


async def versions(connection: AsyncConnection, workflow_id: int) -> list[Version]:
    """Return all versions of a workflow, oldest first."""
    query = sa.select(
        VERSION.c.version, VERSION.c.actions, VERSION.c.author, VERSION.c.at, VERSION.c.note
    )
    query = query.where(VERSION.c.workflow_id == workflow_id).order_by(VERSION.c.version)
    return [Version(*row) for row in await connection.execute(query)]


async def comments(connection: AsyncConnection, workflow_id: int) -> list[Comment]:
    """Return all comments of a workflow, oldest first; their actions may have been deleted."""
    names = ("id", "action", "author", "text", "at", "resolved_at")
    query = sa.select(*(COMMENT.c[name] for name in names)).order_by(COMMENT.c.id)
    query = query.where(COMMENT.c.workflow_id == workflow_id)
    return [Comment(*row) for row in await connection.execute(query)]


async def comment(
    connection: AsyncConnection,
    workflow_id: int,
    action: str,
    author: str,
    text: str,
    now: datetime,
) -> int:
    """Add a comment; return its id."""
    values = {
        "workflow_id": workflow_id,
        "action": action,
        "author": author,
        "text": text,
        "at": now,
    }
    number: int = (
        await connection.execute(sa.insert(COMMENT).values(values).returning(COMMENT.c.id))
    ).scalar_one()
    return number


async def resolve(
    connection: AsyncConnection, workflow_id: int, action: str, comment_id: int, now: datetime
) -> bool:
    """Mark a comment as resolved; return False where the action has no such comment.

    If the comment is resolved already, its date of resolution does not change.
    """
    here = (
        COMMENT.c.id == comment_id,
        COMMENT.c.workflow_id == workflow_id,
        COMMENT.c.action == action,
    )
    first = sa.func.coalesce(COMMENT.c.resolved_at, sa.literal(now, COMMENT.c.resolved_at.type))
    query = sa.update(COMMENT).where(*here).values(resolved_at=first)
    return bool((await connection.execute(query)).rowcount)


async def tasks(connection: AsyncConnection, ticket: int) -> Sequence[dict[str, Any]]:
    """Return all tasks, open and done, of a ticket and of tickets merged into it."""
    own = sa.select(sa.literal(ticket, TICKET.c.number.type).label("number"))
    whole = own.cte("whole", recursive=True)
    whole = whole.union(sa.select(TICKET.c.number).where(TICKET.c.merged_into == whole.c.number))
    query = sa.select(TASK.c.id, TASK.c.text, TASK.c.due_at, TASK.c.created_at, TASK.c.done_at)
    query = query.where(TASK.c.ticket.in_(sa.select(whole.c.number)))
    return [dict(row) for row in (await connection.execute(query.order_by(TASK.c.id))).mappings()]
