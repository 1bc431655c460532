"""Tests of automatic and relayed mail, of Reply-To, and of undoing merges (section 5, E19, P10)."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.desk.correspondence import MailDraft
from gateway.store.schema import tables
from gateway.store.tickets.unit_of_work import UnitOfWork
from tests.replay.exchange import ANN, pipeline
from tests.replay.merged import ANNS, BOB, BOBS, WORDS, marked, merged, private, seen, two
from tests.replay.office import Office, answer
from tests.replay.test_merged import WAYS, threads_of
from tests.replay.workflows import template
from tests.replay.world import TRUSTED

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGENT = "agent@desk.example"


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_automatic_mail_goes_out_on_each_customers_own_thread(
    office: Office, gone: int, kept: int
):
    """Section 5: quote, subject, number, references and address are those of their own thread."""
    await two(office)
    await template(office, "{{ticket.quote}} about {{ticket.subject}}, {{ticket.number}}")
    say = {"id": "say", "kind": "send_email", "template": "Reminder", "to": "associated"}
    await office.workflow("Closed", [say])
    await office.world.desk().merge(gone, kept)
    office.sink.taken.clear()
    await office.world.desk().move([kept], "Closed")
    await office.run()
    assert sorted(each.to for each in office.sink.taken) == [(ANNS,), (BOBS,)]
    for mail in office.sink.taken:
        own, other, number = (ANNS, BOBS, 1) if mail.to == (ANNS,) else (BOBS, ANNS, 2)
        assert f"> {WORDS[own]}" in mail.text
        assert mail.text.strip().endswith(f", {number}")
        assert private(mail, other)
        line = await office.mail(own, "Other", "Fine.", To=str(mail.mail["Reply-To"]))
        assert line["thread"] == number


@pytest.mark.parametrize(("gone", "kept"), WAYS)
@pytest.mark.parametrize("writer", [ANNS, BOBS])
async def test_e19_a_relayed_answer_goes_to_whom_the_notice_was_about(
    office: Office, gone: int, kept: int, writer: str
):
    """E19: the answer to a notice about Bob's mail goes to Bob, on Bob's thread."""
    await pipeline(office, relay=True)
    await merged(office, gone, kept)
    await office.user(notify={"reply": True, "new": False, "failure": False})
    await office.world.desk().set(kept, {"owner": AGENT})
    parent = "<ann1@example.org>" if writer == ANNS else "<bob1@example.net>"
    await office.mail(writer, "Again", f"News for {writer}.", In_Reply_To=parent)
    await office.run()
    [notice] = office.received(AGENT)
    office.sink.taken.clear()
    await office.world.mail(answer(notice, "Use water.", office.clock.now()))
    await office.run()
    [sent] = office.sink.taken
    assert (sent.to, "Use water." in sent.text) == ((writer,), True)
    assert f"> News for {writer}." in sent.text
    assert private(sent, BOBS if writer == ANNS else ANNS)


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_e19_a_notice_from_before_the_merge_leads_to_its_own_customer(
    office: Office, gone: int, kept: int
):
    """E19, E36: the relay address of a number leads to that ticket's thread and requester."""
    await pipeline(office, relay=True)
    await office.user(notify={"new": True})
    await two(office)
    notices = office.received(AGENT)
    await office.world.desk().merge(gone, kept)
    for notice, own, other in zip(notices, (ANNS, BOBS), (BOBS, ANNS), strict=True):
        office.sink.taken.clear()
        await office.world.mail(answer(notice, "Use water.", office.clock.now()))
        await office.run()
        [sent] = [each for each in office.sink.taken if each.to != (AGENT,)]
        assert (seen(sent)[:2], private(sent, other)) == (([own], []), True)


