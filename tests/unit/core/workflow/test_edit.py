"""Tests of editing a workflow while tickets are in it: table 3.4 of behaviour.md, and S12."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.decisions.outgoing import FinishRun, MoveRun, RecordRun
from core.events import Cause, RunDue
from core.model.ticket import Ticket
from core.model.workflow import START, Enrolment, Graph, Workflow, read
from core.pipeline import Pipeline, Status
from core.state import State
from core.workflow.edit import Edited, Impossible, affected, after_edit, change, insert, remove
from core.workflow.run import PAST, run_due

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=6)  # when the edit is made
DAY = timedelta(days=1)
STATE = State(
    {1: Pipeline(1, "Support", (Status(1, "New", "open", 1), Status(2, "Closed", "closed", 2)))},
    UTC,
)
TICKET = Ticket(3, "A lamp", 1, 1, "email", NOW - DAY)
YES = {"field": "subject", "value": "a lamp"}
Raw = list[dict[str, Any]]


def note(name: str) -> dict[str, Any]:
    return {"id": name, "kind": "add_note", "text": name}


def wait(name: str, text: str = "2d") -> dict[str, Any]:
    return {"id": name, "kind": "delay", "for": text}


LINE: Raw = [note("a"), wait("w"), note("b"), note("c")]
FORK: Raw = [
    note("a"),
    {
        "id": "f",
        "kind": "branch",
        "branches": [{"name": "x", "when": YES, "actions": [note("x1"), wait("xw"), note("x2")]}],
        "otherwise": [note("o1"), wait("ow"), note("o2")],
    },
    note("d"),
]


def graph(raw: Any) -> Graph:
    found, problems = read(raw)
    assert problems == ()
    return found


def run_at(place: str, **more: Any) -> Enrolment:
    """Return a run that entered its place at NOW; in a delay of two days it waits for the end."""
    waits = {"due_at": NOW + 2 * DAY} if place.endswith("w") else {"due_at": NOW}
    return replace(Enrolment(1, 1, 3, "ACTIVE", place, NOW, NOW, NOW), **(waits | more))


def edited(raw: Raw, edit: Edited, run: Enrolment) -> MoveRun | FinishRun | None:
    """Return the decision of the edit for the run; None when the run is not affected."""
    old, new = graph(raw), graph(edit.actions)
    return (
        after_edit(old, new, run, edit.ended, UTC, None, {})
        if affected(old, new, run, edit.ended)
        else None
    )


def goes_on(
    raw: Raw, edit: Edited, run: Enrolment, done: frozenset[str] = frozenset()
) -> list[tuple[str, datetime]]:
    """Return (action, when) of all that the run does after the edit; [] when the edit ended it."""
    after = edited(raw, edit, run)
    if isinstance(after, FinishRun):
        assert after.state == "ENDED_BY_EDIT"
        return []
    return played(edit.actions, moved(run, after), done)


def moved(run: Enrolment, move: MoveRun | None) -> Enrolment:
    if move is None:
        return run
    return replace(
        run,
        place=move.place,
        due_at=move.due_at,
        entered_at=move.entered_at,
        wait_for=move.wait_for,
        attempts=move.attempts,
    )


def played(raw: Raw, run: Enrolment, done: frozenset[str]) -> list[tuple[str, datetime]]:
    seen: list[tuple[str, datetime]] = []
    workflow = Workflow(1, 1, 1, 2, graph(raw), enabled=True)
    now = LATER
    while run.state == "ACTIVE":
        assert run.due_at is not None
        now = max(now, run.due_at)
        for each in run_due(RunDue(TICKET, workflow, run, done, Cause("workflow")), STATE, now):
            if isinstance(each, RecordRun) and each.key is not None and each.action is not None:
                seen.append((each.action, now))
                done |= {each.action}
            elif isinstance(each, MoveRun):
                run = moved(run, each)
            elif isinstance(each, FinishRun):
                run = replace(run, state=each.state)
    return seen


def only(raw: Raw, name: str, keep: str | None = None) -> Edited:
    return remove(raw, graph(raw), name, following=False, keep=keep)


def rest(raw: Raw, name: str) -> Edited:
    return remove(raw, graph(raw), name, following=True)


# a cell of the table
CONFIG: Callable[[Raw], Edited] = lambda raw: change(raw, "b", {"text": "other"})  # noqa: E731
INSERTED: Callable[[Raw], Edited] = lambda raw: insert(raw, "w", note("n"))  # noqa: E731
AT_ONCE, DUE = LATER, NOW + 2 * DAY


@pytest.mark.parametrize(
    ("edit", "place", "expected"),
    [
        pytest.param(CONFIG, "w", [("b", DUE), ("c", DUE)], id="change-before"),
        pytest.param(CONFIG, "b", [("c", AT_ONCE)], id="change-past"),
        pytest.param(INSERTED, "w", [("n", DUE), ("b", DUE), ("c", DUE)], id="insert-before"),
        pytest.param(INSERTED, "a", [("n", DUE), ("b", DUE), ("c", DUE)], id="insert-far-before"),
        pytest.param(INSERTED, "b", [("c", AT_ONCE)], id="insert-past"),
        pytest.param(
            lambda raw: change(raw, "w", {"for": "3d"}),
            "w",
            [("b", NOW + 3 * DAY), ("c", NOW + 3 * DAY)],
            id="longer-in",
        ),
        pytest.param(
            lambda raw: change(raw, "w", {"for": "3d"}),
            "a",
            [("b", NOW + 3 * DAY), ("c", NOW + 3 * DAY)],
            id="longer-before",
        ),
        pytest.param(
            lambda raw: change(raw, "w", {"for": "3d"}), "b", [("c", AT_ONCE)], id="longer-past"
        ),
        pytest.param(
            lambda raw: change(raw, "w", {"for": "1d"}),
            "w",
            [("b", DUE), ("c", DUE)],
            id="shorter-in",
        ),
        pytest.param(
            lambda raw: change(raw, "w", {"for": "1d"}),
            "a",
            [("b", NOW + DAY), ("c", NOW + DAY)],
            id="shorter-before",
        ),
        pytest.param(lambda raw: only(raw, "b"), "w", [("c", DUE)], id="only-this-before"),
        pytest.param(lambda raw: only(raw, "b"), "b", [("c", AT_ONCE)], id="only-this-past"),
        pytest.param(lambda raw: only(raw, "b"), "c", [], id="only-this-far-past"),
        pytest.param(
            lambda raw: only(raw, "w"),
            "a",
            [("b", AT_ONCE), ("c", AT_ONCE)],
            id="only-delay-before",
        ),
        pytest.param(lambda raw: only(raw, "w"), "w", [("b", DUE), ("c", DUE)], id="only-delay-in"),
        pytest.param(lambda raw: only(raw, "w"), "b", [("c", AT_ONCE)], id="only-delay-past"),
        pytest.param(lambda raw: rest(raw, "w"), START, [("a", AT_ONCE)], id="following-before"),
        pytest.param(lambda raw: rest(raw, "w"), "a", [], id="following-just-before"),
        pytest.param(lambda raw: rest(raw, "w"), "w", None, id="following-in"),
        pytest.param(lambda raw: rest(raw, "w"), "b", None, id="following-below"),
        pytest.param(lambda raw: rest(raw, "b"), "w", [], id="following-after-the-delay"),
    ],
)
def test_table_of_edits(
    edit: Callable[[Raw], Edited], place: str, expected: list[tuple[str, datetime]] | None
) -> None:
    """3.4: what a ticket before, in or past the edited action does from then on; None: it ended."""
    assert (edited(LINE, edit(LINE), run_at(place)).__class__ is FinishRun) is (expected is None)
    assert goes_on(LINE, edit(LINE), run_at(place)) == (expected or [])


@pytest.mark.parametrize(
    ("keep", "place", "expected"),
    [
        pytest.param("x", "a", ["x1", "x2", "d"], id="before"),
        pytest.param("x", "f/x", ["x1", "x2", "d"], id="in-it-kept"),
        pytest.param("x", "xw", ["x2", "d"], id="past-on-the-kept-path"),
        pytest.param("x", "x2", ["d"], id="at-the-end-of-the-kept-path"),
        pytest.param("x", "f/", None, id="on-the-other-path"),
        pytest.param("x", "ow", None, id="past-on-the-other-path"),
        pytest.param("x", "d", [], id="far-past"),
        pytest.param("x", "f", ["d"], id="past-the-branch"),
        pytest.param("otherwise", "a", ["o1", "o2", "d"], id="otherwise-before"),
        pytest.param("", "ow", ["o2", "d"], id="otherwise-kept"),
        pytest.param("otherwise", "xw", None, id="otherwise-on-the-other-path"),
        pytest.param("otherwise", "f", ["d"], id="otherwise-past-the-branch"),
    ],
)
def test_a_branch_is_deleted_alone(keep: str, place: str, expected: list[str] | None) -> None:
    """3.4: one path is kept; runs on it go on, runs on another path end."""
    edit = only(FORK, "f", keep)
    kept = (
        [note("x1"), wait("xw"), note("x2")]
        if keep == "x"
        else [note("o1"), wait("ow"), note("o2")]
    )
    assert edit.actions == [note("a"), *kept, note("d")]
    assert (edited(FORK, edit, run_at(place)).__class__ is FinishRun) is (expected is None)
    assert [name for name, _ in goes_on(FORK, edit, run_at(place))] == (expected or [])


def test_a_path_must_be_chosen() -> None:
    """3.4: deleting only a branch needs the name of an existing path to keep."""
    with pytest.raises(Impossible, match="x, otherwise"):
        only(FORK, "f")
    with pytest.raises(Impossible, match="no path 'z'"):
        only(FORK, "f", "z")
    assert [each["id"] for each in rest(FORK, "f").actions] == ["a"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("a", ["x1", "d"]),
        ("f/x", ["x1", "d"]),
        ("x1", ["d"]),
        ("xw", None),
        ("x2", None),
        ("ow", ["o2", "d"]),
    ],
)
def test_this_and_all_following_in_a_path(place: str, expected: list[str] | None) -> None:
    """S12, 3.4: inside a path only the rest of that path goes; everything else stays."""
    edit = rest(FORK, "xw")
    assert (edited(FORK, edit, run_at(place)).__class__ is FinishRun) is (expected is None)
    assert [name for name, _ in goes_on(FORK, edit, run_at(place))] == (expected or [])


def test_a_deleted_delay_is_waited_for_and_insertions_after_it_are_run() -> None:
    """3.4, C15: the original wait ends as planned, then inserted actions run; none runs twice."""
    gone = only(LINE, "w")
    run = run_at("w")
    first = edited(LINE, gone, run)
    assert first == MoveRun(1, "a", NOW + 2 * DAY, NOW, PAST)
    run = moved(run, first)
    again = insert(gone.actions, "a", note("n"))
    assert goes_on(gone.actions, again, run, frozenset({"a"})) == [
        ("n", DUE),
        ("b", DUE),
        ("c", DUE),
    ]
    both = only(again.actions, "a")
    assert goes_on(again.actions, both, run) == [("n", DUE), ("b", DUE), ("c", DUE)]


def test_the_rest_of_a_deleted_delay_is_not_the_delay_before_it() -> None:
    """3.4: a run that waits out a deleted delay is not touched by edits of the delay before it."""
    line = [wait("v", "1d"), wait("w"), note("b")]
    # the run goes on
    run = moved(run_at("w"), edited(line, only(line, "w"), run_at("w")))  # type: ignore[arg-type]
    assert (run.place, run.due_at) == ("v", NOW + 2 * DAY)
    rest_of = [wait("v", "1d"), note("b")]
    assert edited(rest_of, change(rest_of, "v", {"for": "30d"}), run) is None
    assert goes_on(rest_of, change(rest_of, "v", {"for": "30d"}), run) == [("b", NOW + 2 * DAY)]


@pytest.mark.parametrize("more", [{"attempts": 2}, {"wait_for": PAST}])
def test_a_run_past_a_delay_is_not_moved_by_its_edits(more: dict[str, Any]) -> None:
    """3.4: a run that retries, or waits for its window, does not wait in the delay before it."""
    assert (
        edited(LINE, change(LINE, "w", {"for": "30d"}), run_at("w", due_at=LATER, **more)) is None
    )


def test_waiting_for_an_event_goes_on() -> None:
    """3.4: a wait for an event goes on when the delay is made longer or is deleted."""
    line = [
        note("a"),
        {"id": "w", "kind": "delay", "event": "customer_reply", "for": "2d"},
        note("b"),
    ]
    run = run_at("w", wait_for="customer_reply")
    assert edited(line, change(line, "w", {"for": "3d"}), run) == MoveRun(
        1, "w", NOW + 3 * DAY, NOW, "customer_reply"
    )
    assert edited(line, only(line, "w"), run) == MoveRun(
        1, "a", NOW + 2 * DAY, NOW, "customer_reply"
    )


def test_a_run_with_its_event_waits_no_more() -> None:
    """3.4: a run whose event came continues at once, even if the delay is made longer."""
    line = [{"id": "w", "kind": "delay", "event": "customer_reply", "for": "2d"}, note("b")]
    woken = run_at("w", wait_for=None, due_at=LATER)
    assert goes_on(line, change(line, "w", {"for": "30d"}), woken) == [("b", LATER)]


def test_an_event_has_no_due_of_its_own() -> None:
    """3.4: an open-ended wait takes the limit of its new delay, not the year that ends any wait."""
    line = [{"id": "w", "kind": "delay", "event": "agent_reply"}, note("b")]
    run = run_at("w", wait_for="agent_reply", due_at=NOW + 365 * DAY)
    assert edited(line, change(line, "w", {"event": None, "for": "2d"}), run) == MoveRun(
        1, "w", NOW + 2 * DAY, NOW, None
    )
    assert edited(line, change(line, "w", {"for": "3d"}), run) == MoveRun(
        1, "w", NOW + 3 * DAY, NOW, "agent_reply"
    )
    assert edited(line, change(line, "w", {"event": "customer_reply"}), run) == MoveRun(
        1, "w", NOW + 365 * DAY, NOW, "customer_reply"
    )


def test_an_id_that_becomes_another_kind() -> None:
    """3.4: a delay's id that an import gives to another action counts as deleted for runs in it."""
    line, due = [note("a"), wait("w", "8h"), note("b")], NOW + timedelta(hours=8)
    for other in (
        note("w"),
        {"id": "w", "kind": "branch", "branches": [{"name": "x", "when": YES}]},
    ):
        after = edited(line, Edited([note("a"), other, note("b")]), run_at("w", due_at=due))
        assert after == MoveRun(1, "w", due, NOW, PAST)


