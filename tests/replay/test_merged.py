"""Tests of mail for merged tickets: which thread it reaches, and what goes out (E36, P10)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.correspondence import MailDraft
from gateway.desk.tickets import NewTicket
from tests.replay.exchange import ANN, heard
from tests.replay.merged import ANNS, BOB, BOBS, WORDS, marked, merged, private, seen, two
from tests.replay.office import Office

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS = [(2, 1), (1, 2)]


async def threads_of(office: Office, number: int) -> dict[int, list[str]]:
    """Return the texts of the mails on each thread of a ticket."""
    shown = await office.world.ticket(number)
    return {
        thread["id"]: [message["reply_text"].strip() for message in thread["messages"]]
        for thread in shown["threads"]
    }


@pytest.mark.parametrize(("gone", "kept"), WAYS)
@pytest.mark.parametrize("token", ["$reply({0})", "$reply({0},{0})", "$tag({0})"])
async def test_e36_mail_for_either_number_reaches_its_own_thread(
    office: Office, gone: int, kept: int, token: str
):
    """E36: a signed address, an old one without thread, and a tag lead to that ticket's thread."""
    await merged(office, gone, kept)
    for number, sender in ((1, ANN), (2, BOB)):
        mark = await marked(office, token.format(number))
        where = {"To": mark} if "@" in mark else {}
        subject = "Hello" if "@" in mark else f"Hello {mark}"
        line = await office.mail(sender, subject, f"More of {number}.", **where)
        assert (line["ticket"], line["thread"]) == (kept, number)
        await office.reply(number, "Thank you.")
        await office.run()
        [answer] = office.sink.taken
        office.sink.taken.clear()
        own, other = (ANNS, BOBS) if number == 1 else (BOBS, ANNS)
        assert seen(answer)[:2] == ([own], [])
        assert f"> More of {number}." in answer.text
        assert private(answer, other)


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_e36_an_address_carries_its_thread(office: Office, gone: int, kept: int):
    """Section 5: an answer that holds nothing but our Reply-To comes back to the same thread."""
    await merged(office, gone, kept)
    for thread, sender in ((1, ANN), (2, BOB)):
        await office.reply(kept, "And now?", thread=thread)
        await office.run()
        [sent] = office.sink.taken
        office.sink.taken.clear()
        line = await office.mail(sender, "New subject", "Better.", To=str(sent.mail["Reply-To"]))
        assert (line["thread"], line["matched_by"]) == (thread, "reply_address")


async def test_e36_mail_for_a_number_that_never_had_mail_joins_nobody(office: Office):
    """E36: an address of a merged-away ticket without mail starts a thread of its own."""
    await office.mail(ANN)
    await office.world.desk().create(NewTicket("By phone", BOBS))
    await office.world.desk().merge(2, 1)
    line = await office.mail(BOB, "Screen", WORDS[BOBS], To=await marked(office, "$reply(2)"))
    assert (line["ticket"], line["created_ticket"], line["thread"]) == (1, False, 2)
    await office.reply(1, "Thank you.")
    await office.run()
    [answer] = office.sink.taken
    assert seen(answer)[:2] == ([BOBS], [])
    assert WORDS[ANNS] not in answer.text


