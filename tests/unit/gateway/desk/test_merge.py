"""Tests of merging tickets, undoing it, and replies (behaviour.md P10, E36, E37, scenario 73)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.tickets import NewTicket
from gateway.errors import Refused, Rejected


async def two(office) -> tuple[int, int]:
    """Create two tickets by mail, Ann's older than Bob's."""
    first = (await office.mail("ann@customer.example", "First", key="a")).ticket
    office.clock.advance(timedelta(hours=1))
    return first, (await office.mail("bob@customer.example", "Second", key="b")).ticket


def roles(shown) -> dict[str, str]:
    return {each["address"]: each["role"] for each in shown["participants"]}


async def test_p10_the_survivor_has_everything_and_the_number_redirects(office):
    """P10: the survivor keeps number, status and subject, and gets all threads, people, notes."""
    first, second = await two(office)
    await office.desk.note(second, "Bob called")
    await office.desk.move([second], "Waiting on us")
    outcome = await office.desk.merge(second, first)
    shown = await office.show(second)
    assert shown["number"] == first
    assert (shown["status"], shown["subject"]) == ("New", "First")
    assert [thread["origin"] for thread in shown["threads"]] == [True, True]
    texts = [
        message["text"].strip() for thread in shown["threads"] for message in thread["messages"]
    ]
    assert texts == ["The text of a.", "The text of b.", "Bob called"]
    assert roles(shown) == {
        "ann@customer.example": "requester",
        "bob@customer.example": "associated",
    }
    assert [each["number"] for each in await office.list()] == [first]
    assert {(each.ticket, each.type) for each in outcome.events} == {
        (first, "merged"),
        (second, "merged"),
    }


async def test_p10_the_older_create_date_counts(office):
    """P10: the older of the two create dates is kept, whichever ticket survives."""
    first, second = await two(office)
    older = (await office.show(first))["created_at"]
    await office.desk.merge(first, second)
    assert (await office.show(second))["created_at"] == older


async def test_p10_notes_of_a_ticket_without_mail_come_along(office):
    """P10: a note on a ticket without any thread is shown on the survivor."""
    first = (await office.mail("ann@customer.example", key="a")).ticket
    by_hand = (await office.desk.create(NewTicket("By phone"))).tickets[0]
    await office.desk.note(by_hand, "She called")
    await office.desk.merge(by_hand, first)
    assert [message["text"] for message in (await office.show(first))["threads"][0]["messages"]][
        1:
    ] == ["She called"]


async def test_p10_undo_gives_everything_back(office):
    """P10: within 30 days threads, people and numbers return, and both tickets are as before."""
    first, second = await two(office)
    await office.desk.person(second, "add", "carl@customer.example")
    await office.desk.note(second, "Bob called")
    before = {number: await office.show(number) for number in (first, second)}
    await office.desk.merge(second, first)
    assert roles(await office.show(first))["carl@customer.example"] == "associated"
    office.clock.advance(timedelta(days=30))
    await office.desk.unmerge(second)
    for number, was in before.items():
        now = await office.show(number)
        assert [each["type"] for each in now["events"]][-2:] == ["merged", "unmerged"]
        assert {**now, "events": []} == {**was, "events": []}


async def test_p10_undo_gives_the_create_date_back(office):
    """P10: the survivor's own create date returns when the older ticket leaves it."""
    first, second = await two(office)
    own = (await office.show(second))["created_at"]
    await office.desk.merge(first, second)
    await office.desk.unmerge(first)
    assert (await office.show(second))["created_at"] == own


async def test_p10_after_30_days_a_merge_stays(office):
    """P10: undoing an older merge is refused, and nothing changes."""
    first, second = await two(office)
    await office.desk.merge(second, first)
    office.clock.advance(timedelta(days=30, seconds=1))
    with pytest.raises(Refused, match="more than 30 days ago"):
        await office.desk.unmerge(second)
    assert [each["number"] for each in await office.list()] == [first]


