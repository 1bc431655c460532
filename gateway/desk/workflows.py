"""What an administrator can do with workflows: edit them while tickets wait in them, switch them,
put tickets in and out (behaviour.md 3).

Every save is a new version; tickets that wait follow it by table 3.4, in the same transaction. What
can go wrong: actions that are not sound, names that are not there, a user without the right; all
problems are told at once (Refused) and nothing was changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from core.decide import decide
from core.events import EnrolAsked, UnenrolAsked, WorkflowEdited
from core.model.condition import condition_problem
from core.model.delay import window_problem
from core.model.workflow import Graph, Workflow, read
from core.pipeline import Pipeline, Status
from core.workflow.edit import Edited, Impossible, affected, change, insert, remove
from core.workflow.enrol import eligible
from gateway.compose import template_catalogue
from gateway.compose.templates import Template, check
from gateway.desk.tickets import ActResult
from gateway.desk.transaction import BUILT_IN, Actor, Transaction, status_of
from gateway.errors import Refused
from gateway.store.setup import templates, workflow_history, workflows
from gateway.store.setup.templates import StoredTemplate, Words
from gateway.store.setup.workflows import SETTINGS
from gateway.store.tickets import tickets
from gateway.store.tickets.threads import chunks

RIGHTS = frozenset({"admin", "automation"})  # behaviour.md 3.8
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
    """A workflow as it is to be; ``settings`` that are left out get their defaults, but for
    ``enabled``, which stays.
    """

    pipeline: str
    status: str
    actions: list[dict[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saved:
    """A workflow after an edit: its version, how many tickets stood in what was deleted, and how
    many runs that ended.
    """

    workflow: Workflow
    version: int
    waiting: int = 0
    ended: int = 0


class WorkflowDesk(Actor):
    """What this person can do with workflows; see the module."""

    async def put(self, plans: Sequence[WorkflowPlan]) -> list[Saved]:
        """Bring workflows to what the plans say, all or none."""
        saved = []
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            problems = [problem for plan in plans for problem in await _problems(act, plan)]
            if problems:
                raise Refused("; ".join(problems))
            for plan in plans:
                pipeline = act.pipeline(plan.pipeline)
                saved.append(await self._put(act, pipeline, status_of(pipeline, plan.status), plan))
        return saved

    async def _put(
        self, act: Transaction, pipeline: Pipeline, status: Status, plan: WorkflowPlan
    ) -> Saved:
        connection = act.unit.connection
        known = act.unit.desk.workflows.get(status.id)
        settings = {**DEFAULTS, **plan.settings}
        if known is None:
            number = await workflows.add(
                connection,
                pipeline.id,
                status.id,
                plan.actions,
                self.actor,
                act.now,
                **{"enabled": False, **settings},
            )
            return Saved(await _loaded(act, number), 1)
        await workflows.change(connection, known.id, **settings)
        if await workflows.actions_of(connection, known.id, known.version) == plan.actions:
            return Saved(await _loaded(act, known.id), known.version)
        return await self._save(act, known, Edited(plan.actions), "import")

    async def set(
        self,
        pipeline: str,
        status: str,
        settings: Mapping[str, Any],
        *,
        enroll_existing: bool = False,
    ) -> tuple[Workflow, int, int]:
        """(the workflow, tickets now in its status, those of them that were enrolled). Switching on
        enrols nobody unless asked to (3.2).
        """
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            workflow = _workflow(act, pipeline, status)
            for name, value in settings.items():
                if problem := setting_problem(name, value):
                    raise Refused(problem)
            await workflows.change(act.unit.connection, workflow.id, **settings)
            workflow = await _loaded(act, workflow.id)
            inside = await tickets.in_status(act.unit.connection, workflow.status_id)
            enrolled = await _enrol_all(act, workflow, inside) if enroll_existing else 0
        return workflow, len(inside), enrolled

    async def add(self, pipeline: str, status: str, after: str, action: Mapping[str, Any]) -> Saved:
        """Insert an action after another one."""
        return await self._edit(
            pipeline,
            status,
            f"insert {action.get('id')}",
            lambda raw, _: insert(raw, after, action),
        )

    async def change(
        self, pipeline: str, status: str, action: str, values: Mapping[str, Any]
    ) -> Saved:
        """Other values for keys of an action."""
        return await self._edit(
            pipeline, status, f"edit {action}", lambda raw, _: change(raw, action, values)
        )

    async def delete(
        self, pipeline: str, status: str, action: str, *, following: bool, keep: str | None = None
    ) -> Saved:
        """Only this action, or it and all below it (S12)."""
        note = f"delete {action}{' and following' if following else ''}"
        return await self._edit(
            pipeline,
            status,
            note,
            lambda raw, graph: remove(raw, graph, action, following=following, keep=keep),
        )

    async def restore(self, pipeline: str, status: str, version: int) -> Saved:
        """The actions of an earlier version again, as a new one (3.7)."""
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            workflow = _workflow(act, pipeline, status)
            held = await workflow_history.versions(act.unit.connection, workflow.id)
            found = next((each for each in held if each.version == version), None)
            if found is None:
                raise Refused(f"workflow {workflow.name} has no version {version}")
            return await self._save(
                act, workflow, Edited(found.actions), f"version {version} again"
            )

    async def drop(self, pipeline: str, status: str) -> int:
        """Delete the workflow: who is in it is taken out, its history stays (3.5). Returns how many
        that were.
        """
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            return await retire(act, _workflow(act, pipeline, status))

    async def _edit(self, pipeline: str, status: str, note: str, edit: Any) -> Saved:
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            workflow = _workflow(act, pipeline, status)
            raw = await workflows.actions_of(act.unit.connection, workflow.id, workflow.version)
            try:
                edited = edit(raw, workflow.graph)
            except Impossible as error:
                raise Refused(str(error)) from None
            plan = WorkflowPlan(pipeline, status, edited.actions)
            if problems := await _problems(act, plan):
                raise Refused("; ".join(problems))
            return await self._save(act, workflow, edited, note)

    async def _save(self, act: Transaction, workflow: Workflow, edited: Edited, note: str) -> Saved:
        """A new version, and what it means for the tickets inside."""
        connection = act.unit.connection
        version = await workflows.save(
            connection, workflow, edited.actions, self.actor, act.now, note
        )
        new = workflows.graph_of(edited.actions)
        touched = [
            each
            for each in await workflows.standing(connection, workflow.id)
            if affected(workflow.graph, new, each, edited.ended)
        ]
        waiting = sum(each.place not in new or each.place in edited.ended for each in touched)
        ended = 0
        for piece in chunks([each.ticket for each in touched]):
            await act.unit.load_tickets(piece)
        for each in touched:
            event = WorkflowEdited(
                act.unit.tickets[each.ticket],
                replace(workflow, graph=new),
                workflow.graph,
                each,
                edited.ended,
            )
            decided = decide(event, act.state, act.now)
            ended += any(type(after).__name__ == "FinishRun" for after in decided)
            act.applier.perform(decided)
        return Saved(await _loaded(act, workflow.id), version, waiting, ended)

    # ---- tickets in and out

    async def enroll(self, pipeline: str, status: str, number: int) -> ActResult:
        """Put a ticket in by hand: filters and the once-rule do not bind (3.2), but it must be on,
        and the ticket not in it.
        """
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            workflow, ticket = _workflow(act, pipeline, status), await act.ticket(number)
            act.do(EnrolAsked(ticket, workflow, act.cause))
        return ActResult((ticket.number,), act.events)

    async def unenroll(self, pipeline: str, status: str, number: int) -> ActResult:
        """Take a ticket out that is in."""
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            workflow, ticket = _workflow(act, pipeline, status), await act.ticket(number)
            act.do(UnenrolAsked(ticket, workflow, act.cause))
        return ActResult((ticket.number,), act.events)

    async def comment(self, pipeline: str, status: str, action: str, text: str) -> int:
        """A word to other users on an action (3.6): anybody may, nothing is sent. Returns its
        number.
        """
        if not text.strip():
            raise Refused("a comment needs a text")
        async with self.acting() as act:
            workflow = _workflow(act, pipeline, status)
            if workflow.graph.action(action) is None:
                raise Refused(f"workflow {workflow.name} has no action {action!r}")
            return await workflow_history.comment(
                act.unit.connection, workflow.id, action, self.actor, text, act.now
            )

    async def resolve(self, pipeline: str, status: str, action: str, number: int) -> None:
        """The matter of a comment is settled (3.6): anybody may say so."""
        async with self.acting() as act:
            workflow = _workflow(act, pipeline, status)
            if not await workflow_history.resolve(
                act.unit.connection, workflow.id, action, number, act.now
            ):
                raise Refused(f"action {action!r} of {workflow.name} has no comment {number}")

    # ---- templates

    async def put_template(
        self,
        name: str,
        language: str,
        subject: str | None,
        text: str | None,
        html: str | None,
        *,
        transactional: bool | None,
    ) -> tuple[StoredTemplate, tuple[str, ...]]:
        """Make a template or change it; what is not given stays. Returns it, and the tokens in it
        that nobody knows.
        """
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            connection = act.unit.connection
            known = (await template_catalogue.load(connection)).get(name.strip().casefold())
            if known is None and (not name.strip() or subject is None or text is None):
                raise Refused(
                    f"there is no template {name!r}: a new one needs a subject and a text"
                )
            if (
                known is not None
                and subject is None
                and text is None
                and html is None
                and transactional is None
            ):
                raise Refused("say what is to be set")
            old = known.best(language) if known is not None else Words("", "")
            new = Words(
                old.subject if subject is None else subject,
                old.text if text is None else text,
                old.html if html is None else html,
            )
            if text is not None and html is None:
                new = Words(new.subject, new.text, None)  # the old HTML would say something else
            unknown = check(Template(name, new.subject, new.text, new.html))
            words = {language: new} if new != old or known is None else {}
            builtin = known is not None and known.builtin
            chosen = (
                known.transactional
                if known is not None and transactional is None
                else transactional
            )
            await templates.put(
                connection,
                known.name if known else name.strip(),
                words,
                transactional=chosen,
                builtin=builtin,
            )
            return (await template_catalogue.load(connection))[name.strip().casefold()], unknown

    async def delete_template(self, name: str) -> None:
        """Remove a template; Refused while a workflow sends it."""
        async with self.acting() as act:
            _refuse_without_right(act, self.actor)
            found = (await template_catalogue.load(act.unit.connection)).get(
                name.strip().casefold()
            )
            if found is None:
                raise Refused(f"there is no template {name!r}")
            for workflow in act.unit.desk.workflows.values():
                for action in workflow.graph.all():
                    if (
                        action.kind == "send_email"
                        and str(action.config["template"]).casefold() == found.name.casefold()
                    ):
                        raise Refused(
                            f"the template {found.name!r} is sent by {action.id} of {workflow.name}"
                        )
            await templates.delete(act.unit.connection, found)


def setting_problem(name: str, value: Any) -> str | None:
    """Why a setting cannot have this value, or None."""
    if not _finite(value):
        return f"{name} holds a number that cannot be kept"
    match name:
        case "enabled" | "re_enroll":
            return None if isinstance(value, bool) else f"{name} is true or false"
        case "on_leave":
            return None if value in ("continue", "unenroll") else "on_leave is continue or unenroll"
        case "exclude_sources":
            unknown = (
                [each for each in value if each not in SOURCES]
                if isinstance(value, list)
                else ["?"]
            )
            return f"exclude_sources is a list of {', '.join(SOURCES)}" if unknown else None
        case "filter" | "unenroll_when":
            problem = condition_problem(value) if value is not None else None
            return f"{name}: {problem}" if problem else None
        case "window":
            return window_problem(value) if value is not None else None
        case _:
            return f"there is no setting {name!r}; they are {', '.join(SETTINGS)}"


async def retire(act: Transaction, workflow: Workflow) -> int:
    """A workflow is deleted, and its runs end."""
    inside = await workflows.standing(act.unit.connection, workflow.id)
    for piece in chunks([each.ticket for each in inside]):
        await act.unit.load_tickets(piece)
    for each in inside:
        act.do(UnenrolAsked(act.unit.tickets[each.ticket], workflow, act.cause))
    await act.settle()
    await workflows.delete(act.unit.connection, workflow.id, act.now)
    return len(inside)


async def _enrol_all(act: Transaction, workflow: Workflow, numbers: Sequence[int]) -> int:
    enrolled = 0
    for piece in chunks(numbers):
        await act.unit.load_tickets(piece)
        for number in piece:
            ticket = act.unit.tickets[number]
            if (
                ticket.deleted_at is None
                and ticket.merged_into is None
                and eligible(workflow, ticket, act.state)
            ):
                act.do(EnrolAsked(ticket, workflow, act.cause))
                enrolled += 1
    return enrolled


async def _loaded(act: Transaction, number: int) -> Workflow:
    """The workflow as it is now, also in the book of this act."""
    act.unit.desk.workflows = await workflows.load(act.unit.connection, act.unit.desk.pipelines)
    act.renew()
    return next(each for each in act.unit.desk.workflows.values() if each.id == number)


def _workflow(act: Transaction, pipeline: str, status: str) -> Workflow:
    found = act.pipeline(pipeline)
    workflow = act.unit.desk.workflows.get(status_of(found, status).id)
    if workflow is None:
        raise Refused(
            f"status {status} of pipeline {found.name} has no workflow: bring one with "
            "workflow import"
        )
    return workflow


def _refuse_without_right(act: Transaction, actor: str) -> None:
    user = act.unit.desk.users.get(actor)
    if actor != BUILT_IN and (user is None or user.role not in RIGHTS):
        raise Refused(f"{actor} has no right to edit workflows: the roles admin and automation do")


async def _problems(act: Transaction, plan: WorkflowPlan) -> list[str]:
    """Everything that is wrong with a plan, each with the place it is at."""
    where = f"{plan.pipeline} / {plan.status}"
    pipeline = next(
        (
            each
            for each in act.unit.desk.pipelines.values()
            if each.name.casefold() == plan.pipeline.casefold()
        ),
        None,
    )
    if pipeline is None:
        return [f"there is no pipeline {plan.pipeline!r}"]
    found = (
        []
        if pipeline.named(plan.status) is not None
        else [f"pipeline {pipeline.name} has no status {plan.status!r}"]
    )
    graph, problems = read(plan.actions)
    found += [] if _finite(plan.actions) else ["actions hold a number that cannot be kept"]
    found += [*problems, *await _missing(act, pipeline, graph)]
    found += [
        problem
        for name, value in plan.settings.items()
        if (problem := setting_problem(name, value)) is not None
    ]
    return [f"{where}: {each}" for each in found]


def _finite(value: Any) -> bool:
    """Whether all numbers in it are some: JSON has no NaN and no infinity, while people's files
    may.
    """
    match value:
        case dict():
            return all(map(_finite, value.values()))
        case list():
            return all(map(_finite, value))
        case _:
            return not isinstance(value, float) or isfinite(value)


async def _missing(act: Transaction, pipeline: Pipeline, graph: Graph) -> list[str]:
    """Names in actions that stand for nothing: a template, a status, a pipeline."""
    known = await template_catalogue.load(act.unit.connection)
    by_name = {each.name.casefold(): each for each in act.unit.desk.pipelines.values()}
    missing = []
    for action in graph.all():
        if (
            action.kind == "send_email"
            and str(action.config.get("template", "")).strip().casefold() not in known
        ):
            missing.append(f"{action.id}: there is no template {action.config.get('template')!r}")
        if action.kind == "set_status" and "status" in action.config:
            into = by_name.get(str(action.config.get("pipeline", pipeline.name)).casefold())
            if into is None or into.named(str(action.config["status"])) is None:
                missing.append(f"{action.id}: there is no status {action.config['status']!r}")
    return missing
