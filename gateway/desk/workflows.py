"""Acts of users on workflows: edit, switch on or off, enrol tickets, comment (behaviour.md 3).

A workflow may be edited while tickets are in it. Each save makes a new version and, in the same
transaction, moves these tickets to the new version as table 3.4 says. All problems of a plan are
reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from typing import Any

from core.decide import decide
from core.decisions.outgoing import FinishRun
from core.events import EnrolAsked, UnenrolAsked, WorkflowEdited
from core.model.condition import condition_problem
from core.model.delay import window_problem
from core.model.workflow import Graph, Workflow, read
from core.pipeline import Pipeline
from core.rules.rights import Right
from core.workflow.edit import Edited, Impossible, affected, change, insert, remove
from core.workflow.enrol import eligible
from core.workflow.references import uses
from gateway.compose import template_catalogue
from gateway.desk.tickets import ActResult
from gateway.desk.transaction import Actor, Transaction, pipeline_named, status_of
from gateway.errors import Invalid, NotFound, Refused
from gateway.store.setup import workflow_history, workflows
from gateway.store.setup.workflows import SETTINGS
from gateway.store.tickets import tickets

SOURCES = ("email", "form", "phone", "chat", "messenger", "api", "manual")
DEFAULTS: Mapping[str, Any] = {
    "re_enroll": False,
    "on_leave": "continue",
    "exclude_sources": ["chat", "messenger"],
    "filter": None,
    "unenroll_when": None,
    "window": None,
}


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """A workflow to make; settings left out get their defaults, but ``enabled`` stays as it is."""

    pipeline: str
    status: str
    actions: list[dict[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saved:
    """A workflow after an edit.

    ``waiting`` counts tickets that waited in deleted actions, ``ended`` counts runs that ended.
    """

    workflow: Workflow
    version: int
    waiting: int = 0
    ended: int = 0


class WorkflowDesk(Actor):
    """Edit workflows, enrol tickets and take them out, comment on actions."""

    async def put(self, plans: Sequence[WorkflowPlan]) -> list[Saved]:
        """Add or change workflows to match the plans, all or none."""
        async with self.acting(Right.EDIT_WORKFLOWS) as act:
            _refuse_problems([each for plan in plans for each in await _problems(act, plan)])
            return [await self._put(act, plan) for plan in plans]

    async def _put(self, act: Transaction, plan: WorkflowPlan) -> Saved:
        """Add or change a workflow to match its plan."""
        pipeline = act.pipeline(plan.pipeline)
        status = status_of(pipeline, plan.status)
        connection = act.connection
        known = act.unit.desk.workflows.get(status.id)
        settings = {**DEFAULTS, **plan.settings}
        if known is None:
            place, by = (pipeline.id, status.id), (self.actor, act.now)
            settings = {"enabled": False, **settings}
            number = await workflows.add(connection, *place, plan.actions, *by, **settings)
            return Saved(await _reloaded(act, number), 1)
        await workflows.change(connection, known.id, **settings)
        if await workflows.actions_of(connection, known.id, known.version) == plan.actions:
            return Saved(await _reloaded(act, known.id), known.version)
        return await self._save(act, known, Edited(plan.actions), "import")

    async def set(
        self,
        pipeline: str,
        status: str,
        settings: Mapping[str, Any],
        *,
        enroll_existing: bool = False,
    ) -> tuple[Workflow, int, int]:
        """Change settings; ``enroll_existing`` enrols the tickets that are in the status (3.2).

        Returns the workflow, the number of tickets in its status, and the number enrolled.
        """
        async with self.acting(Right.EDIT_WORKFLOWS) as act:
            workflow = _workflow(act, pipeline, status)
            for name, value in settings.items():
                if problem := setting_problem(name, value):
                    raise Invalid(problem, name)
            _refuse_problems(await _unknown_names(act, act.pipeline(pipeline), settings))
            await workflows.change(act.unit.connection, workflow.id, **settings)
            workflow = await _reloaded(act, workflow.id)
            inside = await tickets.in_status(act.unit.connection, workflow.status_id)
            enrolled = await _enrol_all(act, workflow, inside) if enroll_existing else 0
        return workflow, len(inside), enrolled

    async def add(self, pipeline: str, status: str, after: str, action: Mapping[str, Any]) -> Saved:
        """Insert a new action after an existing one."""

        def edit(raw: Any, _: Graph) -> Edited:
            return insert(raw, after, action)

        return await self._edit(pipeline, status, f"insert {action.get('id')}", edit)

    async def change(
        self, pipeline: str, status: str, action: str, values: Mapping[str, Any]
    ) -> Saved:
        """Change values of an action by their keys."""
        return await self._edit(
            pipeline, status, f"edit {action}", lambda raw, _: change(raw, action, values)
        )

    async def delete(
        self, pipeline: str, status: str, action: str, *, following: bool, keep: str | None = None
    ) -> Saved:
        """Delete an action and, if ``following``, all actions after it.

        If only a branch is deleted, the actions of its path ``keep`` stay (S12).
        """
        edit = partial(remove, action_id=action, following=following, keep=keep)
        note = f"delete {action}{' and following' if following else ''}"
        return await self._edit(pipeline, status, note, edit)

    async def restore(self, pipeline: str, status: str, version: int) -> Saved:
        """Save the actions of an earlier version as a new one (3.7)."""
        async with self.acting(Right.EDIT_WORKFLOWS) as act:
            workflow = _workflow(act, pipeline, status)
            held = await workflow_history.versions(act.connection, workflow.id)
            actions = {each.version: each.actions for each in held}
            if version not in actions:
                raise NotFound(f"workflow {workflow.name} has no version {version}")
            edited, note = Edited(actions[version]), f"version {version} again"
            _refuse_problems(await _problems(act, WorkflowPlan(pipeline, status, edited.actions)))
            return await self._save(act, workflow, edited, note)

    async def drop(self, pipeline: str, status: str) -> int:
        """Delete the workflow, keeping its history (3.5); return how many tickets were in it."""
        async with self.acting(Right.EDIT_WORKFLOWS) as act:
            return await retire(act, _workflow(act, pipeline, status))

    async def _edit(
        self, pipeline: str, status: str, note: str, edit: Callable[[Any, Graph], Edited]
    ) -> Saved:
        """Save a workflow with its actions edited."""
        async with self.acting(Right.EDIT_WORKFLOWS) as act:
            workflow = _workflow(act, pipeline, status)
            raw = await workflows.actions_of(act.unit.connection, workflow.id, workflow.version)
            try:
                edited = edit(raw, workflow.graph)
            except Impossible as error:
                raise Refused(str(error)) from None
            _refuse_problems(await _problems(act, WorkflowPlan(pipeline, status, edited.actions)))
            return await self._save(act, workflow, edited, note)

    async def _save(self, act: Transaction, workflow: Workflow, edited: Edited, note: str) -> Saved:
        """Save a new version and move the tickets in the workflow to it (3.4)."""
        connection = act.unit.connection
        version = await workflows.save(
            connection, workflow, edited.actions, self.actor, act.now, note
        )
        new = workflows.graph_of(edited.actions)
        standing = await workflows.standing(connection, workflow.id)
        touched = [run for run in standing if affected(workflow.graph, new, run, edited.ended)]
        waiting = sum(run.place not in new or run.place in edited.ended for run in touched)
        await act.load_tickets([run.ticket for run in touched])
        ended = 0
        for run in touched:
            edit = WorkflowEdited(
                act.unit.tickets[run.ticket],
                replace(workflow, graph=new),
                workflow.graph,
                run,
                edited.ended,
            )
            decided = decide(edit, act.state, act.now)
            ended += any(isinstance(each, FinishRun) for each in decided)
            act.applier.perform(decided)
        return Saved(await _reloaded(act, workflow.id), version, waiting, ended)

    async def enroll(self, pipeline: str, status: str, number: int) -> ActResult:
        """Enrol a ticket in an enabled workflow, whatever its filters and re_enroll say (3.2)."""
        async with self.acting(Right.ENROL_TICKETS) as act:
            workflow, ticket = _workflow(act, pipeline, status), await act.ticket(number)
            act.do(EnrolAsked(ticket, workflow, act.cause))
        return ActResult((ticket.number,), act.events, redirected=act.redirected)

    async def unenroll(self, pipeline: str, status: str, number: int) -> ActResult:
        """Take a ticket out of a workflow."""
        async with self.acting(Right.ENROL_TICKETS) as act:
            workflow, ticket = _workflow(act, pipeline, status), await act.ticket(number)
            act.do(UnenrolAsked(ticket, workflow, act.cause))
        return ActResult((ticket.number,), act.events, redirected=act.redirected)

    async def comment(self, pipeline: str, status: str, action: str, text: str) -> int:
        """Store a comment on an action for other users, without mail (3.6); return its id."""
        if not text.strip():
            raise Invalid("a comment needs a text", "text")
        async with self.acting(Right.COMMENT_ON_WORKFLOWS) as act:
            if (found := _workflow(act, pipeline, status)).graph.action(action) is None:
                raise NotFound(f"workflow {found.name} has no action {action!r}")
            by, now = self.actor, act.now
            return await workflow_history.comment(act.connection, found.id, action, by, text, now)

    async def resolve(self, pipeline: str, status: str, action: str, number: int) -> None:
        """Mark a comment as resolved (3.6)."""
        async with self.acting(Right.COMMENT_ON_WORKFLOWS) as act:
            workflow = _workflow(act, pipeline, status)
            if not await workflow_history.resolve(
                act.unit.connection, workflow.id, action, number, act.now
            ):
                raise NotFound(f"action {action!r} of {workflow.name} has no comment {number}")


def setting_problem(name: str, value: Any) -> str | None:
    """Return the reason why a setting cannot have this value; None if it can."""
    if not _finite(value):
        return f"{name}: NaN and infinity are not allowed"
    match name:
        case "enabled" | "re_enroll":
            return None if isinstance(value, bool) else f"{name} is true or false"
        case "on_leave":
            return None if value in ("continue", "unenroll") else "on_leave is continue or unenroll"
        case "exclude_sources":
            if isinstance(value, list) and all(each in SOURCES for each in value):
                return None
            return f"exclude_sources is a list of {', '.join(SOURCES)}"
        case "filter" | "unenroll_when":
            problem = condition_problem(value) if value is not None else None
            return f"{name}: {problem}" if problem else None
        case "window":
            return window_problem(value) if value is not None else None
        case _:
            return f"unknown setting {name!r}: the settings are {', '.join(SETTINGS)}"


async def retire(act: Transaction, workflow: Workflow) -> int:
    """Delete a workflow and end its runs; return their number."""
    inside = [run.ticket for run in await workflows.standing(act.connection, workflow.id)]
    await act.load_tickets(inside)
    for number in inside:
        ticket = act.unit.tickets[number]
        act.do(UnenrolAsked(ticket, workflow, act.cause, "the workflow was deleted"))
    await act.settle()
    await workflows.delete(act.connection, workflow.id, act.now)
    return len(inside)


async def _enrol_all(act: Transaction, workflow: Workflow, numbers: Sequence[int]) -> int:
    """Enrol the tickets that the workflow's conditions allow; return their number."""
    await act.load_tickets(numbers)
    found = (act.unit.tickets[number] for number in numbers)
    live = (each for each in found if each.deleted_at is None and each.merged_into is None)
    fitting = [each for each in live if eligible(workflow, each, act.state)]
    for ticket in fitting:
        act.do(EnrolAsked(ticket, workflow, act.cause))
    return len(fitting)


