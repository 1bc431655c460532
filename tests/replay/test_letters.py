"""Tests of content and recipients of users' mail, and of agents who write by mail (E18 to E21)."""

from __future__ import annotations

import email
import email.policy
from datetime import timedelta
from typing import Any

import pytest

from gateway.compose.mime import File
from gateway.desk.channels import ChannelDesk
from gateway.desk.correspondence import MailDraft
from gateway.desk.people import PeopleDesk
from gateway.desk.transaction import BUILT_IN
from gateway.errors import Invalid
from gateway.store.schema import tables
from tests.replay.exchange import ANN, heard, moves, pipeline
from tests.replay.office import Office, Received, answer, letter
from tests.replay.world import ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGENT = "agent@desk.example"
PASS = {"Authentication-Results": "mx.example.net; dmarc=pass header.from=desk.example"}


def people(mail: Received) -> tuple[list[str], list[str]]:
    """Return (To, Cc) of a mail that arrived."""
    given: Any = mail.mail
    return tuple(
        [each.addr_spec for each in given[name].addresses] if given[name] else []
        for name in ("To", "Cc")
    )  # type: ignore[return-value]


async def test_a_reply_carries_files_html_signature_and_the_last_exchange(office: Office):
    """interfaces.md 2.2: files arrive unchanged; both bodies are signed and quote as text."""
    await office.user(signature="Bob Agent\nExample Desk")
    await office.mail(ANN, text="It burns.\n\n<script>alert(1)</script>")
    data = bytes(range(256)) * 40
    files = (
        File("Störung \u2013 1.bin", "application/octet-stream", data),
        File("note.txt", "text/plain", b"one\ntwo\n"),
    )
    await office.reply(1, "Use **water**.", AGENT, html="<p>Use <b>water</b>.</p>", files=files)
    await office.run()
    [arrived] = office.received("ann@example.org")
    mail = arrived.mail
    assert [
        (each.get_filename(), each.get_payload(decode=True)) for each in mail.iter_attachments()
    ] == [("Störung \u2013 1.bin", data), ("note.txt", b"one\ntwo\n")]
    assert "Use **water**.\n\n-- \nBob Agent\nExample Desk" in arrived.text
    assert (
        "\nOn Sun, 22 Nov 2026 at 11:00, Ann Example wrote:\n> It burns.\n>\n> "
        "<script>alert(1)</script>"
    ) in arrived.text
    html = mail.get_body(("html",)).get_content()
    assert (
        "<b>water</b>" in html,
        "Bob Agent<br>Example Desk" in html.replace("\n", ""),
        "It burns." in html,
        "<script>" in html,
    ) == (True, True, True, False)
    [_, sent] = (await office.world.ticket(1))["threads"][0]["messages"]
    assert ([each["filename"] for each in sent["attachments"]], sent["reply_text"]) == (
        ["Störung \u2013 1.bin", "note.txt"],
        "Use **water**.",
    )
    assert b"\n" not in arrived.raw.replace(b"\r\n", b"")


async def test_the_first_mail_of_a_conversation_is_signed_in_both_bodies(office: Office):
    """O03, O13: nothing is quoted, and both bodies are signed; a blank signature is none."""
    await office.user(signature="Bob & Co")
    mail = MailDraft("Hello.", "<p>Hello.</p>", to=("ann@example.org",), subject="Hello")
    await office.person(AGENT).send("support@localhost", mail)
    await PeopleDesk(office.database, office.clock, ZONE, BUILT_IN).set_user(AGENT, signature=" \n")
    await office.person(AGENT).send("support@localhost", mail)
    await office.run()
    signed, unsigned = (
        [arrived.text, arrived.mail.get_body(("html",)).get_content()]
        for arrived in office.received("ann@example.org")
    )
    assert ["Bob & Co" in signed[0], "Bob &amp; Co" in signed[1]] == [True, True]
    assert ["--" in each for each in unsigned] == [False, False]


