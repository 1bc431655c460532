"""Tests of which tickets enter a status workflow and when they leave (behaviour.md 3.2, 3.5)."""

from __future__ import annotations

import pytest

from gateway.errors import Refused
from tests.replay.office import Office, answer, letter
from tests.replay.workflows import (
    ANN,
    NOTE,
    RECEIPT,
    REMINDER,
    by_hand,
    messages,
    states,
    tag,
    tags,
    template,
    wait,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_82_a_workflow_that_is_off_enrols_nobody(office: Office):
    """Scenario 82: reaching the status starts nothing, and enabling the workflow enrols nobody."""
    await office.mail(ANN)
    await office.run()
    await office.switch_on("New")
    await office.run()
    assert (await office.enrolments("New"), office.sink.taken) == ([], [])


async def test_98_switching_on_enrols_present_tickets_on_request_only(office: Office):
    """Scenario 98: tickets already there stay out; --enroll-existing enrols the eligible ones."""
    for _ in range(11):
        await by_hand(office, "Waiting on us")
    await by_hand(office, "Waiting on us", source="chat")
    await office.workflow("Waiting on us", [tag("x")], enabled=False)
    _, inside, enrolled = await office.editor().set("Support", "Waiting on us", {"enabled": True})
    assert (inside, enrolled, await office.enrolments("Waiting on us")) == (12, 0, [])
    _, inside, enrolled = await office.editor().set(
        "Support", "Waiting on us", {"enabled": True}, enroll_existing=True
    )
    assert (inside, enrolled, await states(office, "Waiting on us")) == (12, 11, ["ACTIVE"] * 11)
    await office.world.desk().delete(3)
    await office.run()
    assert sorted(await states(office, "Waiting on us")) == ["DONE"] * 10 + ["UNENROLLED"]


async def test_94_chat_stays_out_until_the_source_filter_says_otherwise(office: Office):
    """Scenario 94 (S13): tickets from chat stay out until the source filter includes them."""
    await office.workflow("New", [NOTE])
    await by_hand(office, source="chat")
    await by_hand(office, source="messenger")
    assert await office.enrolments("New") == []
    await office.editor().set("Support", "New", {"exclude_sources": []})
    await by_hand(office, source="chat")
    assert [each.ticket for each in await office.enrolments("New")] == [3]


@pytest.mark.parametrize("how", ["mail", "user", "api", "B", "S9", "workflow", "A"])
async def test_any_move_enrols_in_the_same_transaction(office: Office, how: str):
    """3.2, 3.3: creating a ticket in the status, or moving it there, enrols it at once."""
    target = {
        "mail": "New",
        "user": "Waiting on us",
        "api": "New",
        "B": "Waiting on us",
        "S9": "New",
        "A": "Waiting on contact",
        "workflow": "Closed",
    }[how]
    await office.mail(ANN)
    if how in ("B", "S9"):
        await office.reply(1)
        await office.run()
    if how == "S9":
        await office.world.desk().move([1], "Closed")
    if how == "workflow":
        await office.workflow(
            "Waiting on us", [{"id": "close", "kind": "set_status", "status": "Closed"}]
        )
    await office.workflow(target, [tag("here")])
    number = 1
    match how:
        case "mail":
            number = (await office.mail("bob@example.org"))["ticket"]
        case "api":
            number = await by_hand(office, source="api")
        case "user":
            await office.world.desk().move([1], target)
        case "A":
            await office.reply(1)
        case "B" | "S9":
            await office.world.mail(
                answer(office.received("ann@example.org")[0], "Again.", office.clock.now())
            )
        case _:
            await office.world.desk().move([1], "Waiting on us")
            await office.run()
    assert await office.status(number) == target
    [run] = await office.enrolments(target)
    assert (run.ticket, run.state) == (number, "DONE" if how == "workflow" else "ACTIVE")
    assert run.cause["rule"] == {"api": "user", "mail": "mail"}.get(how, how)
    await office.run()
    assert (await tags(office, number), await states(office, target)) == (["here"], ["DONE"])


async def test_the_same_status_again_enrols_nobody(office: Office):
    """3.2: writing the status a ticket has is no move."""
    await by_hand(office)
    await office.workflow("New", [tag("x")])
    await office.world.desk().move([1], "New")
    assert await office.enrolments("New") == []


async def test_filters_decide_who_enters(office: Office):
    """3.2: the filter must hold and the condition that ends runs must not."""
    urgent = {"field": "subject", "op": "contains", "value": "urgent"}
    await office.workflow(
        "New",
        [tag("x")],
        filter=urgent,
        unenroll_when={"any": [{"field": "requester_domain", "value": "test.example"}]},
    )
    for sender, subject in (
        (ANN, "Printer"),
        (ANN, "Urgent printer"),
        ("c@test.example", "urgent too"),
    ):
        await office.mail(sender, subject)
    assert [each.ticket for each in await office.enrolments("New")] == [2]


async def test_a_run_ends_when_its_condition_comes_true(office: Office):
    """3.1, unenroll_when: checked before each action."""
    await office.workflow(
        "New", [wait("1d"), tag("late")], unenroll_when={"field": "priority", "value": "low"}
    )
    await by_hand(office)
    await office.run()
    await office.world.desk().set(1, {"priority": "low"})
    await office.later(days=1)
    assert (await states(office, "New"), await tags(office)) == (["UNENROLLED"], [])


async def test_by_hand_filters_and_the_once_rule_do_not_bind(office: Office):
    """3.2: manual enrolment ignores filters and the once-rule, but never enrols twice at once."""
    await office.workflow(
        "New",
        [tag("x"), wait("1d")],
        filter={"field": "priority", "value": "low"},
        exclude_sources=["manual"],
    )
    await by_hand(office)
    editor = office.editor()
    assert await office.enrolments("New") == []
    await editor.enroll("Support", "New", 1)
    await office.run()
    with pytest.raises(Refused, match="ticket 1 is already in workflow Support / New"):
        await editor.enroll("Support", "New", 1)
    await office.later(days=1)
    await editor.enroll("Support", "New", 1)
    await editor.unenroll("Support", "New", 1)
    with pytest.raises(Refused, match="ticket 1 is not in workflow Support / New"):
        await editor.unenroll("Support", "New", 1)
    assert await states(office, "New") == ["DONE", "UNENROLLED"]


async def test_inv12_nobody_is_put_into_a_workflow_that_is_off(office: Office):
    """INV12, 3.5: a disabled workflow enrols nobody, even by hand; leaving is possible."""
    await office.workflow("New", [wait("1d")])
    await by_hand(office)
    await by_hand(office)
    editor = office.editor()
    await editor.unenroll("Support", "New", 2)
    await editor.set("Support", "New", {"enabled": False})
    with pytest.raises(Refused, match="workflow Support / New is switched off"):
        await editor.enroll("Support", "New", 2)
    await editor.unenroll("Support", "New", 1)
    assert await states(office, "New") == ["UNENROLLED", "UNENROLLED"]


async def test_92_a_reminder_stops_when_the_ticket_leaves(office: Office):
    """Scenario 92: the customer replies on day 2 of 3, and no reminder is sent."""
    await template(office)
    await office.workflow("Waiting on contact", [wait("3d"), REMINDER], on_leave="unenroll")
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    await office.later(days=2)
    await office.world.mail(
        answer(office.received("ann@example.org")[0], "Here I am.", office.clock.now())
    )
    assert await states(office, "Waiting on contact") == ["UNENROLLED"]
    await office.later(days=2)
    assert len(office.received("ann@example.org")) == 1


async def test_on_leaving_the_default_is_to_go_on(office: Office):
    """3.2 (D): the reminder is sent although the ticket has another status by then."""
    await template(office)
    await office.workflow("Waiting on contact", [wait("3d"), REMINDER])
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    await office.world.desk().move([1], "Waiting on us")
    await office.later(days=3)
    assert len(office.received("ann@example.org")) == 2


@pytest.mark.parametrize("leave", ["continue", "unenroll"])
async def test_p08_another_pipeline_is_leaving_too(office: Office, leave: str):
    """P08: old runs follow their own leave rule; the new pipeline's workflow enrols the ticket."""
    from gateway.desk.pipelines import PipelineDesk

    pipelines = PipelineDesk(office.database, office.clock, office.house.zone, "console")
    await pipelines.add_pipeline("Sales", [("Lead", "open"), ("Won", "closed")])
    await office.workflow("New", [wait("1d"), tag("old")], on_leave=leave)
    await office.workflow("Lead", [tag("lead")], pipeline="Sales")
    await by_hand(office)
    await office.run()
    await office.world.desk().move([1], "Lead", "Sales")
    await office.later(days=1)
    assert await tags(office) == (["lead", "old"] if leave == "continue" else ["lead"])


async def test_p05_the_wizard_of_a_deleted_status_sends_nothing(office: Office):
    """P04, P05, scenario 103: refused with a count; migrated tickets enter no workflow."""
    from gateway.desk.pipelines import PipelineDesk

    pipelines = PipelineDesk(office.database, office.clock, office.house.zone, "console")
    await pipelines.add_status("Support", "Parked", "open")
    await office.workflow("Parked", [wait("1d"), tag("x")])
    await office.workflow("Waiting on us", [RECEIPT])
    await office.workflow(
        "New", [{"id": "park", "kind": "set_status", "status": "Parked"}], enabled=False
    )
    for _ in range(4):
        await by_hand(office, "Parked")
    with pytest.raises(Refused, match="4 tickets"):
        await pipelines.delete_status("Support", "Parked")
    assert await states(office, "Parked") == ["ACTIVE"] * 4
    deleted = await pipelines.delete_status("Support", "Parked", "Waiting on us")
    assert deleted.moved == (1, 2, 3, 4)
    await office.later(days=2)
    assert (await office.enrolments("Waiting on us"), office.sink.taken) == ([], [])
    assert {row[0] for row in await office.world.rows("enrolment", "state")} == {"UNENROLLED"}
    await office.editor().set("Support", "New", {"enabled": True})
    await by_hand(office)
    await office.run()
    assert await office.status(5) == "Waiting on us"  # the action now names the target


async def test_p10_p12_merge_split_and_import_enrol_nobody(office: Office):
    """3.2, P10, P11: a merge ends the merged ticket's runs; the other acts start none."""
    await office.mail(ANN)
    await office.mail("bob@example.org", "Second")
    await office.workflow("New", [wait("1d"), tag("x")])
    await office.workflow("Waiting on us", [RECEIPT])
    await office.mail("cid@example.org", "Third")
    await office.run()
    desk = office.world.desk()
    await desk.merge(3, 1)
    assert await states(office, "New", 3) == ["UNENROLLED"]
    await desk.unmerge(3)
    await desk.merge(2, 1)
    message = next(
        each for each in await messages(office, 1) if "bob@example.org" in str(each["from"])
    )
    split = await desk.split(1, [message["id"]])
    imported = await office.world.mail(
        letter("dan@example.org", office.clock.now(), "Old", "Old."),
        office.world.envelope(automation=False),
    )
    assert imported["ticket"] is not None
    await office.later(days=2)
    assert [each.ticket for each in await office.enrolments("New")] == [3]
    assert (office.sink.taken, await tags(office, split.tickets[0])) == ([], [])


async def test_105_p12_the_trash_ends_runs_for_good(office: Office):
    """Scenario 105, P12: a ticket deleted while in a delay and then restored runs nothing more."""
    await office.workflow("New", [wait("2d"), tag("x")])
    await by_hand(office)
    await office.run()
    desk = office.world.desk()
    await desk.delete(1)
    assert await states(office, "New") == ["UNENROLLED"]
    await desk.restore(1)
    await office.later(days=3)
    assert (await tags(office), await states(office, "New")) == ([], ["UNENROLLED"])


async def test_deleting_a_workflow_takes_its_tickets_out_and_keeps_history(office: Office):
    """3.5: active runs become UNENROLLED and stay listed; the next workflow starts afresh."""
    await office.workflow("New", [tag("x"), wait("1d"), tag("y")])
    await by_hand(office)
    await by_hand(office)
    await office.run()
    assert await office.editor().drop("Support", "New") == 2
    ended = await office.world.rows("enrolment", "state", "end_reason")
    assert ended == [("UNENROLLED", "the workflow was deleted")] * 2
    assert len(await office.world.rows("action_run", "id")) == 4
    await office.later(days=2)
    assert await tags(office) == ["x"]
    await office.workflow("New", [tag("z")])
    assert await office.enrolments("New") == []
    await by_hand(office)
    await office.run()
    assert await tags(office, 3) == ["z"]
