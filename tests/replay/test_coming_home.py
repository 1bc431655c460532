"""Tests of undelivered mail: bounces, refusals by the smarthost, notified users (E29, O12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.replay.exchange import ANN, heard, moves
from tests.replay.office import Office, Received, answer, letter

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGENT = "agent@desk.example"
_numbers = iter(range(1, 1_000_000))


def report(
    fields: Sequence[str],
    *,
    about: str | None = None,
    to: str = "support@localhost",
    kind: str = "delivery-status",
) -> bytes:
    """Return a report (RFC 3464, RFC 8098) with groups of fields and the original's headers."""
    groups = "\r\n\r\n".join(
        ("Reporting-MTA: dns; mx.example.net", *fields) if kind == "delivery-status" else fields
    )
    parts = [
        "Content-Type: text/plain\r\n\r\nSee below.\r\n",
        f"Content-Type: message/{kind}\r\n\r\n{groups}\r\n",
    ]
    if about is not None:
        parts.append(
            f"Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: {about}\r\nFrom: "
            "support@localhost\r\n"
        )
    who, subject = (
        "Mail Delivery System <mailer-daemon@mx.example.net>",
        "Undelivered Mail Returned to Sender",
    )
    if kind != "delivery-status":
        who, subject = (ANN, "Read: Printer on fire")
    head = (
        f"From: {who}\r\nTo: {to}\r\nSubject: {subject}\r\n"
        f"Message-ID: <dsn{next(_numbers)}@mx.example.net>\r\nDate: Sun, 22 Nov 2026 11:00:00 "
        "+0000\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type={kind}; boundary="=b"\r\n\r\n'
    )
    return (head + "".join(f"--=b\r\n{part}\r\n" for part in parts) + "--=b--\r\n").encode()


def recipient(
    address: str,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "smtp; 550 5.1.1 no such user",
) -> str:
    """Return the group of fields about one recipient."""
    return (
        f"Final-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: "
        f"{status}\r\nDiagnostic-Code: {diagnostic}"
    )


async def returned(office: Office, raw: bytes, to: str = "support@localhost") -> dict[str, Any]:
    """Receive a report with the null sender."""
    return await office.world.mail(raw, office.world.envelope(to=[to], sender=""))


async def answered(office: Office, **given: Any) -> list[Received]:
    """Let an agent who is told of failures answer ann; return what went out."""
    await office.user(notify={"new": False, "reply": False})
    await office.mail(
        ANN, Message_ID="<first@example.org>", Cc=given.pop("also", "support@localhost")
    )
    await office.reply(1, "Use water.", AGENT, **given)
    await office.run()
    return list(office.sink.taken)


async def states(office: Office) -> dict[str, str]:
    """Return the state of each delivery, without notifications to users."""
    return {
        each["recipient"]: each["state"]
        for each in await office.deliveries()
        if each["template"] != "notification"
    }


async def told(office: Office) -> list[str]:
    """Return the notifications that the agent received."""
    await office.run()
    return [each.text for each in office.received(AGENT)]


@pytest.mark.parametrize(
    "by",
    [
        "recipient",
        "return path",
        "message id",
        "message id and a forwarded address",
        "return path and a forwarded address",
    ],
)
async def test_52_e29_o12_a_bounce_is_tied_to_mail_and_recipient(office: Office, by: str):
    """Scenario 52, E29, O12: the delivery fails, the ticket is flagged, the owner told; no move."""
    [sent] = await answered(office)
    before = await moves(office)
    named = "ann@elsewhere.example" if "forwarded" in by else "ann@example.org"
    fields = (
        [recipient(named)]
        if by not in ("return path", "message id")
        else ["Action: failed\r\nStatus: 5.1.1"]
    )
    about = sent.mail["Message-ID"] if by.startswith("message id") or by == "recipient" else None
    line = await returned(
        office,
        report(fields, about=about),
        sent.sender if by.startswith("return path") else "support@localhost",
    )
    assert (line["outcome"], line["ticket"], line["sender_role"], line["created_ticket"]) == (
        "done",
        1,
        "machine",
        False,
    )
    assert (await states(office), await moves(office)) == ({"ann@example.org": "failed"}, before)
    ticket = await office.world.ticket(1)
    assert (ticket["flags"], [each["kind"] for each in ticket["threads"][0]["messages"]][-1]) == (
        ["delivery_failed"],
        line["kind"],
    )
    [words] = await told(office)
    assert ("Failure" in words, "ann@example.org" in words, "5.1.1" in words) == (True, True, True)