async def test_nothing_a_stranger_wrote_breaks_into_a_header(office: Office):
    """reliability.md 25: line ends in a subject or a name cannot start a new header."""
    raw = letter("NAME <ann@example.org>", office.clock.now(), "SUBJECT x", "It burns.")
    raw = raw.replace(b"NAME", b"=?utf-8?q?Ann=E2=80=A8Bcc:_eve=40example.net?=")
    await office.world.mail(
        raw.replace(b"SUBJECT", b"Printer =?utf-8?q?=0D=0ABcc=3A_eve=40example=2Enet?=")
    )
    await office.reply(1)
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert (arrived.to, arrived.mail["Bcc"], arrived.mail.defects) == (
        ("ann@example.org",),
        None,
        [],
    )
    wanted = {
        "From",
        "To",
        "Subject",
        "Message-ID",
        "Date",
        "In-Reply-To",
        "References",
        "Reply-To",
        "MIME-Version",
        "Content-Type",
    }
    assert set(arrived.mail.keys()) - {"Content-Transfer-Encoding"} == wanted


async def test_default_recipients_are_people_of_the_thread_never_strangers(office: Office):
    """To is the newest inbound sender who is no stranger; Cc are the approved participants."""
    await office.mail(ANN, Message_ID="<first@example.org>", Cc="carl@example.org")
    await office.mail(
        "eve@example.net", "Re: Printer on fire", "Me too.", In_Reply_To="<first@example.org>"
    )
    await office.reply(1)
    await office.run()
    assert people(office.received("ann@example.org")[-1]) == (
        ["ann@example.org"],
        ["carl@example.org"],
    )
    await heard(office, "carl@example.org", "I am his chief.", sender="Carl <carl@example.org>")
    await office.reply(1)
    await office.run()
    assert people(office.received("carl@example.org")[-1]) == (
        ["carl@example.org"],
        ["ann@example.org"],
    )
    assert office.received("eve@example.net") == []
    await office.world.desk().person(1, "approve", "eve@example.net")
    await office.reply(1)
    await office.run()
    to, cc = people(office.received("eve@example.net")[-1])
    assert (to, sorted(cc)) == (["carl@example.org"], ["ann@example.org", "eve@example.net"])


async def test_to_replaces_and_cc_adds(office: Office):
    """``--to`` replaces the defaults, ``--cc`` adds; nobody twice, none of ours, never nobody."""
    await office.mail(ANN, Cc="carl@example.org")
    await office.reply(1, cc=("emil@example.org", "ann@example.org", "support@localhost"))
    await office.reply(1, to=("dora@example.org", "Dora <DORA@example.org>"))
    await office.run()
    assert people(office.received("dora@example.org")[0]) == (["dora@example.org"], [])
    assert people(office.received("emil@example.org")[0]) == (
        ["ann@example.org"],
        ["carl@example.org", "emil@example.org"],
    )
    with pytest.raises(Invalid, match="is one of our channels"):
        await office.reply(1, to=("support@localhost",))
    with pytest.raises(Invalid):
        await office.reply(1, to=("no address",))


@pytest.mark.parametrize("to", ["sam@supplier.example", "ann@example.org"])
async def test_o05_a_further_mail_on_the_thread_of_a_forward(office: Office, to: str):
    """O05, S8b: it goes to the forward's recipients, not the customer, and moves nothing."""
    await office.mail(ANN)
    await office.person().forward(1, MailDraft("Can you help?", to=(to,)))
    thread = (await office.world.ticket(1))["threads"][1]["id"]
    await office.reply(1, "It is urgent.", thread=thread)
    await office.run()
    assert [people(each) for each in office.sink.taken] == [([to], [])] * 2
    await heard(office, to, "I can.")
    await office.reply(1, "Thanks, come.", thread=thread)
    await office.run()
    assert ([people(each) for each in office.sink.taken], await moves(office)) == (
        [([to], [])] * 3,
        [],
    )
    assert "> I can." in office.sink.taken[-1].text


