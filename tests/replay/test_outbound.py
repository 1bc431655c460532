"""Mail that users send, and what follows for the ticket: scenarios of trigger A and rows of behaviour.md 2.3, seen at the receiving server."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.correspond import Mail
from tests.replay.office import Office, answer

pytestmark = pytest.mark.asyncio(loop_scope="session")
ANN = "Ann Example <ann@example.org>"


async def test_27_o01_an_agents_reply_moves_to_the_target_of_a(office: Office):
    """Scenario 27, O01: the customer's client threads the answer, and the ticket waits on the contact."""
    await office.mail(ANN, Message_ID="<first@example.org>")
    await office.reply(1)
    assert await office.status(1) == "Waiting on contact"
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert (arrived.mail["In-Reply-To"], arrived.mail["References"]) == ("<first@example.org>", "<first@example.org>")
    assert arrived.mail["Reply-To"] == (await office.world.ticket(1))["reply_address"]
    assert arrived.mail["Auto-Submitted"] is None
    assert arrived.sender.startswith("support+b")
    assert "We look into it." in arrived.text
    assert "> It burns." in arrived.text


async def test_the_answer_comes_home(office: Office):
    """The customer's reply to what arrived is on the ticket's thread and moves it (trigger B)."""
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    [arrived] = office.received("ann@example.org")
    line = await office.world.mail(answer(arrived, "Still burning.", office.clock.now()))
    assert (line["ticket"], line["matched_by"], line["status"]) == (
        1,
        "reply_address",
        {"before": "Waiting on contact", "after": "Waiting on us"},
    )


async def test_38_o11_a_scheduled_reply_moves_when_it_is_sent(office: Office):
    """Scenario 38, O11: nothing happens today; tomorrow the mail goes out and the status follows."""
    await office.mail(ANN)
    await office.person().reply(1, Mail("Tomorrow.", at=office.clock.now() + timedelta(days=1)))
    await office.run()
    assert (await office.status(1), office.sink.taken) == ("New", [])
    await office.later(days=1)
    assert await office.status(1) == "Waiting on contact"
    assert [each.to for each in office.sink.taken] == [("ann@example.org",)]


async def test_76_the_receipt_is_one_automatic_mail_in_the_thread(office: Office):
    """Scenario 76: New sends *Ticket received*, once, with every mark of an automatic mail; the status stays (33, O08)."""
    await office.switch_on("New")
    await office.mail(ANN, Message_ID="<first@example.org>")
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert arrived.mail["Auto-Submitted"] == "auto-replied"
    assert (arrived.sender, arrived.mail["In-Reply-To"]) == ("", "<first@example.org>")
    assert arrived.mail["Subject"] == "We received your message"  # nobody vouched for her so far
    assert await office.status(1) == "New"
