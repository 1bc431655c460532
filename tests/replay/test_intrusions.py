"""Tests of further ways into somebody else's conversation, each judged by the mail that goes out.

They were found by trying: conversations without a ticket, merges, scheduled and relayed answers,
copies sent first, names, the trash, results about another domain, and mail written by programs.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.channels import ChannelDesk
from gateway.desk.correspondence import MailDraft
from tests.replay.exchange import pipeline
from tests.replay.intruders import ALICE, CARL, DAVE, MALLORY, Post, Scene, leaks
from tests.replay.office import Office, answer
from tests.replay.world import TRUSTED, ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_conversation_of_a_channel_without_tickets(office: Office) -> None:
    """An intruder who names an id of a ticketless conversation gets neither seat nor subject."""
    channels = ChannelDesk(office.database, office.clock, ZONE, "console")
    await channels.set_channel("support@localhost", {"tickets": False})
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)))
    await channels.set_channel("support@localhost", {"tickets": True})
    await scene.post(Post(MALLORY, "m1", ("a1",)))
    await scene.answer_all()
    assert leaks(scene) == []  # her subject goes to the intruder
    await scene.post(Post(ALICE, "a2", ("a1",), (CARL,)))
    office.sink.taken.clear()
    await scene.answer_all()
    told = [each for each in office.sink.taken if ALICE in str(each.mail["To"])]
    assert MALLORY not in {address for each in told for address in each.to}


async def test_a_second_channel_that_makes_no_tickets(office: Office) -> None:
    """The same where another channel makes tickets all the time: no switch is turned."""
    channels = ChannelDesk(office.database, office.clock, ZONE, "console")
    await channels.add_channel("office@localhost", "Office")
    await channels.set_channel("office@localhost", {"tickets": False})
    for fields in (
        (
            f"From: {ALICE}",
            "To: office@localhost",
            "Subject: Secret takeover",
            "Message-ID: <a1@x>",
        ),
        (
            f"From: {MALLORY}",
            "To: support@localhost",
            "Subject: Hi",
            "Message-ID: <m1@x>",
            "In-Reply-To: <a1@x>",
        ),
    ):
        head = "\r\n".join(("Authentication-Results: mx.example.net; dmarc=pass", *fields))
        await office.world.mail(f"{head}\r\n\r\nSome words.\r\n".encode())
    for ticket in await office.world.tickets():
        await office.reply(ticket["number"])
    await office.run()
    for sent in office.received(MALLORY):
        assert "Secret" not in sent.mail["Subject"]
        assert sent.to == (MALLORY,)
        assert ALICE not in f"{sent.mail['To']} {sent.mail['Cc']}"


async def test_a_private_mail_of_a_user(office: Office) -> None:
    """O03: who names our mail to a contact does not become requester of what they answer."""
    await office.person().write_to(ALICE, MailDraft("Private.", subject="Private matter"))
    await office.run()
    ours = office.received(ALICE)[-1].mail["Message-ID"]
    results = "Authentication-Results: mx.example.net; dmarc=pass\r\n"
    for sender, name in ((MALLORY, "m1"), (ALICE, "a1")):
        await office.world.mail(
            f"{results}From: {sender}\r\nTo: support@localhost\r\nSubject: Re: {name}\r\n"
            f"Message-ID: <{name}@x>\r\nIn-Reply-To: {ours}\r\n\r\nWords of {name}.\r\n".encode()
        )
    office.sink.taken.clear()
    for ticket in await office.world.tickets():
        await office.reply(ticket["number"])
    await office.run()
    told = [each for each in office.sink.taken if ALICE in f"{each.mail['To']} {each.mail['Cc']}"]
    assert told
    assert MALLORY not in {address for each in told for address in each.to}


@pytest.mark.parametrize("kept", [1, 2])
async def test_a_merge_gives_no_seat_on_the_other_customers_thread(
    office: Office, kept: int
) -> None:
    """The other merged customer who names a foreign id is a stranger on that thread."""
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)), Post(MALLORY, "m1"))
    await office.world.desk().merge(3 - kept, kept)
    await scene.post(Post(MALLORY, "m2", ("a1",)))
    assert scene.lines["m2"]["sender_role"] == "stranger"
    await scene.answer_all()
    await scene.post(Post(ALICE, "a2", ("a1",)))
    await scene.answer_all()
    assert leaks(scene) == []
    seen = [
        each for each in office.received(MALLORY) if scene.words["a1"][0] in each.mail["Subject"]
    ]
    assert seen == []


async def test_an_unmerge_takes_the_seat_back(office: Office) -> None:
    """What the other customer wrote on the thread while merged leaves them no seat on it (P10)."""
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)), Post(MALLORY, "m1"))
    await office.world.desk().merge(2, 1)
    await scene.post(Post(MALLORY, "m2", ("a1",)))
    await office.world.desk().unmerge(2)
    await scene.post(Post(ALICE, "a2", ("a1",)))
    await office.reply(1)
    await office.run()
    assert office.received(MALLORY) == []


async def test_a_scheduled_reply_quotes_nobody_to_default_recipients(office: Office) -> None:
    """Whom the desk chose for a scheduled reply is a default recipient when it goes, too."""
    scene = Scene(office)
    await scene.post(Post(MALLORY, "m1", cc=(ALICE,)))
    await office.reply(1, "Later.", at=office.clock.now() + timedelta(hours=1))
    await scene.post(Post(ALICE, "a1", ("m1",)))  # to the desk alone
    await office.later(hours=2)
    assert office.received(MALLORY)
    assert leaks(scene, scene.customers) == []


async def test_a_relay_quotes_nobody_to_the_requester(office: Office) -> None:
    """E19: the requester is chosen by the desk; a mail that was not for them is not quoted."""
    await pipeline(office, relay=True)
    await office.user(notify={"new": True, "reply": True, "failure": False})
    scene = Scene(office)
    await scene.post(Post(MALLORY, "m1", cc=(ALICE,)))
    await scene.post(Post(ALICE, "a1", ("m1",)))
    await office.run()
    notice = office.received("agent@desk.example")[-1]
    raw = answer(notice, "We look into it.", office.clock.now(), sender="agent@desk.example")
    await office.world.mail(f"Authentication-Results: {TRUSTED}; dmarc=pass\r\n".encode() + raw)
    await office.run()
    assert office.received(MALLORY)
    assert leaks(scene, scene.customers) == []


def copy(*fields: str) -> str:
    """Return the customer's mail (known to the intruder, who is in its Cc or gets it first)."""
    return "\n".join(
        [
            *fields,
            f"From: {ALICE}",
            "Subject: About it",
            "Message-ID: <a1@mail.example>",
            "Date: Fri, 20 Nov 2026 08:00:00 +0000",
            "",
            "The same words.",
            "",
        ]
    )


