"""Changes of pipelines and statuses by administrators (behaviour.md 2.5).

Only one change moves tickets: deleting a status and naming another status for its tickets (P04).
These moves follow the usual rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from core.events import Cause, MoveAsked
from core.pipeline import Pipeline, Status, StatusState
from core.rules import structure
from core.rules.rights import Right
from gateway.desk.names import write_name
from gateway.desk.transaction import Actor, Transaction, enforce, pipeline_named, status_of
from gateway.desk.workflows import retire
from gateway.store.setup import default_workflows, pipelines, references
from gateway.store.tickets import tickets
from gateway.store.tickets.tickets import TicketEvent
from gateway.validation import refuse_unnamed

NewStatus = tuple[str, StatusState]  # name, state
WantedStatus = tuple[int | None, str, StatusState]  # id (None for a new one), name, state


class Switches(TypedDict, total=False):
    """Settings of a pipeline; each of the two triggers is the name of a status, or None for off."""

    set_close_date: bool
    on_email_sent: str | None
    on_customer_reply: str | None
    strangers: str
    allow_back: bool
    relay: bool


@dataclass(frozen=True, slots=True)
class StatusPlan:
    """A wanted status; ``was`` is its present name if it is to be renamed."""

    name: str
    state: StatusState
    was: str | None = None


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """A wanted pipeline: all its statuses in order, and the switches to set."""

    name: str
    statuses: tuple[StatusPlan, ...]
    switches: Switches


@dataclass(frozen=True, slots=True)
class Deleted:
    """The result of deleting a status: the tickets moved out of it, and the history entries."""

    moved: tuple[int, ...]
    events: tuple[TicketEvent, ...]


class PipelineDesk(Actor):
    """Add, change and delete pipelines and statuses."""

    async def add_pipeline(self, name: str, statuses: Sequence[NewStatus]) -> Pipeline:
        """Add a pipeline with these statuses in order (P03)."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            return await _add(act, name, statuses)

    async def set_pipeline(self, name: str, switches: Switches) -> Pipeline:
        """Set switches of a pipeline; existing tickets stay as they are (C11)."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            return await _set(act, act.pipeline(name), switches)

    async def arrange_pipelines(self, plans: Sequence[PipelinePlan]) -> None:
        """Change pipelines to match the plans (all or none); pipelines without a plan stay.

        A status that its plan leaves out is deleted (P04).
        """
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            for plan in plans:
                await _arrange(act, plan)

    async def delete_pipeline(self, name: str) -> None:
        """Delete a pipeline that nothing uses; never the default one (P06)."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            uses = await pipelines.pipeline_references(act.connection, found := act.pipeline(name))
            enforce(structure.refuse_pipeline_deletion(found, uses))
            for status in found.statuses:
                await _retire(act, status)
            await pipelines.delete(act.connection, found)

    async def rename_pipeline(self, old: str, new: str) -> Pipeline:
        """Rename a pipeline; everything that names the pipeline follows."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            found, known = act.pipeline(old), act.unit.desk.pipelines
            refuse_unnamed("a pipeline", "name", new)
            enforce(structure.refuse_switches(found, {"name": new}, known.values()))
            await write_name(
                act,
                lambda use, _: use.names("pipeline", found.name),
                new,
                f"pipeline {found.name} is {new} now",
            )
            return await pipelines.change(act.connection, found, name=new)

    async def add_status(self, pipeline: str, name: str, state: StatusState) -> Pipeline:
        """Add a status at the end."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            found = act.pipeline(pipeline)
            refuse_unnamed("a status", "name", name)
            enforce(structure.refuse_status_name(found, name))
            await pipelines.add_status(act.unit.connection, found, name, state)
            return await pipelines.named(act.unit.connection, pipeline)

    async def rename_status(self, pipeline: str, old: str, new: str) -> Pipeline:
        """Rename a status; everything that uses the status then uses the new name."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            found, status = _status_named(act, pipeline, old)
            refuse_unnamed("a status", "name", new)
            enforce(structure.refuse_status_name(found, new, status))
            await pipelines.rename_status(act.connection, status, new)
            await _rename_everywhere(act, found, old, new)
            return await pipelines.named(act.connection, pipeline)

    async def move_status(self, pipeline: str, name: str, position: int) -> Pipeline:
        """Put a status at another position; this may change the first open status (P01)."""
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            found, status = _status_named(act, pipeline, name)
            enforce(structure.refuse_position(found, position))
            await pipelines.move_status(act.connection, found, status, position)
            return await pipelines.named(act.connection, pipeline)

    async def flip_status(self, pipeline: str, name: str, state: StatusState) -> tuple[Status, int]:
        """Make an open status closed or a closed one open; return it and the number of its tickets.

        These tickets keep their close dates (C10); the number is 0 if the state did not change.
        """
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            found, status = _status_named(act, pipeline, name)
            enforce(structure.refuse_state(found, status, state))
            await pipelines.set_status_state(act.connection, status, state)
            inside = await pipelines.live_tickets(act.connection, status)
            return replace(status, state=state), inside if state != status.state else 0

    async def delete_status(self, pipeline: str, name: str, move_to: str | None = None) -> Deleted:
        """Delete a status; if ``move_to`` is given, first move tickets and references there (P04).

        The tickets move by the rules of the close date, and no status workflow runs (P05).
        """
        async with self.acting(Right.MANAGE_PIPELINES) as act:
            found, status = _status_named(act, pipeline, name)
            enforce(structure.refuse_missing_status(found, status))
            moved = await _empty(act, found, status, move_to) if move_to is not None else ()
            found = await pipelines.named(act.unit.connection, found.name)
            await _delete(act, found, status)
        return Deleted(moved, act.events)


def _status_named(act: Transaction, pipeline: str, status: str) -> tuple[Pipeline, Status]:
    """Return a pipeline and one of its statuses by name; NotFound where there is none."""
    found = act.pipeline(pipeline)
    return found, status_of(found, status)


async def _add(act: Transaction, name: str, statuses: Sequence[NewStatus]) -> Pipeline:
    """Add a pipeline with its default workflows."""
    refuse_unnamed("a pipeline", "name", name)
    known = await pipelines.load_pipelines(act.connection)
    enforce(structure.refuse_new_pipeline(name, statuses, known.values()))
    made = await pipelines.add(act.connection, name, statuses)
    await default_workflows.workflows_for(act.connection, made, act.now)
    return made


async def _set(act: Transaction, pipeline: Pipeline, switches: Switches) -> Pipeline:
    """Set switches; the statuses of the triggers are looked up by name."""
    values: dict[str, Any] = dict(switches)
    for trigger in structure.TRIGGERS:
        if isinstance(target := values.get(trigger), str):
            values[trigger] = status_of(pipeline, target).id
    enforce(structure.refuse_switches(pipeline, values, act.unit.desk.pipelines.values()))
    return await pipelines.change(act.connection, pipeline, **values)


async def _arrange(act: Transaction, plan: PipelinePlan) -> None:
    """Add or change one pipeline to match its plan."""
    connection = act.unit.connection
    found = pipeline_named(await pipelines.load_pipelines(connection), plan.name)
    if found is None:
        found = await _add(act, plan.name, [(each.name, each.state) for each in plan.statuses])
    wanted = await _wanted(act, found, plan)
    enforce(structure.refuse_arrangement(found, wanted))
    arranged = await _set(act, await pipelines.arrange(connection, found, wanted), plan.switches)
    kept = {status_id for status_id, _, _ in wanted}
    for status in found.statuses:
        if status.id not in kept:
            await _delete(act, arranged, status)
            arranged = await pipelines.named(connection, plan.name)


async def _wanted(act: Transaction, found: Pipeline, plan: PipelinePlan) -> list[WantedStatus]:
    """Return the statuses of a plan, and rename statuses in the actions that name them."""
    wanted: list[WantedStatus] = []
    for each in plan.statuses:
        refuse_unnamed("a status", "name", each.name)
        own = found.named(each.name)
        if own is None and each.was is not None:
            own = status_of(found, each.was)
        wanted.append((own.id if own is not None else None, each.name, each.state))
        if own is not None and own.name != each.name:
            await _rename_everywhere(act, found, own.name, each.name)
    return wanted


async def _empty(
    act: Transaction, pipeline: Pipeline, status: Status, move_to: str
) -> tuple[int, ...]:
    """Let ``move_to`` replace a status in tickets and references; return the visible tickets.

    Tickets in the trash and merged tickets are moved too, but users do not see them.
    """
    target = status_of(pipeline, move_to)
    enforce(structure.refuse_replacement(status, target))
    unit, connection = act.unit, act.unit.connection
    inside = await tickets.in_status(connection, status.id)
    await unit.load_tickets(inside)
    cause = Cause("admin", user=act.cause.user)
    for number in inside:
        ticket = unit.tickets[number]
        act.do(MoveAsked(ticket, pipeline, target.id, cause, person=False, migration=True))
    await act.settle()
    await pipelines.repoint(connection, pipeline, status, target)
    await _rename_everywhere(act, pipeline, status.name, target.name)
    moved = (unit.tickets[number] for number in inside)
    return tuple(t.number for t in moved if t.deleted_at is None and t.merged_into is None)


async def _delete(act: Transaction, pipeline: Pipeline, status: Status) -> None:
    """Delete an unused status and its workflow."""
    connection = act.unit.connection
    uses = await pipelines.references(connection, pipeline, status)
    enforce(structure.refuse_status_deletion(pipeline, status, uses))
    await pipelines.delete_status(connection, pipeline, status)
    await _retire(act, status)


async def _retire(act: Transaction, status: Status) -> None:
    """Delete the workflow of a status, if the status has one."""
    workflow = act.unit.desk.workflows.get(status.id)
    if workflow is not None:
        await retire(act, workflow)


async def _rename_everywhere(act: Transaction, pipeline: Pipeline, old: str, new: str) -> None:
    """Replace the name of a status in all workflows and scheduled replies."""
    connection, known = act.connection, act.unit.desk.pipelines
    unclear = references.unclear_status(known, pipeline, old)
    places = await references.using(connection, known, unclear)
    enforce(structure.refuse_unclear_names(old, tuple(places)))
    meant = references.status_meant(known, pipeline, old)
    await write_name(act, meant, new, f"status {old} is {new} now")
    await references.rename_in_replies(connection, pipeline, old, new)