async def test_e29_a_bounce_on_a_closed_ticket_leaves_it_closed(office: Office):
    """E29: a report never reopens a ticket."""
    [sent] = await answered(office, status="Closed")
    line = await returned(
        office, report([recipient("ann@example.org")], about=sent.mail["Message-ID"]), sent.sender
    )
    assert (line["status"], (await office.world.ticket(1))["close_date"]) == (
        {"before": "Closed", "after": "Closed"},
        "2026-11-22",
    )


async def test_e29_one_of_two_recipients(office: Office):
    """E29: only the recipient that the report names has failed."""
    await answered(office, also="carl@example.org")
    sent = office.received("carl@example.org")[0]
    await returned(
        office, report([recipient("CARL@example.org")], about=sent.mail["Message-ID"]), sent.sender
    )
    assert await states(office) == {"ann@example.org": "sent", "carl@example.org": "failed"}


async def test_e29_a_report_about_both_recipients(office: Office):
    """E29: one report about two recipients makes one mail to the owner."""
    sent = (await answered(office, also="carl@example.org"))[0]
    await returned(
        office,
        report(
            [recipient("ann@example.org"), recipient("carl@example.org")],
            about=sent.mail["Message-ID"],
        ),
    )
    assert set((await states(office)).values()) == {"failed"}
    [words] = await told(office)
    assert ("ann@example.org" in words, "carl@example.org" in words) == (True, True)


@pytest.mark.parametrize("together", [True, False])
async def test_e29_two_reports_about_one_recipient_tell_once(office: Office, together: bool):
    """E29: the second report notifies nobody, also if both come in one batch."""
    [sent] = await answered(office)
    both = [report([recipient("ann@example.org")], about=sent.mail["Message-ID"]) for _ in range(2)]
    envelope = office.world.envelope(to=[sent.sender], sender="")
    if together:
        await office.world.batch(both, envelope)
    else:
        for raw in both:
            await office.world.mail(raw, envelope)
    assert len(await told(office)) == 1
    async with office.database.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT count(*) FROM notice")).scalar()
    assert rows == 1


async def test_e29_the_newest_of_several_mails_to_one_recipient(office: Office):
    """E29: a report is about the mail of its return path or that it names, not References."""
    await answered(office)
    await office.reply(1, "And sand.", AGENT)
    await office.reply(1, "And foam.", AGENT)
    await office.run()
    ids = [each.mail["Message-ID"] for each in office.sink.taken]
    carrying = [
        report([recipient("ann@example.org")], about=about).replace(
            b"MIME-Version", f"References: {' '.join(ids)}\r\nMIME-Version".encode(), 1
        )
        for about in (ids[1], None)
    ]
    await returned(office, carrying[0])
    assert [each["state"] for each in await office.deliveries()] == ["sent", "failed", "sent"]
    await returned(office, carrying[1], office.sink.taken[2].sender)
    assert [each["state"] for each in await office.deliveries()] == ["sent", "failed", "failed"]


