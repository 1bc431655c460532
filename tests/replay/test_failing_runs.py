"""Tests of runs that fail or go in circles, and of dry runs (behaviour.md 3.3, 3.7)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.agenda.dry_run import tryout
from gateway.desk.tickets import NewTicket
from tests.replay.office import Office
from tests.replay.workflows import (
    ANN,
    RECEIPT,
    REMINDER,
    by_hand,
    outcomes,
    states,
    tag,
    tags,
    template,
    wait,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_mail_that_cannot_be_made_is_tried_five_times(office: Office):
    """3.3: five retries with growing pauses, then FAILED with an event, and the run goes on."""
    await template(office)
    await office.workflow("New", [REMINDER, tag("after")])
    await by_hand(office)
    async with office.database.write() as connection:
        from gateway.store.schema import tables

        await connection.execute(
            tables.metadata.tables["template_text"].update().values(text="{% broken")
        )
    await office.run()
    for minutes in (1, 2, 4, 8, 16):
        assert (await outcomes(office, "New"))[-1] == "RETRY"
        await office.later(minutes=minutes)
    assert await office.runs("New") == [("remind", "RETRY")] * 5 + [
        ("remind", "FAILED"),
        ("after", "OK"),
    ]
    assert (await tags(office), await states(office, "New")) == (["after"], ["DONE"])


async def test_a_template_mended_in_time_is_sent(office: Office):
    """3.3: a template corrected between two tries is sent, once."""
    await template(office)
    await office.workflow("New", [REMINDER])
    await by_hand(office)
    async with office.database.write() as connection:
        from gateway.store.schema import tables

        await connection.execute(
            tables.metadata.tables["template_text"].update().values(text="{% broken")
        )
    await office.run()
    await template(office, "Mended.")
    await office.later(minutes=1)
    await office.later(days=1)
    assert ["Mended." in each.text for each in office.sink.taken] == [True]


async def test_stop_on_failure_ends_the_run(office: Office):
    """3.3: with stop_on_failure nothing further runs; an owner who wants to know is notified."""
    await office.user(
        "boss@desk.example", "Boss", "admin", notify={"new": False, "reply": False, "failure": True}
    )
    await office.workflow(
        "New",
        [
            {
                "id": "own",
                "kind": "set_owner",
                "owner": "nobody@desk.example",
                "stop_on_failure": True,
            },
            tag("after"),
        ],
    )
    await by_hand(office)
    await office.world.desk().set(1, {"owner": "boss@desk.example"})
    await office.run()
    await office.later(hours=1)
    [run] = await office.enrolments("New")
    assert (run.state, await tags(office), await outcomes(office, "New")) == (
        "FAILED",
        [],
        ["FAILED"],
    )
    assert any(
        "own of Support / New failed" in each.text for each in office.received("boss@desk.example")
    )


async def test_workflows_that_move_a_ticket_in_a_circle_stop(office: Office):
    """3.3: the loop guard stops a chain that returns to a workflow, even with re-enrol on."""
    move = {"id": "move", "kind": "set_status"}
    await office.workflow("New", [{**move, "status": "Waiting on us"}], re_enroll=True)
    await office.workflow("Waiting on us", [{**move, "status": "New"}], re_enroll=True)
    await by_hand(office)
    await office.run()
    assert await office.runs("New") == [("move", "OK"), (None, "SKIPPED_LOOP")]
    assert await office.runs("Waiting on us") == [("move", "OK")]
    assert await office.status(1) == "New"


async def test_a_chain_of_more_than_ten_workflows_stops(office: Office):
    """3.3: the loop guard refuses the twelfth workflow in a row, also without a circle."""
    from gateway.desk.pipelines import PipelineDesk

    names = [f"S{each:02}" for each in range(13)]
    pipelines = PipelineDesk(office.database, office.clock, office.house.zone, "console")
    await pipelines.add_pipeline("Long", [*((name, "open") for name in names), ("Done", "closed")])
    for name, onward in pairwise(names):
        await office.workflow(
            name, [{"id": "on", "kind": "set_status", "status": onward}], pipeline="Long"
        )
    await office.world.desk().create(NewTicket("x", ANN, "Long", None, "manual"))
    await office.run()
    assert await office.status(1) == "S11"
    assert await office.runs("S10", pipeline="Long") == [("on", "OK")]
    assert await office.runs("S11", pipeline="Long") == [(None, "SKIPPED_LOOP")]
    assert await office.enrolments("S11", pipeline="Long") == []


async def test_100_nothing_is_sent_twice(office: Office):
    """Scenario 100: a further pass, or a run reset as after a crash, sends no second mail."""
    await office.switch_on("New")
    await by_hand(office)
    await office.run()
    assert await office.run() == []
    async with office.database.write() as connection:
        from gateway.store.schema import tables

        await connection.execute(
            tables.metadata.tables["enrolment"]
            .update()
            .values(state="ACTIVE", place="", due_at=office.clock.now())
        )
    await office.run()
    assert len(office.sink.taken) == 1
    keys = [row[0] for row in await office.world.rows("outgoing", "key")]
    assert len(keys) == len(set(keys)) == 1
    assert None not in keys


async def test_101_a_dry_run_shows_path_and_mails_and_changes_nothing(office: Office):
    """Scenario 101: delays are skipped, moves and mails shown, and every table is as before."""
    fork = {
        "id": "fork",
        "kind": "branch",
        "branches": [
            {"name": "new", "when": {"field": "status", "value": "New"}, "actions": [tag("inside")]}
        ],
        "otherwise": [tag("other")],
    }
    await office.workflow(
        "New",
        [RECEIPT, wait("3d"), fork, {"id": "close", "kind": "set_status", "status": "Closed"}],
        enabled=False,
    )
    await office.workflow("Closed", [tag("closed")])
    await by_hand(office)
    before = await office.world.dump(())
    shown = await tryout(office.database, office.clock, office.house, "Support", "New", 1)
    assert await office.world.dump(()) == before
    assert [(each["action"], each["kind"], each["outcome"]) for each in shown["path"]] == [
        ("receipt", "send_email", "OK"),
        ("wait", "delay", "OK"),
        ("fork", "branch", "OK"),
        ("inside", "add_tag", "OK"),
        ("close", "set_status", "OK"),
    ]
    [mail] = shown["mails"]
    assert mail["to"] == ["ann@example.org"]
    assert "Printer on fire" in mail["subject"] + mail["text"]
    assert office.sink.taken == []


async def test_101_a_dry_run_of_a_ticket_that_is_in_it_leaves_its_run(office: Office):
    """Scenario 101: the waiting run of the ticket keeps its place and due time."""
    await office.workflow("New", [wait("3d"), tag("x")])
    await by_hand(office)
    await office.run()
    before = await office.world.dump(())
    shown = await tryout(office.database, office.clock, office.house, "Support", "New", 1)
    assert ([each["action"] for each in shown["path"]], await office.world.dump(())) == (
        ["wait", "x"],
        before,
    )
