"""Tests of changes of structure: behaviour.md 2.5, row by row, without outgoing mail."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.tickets import NewTicket
from gateway.errors import NotFound, Refused, Rejected


async def made(office, status=None, **more) -> int:
    return (await office.desk.create(NewTicket("A printer", status=status, **more))).tickets[0]


async def statuses(office) -> dict[int, str]:
    return {ticket["number"]: ticket["status"] for ticket in await office.list(everything=True)}


async def test_p01_the_first_open_status_follows_the_order(office):
    """P01: new tickets start in the status that is first after a reordering; none moves."""
    old = await made(office)
    pipeline = await office.pipelines.move_status("Support", "Waiting on us", 1)
    assert pipeline.first_open().name == "Waiting on us"
    assert await statuses(office) == {old: "New"}
    assert (await office.show(await made(office)))["status"] == "Waiting on us"
    assert [(each.name, each.position) for each in pipeline.statuses] == [
        ("Waiting on us", 1),
        ("New", 2),
        ("Waiting on contact", 3),
        ("Closed", 4),
    ]


async def test_p01_a_reply_on_a_closed_ticket_goes_to_the_first_status_of_the_moment(office):
    """P01, scenarios 68 and 69: the first open status is read when the mail arrives."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.desk.move([number], "Closed")
    await office.pipelines.move_status("Support", "Waiting on us", 1)
    await office.pipelines.rename_status("Support", "Waiting on us", "Ours")
    await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    assert (await office.show(number))["status"] == "Ours"


async def test_p02_the_order_of_pipelines_means_nothing(office):
    """P02: the position of a pipeline changes no ticket and no first open status."""
    number = await made(office)
    await office.pipelines.add_pipeline("Sales", [("Lead", "open"), ("Won", "closed")])
    assert await statuses(office) == {number: "New"}
    assert (await office.show(await made(office)))["status"] == "New"


@pytest.mark.parametrize(("name", "state"), [("Closed", "open"), ("Only", "closed")])
async def test_p03_flipping_the_last_of_a_kind_is_refused(office, name, state):
    """P03: a pipeline keeps an open and a closed status."""
    await office.pipelines.add_pipeline("Small", [("Only", "open"), ("Closed", "closed")])
    with pytest.raises(Refused, match="needs at least one"):
        await office.pipelines.flip_status("Small", name, state)


async def test_p03_deleting_the_last_of_a_kind_is_refused_before_any_ticket_moves(office):
    """P03: the only closed status cannot be deleted, not even with a target; tickets stay."""
    number = await made(office, "Closed")
    with pytest.raises(Refused, match="at least one closed status"):
        await office.pipelines.delete_status("Support", "Closed", "New")
    assert await statuses(office) == {number: "Closed"}


@pytest.mark.parametrize(
    "steps", [[("A", "open")], [("A", "closed")], [("A", "open"), ("a", "closed")], []]
)
async def test_p03_an_invalid_pipeline_is_refused(office, steps):
    """P03: a new pipeline needs both kinds and unique names."""
    with pytest.raises(Refused):
        await office.pipelines.add_pipeline("Unsound", steps)
    with pytest.raises(NotFound, match="unknown pipeline 'Unsound'"):
        await office.pipelines.set_pipeline("Unsound", {"allow_back": False})


async def test_p04_a_status_in_use_is_not_deleted(office):
    """P04: refused with the number of tickets and each reference by name; nothing changed."""
    for _ in range(4):
        await made(office, "Waiting on us")
    await office.channels.add_channel("help@localhost", pipeline="Support", status="Waiting on us")
    with pytest.raises(Refused) as refused:
        await office.pipelines.delete_status("Support", "Waiting on us")
    assert "4 tickets" in refused.value.message
    assert "on_customer_reply" in refused.value.message
    assert "help@localhost" in refused.value.message
    assert set((await statuses(office)).values()) == {"Waiting on us"}


async def test_p04_deleting_with_a_target_moves_tickets_and_references(office):
    """P04: with a target, tickets (also in the trash), trigger and channel move there."""
    number, trashed, merged = (
        await made(office, "Waiting on us"),
        await made(office, "Waiting on us"),
        await made(office, "Waiting on us"),
    )
    await office.desk.delete(trashed)
    await office.desk.merge(merged, number)
    await office.channels.add_channel("help@localhost", pipeline="Support", status="Waiting on us")
    deleted = await office.pipelines.delete_status("Support", "Waiting on us", "Waiting on contact")
    assert deleted.moved == (number,)
    assert set((await statuses(office)).values()) == {"Waiting on contact"}
    pipeline = await office.pipelines.set_pipeline("Support", {"strangers": "move"})
    assert pipeline.status(pipeline.on_customer_reply).name == "Waiting on contact"
    row = await office.mail("ann@customer.example", to="help@localhost", key="1")
    assert (await office.show(row.ticket))["status"] == "Waiting on contact"
    assert [
        (each.type, each.cause["rule"]) for each in deleted.events if each.ticket == number
    ] == [("status_changed", "admin")]