async def directed(office: Office, *addresses: str, known: bool = True) -> None:
    """Give the newest mail a Reply-To; ``known`` puts these people into the circle (section 5)."""
    async with office.database.write(ordered=True) as connection:
        table = tables.message
        query = sa.select(table.c.id, table.c.thread_id, table.c.head).order_by(table.c.id.desc())
        row: Any = (await connection.execute(query.limit(1))).one()
        named = [{"name": "", "address": each} for each in addresses]
        changed = sa.update(table).where(table.c.id == row.id)
        await connection.execute(changed.values(head={**row.head, "reply_to": named}))
        unit = await UnitOfWork.open(connection, office.clock.now())
        await unit.load_threads([row.thread_id])
        for each in addresses if known else ():
            await unit.load_contacts([each])
            contact = unit.ensure_contact(each, "")
            unit.set_participant(row.thread_id, contact.id, "participant")
        await unit.flush()


async def test_an_answer_goes_to_reply_to_and_not_to_from(office: Office):
    """Section 5: Reply-To of the newest mail is To, its From is left out, others stay in Cc."""
    await office.mail("form@web.example", Cc="carl@example.org")
    await directed(office, ANNS)
    await office.reply(1)
    await office.run()
    [sent] = office.received(ANNS)
    assert seen(sent)[:2] == ([ANNS], ["carl@example.org"])
    assert (office.received("form@web.example"), "> It burns." in sent.text) == ([], True)


async def test_reply_to_of_an_outsider_is_not_followed(office: Office):
    """Section 5: a Reply-To that names nobody of the circle leads the answer nowhere else."""
    await office.mail(ANN, Cc="carl@example.org", Message_ID="<ann1@example.org>")
    parent = {"In_Reply_To": "<ann1@example.org>"}
    await office.mail("eve@evil.example", "Re", "Pay.", **parent)
    await office.mail(ANN, "Re", "Well?", **parent)
    await directed(office, "eve@evil.example", known=False)
    await office.reply(1)
    await office.run()
    [sent] = office.received(ANNS)
    assert seen(sent)[:2] == ([ANNS], ["carl@example.org"])


async def test_the_first_reply_to_of_the_circle_is_answered(office: Office):
    """Section 5: of several addresses in Reply-To those outside the circle are passed over."""
    await office.mail(ANN, Cc="carl@example.org")
    await directed(office, "support@localhost", "eve@evil.example", "carl@example.org", known=False)
    await office.reply(1)
    await office.run()
    [sent] = office.sink.taken
    assert seen(sent)[:2] == (["carl@example.org"], [])


async def test_p10_undoing_takes_back_the_mail_that_came_since(office: Office):
    """P10: mail for a merged-away number by any address goes back with its own ticket."""
    await merged(office)
    for place, token in enumerate(("$reply(2)", "$reply(1,2)", "$reply(2,2)")):
        await office.mail(BOB, "Hello", f"Bob {place}.", To=await marked(office, token))
    await office.mail(ANN, "Hello", "Ann 0.", To=await marked(office, "$reply(1)"))
    await office.reply(1, "To Bob.", thread=2)
    await office.world.desk().unmerge(2)
    assert (await threads_of(office, 1))[1][-1] == "Ann 0."
    assert (await threads_of(office, 2))[2][-4:] == ["Bob 0.", "Bob 1.", "Bob 2.", "To Bob."]
    line = await office.mail(BOB, "Hello", "Bob 3.", To=await marked(office, "$reply(1,2)"))
    assert (line["ticket"], line["thread"]) == (2, 2)
    await office.run()
    for number, own, other in ((1, ANNS, BOBS), (2, BOBS, ANNS)):
        office.sink.taken.clear()
        await office.reply(number, "Thank you.")
        await office.run()
        sent = office.received(own)[-1]
        assert (seen(sent)[:2], private(sent, other)) == (([own], []), True)
        assert office.received(other) == []