@pytest.mark.parametrize(
    "forged",
    [
        ("To: $reply(1,1)",),  # onto the intruder's own ticket
        ("To: support@localhost", f"Cc: {MALLORY}", f"Reply-To: {MALLORY}"),
        ("To: support@localhost", "Auto-Submitted: auto-replied"),  # ignored, then the real one too
    ],
)
async def test_a_forged_copy_does_not_swallow_the_proven_mail(
    office: Office, forged: tuple[str, ...]
) -> None:
    """A proven mail is no duplicate of an unproven one: it gets its own ticket and its answers."""
    scene = Scene(office)
    await scene.post(Post(MALLORY, "m1", cc=(ALICE,)))
    world = office.world
    await world.mail(await world.filled(copy(*forged)))
    real = await world.mail(
        await world.filled(
            copy(
                f"Authentication-Results: {TRUSTED}; dmarc=pass",
                "To: support@localhost",
                f"Cc: {CARL}",
            )
        )
    )
    assert real["outcome"] == "done"
    await office.reply(real["ticket"])
    await office.run()
    assert {who for sent in office.sink.taken for who in sent.to} == {ALICE, CARL}


async def test_a_bare_address_in_cc_is_not_answered_with_a_name(office: Office) -> None:
    """Cc of an answer shows the people as this conversation names them."""
    passed = {"Authentication_Results": f"{TRUSTED}; dmarc=pass"}
    await office.mail(f"Alice Liddell <{ALICE}>", **passed)
    await office.mail(MALLORY, "Hello", Cc=ALICE, **passed)
    await office.reply(2)
    await office.run()
    (sent,) = office.received(MALLORY)
    assert "Liddell" not in sent.raw.decode()


async def test_an_unproven_mail_to_a_trashed_ticket_names_nobody(office: Office) -> None:
    """E38: the new ticket has the old requester, so that a forged Cc is a stranger on it."""
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)), Post(CARL, "c1", ("a1",), (ALICE,)))
    await office.world.desk().delete(1)
    await scene.post(Post(CARL, "c2", ("a1",), (MALLORY,), verdict="none", forger=MALLORY))
    await scene.post(Post(ALICE, "a2", ("a1",), (CARL,)))  # proven, ids of her own only
    await office.reply(scene.ticket_of("a2"))
    await office.run()
    assert office.received(MALLORY) == []


