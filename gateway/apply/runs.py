"""Enrol tickets in workflows; move, wake, finish and record their runs (behaviour.md 3.2, 3.3)."""

from __future__ import annotations

from dataclasses import replace

from core.decisions import outgoing as o
from core.model.delay import Awaited
from core.model.workflow import START, Enrolment
from core.workflow.run import reached
from gateway.apply.context import ApplyContext, MailContext
from gateway.store.setup.workflows import ActionRun


def enrol(context: ApplyContext, decision: o.Enrol, mail: MailContext | None) -> None:
    """Start a run at the beginning of its workflow, due at once."""
    cause = {
        name: value
        for name in ("rule", "message_id", "workflow", "action", "user")
        if (value := getattr(decision.cause, name))
    }
    if decision.began is not None:
        cause["began"] = decision.began
    run = Enrolment(
        id=context.unit.allot("enrolment"),
        workflow_id=decision.workflow,
        ticket=context.number(decision.ticket, mail),
        state="ACTIVE",
        place=START,
        entered_at=context.now,
        due_at=context.now,
        started_at=context.now,
        silent=decision.silent,
        chain=decision.chain,
        cause=cause,
    )
    context.unit.set_enrolment(run, new=True)


def _run(context: ApplyContext, number: int) -> Enrolment:
    for runs in context.unit.enrolments.values():
        for each in runs:
            if each.id == number:
                return each
    raise LookupError(f"enrolment {number} is not loaded")


def move(context: ApplyContext, decision: o.MoveRun) -> None:
    """Set the place of a run in its workflow, and the time until which the run waits."""
    context.unit.set_enrolment(
        replace(
            _run(context, decision.enrolment),
            place=decision.place,
            due_at=decision.due_at,
            entered_at=decision.entered_at,
            wait_for=decision.wait_for,
            attempts=decision.attempts,
        )
    )


def finish(context: ApplyContext, decision: o.FinishRun) -> None:
    """End a run, if it has not ended before."""
    run = _run(context, decision.enrolment)
    if run.state == "ACTIVE":
        ended = replace(run, state=decision.state, ended_at=context.now, due_at=None)
        context.unit.set_enrolment(replace(ended, end_reason=decision.reason))


def cancel(context: ApplyContext, decision: o.CancelRuns) -> None:
    """End every run of a ticket."""
    for run in list(context.unit.enrolments.get(decision.ticket, ())):
        finish(context, o.FinishRun(run.id, "UNENROLLED", decision.reason))


def wake(context: ApplyContext, decision: o.WakeRuns, mail: MailContext | None) -> None:
    """Continue runs that wait for an event, and runs whose next action would wait for it."""
    ticket, event = context.number(decision.ticket, mail), decision.event
    for run in list(context.unit.enrolments.get(ticket, ())):
        if run.state == "ACTIVE" and run.wait_for == event:
            context.unit.set_enrolment(replace(run, due_at=context.now, wait_for=None))
        else:
            _pass_delay(context, run, event)


def _pass_delay(context: ApplyContext, run: Enrolment, event: Awaited) -> None:
    """If the next action of a run is a delay until this event, let the run skip the delay."""
    workflows = context.unit.desk.workflows.values()
    workflow = next((each for each in workflows if each.id == run.workflow_id), None)
    delay = reached(workflow.graph, run, event, context.now) if workflow is not None else None
    if workflow is None or delay is None:
        return
    passed = o.RecordRun(
        workflow=workflow.id,
        version=workflow.version,
        ticket=run.ticket,
        enrolment=run.id,
        action=delay,
        outcome="OK",
        detail="the awaited event came",
    )
    record(context, passed, None)
    entered_at = run.due_at or context.now
    context.unit.set_enrolment(replace(run, place=delay, due_at=context.now, entered_at=entered_at))


def record(context: ApplyContext, decision: o.RecordRun, mail: MailContext | None) -> None:
    """Write the outcome of an action into the action log."""
    context.unit.outward.runs.append(
        ActionRun(
            id=context.unit.allot("action_run"),
            workflow_id=decision.workflow,
            enrolment_id=decision.enrolment,
            ticket=context.number(decision.ticket, mail),
            action=decision.action,
            version=decision.version,
            outcome=decision.outcome,
            detail=decision.detail,
            at=context.now,
            key=decision.key,
        )
    )