async def _reloaded(act: Transaction, number: int) -> Workflow:
    """Reload all workflows into the unit of work and return one of them."""
    act.unit.desk.workflows = await workflows.load(act.unit.connection, act.unit.desk.pipelines)
    act.refresh_state()
    return next(each for each in act.unit.desk.workflows.values() if each.id == number)


def _workflow(act: Transaction, pipeline: str, status: str) -> Workflow:
    """Return the workflow of a status."""
    found = act.pipeline(pipeline)
    workflow = act.unit.desk.workflows.get(status_of(found, status).id)
    if workflow is None:
        place = f"status {status} of pipeline {found.name}"
        raise NotFound(f"{place} has no workflow: add one with workflow import")
    return workflow


def _refuse_problems(problems: Sequence[str]) -> None:
    """Raise Invalid with all problems, if there are any."""
    if problems:
        raise Invalid("; ".join(problems))


async def _problems(act: Transaction, plan: WorkflowPlan) -> list[str]:
    """Return all problems of a plan, each headed by the names of the pipeline and status."""
    pipeline = pipeline_named(act.unit.desk.pipelines, plan.pipeline)
    place = f"{plan.pipeline} / {plan.status}"
    if pipeline is None:
        return [f"{place}: unknown pipeline {plan.pipeline!r}"]
    found = [*_status_problems(pipeline, plan), *_action_problems(plan)]
    found += filter(None, (setting_problem(*setting) for setting in plan.settings.items()))
    found += await _unknown_names(act, pipeline, {"actions": plan.actions, **plan.settings})
    return [f"{place}: {each}" for each in found]


