"""Tests that automatic mail between machines stops after three (reliability.md 22, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.desk.correspondence import MailDraft
from tests.replay.exchange import moves, pipeline
from tests.replay.office import Office, Received, answer, letter
from tests.replay.test_coming_home import recipient, report

pytestmark = pytest.mark.asyncio(loop_scope="session")
MIRROR = "help@other.example"
ROUNDS = 15
PASS = {"Authentication_Results": "mx.example.net; dmarc=pass header.from=other.example"}
MARKS = {
    "unmarked": {},
    "proven": PASS,
    "auto-replied": {"Auto_Submitted": "auto-replied"},
    "auto-generated": {"Auto_Submitted": "auto-generated", **PASS},
    "bulk": {"Precedence": "bulk", **PASS},
}
Answering = Callable[
    [Office, Received], "tuple[bytes, str] | None"
]  # the mail that comes back, and its envelope sender


def in_a_new_mail(marks: dict[str, str]) -> Answering:
    """Return an acknowledgement that refers to nothing of the mail it answers."""

    def made(office: Office, arrived: Received) -> tuple[bytes, str]:
        return letter(
            MIRROR,
            office.clock.now(),
            "Your request was received",
            "Thank you, we come back to you.",
            **marks,
        ), MIRROR

    return made


def in_the_thread(marks: dict[str, str], *, numbered: bool = False) -> Answering:
    """Return an acknowledgement in the thread, as a person's program would write it."""
    count = iter(range(1, 1000))

    def made(office: Office, arrived: Received) -> tuple[bytes, str]:
        text = "Thank you, we come back to you." + (
            f" Your number is {next(count)}." if numbered else ""
        )
        return answer(arrived, text, office.clock.now(), MIRROR, **marks), MIRROR

    return made


async def play(
    office: Office,
    mirror: Answering,
    *,
    address: str = MIRROR,
    first: bool = True,
    minutes: float = 1,
) -> list[Received]:
    """Let the other side send ``first`` and answer until it is quiet; return what arrived there."""
    if first:
        await office.mail(f"Other Desk <{MIRROR}>", "Order 7")
    done = 0
    for _ in range(ROUNDS):
        await office.later(minutes=minutes)
        arrived = office.received(address)
        if done == len(arrived):
            return arrived
        for each in arrived[done:]:
            back = mirror(office, each)
            if back is not None:
                to = (
                    str(each.mail["Reply-To"] or each.mail["From"])
                    if each.sender == ""
                    else each.sender
                )
                await office.world.mail(
                    back[0], office.world.envelope(to=[to] if back[1] == "" else [], sender=back[1])
                )
        done = len(arrived)
    raise AssertionError(f"still going after {ROUNDS} rounds: {len(arrived)} mails")


async def busy(office: Office) -> None:
    """Set up a desk that sends as much as it can: every status sends mail, every time."""
    await office.switch_on("New")
    await office.switch_on("Closed")
    for status in ("New", "Closed"):
        await office.editor().set("Support", status, {"re_enroll": True})
    say = [{"id": "say", "kind": "send_email", "template": "Ticket received", "to": "requester"}]
    await office.workflow("Waiting on us", say, re_enroll=True)


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize("style", [in_a_new_mail, in_the_thread])
async def test_two_desks_acknowledge_each_other(
    office: Office, style: Callable[[dict[str, str]], Answering], marks: str
):
    """reliability.md 22: at most three mails of ours, marked or not, on one ticket or many."""
    await busy(office)
    arrived = await play(office, style(MARKS[marks]))
    assert 1 <= len(arrived) <= 3
    assert all(
        each.sender == "" and each.mail["Auto-Submitted"] == "auto-replied" for each in arrived
    )
    tickets = await office.world.tickets()
    assert len(tickets) <= 4
    for each in tickets:
        assert len(await moves(office, each["number"])) <= 1
    if marks == "auto-replied":
        assert (len(arrived), len(tickets), await moves(office)) == (1, 1, [])


