"""Tests of the limits of a client, and of the replies beyond them (reliability.md 7, 8)."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingress.connection_limits import Admission, Limits, Networks, address_group
from tests.unit.gateway.ingress.conftest import until

STRICT = {"exempt": ()}


def now():
    """Return the time by which sessions are judged."""
    return asyncio.get_running_loop().time()


async def later(desk, seconds, since=None):
    """Check all sessions as of some seconds from now, or since an instant."""
    desk.server.sweep((now() if since is None else since) + seconds)


async def test_recipients_of_a_mail(open_desk):
    """A recipient over the limit gets 452 4.5.3, and the mail goes to the others."""
    desk = await open_desk(limits=Limits(recipients=3))
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    replies = [await client.say(f"RCPT TO:<support+{n}@desk.example>") for n in range(4)]
    assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 3 + ["452 4.5.3"]
    await client.say("DATA")
    assert (await client.say("x\r\n.")).startswith("250")
    assert len(desk.spool.mails[0].envelope.recipients) == 3


async def test_mails_of_a_session(open_desk):
    """After the last allowed mail the next command gets 421, except QUIT."""
    desk = await open_desk(limits=Limits(mails_per_session=2))
    first, second = await desk.hello(), await desk.hello()
    for client in (first, second):
        assert (await client.mail(b"x\r\n")).startswith("250")
        assert (await client.mail(b"x\r\n")).startswith("250")
    assert (await first.say("RSET")).startswith("421 4.7.0")
    assert await first.reply() == ""
    assert (await second.say("QUIT")).startswith("221")


async def test_errors_of_a_session(desk):
    """Each error costs a second, and the tenth ends the session."""
    client = await desk.hello()
    for _ in range(9):
        assert (await client.say("XYZZY")).startswith("500")
    assert (await client.say("XYZZY")).startswith("500")
    assert (await client.reply()).startswith("421 4.7.0")
    assert await client.reply() == ""
    assert desk.pauses == [1.0] * 10


async def test_an_error_is_answered_after_its_delay(open_desk):
    """The reply to an error waits for the pause."""
    over = asyncio.Event()

    async def pause(_seconds):
        await over.wait()

    desk = await open_desk(pause=pause)
    client = await desk.hello()
    await client.send(b"XYZZY\r\n")
    other = await desk.hello()
    assert (await other.say("NOOP")).startswith("250")
    assert client.reader._buffer == b""
    over.set()
    assert (await client.reply()).startswith("500")


async def test_an_ended_session_executes_nothing(open_desk, printed_log):
    """A session that was ended during a pause executes no more commands."""
    over = asyncio.Event()

    async def pause(_seconds):
        await over.wait()

    desk = await open_desk(pause=pause)
    client = await desk.hello()
    session = next(iter(desk.server._registry.sessions))
    before = session._received
    sent = (
        b"XYZZY\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<support@desk.example>\r\nDATA\r\nx\r\n.\r\n"
    )
    await client.send(sent)
    await until(lambda: session._received == before + len(sent))
    await later(desk, 301)
    assert (await client.reply()).startswith("421 4.4.2")
    over.set()
    await until(lambda: desk.server.sessions == 0)
    assert desk.spool.stored() == []
    assert "failed" not in printed_log.getvalue()


async def test_commands_without_a_mail(open_desk):
    """After twenty commands that bring no mail the next one gets 421, except QUIT."""
    desk = await open_desk()
    first, second = await desk.hello(), await desk.hello()  # EHLO is the first command
    for client in (first, second):
        for command in ("NOOP", "RSET", "VRFY x", "MAIL FROM:<a@c.example>", "RSET") * 3:
            assert (await client.say(command))[:2] == "25"
        for _ in range(4):
            assert (await client.say("NOOP")).startswith("250")
    assert (await first.say("NOOP")).startswith("421 4.7.0")
    assert await first.reply() == ""
    assert (await second.say("QUIT")).startswith("221")


async def test_mail_and_its_recipients_are_progress(open_desk):
    """Accepted recipients are not counted, and each accepted mail begins the count anew."""
    desk = await open_desk(limits=Limits(commands_without_mail=3, recipients=4))
    client = await desk.hello()
    for _ in range(5):
        await client.say("MAIL FROM:<a@client.example>")
        for number in range(4):
            reply = await client.say(f"RCPT TO:<support+{number}@desk.example>")
            assert reply.startswith("250"), reply
        assert (await client.say("DATA")).startswith("354")
        assert (await client.say("x\r\n.")).startswith("250")
    await client.begin()
    await client.send(b"bare\nnewline\r\n.\r\n")  # a refused mail is no progress
    assert (await client.reply()).startswith("550")


async def test_a_refused_mail_is_no_progress(open_desk):
    """A session whose mails are refused comes to its end."""
    desk = await open_desk(limits=Limits(commands_without_mail=5, message_bytes=100))
    client = await desk.hello()
    for _ in range(2):
        assert (await client.mail(b"x" * 200 + b"\r\n")).startswith("552")
    assert (await client.say("RSET")).startswith("421 4.7.0")


async def test_a_line_without_end_is_cut_off(desk):
    """A line of 4 KiB is refused and the session goes on; a longer one ends it."""
    client = await desk.hello()
    assert (await client.say("NOOP " + "x" * (4096 - 7))).startswith("500 5.5.2")
    assert (await client.say("NOOP")).startswith("250")
    await client.send(b"NOOP " + b"x" * (4096 - 5))
    assert (await client.reply()).startswith("500 5.5.2")
    assert await client.reply() == ""


async def test_half_a_command_is_no_sign_of_life(desk):
    """The idle time of a client that sends a byte now and then goes on."""
    client, began = await desk.hello(), now()
    session = next(iter(desk.server._registry.sessions))
    session.since -= 200
    before = session._received
    await client.send(b"N")
    await until(lambda: session._received > before and not session._replies)
    await asyncio.sleep(0)
    await later(desk, 99, began)
    assert desk.server.sessions == 1
    await later(desk, 101)
    assert (await client.reply()).startswith("421 4.4.2")


async def test_unknown_recipients_of_a_session(desk):
    """A client that guesses addresses is cut off at the fifth."""
    client = await desk.hello()
    await client.say("MAIL FROM:<a@client.example>")
    for number in range(5):
        assert (await client.say(f"RCPT TO:<guess{number}@desk.example>")).startswith("550 5.1.1")
    assert (await client.reply()).startswith("421 4.7.0")
    assert await client.reply() == ""


async def test_connections_in_all(open_desk):
    """At the limit new clients are refused until a connection ends."""
    desk = await open_desk(limits=Limits(connections=3))
    clients = [await desk.hello() for _ in range(3)]
    refused = await desk.connect()
    assert (await refused.reply()).startswith("421 4.3.2")
    assert await refused.reply() == ""
    await clients[0].say("QUIT")
    assert await clients[0].reply() == ""
    assert (await (await desk.hello()).mail(b"x\r\n")).startswith("250")


async def test_connections_of_an_address(open_desk):
    """Each address that is not exempt has its own limit."""
    desk = await open_desk(limits=Limits(connections_per_address=2, **STRICT))
    clients = [await desk.hello() for _ in range(2)]
    refused = await desk.connect()
    assert (await refused.reply()).startswith("421 4.7.0")
    assert await refused.reply() == ""
    other = await desk.connect(local_addr=("127.0.0.2", 0))
    assert (await other.reply()).startswith("220")
    await clients[0].say("QUIT")
    assert await clients[0].reply() == ""
    assert (await (await desk.hello()).mail(b"x\r\n")).startswith("250")


async def test_connections_of_an_address_in_a_minute(open_desk):
    """Connections one after the other are limited per minute."""
    desk = await open_desk(limits=Limits(connections_per_minute=3, **STRICT))
    for _ in range(3):
        client = await desk.hello()
        await client.say("QUIT")
        assert await client.reply() == ""
    assert (await (await desk.connect()).reply()).startswith("421 4.7.0")


async def test_exempt_peers_have_no_limit_of_their_own(open_desk):
    """The loopback has only the limit for all."""
    desk = await open_desk(limits=Limits(connections_per_address=1, connections_per_minute=1))
    clients = [await desk.hello() for _ in range(5)]
    assert [(await client.say("NOOP"))[:3] for client in clients] == ["250"] * 5


async def test_idle_sessions_end(desk):
    """After 300 s without a command a session ends with 421."""
    began = now()
    client = await desk.hello()
    await later(desk, 299, began)
    assert (await client.say("NOOP")).startswith("250")
    await later(desk, 301)
    assert (await client.reply()).startswith("421 4.4.2")
    assert await client.reply() == ""


async def test_idle_sessions_end_sooner_when_places_are_scarce(open_desk):
    """With nine of ten places taken the idle timeout is 30 s."""
    desk = await open_desk(limits=Limits(connections=10))
    clients = [await desk.hello() for _ in range(8)]
    await later(desk, 31)
    assert (await clients[0].say("NOOP")).startswith("250")
    clients.append(await desk.hello())
    await later(desk, 31)
    assert all([(await client.reply()).startswith("421 4.4.2") for client in clients])


async def test_slow_data_ends(desk):
    """Less than 500 bytes a second over a minute ends the session and drops the mail."""
    began = now()
    client = await desk.hello()
    await client.begin()
    await client.send(b"x" * 20_000)
    await until(lambda: next(iter(desk.server._registry.sessions))._received > 20_000)
    await later(desk, 59, began)
    assert desk.server.sessions == 1
    await later(desk, 61)
    assert (await client.reply()).startswith("421 4.4.2")
    assert await client.reply() == ""
    assert desk.spool.stored() == []


async def test_data_at_the_least_rate_goes_on(desk):
    """500 bytes a second are enough, even beyond 15 minutes."""
    client = await desk.hello()
    await client.begin()
    session = next(iter(desk.server._registry.sessions))
    seconds = 0
    for _ in range(20):
        before = session._received
        await client.send(b"x" * 31_000)
        await until(lambda before=before: session._received == before + 31_000)
        seconds += 61
        await later(desk, seconds)
    await client.send(b"\r\n.\r\n")
    assert (await client.reply()).startswith("250")


async def test_a_session_has_fifteen_minutes(desk):
    """A session ends after 15 minutes, even one that sends commands all the time."""
    client = await desk.hello()
    client_side = next(iter(desk.server._registry.sessions))
    client_side._opened -= 890
    assert (await client.say("NOOP")).startswith("250")
    await later(desk, 5)
    assert (await client.say("NOOP")).startswith("250")
    await later(desk, 20)
    assert (await client.reply()).startswith("421 4.4.2")


async def test_silent_sockets_do_not_keep_a_good_client_out(open_desk):
    """The client longest without a mail is dropped for each new one."""
    desk = await open_desk(limits=Limits(connections=3, evict_seconds=0.0))
    silent = [await desk.connect() for _ in range(3)]
    for client in silent:
        await client.reply()
    for _ in range(10):
        good = await desk.hello()
        assert (await good.mail(b"x\r\n")).startswith("250")
    assert [await client.closed() for client in silent] == [True, True, True]


async def test_a_thousand_idle_sockets(open_desk):
    """With a thousand silent connections mail still comes in."""
    desk = await open_desk(limits=Limits(evict_seconds=0.0))
    for _ in range(1000):
        await desk.connect()
    assert desk.server.sessions <= 200
    assert (await (await desk.hello()).mail(b"x\r\n")).startswith("250")


async def test_a_client_that_reads_no_replies_is_cut_off(open_desk):
    """A client that reads no replies is no longer read from, then cut off."""
    desk = await open_desk(limits=Limits(commands_without_mail=2_000_000))
    client = await desk.hello()
    client.writer.transport.pause_reading()
    session = next(iter(desk.server._registry.sessions))
    client.writer.write(b"NOOP\r\n" * 2_000_000)
    await until(lambda: session._write_paused)
    assert session.transport.get_write_buffer_size() < 1 << 20
    await later(desk, 301)
    await until(lambda: desk.server.sessions == 0)


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.9.9.9", True),
        ("192.0.2.1", False),
        ("", True),
        ("fe80::1%eth0", False),
        ("2001:db8::5", True),
    ],
)
def test_networks(host, inside):
    """IPv4 in IPv6 counts as IPv4, zones are ignored, a Unix socket is local."""
    assert (host in Networks(("127.0.0.0/8", "::1", "2001:db8::/32"), local=True)) is inside


def test_networks_refuse_nonsense():
    """An invalid network is an error at the start."""
    with pytest.raises(ValueError, match="does not appear"):
        Networks(["localhost"])


def test_ipv6_is_counted_by_its_network():
    """An IPv6 client is counted by its /64, an IPv4 client by its address."""
    assert (
        address_group("2001:db8::1")
        == address_group("2001:db8::ffff:2")
        != address_group("2001:db8:0:1::1")
    )
    assert (
        address_group("::ffff:192.0.2.1")
        == address_group("192.0.2.1")
        != address_group("192.0.2.2")
    )


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=200))
def test_admission_never_exceeds_its_limits(steps):
    """Neither open connections nor the rate per minute exceed their limits."""
    limits = Limits(connections_per_address=5, connections_per_minute=10, exempt=())
    admission, now, is_open, entered = Admission(limits, Networks(())), 0.0, 0, []
    for wait, leave in steps:
        now += wait
        if leave and is_open:
            admission.release("192.0.2.1")
            is_open -= 1
        elif admission.admit("192.0.2.1", now):
            is_open += 1
            entered.append(now)
        assert is_open <= 5
        assert sum(1 for moment in entered if now - moment < 60) <= 20
        admission.expire(now)


def test_admission_forgets():
    """Addresses without connections are forgotten."""
    admission = Admission(Limits(exempt=()), Networks(()))
    for number in range(1000):
        admission.admit(f"192.0.2.{number % 250}", 0.0)
        admission.release(f"192.0.2.{number % 250}")
    admission.expire(61.0)
    assert admission._groups == {}
