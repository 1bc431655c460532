"""Tests of users' mail and its effect on the ticket: trigger A and behaviour.md 2.3."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.channels import ChannelDesk
from gateway.desk.correspondence import MailDraft
from gateway.desk.tickets import NewTicket
from gateway.desk.transaction import BUILT_IN
from gateway.errors import NotFound, Refused
from tests.replay.exchange import ANN, heard, moves, pipeline
from tests.replay.office import Office
from tests.replay.world import ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")
SUPPLIER = "sam@supplier.example"


async def test_27_o01_an_agents_reply_moves_to_the_target_of_a(office: Office):
    """Scenario 27, O01: the customer's client threads the answer; the ticket waits for them."""
    await office.mail(ANN, Message_ID="<first@example.org>")
    await office.reply(1)
    assert await office.status(1) == "Waiting on contact"
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert (arrived.mail["In-Reply-To"], arrived.mail["References"]) == (
        "<first@example.org>",
        "<first@example.org>",
    )
    assert arrived.mail["Reply-To"] == (await office.world.ticket(1))["reply_address"]
    assert arrived.mail["Auto-Submitted"] is None
    assert arrived.sender.startswith("support+b")
    assert "We look into it." in arrived.text
    assert "> It burns." in arrived.text


async def test_the_answer_moves_the_ticket(office: Office):
    """The customer's reply is on the ticket's thread and moves the ticket (trigger B)."""
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    line = await heard(office)
    assert (line["ticket"], line["matched_by"], line["status"]) == (
        1,
        "reply_address",
        {"before": "Waiting on contact", "after": "Waiting on us"},
    )


async def test_28_o03_mail_to_a_contact_touches_no_ticket(office: Office):
    """Scenario 28, O03, INV11: mail from a contact record and its answer change no ticket."""
    await office.mail(ANN)
    before = await office.world.ticket(1)
    await office.person().write_to(
        "ann@example.org", MailDraft("Our prices change.", subject="News")
    )
    await office.run()
    assert await office.world.ticket(1) == before
    [arrived] = office.received("ann@example.org")
    assert (arrived.mail["Subject"], arrived.mail["Reply-To"]) == ("News", None)
    line = await heard(office)
    assert (line["ticket"], line["created_ticket"]) == (2, True)
    assert await office.world.ticket(1) == before


async def test_29_o02_with_a_off_a_reply_moves_nothing(office: Office):
    """Scenario 29, O02: with A off the status stays."""
    await pipeline(office, on_email_sent=None)
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    assert (await moves(office), len(office.sink.taken)) == ([], 1)


async def test_o02_in_the_target_already(office: Office):
    """O02: a second reply is no second move."""
    await office.mail(ANN)
    await office.reply(1)
    await office.reply(1, "One more thing.")
    assert await moves(office) == [("A", "New", "Waiting on contact")]


async def test_30_o04_c20_mail_to_a_supplier_only(office: Office):
    """Scenario 30, O04, C20: mail to a supplier moves nothing and associates nobody."""
    await office.mail(ANN)
    for _ in range(2):
        await office.reply(1, "Have you a spare part?", to=(SUPPLIER,))
    await office.run()
    assert (
        await moves(office),
        len(office.received(SUPPLIER)),
        office.received("ann@example.org"),
    ) == ([], 2, [])
    await office.world.desk().person(1, "add", SUPPLIER)
    await office.reply(1, "And now?", to=(SUPPLIER,))
    assert await moves(office) == [("A", "New", "Waiting on contact")]


async def test_32_o06_e18_an_answer_from_the_own_mailbox(office: Office):
    """Scenario 32, O06, E18: it is logged as the agent's, the status stays, nothing goes out."""
    await office.user()
    await office.mail(ANN, Message_ID="<first@example.org>")
    line = await office.mail(
        "Bob <agent@desk.example>",
        "Re: Printer on fire",
        In_Reply_To="<first@example.org>",
        Cc="ann@example.org",
    )
    assert (line["ticket"], line["sender_role"]) == (1, "user")
    await office.run()
    assert (await moves(office), office.sink.taken) == ([], [])


