"""Tests of status moves by people and the close date: behaviour.md 2.4, row by row."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.desk.tickets import NewTicket

TODAY = date(2026, 11, 22).isoformat()


async def made(office, status=None, **more) -> int:
    outcome = await office.desk.create(NewTicket("A printer", status=status, **more))
    return outcome.tickets[0]


async def closure(office, number) -> tuple[str | None, bool]:
    ticket = await office.show(number)
    return ticket["close_date"], ticket["closed_at"] is not None


async def test_c01_closing_sets_today(office):
    """C01: closing sets today; with the switch off the date stays, the instant is kept."""
    number = await made(office)
    await office.desk.move([number], "Closed")
    assert await closure(office, number) == (TODAY, True)
    await office.pipelines.set_pipeline("Support", {"set_close_date": False})
    other = await made(office)
    await office.desk.set(other, {"close_date": date(2026, 1, 2)})
    await office.desk.move([other], "Closed")
    assert await closure(office, other) == ("2026-01-02", True)


@pytest.mark.parametrize("switch", [True, False])
async def test_c02_reopening_clears_whatever_the_switch_says(office, switch):
    """C02: reopening clears the date, whatever the switch says, and is counted."""
    number = await made(office)
    await office.desk.move([number], "Closed")
    await office.pipelines.set_pipeline("Support", {"set_close_date": switch})
    await office.desk.move([number], "New")
    assert await closure(office, number) == (None, False)
    assert (await office.show(number))["reopened_count"] == 1


async def test_c03_open_to_open_touches_nothing(office):
    """C03: a move between open statuses keeps a date that somebody wrote."""
    number = await made(office)
    await office.desk.set(number, {"close_date": date(2026, 12, 24)})
    await office.desk.move([number], "Waiting on us")
    assert await closure(office, number) == ("2026-12-24", False)


@pytest.mark.parametrize(("switch", "expected"), [(True, "2026-11-25"), (False, TODAY)])
async def test_c04_closed_to_another_closed_status_sets_the_date_again(office, switch, expected):
    """C04: closed to closed sets today again (not with the switch off); it is no reopening."""
    await office.pipelines.add_status("Support", "Archived", "closed")
    number = await made(office)
    await office.desk.move([number], "Closed")
    await office.pipelines.set_pipeline("Support", {"set_close_date": switch})
    office.clock.advance(timedelta(days=3))
    await office.desk.move([number], "Archived")
    assert await closure(office, number) == (expected, True)
    assert (await office.show(number))["reopened_count"] == 0


@pytest.mark.parametrize(("switch", "expected"), [(True, TODAY), (False, None)])
async def test_c05_created_closed(office, switch, expected):
    """C05: a ticket created in a closed status gets today; not with the switch off."""
    await office.pipelines.set_pipeline("Support", {"set_close_date": switch})
    assert await closure(office, await made(office, "Closed")) == (expected, True)


async def test_c06_the_same_status_again_is_no_move(office):
    """C06: setting the current status changes neither date nor history."""
    number = await made(office)
    await office.desk.move([number], "Closed")
    before = await office.show(number)
    office.clock.advance(timedelta(days=1))
    outcome = await office.desk.move([number], "closed")
    assert outcome.events == ()
    assert await office.show(number) == before


@pytest.mark.parametrize("switch", [True, False])
async def test_c07_an_explicit_date_wins(office, switch):
    """C07: a date given with the move, or at creation, is kept, whatever the switch says."""
    await office.pipelines.set_pipeline("Support", {"set_close_date": switch})
    number = await made(office)
    await office.desk.move([number], "Closed", close_date=date(2026, 1, 2))
    assert await closure(office, number) == ("2026-01-02", True)
    assert await closure(office, await made(office, "Closed", close_date=date(2026, 1, 3))) == (
        "2026-01-03",
        True,
    )


async def test_c07_an_explicit_date_survives_reopening(office):
    """C07: a date given with a reopening is kept too."""
    number = await made(office)
    await office.desk.move([number], "Closed")
    await office.desk.move([number], "New", close_date=date(2027, 1, 2))
    assert await closure(office, number) == ("2027-01-02", False)


async def test_c08_a_date_edited_by_hand_is_stored_as_given(office):
    """C08: the close date can be set and emptied without a move, also on an open ticket."""
    number = await made(office)
    await office.desk.set(number, {"close_date": date(2025, 2, 3)})
    assert await closure(office, number) == ("2025-02-03", False)
    outcome = await office.desk.set(number, {"close_date": None})
    assert await closure(office, number) == (None, False)
    assert [(each.type, each.before, each.after) for each in outcome.events] == [
        ("close_date_changed", "2025-02-03", None)
    ]


@pytest.mark.parametrize(
    ("sales", "support", "expected"), [(True, False, TODAY), (False, True, None)]
)
async def test_c09_the_pipeline_where_it_lands_counts(office, sales, support, expected):
    """C09: after a move between pipelines the second one's switch and statuses apply."""
    await office.pipelines.add_pipeline("Sales", [("Lead", "open"), ("Won", "closed")])
    await office.pipelines.set_pipeline("Sales", {"set_close_date": sales})
    await office.pipelines.set_pipeline("Support", {"set_close_date": support})
    number = await made(office)
    await office.desk.move([number], "Won", "Sales")
    assert await closure(office, number) == (expected, True)
    assert (await office.show(number))["pipeline"] == "Sales"