async def test_e36_a_trashed_survivor_keeps_the_conversations_apart(office: Office):
    """E38, E36: replies on two threads of a trashed ticket go on as two conversations."""
    await merged(office)
    await office.world.desk().delete(1)
    mails = [
        await office.mail(sender, "Re", f"Mail {place} of {thread}.", To=address)
        for place in (1, 2)
        for thread, sender in ((1, ANN), (2, BOB))
        for address in [await marked(office, f"$reply(1,{thread})")]
    ]
    assert [each["ticket"] for each in mails] == [3, 4, 3, 4]
    assert [each["thread"] for each in mails] == [3, 4, 3, 4]


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_the_default_answer_follows_the_newest_mail_of_the_circle(
    office: Office, gone: int, kept: int
):
    """Section 5: it goes to whoever wrote last, on that thread, and to nobody of the other one."""
    await merged(office, gone, kept)
    for sender, own, other, subject, parent in (
        (BOB, BOBS, ANNS, "Re: Screen", "<bob1@example.net>"),
        (ANN, ANNS, BOBS, "Re: Printer on fire", "<ann1@example.org>"),
        (BOB, BOBS, ANNS, "Re: Screen", "<bob1@example.net>"),
    ):
        await office.mail(sender, "Again", f"News for {own}.", In_Reply_To=parent)
        await office.reply(kept, "Thank you.")
        await office.run()
        [answer] = office.sink.taken
        office.sink.taken.clear()
        assert seen(answer) == ([own], [], subject)
        assert f"> News for {own}." in answer.text
        assert private(answer, other)


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_a_named_thread_is_answered_whatever_is_newer(office: Office, gone: int, kept: int):
    """interfaces.md 2.2: ``--thread`` names a thread; its people alone get the answer."""
    await merged(office, gone, kept)
    await office.mail(BOB, "Again", "News of Bob.", In_Reply_To="<bob1@example.net>")
    await office.reply(kept, "Thank you.", thread=1)
    await office.mail(ANN, "Again", "News of Ann.", In_Reply_To="<ann1@example.org>")
    await office.reply(kept, "Thank you.", thread=2)
    await office.run()
    first, second = office.sink.taken
    assert seen(first) == ([ANNS], [], "Re: Printer on fire")
    assert seen(second) == ([BOBS], [], "Re: Screen")
    assert f"> {WORDS[ANNS]}" in first.text
    assert "> News of Bob." in second.text
    assert private(first, BOBS)
    assert private(second, ANNS)


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_a_named_recipient_is_answered_on_their_own_thread(
    office: Office, gone: int, kept: int
):
    """Section 5: with ``--to`` alone, the thread is one on which these people take part."""
    await merged(office, gone, kept)
    for own, other in ((ANNS, BOBS), (BOBS, ANNS)):
        await office.reply(kept, "Thank you.", to=(own,))
        await office.run()
        [answer] = office.sink.taken
        office.sink.taken.clear()
        assert seen(answer)[:2] == ([own], [])
        assert f"> {WORDS[own]}" in answer.text
        assert private(answer, other)


async def test_a_stranger_never_chooses_thread_recipients_or_quote(office: Office):
    """Section 5: forty mails of a stranger on one thread change nothing in the default answer."""
    await merged(office)
    await office.mail(BOB, "Again", "News of Bob.", In_Reply_To="<bob1@example.net>")
    for place in range(40):
        await office.mail(
            "eve@evil.example", "Re", f"Pay {place}.", In_Reply_To="<ann1@example.org>", Cc=BOB
        )
        if place % 2:
            await office.mail(
                "eve@evil.example", "Re", f"Now {place}.", In_Reply_To="<bob1@example.net>"
            )
    await office.reply(1, "Thank you.")
    await office.reply(1, "Thank you.", thread=1)
    await office.run()
    bobs, anns = office.sink.taken
    assert (seen(bobs), "> News of Bob." in bobs.text) == (([BOBS], [], "Re: Screen"), True)
    assert (seen(anns), f"> {WORDS[ANNS]}" in anns.text) == (
        ([ANNS], [], "Re: Printer on fire"),
        True,
    )
    assert "Pay" not in bobs.text + anns.text
    assert "Now" not in bobs.text + anns.text


async def test_people_taken_off_a_ticket_get_no_answer(office: Office):
    """Section 5: the newest mail of somebody taken off is neither answered nor quoted."""
    await office.mail(ANN, Message_ID="<ann1@example.org>", Cc=BOB)
    await office.mail(BOB, "Re", "My own words.", In_Reply_To="<ann1@example.org>")
    await office.world.desk().person(1, "remove", BOBS)
    await office.reply(1)
    await office.run()
    [answer] = office.sink.taken
    assert (seen(answer)[:2], "> It burns." in answer.text) == (([ANNS], []), True)
    assert "My own words" not in answer.text


