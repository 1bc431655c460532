"""Tests of a run: order, delays, branches, windows, retries and its end (behaviour.md 3.3, 3.5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from core.decide import decide
from core.decisions.outgoing import FinishRun, MoveRun, Notify, RecordRun
from core.decisions.tickets import AddNote
from core.events import Prepared, RunDue, RunFailed, RunOrphaned
from core.model.ticket import Ticket
from core.model.workflow import START
from core.rules.retry import FIRST, RETRIES
from core.workflow.run import PAST, ahead, reached
from tests.unit.core.workflow.running import (
    BROKEN,
    CAUSE,
    MAIL,
    NOW,
    OFFICE,
    RUN,
    SEND,
    STATE,
    TICKET,
    moved,
    note,
    records,
    turn,
    workflow,
)


def test_one_action_a_turn_in_order() -> None:
    """3.3, INV9: one action per step, recorded once with its own key, its version and its cause."""
    made = workflow(note("a"), note("b"))
    cause = replace(CAUSE, action="a")
    assert turn(made) == (
        RecordRun(1, 4, 3, 5, "a", "OK", None, "5:a"),
        MoveRun(5, "a", NOW, NOW),
        AddNote(3, "a", cause),
    )
    assert records(turn(made, replace(RUN, place="a"))) == [("b", "OK")]
    assert turn(made, replace(RUN, place="b")) == (FinishRun(5, "DONE", "the last action is done"),)


def test_what_was_done_is_not_done_again() -> None:
    """3.3: an action is done at most once per enrolment, wherever an edit has put the run."""
    assert records(turn(workflow(note("a"), note("b")), done=frozenset({"a"}))) == [("b", "OK")]


def test_a_delay_counts_from_when_the_ticket_reached_it() -> None:
    """3.4: a late step shortens the wait by as much; actions are done late, once."""
    made = workflow(
        {"id": "w", "kind": "delay", "for": "2d"},
        note("a"),
        {"id": "x", "kind": "delay", "for": "1d"},
        note("b"),
    )
    day = timedelta(days=1)
    assert moved(turn(made, now=NOW + day)) == MoveRun(5, "w", NOW + 2 * day, NOW, None)
    late = turn(made, now=NOW + 5 * day)
    assert (records(late), moved(late)) == (
        [("w", "OK"), ("a", "OK")],
        MoveRun(5, "a", NOW + 5 * day, NOW + 5 * day),
    )
    after = turn(made, replace(RUN, place="a", due_at=NOW + 5 * day), NOW + 5 * day)
    assert moved(after) == MoveRun(5, "x", NOW + 6 * day, NOW + 5 * day, None)
    row = workflow(
        {"id": "w", "kind": "delay", "for": "2d"},
        {"id": "x", "kind": "delay", "for": "1d"},
        note("b"),
    )
    assert moved(turn(row, now=NOW + 2 * day)) == MoveRun(
        5, "x", NOW + 3 * day, NOW + 2 * day, None
    )
    assert records(turn(row, now=NOW + 3 * day)) == [("w", "OK"), ("x", "OK"), ("b", "OK")]


def test_an_event_before_the_step_of_a_delay_counts() -> None:
    """3.1: a run waits for an event once it has reached the delay, executed or not."""
    made = workflow(
        {"id": "w", "kind": "delay", "event": "Customer replied", "for": "3d"}, note("a")
    ).graph
    assert reached(made, RUN, "customer_reply", NOW) == "w"
    assert reached(made, RUN, "agent_reply", NOW) is None
    assert reached(made, replace(RUN, place="w"), "customer_reply", NOW) is None
    for change in (
        {"wait_for": PAST},
        {"due_at": NOW + timedelta(seconds=1)},
        {"attempts": 1},
        {"state": "DONE"},
        {"place": "gone"},
    ):
        assert reached(made, replace(RUN, **change), "customer_reply", NOW) is None


def test_a_run_waits_in_a_delay() -> None:
    """3.3: the end of a delay is computed and recorded when it is entered."""
    made = workflow({"id": "w", "kind": "delay", "for": "2d"}, note("a"))
    assert turn(made) == (
        RecordRun(1, 4, 3, 5, "w", "OK", "until 2026-11-24T10:00:00+00:00"),
        MoveRun(5, "w", NOW + timedelta(days=2), NOW),
    )
    assert records(turn(made, replace(RUN, place="w"))) == [("a", "OK")]


def test_a_delay_in_the_past_ends_at_once() -> None:
    """3.3: a past target date ends the delay at once; a date field is read at that time."""
    made = workflow(
        {"id": "w", "kind": "delay", "until": "2020-01-01"},
        {"id": "v", "kind": "delay", "field": "closed_at"},
        note("a"),
    )
    assert records(turn(made)) == [("w", "OK"), ("v", "OK"), ("a", "OK")]
    closes = replace(TICKET, close_date=date(2026, 12, 1))
    made = workflow({"id": "w", "kind": "delay", "field": "close_date"})
    assert moved(turn(made, ticket=closes)) == MoveRun(
        5, "w", datetime(2026, 11, 30, 23, tzinfo=UTC), NOW
    )


def test_waiting_for_an_event() -> None:
    """3.3: the run waits until the customer or an agent replies, a year at most."""
    made = workflow({"id": "w", "kind": "delay", "event": "agent_reply"}, note("a"))
    assert moved(turn(made)) == MoveRun(5, "w", NOW + timedelta(days=365), NOW, "agent_reply")


BRANCH = {
    "id": "f",
    "kind": "branch",
    "branches": [
        {
            "name": "both",
            "when": [{"field": "priority", "value": "low"}, {"field": "tags", "value": "new"}],
            "actions": [note("n")],
        },
        {"name": "low", "when": {"field": "priority", "value": "low"}, "actions": [note("l")]},
        {"name": "lamp", "when": {"field": "tags", "value": "lamp"}, "actions": [note("t")]},
    ],
    "otherwise": [note("o")],
}


@pytest.mark.parametrize(
    ("ticket", "expected"),
    [
        pytest.param(TICKET, "l", id="first-match"),
        pytest.param(replace(TICKET, tags=("new",)), "n", id="top-to-bottom"),
        pytest.param(replace(TICKET, priority=None), "t", id="later-match"),
        pytest.param(replace(TICKET, priority=None, tags=()), "o", id="none-met-90"),
    ],
)
def test_branches(ticket: Ticket, expected: str) -> None:
    """3.3, scenario 90: the first path that holds, else none-met; then what follows it."""
    made = workflow(BRANCH, note("z"))
    assert records(turn(made, ticket=ticket)) == [("f", "OK"), (expected, "OK")]
    assert records(turn(made, replace(RUN, place=expected))) == [("z", "OK")]


@pytest.mark.parametrize(
    ("priority", "expected"), [("low", "l"), ("high", "h"), ("urgent", "z"), (None, "z")]
)
def test_value_equals(priority: Any, expected: str) -> None:
    """3.3: one path for each value and one for the rest; a path may be empty."""
    paths = [
        {"name": "Low", "value": "low", "actions": [note("l")]},
        {"name": "High", "value": "high", "actions": [note("h")]},
    ]
    made = workflow(
        {"id": "f", "kind": "branch", "field": "priority", "branches": paths}, note("z")
    )
    assert records(turn(made, ticket=replace(TICKET, priority=priority))) == [
        ("f", "OK"),
        (expected, "OK"),
    ]


def test_windows_move_actions_only() -> None:
    """3.3: delays and branches ignore the window; the action waits for its next opening."""
    made = workflow(BRANCH, note("z"), window=OFFICE)
    opens = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
    decided = turn(made)
    assert records(decided) == [("f", "OK")]
    assert moved(decided) == MoveRun(5, "f/low", opens, NOW, PAST)
    assert records(turn(made, replace(RUN, place="f/low", wait_for=PAST), opens)) == [("l", "OK")]
    delayed = workflow({"id": "w", "kind": "delay", "for": "12h"}, note("a"), window=OFFICE)
    assert moved(turn(delayed)) == MoveRun(5, "w", NOW + timedelta(hours=12), NOW)
    assert moved(turn(delayed, replace(RUN, place="w"), NOW + timedelta(hours=12))) == MoveRun(
        5, "w", opens, NOW, PAST
    )


def test_a_window_that_never_opens_fails_the_run() -> None:
    """A window that holidays close for good fails the run."""
    holidays = [str(date(2026, 11, 22) + timedelta(days=each)) for each in range(900)]
    ended = moved(turn(workflow(note("a"), window={"holidays": holidays})))
    assert isinstance(ended, FinishRun)
    assert ended.state == "FAILED"


def test_retries_with_back_off_then_failed() -> None:
    """3.3: five retries, each wait doubled, then FAILED; the owner is told and the run goes on."""
    made, run, now = workflow(SEND, note("a")), RUN, NOW
    for attempt in range(RETRIES):
        decided = turn(made, run, now, prepared=BROKEN)
        assert decided[0] == RecordRun(1, 4, 3, 5, "m", "RETRY", "unknown template")
        later = moved(decided)
        assert later == MoveRun(5, START, now + FIRST * 2**attempt, NOW, None, attempt + 1)
        assert isinstance(later, MoveRun)
        run, now = replace(run, attempts=later.attempts), later.due_at
    assert turn(made, run, now, prepared=BROKEN) == (
        RecordRun(1, 4, 3, 5, "m", "FAILED", "unknown template", "5:m"),
        Notify(3, "failure", "action m of Support / New failed: unknown template"),
        MoveRun(5, "m", now, now),
    )
    assert records(turn(made, run, now, prepared=Prepared((MAIL,)))) == [("m", "OK")]


def test_the_window_does_not_forget_the_retries() -> None:
    """3.3: an action whose retries are split by a closed window still fails in the end."""
    made, run, now = workflow(SEND, note("a"), window={"hours": "11:00-11:04"}), RUN, NOW
    tries = 0
    for _ in range(40):
        decided = turn(made, run, now, prepared=BROKEN)
        tries += ("m", "RETRY") in records(decided)
        later = moved(decided)
        if ("m", "FAILED") in records(decided):
            break
        assert isinstance(later, MoveRun)
        run = replace(run, place=later.place, attempts=later.attempts, wait_for=later.wait_for)
        now = later.due_at
    assert (tries, records(decided)) == (RETRIES, [("m", "FAILED")])


def test_retries_belong_to_one_action() -> None:
    """3.3: after an edit or switch removes a failing action the next one has five retries."""
    made = workflow({"id": "w", "kind": "delay", "until": "2020-01-01"}, SEND)
    assert records(turn(made, replace(RUN, attempts=RETRIES), prepared=BROKEN)) == [
        ("w", "OK"),
        ("m", "RETRY"),
    ]


def test_an_unforeseen_error_is_retried_then_ends_the_run() -> None:
    """3.3: five retries with an action's back-off, then FAILED."""
    made, run, now = workflow(note("a")), RUN, NOW
    for attempt in range(RETRIES):
        decided = decide(RunFailed(run, made, "KeyError"), STATE, now)
        later = MoveRun(5, START, now + FIRST * 2**attempt, NOW, None, attempt + 1)
        assert decided == (RecordRun(1, 4, 3, 5, "a", "RETRY", "KeyError"), later)
        run, now = replace(run, attempts=later.attempts), later.due_at
    assert decide(RunFailed(run, made, "KeyError"), STATE, now) == (
        RecordRun(1, 4, 3, 5, "a", "FAILED", "KeyError"),
        FinishRun(5, "FAILED", "KeyError"),
    )
    assert decide(RunFailed(RUN, None, "KeyError"), STATE, NOW) == (
        RecordRun(1, 0, 3, 5, None, "FAILED", "KeyError"),
        FinishRun(5, "FAILED", "KeyError"),
    )