async def test_o10_o11_a_mail_for_later_keeps_people_files_and_status(office: Office):
    """O10, O11: choices made at writing apply at sending, except for a cancelled recipient."""
    await office.user(signature="Bob")
    await office.mail(ANN, Cc="carl@example.org")
    given = {
        "files": (File("a.bin", "application/octet-stream", b"\0\1"),),
        "html": "<p>Done.</p>",
        "status": "Closed",
    }
    await office.reply(1, "Done.", AGENT, at=office.clock.now() + timedelta(hours=3), **given)
    ids = {each["recipient"]: each["id"] for each in await office.deliveries()}
    await office.deliveries_desk().cancel([ids["carl@example.org"]])
    await office.mail(
        "Dora <dora@example.org>",
        "Re: Printer on fire",
        "Me too.",
        In_Reply_To=await _first_id(office),
    )
    await office.later(hours=3)
    [arrived] = office.sink.taken
    assert (arrived.to, [each.get_filename() for each in arrived.mail.iter_attachments()]) == (
        ("ann@example.org",),
        ["a.bin"],
    )
    assert "Done.\n\n-- \nBob" in arrived.text
    assert ((await moves(office))[-1], {each["state"] for each in await office.deliveries()}) == (
        ("user", "Waiting on us", "Closed"),
        {"sent", "cancelled"},
    )


async def _first_id(office: Office) -> str:
    return f"<{(await office.world.ticket(1))['threads'][0]['messages'][0]['message_id']}>"


async def test_six_mails_are_one_conversation_on_both_sides(office: Office):
    """Each mail refers to all before it and has one tag; subjects differ by ``Re:`` only."""
    first = await office.mail(ANN, Message_ID="<first@example.org>")
    ids, subjects = ["<first@example.org>"], []
    tag = (await office.world.ticket(1))["tag"]
    for place in range(6):
        await office.reply(1, f"Answer {place}.")
        await office.run()
        arrived = office.received("ann@example.org")[-1]
        assert (arrived.mail["References"].split(), arrived.mail["In-Reply-To"]) == (ids, ids[-1])
        subjects.append(arrived.mail["Subject"])
        own = answer(arrived, f"Question {place}.", office.clock.now())
        line = await office.world.mail(own)
        assert (line["ticket"], line["thread"]) == (1, first["thread"])
        ids += [arrived.mail["Message-ID"], f"<{line['message_id']}>"]
        assert len(set(ids)) == len(ids)
    assert set(subjects) == {f"Re: Printer on fire [{tag}]"}


async def test_a_long_conversation_keeps_its_first_and_newest_references(office: Office):
    """RFC 5322 3.6.4: of more than twenty references the middle ones are dropped."""
    many = " ".join(f"<m{place}@example.org>" for place in range(40))
    await office.mail(
        ANN, Message_ID="<last@example.org>", References=many, In_Reply_To="<m39@example.org>"
    )
    await office.reply(1)
    await office.run()
    given = office.received("ann@example.org")[0].mail["References"].split()
    assert (len(given), given[0], given[-1], given[-2]) == (
        20,
        "<m0@example.org>",
        "<last@example.org>",
        "<m39@example.org>",
    )


async def _notified(office: Office) -> Received:
    """Notify an agent of a new ticket and return the mail they received."""
    await office.user(notify={"new": True})
    await office.mail(ANN)
    await office.run()
    [notice] = office.received(AGENT)
    assert notice.mail["Auto-Submitted"] == "auto-generated"
    return notice


async def test_e19_an_answer_to_a_notice_moves_nothing(office: Office):
    """E19, C7: by default it is logged as the agent's and relayed to nobody."""
    line = await office.world.mail(
        answer(await _notified(office), "Use water.", office.clock.now())
    )
    await office.run()
    assert (
        line["ticket"],
        line["sender_role"],
        await moves(office),
        office.received("ann@example.org"),
    ) == (1, "user", [], [])


