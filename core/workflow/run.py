"""A run at its turn: which action comes, and what becomes of it (behaviour.md 3.3 to 3.5).

One call decides delays and branches up to one action that does something, and that action; then the
caller asks again, with the ticket as it is by then. Off means that actions are passed over while
delays and branches go on (INV12). Nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from core.decisions.outgoing import (
    AddTask,
    CallWebhook,
    FinishRun,
    MoveRun,
    Notify,
    QueueMail,
    RecordRun,
)
from core.decisions.tickets import AddNote, Decision, SetFields, SetStatus
from core.events import Cause, Prepared, RunDue
from core.model import delay
from core.model.condition import holds
from core.model.ticket import Priority
from core.model.workflow import Action, Enrolment, Graph, RunOutcome
from core.state import State

RETRIES: Final = 5
BACK_OFF: Final = timedelta(minutes=1)  # doubled each time
# a run that waits for its window, or for the rest of a deleted delay, not in the delay it may stand
# at
PAST: Final = "past"
MAILS: Final = frozenset({"send_email", "notify_internal_email"})
PRIORITIES: Final = ("low", "medium", "high", "urgent")


@dataclass(slots=True)
class Ahead:
    """What was passed, and the action that is next: None when the run waits or is over, which
    ``decided`` says.
    """

    decided: list[Decision]
    place: str
    action: Action | None


def ahead(event: RunDue, state: State, now: datetime) -> Ahead:
    """Walk over delays, branches and what is passed over, to the next action that does something.

    A delay counts from when the ticket reached it, which is when this turn became due, however late
    it comes.
    """
    run, workflow = event.enrolment, event.workflow
    reached = min(run.due_at, now) if run.due_at is not None else now
    facts = state.facts(event.ticket)
    decided: list[Decision] = []
    place = run.place
    if workflow.unenroll_when is not None and holds(workflow.unenroll_when, facts):
        return Ahead(
            [FinishRun(run.id, "UNENROLLED", "the ticket meets the condition that ends the run")],
            place,
            None,
        )
    while (action := workflow.graph.following(place)) is not None:
        if action.kind == "delay":
            until = delay.due(action.config, reached, state.zone, workflow.window, facts)
            decided.append(
                _record(event, action, "OK", f"until {until.isoformat(timespec='seconds')}")
            )
            if until > now:
                decided.append(
                    MoveRun(run.id, action.id, until, reached, delay.awaited(action.config))
                )
                return Ahead(decided, place, None)
            place, reached = action.id, max(reached, until)
        elif action.kind == "branch":
            name = next((each.name for each in action.branches if holds(each.when, facts)), "")
            decided.append(_record(event, action, "OK", name or "none met"))
            place = f"{action.id}/{name}"
        elif action.id in event.done:
            place = action.id
        elif not workflow.enabled:
            decided.append(_record(event, action, "SKIPPED_OFF", "the workflow is switched off"))
            place = action.id
        else:
            return _in_window(event, action, Ahead(decided, place, action), state, now)
    return Ahead([*decided, FinishRun(run.id, "DONE", "the last action is done")], place, None)


def reached(graph: Graph, run: Enrolment, event: delay.Awaited, now: datetime) -> str | None:
    """The delay that waits for this event and that a run has reached, though its turn was not yet;
    None where there is none.
    """
    if (
        run.state != "ACTIVE"
        or run.wait_for is not None
        or run.attempts
        or run.due_at is None
        or run.due_at > now
        or run.place not in graph
    ):
        return None
    action = graph.following(run.place)
    return (
        action.id
        if action is not None and action.kind == "delay" and delay.awaited(action.config) == event
        else None
    )


def _in_window(event: RunDue, action: Action, found: Ahead, state: State, now: datetime) -> Ahead:
    """Actions wait for the window of the workflow; delays and branches do not (3.3)."""
    opens = delay.opening(event.workflow.window, now, state.zone)
    if opens is not None and opens <= now:
        return found
    if opens is None:
        reason = f"the window of the workflow never opens for {action.id}"
        return Ahead(
            [*found.decided, FinishRun(event.enrolment.id, "FAILED", reason)], found.place, None
        )
    waits = MoveRun(
        event.enrolment.id,
        found.place,
        opens,
        event.enrolment.entered_at,
        PAST,
        _attempts(event, found.place),
    )
    return Ahead([*found.decided, waits], found.place, None)


def _attempts(event: RunDue, place: str) -> int:
    """How often the action that comes after ``place`` was tried: what was counted where the run
    stood belongs to that place.
    """
    return event.enrolment.attempts if place == event.enrolment.place else 0


def run_due(event: RunDue, state: State, now: datetime) -> list[Decision]:
    """The decisions of one turn. ``event.prepared`` belongs to the action that :func:`ahead` finds,
    where that needs something prepared.
    """
    found = ahead(event, state, now)
    action, run = found.action, event.enrolment
    if action is None:
        return found.decided
    if action.kind == "stop":
        return [
            *found.decided,
            _record(event, action, "OK", None),
            FinishRun(run.id, "DONE", f"stopped by {action.id}"),
        ]
    effects, result = _effect(event, action, state, now)
    tried = _attempts(event, found.place)
    if result.retry and tried < RETRIES:
        later = MoveRun(
            run.id, found.place, now + BACK_OFF * 2**tried, run.entered_at, None, tried + 1
        )
        return [*found.decided, _record(event, action, "RETRY", result.detail), later]
    recorded = _record(event, action, result.outcome, result.detail)
    onwards: Decision = MoveRun(run.id, action.id, now, now)
    if result.outcome == "FAILED":
        told = Notify(
            event.ticket.number,
            "failure",
            f"action {action.id} of {event.workflow.name} failed: {result.detail}"[:500],
        )
        if action.config.get("stop_on_failure"):
            onwards = FinishRun(run.id, "FAILED", f"{action.id}: {result.detail}"[:500])
        return [*found.decided, recorded, told, onwards]
    return [*found.decided, recorded, onwards, *effects]


def _record(event: RunDue, action: Action, outcome: RunOutcome, detail: str | None) -> RecordRun:
    """What had its turn is never done again for this enrolment; what is tried again is not over
    yet.
    """
    run = event.enrolment
    key = None if outcome == "RETRY" or action.waits else f"{run.id}:{action.id}"
    return RecordRun(
        run.workflow_id,
        event.workflow.version,
        event.ticket.number,
        run.id,
        action.id,
        outcome,
        detail,
        key,
    )


def _effect(
    event: RunDue, action: Action, state: State, now: datetime
) -> tuple[list[Decision], Prepared]:  # one arm a kind
    number, config = event.ticket.number, action.config
    cause = replace(event.cause, action=action.id)
    match action.kind:
        case "send_email" | "notify_internal_email":
            made = event.prepared or Prepared((), "FAILED", "nothing was prepared")
            return [QueueMail(number, each, cause) for each in made.mails], made
        case "set_status":
            return _status(event, config, cause, state)
        case "set_owner":
            return _owner(event, config, cause, state)
        case "set_field":
            return _field(event, config, cause)
        case "add_note":
            return [AddNote(number, config["text"], cause)], Prepared()
        case "add_tag" | "remove_tag":
            tags = tuple(each for each in event.ticket.tags if each != config["tag"])
            if (action.kind == "add_tag") is (tags != event.ticket.tags):  # it is so already
                return [], Prepared()
            tags = (*tags, config["tag"]) if action.kind == "add_tag" else tags
            return [SetFields(number, (("tags", tags),), cause)], Prepared()
        case "create_task":
            due = (
                delay.due({"for": config["due"]}, now, state.zone, None, {})
                if "due" in config
                else None
            )
            return [AddTask(number, config["text"], due, cause)], Prepared()
        case "webhook":
            return [
                CallWebhook(number, config["url"], f"{event.enrolment.id}:{action.id}", cause)
            ], Prepared()
        case _:
            return [], Prepared((), "FAILED", f"there is no kind {action.kind}")


def _status(
    event: RunDue, config: Mapping[str, Any], cause: Cause, state: State
) -> tuple[list[Decision], Prepared]:
    ticket = event.ticket
    pipeline = state.pipelines[ticket.pipeline_id]
    if "pipeline" in config:
        found = next(
            (
                each
                for each in state.pipelines.values()
                if each.name.casefold() == config["pipeline"].casefold()
            ),
            None,
        )
        if found is None:
            return [], Prepared((), "FAILED", f"there is no pipeline {config['pipeline']!r}")
        pipeline = found
    status = pipeline.named(config["status"])
    if status is None:
        return [], Prepared(
            (), "FAILED", f"pipeline {pipeline.name} has no status {config['status']!r}"
        )
    if status.id == ticket.status_id:
        return [], Prepared((), "OK", "already in that status")
    return [SetStatus(ticket.number, pipeline.id, status.id, cause)], Prepared()


def _owner(
    event: RunDue, config: Mapping[str, Any], cause: Cause, state: State
) -> tuple[list[Decision], Prepared]:
    wanted = config["owner"].strip().casefold()
    owner = None
    if wanted != "none":
        owner = next(
            (user for key, user in state.users.items() if wanted in (key, user.name.casefold())),
            None,
        )
        if owner is None:
            return [], Prepared((), "FAILED", f"no active user is called {config['owner']!r}")
    chosen = owner.id if owner is not None else None
    changed = chosen != event.ticket.owner_id
    return (
        [SetFields(event.ticket.number, (("owner_id", chosen),), cause)] if changed else []
    ), Prepared()


def _field(
    event: RunDue, config: Mapping[str, Any], cause: Cause
) -> tuple[list[Decision], Prepared]:
    name, value = config["field"], config["value"]
    chosen: str | Priority | date | None
    if name == "close_date":
        try:
            chosen = None if value in ("", "none") else date.fromisoformat(str(value)[:10])
        except ValueError:
            return [], Prepared((), "FAILED", f"{value!r} is no date")
    elif name == "priority":
        chosen = None if value in ("", "none") else str(value).casefold()
        if chosen is not None and chosen not in PRIORITIES:
            return [], Prepared((), "FAILED", f"{value!r} is no priority")
    else:
        chosen = str(value)
    changed = getattr(event.ticket, name) != chosen
    return (
        [SetFields(event.ticket.number, ((name, chosen),), cause)] if changed else []
    ), Prepared()
