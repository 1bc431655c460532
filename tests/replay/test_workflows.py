"""Status workflows as customers and agents meet them: who enters one, what each action does, what
is never sent (behaviour.md 3.1 to 3.3, 3.5).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from core.model.ticket import Source
from gateway.agenda.dry_run import tryout
from gateway.desk.tickets import NewTicket
from gateway.errors import Refused
from tests.replay.office import Office, answer, letter

pytestmark = pytest.mark.asyncio(loop_scope="session")
ANN = "Ann Example <ann@example.org>"
RECEIPT: dict[str, Any] = {"id": "receipt", "kind": "send_email", "template": "Ticket received"}
REMINDER: dict[str, Any] = {"id": "remind", "kind": "send_email", "template": "Reminder"}
NOTE: dict[str, Any] = {"id": "note", "kind": "add_note", "text": "It was here."}


def wait(time: str = "2d", action: str = "wait") -> dict[str, Any]:
    """A delay."""
    return {"id": action, "kind": "delay", "for": time}


def tag(name: str) -> dict[str, Any]:
    """An action whose effect is seen on the ticket."""
    return {"id": name, "kind": "add_tag", "tag": name}


async def template(
    office: Office,
    text: str = "Do you still need us?",
    name: str = "Reminder",
    *,
    transactional: bool = True,
) -> None:
    """A template of the house's own."""
    await office.templates().put_template(
        name, "", "Your request", text, None, transactional=transactional
    )


async def by_hand(
    office: Office,
    status: str | None = None,
    *,
    source: Source = "manual",
    requester: str | None = ANN,
) -> int:
    """A ticket that an agent makes."""
    made = await office.world.desk().create(
        NewTicket("Printer on fire", requester, None, status, source)
    )
    return made.tickets[0]


async def outcomes(office: Office, status: str, ticket: int | None = None) -> list[str]:
    """What became of the actions of a workflow."""
    return [outcome for _, outcome in await office.runs(status, ticket)]


async def states(office: Office, status: str, ticket: int | None = None) -> list[str]:
    """How the enrolments in a workflow stand."""
    return [each.state for each in await office.enrolments(status, ticket)]


async def details(office: Office) -> list[str]:
    """Why runs went as they did."""
    return [str(row[0]) for row in await office.world.rows("action_run", "detail")]


async def tags(office: Office, number: int = 1) -> list[str]:
    """The tags of a ticket."""
    return list((await office.world.ticket(number))["tags"])


async def messages(office: Office, number: int) -> list[dict[str, Any]]:
    """All messages of a ticket."""
    return [
        message
        for thread in (await office.world.ticket(number))["threads"]
        for message in thread["messages"]
    ]


# ---- the two built-in mails


async def test_76_a_known_contact_gets_the_receipt_in_full(office: Office):
    """Scenario 76: after a user wrote to him his mail is answered with number, subject and first
    lines; generic words before.
    """
    await office.switch_on("New")
    await office.mail(ANN, text="My own words.")
    await office.run()
    await office.reply(1)
    await office.run()
    line = await office.mail(ANN, "Another matter", "The second fire.")
    await office.run()
    generic, _, full = office.received("ann@example.org")
    assert "My own words." not in generic.text
    assert "Another matter" in str(full.mail["Subject"])
    assert f"#{line['ticket']}." in str(full.mail["Subject"])
    assert "The second fire." in full.text
    assert full.mail["Reply-To"] == (await office.world.ticket(2))["reply_address"]
    assert (full.mail["Auto-Submitted"], full.mail["X-Auto-Response-Suppress"]) == (
        "auto-replied",
        "All",
    )


async def test_33_o08_a_workflows_mail_moves_nothing_where_a_users_would(office: Office):
    """Scenario 33, O08: the receipt to a proven contact is no mail of a user, so trigger A stays
    silent.
    """
    await office.switch_on("New")
    await by_hand(office)
    await office.run()
    assert [each.mail["Auto-Submitted"] for each in office.received("ann@example.org")] == [
        "auto-replied"
    ]
    assert await office.status(1) == "New"
    assert await office.world.rows("ticket", "first_response_at") == [(None,)]