def _status_problems(pipeline: Pipeline, plan: WorkflowPlan) -> list[str]:
    """Return one problem if the plan names an unknown status, else an empty result."""
    if pipeline.named(plan.status) is not None:
        return []
    return [f"pipeline {pipeline.name} has no status {plan.status!r}"]


def _action_problems(plan: WorkflowPlan) -> list[str]:
    """Return the problems of the actions of a plan."""
    infinite = [] if _finite(plan.actions) else ["actions: NaN and infinity are not allowed"]
    return [*infinite, *read(plan.actions)[1]]


def _finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite: JSON has neither NaN nor infinity."""
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or isfinite(value)


async def _unknown_names(
    act: Transaction, pipeline: Pipeline, flow: Mapping[str, Any]
) -> list[str]:
    """Return a problem for each template, status or pipeline in a workflow that does not exist."""
    known = act.unit.desk.pipelines
    catalogue = await template_catalogue.load(act.connection)
    problems = dict[str, None]()
    for use in uses(flow, pipeline.name):
        match use.what:
            case "template":
                exists = use.name.strip().casefold() in catalogue
            case "pipeline":
                exists = pipeline_named(known, use.name.strip()) is not None
            case "status":
                meant = use.pipelines(pipeline, known.values())
                exists = any(each.named(use.name.strip()) is not None for each in meant)
            case _:
                exists = True  # a user may be added later, and be outside of the desk
        if not exists and not use.part:
            problems[f"{use.place}: no {use.what} {use.name!r}"] = None
    return list(problems)
