"""Find workflow actions that name a status, and rename the status in them (behaviour.md P04)."""

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
    """Return the actions that move tickets to this status, each with its workflow."""
    known = (await workflows.load(connection, pipelines)).values()
    return tuple(
        f"{action.id} of {workflow.name}"
        for workflow in known
        for action in workflow.graph.all()
        if action.kind == "set_status" and _names(action.config, workflow, pipeline, status)
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
    """Replace status ``old`` by ``new`` in all workflow actions.

    Each changed workflow gets a new version.
    """
    for workflow in (await workflows.load(connection, pipelines)).values():
        raw = copy.deepcopy(await workflows.actions_of(connection, workflow.id, workflow.version))
        changed = False
        for action in _flattened(raw):
            if action.get("kind") == "set_status" and _names(action, workflow, pipeline, old):
                action["status"] = new
                changed = True
        if changed:
            note = f"status {old} is {new} now"
            await workflows.save(connection, workflow, raw, author, now, note)


def _names(config: Any, workflow: Workflow, pipeline: Pipeline, status: str) -> bool:
    """Return whether an action names this status.

    An action that names no pipeline means the pipeline of its workflow.
    """
    if str(config.get("status", "")).casefold() != status.casefold():
        return False
    named = config.get("pipeline")
    if named is None:
        return workflow.pipeline_id == pipeline.id
    return str(named).casefold() == pipeline.name.casefold()


def _flattened(actions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the actions of a tree, given as JSON values, with the actions inside branches."""
    for action in actions:
        yield action
        for branch in action.get("branches", []):
            yield from _flattened(branch.get("actions", []))
        yield from _flattened(action.get("otherwise", []))