async def test_e19_with_relay_it_goes_out_from_the_channel(office: Office):
    """E19 with the option: the new text goes to the requester from the channel, and A applies."""
    await pipeline(office, relay=True)
    line = await office.world.mail(
        answer(await _notified(office), "Use water.", office.clock.now())
    )
    assert line["status"] == {"before": "New", "after": "New"}
    await office.run()
    [arrived] = office.received("ann@example.org")
    assert (
        "Use water." in arrived.text,
        "desk.example" in arrived.mail.as_string().lower().replace("desk.example.net", ""),
    ) == (True, False)
    assert "> It burns." in arrived.text
    assert (arrived.mail["From"].addresses[0].addr_spec, arrived.mail["Auto-Submitted"]) == (
        "support@localhost",
        None,
    )
    assert await moves(office) == [("A", "New", "Waiting on contact")]
    assert (await heard(office))["status"]["after"] == "Waiting on us"


def attached(raw: bytes, files: dict[str, bytes]) -> bytes:
    """Return the mail with these files attached; the file extension decides the type."""
    made = email.message_from_bytes(raw, policy=email.policy.SMTP)
    for name, data in files.items():
        kind, sub = ("application", "pdf") if name.endswith(".pdf") else ("text", "plain")
        made.add_attachment(data, maintype=kind, subtype=sub, filename=name)
    return made.as_bytes()


async def test_e19_attachments_go_along(office: Office):
    """E19 with the option: files go to the requester unchanged, also without any text."""
    await pipeline(office, relay=True)
    notice = await _notified(office)
    for text in ("See the plan.", ""):
        await office.world.mail(
            attached(
                answer(notice, text, office.clock.now()),
                {"plan é.pdf": b"%PDF\0\r\n", "notes.txt": b"use water\n"},
            )
        )
    await office.run()
    arrived = office.received("ann@example.org")
    assert [each.text.startswith("See the plan.") for each in arrived] == [True, False]
    for each in arrived:
        files = {part.get_filename(): part.get_content() for part in each.mail.iter_attachments()}
        assert files == {"plan é.pdf": b"%PDF\0\r\n", "notes.txt": "use water\n"}


async def test_e19_files_that_cannot_be_read_are_no_silent_loss(office: Office):
    """E19: without its files the answer is not sent; the delivery says why, the agent is told."""
    await pipeline(office, relay=True)
    notice = await _notified(office)
    line = await office.world.mail(
        attached(answer(notice, "See the plan.", office.clock.now()), {"plan.pdf": b"%PDF"})
    )
    async with office.database.write() as connection:
        await connection.execute(
            tables.raw_mail.delete().where(tables.raw_mail.c.mail_id == line["mail_id"])
        )
    await office.run()
    assert office.received("ann@example.org") == []
    [delivery] = [
        each for each in await office.deliveries() if each["recipient"] == "ann@example.org"
    ]
    assert (delivery["state"], delivery["last_reply"]) == (
        "failed",
        f"the bytes of mail {line['mail_id']} were erased",
    )
    assert "delivery_failed" in (await office.world.ticket(1))["flags"]


@pytest.mark.parametrize("sender", ["eve@example.net", "ann@example.org", "other@desk.example"])
async def test_e19_the_token_is_for_one_agent_alone(office: Office, sender: str):
    """E19, section 5: nobody else, not even another agent, can use the agent's token."""
    await pipeline(office, relay=True)
    await office.user("other@desk.example", "Ole")
    notice = await _notified(office)
    await office.world.mail(answer(notice, "Send me the money.", office.clock.now(), sender))
    await office.run()
    assert [each for each in office.sink.taken if "money" in each.text] == []
    assert all(rule != "A" for rule, _, _ in await moves(office))