async def test_p10_merges_in_a_row_are_followed_and_undone_from_the_last(office):
    """P10: a number leads to the last survivor; the outer merge must be undone first."""
    first, second = await two(office)
    third = (await office.mail("carl@customer.example", "Third", key="c")).ticket
    await office.desk.merge(third, second)
    await office.desk.merge(second, first)
    assert (await office.show(third))["number"] == first
    with pytest.raises(Refused, match="first undo the merge of"):
        await office.desk.unmerge(third)
    await office.desk.unmerge(second)
    assert (await office.show(third))["number"] == second
    assert len((await office.show(second))["threads"]) == 2
    await office.desk.unmerge(third)
    assert [len((await office.show(number))["threads"]) for number in (first, second, third)] == [
        1,
        1,
        1,
    ]


async def test_p10_impossible_merges_are_refused(office):
    """P10: into itself, merged away, in the trash, unknown, or no merge to undo: refused."""
    first, second = await two(office)
    third = (await office.mail("carl@customer.example", "Third", key="c")).ticket
    await office.desk.merge(second, first)
    await office.desk.delete(third)
    for act in (
        office.desk.merge(first, first),
        office.desk.merge(first, second),
        office.desk.merge(second, third),
        office.desk.merge(third, first),
        office.desk.merge(first, third),
        office.desk.merge(99, first),
        office.desk.merge(first, 99),
        office.desk.unmerge(first),
    ):
        with pytest.raises(Rejected):
            await act


async def test_e36_a_reply_on_a_merged_thread_moves_the_survivor(office):
    """E36: both originals are origin threads, so trigger B works on the survivor."""
    first, second = await two(office)
    await office.desk.merge(second, first)
    assert (
        await office.mail("bob@customer.example", "Re: Second", key="c", answers="b")
    ).ticket == first
    assert (await office.show(first))["status"] == "Waiting on us"


async def test_e37_scenario_73_a_reply_on_a_merged_thread_reopens_the_survivor(office):
    """E37, scenario 73: B merged into A, A closed: a reply on B's thread moves A to New."""
    first, second = await two(office)
    await office.desk.merge(second, first)
    await office.desk.move([first], "Closed")
    await office.mail("bob@customer.example", "Re: Second", key="c", answers="b")
    shown = await office.show(first)
    assert (shown["status"], shown["close_date"]) == ("New", None)


async def test_replies_go_to_the_ticket_that_left(office):
    """After the undo a reply on the thread reaches its own ticket again."""
    first, second = await two(office)
    await office.desk.merge(second, first)
    await office.desk.unmerge(second)
    assert (
        await office.mail("bob@customer.example", "Re: Second", key="c", answers="b")
    ).ticket == second


async def test_tickets_joined_by_mail_can_be_taken_apart(office):
    """Section 5: joined tickets can be undone to their own threads, and replies find them."""
    first = (
        await office.mail("ann@customer.example", "First", key="a", cc="bob@customer.example")
    ).ticket
    second = (
        await office.mail("bob@customer.example", "Second", key="b", cc="ann@customer.example")
    ).ticket
    joining = (
        await office.mail(
            "ann@customer.example", "Re: First", key="c", answers="a", references="a b"
        )
    ).ticket
    assert joining == first
    assert (await office.show(second))["number"] == first
    await office.desk.unmerge(second)
    shown = await office.show(second)
    assert shown["number"] == second
    assert [
        message["message_id"] for thread in shown["threads"] for message in thread["messages"]
    ] == ["b@mail.example"]
    kept = [
        message["message_id"]
        for thread in (await office.show(first))["threads"]
        for message in thread["messages"]
    ]
    assert kept == ["a@mail.example", "c@mail.example"]
    assert (
        await office.mail("bob@customer.example", "Re: Second", key="d", answers="b")
    ).ticket == second