async def test_o12_no_automatic_mail_until_the_contact_writes_again(office: Office):
    """O12: after a hard bounce only people may write, until the contact writes again."""
    await office.switch_on("Closed")
    await answered(office)
    sent = office.received("ann@example.org")[-1]
    await returned(office, report([recipient("ann@example.org")], about=sent.mail["Message-ID"]))
    await office.world.desk().move([1], "Closed")
    await office.run()
    assert (await office.runs("Closed"), len(office.received("ann@example.org"))) == (
        [("ticket-closed", "SKIPPED_NO_RECIPIENT")],
        1,
    )
    await office.reply(1, "Are you there?", AGENT)
    await office.run()
    assert len(office.received("ann@example.org")) == 2
    second = await office.mail(ANN, "Another matter")
    await office.world.desk().move([second["ticket"]], "Closed")
    await office.run()
    assert len(office.received("ann@example.org")) == 3


async def test_o12_a_full_mailbox_is_no_dead_address(office: Office):
    """O12: status 5.2.2 fails this mail, and automatic mail goes on."""
    await office.switch_on("Closed")
    [sent] = await answered(office)
    await returned(
        office,
        report([recipient("ann@example.org", status="5.2.2", diagnostic="smtp; 552 5.2.2 full")]),
        sent.sender,
    )
    await office.world.desk().move([1], "Closed")
    await office.run()
    assert await office.runs("Closed") == [("ticket-closed", "OK")]


async def test_e29_a_delay_is_a_remark(office: Office):
    """E29: the delivery keeps its state, with no flag or notification; the history shows it."""
    [sent] = await answered(office)
    line = await returned(
        office,
        report(
            [recipient("ann@example.org", "delayed", "4.4.1", "smtp; 451 later")],
            about=sent.mail["Message-ID"],
        ),
    )
    ticket = await office.world.ticket(1)
    assert (line["outcome"], await states(office), ticket["flags"]) == (
        "done",
        {"ann@example.org": "sent"},
        [],
    )
    assert [each["detail"] for each in ticket["events"] if "delayed" in (each["detail"] or "")] == [
        "mail to ann@example.org is delayed: 4.4.1 smtp; 451 later"
    ]
    assert await told(office) == []


async def test_e29_success_and_read_receipts_change_nothing(office: Office):
    """E29: "delivered" and "displayed" are noted on the thread; nothing answers them."""
    [sent] = await answered(office)
    own = sent.mail["Message-ID"]
    receipt = (
        "Final-Recipient: rfc822; ann@example.org\r\nOriginal-Message-ID: "
        f"{own}\r\nDisposition: manual-action/MDN-sent-manually; displayed"
    )
    for raw in (
        report([recipient("ann@example.org", "delivered", "2.0.0", "smtp; 250 ok")], about=own),
        report([receipt], kind="disposition-notification"),
    ):
        line = await returned(office, raw, sent.sender)
        assert (line["outcome"], line["ticket"], line["status"]["after"]) == (
            "done",
            1,
            "Waiting on contact",
        )
    assert (await states(office), (await office.world.ticket(1))["flags"], await told(office)) == (
        {"ann@example.org": "sent"},
        [],
        [],
    )


async def test_e29_a_person_at_the_return_path_is_a_person(office: Office):
    """E29: a person whose program answers the envelope address is treated like any sender."""
    [sent] = await answered(office)
    raw = answer(sent, "Still burning.", office.clock.now(), To=sent.sender)
    line = await office.world.mail(
        raw, office.world.envelope(to=[sent.sender], sender="ann@example.org")
    )
    assert (line["kind"], line["ticket"], line["status"]) == (
        "human",
        1,
        {"before": "Waiting on contact", "after": "Waiting on us"},
    )
    assert await states(office) == {"ann@example.org": "sent"}


async def test_e29_a_forged_return_path_names_nothing(office: Office):
    """E29: a delivery number without our signature is ignored, and the report filtered."""
    [sent] = await answered(office)
    local, _, domain = sent.sender.partition("@")
    line = await returned(
        office, report([recipient("ann@example.org")]), f"{local[:-4]}aaaa@{domain}"
    )
    assert (line["outcome"], line["ticket"], await states(office)) == (
        "ignored",
        None,
        {"ann@example.org": "sent"},
    )


