"""Tests of mail that workflows send: text, recipients, caps (behaviour.md 3.3)."""

from __future__ import annotations

import pytest

from tests.replay.office import Office, answer, letter
from tests.replay.workflows import (
    ANN,
    RECEIPT,
    REMINDER,
    by_hand,
    details,
    outcomes,
    states,
    tag,
    template,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_76_a_known_contact_gets_the_receipt_in_full(office: Office):
    """Scenario 76: known contacts get number, subject and first lines; others get generic words."""
    await office.switch_on("New")
    await office.mail(ANN, text="My own words.")
    await office.run()
    await office.reply(1)
    await office.run()
    line = await office.mail(ANN, "Another matter", "The second fire.")
    await office.run()
    generic, _, full = office.received("ann@example.org")
    assert "My own words." not in generic.text
    assert "Another matter" in str(full.mail["Subject"])
    assert f"#{line['ticket']}." in str(full.mail["Subject"])
    assert "The second fire." in full.text
    assert full.mail["Reply-To"] == (await office.world.ticket(2))["reply_address"]
    assert (full.mail["Auto-Submitted"], full.mail["X-Auto-Response-Suppress"]) == (
        "auto-replied",
        "All",
    )


async def test_33_o08_a_workflows_mail_moves_nothing_where_a_users_would(office: Office):
    """Scenario 33, O08: the acknowledgement is no mail of a user, so trigger A does not apply."""
    await office.switch_on("New")
    await by_hand(office)
    await office.run()
    assert [each.mail["Auto-Submitted"] for each in office.received("ann@example.org")] == [
        "auto-replied"
    ]
    assert await office.status(1) == "New"
    assert await office.world.rows("ticket", "first_response_at") == [(None,)]


async def test_77_a_reopened_ticket_is_not_acknowledged_again(office: Office):
    """Scenario 77: reopened to New, the mail is sent again only with re-enrol on."""
    await office.switch_on("New")
    number = await by_hand(office)
    await office.run()
    await office.world.desk().move([number], "Closed")
    await office.world.desk().move([number], "New")
    await office.run()
    assert (len(office.sink.taken), await states(office, "New")) == (1, ["DONE"])
    await office.editor().set("Support", "New", {"re_enroll": True})
    await office.world.desk().move([number], "Closed")
    await office.world.desk().move([number], "New")
    await office.run()
    assert (len(office.sink.taken), await states(office, "New")) == (2, ["DONE", "DONE"])


async def test_79_any_close_tells_the_requester_once(office: Office):
    """Scenario 79: by B, a workflow, in bulk or a user: one mail, and none for a second close."""
    from gateway.desk.pipelines import PipelineDesk
    from gateway.store.setup.pipelines import SWITCHES

    assert "on_customer_reply" in SWITCHES
    await office.switch_on("Closed")
    await office.workflow(
        "Waiting on us", [{"id": "close", "kind": "set_status", "status": "Closed"}]
    )
    people = [f"p{each}@example.org" for each in range(5)]
    for each in people:
        await by_hand(office, "Waiting on contact", requester=each)
    desk = office.world.desk()
    await desk.move([1], "Waiting on us")  # by the workflow of that status
    await desk.move([2, 3], "Closed")  # in bulk
    await desk.move([4], "Closed")  # by a user
    await office.run()
    pipelines = PipelineDesk(office.database, office.clock, office.house.zone, "console")
    await pipelines.set_pipeline("Support", {"on_customer_reply": "Closed"})
    await office.reply(5)
    await office.run()
    asked = office.received(people[4])[-1]
    line = await office.world.mail(answer(asked, "All good now, close it.", office.clock.now()))
    assert line["status"]["after"] == "Closed"
    await office.run()
    told = [
        sum(
            "close" in each.text.lower() and each.mail["Auto-Submitted"] == "auto-replied"
            for each in office.received(who)
        )
        for who in people
    ]
    assert told == [1, 1, 1, 1, 1]
    await desk.move([2], "New")
    await desk.move([2], "Closed")
    await office.run()
    assert len(office.received(people[1])) == 1


async def test_80_an_internal_notification_carries_the_ticket_link(office: Office):
    """Scenario 80: users, the owner and a plain address of the team are told once each."""
    await office.user()
    to = ["team@desk.example", "agent@desk.example", "owner", "support@localhost"]
    await office.workflow(
        "Waiting on us",
        [
            {
                "id": "tell",
                "kind": "notify_internal_email",
                "to": to,
                "subject": "Look",
                "text": "{{ticket.subject}}",
            }
        ],
    )
    await office.mail(ANN)
    await office.world.desk().set(1, {"owner": "agent@desk.example"})
    await office.reply(1)
    await office.run()
    await office.world.mail(
        answer(office.received("ann@example.org")[0], "Still burning.", office.clock.now())
    )
    await office.run()
    told = [each for each in office.sink.taken if "ann@example.org" not in each.to]
    assert sorted(each.to for each in told) == [("agent@desk.example",), ("team@desk.example",)]
    for each in told:
        assert "https://desk.example.net/t/1" in each.text
        assert "Printer on fire" in each.text
        assert each.mail["Auto-Submitted"] == "auto-generated"
    assert await office.runs("Waiting on us") == [("tell", "OK")]


async def test_a_notification_for_nobody_is_skipped(office: Office):
    """3.3: a missing owner and our own addresses are not notified."""
    await office.workflow(
        "New",
        [
            {
                "id": "tell",
                "kind": "notify_internal_email",
                "to": ["owner", "support@localhost"],
                "subject": "x",
                "text": "x",
            }
        ],
    )
    await by_hand(office)
    await office.run()
    assert (await office.runs("New"), office.sink.taken) == ([("tell", "SKIPPED_NO_RECIPIENT")], [])


async def test_81_mail_that_is_not_transactional_needs_consent(office: Office):
    """Scenario 81: without consent it is skipped and logged; the acknowledgement needs none."""
    from gateway.desk.people import PeopleDesk

    await template(office, transactional=False)
    await office.workflow("New", [RECEIPT, REMINDER])
    await by_hand(office)
    await office.run()
    assert await office.runs("New") == [("receipt", "OK"), ("remind", "SKIPPED_NO_CONSENT")]
    people = PeopleDesk(office.database, office.clock, office.house.zone, "console")
    await people.set_contact("ann@example.org", marketing_ok=True)
    await by_hand(office)
    await office.run()
    assert await office.runs("New", 2) == [("receipt", "OK"), ("remind", "OK")]
    assert [
        each.mail["Subject"].endswith("Your request") for each in office.received("ann@example.org")
    ] == [False, False, True]


async def test_the_fourth_receipt_of_an_hour_is_kept_back(office: Office):
    """3.3: three per address and hour; an hour later the next one is sent."""
    await office.switch_on("New")
    for _ in range(4):
        await by_hand(office)
        await office.run()
    assert (await outcomes(office, "New")) == ["OK", "OK", "OK", "SKIPPED_CAP"]
    await office.later(hours=1, minutes=1)
    await by_hand(office)
    await office.run()
    assert (await outcomes(office, "New"))[-1] == "OK"
    assert len(office.received("ann@example.org")) == 4


async def test_receipts_of_one_turn_are_counted_too(office: Office):
    """3.3: five tickets of one address get three receipts; later reminders count them too."""
    await office.workflow(
        "New",
        [
            RECEIPT,
            {**RECEIPT, "template": "Ticket closed", "id": "again"},
            {**RECEIPT, "template": "Ticket closed", "id": "third"},
        ],
    )
    for each in range(5):
        await office.mail(ANN, subject=f"Matter {each}")
    assert [each.ticket for each in await office.agenda.run_due() if each.what == "action"] == [
        number for number in range(1, 6) for _ in range(3)
    ]
    assert [outcome for action, outcome in await office.runs("New") if action == RECEIPT["id"]] == [
        "OK"
    ] * 3 + ["SKIPPED_CAP"] * 2
    assert [outcome for action, outcome in await office.runs("New", 1)] == [
        "OK",
        "OK",
        "SKIPPED_LOOP",
    ]


async def test_ten_receipts_a_day_and_twenty_a_domain_and_hour(office: Office):
    """3.3: the caps per address and day, and per domain and hour; every skipped run says so."""
    await office.switch_on("New")
    for _ in range(4):
        for _ in range(3):
            await by_hand(office)
        await office.later(hours=2)
    assert await outcomes(office, "New") == ["OK"] * 10 + ["SKIPPED_CAP"] * 2
    for each in range(21):
        await by_hand(office, requester=f"p{each}@many.example")
    await office.run()
    assert (await outcomes(office, "New"))[12:] == ["OK"] * 20 + ["SKIPPED_CAP"]


async def test_the_third_automatic_mail_in_a_row_is_kept_back(office: Office):
    """3.3: the loop breaker; a person's mail on the thread resets it."""
    await template(office)
    again = [{**REMINDER, "id": f"r{each}"} for each in range(3)]
    await office.workflow("Waiting on contact", again, re_enroll=True)
    await office.mail(ANN)
    await office.reply(1)
    await office.run()
    assert await outcomes(office, "Waiting on contact") == ["OK", "OK", "SKIPPED_LOOP"]
    await office.world.mail(
        answer(office.received("ann@example.org")[-1], "Stop it.", office.clock.now())
    )
    await office.world.desk().move([1], "Waiting on contact")
    await office.run()
    assert await outcomes(office, "Waiting on contact") == ["OK", "OK", "SKIPPED_LOOP"] * 2


@pytest.mark.parametrize(
    "row",
    ["E25b", "E28", "E42", "E43", "E21", "no-reply", "channel", "blocked", "denied", "bounced"],
)
async def test_who_is_never_written_to(office: Office, row: str):
    """E25b, E28, E42, E43, E21, 3.3 "Never to": the workflow runs, its mail is skipped."""
    from gateway.desk.channels import ChannelDesk
    from gateway.desk.people import PeopleDesk

    channels = ChannelDesk(office.database, office.clock, office.house.zone, "console")
    people = PeopleDesk(office.database, office.clock, office.house.zone, "console")
    await office.workflow("New", [RECEIPT, tag("ran")], exclude_sources=[])
    match row:
        case "E25b":
            await office.mail(
                ANN,
                **{
                    "Authentication-Results": "mx.example.net; dmarc=fail header.from=example.org",
                    "Return-Path": "<ann@example.org>",
                },
            )
        case "E28":
            await office.mail("Monitor <mon@example.org>", Auto_Submitted="auto-generated")
        case "E42":
            await office.mail(ANN, List_Id="<list.example.org>", Precedence="bulk")
        case "E43":
            raw = letter(ANN, office.clock.now(), "x", "Nobody wrote this.")
            await office.world.mail(
                b"\r\n".join(line for line in raw.split(b"\r\n") if not line.startswith(b"From:"))
            )
        case "E21":
            await office.user()
            text = (
                "Please see.\n\n---------- Forwarded message ---------\nFrom: Ann Example "
                "<ann@example.org>\nDate: Sat, 21 Nov 2026 10:00:00 +0000\n"
            )
            # without a verdict for the agent the forwarded sender is not certain
            await office.mail(
                "Bob Agent <agent@desk.example>",
                "Fwd: Help",
                f"{text}Subject: Help\nTo: Bob <agent@desk.example>\n\nHelp!\n",
            )
        case "blocked":
            await by_hand(office, "Closed")
            await people.set_contact("ann@example.org", blocked=True)
            await by_hand(office)
        case "denied":
            await channels.set_channel("support@localhost", {"deny": ("@example.org",)})
            await by_hand(office)
        case "bounced":
            await by_hand(office, "Closed")
            async with office.database.write() as connection:
                from gateway.store.schema import tables

                await connection.execute(
                    tables.contact.update().values(bounced_at=office.clock.now())
                )
            await by_hand(office)
        case _:
            await by_hand(
                office,
                requester={"no-reply": "no-reply@example.org", "channel": "support@localhost"}[row],
            )
    number = 2 if row in ("blocked", "bounced") else 1
    await office.run()
    assert office.sink.taken == []
    assert await office.runs("New", number) == [("receipt", "SKIPPED_NO_RECIPIENT"), ("ran", "OK")]
    assert all(await details(office))


async def test_all_associated_contacts_get_it_once_and_strangers_never(office: Office):
    """3.3: to = associated adds the contacts that a user added to the ticket."""
    await template(office)
    await office.workflow("Waiting on us", [{**REMINDER, "to": "associated"}])
    await by_hand(office)
    await office.world.desk().person(1, "add", "bob@example.org")
    await office.world.desk().move([1], "Waiting on us")
    await office.run()
    assert sorted(each.to for each in office.sink.taken) == [
        ("ann@example.org",),
        ("bob@example.org",),
    ]


async def test_a_ticket_without_requester_is_skipped(office: Office):
    """3.3: without a requester the mail is skipped."""
    await office.workflow("New", [RECEIPT])
    await by_hand(office, requester=None)
    await office.run()
    assert await office.runs("New") == [("receipt", "SKIPPED_NO_RECIPIENT")]


async def test_section_5_a_receipt_after_a_workflows_move_is_short_too(office: Office):
    """Section 5: an unverified stranger's mail is not quoted, also after a workflow's move."""
    await office.workflow("New", [{"id": "on", "kind": "set_status", "status": "Waiting on us"}])
    await office.workflow(
        "Waiting on us", [{"id": "say", "kind": "send_email", "template": "Ticket received"}]
    )
    await office.mail("stranger@example.org", "Words of his")
    await office.run()
    [arrived] = office.received("stranger@example.org")
    assert arrived.mail["Subject"] == "We received your message"
    assert "It burns" not in arrived.text
