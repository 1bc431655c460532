"""Statuses are named in actions of workflows: who uses one, and what follows when it gets another
name or goes (behaviour.md P04).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.workflow import Workflow
from core.pipeline import Pipeline
from gateway.store.setup import workflows


async def uses(
    connection: AsyncConnection, pipelines: dict[int, Pipeline], pipeline: Pipeline, status: str
) -> tuple[str, ...]:
    """The actions that move tickets to this status of this pipeline, each with its workflow."""
    known = (await workflows.load(connection, pipelines)).values()
    return tuple(
        f"{action.id} of {workflow.name}"
        for workflow in known
        for action in workflow.graph.all()
        if action.kind == "set_status" and _means(action.config, workflow, pipeline, status)
    )


async def rename(
    connection: AsyncConnection,
    pipelines: dict[int, Pipeline],
    pipeline: Pipeline,
    old: str,
    new: str,
    author: str,
    now: datetime,
) -> None:
    """Every action that names the status names the other one instead, in a new version of its
    workflow.
    """
    for workflow in (await workflows.load(connection, pipelines)).values():
        raw = copy.deepcopy(await workflows.actions_of(connection, workflow.id, workflow.version))
        changed = False
        for action in _all(raw):
            if action.get("kind") == "set_status" and _means(action, workflow, pipeline, old):
                action["status"] = new
                changed = True
        if changed:
            await workflows.save(
                connection, workflow, raw, author, now, f"status {old} is {new} now"
            )


def _means(config: Any, workflow: Workflow, pipeline: Pipeline, status: str) -> bool:
    if str(config.get("status", "")).casefold() != status.casefold():
        return False
    named = config.get("pipeline")
    return (
        workflow.pipeline_id == pipeline.id
        if named is None
        else str(named).casefold() == pipeline.name.casefold()
    )


def _all(actions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for action in actions:
        yield action
        for branch in action.get("branches", []):
            yield from _all(branch.get("actions", []))
        yield from _all(action.get("otherwise", []))
