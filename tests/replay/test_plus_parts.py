"""Tests of channels with a plus part: every way in finds the same channel (behaviour.md 5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytest_asyncio

from gateway.desk.channels import ChannelDesk
from gateway.desk.transaction import BUILT_IN
from gateway.errors import Rejected
from gateway.ingress.smtp.recipients import ChannelDirectory
from tests.replay.world import ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")
SHOP, INFO = "info+shop@second.example", "info@second.example"


def mail(key: str, *more: str, sender: str = "ann@customer.example") -> bytes:
    lines = [f"From: {sender}", f"Message-ID: <{key}@mail.example>", "Subject: Hello", *more]
    return "\r\n".join([*lines, "", f"The text of {key}.", ""]).encode()


@pytest_asyncio.fixture(loop_scope="session", params=["beside", "alone"])
async def shop(world, request):
    """Add the channel with a plus part; in one case its bare address is a channel too."""
    desk = ChannelDesk(world.database, world.clock, ZONE, BUILT_IN)
    for address in (SHOP, INFO) if request.param == "beside" else (SHOP,):
        await desk.add_channel(address)
    return world


async def channel_of(world, line) -> str:
    """Return the channel of a replayed mail."""
    return str((await world.ticket(line["ticket"]))["threads"][0]["channel"])


WAYS = {
    "the envelope": lambda world, to: ((), world.envelope([to], source="smtp")),
    "LMTP": lambda world, to: ((), world.envelope([to], source="lmtp")),
    "To": lambda world, to: ((f"To: {to}",), world.envelope()),
    "Cc": lambda world, to: (("To: x@else.example", f"Cc: {to}"), world.envelope()),
    "Delivered-To": lambda world, to: (
        ("To: x@else.example", f"Delivered-To: {to}"),
        world.envelope(source="imap"),
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_to_a_channel_with_a_plus_part_comes_home(shop, way):
    """The signed reply address is taken at RCPT and leads to its ticket, by every way in."""
    more, envelope = WAYS[way](shop, SHOP)
    first = await shop.mail(mail("1", *more), envelope)
    assert await channel_of(shop, first) == SHOP
    reply = (await shop.ticket(first["ticket"]))["reply_address"]
    assert reply.startswith("info+shop+")
    directory = ChannelDirectory(shop.database)
    assert [await directory.lookup(each) for each in (SHOP, reply, reply.upper())] == ["ours"] * 3
    more, envelope = WAYS[way](shop, reply)
    second = await shop.mail(mail("2", *more), envelope)
    assert (second["ticket"], second["matched_by"]) == (first["ticket"], "reply_address")


async def test_a_mailbox_of_a_channel_with_a_plus_part(shop):
    """The channel of an [[imap]] table may have a plus part."""
    envelope = shop.envelope(source="imap")
    line = await shop.mail(mail("1", "To: x@else.example"), replace(envelope, channel=SHOP))
    assert await channel_of(shop, line) == SHOP


async def test_our_own_address_in_from_is_ours(shop):
    """From is one of our channels, also where that has a plus part and a token: a loop."""
    first = await shop.mail(mail("1", f"To: {SHOP}"))
    reply = (await shop.ticket(first["ticket"]))["reply_address"]
    for key, sender in (("2", SHOP), ("3", reply)):
        assert (await shop.mail(mail(key, sender=sender)))["outcome"] == "ignored"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("*@second.example", "a channel is one address"),
        ("sales-*@second.example", "a channel is one address"),
        ("a+b+c+d+e@second.example", "at most 3 plus parts"),
        ("info+shop@SECOND.example.", "there is a channel info\\+shop@second.example already"),
    ],
)
async def test_addresses_that_cannot_be_a_channel_are_refused(shop, address, why):
    """A catch-all, which no mail of ours could come from, is refused when it is added."""
    desk = ChannelDesk(shop.database, shop.clock, ZONE, BUILT_IN)
    with pytest.raises(Rejected, match=why):
        await desk.add_channel(address)


async def test_a_reply_address_is_no_channel(shop):
    """A reply address of a ticket cannot become a channel: it would take the ticket's answers."""
    desk = ChannelDesk(shop.database, shop.clock, ZONE, BUILT_IN)
    for number, channel in enumerate((SHOP, "support@localhost")):
        first = await shop.mail(mail(str(number), f"To: {channel}"))
        with pytest.raises(Rejected, match="reply address of a ticket"):
            await desk.add_channel((await shop.ticket(first["ticket"]))["reply_address"])