async def test_e19_without_the_token_a_name_is_no_proof(office: Office):
    """E19, section 5: without a token, or with one of another key, a bare From relays nothing."""
    await pipeline(office, relay=True)
    notice = await _notified(office)
    own = (await office.world.ticket(1))["reply_address"]
    changed = str(notice.mail["Reply-To"])
    changed = changed.replace(changed[changed.index("@") - 4 : changed.index("@")], "aaaa")
    for to in (own, changed):
        await office.world.mail(
            answer(notice, "Send me the money.", office.clock.now(), AGENT, To=to)
        )
    failing = answer(
        notice,
        "Send me the money.",
        office.clock.now(),
        Authentication_Results="mx.example.net; dmarc=fail header.from=desk.example",
    )
    assert (await office.world.mail(failing))["outcome"] == "quarantined"
    await office.run()
    assert (office.received("ann@example.org"), await moves(office)) == ([], [])


async def test_e19_an_automatic_answer_is_not_relayed(office: Office):
    """E19, E26: the vacation notice of an agent's mailbox goes to nobody."""
    await pipeline(office, relay=True)
    vacation = answer(
        await _notified(office), "I am away.", office.clock.now(), Auto_Submitted="auto-replied"
    )
    await office.world.mail(vacation)
    await office.run()
    assert (office.received("ann@example.org"), await moves(office)) == ([], [])


async def test_e20_an_agents_own_mail_opens_a_ticket(office: Office):
    """E20: an agent can be a requester and is acknowledged; an address of ours never is."""
    await office.user()
    await office.switch_on("New")
    assert (await office.mail(AGENT))["created_ticket"] is True
    await office.run()
    assert (await office.world.ticket(1))["requester"]["address"] == AGENT
    assert len(office.received(AGENT)) == 1
    await ChannelDesk(office.database, office.clock, ZONE, BUILT_IN).add_channel("sales@localhost")
    await office.world.desk().person(1, "add", "sales@localhost")
    await office.world.desk().set(1, {"requester": "sales@localhost"})
    await office.switch_on("Closed")
    await office.world.desk().move([1], "Closed")
    await office.run()
    assert (office.received("sales@localhost"), await office.runs("Closed")) == (
        [],
        [("ticket-closed", "SKIPPED_NO_RECIPIENT")],
    )


FORWARDED = (
    "Please see below.\n\n---------- Forwarded message ---------\nFrom: {sender}\nDate: Sat, "
    "21 Nov 2026 10:00:00 +0000\nSubject: Toner\nTo: Bob\n\nEmpty.\n"
)


@pytest.mark.parametrize(
    ("sender", "proof", "told"),
    [
        ("Carl <carl@supplier.example>", PASS, "carl@supplier.example"),
        ("Carl", PASS, AGENT),
        ("Carl <carl@supplier.example>", {}, AGENT),
    ],
)
async def test_e21_the_receipt_goes_to_the_original_sender(
    office: Office, sender: str, proof: dict[str, str], told: str
):
    """E21: needs a certain sender and a proven agent; else the forwarder is the requester."""
    await office.user()
    await office.switch_on("New")
    await office.mail(f"Bob <{AGENT}>", "Fwd: Toner", FORWARDED.format(sender=sender), **proof)
    await office.run()
    ticket = await office.world.ticket(1)
    assert (ticket["requester"]["address"], ticket["flags"]) == (
        told,
        [] if told != AGENT else ["needs_attention"],
    )
    assert {each for mail in office.sink.taken for each in mail.to} <= {told}
    assert len(office.received("carl@supplier.example")) == (told != AGENT)


async def test_a_forward_reveals_no_reply_address(office: Office):
    """Our signed address is removed from the text and attachments that a third party gets."""
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    await heard(office, "ann@example.org", "Here.")
    await office.person().forward(1, MailDraft("Please look.", to=("maker@example.net",)))
    await office.run()
    [passed] = office.received("maker@example.net")
    address = (await office.world.ticket(1))["reply_address"]
    inner = next(
        part for part in passed.mail.walk() if part.get_content_type() == "message/rfc822"
    ).as_string()
    assert "Here." in inner
    assert address not in passed.text
    assert address not in inner