def test_where_an_action_can_be_inserted() -> None:
    """After an action, at the start of all or of a path; unknown places are refused."""
    new = note("n")
    assert [each["id"] for each in insert(FORK, "", new).actions] == ["n", "a", "f", "d"]
    assert [each["id"] for each in insert(FORK, "start", new).actions] == ["n", "a", "f", "d"]
    assert [each["id"] for each in insert(FORK, "f", new).actions] == ["a", "f", "n", "d"]
    assert insert(FORK, "f/x", new).actions[1]["branches"][0]["actions"][0] == new
    assert insert(FORK, "f/otherwise", new).actions[1]["otherwise"][0] == new
    assert insert(FORK, "x1", new).actions[1]["branches"][0]["actions"][1] == new
    bare = [{"id": "f", "kind": "branch", "branches": [{"name": "x", "when": YES}]}]
    assert insert(bare, "f/x", new).actions[0]["branches"][0]["actions"] == [new]
    assert "actions" not in bare[0]["branches"][0]  # type: ignore[index]
    for place in ("z", "f/z", "a/x"):
        with pytest.raises(Impossible, match="unknown action"):
            insert(FORK, place, new)


def test_what_can_be_changed() -> None:
    """Values can be changed and keys removed, never id or kind; the old list stays untouched."""
    assert change(LINE, "w", {"for": None, "until": "2026-12-24"}).actions[1] == {
        "id": "w",
        "kind": "delay",
        "until": "2026-12-24",
    }
    assert change(FORK, "x1", {"text": "t"}).actions[1]["branches"][0]["actions"][0]["text"] == "t"
    assert LINE[1] == wait("w")
    for values in ({"id": "z"}, {"kind": "stop"}):
        with pytest.raises(Impossible, match="cannot be changed"):
            change(LINE, "w", values)
    with pytest.raises(Impossible, match="unknown action"):
        change(LINE, "z", {"text": "t"})
    with pytest.raises(Impossible, match="unknown action"):
        remove(LINE, graph(LINE), "z", following=True)