@pytest.mark.parametrize(
    "sender",
    [f"<{CARL}> <{MALLORY}>", f"{MALLORY} <{CARL}", f"=?utf-8?q?mallory=40bad.example=2C?= {CARL}"],
)
async def test_a_pass_for_another_domain_is_no_proof(office: Office, sender: str) -> None:
    """Where header.from is not the domain that we read in From, the verdict is none."""
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)))
    await office.world.mail(
        f"Authentication-Results: {TRUSTED}; dmarc=pass header.from=bad.example\r\n"
        f"From: {sender}\r\nTo: support@localhost\r\nCc: {MALLORY}\r\nSubject: Hi\r\n"
        f"Message-ID: <m1@bad.example>\r\nIn-Reply-To: <a1@mail.example>\r\n\r\nHi.\r\n".encode()
    )
    await scene.post(Post(ALICE, "a2", ("a1",), (CARL,)))
    await scene.answer_all()
    assert office.received(MALLORY) == []


async def test_a_revived_ticket_tells_its_old_requester_nothing(office: Office) -> None:
    """E38: whose mail opens the new ticket is its requester, and no other gets its subject."""
    await office.switch_on("New")
    scene = Scene(office)
    await scene.post(Post(MALLORY, "m1", cc=(ALICE,)))
    await office.world.desk().delete(1)  # spam
    await scene.post(Post(ALICE, "a1", ("m1",)))  # to the desk alone, a subject of her own
    await scene.answer_all()
    assert office.received(ALICE)
    assert leaks(scene, scene.customers) == []


async def test_an_automatic_mail_seats_nobody_new(office: Office) -> None:
    """E42: a program answers every address in Reply-To; nobody decided to bring them in."""
    passed = {"Authentication_Results": f"{TRUSTED}; dmarc=pass"}
    await office.mail(
        "alice@one.example", Cc="carl@one.example", Message_ID="<a1@one.example>", **passed
    )
    # the intruder wrote to carl's desk: Message-ID <a1@one.example>, Reply-To: support@, mallory@
    await office.mail(
        "carl@one.example",
        "We received your mail",
        To="support@localhost, mallory@bad.example",
        In_Reply_To="<a1@one.example>",
        Auto_Submitted="auto-generated",
        **passed,
    )
    await office.mail("alice@one.example", In_Reply_To="<a1@one.example>", **passed)
    await office.reply(1)
    await office.run()
    assert office.received("alice@one.example")
    assert office.received("mallory@bad.example") == []


async def own_machine_mail(office: Office) -> None:
    """Receive an auto-reply of the intruder that answers nothing (E27)."""
    await office.mail(
        MALLORY, Message_ID="<mo@mail.example>", Auto_Submitted="auto-replied",
        Authentication_Results=f"{TRUSTED}; dmarc=pass",
    )  # fmt: skip


@pytest.mark.parametrize("worked", [False, True])
async def test_an_own_auto_reply_opens_no_door(office: Office, worked: bool) -> None:
    """Who names a foreign id and an auto-reply of their own is a stranger on the foreign thread."""
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)))
    if worked:
        await scene.answer_all()
    await own_machine_mail(office)
    await scene.post(Post(MALLORY, "m1", ("a1", "mo"), verdict="none"))
    await scene.answer_all()
    await scene.post(Post(ALICE, "a2", ("a1",), (CARL,)))
    await scene.answer_all()
    assert leaks(scene) == []
    told = [each for each in office.sink.taken if ALICE in f"{each.mail['To']} {each.mail['Cc']}"]
    assert MALLORY not in {address for each in told for address in each.to}


async def test_an_own_auto_reply_joins_no_two_customers(office: Office) -> None:
    """Nor does it merge the tickets of two customers."""
    scene = Scene(office)
    await scene.post(Post(ALICE, "a1", cc=(CARL,)), Post(DAVE, "d1"))
    await own_machine_mail(office)
    await scene.post(Post(MALLORY, "m1", ("a1", "d1", "mo")))
    await scene.answer_all()
    for number in (1, 2):
        assert (await office.world.ticket(number))["merged_into"] is None
    assert leaks(scene) == []


async def test_an_auto_reply_does_not_use_up_the_id_of_a_customer(office: Office) -> None:
    """A responder's mail under an awaited id does not part the customer's mails."""
    scene = Scene(office)
    await scene.post(Post(DAVE, "d2", ("d1",)), Post(MALLORY, "d1", automatic=True))
    await scene.post(Post(DAVE, "d1"))
    ticket = await office.world.ticket(1)
    assert len(await office.world.tickets()) == 1
    assert (ticket["requester"]["address"], ticket["subject"]) == (
        DAVE,
        f"about {scene.words['d1'][1]}",
    )
