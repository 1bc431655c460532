"""Describe a workflow: its document for ``--json``, and its actions as lines at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import readable
from gateway.errors import NotFound

if TYPE_CHECKING:
    from core.model.workflow import Workflow
    from core.pipeline import Pipeline, Status
    from gateway.store.setup.desk_config import DeskConfig

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="The name of the pipeline.")]
StatusName = Annotated[str, typer.Argument(metavar="STATUS", help="The name of the status.")]

STEP = "    "
LONGEST = 80  # characters of a value that are shown; export prints all of it
NOT_INLINE = ("id", "kind", "branches", "otherwise", "comments")  # keys shown in another way


def workflow_of(desk: DeskConfig, pipeline: str, status: str) -> Workflow:
    """Return the workflow of a status; raise NotFound if there is no such workflow."""
    found, place = status_of(desk, pipeline, status)
    workflow = desk.workflows.get(place.id)
    if workflow is None:
        raise NotFound(f"status {place.name!r} of pipeline {found.name} has no workflow")
    return workflow


def status_of(desk: DeskConfig, pipeline: str, status: str) -> tuple[Pipeline, Status]:
    """Return a pipeline and one of its statuses; raise NotFound if a name is unknown."""
    known = {each.name.casefold(): each for each in desk.pipelines.values()}
    if (found := known.get(pipeline.casefold())) is None:
        raise NotFound(f"unknown pipeline {pipeline!r}")
    if (place := found.named(status)) is None:
        raise NotFound(f"pipeline {found.name} has no status {status!r}")
    return found, place


async def described(
    connection: Any, desk: DeskConfig, workflow: Workflow, *, comments: bool = True
) -> dict[str, Any]:
    """Return a workflow with the keys of its TOML file, its version, and comments on actions."""
    from gateway.store.setup import workflows

    pipeline = desk.pipelines[workflow.pipeline_id]
    actions = await workflows.actions_of(connection, workflow.id, workflow.version)
    if comments:
        by_action = await _comments(connection, workflow)
        actions = [_with_comments(each, by_action) for each in actions]
    return {
        "pipeline": pipeline.name,
        "status": pipeline.status(workflow.status_id).name,
        "enabled": workflow.enabled,
        "re_enroll": workflow.re_enroll,
        "on_leave": workflow.on_leave,
        "exclude_sources": sorted(workflow.exclude_sources),
        "filter": workflow.filter,
        "unenroll_when": workflow.unenroll_when,
        "window": workflow.window,
        "version": workflow.version,
        "actions": actions,
    }


async def _comments(connection: Any, workflow: Workflow) -> dict[str, list[dict[str, Any]]]:
    """Return the comments on a workflow, keyed by the id of the action."""
    from gateway.store.setup import workflow_history

    found: dict[str, list[dict[str, Any]]] = {}
    for each in await workflow_history.comments(connection, workflow.id):
        found.setdefault(each.action, []).append(
            {
                "id": each.id,
                "author": each.author,
                "text": each.text,
                "at": each.at,
                "resolved_at": each.resolved_at,
            }
        )
    return found


def _with_comments(
    action: dict[str, Any], comments: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return an action and the actions inside it, each with its comments."""
    shown = {**action, "comments": comments.get(action["id"], [])}
    if "branches" in action:
        shown["branches"] = [
            {**each, "actions": [_with_comments(a, comments) for a in each.get("actions", [])]}
            for each in action["branches"]
        ]
    if "otherwise" in action:
        shown["otherwise"] = [_with_comments(each, comments) for each in action["otherwise"]]
    return shown


def outline(actions: Sequence[dict[str, Any]], margin: str = "") -> Iterator[str]:
    """Yield a line for each action; actions in branches are indented."""
    for action in actions:
        words = "  ".join(
            f"{name} {_short(value)}" for name, value in action.items() if name not in NOT_INLINE
        )
        yield f"{margin}{action['id']}  {action['kind']}{'  ' if words else ''}{words}"
        for each in action.get("comments", ()):
            resolved = " (resolved)" if each["resolved_at"] else ""
            yield (
                f"{margin}{STEP}# {each['id']} {each['author']}, {readable(each['at'])}{resolved}: "
                f"{_short(each['text'])}"
            )
        for branch in action.get("branches", ()):
            yield f"{margin}{STEP}{branch['name']}: when {condition(branch['when'])}"
            yield from outline(branch.get("actions", ()), margin + 2 * STEP)
        if action["kind"] == "branch":
            yield f"{margin}{STEP}otherwise"
            yield from outline(action.get("otherwise", ()), margin + 2 * STEP)


def condition(given: dict[str, Any] | list[Any]) -> str:
    """Return a condition as one line."""
    if isinstance(given, list):
        given = {"all": given}
    for name, word in (("all", " and "), ("any", " or ")):
        if name in given:
            return f"({word.join(map(condition, given[name]))})"
    words = (given["field"], given.get("op", "eq"), given.get("value"))
    return " ".join(_short(each) for each in words if each is not None)


def _short(value: object) -> str:
    text = readable(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
