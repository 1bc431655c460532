"""Decide which workflows a ticket enters and leaves as it reaches a status (behaviour.md 3.2, 3.5).

A ticket enters a workflow only once, unless the workflow allows more (the once-rule, INV13). A
chain of workflows that move a ticket in a loop is stopped. Nothing raises.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.decisions.outgoing import CancelRuns, Enrol, FinishRun, RecordRun
from core.decisions.tickets import Decision
from core.events import (
    DryRunStarted,
    EmailSent,
    EnrolAsked,
    Event,
    MailArrived,
    RunDue,
    StatusChanged,
    UnenrolAsked,
)
from core.model.condition import holds
from core.model.ticket import Ticket
from core.model.workflow import CHAIN_DEPTH, Workflow
from core.state import State

OURS = "our own mail opened the ticket"  # O13: nobody wrote, so nobody gets a receipt


@dataclass(frozen=True, slots=True)
class Root:
    """What enrolments need to know about the event that caused them.

    ``silent``: why nobody outside may get mail; ``chain``: the workflows that led to this event;
    ``requester``: the address of the mail's sender.
    """

    silent: str | None = None
    chain: tuple[int, ...] = ()
    requester: str = ""
    began: str | None = None  # the rule that began a chain of workflows


def root_of(event: Event) -> Root:
    """Return what enrolments need to know about the event that caused them."""
    if isinstance(event, MailArrived):
        sender = event.message.sender
        return Root(_unanswerable(event), requester=sender.key if sender is not None else "")
    if isinstance(event, RunDue):
        run = event.enrolment
        return Root(run.silent, (*run.chain, event.workflow.id), began=run.began)
    ours = isinstance(event, EmailSent) and event.opens is not None
    return Root(OURS if ours else None)


def _unanswerable(event: MailArrived) -> str | None:
    """Return why this mail must cause no mail to people outside, or None.

    Rows E21, E25b, E28, E42, E43; reliability.md 22 to 24.
    """
    message = event.message
    if message.sender is None:
        return "the mail has no usable From"
    if event.verdict == "fail":
        return "its sender's domain says that the mail is forged"
    if not message.auto_respond_ok:
        return "the mail must not be answered automatically"
    if (
        event.sender.user is not None
        and message.kind == "forward"
        and event.sender.held_role != "requester"
    ):
        original = message.forward.sender if message.forward is not None else None
        if not event.trusted_user or original is None or not original.address:
            return "the original sender of the forwarded mail is not known for certain"
    return None


def on_status(event: StatusChanged, root: Root, state: State) -> list[Decision]:
    """End and start runs as a ticket reaches a status; ``event.ticket`` has the old status."""
    decided: list[Decision] = []
    if event.was_state is not None:
        decided += _leaving(event, state)
    workflow = state.workflows.get(event.status_id)
    if workflow is None or event.migration or not workflow.enabled:
        return decided
    ticket = replace(event.ticket, pipeline_id=event.pipeline.id, status_id=event.status_id)
    if not eligible(workflow, ticket, state, root.requester):
        return decided
    return [
        *decided,
        looped(workflow, ticket.number, root)
        or Enrol(ticket.number, workflow.id, event.cause, root.silent, root.chain, root.began),
    ]


def eligible(workflow: Workflow, ticket: Ticket, state: State, requester: str = "") -> bool:
    """Tell whether a ticket in the status enters the workflow (3.2).

    Source and filters must allow it. The ticket must not be in the workflow already (INV13), nor
    have been in it before, unless ``re_enroll`` is on.
    """
    held = state.runs(ticket.number, workflow.id)
    if any(each.state == "ACTIVE" for each in held) or (held and not workflow.re_enroll):
        return False
    if ticket.source in workflow.exclude_sources:
        return False
    facts = state.facts(ticket, requester)
    return holds(workflow.filter, facts) and not (
        workflow.unenroll_when is not None and holds(workflow.unenroll_when, facts)
    )


def _leaving(event: StatusChanged, state: State) -> list[Decision]:
    """End the runs that have the rule *stop if the ticket leaves this status* (3.2; P08)."""
    found: list[Decision] = []
    for each in state.enrolments.get(event.ticket.number, ()):
        workflow = state.workflow(each.workflow_id)
        if (
            each.state == "ACTIVE"
            and workflow is not None
            and workflow.on_leave == "unenroll"
            and workflow.status_id != event.status_id
        ):
            found.append(FinishRun(each.id, "UNENROLLED", "the ticket left the status"))
    return found


def looped(workflow: Workflow, ticket: int, root: Root) -> RecordRun | None:
    """Return the log entry for an enrolment that the loop guard stops, else None (3.3).

    The guard stops a chain of moves that is too long or returns to an earlier workflow.
    """
    if workflow.id not in root.chain and len(root.chain) <= CHAIN_DEPTH:
        return None
    why = (
        "its own moves led back to it"
        if workflow.id in root.chain
        else f"more than {CHAIN_DEPTH} workflows moved the ticket in a row"
    )
    return RecordRun(workflow.id, workflow.version, ticket, None, None, "SKIPPED_LOOP", why)


def by_hand(event: EnrolAsked, state: State) -> list[Decision]:
    """Enrol a ticket if it is not enrolled; filters and the once-rule do not apply (3.2)."""
    number, workflow = event.ticket.number, event.workflow
    return [] if state.is_in(number, workflow.id) else [Enrol(number, workflow.id, event.cause)]


def taken_out(event: UnenrolAsked, state: State) -> list[Decision]:
    """End the run of a ticket that is taken out of a workflow."""
    return [
        FinishRun(each.id, "UNENROLLED", event.reason)
        for each in state.runs(event.ticket.number, event.workflow.id)
        if each.state == "ACTIVE"
    ]


def dry_run(event: DryRunStarted) -> list[Decision]:
    """Enrol a ticket to try a workflow out, and end all its other runs."""
    number = event.ticket.number
    return [CancelRuns(number, "tried"), Enrol(number, event.workflow.id, event.cause)]
