"""Tests of two real desks: threads on both sides, end of acknowledgements (reliability.md 22)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.clock import Clock
from gateway.desk.channels import ChannelDesk
from gateway.desk.correspondence import MailDraft
from gateway.desk.transaction import BUILT_IN
from gateway.store.engine import Database, upgrade
from tests.replay.office import Office, sinking
from tests.replay.world import ZONE, World

pytestmark = pytest.mark.asyncio(loop_scope="session")
OURS, THEIRS = "help@desk.example", "buying@client.example"
AUTOMATIC = re.compile(
    rb"^(?:Auto-Submitted|X-Auto-Response-Suppress|X-Ticketgate-Loop):.*\r\n(?:[ \t].*\r\n)*",
    re.MULTILINE | re.IGNORECASE,
)


@asynccontextmanager
async def other_desk(sandbox, clock: Clock, folder: Path) -> AsyncIterator[Office]:
    """Create a second desk with a database, keys and a server of its own."""
    url = f"sqlite:///{folder / 'other.db'}"
    upgrade(url)
    database = await Database.open(url, node="other")
    with sinking() as sink:
        try:
            yield Office(World(database, sandbox, clock, folder), sink)
        finally:
            await database.close()


async def named(office: Office, address: str) -> None:
    """Give the desk this address."""
    channels = ChannelDesk(office.database, office.clock, ZONE, BUILT_IN)
    await channels.add_channel(address)
    await channels.set_channel(address, {"is_default": True})


async def carry(sender: Office, receiver: Office, address: str, *, bare: bool = False) -> int:
    """Carry one desk's mail to the other; return its count. ``bare`` drops automatic marks."""
    before = len(sender.sink.taken)
    await sender.run()
    new = [
        each
        for each in sender.sink.taken[before:]
        if any(to.startswith(address.partition("@")[0]) for to in each.to)
    ]
    for each in new:
        raw = AUTOMATIC.sub(b"", each.raw) if bare else each.raw
        await receiver.world.mail(
            raw, receiver.world.envelope(to=each.to, sender=each.sender, trusted_hop=False)
        )
    return len(new)


async def test_a_conversation_is_one_thread_on_both_sides(
    office: Office, sandbox, clock: Clock, tmp_path: Path
):
    """Six mails with references and reply addresses are one ticket and thread on each side."""
    await named(office, OURS)
    async with other_desk(sandbox, clock, tmp_path) as theirs:
        await named(theirs, THEIRS)
        await theirs.person().send(
            THEIRS, MailDraft("We need a printer.", to=(OURS,), subject="Printer")
        )
        assert await carry(theirs, office, OURS) == 1
        for text in ("Which one?", "This one."):
            await office.reply(1, text)
            assert await carry(office, theirs, THEIRS) == 1
            await theirs.reply(1, f"Answer to {text}")
            assert await carry(theirs, office, OURS) == 1
        for desk, status in ((office, "Waiting on us"), (theirs, "Waiting on contact")):
            [ticket] = await desk.world.tickets()
            shown = await desk.world.ticket(ticket["number"])
            assert [len(thread["messages"]) for thread in shown["threads"]] == [5]
            assert ticket["status"] == status
        assert all(each.mail["References"] for each in (*office.sink.taken, *theirs.sink.taken[1:]))


@pytest.mark.parametrize("bare", [False, True], ids=["marked", "unmarked"])
async def test_two_desks_that_acknowledge_each_other_stop(
    office: Office, sandbox, clock: Clock, tmp_path: Path, bare: bool
):
    """Two desks that acknowledge everything stop after three mails each, marked or not."""
    await named(office, OURS)
    async with other_desk(sandbox, clock, tmp_path) as theirs:
        await named(theirs, THEIRS)
        for desk in (office, theirs):
            await desk.editor().set("Support", "New", {"enabled": True, "re_enroll": True})
            await desk.editor().set("Support", "Closed", {"enabled": True, "re_enroll": True})
        await theirs.person().send(
            THEIRS, MailDraft("We need a printer.", to=(OURS,), subject="Printer")
        )
        for _ in range(20):
            there = await carry(theirs, office, OURS, bare=bare)
            back = await carry(office, theirs, THEIRS, bare=bare)
            if not there and not back:
                break
        else:
            pytest.fail("they never fall silent")
        for desk in (office, theirs):
            automatic = [each for each in await desk.deliveries() if each["automatic"]]
            assert len(automatic) <= 3
