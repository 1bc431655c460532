"""Shared by the tests of runs: a state, a ticket, a run, and a function that executes one step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from core.decide import decide
from core.decisions.outgoing import FinishRun, MoveRun, RecordRun
from core.decisions.tickets import Decision
from core.events import Cause, Prepared, RunDue
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Ticket, User
from core.model.workflow import START, Enrolment, Workflow, read
from core.pipeline import Pipeline, Status
from core.state import State

ZONE = ZoneInfo("Europe/Amsterdam")
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)  # a Sunday
STEPS = (
    Status(1, "New", "open", 1),
    Status(2, "Waiting", "open", 2),
    Status(3, "Closed", "closed", 3),
)
OTHER = (Status(11, "Lead", "open", 1), Status(12, "Won", "closed", 2))
UMA = User(7, "Uma", frozenset({"uma@desk.example"}), address="uma@desk.example")
STATE = State(
    {1: Pipeline(1, "Support", STEPS), 2: Pipeline(2, "Sales", OTHER)},
    ZONE,
    users={"uma@desk.example": UMA},
)
TICKET = Ticket(3, "A lamp", 1, 1, "email", NOW, tags=("lamp", "old"), priority="low")
RUN = Enrolment(5, 1, 3, "ACTIVE", START, NOW, NOW, NOW)
CAUSE = Cause("workflow", workflow="Support / New")
OFFICE = {
    "days": ["mon", "tue", "wed", "thu", "fri"],
    "hours": "09:00-17:00",
    "holidays": ["2026-11-23"],
}
MAIL = Outgoing(
    message_id="m@x",
    sender=Address("", "s@x"),
    to=(),
    cc=(),
    subject="s",
    text="t",
    date=NOW,
    raw=b"",
    recipients=("ann@example.org",),
    kind="auto_generated",
)


def note(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": "add_note", "text": name, **more}


def workflow(*actions: dict[str, Any], **more: Any) -> Workflow:
    graph, problems = read(list(actions))
    assert problems == ()
    return replace(Workflow(1, 1, 1, 4, graph, enabled=True, name="Support / New"), **more)


def turn(
    made: Workflow, run: Enrolment = RUN, now: datetime = NOW, **more: Any
) -> tuple[Decision, ...]:
    state = more.pop("state", replace(STATE, workflows={1: made}, enrolments={3: [run]}))
    return decide(replace(RunDue(TICKET, made, run, frozenset(), CAUSE), **more), state, now)


def records(decided: tuple[Decision, ...]) -> list[tuple[str | None, str]]:
    return [(each.action, each.outcome) for each in decided if isinstance(each, RecordRun)]


def moved(decided: tuple[Decision, ...]) -> MoveRun | FinishRun:
    found = [each for each in decided if isinstance(each, MoveRun | FinishRun)]
    assert len(found) == 1
    return found[0]


SEND = {"id": "m", "kind": "send_email", "template": "Ticket received"}
BROKEN = Prepared((), "FAILED", "unknown template", retry=True)