async def test_e26_a_vacation_notice_to_the_return_path(office: Office):
    """E26: a vacation notice to the envelope address is kept on the ticket, nothing else."""
    [sent] = await answered(office)
    raw = letter(
        ANN,
        office.clock.now(),
        "Out of office",
        "I am away.",
        To=sent.sender,
        Auto_Submitted="auto-replied",
    )
    line = await returned(office, raw, sent.sender)
    assert (line["kind"], line["ticket"], line["status"]["after"]) == (
        "auto_reply",
        1,
        "Waiting on contact",
    )
    assert (await states(office), await told(office)) == ({"ann@example.org": "sent"}, [])


async def test_a_refused_recipient_is_told_on_the_ticket(office: Office):
    """reliability.md 26: a 5xx fails one recipient alone; ticket flagged, owner told."""
    office.sink.refuse["carl@example.org"] = "550 5.1.1 no such user"
    await answered(office, also="carl@example.org")
    assert await states(office) == {"ann@example.org": "sent", "carl@example.org": "failed"}
    assert (await office.world.ticket(1))["flags"] == ["delivery_failed"]
    [words] = await told(office)
    assert ("carl@example.org" in words, "550 5.1.1" in words, await office.status(1)) == (
        True,
        True,
        "Waiting on contact",
    )
    assert len(office.received("ann@example.org")) == 1
    await office.later(days=1)
    assert (len(await told(office)), len(office.received("ann@example.org"))) == (1, 1)


async def test_a_deferred_recipient_gets_the_same_mail_later(office: Office):
    """reliability.md 26: after a 4xx the same mail arrives later, once; no failure is shown."""
    office.sink.refuse["carl@example.org"] = "450 4.2.0 greylisted"
    await answered(office, also="carl@example.org")
    assert await states(office) == {"ann@example.org": "sent", "carl@example.org": "deferred"}
    await office.later(seconds=1)
    assert office.received("carl@example.org") == []
    office.sink.refuse.clear()
    await office.later(minutes=5)
    [late], [first] = office.received("carl@example.org"), office.received("ann@example.org")
    assert (late.raw, await states(office)) == (
        first.raw,
        {"ann@example.org": "sent", "carl@example.org": "sent"},
    )
    assert (await told(office), (await office.world.ticket(1))["flags"]) == ([], [])


async def test_a_smarthost_that_never_takes_it_ends_after_five_days(office: Office):
    """reliability.md 26: after five days the delivery has failed and the owner is told once."""
    office.sink.refuse["ann@example.org"] = "450 4.2.0 not now"
    await answered(office)
    for _ in range(12):
        await office.later(hours=12)
    assert (await states(office), len(await told(office))) == ({"ann@example.org": "failed"}, 1)
    assert (await office.world.ticket(1))["flags"] == ["delivery_failed"]


async def test_a_bounce_of_a_notice_to_a_user_makes_no_mail(office: Office):
    """INV7: notifications have the null sender; a report about one causes nothing."""
    [sent] = await answered(office)
    await returned(office, report([recipient("ann@example.org")]), sent.sender)
    await told(office)
    [notice] = office.received(AGENT)
    assert notice.sender == ""
    line = await returned(office, report([recipient(AGENT)], about=notice.mail["Message-ID"]))
    assert (
        line["outcome"] in ("ignored", "done"),
        line["created_ticket"],
        len(await told(office)),
    ) == (True, False, 1)


async def test_o12_an_answer_counts_despite_a_report(office: Office):
    """O12: an answer to a mail that was reported as failed is processed as usual."""
    [sent] = await answered(office)
    await returned(office, report([recipient("ann@example.org")]), sent.sender)
    line = await heard(office)
    assert (line["ticket"], line["status"]["after"]) == (1, "Waiting on us")