async def test_67_o06_an_own_mailbox_leaves_a_closed_ticket_closed(office: Office):
    """Scenario 67: S8d comes before S9, also for the answer to our mail."""
    await office.user()
    await office.mail(ANN)
    await office.reply(1, cc=("agent@desk.example",), status="Closed")
    await office.run()
    line = await heard(office, "agent@desk.example", sender="agent@desk.example")
    assert (line["sender_role"], line["status"]) == (
        "user",
        {"before": "Closed", "after": "Closed"},
    )
    assert (await office.world.ticket(1))["close_date"] == "2026-11-22"


async def test_34_o07_a_note_is_no_mail(office: Office):
    """Scenario 34, O07: a note moves nothing and sends nothing."""
    await office.mail(ANN)
    await office.world.desk().note(1, "He is angry.")
    await office.run()
    assert (await moves(office), office.sink.taken) == ([], [])


async def test_36_o09_a_reply_from_a_closed_ticket_reopens_it(office: Office):
    """Scenario 36, O09, C5: A has no exception for closed tickets."""
    await office.mail(ANN)
    await office.world.desk().move([1], "Closed")
    await office.reply(1)
    ticket = await office.world.ticket(1)
    assert (
        ticket["status"],
        ticket["close_date"],
        ticket["closed_at"],
        ticket["reopened_count"],
    ) == ("Waiting on contact", None, None, 1)


async def test_38_o11_a_scheduled_reply_moves_when_it_is_sent(office: Office):
    """Scenario 38, O11: nothing happens today; tomorrow the mail goes out and the status moves."""
    await office.mail(ANN)
    await office.person().reply(
        1, MailDraft("Tomorrow.", at=office.clock.now() + timedelta(days=1))
    )
    await office.run()
    assert (await office.status(1), office.sink.taken) == ("New", [])
    await office.later(days=1)
    assert await office.status(1) == "Waiting on contact"
    assert [each.to for each in office.sink.taken] == [("ann@example.org",)]


async def test_38_o11_a_cancelled_reply_never_happened(office: Office):
    """Scenario 38, O11: it is never sent, the status never moves, the thread shows nothing."""
    await office.mail(ANN)
    await office.person().reply(
        1, MailDraft("Tomorrow.", at=office.clock.now() + timedelta(days=1), status="Closed")
    )
    [waiting] = await office.deliveries()
    assert waiting["state"] == "scheduled"
    await office.deliveries_desk().cancel([waiting["id"]])
    await office.later(days=2)
    ticket = await office.world.ticket(1)
    assert (ticket["status"], office.sink.taken, len(ticket["threads"][0]["messages"])) == (
        "New",
        [],
        1,
    )


async def test_o11_a_scheduled_mail_to_a_deleted_ticket_fails_visibly(office: Office):
    """O11: if the ticket is in the trash by then, the mail fails with that reason."""
    await office.mail(ANN)
    await office.person().reply(
        1, MailDraft("Tomorrow.", at=office.clock.now() + timedelta(days=1))
    )
    await office.world.desk().delete(1)
    await office.later(days=1)
    [delivery] = await office.deliveries()
    assert (delivery["state"], "trash" in delivery["last_reply"], office.sink.taken) == (
        "failed",
        True,
        [],
    )


async def test_39_the_target_of_a_is_what_it_is_now(office: Office):
    """Scenario 39: the edited target of A counts."""
    await pipeline(office, on_email_sent="Waiting on us")
    await office.mail(ANN)
    await office.reply(1)
    assert await moves(office) == [("A", "New", "Waiting on us")]


async def test_43_o15_e07_a_second_thread_of_a_ticket_never_closed(office: Office):
    """Scenario 43, O15, E07: mail on the new thread applies A; its answer is only flagged."""
    await office.mail(ANN)
    await office.person().reply(
        1, MailDraft("Another matter.", new_thread=True, subject="Your contract")
    )
    assert await office.status(1) == "Waiting on contact"
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert (arrived.mail["In-Reply-To"], arrived.mail["References"]) == (None, None)
    assert arrived.mail["Subject"].startswith("Your contract [#1.")
    line = await heard(office)
    assert (line["ticket"], line["status"]["after"]) == (1, "Waiting on contact")
    ticket = await office.world.ticket(1)
    assert ([each["origin"] for each in ticket["threads"]], ticket["flags"]) == (
        [True, False],
        ["unread_reply"],
    )