def test_a_run_without_its_ticket_or_workflow_ends() -> None:
    """P12, 3.5: the run ends when its ticket or workflow is gone."""
    gone = decide(RunOrphaned(RUN, workflow(note("a"))), STATE, NOW)
    assert gone == (FinishRun(5, "UNENROLLED", "the ticket is gone"),)
    deleted = decide(RunOrphaned(RUN, None), STATE, NOW)
    assert deleted == (FinishRun(5, "UNENROLLED", "the workflow was deleted"),)


def test_decisions_do_not_change_with_a_given_ahead() -> None:
    """Decisions are the same when the caller hands over the result of `ahead`."""
    made = workflow({"id": "w", "kind": "delay", "until": "2020-01-01"}, note("a"))
    state = replace(STATE, workflows={1: made})
    event = RunDue(TICKET, made, RUN, frozenset(), CAUSE)
    found = ahead(event, state, NOW)
    assert found.action is not None
    assert [each.action.id for each in found.passed] == ["w"]
    assert decide(replace(event, ahead=found), state, NOW) == decide(event, state, NOW)


def test_stop_on_failure() -> None:
    """3.3: the run goes on after a failure unless the action has stop_on_failure."""
    made = workflow({**SEND, "stop_on_failure": True}, note("a"))
    decided = turn(made, replace(RUN, attempts=RETRIES), prepared=BROKEN)
    assert records(decided) == [("m", "FAILED")]
    assert moved(decided) == FinishRun(5, "FAILED", "m: unknown template")
    lasting = workflow({"id": "s", "kind": "set_status", "status": "Gone"}, note("a"))
    assert records(turn(lasting)) == [("s", "FAILED")]
    assert moved(turn(lasting)) == MoveRun(5, "s", NOW, NOW)


