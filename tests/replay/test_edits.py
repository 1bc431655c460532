"""Tests of workflow edits with tickets inside, versions, rights (behaviour.md 3.4, 3.6 to 3.8)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.desk.tickets import NewTicket
from gateway.desk.workflows import WorkflowPlan
from gateway.errors import Forbidden, Invalid, NotFound, Refused
from gateway.store.setup import workflow_history
from tests.replay.office import Office
from tests.replay.workflows import RECEIPT, by_hand, outcomes, states, tag, tags, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")
FORK: dict[str, Any] = {
    "id": "fork",
    "kind": "branch",
    "branches": [
        {
            "name": "high",
            "when": {"field": "priority", "value": "high"},
            "actions": [wait("1d", "inner"), tag("high")],
        },
        {
            "name": "low",
            "when": {"field": "priority", "value": "low"},
            "actions": [wait("1d", "other"), tag("low")],
        },
    ],
    "otherwise": [tag("none")],
}


async def started(office: Office, actions: list[dict[str, Any]], count: int = 1) -> None:
    """Enrol tickets in a workflow of New and run them as far as they go."""
    await office.workflow("New", actions)
    for _ in range(count):
        await by_hand(office)
    await office.run()


async def versions(office: Office, status: str = "New") -> list[tuple[int, str | None]]:
    """Return (number, note) of each saved version."""
    async with office.database.read() as connection:
        own = await office._id(connection, "Support", status)
        return [
            (each.version, each.note) for each in await workflow_history.versions(connection, own)
        ]


async def test_85_a_longer_delay_counts_from_the_entry(office: Office):
    """Scenario 85, 3.4: one day becomes two; the ticket goes on two days after it entered."""
    await started(office, [wait("1d"), tag("x")])
    entered = office.clock.now()
    await office.later(hours=12)
    await office.editor().change("Support", "New", "wait", {"for": "2d"})
    [run] = await office.enrolments("New")
    assert run.due_at == entered + timedelta(days=2)
    await office.later(hours=13)
    assert await tags(office) == []
    office.clock.set(entered + timedelta(days=2))
    await office.run()
    assert await tags(office) == ["x"]


async def test_a_shorter_delay_keeps_its_first_due_time(office: Office):
    """3.4: a ticket waiting in the delay keeps its time; later ones wait the new time."""
    await started(office, [wait("2d"), tag("x")])
    await office.editor().change("Support", "New", "wait", {"for": "1h"})
    await by_hand(office)
    await office.run()
    await office.later(hours=1)
    assert (await tags(office, 1), await tags(office, 2)) == ([], ["x"])
    await office.later(hours=47)
    assert await tags(office, 1) == ["x"]


async def test_87_a_waiting_ticket_waits_out_a_deleted_delay(office: Office):
    """Scenario 87, 3.4: a waiting ticket goes on at its original time; later ones do not wait."""
    await started(office, [tag("a"), wait("2d"), tag("x")])
    saved = await office.editor().delete("Support", "New", "wait", following=False)
    assert (saved.waiting, saved.ended) == (1, 0)
    await by_hand(office)
    await office.later(days=1)
    assert (await tags(office, 1), await tags(office, 2)) == (["a"], ["a", "x"])
    await office.later(days=1)
    assert (await tags(office, 1), await states(office, "New")) == (["a", "x"], ["DONE", "DONE"])


async def test_88_this_and_all_following(office: Office):
    """Scenario 88, 3.4: runs below end by the edit; runs before it end there, DONE."""
    await started(
        office, [tag("one"), wait("1d", "two"), wait("1d", "three"), tag("four"), tag("five")]
    )
    await office.later(days=1)
    await by_hand(office)
    await office.run()
    saved = await office.editor().delete("Support", "New", "three", following=True)
    assert (saved.waiting, saved.ended) == (1, 1)
    assert [each.id for each in saved.workflow.graph.all()] == ["one", "two"]
    ended, _ = await office.enrolments("New")
    assert (ended.state, ended.end_reason) == (
        "ENDED_BY_EDIT",
        "the actions that the ticket was in were deleted",
    )
    await office.later(days=2)
    assert await states(office, "New") == ["ENDED_BY_EDIT", "DONE"]
    assert (await tags(office, 1), await tags(office, 2)) == (["one"], ["one"])


async def test_another_config_is_used_by_tickets_before_it(office: Office):
    """3.4: tickets before the action use the new values; tickets past it are not touched."""
    await started(office, [wait("1d"), tag("x"), wait("1d", "more"), tag("y")])
    await by_hand(office)
    await office.later(days=1)
    await by_hand(office)
    await office.run()
    await office.editor().change("Support", "New", "x", {"tag": "changed"})
    await office.later(days=1)
    assert (await tags(office, 1), await tags(office, 3)) == (["x", "y"], ["changed"])


async def test_an_inserted_action_runs_for_tickets_before_it(office: Office):
    """3.4: tickets past the place never run it; no ticket runs anything twice."""
    await started(office, [wait("1d"), tag("x"), wait("1d", "more"), tag("y")])
    await office.later(days=1)
    await by_hand(office)
    await office.run()
    await office.editor().add("Support", "New", "wait", tag("inserted"))
    await office.editor().add("Support", "New", "start", tag("first"))
    await office.editor().add("Support", "New", "y", tag("last"))
    await office.later(days=1)
    await office.later(days=1)
    assert await tags(office, 1) == ["x", "y", "last"]
    assert await tags(office, 2) == ["inserted", "x", "y", "last"]


async def test_a_deleted_action_is_passed_over(office: Office):
    """3.4: the other actions go on; the history keeps what the deleted one did."""
    await started(office, [tag("gone"), wait("1d"), tag("x"), tag("y")])
    await office.editor().delete("Support", "New", "x", following=False)
    await office.editor().delete("Support", "New", "gone", following=False)
    await office.later(days=1)
    assert await tags(office) == ["gone", "y"]
    assert await office.runs("New") == [("gone", "OK"), ("wait", "OK"), ("y", "OK")]


async def test_a_deleted_branch_keeps_the_path_that_is_chosen(office: Office):
    """3.4: runs on the kept path stay, on another end, and before the branch take the kept one."""
    await office.workflow("New", [wait("1h"), FORK, tag("end")])
    for priority in ("high", "low"):
        number = await by_hand(office)
        await office.world.desk().set(number, {"priority": priority})
    await office.run()
    await office.later(hours=1)
    await by_hand(office)
    await office.run()
    with pytest.raises(Refused, match="which of its paths to keep"):
        await office.editor().delete("Support", "New", "fork", following=False)
    with pytest.raises(Refused, match="no path"):
        await office.editor().delete("Support", "New", "fork", following=False, keep="middle")
    saved = await office.editor().delete("Support", "New", "fork", following=False, keep="high")
    assert [each.id for each in saved.workflow.graph.all()] == ["wait", "inner", "high", "end"]
    assert await states(office, "New") == ["ACTIVE", "ENDED_BY_EDIT", "ACTIVE"]
    await office.later(days=1)
    await office.later(days=1)
    assert [await tags(office, each) for each in (1, 2, 3)] == [
        ["high", "end"],
        [],
        ["high", "end"],
    ]


async def test_a_deleted_branch_may_keep_the_none_met_path(office: Office):
    """3.4: the none-met path can be kept like any other."""
    await started(office, [wait("1h"), FORK, tag("end")])
    await office.editor().delete("Support", "New", "fork", following=False, keep="otherwise")
    await office.later(hours=1)
    assert await tags(office) == ["none", "end"]


async def test_an_edit_that_leaves_a_bad_workflow_changes_nothing(office: Office):
    """3.4: a duplicate, unknown, missing or changed id or kind is refused without a version."""
    await started(office, [wait("1d"), tag("x")])
    editor = office.editor()
    with pytest.raises(Invalid, match="used twice"):
        await editor.add("Support", "New", "wait", tag("x"))
    with pytest.raises(Invalid, match="unknown kind"):
        await editor.add("Support", "New", "wait", {"id": "y", "kind": "dance"})
    with pytest.raises(Refused, match="unknown action 'nowhere'"):
        await editor.add("Support", "New", "nowhere", tag("y"))
    with pytest.raises(Refused, match="cannot be changed"):
        await editor.change("Support", "New", "x", {"id": "z"})
    with pytest.raises(Invalid, match="for must be a span"):
        await editor.change("Support", "New", "wait", {"for": "soon"})
    with pytest.raises(Invalid, match="no template 'Nothing'"):
        await editor.add(
            "Support", "New", "wait", {"id": "m", "kind": "send_email", "template": "Nothing"}
        )
    with pytest.raises(Invalid, match="no status 'Nowhere'"):
        await editor.add(
            "Support", "New", "wait", {"id": "m", "kind": "set_status", "status": "Nowhere"}
        )
    assert len(await versions(office)) == 2  # the default workflow, and the one stored here


async def test_versions_are_kept_and_restored(office: Office):
    """3.7: each save is a new immutable version; restoring is a save, and tickets follow it."""
    await started(office, [wait("1d"), tag("x")])
    await office.editor().delete("Support", "New", "x", following=False)
    await office.editor().add("Support", "New", "wait", tag("y"))
    assert [note for _, note in await versions(office)][1:] == ["import", "delete x", "insert y"]
    saved = await office.editor().restore("Support", "New", 2)
    assert saved.version == 5
    assert [number for number, _ in await versions(office)] == [1, 2, 3, 4, 5]
    await office.later(days=1)
    assert await tags(office) == ["x"]
    with pytest.raises(NotFound, match="no version 9"):
        await office.editor().restore("Support", "New", 9)


async def test_the_same_workflow_again_is_no_new_version(office: Office):
    """3.1: saving without a change, or changing only a switch, makes no version."""
    await started(office, [wait("1d"), tag("x")])
    before = await versions(office)
    [saved] = await office.editor().put(
        [WorkflowPlan("support", "new", [wait("1d"), tag("x")], {"re_enroll": True})]
    )
    assert (saved.version, await versions(office)) == (2, before)
    assert (saved.workflow.enabled, saved.workflow.re_enroll) == (True, True)


async def test_runs_name_the_version_that_was_current(office: Office):
    """3.1: an enrolment follows the current version, and the log names it."""
    await started(office, [tag("a"), wait("1d"), tag("b")])
    await office.editor().change("Support", "New", "b", {"tag": "c"})
    await office.later(days=1)
    assert await office.world.rows("action_run", "action", "version") == [
        ("a", 2),
        ("b", 3),
        ("wait", 2),
    ]


async def test_96_a_comment_is_seen_and_sent_to_nobody(office: Office):
    """Scenario 96, 3.6: a comment keeps author and time, and sends, moves and saves nothing."""
    await office.user()
    await started(office, [tag("a"), wait("1d"), tag("b")])
    before = await versions(office)
    await office.editor("agent@desk.example").comment(
        "Support", "New", "b", "Is this right, @boss?"
    )
    await office.run()
    assert (await versions(office), office.sink.taken) == (before, [])
    await office.editor().delete("Support", "New", "b", following=False)
    async with office.database.read() as connection:
        [comment] = await workflow_history.comments(
            connection, await office._id(connection, "Support", "New")
        )
    assert (comment.action, comment.author, comment.text, comment.at, comment.resolved_at) == (
        "b",
        "agent@desk.example",
        "Is this right, @boss?",
        office.clock.now(),
        None,
    )
    with pytest.raises(NotFound, match="no action 'b'"):
        await office.editor().comment("Support", "New", "b", "Gone.")
    with pytest.raises(Invalid, match="needs a text"):
        await office.editor().comment("Support", "New", "a", "  ")


@pytest.mark.parametrize("role", ["agent", "reader"])
async def test_97_without_the_right_a_workflow_is_only_read(office: Office, role: str):
    """Scenario 97, 3.8: every edit is refused and nothing has changed."""
    await office.user(role=role)
    await started(office, [wait("1d"), tag("x")])
    editor = office.editor("agent@desk.example")
    templates = office.templates("agent@desk.example")
    before = await office.world.dump()
    for act in (
        editor.put([WorkflowPlan("Support", "New", [RECEIPT])]),
        editor.set("Support", "New", {"enabled": False}),
        editor.add("Support", "New", "wait", tag("y")),
        editor.change("Support", "New", "wait", {"for": "1h"}),
        editor.delete("Support", "New", "wait", following=True),
        editor.restore("Support", "New", 1),
        editor.drop("Support", "New"),
        editor.enroll("Support", "New", 1),
        editor.unenroll("Support", "New", 1),
        templates.put_template("Ticket received", "", "x", "x", None, transactional=None),
        templates.delete_template("Ticket received"),
    ):
        with pytest.raises(Forbidden, match=f"an? {role} cannot .*: an automation or admin user"):
            await act
    assert await office.world.dump() == before


async def test_the_automation_right_is_enough_to_edit(office: Office):
    """3.8: a user with the automation right can edit, and the version names them."""
    await office.user(role="automation")
    await started(office, [wait("1d")])
    saved = await office.editor("agent@desk.example").add("Support", "New", "wait", tag("x"))
    assert saved.version == 3
    assert (await office.world.rows("workflow_version", "version", "author"))[-1] == (
        3,
        "agent@desk.example",
    )


async def test_a_status_change_names_its_rule(office: Office):
    """3.7 (4): the move and the enrolment it causes name the workflow and action behind them."""
    await office.workflow("Waiting on us", [wait("1d")])
    await started(office, [{"id": "pass", "kind": "set_status", "status": "Waiting on us"}])
    events = (await office.world.ticket(1))["events"]
    [moved] = [
        each for each in events if each["type"] == "status_changed" and each["before"] is not None
    ]
    assert (moved["cause"]["rule"], moved["cause"]["workflow"], moved["cause"]["action"]) == (
        "workflow",
        "Support / New",
        "pass",
    )
    [run] = await office.enrolments("Waiting on us")
    assert (run.cause["workflow"], run.cause["action"], len(run.chain)) == (
        "Support / New",
        "pass",
        1,
    )


async def test_every_problem_of_an_import_is_reported_at_once(office: Office):
    """interfaces.md 2.4: one message names every problem of all workflows; nothing changes."""
    plans = [
        WorkflowPlan(
            "Support",
            "New",
            [{"id": "a", "kind": "dance"}, {"id": "b", "kind": "send_email", "template": "None"}],
            {"on_leave": "run"},
        ),
        WorkflowPlan("Support", "Nowhere", []),
        WorkflowPlan("Nowhere", "New", []),
        WorkflowPlan("Support", "Closed", [tag("x")]),
    ]
    with pytest.raises(Invalid) as refused:
        await office.editor().put(plans)
    for said in (
        "unknown kind 'dance'",
        "no template 'None'",
        "on_leave is",
        "no status 'Nowhere'",
        "unknown pipeline 'Nowhere'",
    ):
        assert said in refused.value.message
    assert len(await versions(office, "Closed")) == 1


async def test_a_template_in_use_cannot_be_deleted(office: Office):
    """A template that a workflow sends cannot be deleted; an unused one can."""
    templates = office.templates()
    await templates.put_template("Hello", "", "Hi", "Hi.", None, transactional=True)
    await office.workflow("New", [{"id": "hi", "kind": "send_email", "template": "hello"}])
    with pytest.raises(Refused, match="is sent by hi of Support / New"):
        await templates.delete_template("Hello")
    await office.workflow("New", [])
    await templates.delete_template("Hello")
    with pytest.raises(NotFound, match="no template"):
        await templates.delete_template("Hello")


async def test_an_edit_while_an_action_waits_for_its_next_try(office: Office):
    """3.3, 3.4: a run between two tries of a deleted action goes on with the next action."""
    await office.templates().put_template("Hello", "", "Hi", "Hi.", None, transactional=True)
    await office.workflow(
        "New", [{"id": "hi", "kind": "send_email", "template": "Hello"}, tag("x")]
    )
    async with office.database.write() as connection:
        from gateway.store.schema import tables

        await connection.execute(
            tables.metadata.tables["template_text"].update().values(text="{% broken")
        )
    await office.world.desk().create(NewTicket("Printer", "ann@example.org", None, None, "manual"))
    await office.run()
    assert await outcomes(office, "New") == ["RETRY"]
    await office.editor().delete("Support", "New", "hi", following=False)
    await office.later(minutes=1)
    assert (await tags(office), await states(office, "New"), office.sink.taken) == (
        ["x"],
        ["DONE"],
        [],
    )
