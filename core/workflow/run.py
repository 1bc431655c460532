"""Execute a workflow run: find and decide its next action (behaviour.md 3.3 to 3.5).

One call walks over delays and branches to the next action that does something, and decides what
this action does. The caller then calls again with the changed ticket. In a workflow that is
switched off, actions are skipped while delays and branches go on (INV12). Nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
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
from core.events import Ahead, Cause, Passed, Prepared, RunDue, RunFailed, RunOrphaned
from core.model import delay
from core.model.condition import holds
from core.model.ticket import Priority
from core.model.workflow import Action, Enrolment, Graph, RunOutcome
from core.rules.retry import next_run
from core.state import State

# ``wait_for`` of a run that waits for its window or for the rest of a deleted delay, not in the
# delay that it may stand at
PAST: Final = "past"
MAILS: Final = frozenset({"send_email", "notify_internal_email"})
PRIORITIES: Final = ("low", "medium", "high", "urgent")


def ahead(event: RunDue, state: State, now: datetime) -> Ahead:
    """Walk over delays, branches and skipped actions to the next action that does something.

    A delay counts from the instant at which the run became due, even if the run is executed later.
    """
    run, workflow = event.enrolment, event.workflow
    entered = min(run.due_at, now) if run.due_at is not None else now
    facts = state.facts(event.ticket)
    passed: list[Passed] = []
    place = run.place
    if workflow.unenroll_when is not None and holds(workflow.unenroll_when, facts):
        reason = "the ticket meets the condition that ends the run"
        return Ahead((), place, ends="UNENROLLED", reason=reason)
    while (action := workflow.graph.following(place)) is not None:
        if action.kind == "delay":
            until = delay.due(action.config, entered, state.zone, workflow.window, facts)
            passed.append(Passed(action, "OK", f"until {until.isoformat(timespec='seconds')}"))
            if until > now:
                return _waiting(passed, action, until, entered)
            place, entered = action.id, max(entered, until)
        elif action.kind == "branch":
            name = next((each.name for each in action.branches if holds(each.when, facts)), "")
            passed.append(Passed(action, "OK", name or "none met"))
            place = f"{action.id}/{name}"
        elif action.id in event.done:
            place = action.id
        elif not workflow.enabled:
            passed.append(Passed(action, "SKIPPED_OFF", "the workflow is switched off"))
            place = action.id
        else:
            return _in_window(event, Ahead(tuple(passed), place, action), action, state, now)
    return Ahead(tuple(passed), place, ends="DONE", reason="the last action is done")


def _waiting(passed: list[Passed], action: Action, until: datetime, entered: datetime) -> Ahead:
    """Return the next part (:class:`core.events.Ahead`) of a run that waits in a delay."""
    wait_for = delay.awaited(action.config)
    return Ahead(tuple(passed), action.id, until=until, entered_at=entered, wait_for=wait_for)


def _in_window(event: RunDue, found: Ahead, action: Action, state: State, now: datetime) -> Ahead:
    """Make an action wait until the workflow's window is open (3.3)."""
    run = event.enrolment
    opens = delay.opening(event.workflow.window, now, state.zone)
    if opens is None:
        reason = f"the window of the workflow never opens for {action.id}"
        return replace(found, action=None, ends="FAILED", reason=reason)
    if opens <= now:
        return found
    attempts = _attempts(run, found.place)
    waiting = replace(found, action=None, until=opens, entered_at=run.entered_at)
    return replace(waiting, wait_for=PAST, attempts=attempts)


def _attempts(run: Enrolment, place: str) -> int:
    """Return how often the action after ``place`` was tried; 0 if the run is at another place."""
    return run.attempts if place == run.place else 0


def reached(graph: Graph, run: Enrolment, event: delay.Awaited, now: datetime) -> str | None:
    """Return the id of the delay that a run enters next, if that delay waits for ``event``."""
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
    if action is None or action.kind != "delay" or delay.awaited(action.config) != event:
        return None
    return action.id


def run_due(event: RunDue, state: State, now: datetime) -> list[Decision]:
    """Return the decisions of one step: passed actions, and then one action, a wait, or the end."""
    found = event.ahead if event.ahead is not None else ahead(event, state, now)
    run = event.enrolment
    decided: list[Decision] = [
        _record(event, each.action, each.outcome, each.detail) for each in found.passed
    ]
    if found.action is not None:
        return [*decided, *_execute(event, found.action, found.place, state, now)]
    if found.ends is not None:
        return [*decided, FinishRun(run.id, found.ends, found.reason)]
    waits = MoveRun(
        enrolment=run.id,
        place=found.place,
        due_at=found.until or now,
        entered_at=found.entered_at or now,
        wait_for=found.wait_for,
        attempts=found.attempts,
    )
    return [*decided, waits]