@pytest.mark.parametrize("style", [in_a_new_mail, in_the_thread])
async def test_a_desk_that_starts_because_we_wrote(
    office: Office, style: Callable[[dict[str, str]], Answering]
):
    """reliability.md 22: the same limit holds if the first mail is an agent's."""
    await busy(office)
    await office.person().send(
        "support@localhost", MailDraft("We order ten.", to=(MIRROR,), subject="Order 7")
    )
    arrived = await play(office, style({}), first=False)
    assert len([each for each in arrived if each.mail["Auto-Submitted"]]) <= 3


async def test_a_slow_desk_is_stopped_by_the_daily_cap(office: Office):
    """behaviour.md 3.3: one answer each half hour passes the hourly cap; ten a day is the limit."""
    await busy(office)
    arrived = await play(office, in_a_new_mail({}), minutes=30)
    assert len(arrived) <= 10


@pytest.mark.parametrize("numbered", [False, True])
async def test_a_workflow_that_moves_back_does_not_keep_a_loop_alive(
    office: Office, numbered: bool
):
    """3.3, loop breaker: B and a workflow move the ticket back and forth; three mails at most."""
    actions = [
        {"id": "thank", "kind": "send_email", "template": "Ticket closed", "to": "requester"},
        {"id": "back", "kind": "set_status", "status": "Waiting on contact"},
    ]
    await office.workflow("Waiting on us", actions, re_enroll=True)
    await office.mail(f"Other Desk <{MIRROR}>", "Order 7", **PASS)
    await office.reply(1)
    arrived = await play(office, in_the_thread(PASS, numbered=numbered), first=False)
    assert len([each for each in arrived if each.mail["Auto-Submitted"]]) <= 3


@pytest.mark.parametrize(
    "marks",
    [{"Auto_Submitted": "auto-replied"}, {"X_Autoreply": "yes"}, {"Precedence": "auto_reply"}],
)
@pytest.mark.parametrize("closed", [False, True])
async def test_a_vacation_responder(office: Office, marks: dict[str, str], closed: bool):
    """E26, C11: the notice is stored, sends and moves nothing, and a closed ticket stays closed."""
    await busy(office)
    await office.mail(f"Other Desk <{MIRROR}>", "Order 7", **PASS)
    await office.reply(1, status="Closed" if closed else None)

    def away(office: Office, arrived: Received) -> tuple[bytes, str]:
        return answer(
            arrived,
            "I am away until Monday.",
            office.clock.now(),
            MIRROR,
            **{"Subject": "Out of office", **marks},
        ), ""

    arrived = await play(office, away, first=False)
    assert len(arrived) == (
        3 if closed else 2
    )  # receipt, the agent's mail, and the note of the close
    assert len(await moves(office)) == 1
    assert len(await office.world.tickets()) == 1


async def test_reports_about_our_mail_are_not_answered(office: Office):
    """reliability.md 22: each mail of ours is answered by a report; we answer none of them."""
    await busy(office)
    await office.user()
    await office.mail(f"Other Desk <{MIRROR}>", "Order 7", **PASS)
    await office.reply(1, actor="agent@desk.example")

    def refused(office: Office, arrived: Received) -> tuple[bytes, str]:
        return report([recipient(MIRROR)], about=arrived.mail["Message-ID"]), ""

    arrived = await play(office, refused, first=False)
    assert (len(arrived), [rule for rule, _, _ in await moves(office)]) == (2, ["A"])
    assert {address for each in office.sink.taken for address in each.to} == {MIRROR}
    await office.world.desk().move([1], "Closed")
    await office.run()
    assert (len(office.sink.taken), (await office.runs("Closed"))[-1][1]) == (
        2,
        "SKIPPED_NO_RECIPIENT",
    )


