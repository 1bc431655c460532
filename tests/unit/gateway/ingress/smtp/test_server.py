"""Tests of listeners: opening, the end of sessions, and stopping."""

from __future__ import annotations

import asyncio
import os

import pytest

from gateway.ingress.connection_limits import Limits
from gateway.ingress.smtp.protocol import SmtpServer
from gateway.ingress.smtp.server import ListenerSettings
from tests.unit.gateway.ingress.conftest import until


async def test_several_addresses(open_desk):
    """A server listens on all addresses, IPv6 too, and reports the chosen ports."""
    desk = await open_desk(listen=["127.0.0.1:0", "[::1]:0"])
    assert len(desk.server.addresses) == 2
    assert desk.server.addresses[1].startswith("[::1]:")
    for address in desk.server.addresses:
        client = await (await desk.connect(address)).hello()
        assert (await client.mail(b"x\r\n")).startswith("250")
    assert [mail.envelope.peer for mail in desk.spool.mails] == ["127.0.0.1", "::1"]
    assert b"([IPv6:::1])" in (desk.spool.folder / "2.eml").read_bytes()


async def test_an_address_that_is_taken(open_desk):
    """If one address cannot be opened none is, and the error says so."""
    desk = await open_desk()
    other = SmtpServer(["127.0.0.1:0", desk.server.addresses[0]], desk.service)
    with pytest.raises(OSError, match="in use"):
        await other.start()
    assert other.addresses == ()


async def test_stop_lets_a_mail_finish(desk):
    """Stopping refuses new clients, closes idle ones and lets a mail finish."""
    idle, busy = await desk.hello(), await desk.hello()
    await busy.begin()
    stopping = asyncio.create_task(desk.server.stop(10))
    assert (await idle.reply()).startswith("421 4.3.2")
    assert await idle.reply() == ""
    with pytest.raises(ConnectionRefusedError):
        await desk.connect()
    await busy.send(b"x\r\n.\r\n")
    assert (await busy.reply()).startswith("250")
    assert (await busy.say("MAIL FROM:<a@client.example>")).startswith("421 4.3.2")
    busy.close()
    await stopping
    assert desk.spool.stored() == [b"x\r\n"]


async def test_stop_does_not_wait_for_ever(desk):
    """After the grace period senders are cut off, and no partial mail is stored."""
    client = await desk.hello()
    await client.begin()
    await client.send(b"x" * 300_000)
    await desk.server.stop(0.01)
    assert await client.closed()
    assert desk.spool.stored() == []


async def test_stop_waits_for_a_commit(desk):
    """A mail whose end was received is committed and answered before the server stops."""
    client = await desk.hello()
    await client.begin()
    desk.spool.gate.clear()
    desk.spool.entered.clear()
    await client.send(b"x\r\n.\r\nQUIT\r\n")
    await desk.spool.entered.wait()
    stopping = asyncio.create_task(desk.server.stop(10))
    await asyncio.sleep(0)
    assert not stopping.done()
    desk.spool.gate.set()
    assert (await client.reply()).startswith("250")
    await stopping


async def test_ended_sessions_are_forgotten(desk):
    """However a session ends, the server forgets it."""
    for ending in ("QUIT", "reset", "half close"):
        client = await desk.hello()
        if ending == "QUIT":
            await client.say("QUIT")
        elif ending == "reset":
            client.close()
        else:
            client.writer.write_eof()
        await client.closed()
    assert (await (await desk.hello()).say("NOOP")).startswith("250")
    assert desk.server.sessions == 1


def test_the_name_is_never_looked_up(monkeypatch):
    """Without a configured name the machine's is used, without asking the DNS."""
    monkeypatch.setattr("socket.getfqdn", lambda *_: pytest.fail("asked the DNS"))
    service = ListenerSettings(accept=None, directory=None, clock=None, limits=Limits())
    assert service.name


async def test_leftovers_of_a_crash_go_at_the_start(open_desk):
    """Partial mail of dead processes is removed at start, that of living ones is not."""
    desk = await open_desk()
    client = await desk.hello()
    await client.begin()
    await client.send(b"x" * 600_000)
    await until(lambda: list(desk.accept.directory.iterdir()))
    (desk.accept.directory / f"incoming-{os.getpid()}-before-1").touch()
    second = SmtpServer(["127.0.0.1:0"], desk.service)
    await second.start()
    await second.stop(1)
    assert len(list(desk.accept.directory.iterdir())) == 1
    await client.send(b"\r\n.\r\n")
    assert (await client.reply()).startswith("250")