def test_stop_ends_the_run() -> None:
    """3.1: nothing after a stop is done, also not the actions after its branch."""
    inside = {
        "id": "f",
        "kind": "branch",
        "branches": [{"name": "x", "when": [], "actions": [{"id": "s", "kind": "stop"}]}],
    }
    decided = turn(workflow(inside, note("a")))
    assert records(decided) == [("f", "OK"), ("s", "OK")]
    assert moved(decided) == FinishRun(5, "DONE", "stopped by s")


def test_off_passes_actions_over() -> None:
    """3.5, INV12, scenario 83: actions are SKIPPED_OFF, branches chosen, delays waited for."""
    made = workflow(
        note("a"), BRANCH, {"id": "w", "kind": "delay", "for": "2d"}, note("b"), enabled=False
    )
    decided = turn(made)
    assert records(decided) == [
        ("a", "SKIPPED_OFF"),
        ("f", "OK"),
        ("l", "SKIPPED_OFF"),
        ("w", "OK"),
    ]
    assert moved(decided) == MoveRun(5, "w", NOW + timedelta(days=2), NOW)
    waiting = replace(RUN, place="w")
    off = turn(made, waiting)
    assert (records(off), type(moved(off))) == ([("b", "SKIPPED_OFF")], FinishRun)
    assert not any(isinstance(each, AddNote) for each in (*decided, *off))
    assert records(turn(replace(made, enabled=True), waiting)) == [("b", "OK")]


def test_the_condition_that_ends_a_run() -> None:
    """3.1 unenroll_when: checked at each step, before anything is done."""
    made = workflow(note("a"), unenroll_when={"field": "tags", "value": "lamp"})
    ended = moved(turn(made))
    assert isinstance(ended, FinishRun)
    assert (ended.state, records(turn(made))) == ("UNENROLLED", [])
