"""What is shown of workflows: enrolments, runs, versions and the comments on actions. Nothing here is on the way of a mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.workflow import Enrolment
from gateway.store import schema
from gateway.store.workflows import ENROLMENTS, RUN, RUN_COLUMNS, VERSION, ActionRun

COMMENT, ENROLMENT, TASK = schema.action_comment, schema.enrolment, schema.task


@dataclass(frozen=True, slots=True)
class Comment:
    """A word to other users on an action (behaviour.md 3.6)."""

    id: int
    action: str
    author: str
    text: str
    at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """One saved state of a workflow."""

    version: int
    actions: Any
    author: str
    at: datetime
    note: str | None


async def enrolments(connection: AsyncConnection, workflow_id: int, ticket: int | None = None) -> list[Enrolment]:
    """Every enrolment there ever was in a workflow, oldest first."""
    query = ENROLMENTS.where(ENROLMENT.c.workflow_id == workflow_id).order_by(ENROLMENT.c.id)
    if ticket is not None:
        query = query.where(ENROLMENT.c.ticket == ticket)
    found = []
    for row in await connection.execute(query):
        values = row._asdict()
        found.append(Enrolment(**{**values, "chain": tuple(values["chain"])}))
    return found


async def runs(connection: AsyncConnection, workflow_id: int, ticket: int | None = None) -> list[ActionRun]:
    """What was done by a workflow, oldest first."""
    query = sa.select(*(RUN.c[name] for name in RUN_COLUMNS)).where(RUN.c.workflow_id == workflow_id).order_by(RUN.c.id)
    if ticket is not None:
        query = query.where(RUN.c.ticket == ticket)
    return [ActionRun(*row) for row in await connection.execute(query)]


async def versions(connection: AsyncConnection, workflow_id: int) -> list[Version]:
    """Every saved state, oldest first."""
    query = sa.select(VERSION.c.version, VERSION.c.actions, VERSION.c.author, VERSION.c.at, VERSION.c.note)
    query = query.where(VERSION.c.workflow_id == workflow_id).order_by(VERSION.c.version)
    return [Version(*row) for row in await connection.execute(query)]


async def comments(connection: AsyncConnection, workflow_id: int) -> list[Comment]:
    """All comments on actions, oldest first; those of deleted actions too."""
    names = ("id", "action", "author", "text", "at", "resolved_at")
    query = sa.select(*(COMMENT.c[name] for name in names)).where(COMMENT.c.workflow_id == workflow_id).order_by(COMMENT.c.id)
    return [Comment(*row) for row in await connection.execute(query)]


async def comment(connection: AsyncConnection, workflow_id: int, action: str, author: str, text: str, now: datetime) -> int:
    """Add a comment; returns its id."""
    values = {"workflow_id": workflow_id, "action": action, "author": author, "text": text, "at": now}
    number: int = (await connection.execute(sa.insert(COMMENT).values(values).returning(COMMENT.c.id))).scalar_one()
    return number


async def resolve(connection: AsyncConnection, comment_id: int, now: datetime) -> None:
    """The matter of a comment is settled."""
    await connection.execute(sa.update(COMMENT).where(COMMENT.c.id == comment_id).values(resolved_at=now))


async def tasks(connection: AsyncConnection, ticket: int) -> Sequence[dict[str, Any]]:
    """What people have to do about a ticket."""
    query = sa.select(TASK.c.id, TASK.c.text, TASK.c.due_at, TASK.c.created_at, TASK.c.done_at).where(TASK.c.ticket == ticket)
    return [dict(row) for row in (await connection.execute(query.order_by(TASK.c.id))).mappings()]


async def finish_task(connection: AsyncConnection, task_id: int, now: datetime) -> bool:
    """A task is done; whether it was open."""
    query = sa.update(TASK).where(TASK.c.id == task_id, TASK.c.done_at.is_(None)).values(done_at=now)
    return bool((await connection.execute(query)).rowcount)