async def test_77_a_ticket_that_comes_back_is_not_received_again(office: Office):
    """Scenario 77: reopened to New with re-enrol off, no second mail; with it on the whole chain
    runs again.
    """
    await office.switch_on("New")
    number = await by_hand(office)
    await office.run()
    await office.world.desk().move([number], "Closed")
    await office.world.desk().move([number], "New")
    await office.run()
    assert (len(office.sink.taken), await states(office, "New")) == (1, ["DONE"])
    await office.editor().set("Support", "New", {"re_enroll": True})
    await office.world.desk().move([number], "Closed")
    await office.world.desk().move([number], "New")
    await office.run()
    assert (len(office.sink.taken), await states(office, "New")) == (2, ["DONE", "DONE"])


async def test_79_closed_by_whatever_tells_the_requester_once(office: Office):
    """Scenario 79: by B, by a workflow, in bulk, by a user; a second close of the same ticket says
    nothing more.
    """
    from gateway.desk.pipelines import PipelineDesk
    from gateway.store.setup.pipelines import SWITCHES

    assert "on_customer_reply" in SWITCHES
    await office.switch_on("Closed")
    await office.workflow(
        "Waiting on us", [{"id": "close", "kind": "set_status", "status": "Closed"}]
    )
    people = [f"p{each}@example.org" for each in range(5)]
    for each in people:
        await by_hand(office, "Waiting on contact", requester=each)
    desk = office.world.desk()
    await desk.move([1], "Waiting on us")  # by the workflow of that status
    await desk.move([2, 3], "Closed")  # in bulk
    await desk.move([4], "Closed")  # by a user
    await office.run()
    pipelines = PipelineDesk(office.database, office.clock, office.house.zone, "console")
    await pipelines.set_pipeline("Support", {"on_customer_reply": "Closed"})
    await office.reply(5)
    await office.run()
    asked = office.received(people[4])[-1]
    line = await office.world.mail(answer(asked, "All good now, close it.", office.clock.now()))
    assert line["status"]["after"] == "Closed"
    await office.run()
    told = [
        sum(
            "close" in each.text.lower() and each.mail["Auto-Submitted"] == "auto-replied"
            for each in office.received(who)
        )
        for who in people
    ]
    assert told == [1, 1, 1, 1, 1]
    await desk.move([2], "New")
    await desk.move([2], "Closed")
    await office.run()
    assert len(office.received(people[1])) == 1


async def test_80_an_internal_notification_carries_the_ticket_link(office: Office):
    """Scenario 80: B moves the ticket to Waiting on us; users, the owner and a plain address of the
    team are told, each once.
    """
    await office.user()
    to = ["team@desk.example", "agent@desk.example", "owner", "support@localhost"]
    await office.workflow(
        "Waiting on us",
        [
            {
                "id": "tell",
                "kind": "notify_internal_email",
                "to": to,
                "subject": "Look",
                "text": "{{ticket.subject}}",
            }
        ],
    )
    await office.mail(ANN)
    await office.world.desk().set(1, {"owner": "agent@desk.example"})
    await office.reply(1)
    await office.run()
    await office.world.mail(
        answer(office.received("ann@example.org")[0], "Still burning.", office.clock.now())
    )
    await office.run()
    told = [each for each in office.sink.taken if "ann@example.org" not in each.to]
    assert sorted(each.to for each in told) == [("agent@desk.example",), ("team@desk.example",)]
    for each in told:
        assert "https://desk.example.net/t/1" in each.text
        assert "Printer on fire" in each.text
        assert each.mail["Auto-Submitted"] == "auto-generated"
    assert await office.runs("Waiting on us") == [("tell", "OK")]


async def test_a_notification_for_nobody_is_skipped(office: Office):
    """3.3: an owner who is not there and an address of our own are nobody to tell."""
    await office.workflow(
        "New",
        [
            {
                "id": "tell",
                "kind": "notify_internal_email",
                "to": ["owner", "support@localhost"],
                "subject": "x",
                "text": "x",
            }
        ],
    )
    await by_hand(office)
    await office.run()
    assert (await office.runs("New"), office.sink.taken) == ([("tell", "SKIPPED_NO_RECIPIENT")], [])