def _execute(
    event: RunDue, action: Action, place: str, state: State, now: datetime
) -> list[Decision]:
    """Execute one action, or postpone it if a later attempt may work."""
    run = event.enrolment
    if action.kind == "stop":
        stopped = FinishRun(run.id, "DONE", f"stopped by {action.id}")
        return [_record(event, action, "OK", None), stopped]
    effects, result = _effect(event, action, state, now)
    tried = _attempts(run, place)
    again = next_run(tried, now) if result.retry else None
    if again is not None:
        later = MoveRun(run.id, place, again, run.entered_at, None, tried + 1)
        return [_record(event, action, "RETRY", result.detail), later]
    recorded = _record(event, action, result.outcome, result.detail)
    onwards: Decision = MoveRun(run.id, action.id, now, now)
    if result.outcome != "FAILED":
        return [recorded, onwards, *effects]
    why = f"action {action.id} of {event.workflow.name} failed: {result.detail}"
    if action.config.get("stop_on_failure"):
        onwards = FinishRun(run.id, "FAILED", f"{action.id}: {result.detail}"[:500])
    return [recorded, Notify(event.ticket.number, "failure", why[:500]), onwards]


def orphaned(event: RunOrphaned) -> list[Decision]:
    """End a run whose ticket or workflow is gone."""
    why = "the workflow was deleted" if event.workflow is None else "the ticket is gone"
    return [FinishRun(event.enrolment.id, "UNENROLLED", why)]


def failed(event: RunFailed, now: datetime) -> list[Decision]:
    """Retry a run that failed unexpectedly; end it after the last retry."""
    run, workflow = event.enrolment, event.workflow
    action = workflow.graph.following(run.place) if workflow is not None else None
    again = next_run(run.attempts, now) if workflow is not None else None
    record = RecordRun(
        workflow=run.workflow_id,
        version=workflow.version if workflow is not None else 0,
        ticket=run.ticket,
        enrolment=run.id,
        action=action.id if action is not None else None,
        outcome="RETRY" if again is not None else "FAILED",
        detail=event.why,
    )
    if again is None:
        return [record, FinishRun(run.id, "FAILED", event.why)]
    return [record, MoveRun(run.id, run.place, again, run.entered_at, None, run.attempts + 1)]


def _record(event: RunDue, action: Action, outcome: RunOutcome, detail: str | None) -> RecordRun:
    """Return the log entry of an action; ``key`` is None if the action may be logged again."""
    run = event.enrolment
    key = None if outcome == "RETRY" or action.steers else f"{run.id}:{action.id}"
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
) -> tuple[list[Decision], Prepared]:
    """Return (decisions, outcome) of an action."""
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
            if (action.kind == "add_tag") is (tags != event.ticket.tags):
                return [], Prepared()
            tags = (*tags, config["tag"]) if action.kind == "add_tag" else tags
            return [SetFields(number, (("tags", tags),), cause)], Prepared()
        case "create_task":
            span = {"for": config["due"]} if "due" in config else None
            due = delay.due(span, now, state.zone, None, {}) if span is not None else None
            return [AddTask(number, config["text"], due, cause)], Prepared()
        case "webhook":
            key = f"{event.enrolment.id}:{action.id}"
            return [CallWebhook(number, config["url"], key, cause)], Prepared()
        case _:
            return [], Prepared((), "FAILED", f"unknown kind {action.kind}")


def _status(
    event: RunDue, config: Mapping[str, Any], cause: Cause, state: State
) -> tuple[list[Decision], Prepared]:
    ticket = event.ticket
    pipeline = state.pipelines[ticket.pipeline_id]
    if "pipeline" in config:
        wanted = config["pipeline"].casefold()
        named = (each for each in state.pipelines.values() if each.name.casefold() == wanted)
        found = next(named, None)
        if found is None:
            return [], Prepared((), "FAILED", f"unknown pipeline {config['pipeline']!r}")
        pipeline = found
    status = pipeline.named(config["status"])
    if status is None:
        why = f"pipeline {pipeline.name} has no status {config['status']!r}"
        return [], Prepared((), "FAILED", why)
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
            return [], Prepared((), "FAILED", f"unknown user {config['owner']!r}")
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
            return [], Prepared((), "FAILED", f"{value!r} is not a date")
    elif name == "priority":
        chosen = None if value in ("", "none") else str(value).casefold()
        if chosen is not None and chosen not in PRIORITIES:
            return [], Prepared((), "FAILED", f"{value!r} is not a priority")
    else:
        chosen = str(value)
    changed = getattr(event.ticket, name) != chosen
    return (
        [SetFields(event.ticket.number, ((name, chosen),), cause)] if changed else []
    ), Prepared()