async def test_the_thread_of_a_forward_is_never_the_default(office: Office):
    """E17: what the recipient of a forward wrote last does not lead the answer to them."""
    await office.mail(ANN)
    await office.person().forward(1, MailDraft("Can you help?", to=("sam@supplier.example",)))
    await office.run()
    await heard(office, "sam@supplier.example", "I can.")
    await office.reply(1)
    await office.run()
    assert seen(office.sink.taken[-1])[:2] == ([ANNS], [])
    assert "I can" not in office.sink.taken[-1].text


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_a_forward_of_either_mail_has_its_own_subject(office: Office, gone: int, kept: int):
    """O05: a mail of a merged ticket is forwarded under the subject of its own conversation."""
    await merged(office, gone, kept)
    shown = await office.world.ticket(kept)
    for thread in shown["threads"]:
        message = thread["messages"][0]["id"]
        draft = MailDraft("Please look.", to=("sam@supplier.example",), message=message)
        await office.person().forward(kept, draft)
    await office.run()
    assert [seen(each)[2] for each in office.sink.taken] == ["Fwd: Printer on fire", "Fwd: Screen"]
    assert [
        private(each, other) for each, other in zip(office.sink.taken, (BOBS, ANNS), strict=True)
    ] == [True, True]


async def test_a_forward_passes_on_what_the_ticket_is_about(office: Office):
    """O05, section 5: not a stranger's mail by default; a merged-away number has its original."""
    await merged(office)
    await office.mail("eve@evil.example", "Re", "Pay.", In_Reply_To="<ann1@example.org>")
    await office.person().forward(2, MailDraft("Please look.", to=("sam@supplier.example",)))
    await office.run()
    [sent] = office.sink.taken
    original = [part for part in sent.mail.walk() if part.get_content_type() == "message/rfc822"]
    assert (WORDS[BOBS] in sent.text, len(original), "Pay." in sent.text) == (True, 1, False)
    assert WORDS[BOBS] in original[0].as_string()


@pytest.mark.parametrize(("gone", "kept"), WAYS)
async def test_o11_a_mail_for_later_keeps_its_conversation(office: Office, gone: int, kept: int):
    """O11: written before the merge, it is sent on its own thread to its own people."""
    await two(office)
    office.sink.taken.clear()
    later = office.clock.now() + timedelta(hours=1)
    await office.reply(1, "Later.", at=later)
    await office.reply(2, "Later.", at=later)
    await office.world.desk().merge(gone, kept)
    await office.later(hours=2)
    assert sorted(seen(each) for each in office.sink.taken) == [
        ([ANNS], [], "Re: Printer on fire"),
        ([BOBS], [], "Re: Screen"),
    ]
    for each in office.sink.taken:
        assert private(each, BOBS if each.to == (ANNS,) else ANNS)


async def test_o11_a_first_mail_for_later_quotes_nobody(office: Office):
    """O11: it was to start a thread, and does so although its ticket was merged meanwhile."""
    await office.mail(ANN)
    await office.world.desk().create(NewTicket("By phone", BOBS))
    await office.reply(2, "Later.", at=office.clock.now() + timedelta(hours=1))
    await office.world.desk().merge(2, 1)
    await office.later(hours=2)
    [sent] = office.sink.taken
    assert (sent.to, WORDS[ANNS] in sent.text, sent.mail["References"]) == ((BOBS,), False, None)


async def test_o11_a_mail_for_later_goes_back_with_its_thread(office: Office):
    """O11, P10: written on a merged ticket, it is sent after the merge was undone."""
    await merged(office)
    await office.reply(1, "Later.", thread=2, at=office.clock.now() + timedelta(hours=1))
    await office.world.desk().unmerge(2)
    await office.later(hours=2)
    [sent] = office.sink.taken
    assert (seen(sent), private(sent, ANNS)) == (([BOBS], [], "Re: Screen"), True)
    assert "Later." in (await threads_of(office, 2))[2]
