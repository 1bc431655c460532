"""Two customers' tickets merged by an agent, and shared steps of tests about them."""

from __future__ import annotations

from typing import Any

from tests.replay.exchange import ANN
from tests.replay.office import Office, Received

BOB = "Bob Buyer <bob@example.net>"
ANNS, BOBS = "ann@example.org", "bob@example.net"
WORDS = {ANNS: "It burns.", BOBS: "It flickers."}


async def two(office: Office) -> None:
    """Open ticket 1 (Ann, thread 1) and ticket 2 (Bob, thread 2); answer both."""
    await office.mail(ANN, "Printer on fire", WORDS[ANNS], Message_ID="<ann1@example.org>")
    await office.run()
    await office.mail(BOB, "Screen", WORDS[BOBS], Message_ID="<bob1@example.net>")
    for number in (1, 2):
        await office.reply(number, "We look into it.")
    await office.run()


async def merged(office: Office, gone: int = 2, kept: int = 1) -> None:
    """Open both tickets and merge one into the other; forget the mail sent so far."""
    await two(office)
    await office.world.desk().merge(gone, kept)
    office.sink.taken.clear()


async def marked(office: Office, mark: str) -> str:
    """Return a mark such as ``$reply(2)`` as a token of ours."""
    return (await office.world.filled(mark)).decode()


def seen(mail: Received) -> tuple[list[str], list[str], str]:
    """Return To, Cc and subject of a mail that arrived, the subject without its tag."""
    given: Any = mail.mail
    to, cc = (
        [each.addr_spec for each in given[name].addresses] if given[name] else []
        for name in ("To", "Cc")
    )
    return to, sorted(cc), str(given["Subject"]).partition(" [#")[0]


def private(mail: Received, other: str) -> bool:
    """Tell that a mail names neither the other customer nor a word of theirs."""
    shown = " ".join([mail.text, *(str(value) for value in mail.mail.values())])
    foreign = (other, WORDS[other].rstrip("."), {ANNS: "Printer", BOBS: "Screen"}[other])
    return not any(each in shown for each in foreign)