async def test_81_what_is_not_transactional_needs_consent(office: Office):
    """Scenario 81: skipped and logged without it, sent with it; the receipt needs none."""
    from gateway.desk.people import PeopleDesk

    await template(office, transactional=False)
    await office.workflow("New", [RECEIPT, REMINDER])
    await by_hand(office)
    await office.run()
    assert await office.runs("New") == [("receipt", "OK"), ("remind", "SKIPPED_NO_CONSENT")]
    people = PeopleDesk(office.database, office.clock, office.house.zone, "console")
    await people.set_contact("ann@example.org", marketing_ok=True)
    await by_hand(office)
    await office.run()
    assert await office.runs("New", 2) == [("receipt", "OK"), ("remind", "OK")]
    assert [
        each.mail["Subject"].endswith("Your request") for each in office.received("ann@example.org")
    ] == [False, False, True]


# ---- 3.2 who enters


async def test_82_a_workflow_that_is_off_enrols_nobody(office: Office):
    """Scenario 82: the status is reached, nothing follows; switched on later the ticket stays out."""
    await office.mail(ANN)
    await office.run()
    await office.switch_on("New")
    await office.run()
    assert (await office.enrolments("New"), office.sink.taken) == ([], [])


async def test_98_switching_on_asks_before_it_enrols_who_is_there(office: Office):
    """Scenario 98: twelve tickets stand in the status and stay out; --enroll-existing takes those
    that are eligible.
    """
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
    """Scenario 94 (S13)."""
    await office.workflow("New", [NOTE])
    await by_hand(office, source="chat")
    await by_hand(office, source="messenger")
    assert await office.enrolments("New") == []
    await office.editor().set("Support", "New", {"exclude_sources": []})
    await by_hand(office, source="chat")
    assert [each.ticket for each in await office.enrolments("New")] == [3]


@pytest.mark.parametrize("how", ["mail", "user", "api", "B", "S9", "workflow", "A"])
async def test_whoever_moves_a_ticket_enrols_it_in_the_same_transaction(office: Office, how: str):
    """3.2, 3.3: created in it or moved by anyone or anything; the row is there before anything else
    runs.
    """
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
    """3.2: a write of the status a ticket has is no move."""
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
    """3.1, unenroll_when: looked at before each action."""
    await office.workflow(
        "New", [wait("1d"), tag("late")], unenroll_when={"field": "priority", "value": "low"}
    )
    await by_hand(office)
    await office.run()
    await office.world.desk().set(1, {"priority": "low"})
    await office.later(days=1)
    assert (await states(office, "New"), await tags(office)) == (["UNENROLLED"], [])


async def test_by_hand_filters_and_the_once_rule_do_not_bind(office: Office):
    """3.2: manual enrolment goes past filters and the once-rule, never past one at a time."""
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
    """INV12, 3.5: off means no new enrolments, by hand neither; who is inside can be taken out."""
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
    """Scenario 92: the customer replies on day 2 of 3."""
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
    """3.2 (D): the reminder comes although the ticket stands elsewhere by then."""
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
    """P08: runs of the old pipeline's workflows follow their own rule, the new pipeline's workflow
    takes the ticket.
    """
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
    """P04, P05, scenario 103: refused with the count; moved by the wizard, no workflow of the
    target follows.
    """
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
    assert await office.status(5) == "Waiting on us"  # the action was pointed there


async def test_p10_p12_merge_split_and_import_enrol_nobody(office: Office):
    """3.2, P10, P11: a merge ends the runs of the ticket that goes and starts none; neither do a
    split, an unmerge and an archive.
    """
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
    """Scenario 105, P12: deleted while in a delay and restored, nothing runs when its time comes."""
    await office.workflow("New", [wait("2d"), tag("x")])
    await by_hand(office)
    await office.run()
    desk = office.world.desk()
    await desk.delete(1)
    assert await states(office, "New") == ["UNENROLLED"]
    await desk.restore(1)
    await office.later(days=3)
    assert (await tags(office), await states(office, "New")) == ([], ["UNENROLLED"])


# ---- 3.1 each kind of action