async def test_p04_the_target_cannot_be_the_deleted_status(office):
    """P04: the target cannot be the deleted status itself, nor an unknown one."""
    await made(office, "Waiting on us")
    for target in ("Waiting on us", "Nowhere"):
        with pytest.raises(Rejected):
            await office.pipelines.delete_status("Support", "Waiting on us", target)


async def test_p05_deleting_a_status_follows_the_close_date_rules(office):
    """P05: tickets moved to a closed status get today; to an open one they count as reopened."""
    closed = await made(office, "Waiting on us")
    await office.pipelines.delete_status("Support", "Waiting on us", "Closed")
    assert (await office.show(closed))["close_date"] == "2026-11-22"
    await office.pipelines.add_status("Support", "Archived", "closed")
    await office.pipelines.delete_status("Support", "Closed", "New")
    shown = await office.show(closed)
    assert (shown["status"], shown["close_date"], shown["reopened_count"]) == ("New", None, 1)


async def test_p06_a_pipeline_in_use_or_the_default_stays(office):
    """P06: refused for the default pipeline and while tickets are in it; an unused one goes."""
    await office.pipelines.add_pipeline("Sales", [("Lead", "open"), ("Won", "closed")])
    number = await made(office, pipeline="Sales")
    with pytest.raises(Refused, match="1 ticket"):
        await office.pipelines.delete_pipeline("Sales")
    with pytest.raises(Refused, match="default"):
        await office.pipelines.delete_pipeline("Support")
    await office.desk.move([number], "New", "Support")
    await office.pipelines.delete_pipeline("Sales")
    with pytest.raises(NotFound, match="unknown pipeline 'Sales'"):
        await made(office, pipeline="Sales")


async def test_p07_a_channel_switched_off_makes_no_tickets_and_keeps_old_ones(office):
    """P07: replies still reach the ticket, new mail makes a conversation only."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.channels.set_channel("support@localhost", {"tickets": False})
    assert (
        await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    ).ticket == number
    assert (await office.mail("bob@customer.example", key="3")).ticket is None
    assert len((await office.show(number))["threads"][0]["messages"]) == 2


async def test_p08_a_move_to_another_pipeline_is_a_move_under_its_rules(office):
    """P08, INV10: after the move only trigger B of the other pipeline applies."""
    await office.pipelines.add_pipeline(
        "Sales", [("Lead", "open"), ("Talks", "open"), ("Won", "closed")]
    )
    await office.pipelines.set_pipeline("Sales", {"on_customer_reply": "Talks"})
    number = (await office.mail("ann@customer.example", key="1")).ticket
    outcome = await office.desk.move([number], "Lead", "Sales")
    assert [(each.before, each.after) for each in outcome.events] == [("New", "Lead")]
    await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    assert (await office.show(number))["status"] == "Talks"


async def test_p09_no_moving_back_binds_people(office):
    """P09: a person is refused, for all tickets of the move; moving forward is allowed."""
    first, second = await made(office), await made(office, "Waiting on us")
    await office.pipelines.set_pipeline("Support", {"allow_back": False})
    with pytest.raises(
        Refused, match="does not allow moving back from Waiting on us to Waiting on contact"
    ):
        await office.desk.move([first, second], "Waiting on contact")
    assert await statuses(office) == {first: "New", second: "Waiting on us"}
    await office.desk.move([first, second], "Closed")
    assert set((await statuses(office)).values()) == {"Closed"}


async def test_p09_no_moving_back_does_not_bind_mail_or_a_deletion(office):
    """P09, scenario 71: a reply still reopens, a deleted status still moves its tickets back."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.desk.move([number], "Closed")
    await office.pipelines.set_pipeline("Support", {"allow_back": False})
    await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    assert (await office.show(number))["status"] == "New"
    await office.desk.move([number], "Waiting on us")
    await office.pipelines.delete_status("Support", "Waiting on us", "New")
    assert (await office.show(number))["status"] == "New"


async def test_p12_trash_and_back(office):
    """P12: a deleted ticket is unlisted, keeps everything, refuses acts, and can be restored."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    before = await office.show(number)
    await office.desk.delete(number)
    assert await office.list() == []
    assert [each["number"] for each in await office.list(everything=True)] == [number]
    for act in (
        office.desk.move([number], "Closed"),
        office.desk.note(number, "x"),
        office.desk.delete(number),
    ):
        with pytest.raises(Refused, match="in the trash"):
            await act
    await office.desk.restore(number)
    after = await office.show(number)
    assert [each["type"] for each in after["events"]] == ["ticket_created", "deleted", "restored"]
    assert {**after, "events": []} == {**before, "events": []}
    with pytest.raises(Refused, match="not in the trash"):
        await office.desk.restore(number)


async def test_p12_mail_for_a_ticket_in_the_trash_opens_a_new_one(office):
    """P12, E38, scenario 74: the deleted ticket keeps its threads; a reply makes a new ticket."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.desk.delete(number)
    office.clock.advance(timedelta(hours=1))
    other = (await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")).ticket
    assert other != number
    assert "earlier ticket deleted" in [
        each["detail"] for each in (await office.show(other))["events"]
    ]
    assert len((await office.show(number))["threads"][0]["messages"]) == 1
