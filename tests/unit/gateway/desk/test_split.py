"""Tests of splitting a ticket (behaviour.md P11)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.tickets import NewTicket
from gateway.errors import Refused
from gateway.store.tickets import tickets


async def conversation(office) -> tuple[int, list[int]]:
    """Create a ticket with three mails, two by Bob in Cc; return its messages."""
    number = (
        await office.mail(
            "Ann <ann@customer.example>", "Printer", key="1", cc="bob@customer.example"
        )
    ).ticket
    await office.mail(
        "bob@customer.example", "Phone", key="2", answers="1", cc="carl@customer.example"
    )
    await office.mail("bob@customer.example", "Phone again", key="3", answers="2")
    shown = await office.show(number)
    return number, [message["id"] for message in shown["threads"][0]["messages"]]


def ids(shown) -> list[str]:
    return [message["message_id"] for thread in shown["threads"] for message in thread["messages"]]


async def test_p11_chosen_mails_become_a_ticket_of_their_own(office):
    """P11: the new ticket has its own origin thread and first sender; both are linked."""
    number, messages = await conversation(office)
    await office.desk.move([number], "Closed")
    outcome = await office.desk.split(number, messages[1:])
    (other,) = outcome.tickets
    new, old = await office.show(other), await office.show(number)
    assert ids(new) == ["2@mail.example", "3@mail.example"]
    assert ids(old) == ["1@mail.example"]
    assert [thread["origin"] for thread in new["threads"]] == [True]
    assert (new["subject"], new["requester"]["address"], new["status"], new["source"]) == (
        "Phone",
        "bob@customer.example",
        "New",
        "email",
    )
    assert {each["address"]: each["role"] for each in new["participants"]} == {
        "bob@customer.example": "requester",
        "carl@customer.example": "stranger",
    }
    assert (old["status"], old["close_date"], old["subject"]) == ("Closed", "2026-11-22", "Printer")
    assert new["links"] == [{"number": number, "kind": "related"}]
    assert old["links"] == [{"number": other, "kind": "related"}]
    assert [(each.ticket, each.type) for each in outcome.events] == [
        (other, "ticket_created"),
        (other, "split"),
        (number, "split"),
    ]


async def test_p11_replies_follow_the_mail_they_answer(office):
    """P11: a reply to a moved mail reaches and moves the new ticket, any other the old one."""
    number, messages = await conversation(office)
    await office.desk.move([number], "New")
    (other,) = (await office.desk.split(number, messages[1:])).tickets
    row = await office.mail("bob@customer.example", "Re: Phone", key="4", answers="3")
    assert row.ticket == other
    assert (await office.show(other))["status"] == "Waiting on us"
    assert (await office.show(number))["status"] == "New"
    assert (
        await office.mail("ann@customer.example", "Re: Printer", key="5", answers="1")
    ).ticket == number


async def test_p11_impossible_splits_are_refused(office):
    """P11: no message, another ticket's, a note, or all of them are refused."""
    number, messages = await conversation(office)
    outcome = await office.desk.note(number, "for us")
    other = (await office.mail("carl@customer.example", "Other", key="9")).message
    before = await office.list(everything=True)
    for chosen in ([], [99], [other], [messages[0], other], [outcome.message.id], messages):
        with pytest.raises(Refused):
            await office.desk.split(number, chosen)
    assert await office.list(everything=True) == before


async def heard(office, number: int):
    """Return the stored time of the customer's last mail on a ticket."""
    async with office.database.read() as connection:
        return (await tickets.load(connection, [number]))[number].last_customer_message_at


async def test_the_new_ticket_knows_when_its_customer_wrote(office):
    """2.6: after a split or an attached thread, the arrival of the old mail counts."""
    first = (await office.mail("ann@customer.example", key="1")).ticket
    office.clock.advance(timedelta(hours=1))
    wrote = office.clock.now()
    await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    office.clock.advance(timedelta(hours=1))
    [thread] = (await office.show(first))["threads"]
    (other,) = (await office.desk.split(first, [thread["messages"][1]["id"]])).tickets
    assert await heard(office, other) == wrote
    await office.channels.set_channel("support@localhost", {"tickets": False})
    office.clock.advance(timedelta(hours=1))
    alone, wrote = (
        (await office.mail("ben@customer.example", "Toner", key="3")).thread_id,
        office.clock.now(),
    )
    apart = (await office.mail("eve@customer.example", "Paper", key="4")).thread_id
    office.clock.advance(timedelta(hours=1))
    (made,) = (await office.desk.create(NewTicket(thread=alone))).tickets
    assert await heard(office, made) == wrote
    await office.desk.attach(other, apart)
    assert await heard(office, other) == wrote