async def test_every_kind_of_action_has_its_effect(office: Office):
    """3.1: fields, owner, tags, note, task, webhook, status, stop; each in the history with the
    workflow and its action.
    """
    await office.user()
    actions = [
        {"id": "subject", "kind": "set_field", "field": "subject", "value": "Fire"},
        {"id": "priority", "kind": "set_field", "field": "priority", "value": "high"},
        {"id": "owner", "kind": "set_owner", "owner": "agent@desk.example"},
        tag("one"),
        tag("two"),
        {"id": "untag", "kind": "remove_tag", "tag": "one"},
        NOTE,
        {"id": "task", "kind": "create_task", "text": "Call her.", "due": "1d"},
        {"id": "hook", "kind": "webhook", "url": "https://hooks.example.org/x"},
        {"id": "move", "kind": "set_status", "status": "Waiting on us"},
        {"id": "stop", "kind": "stop"},
        tag("never"),
    ]
    await office.workflow("New", actions)
    await by_hand(office)
    await office.run()
    shown = await office.world.ticket(1)
    assert (
        shown["subject"],
        shown["priority"],
        shown["owner"],
        shown["tags"],
        shown["status"],
    ) == ("Fire", "high", "agent@desk.example", ["two"], "Waiting on us")
    assert [each["text"] for each in await messages(office, 1) if each["direction"] == "note"] == [
        "It was here."
    ]
    assert await office.world.rows("task", "ticket", "text", "due_at") == [
        (1, "Call her.", office.clock.now() + timedelta(days=1))
    ]
    [(url, key)] = await office.world.rows("webhook_call", "url", "key")
    assert (url, key) == (
        "https://hooks.example.org/x",
        f"{(await office.enrolments('New'))[0].id}:hook",
    )
    assert await office.runs("New") == [(each["id"], "OK") for each in actions[:-1]]
    moved = next(each for each in shown["events"] if each["type"] == "status_changed")
    assert (moved["cause"]["rule"], moved["cause"]["workflow"], moved["cause"]["action"]) == (
        "workflow",
        "Support / New",
        "move",
    )
    [run] = await office.enrolments("New")
    assert (run.state, run.end_reason) == ("DONE", "stopped by stop")


async def test_a_workflow_sets_and_clears_the_close_date(office: Office):
    """3.1: set_field on the close date; none takes it away; set_owner none takes the owner away."""
    await office.user()
    await office.workflow(
        "Closed",
        [
            {"id": "date", "kind": "set_field", "field": "close_date", "value": "2026-12-24"},
            {"id": "free", "kind": "set_owner", "owner": "none"},
            {"id": "low", "kind": "set_field", "field": "priority", "value": "none"},
        ],
    )
    await by_hand(office)
    await office.world.desk().set(1, {"owner": "agent@desk.example", "priority": "low"})
    await office.world.desk().move([1], "Closed")
    await office.run()
    shown = await office.world.ticket(1)
    assert (str(shown["close_date"]), shown["owner"], shown["priority"]) == (
        "2026-12-24",
        None,
        None,
    )


async def test_90_a_branch_takes_the_first_path_that_holds(office: Office):
    """Scenario 90: High / Low, an empty priority goes the none-met way; all meet again below."""
    fork = {
        "id": "fork",
        "kind": "branch",
        "field": "priority",
        "branches": [
            {"name": "High", "value": "high", "actions": [tag("high")]},
            {"name": "Low", "value": "low", "actions": [tag("low")]},
        ],
        "otherwise": [tag("none")],
    }
    await office.workflow("New", [wait("1h"), fork, tag("end")])
    for _ in range(3):
        await by_hand(office)
    await office.world.desk().set(
        1, {"priority": "high"}
    )  # a branch looks at the ticket as it is when it arrives there
    await office.world.desk().set(2, {"priority": "low"})
    await office.run()
    await office.later(hours=1)
    assert [await tags(office, each) for each in (1, 2, 3)] == [
        ["high", "end"],
        ["low", "end"],
        ["none", "end"],
    ]


# ---- 3.3 delays


MOMENT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)  # a Sunday, 11:00 in Amsterdam