async def test_44_o15_e08_a_second_thread_after_a_reopening(office: Office):
    """Scenario 44, O15, E08: closed, reopened, then a new thread: the answer to it is trigger B."""
    await office.mail(ANN)
    await office.world.desk().move([1], "Closed")
    await office.world.desk().move([1], "New")
    await office.person().reply(1, MailDraft("Another matter.", new_thread=True))
    await office.run()
    assert (await heard(office))["status"] == {
        "before": "Waiting on contact",
        "after": "Waiting on us",
    }


async def test_57b_e41_the_first_mail_from_a_ticket_made_by_hand(office: Office):
    """Scenario 57b, E41, C18: our mail's thread is the origin, so its answer is trigger B."""
    await office.world.desk().create(
        NewTicket(subject="Ann called", requester="ann@example.org", source="phone")
    )
    await office.reply(1, "As promised on the phone.")
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert (arrived.mail["Subject"].startswith("Ann called [#1."), arrived.mail["References"]) == (
        True,
        None,
    )
    line = await heard(office)
    assert (line["ticket"], line["status"]) == (
        1,
        {"before": "Waiting on contact", "after": "Waiting on us"},
    )
    assert [each["origin"] for each in (await office.world.ticket(1))["threads"]] == [True]


@pytest.mark.parametrize("to", [SUPPLIER, "ann@example.org"])
@pytest.mark.parametrize("closed", [False, True])
async def test_64_o05_e17_a_forward_and_its_answer_move_nothing(
    office: Office, to: str, closed: bool
):
    """Scenario 64, O05, E17: neither a forward nor its answer moves the ticket, open or closed."""
    await office.mail(ANN)
    if closed:
        await office.world.desk().move([1], "Closed")
    status = await office.status(1)
    await office.person().forward(1, MailDraft("Can you help?", to=(to,)))
    await office.run()
    [arrived] = office.received(to)
    assert arrived.mail["Subject"].startswith("Fwd: Printer on fire [#1.")
    assert "It burns." in arrived.text
    assert [each.get_content_type() for each in arrived.mail.iter_attachments()] == [
        "message/rfc822"
    ]
    line = await heard(office, to, "I can.")
    ticket = await office.world.ticket(1)
    assert (line["ticket"], ticket["status"]) == (1, status)
    assert [(each["kind"], len(each["messages"])) for each in ticket["threads"]] == [
        ("normal", 1),
        ("forward", 2),
    ]
    assert {
        each["address"]: each["role"]
        for each in ticket["participants"]
        if each["role"] != "stranger"
    }["ann@example.org"] == "requester"
    assert SUPPLIER not in {
        each["address"]
        for each in ticket["participants"]
        if each["role"] in ("associated", "requester")
    }
    assert "needs_attention" in ticket["flags"]


async def test_o05_who_gets_a_forward_may_be_known_already(office: Office):
    """O05: a forward to a known sender, to one supplier of several tickets, and to both."""
    await office.mail(ANN)
    await office.mail("Ben <ben@example.org>", subject="Toner")
    await office.person().forward(1, MailDraft("Can you help?", to=("ben@example.org",)))
    await office.person().forward(1, MailDraft("Can you help?", to=(SUPPLIER,)))
    await office.person().forward(2, MailDraft("And here?", to=(SUPPLIER, "ann@example.org")))
    await office.run()
    assert [
        len(office.received(each)) for each in ("ben@example.org", SUPPLIER, "ann@example.org")
    ] == [1, 2, 1]


async def test_o10_the_chosen_status_wins_and_its_workflow_comes_after_the_reply(office: Office):
    """O10: "Send & close" closes without A; *Ticket closed* is queued after the reply."""
    await office.switch_on("Closed")
    await office.mail(ANN)
    await office.reply(1, "All done.", status="Closed")
    assert (await moves(office), (await office.world.ticket(1))["close_date"]) == (
        [("user", "New", "Closed")],
        "2026-11-22",
    )
    await office.run()
    assert [each["template"] for each in await office.deliveries()] == [None, "Ticket closed"]
    reply, closing = office.received("ann@example.org")
    assert "All done." in reply.text
    assert (closing.mail["Auto-Submitted"], closing.mail["In-Reply-To"]) == (
        "auto-replied",
        reply.mail["Message-ID"],
    )
    assert await office.status(1) == "Closed"


