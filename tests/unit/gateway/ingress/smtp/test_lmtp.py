"""Tests of LMTP: a reply for each recipient, over TCP and Unix sockets."""

from __future__ import annotations

import pytest

from gateway.errors import StoreUnavailable
from gateway.ingress.smtp.lmtp import LmtpServer

MAIL = b"Subject: x\r\n\r\ny\r\n"


@pytest.fixture(params=["tcp", "unix"])
async def desk(open_desk, request, tmp_path):
    """Return an LMTP listener on a port and on a Unix socket."""
    listen = "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/lmtp.sock"
    return await open_desk(server=LmtpServer, listen=[listen])


async def greeted(desk):
    """Return a connection after LHLO."""
    client = await desk.connect()
    assert await client.reply() == "220 mx.desk.example LMTP ticketgate"
    assert (await client.say("LHLO mta.example")).startswith("250-mx.desk.example\r\n")
    return client


async def test_each_recipient_gets_a_reply(desk):
    """After DATA each accepted RCPT gets a reply; the mail is stored once."""
    client = await greeted(desk)
    await client.say("MAIL FROM:<a@client.example>")
    for recipient in (
        "support@desk.example",
        "nobody@desk.example",
        "sales@desk.example",
        "support@desk.example",
    ):
        await client.say(f"RCPT TO:<{recipient}>")
    await client.say("DATA")
    replies = [await client.say(MAIL + b"."), await client.reply(), await client.reply()]
    assert replies == ["250 2.0.0 Queued as 1"] * 3
    assert (await client.say("NOOP")).startswith("250 2.0.0 OK")
    assert desk.spool.stored() == [MAIL]
    envelope = desk.spool.mails[0].envelope
    assert (envelope.recipients, envelope.source, envelope.trusted_hop) == (
        ("support@desk.example", "sales@desk.example"),
        "lmtp",
        True,
    )
    assert b"with LMTP id" in (desk.spool.folder / "1.eml").read_bytes()


async def test_a_failure_is_reported_to_each_recipient(desk):
    """When the mail cannot be stored, each recipient gets a failure."""
    desk.spool.errors.append(StoreUnavailable("away"))
    client = await greeted(desk)
    await client.say("MAIL FROM:<a@client.example>")
    for recipient in ("support@desk.example", "sales@desk.example"):
        await client.say(f"RCPT TO:<{recipient}>")
    await client.say("DATA")
    replies = [await client.say(MAIL + b"."), await client.reply()]
    assert [reply[:9] for reply in replies] == ["451 4.3.0"] * 2
    assert (await client.say("NOOP")).startswith("250 2.0.0 OK")


async def test_no_recipient_no_data(desk):
    """RFC 2033 4.2: without an accepted recipient DATA is 503."""
    client = await greeted(desk)
    await client.say("MAIL FROM:<a@client.example>")
    await client.say("RCPT TO:<nobody@desk.example>")
    assert (await client.say("DATA")).startswith("503")


@pytest.mark.parametrize("command", ["HELO mta.example", "EHLO mta.example"])
async def test_smtp_greetings_are_refused(desk, command):
    """RFC 2033 4.1: HELO and EHLO are refused."""
    client = await desk.connect()
    await client.reply()
    assert (await client.say(command)).startswith("500 5.5.1")
    assert (await client.say("MAIL FROM:<a@client.example>")).startswith("503")


async def test_lhlo_is_not_smtp(open_desk):
    """An SMTP listener refuses LHLO."""
    client = await (await open_desk()).connect()
    await client.reply()
    assert (await client.say("LHLO mta.example")).startswith("500 5.5.1")


async def test_the_socket_file_goes_with_the_listener(open_desk, tmp_path):
    """A socket file left by a crash is replaced; a stopped listener leaves none."""
    path = tmp_path / "lmtp.sock"
    for _ in range(2):
        desk = await open_desk(server=LmtpServer, listen=[f"unix:{path}"])
        assert path.is_socket()
    await desk.server.stop(1)
    assert not path.exists()