@pytest.mark.parametrize(
    ("delay", "due"),
    [
        ({"for": "2d"}, MOMENT + timedelta(days=2)),
        ({"for": "1d 30m"}, MOMENT + timedelta(days=1, minutes=30)),
        ({"until": "2026-12-01"}, datetime(2026, 11, 30, 23, 0, tzinfo=UTC)),
        ({"until": "2026-11-01"}, MOMENT),
        ({"field": "created_at", "for": "12h"}, MOMENT + timedelta(hours=12)),
        ({"field": "close_date"}, MOMENT),
        ({"weekday": "mon"}, datetime(2026, 11, 22, 23, 0, tzinfo=UTC)),
        ({"weekday": "mon", "time": "09:30"}, datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
        ({"weekday": "sun"}, MOMENT),
        ({"time": "11:30"}, datetime(2026, 11, 22, 10, 30, tzinfo=UTC)),
        ({"time": "10:30"}, datetime(2026, 11, 23, 9, 30, tzinfo=UTC)),
        ({"event": "customer_reply", "for": "3d"}, MOMENT + timedelta(days=3)),
    ],
    ids=lambda value: (
        "-".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else ""
    ),
)
async def test_delays_end_when_they_say(office: Office, delay: dict[str, str], due: datetime):
    """3.3: spans, dates, fields, weekdays and times of day by the account's zone; what is past is
    over at once.
    """
    await office.workflow("New", [{"id": "wait", "kind": "delay", **delay}, tag("after")])
    await by_hand(office)
    await office.run()
    if due > MOMENT:
        [run] = await office.enrolments("New")
        assert (run.due_at, await tags(office)) == (due, [])
        office.clock.set(due - timedelta(seconds=1))
        await office.run()
        assert await tags(office) == []
    office.clock.set(due)
    await office.run()
    assert await tags(office) == ["after"]


async def test_a_reply_before_the_turn_ends_the_wait_and_nothing_else_does(office: Office):
    """3.1: no agenda ran since the ticket reached the delay. A forward of the customer and a mail
    to a supplier are not what it waits for; his reply is.
    """
    await office.mail(ANN)
    await office.workflow(
        "Waiting on contact",
        [{"id": "wait", "kind": "delay", "event": "customer_reply"}, tag("heard")],
    )
    await office.workflow(
        "Waiting on us", [{"id": "wait", "kind": "delay", "event": "agent_reply"}, tag("answered")]
    )
    await office.reply(1)
    await office.outbox.run_due()
    [answered] = office.received("ann@example.org")
    marker = (
        "\n---------- Forwarded message ---------\nFrom: Carl <carl@supplier.example>\nDate: "
        "Sat, 21 Nov 2026 10:00:00 +0000\nSubject: Toner\nTo: Ann\n\nEmpty.\n"
    )
    forward = letter(
        "Ann Example <ann@example.org>",
        office.clock.now(),
        "Fwd: Toner",
        marker,
        In_Reply_To=str(answered.mail["Message-ID"]),
    )
    office.clock.set(office.clock.now() + timedelta(minutes=1))
    await office.world.mail(forward)
    await office.later(hours=1)
    assert (await tags(office), await office.status(1)) == ([], "Waiting on contact")
    await office.world.desk().move([1], "Waiting on us")
    office.clock.set(office.clock.now() + timedelta(minutes=1))
    await office.reply(1, to=("carl@supplier.example",))
    await office.run()
    assert await tags(office) == []
    await office.world.mail(answer(answered, "Here I am.", office.clock.now()))
    await office.run()
    assert await tags(office) == ["heard"]


async def test_the_turn_after_the_reply_finds_the_wait_over(office: Office):
    """3.1, 3.7: the reply comes before the first turn; the log tells the delay, and why it was
    over.
    """
    await office.mail(ANN)
    await office.workflow(
        "Waiting on contact",
        [{"id": "wait", "kind": "delay", "event": "customer_reply", "for": "3d"}, tag("heard")],
    )
    await office.reply(1)
    await office.outbox.run_due()
    [answered] = office.received("ann@example.org")
    office.clock.set(office.clock.now() + timedelta(hours=2))
    await office.world.mail(answer(answered, "Here I am.", office.clock.now()))
    await office.run()
    assert (await tags(office), await office.runs("Waiting on contact")) == (
        ["heard"],
        [("wait", "OK"), ("heard", "OK")],
    )


async def test_a_delay_until_the_customer_replies(office: Office):
    """3.3: his reply ends it at once, an agent's does not; and the other way round."""
    await office.mail(ANN)
    await office.workflow(
        "Waiting on contact",
        [{"id": "wait", "kind": "delay", "event": "customer_reply"}, tag("heard")],
    )
    await office.workflow(
        "Waiting on us", [{"id": "wait", "kind": "delay", "event": "agent_reply"}, tag("answered")]
    )
    await office.reply(1)
    await office.run()
    await office.reply(1)
    await office.later(days=1)
    assert await tags(office) == []
    await office.world.mail(
        answer(office.received("ann@example.org")[0], "Here.", office.clock.now())
    )
    await office.run()
    assert await tags(office) == ["heard"]
    await office.reply(1)
    await office.run()
    assert await tags(office) == ["heard", "answered"]


async def test_a_window_moves_actions_not_delays(office: Office):
    """3.3 (D): the delay ends on Sunday as it says; the action after it waits for Monday nine
    o'clock by the account's zone.
    """
    window = {
        "days": ["mon", "tue", "wed", "thu", "fri"],
        "hours": "09:00-17:00",
        "holidays": ["2026-11-23"],
    }
    await office.workflow("New", [wait("2h"), tag("open")], window=window)
    await by_hand(office)
    await office.run()
    await office.later(hours=2)
    assert [action for action, _ in await office.runs("New")] == ["wait"]
    [run] = await office.enrolments("New")
    assert (run.due_at, await tags(office)) == (
        datetime(2026, 11, 24, 8, 0, tzinfo=UTC),
        [],
    )  # Monday is a holiday
    office.clock.set(datetime(2026, 11, 24, 8, 0, tzinfo=UTC))
    await office.run()
    assert await tags(office) == ["open"]


# ---- 3.3 failures, loops, caps


async def test_a_mail_that_cannot_be_made_is_tried_five_times(office: Office):
    """3.3: five retries with growing pauses, then FAILED, an event for people, and the chain goes
    on.
    """
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
    """3.3: what a person mends between two tries goes out, once."""
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
    """3.3: the action says so, and what comes below never runs; an owner who wants to know of
    failures is told.
    """
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
    """3.3: the loop guard, when a workflow's own chain comes back to it, even with re-enrol on."""
    move = {"id": "move", "kind": "set_status"}
    await office.workflow("New", [{**move, "status": "Waiting on us"}], re_enroll=True)
    await office.workflow("Waiting on us", [{**move, "status": "New"}], re_enroll=True)
    await by_hand(office)
    await office.run()
    assert await office.runs("New") == [("move", "OK"), (None, "SKIPPED_LOOP")]
    assert await office.runs("Waiting on us") == [("move", "OK")]
    assert await office.status(1) == "New"


async def test_the_fourth_receipt_of_an_hour_is_kept_back(office: Office):
    """3.3: three an address and hour; an hour later it gets one again."""
    await office.switch_on("New")
    for _ in range(4):
        await by_hand(office)
        await office.run()
    assert (await outcomes(office, "New")) == ["OK", "OK", "OK", "SKIPPED_CAP"]
    await office.later(hours=1, minutes=1)
    await by_hand(office)
    await office.run()
    assert (await outcomes(office, "New"))[-1] == "OK"
    assert len(office.received("ann@example.org")) == 4


async def test_receipts_of_one_turn_are_counted_too(office: Office):
    """3.3: five tickets of one address have their turn in one transaction: three get a receipt; a
    reminder of the same ticket sees the receipt before it.
    """
    await office.workflow(
        "New",
        [
            RECEIPT,
            {**RECEIPT, "template": "Ticket closed", "id": "again"},
            {**RECEIPT, "template": "Ticket closed", "id": "third"},
        ],
    )
    for each in range(5):
        await office.mail(ANN, subject=f"Matter {each}")
    assert [each.ticket for each in await office.agenda.run_due() if each.what == "action"] == [
        number for number in range(1, 6) for _ in range(3)
    ]
    assert [outcome for action, outcome in await office.runs("New") if action == RECEIPT["id"]] == [
        "OK"
    ] * 3 + ["SKIPPED_CAP"] * 2
    assert [outcome for action, outcome in await office.runs("New", 1)] == [
        "OK",
        "OK",
        "SKIPPED_LOOP",
    ]


async def test_ten_receipts_a_day_and_twenty_a_domain_and_hour(office: Office):
    """3.3: the caps of an address and day, and of a domain and hour; every run that is kept back
    says so.
    """
    await office.switch_on("New")
    for _ in range(4):
        for _ in range(3):
            await by_hand(office)
        await office.later(hours=2)
    assert await outcomes(office, "New") == ["OK"] * 10 + ["SKIPPED_CAP"] * 2
    for each in range(21):
        await by_hand(office, requester=f"p{each}@many.example")
    await office.run()
    assert (await outcomes(office, "New"))[12:] == ["OK"] * 20 + ["SKIPPED_CAP"]


async def test_the_third_automatic_mail_in_a_row_is_kept_back(office: Office):
    """3.3: the breaker; a person's word on the thread opens it again."""
    await template(office)
    again = [{**REMINDER, "id": f"r{each}"} for each in range(3)]
    await office.workflow("Waiting on contact", again, re_enroll=True)
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    assert await outcomes(office, "Waiting on contact") == ["OK", "OK", "SKIPPED_LOOP"]
    await office.world.mail(
        answer(office.received("ann@example.org")[-1], "Stop it.", office.clock.now())
    )
    await office.world.desk().move([1], "Waiting on contact")
    await office.run()
    assert await outcomes(office, "Waiting on contact") == ["OK", "OK", "SKIPPED_LOOP"] * 2


@pytest.mark.parametrize(
    "row",
    ["E25b", "E28", "E42", "E43", "E21", "no-reply", "channel", "blocked", "denied", "bounced"],
)
async def test_who_is_never_written_to(office: Office, row: str):
    """Rows E25b, E28, E42, E43, E21-unparsed and 3.3 "Never to": the initial workflow runs, its
    mail is skipped with a reason.
    """
    from gateway.desk.channels import ChannelDesk
    from gateway.desk.people import PeopleDesk

    people = PeopleDesk(office.database, office.clock, office.house.zone, "console")

    channels = ChannelDesk(office.database, office.clock, office.house.zone, "console")
    await office.workflow("New", [RECEIPT, tag("ran")], exclude_sources=[])
    match row:
        case "E25b":
            await office.mail(
                ANN,
                **{
                    "Authentication-Results": "mx.example.net; dmarc=fail header.from=example.org",
                    "Return-Path": "<ann@example.org>",
                },
            )
        case "E28":
            await office.mail("Monitor <mon@example.org>", Auto_Submitted="auto-generated")
        case "E42":
            await office.mail(ANN, List_Id="<list.example.org>", Precedence="bulk")
        case "E43":
            raw = letter(ANN, office.clock.now(), "x", "Nobody wrote this.")
            await office.world.mail(
                b"\r\n".join(line for line in raw.split(b"\r\n") if not line.startswith(b"From:"))
            )
        case "E21":
            await office.user()
            text = (
                "Please see.\n\n---------- Forwarded message ---------\nFrom: Ann Example "
                "<ann@example.org>\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
            )
            # no verdict vouches for the agent, so whom he forwards is not certain
            await office.mail(
                "Bob Agent <agent@desk.example>",
                "Fwd: Help",
                f"{text}Subject: Help\nTo: Bob <agent@desk.example>\n\nHelp!\n",
            )
        case "blocked":
            await by_hand(office, "Closed")
            await people.set_contact("ann@example.org", blocked=True)
            await by_hand(office)
        case "denied":
            await channels.set_channel("support@localhost", {"deny": ("@example.org",)})
            await by_hand(office)
        case "bounced":
            await by_hand(office, "Closed")
            async with office.database.write() as connection:
                from gateway.store.schema import tables

                await connection.execute(
                    tables.contact.update().values(bounced_at=office.clock.now())
                )
            await by_hand(office)
        case _:
            await by_hand(
                office,
                requester={"no-reply": "no-reply@example.org", "channel": "support@localhost"}[row],
            )
    number = 2 if row in ("blocked", "bounced") else 1
    await office.run()
    assert office.sink.taken == []
    assert await office.runs("New", number) == [("receipt", "SKIPPED_NO_RECIPIENT"), ("ran", "OK")]
    assert all(await details(office))


async def test_all_associated_contacts_get_it_once_and_strangers_never(office: Office):
    """3.3: to = associated adds those whom a user put on the ticket."""
    await template(office)
    await office.workflow("Waiting on us", [{**REMINDER, "to": "associated"}])
    await by_hand(office)
    await office.world.desk().person(1, "add", "bob@example.org")
    await office.world.desk().move([1], "Waiting on us")
    await office.run()
    assert sorted(each.to for each in office.sink.taken) == [
        ("ann@example.org",),
        ("bob@example.org",),
    ]


async def test_a_ticket_without_requester_is_skipped(office: Office):
    """3.3: there is nobody to send to."""
    await office.workflow("New", [RECEIPT])
    await by_hand(office, requester=None)
    await office.run()
    assert await office.runs("New") == [("receipt", "SKIPPED_NO_RECIPIENT")]


async def test_100_nothing_is_sent_twice(office: Office):
    """Scenario 100: another pass, and a run put back as a crash would leave it, send no second
    mail; every mail has a key of its own.
    """
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
    """Scenario 101: while the workflow is off; delays are passed over, moves and mails are shown,
    and every table is as before.
    """
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
    """Scenario 101: the run that waits is still there, with its due time."""
    await office.workflow("New", [wait("3d"), tag("x")])
    await by_hand(office)
    await office.run()
    before = await office.world.dump(())
    shown = await tryout(office.database, office.clock, office.house, "Support", "New", 1)
    assert ([each["action"] for each in shown["path"]], await office.world.dump(())) == (
        ["wait", "x"],
        before,
    )


# ---- 3.5 on and off


async def test_83_off_while_a_ticket_waits_skips_the_action(office: Office):
    """Scenario 83: off on day 1 and still on day 2; skipped and logged, the run goes to its end."""
    await template(office)
    await office.workflow("New", [wait("2d"), REMINDER, wait("1d", "more"), tag("x")])
    await by_hand(office)
    await office.run()
    await office.later(days=1)
    await office.editor().set("Support", "New", {"enabled": False})
    await office.later(days=1)
    assert await office.runs("New") == [("wait", "OK"), ("remind", "SKIPPED_OFF"), ("more", "OK")]
    assert await states(office, "New") == ["ACTIVE"]
    await office.switch_on("New")  # on again before it is due: it runs
    await office.later(days=1)
    assert (await office.runs("New"))[3:] == [("x", "OK")]
    assert (office.sink.taken, await tags(office), await states(office, "New")) == (
        [],
        ["x"],
        ["DONE"],
    )


async def test_off_branches_still_run(office: Office):
    """3.5: what steers goes on while what acts is passed over."""
    fork = {
        "id": "fork",
        "kind": "branch",
        "branches": [
            {"name": "a", "when": {"field": "status", "value": "New"}, "actions": [tag("a")]}
        ],
    }
    await office.workflow("New", [wait("1d"), fork, tag("b")])
    await by_hand(office)
    await office.run()
    await office.editor().set("Support", "New", {"enabled": False})
    await office.later(days=1)
    assert await office.runs("New") == [
        ("wait", "OK"),
        ("fork", "OK"),
        ("a", "SKIPPED_OFF"),
        ("b", "SKIPPED_OFF"),
    ]
    assert await states(office, "New") == ["DONE"]


async def test_deleting_a_workflow_takes_its_tickets_out_and_keeps_history(office: Office):
    """3.5: all ACTIVE are UNENROLLED, the rows stay; a new workflow of the status starts afresh."""
    await office.workflow("New", [tag("x"), wait("1d"), tag("y")])
    await by_hand(office)
    await by_hand(office)
    await office.run()
    assert await office.editor().drop("Support", "New") == 2
    assert [row[0] for row in await office.world.rows("enrolment", "state")] == ["UNENROLLED"] * 2
    assert len(await office.world.rows("action_run", "id")) == 4
    await office.later(days=2)
    assert await tags(office) == ["x"]
    await office.workflow("New", [tag("z")])
    assert await office.enrolments("New") == []
    await by_hand(office)
    await office.run()
    assert await tags(office, 3) == ["z"]


async def test_a_chain_of_more_than_ten_workflows_stops(office: Office):
    """3.3: the loop guard for a way that never comes back to where it was: the twelfth workflow in
    a row is not entered.
    """
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


async def test_section_5_a_receipt_that_another_workflow_led_to_is_short_as_well(office: Office):
    """An unverified stranger's mail that a workflow moves on is still what is acknowledged: none of
    his words go out (section 5).
    """
    await office.workflow("New", [{"id": "on", "kind": "set_status", "status": "Waiting on us"}])
    await office.workflow(
        "Waiting on us", [{"id": "say", "kind": "send_email", "template": "Ticket received"}]
    )
    await office.mail("stranger@example.org", "Words of his")
    await office.run()
    [arrived] = office.received("stranger@example.org")
    assert arrived.mail["Subject"] == "We received your message"
    assert "It burns" not in arrived.text