async def test_o10_the_status_it_has_is_kept_though_a_is_on(office: Office):
    """O10: the current status can be chosen too; an unknown status is refused, nothing is sent."""
    await office.mail(ANN)
    await office.reply(1, status="New")
    assert await moves(office) == []
    with pytest.raises(NotFound):
        await office.reply(1, status="Nowhere")
    await office.run()
    assert len(office.sink.taken) == 1


async def test_o13_o14_a_mail_from_a_channel_opens_a_ticket(office: Office):
    """O13, O14, C13: a ticket in the first open status, no A or receipt; the answer is B."""
    await office.switch_on("New")
    await office.person().send(
        "support@localhost",
        MailDraft("Your order is late.", to=("Ann <ann@example.org>",), subject="Order 7"),
    )
    await office.run()
    ticket = await office.world.ticket(1)
    assert (
        ticket["status"],
        ticket["requester"]["address"],
        [each["origin"] for each in ticket["threads"]],
    ) == ("New", "ann@example.org", [True])
    [arrived] = office.received("ann@example.org")
    assert (arrived.mail["Subject"], arrived.mail["Reply-To"]) == (
        f"Order 7 [{ticket['tag']}]",
        ticket["reply_address"],
    )
    line = await heard(office)
    assert (line["ticket"], line["sender_role"], line["status"]) == (
        1,
        "contact",
        {"before": "New", "after": "Waiting on us"},
    )
    await office.run()
    assert len(office.sink.taken) == 1


async def test_o13_from_a_channel_that_makes_no_tickets(office: Office):
    """O13: with the channel off there is a conversation only."""
    await ChannelDesk(office.database, office.clock, ZONE, BUILT_IN).set_channel(
        "support@localhost", {"tickets": False}
    )
    await office.person().send(
        "support@localhost",
        MailDraft("Your order is late.", to=("ann@example.org",), subject="Order 7"),
    )
    await office.run()
    assert (await office.world.tickets(), len(office.sink.taken)) == ([], 1)
    assert (await heard(office))["ticket"] is None


async def test_o16_a_reply_on_behalf_of_a_user(office: Office):
    """O16: the user is the author and becomes the owner."""
    await office.user()
    await office.mail(ANN)
    await office.reply(1, actor="agent@desk.example")
    ticket = await office.world.ticket(1)
    [move] = [each for each in ticket["events"] if each["type"] == "status_changed"]
    assert (move["cause"]["rule"], move["cause"]["user"], ticket["owner"]) == (
        "A",
        "agent@desk.example",
        "agent@desk.example",
    )


async def test_76_the_receipt_is_one_automatic_mail_in_the_thread(office: Office):
    """Scenario 76, 33, O08: *Ticket received* is sent once, marked automatic; no move."""
    await office.switch_on("New")
    await office.mail(ANN, Message_ID="<first@example.org>")
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert arrived.mail["Auto-Submitted"] == "auto-replied"
    assert (arrived.sender, arrived.mail["In-Reply-To"]) == ("", "<first@example.org>")
    assert arrived.mail["Subject"] == "We received your message"  # she is not proven yet
    assert await office.status(1) == "New"


async def test_acts_on_outgoing_mail_are_in_the_history(office: Office):
    """Outbox cancel and retry are in the history; the flag goes once no delivery has failed."""
    await office.user()
    await office.mail(ANN)
    office.sink.refuse = {"ann@example.org": "550 5.7.1 No", "ben@example.org": "550 5.7.1 No"}
    await office.reply(1, to=("ann@example.org", "ben@example.org"))
    await office.run()
    failed = [each["id"] for each in await office.deliveries()]
    assert "delivery_failed" in (await office.world.ticket(1))["flags"]
    person = office.deliveries_desk("agent@desk.example")
    done = await person.retry(failed[:1])
    assert [(each.type, each.actor, each.after) for each in done.events] == [
        ("mail_retried", "agent@desk.example", "ann@example.org")
    ]
    assert "delivery_failed" in (await office.world.ticket(1))["flags"]
    await person.retry(failed[1:])
    assert "delivery_failed" not in (await office.world.ticket(1))["flags"]
    done = await person.cancel(failed)
    assert [(each.type, each.after) for each in done.events] == [
        ("mail_cancelled", "ann@example.org, ben@example.org")
    ]
    await office.run()
    assert office.sink.taken == []
    with pytest.raises(Refused, match=f"delivery {failed[0]} is already cancelled"):
        await person.cancel(failed[:1])
