"""Tests of what each kind of action does and when delays end (behaviour.md 3.1, 3.3, 3.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.replay.office import Office, answer, letter
from tests.replay.workflows import (
    ANN,
    NOTE,
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


async def test_every_kind_of_action_has_its_effect(office: Office):
    """3.1: each kind of action changes the ticket, and the history names workflow and action."""
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
    """3.1: set_field sets the close date, none clears it; set_owner none removes the owner."""
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
    """Scenario 90: High, Low, or none-met for an empty priority; all paths meet again below."""
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
    await office.world.desk().set(1, {"priority": "high"})  # a branch reads the ticket on arrival
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
async def test_delays_end_at_their_time(office: Office, delay: dict[str, str], due: datetime):
    """3.3: each kind of delay ends in the account's zone; dates in the past end at once."""
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


async def test_only_a_reply_ends_the_wait_before_its_step(office: Office):
    """3.1: a reply before the next agenda run ends the wait; a forward or supplier does not."""
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


async def test_a_reply_before_the_first_step_ends_the_wait(office: Office):
    """3.1, 3.7: a reply before the first agenda run counts; the log shows why the delay ended."""
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
    """3.3: the customer's reply ends it at once, an agent's does not; and the other way round."""
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
    """3.3 (D): the delay ends on Sunday; the next action waits for Monday 09:00, local time."""
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


async def test_83_off_while_a_ticket_waits_skips_the_action(office: Office):
    """Scenario 83: off on day 1 and on day 2: the action is skipped and logged, the run ends."""
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
    """3.5: branches and delays are executed while actions are skipped."""
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