async def joined(office: Office) -> None:
    """Open two tickets, Ann in Cc of the second, which Ann's answer to both joins into one."""
    await office.mail(ANN, "Printer on fire", WORDS[ANNS], Message_ID="<ann1@example.org>")
    await office.mail(BOB, "Screen", WORDS[BOBS], Message_ID="<bob1@example.net>", Cc=ANN)
    both = {"References": "<bob1@example.net> <ann1@example.org>"}
    line = await office.mail(
        ANN,
        "Re: Printer on fire",
        "One matter.",
        Message_ID="<ann2@example.org>",
        In_Reply_To="<ann1@example.org>",
        Cc=BOB,
        Authentication_Results=f"{TRUSTED}; dmarc=pass",
        **both,
    )
    assert line["ticket"] == 1
    assert (await office.world.ticket(2))["merged_into"] == 1


async def test_p10_undoing_a_join_takes_back_the_mail_that_came_since(office: Office):
    """P10: what answers the other conversation, or came to its address, goes back to its people."""
    await joined(office)
    texts = {"<bob2@example.net>": "<bob1@example.net>", "<bob3@example.net>": "<bob2@example.net>"}
    for own, parent in texts.items():
        await office.mail(BOB, "Re: Screen", f"Bob {own}.", Message_ID=own, In_Reply_To=parent)
    await office.reply(1, "To both.")
    await office.mail(BOB, "Hello", "Bob by address.", To=await marked(office, "$reply(2,2)"))
    await office.mail(ANN, "Hello", "Ann 3.", In_Reply_To="<ann2@example.org>")
    await office.run()
    await office.world.desk().unmerge(2)
    assert await threads_of(office, 1) == {1: [WORDS[ANNS], "One matter.", "Ann 3."]}
    assert await threads_of(office, 2) == {
        2: [WORDS[BOBS], *(f"Bob {each}." for each in texts), "To both.", "Bob by address."]
    }
    line = await office.mail(BOB, "Re: Screen", "Bob 4.", In_Reply_To="<bob3@example.net>")
    assert (line["ticket"], line["thread"]) == (2, 2)
    for number, to, cc in ((1, ANNS, [BOBS]), (2, BOBS, [ANNS])):
        office.sink.taken.clear()
        await office.reply(number, "Thank you.")
        await office.run()
        assert {seen(each)[:2] == ([to], cc) for each in office.sink.taken} == {True}
        assert ("> Bob" in office.sink.taken[0].text) == (number == 2)


async def test_e36_a_number_leads_through_joins_and_merges(office: Office):
    """E36: the address of a joined ticket leads to the thread that took its mail over."""
    await office.mail("Dora <dora@example.com>", "Toner", "It is empty.")
    await office.mail(BOB, "Screen", WORDS[BOBS], Message_ID="<bob1@example.net>")
    await office.mail(BOB, "Screen again", "More.", Message_ID="<bob2@example.net>")
    both = {"References": "<bob2@example.net> <bob1@example.net>"}
    await office.mail(BOB, "Re: Screen", "One.", In_Reply_To="<bob1@example.net>", **both)
    assert (await office.world.ticket(3))["merged_into"] == 2
    await office.world.desk().merge(2, 1)
    line = await office.mail(BOB, "Hello", "Two.", To=await marked(office, "$reply(3)"))
    assert (line["ticket"], line["thread"]) == (1, 2)


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_where_nobody_wrote_the_survivors_own_thread_is_answered(
    office: Office, gone: int, kept: int
):
    """Section 5, O13: without mail from outside, the answer goes to the survivor's requester."""
    people = {1: ANNS, 2: BOBS}
    for number, address in people.items():
        mail = MailDraft(WORDS[address], to=(address,), subject=f"Offer {number}")
        await office.person().send("support@localhost", mail)
    await office.run()
    await office.world.desk().merge(gone, kept)
    office.sink.taken.clear()
    await office.reply(kept, "And?")
    await office.reply(kept, "And?", thread=gone)
    await office.run()
    first, second = office.sink.taken
    assert seen(first) == ([people[kept]], [], f"Re: Offer {kept}")
    assert seen(second) == ([people[gone]], [], f"Re: Offer {gone}")
