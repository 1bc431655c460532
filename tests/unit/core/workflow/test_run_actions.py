"""Tests of one action of a run: mail, moves, fields, tasks, webhooks (behaviour.md 3.3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from core.decisions.outgoing import (
    AddTask,
    CallWebhook,
    Enrol,
    FinishRun,
    MoveRun,
    QueueMail,
    RecordRun,
)
from core.decisions.tickets import SetClosure, SetFields, SetStatus
from core.events import Prepared
from core.model.workflow import CHAIN_DEPTH, Workflow, read
from tests.unit.core.workflow.running import (
    CAUSE,
    MAIL,
    NOW,
    RUN,
    SEND,
    STATE,
    note,
    records,
    turn,
    workflow,
)


@pytest.mark.parametrize(
    "outcome", ["SKIPPED_NO_RECIPIENT", "SKIPPED_NO_CONSENT", "SKIPPED_CAP", "SKIPPED_LOOP"]
)
def test_mail_that_may_not_go(outcome: Any) -> None:
    """3.3: forbidden mail is recorded and skipped, and nobody is alerted."""
    decided = turn(workflow(SEND), prepared=Prepared((), outcome, "why"))
    assert decided == (RecordRun(1, 4, 3, 5, "m", outcome, "why", "5:m"), MoveRun(5, "m", NOW, NOW))


def test_mail_goes_out_after_its_record() -> None:
    """3.3: record and mail are one transaction, so no action sends two mails per enrolment."""
    decided = turn(workflow(SEND), prepared=Prepared((MAIL,), "OK", "ann@example.org"))
    assert decided[0] == RecordRun(1, 4, 3, 5, "m", "OK", "ann@example.org", "5:m")
    assert decided[2:] == (QueueMail(3, MAIL, replace(CAUSE, action="m")),)
    assert records(turn(workflow(SEND))) == [("m", "FAILED")]


def test_set_status_is_a_real_move() -> None:
    """3.3: close date, leaving, then the target's workflow; the chain of causes is kept."""
    made = workflow({"id": "s", "kind": "set_status", "status": "closed"}, on_leave="unenroll")
    target = Workflow(2, 1, 3, 1, read([note("t")])[0], enabled=True, name="Support / Closed")
    state = replace(STATE, workflows={1: made, 3: target}, enrolments={3: [RUN]})
    cause = replace(CAUSE, action="s")
    decided = turn(made, state=state)
    assert decided[2:] == (
        SetStatus(3, 1, 3, cause),
        SetClosure(3, cause, NOW, date(2026, 11, 22)),
        FinishRun(5, "UNENROLLED", "the ticket left the status"),
        Enrol(3, 2, cause, None, (1,)),
    )
    silent = turn(made, replace(RUN, silent="a machine"), state=state)
    assert silent[-1] == Enrol(3, 2, cause, "a machine", (1,))
    elsewhere = workflow({"id": "s", "kind": "set_status", "status": "won", "pipeline": "SALES"})
    assert turn(elsewhere)[2] == SetStatus(3, 2, 12, cause)
    assert turn(workflow({"id": "s", "kind": "set_status", "status": "new"}))[2:] == ()
    assert records(
        turn(workflow({"id": "s", "kind": "set_status", "status": "new", "pipeline": "Gone"}))
    ) == [("s", "FAILED")]