async def test_our_own_mail_comes_back_as_it_was(office: Office):
    """2.1, step 2: our own mail, redirected or by a list, makes no ticket, answer or move."""
    await busy(office)

    def itself(office: Office, arrived: Received) -> tuple[bytes, str]:
        return (
            b"Received: from a by b; Sun, 22 Nov 2026 11:00:00 +0000\r\n" + arrived.raw,
            arrived.sender,
        )

    arrived = await play(office, itself)
    assert (len(arrived), len(await office.world.tickets()), await moves(office)) == (1, 1, [])


async def test_our_mail_is_recognised_by_its_loop_header(office: Office):
    """2.1, step 2: our loop header is recognised under another Message-ID and another From."""
    await busy(office)

    def renamed(office: Office, arrived: Received) -> tuple[bytes, str]:
        raw = arrived.raw.replace(b"Message-ID: <", b"Message-ID: <x.").replace(
            b"From: Support <support@localhost>", b"From: Lists <lists@other.example>"
        )
        return raw, "lists@other.example"

    arrived = await play(office, renamed)
    assert (len(arrived), len(await office.world.tickets()), await moves(office)) == (1, 1, [])


async def test_an_agents_mailbox_that_answers_our_notices(office: Office):
    """E19, E26: with relay on, automatic answers to notifications are not relayed."""
    await pipeline(office, relay=True)
    agent = "agent@desk.example"
    await office.user(agent, notify={})
    await office.mail(f"Other Desk <{MIRROR}>", "Order 7", **PASS)
    await office.reply(1, actor=agent)
    await office.run()
    await office.world.mail(answer(office.received(MIRROR)[-1], "Thanks.", office.clock.now()))

    def away(office: Office, arrived: Received) -> tuple[bytes, str]:
        return answer(
            arrived, "I am away.", office.clock.now(), agent, Auto_Submitted="auto-replied"
        ), ""

    notices = await play(office, away, address=agent, first=False)
    assert (len(notices), len(office.received(MIRROR))) == (2, 1)  # a new ticket, a reply


async def test_e27_an_automatic_reply_to_nothing(office: Office):
    """E27: it is filtered and never answered."""
    await busy(office)
    line = await office.mail(
        f"Other Desk <{MIRROR}>",
        "Out of office",
        "I am away.",
        Auto_Submitted="auto-replied",
        **PASS,
    )
    await office.run()
    assert (line["outcome"], await office.world.tickets(), office.sink.taken) == ("ignored", [], [])


@pytest.mark.parametrize(
    "marks",
    [
        {"Auto_Submitted": "auto-generated"},
        {"List_Id": "<news.other.example>"},
        {"Precedence": "bulk"},
    ],
)
async def test_e28_a_machines_notice_is_a_ticket_without_mail(
    office: Office, marks: dict[str, str]
):
    """E28, C12, INV7: the ticket is flagged; only a person may write to the machine."""
    await busy(office)
    await office.mail(f"Other Desk <{MIRROR}>", "Disk full", "sda1 is full.", **marks, **PASS)
    await office.world.desk().move([1], "Closed")
    await office.run()
    assert (office.sink.taken, (await office.world.ticket(1))["flags"]) == ([], ["automated"])
    await office.reply(1)
    await office.run()
    assert len(office.received(MIRROR)) == 1


@pytest.mark.parametrize("together", [True, False], ids=["in one go", "one after another"])
async def test_the_hosts_of_one_organisation_share_its_cap(office: Office, together: bool):
    """behaviour.md 3.3: sixty hosts below one domain get 20 answers an hour together."""
    await office.switch_on("New")
    for number in range(60):
        await office.mail(f"Ann <ann@host{number}.shop.example.co.uk>", f"Order {number}")
        if not together:
            await office.run()
    await office.mail("Bob <bob@elsewhere.co.uk>", "Another")
    await office.run()
    answered = [each.to[0].partition("@")[2] for each in office.sink.taken]
    assert len([each for each in answered if each.endswith(".example.co.uk")]) == 20
    assert "elsewhere.co.uk" in answered
