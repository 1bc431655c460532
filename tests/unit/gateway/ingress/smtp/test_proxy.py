"""Tests of PROXY headers: used from listed peers only, for limits, trust and trace."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from gateway.ingress.connection_limits import Limits
from tests.unit.gateway.ingress.conftest import until

V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def version2(command, source="198.51.100.7"):
    """Return a PROXY header of version 2 for TCP over IPv4."""
    addresses = (
        socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 25)
    )
    return V2 + bytes([0x20 | command, 0x11]) + struct.pack("!H", len(addresses)) + addresses


@pytest.fixture
async def desk(open_desk):
    """Return a listener that takes PROXY headers from loopback, which is not exempt here."""
    return await open_desk(
        proxy_from=("127.0.0.0/8",),
        limits=Limits(connections_per_address=2, exempt=("203.0.113.0/24",)),
    )


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n", "198.51.100.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (version2(1), "198.51.100.7"),
        (version2(0), "127.0.0.1"),
    ],
)
async def test_the_client_behind_a_proxy(desk, header, peer):
    """PROXY versions 1 and 2 give the client's address; a health check is the proxy itself."""
    client = await desk.connect()
    await client.send(header)
    await client.hello()
    assert (await client.mail(b"x\r\n")).startswith("250")
    envelope = desk.spool.mails[0].envelope
    assert (envelope.peer, envelope.trusted_hop) == (peer, False)


async def test_limits_and_trust_are_those_of_the_client(desk):
    """Clients behind one proxy have their own limits; exempt ones are trusted."""
    for source in ("198.51.100.7", "198.51.100.8"):
        for _ in range(2):
            client = await desk.connect()
            await client.send(version2(1, source))
            await client.hello()
    client = await desk.connect()
    await client.send(version2(1, "198.51.100.7"))
    assert (await client.reply()).startswith("421 4.7.0")
    client = await desk.connect()
    await client.send(version2(1, "203.0.113.9"))
    assert (await (await client.hello()).mail(b"x\r\n")).startswith("250")
    assert desk.spool.mails[0].envelope.trusted_hop


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.example\r\n",
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 " + b"1" * 400,
        V2 + b"\x99\x11\0\0",
    ],
)
async def test_a_listed_peer_without_a_good_header_is_cut_off(desk, header):
    """A listed peer that sends no valid header is cut off."""
    client = await desk.connect()
    await client.send(header)
    assert await client.reply() == ""


async def test_a_header_from_an_unlisted_peer_is_refused(open_desk):
    """A peer that is not listed cannot set its address."""
    desk = await open_desk(proxy_from=("192.0.2.0/24",))
    client = await desk.connect()
    assert (await client.reply()).startswith("220")
    assert (await client.say("PROXY TCP4 198.51.100.7 192.0.2.1 4711 25")).startswith("500")
    await client.say("EHLO client.example")
    assert (await client.mail(b"x\r\n")).startswith("250")
    assert desk.spool.mails[0].envelope.peer == "127.0.0.1"


async def test_a_silent_proxy_does_not_wait_for_ever(desk):
    """The header must arrive within the time of a handshake."""
    client = await desk.connect()
    await until(lambda: desk.server.sessions)
    desk.server.sweep(asyncio.get_running_loop().time() + 31)
    assert await client.closed()


@pytest.mark.parametrize(
    ("header", "listed"),
    [
        (version2(1, "198.51.100.7"), True),
        (version2(1, "198.51.100.8"), False),
        (b"PROXY TCP6 ::ffff:198.51.100.7 ::1 4711 25\r\n", True),
        (version2(0, "198.51.100.7"), False),
        (b"PROXY UNKNOWN\r\n", False),
    ],
)
async def test_the_client_behind_a_proxy_must_be_listed_itself(open_desk, header, listed):
    """The results of a client behind a listed proxy count only if the client itself is listed."""
    desk = await open_desk(
        proxy_from=("127.0.0.0/8",), results_from=("127.0.0.0/8", "198.51.100.7")
    )
    client = await desk.connect()
    await client.send(header)
    assert (await (await client.hello()).mail(b"x\r\n")).startswith("250")
    assert desk.spool.mails[0].envelope.listed_peer is listed