@pytest.mark.parametrize(
    ("chain", "held", "expected"),
    [
        pytest.param((), (), "Enrol", id="first"),
        pytest.param((2,), (), "SKIPPED_LOOP", id="re-entered"),
        pytest.param((2, 9), (), "SKIPPED_LOOP", id="re-entered-by-a-long-way"),
        pytest.param(tuple(range(100, 99 + CHAIN_DEPTH)), (), "Enrol", id="as-deep-as-may-be"),
        pytest.param(tuple(range(100, 100 + CHAIN_DEPTH)), (), "SKIPPED_LOOP", id="too-deep"),
        pytest.param((2,), ("ACTIVE",), None, id="INV13-still-in-it"),
    ],
)
def test_loop_guard(chain: tuple[int, ...], held: tuple[Any, ...], expected: str | None) -> None:
    """3.3: more than ten workflows in a chain, or one twice, is SKIPPED_LOOP; the move stays."""
    made = workflow({"id": "s", "kind": "set_status", "status": "Closed"})
    target = Workflow(2, 1, 3, 1, read([note("t")])[0], enabled=True, re_enroll=True)
    run = replace(RUN, chain=chain)
    runs = [run, *(replace(RUN, id=6, workflow_id=2, state=state) for state in held)]
    decided = turn(
        made, run, state=replace(STATE, workflows={1: made, 3: target}, enrolments={3: runs})
    )
    assert any(isinstance(each, SetStatus) for each in decided)
    last = decided[-1]
    found = (
        last.outcome
        if isinstance(last, RecordRun)
        else type(last).__name__
        if isinstance(last, Enrol)
        else None
    )
    assert found == expected
    if isinstance(last, RecordRun):
        assert (last.workflow, last.enrolment, last.key) == (2, None, None)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"kind": "set_field", "field": "priority", "value": "High"}, ("priority", "high")),
        ({"kind": "set_field", "field": "priority", "value": "none"}, ("priority", None)),
        ({"kind": "set_field", "field": "priority", "value": "low"}, None),
        ({"kind": "set_field", "field": "priority", "value": "odd"}, "FAILED"),
        ({"kind": "set_field", "field": "subject", "value": "A chair"}, ("subject", "A chair")),
        (
            {"kind": "set_field", "field": "close_date", "value": "2026-12-01"},
            ("close_date", date(2026, 12, 1)),
        ),
        ({"kind": "set_field", "field": "close_date", "value": "none"}, None),
        ({"kind": "set_field", "field": "close_date", "value": "soon"}, "FAILED"),
        ({"kind": "set_owner", "owner": "UMA"}, ("owner_id", 7)),
        ({"kind": "set_owner", "owner": "Uma@Desk.example "}, ("owner_id", 7)),
        ({"kind": "set_owner", "owner": "none"}, None),
        ({"kind": "set_owner", "owner": "nobody"}, "FAILED"),
        ({"kind": "add_tag", "tag": "new"}, ("tags", ("lamp", "old", "new"))),
        ({"kind": "add_tag", "tag": "lamp"}, None),
        ({"kind": "remove_tag", "tag": "lamp"}, ("tags", ("old",))),
        ({"kind": "remove_tag", "tag": "new"}, None),
    ],
)
def test_fields(action: dict[str, Any], expected: Any) -> None:
    """3.1: a field that has the value already changes nothing; an invalid value is FAILED."""
    decided = turn(workflow({"id": "a", **action}))
    if expected == "FAILED":
        assert records(decided) == [("a", "FAILED")]
        return
    changed = [each.fields for each in decided if isinstance(each, SetFields)]
    assert (records(decided), changed) == ([("a", "OK")], [] if expected is None else [(expected,)])


def test_tasks_and_webhooks() -> None:
    """3.1: a task's due date counts from the step; a webhook call has a key of its own."""
    made = workflow(
        {"id": "w", "kind": "delay", "for": "2d"},
        {"id": "t", "kind": "create_task", "text": "call", "due": "1d"},
    )
    later = NOW + timedelta(days=2)
    decided = turn(made, replace(RUN, place="w"), later)
    assert decided[-1] == AddTask(3, "call", later + timedelta(days=1), replace(CAUSE, action="t"))
    assert turn(workflow({"id": "t", "kind": "create_task", "text": "call"}))[-1] == AddTask(
        3, "call", None, replace(CAUSE, action="t")
    )
    hook = workflow({"id": "h", "kind": "webhook", "url": "https://hook.example/"})
    assert turn(hook)[-1] == CallWebhook(
        3, "https://hook.example/", "5:h", replace(CAUSE, action="h")
    )