async def test_c10_flipping_a_status_touches_no_ticket(office):
    """C10: making a status closed keeps its tickets' dates empty and reports their number."""
    numbers = [await made(office, "Waiting on us") for _ in range(2)]
    before = [await office.show(number) for number in numbers]
    status, offered = await office.pipelines.flip_status("Support", "Waiting on us", "closed")
    assert (status.state, offered) == ("closed", 2)
    for number, was in zip(numbers, before, strict=True):
        assert await office.show(number) == was | {"status_state": "closed"}
    assert (await office.pipelines.flip_status("Support", "Waiting on us", "closed"))[1] == 0, (
        "nothing was flipped, nothing is offered"
    )


async def test_c11_the_switch_changes_nothing_that_is_there(office):
    """C11: switching off and on again leaves every ticket as it is."""
    closed, still_open = await made(office, "Closed"), await made(office)
    before = await office.list()
    await office.pipelines.set_pipeline("Support", {"set_close_date": False})
    await office.pipelines.set_pipeline("Support", {"set_close_date": True})
    assert await office.list() == before
    assert {closed, still_open} == {each["number"] for each in before}


@pytest.mark.parametrize(
    ("zone", "instant", "expected"),
    [
        ("Europe/Amsterdam", "2026-11-22T23:30:00+00:00", "2026-11-23"),
        ("America/Los_Angeles", "2026-11-22T07:30:00+00:00", "2026-11-21"),
        ("UTC", "2026-11-22T23:59:59+00:00", "2026-11-22"),
    ],
)
async def test_c12_today_is_the_accounts_day(office, zone, instant, expected):
    """C12: the date is the day in the account's zone at the time of the move."""
    office.zone = ZoneInfo(zone)
    office.clock.set(datetime.fromisoformat(instant).astimezone(UTC))
    number = await made(office)
    await office.desk.move([number], "Closed")
    assert (await closure(office, number))[0] == expected


async def test_c13_two_moves_at_one_instant_happen_in_order(office):
    """C13: closed and reopened at one instant, the ticket is open, and the history in order."""
    number = await made(office)
    await office.desk.move([number], "Closed")
    await office.desk.move([number], "New")
    shown = await office.show(number)
    assert (shown["status"], shown["close_date"], shown["closed_at"]) == ("New", None, None)
    moves = [
        (each["before"], each["after"])
        for each in shown["events"]
        if each["type"] == "status_changed"
    ]
    assert moves == [("New", "Closed"), ("Closed", "New")]
