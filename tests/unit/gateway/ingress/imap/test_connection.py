"""Tests of sessions with misbehaving servers: every call ends in time, memory is bounded."""

from __future__ import annotations

import asyncio
import ssl
import tracemalloc

import pytest

from gateway.ingress.imap.commands import MAX_UNORDERED, ImapSession
from gateway.ingress.imap.connect import ImapServer
from gateway.ingress.imap.connection import (
    CommandRefused,
    ConnectionLost,
    ImapError,
    ImapTimeout,
    LoginRefused,
    ProtocolError,
    Timeouts,
)
from tests.servers.dovecot import PASSWORD, dovecot, letter, letters
from tests.servers.proxy import Fault, proxy
from tests.servers.smallimap import small_imap

USER = "desk@example.org"
SHORT = Timeouts(
    connect=2, silence=0.3, command=1.0, goodbye=0.3
)  # for tests that wait for a deadline
PATIENT = Timeouts()  # for all others: a slow machine must not look like a silent server
# seconds; a call that ends within them has not waited for a deadline of PATIENT
AT_ONCE = 20


@pytest.fixture
def server():
    """Return the small server."""
    with small_imap() as made:
        yield made


async def opened(server, timeouts=PATIENT, *, folder=True):
    """Return a session with its inbox open and these timeouts from then on."""
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port), PATIENT)
    await session.login(USER, PASSWORD)
    if folder:
        await session.select("INBOX", read_only=False)
    session.connection._timeouts = timeouts
    return session


async def refusal(error, call):
    """Return the error of ``call``, which must come at once and close the connection."""
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(error) as told:
            await call
    return told.value.message


GREETINGS = {
    b"* BYE too busy\r\n": (ConnectionLost, "too busy"),
    b"HTTP/1.1 400 Bad Request\r\n": (ProtocolError, "not an IMAP server"),
    b"* OK\r\n": (None, ""),
    b"* PREAUTH you are known\r\n": (None, ""),
    b"": (ImapTimeout, "sent no greeting"),
    b"x" * (5 << 20): (ProtocolError, "line of more than"),
}


@pytest.mark.parametrize("greeting", GREETINGS, ids=lambda greeting: greeting[:20].decode())
async def test_greetings(server, greeting):
    """A greeting that refuses, is invalid or never comes has its own error."""
    server.greeting = greeting
    error, words = GREETINGS[greeting]
    opening = ImapSession.open(
        ImapServer("127.0.0.1", server.port),
        SHORT if error is ImapTimeout else Timeouts(connect=2 * AT_ONCE),
    )
    if error is None:
        session = await opening
        assert session.authenticated == (b"PREAUTH" in greeting)
        await session.close()
    else:
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(error, match=words):
                await opening


async def test_a_port_where_nobody_listens(free_port):
    """A refused connection is reported with host, port and reason."""
    with pytest.raises(
        ConnectionLost, match=f"port {free_port} cannot be reached: connection refused"
    ):
        await ImapSession.open(ImapServer("127.0.0.1", free_port))


COMMANDS = {
    rb"UID SEARCH": lambda session: session.uids(1),
    rb"UID FETCH": lambda session: session.fetch([1], "BODY.PEEK[]"),
    rb"UID STORE": lambda session: session.flag([1], "\\Seen"),
    rb"UID MOVE": lambda session: session.move([1], "Done"),
    rb"UID EXPUNGE": lambda session: session.expunge([1]),
    rb"NOOP": lambda session: session.noop(),
    rb"IDLE": lambda session: session.idle(30, asyncio.Event()),
    rb"LIST": lambda session: session.folders(),
}
FAULTS = {
    "goodbye": ((b"* BYE maintenance\r\n",), ConnectionLost, "closed the connection: maintenance"),
    "goodbye and close": (
        (b"* BYE maintenance\r\n", "close"),
        ConnectionLost,
        "closed the connection: maintenance",
    ),
    "close": (("close",), ConnectionLost, "lost"),
    "half a line": ((b"* 1 FET", "close"), ConnectionLost, "lost"),
    "half a literal": ((b"* 1 FETCH (UID 1 BODY[] {100}\r\nabc", "close"), ConnectionLost, "lost"),
    "silence": (("silence",), ImapTimeout, "silent"),
    "wrong tag": ((b"ZZ99 OK done\r\n",), ProtocolError, "not sent"),
    "endless line": ((b"* OK " + b"x" * (5 << 20),), ProtocolError, "line of more"),
    "a literal of 4 GiB": (
        (b"* 1 FETCH (UID 1 BODY[] {4294967296}\r\n",),
        ProtocolError,
        "4294967296",
    ),
    "nonsense": ((b"\xff\xfe\x00 what\r\n",), ProtocolError, "not sent"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS, ids=bytes.decode)
async def test_no_fault_leaves_a_call_hanging(server, command, fault):
    """After any fault the command, and every later one, ends within its time limit."""
    steps, error, words = FAULTS[fault]
    server.put(letter("a"))
    session = await opened(server, SHORT if error is ImapTimeout else PATIENT)
    session.new_mail.clear()
    server.on(command, *steps)
    assert words in await refusal(error, COMMANDS[command](session))
    assert words in await refusal(error, session.noop())
    await session.close()


async def test_goodbye_while_idling_ends_the_wait(server):
    """A BYE after the server agreed to IDLE ends the wait as a lost connection."""
    session = await opened(server)
    server.on(rb"IDLE", b"+ idling\r\n", b"* BYE shutting down\r\n")
    assert "shutting down" in await refusal(ConnectionLost, session.idle(600, asyncio.Event()))


async def test_a_server_that_ignores_the_end_of_idle_is_given_up(server):
    """DONE without an answer ends at its deadline."""
    session = await opened(server, SHORT)
    server.on(rb"IDLE", b"+ idling\r\n", "silence")
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(ImapTimeout):
            await session.idle(0.05, asyncio.Event())


@pytest.mark.parametrize("answer", [b"%t NO not now\r\n", b"%t BAD unknown\r\n"])
async def test_a_refused_idle_is_reported(server, answer):
    """A server that announces IDLE and refuses it leaves the connection usable."""
    session = await opened(server)
    server.on(rb"IDLE", answer)
    with pytest.raises(CommandRefused):
        await session.idle(30, asyncio.Event())
    await session.noop()
    await session.close()


async def test_slow_bytes_are_waited_for_but_not_for_ever(server):
    """Arriving bytes postpone the silence limit, but not the limit of the command."""
    server.put(letter("a", 4000))
    server.piece = 7
    session = await opened(server)
    assert (await session.fetch([1], "BODY.PEEK[]"))[1].body == letter("a", 4000)
    server.piece = 0
    session.connection._timeouts = SHORT
    drip = [b"* OK still here\r\n", *[b"* OK"] * 3]
    server.on(rb"NOOP", *drip, "silence")
    await refusal(ImapTimeout, session.noop())


@pytest.mark.parametrize(
    "line",
    [
        b"* 7 EXISTS\r\n",
        b"* 1 FETCH (FLAGS ())\r\n",
        b"* OK still here\r\n",
        b"* LIST () NIL x\r\n",
        b"* 1 RECENT\r\n",
    ],
)
@pytest.mark.parametrize("command", [rb"UID SEARCH", rb"UID FETCH", rb"IDLE"], ids=bytes.decode)
async def test_bursts_of_lines_do_no_harm(server, command, line):
    """5,000 extra lines before, within or between answers change no answer."""
    server.put(*letters("ab"))
    session = await opened(server)
    await session.uids(1)
    steps = (b"+ idling\r\n", line * 5000) if command == b"IDLE" else (line * 5000, "go on")
    server.on(command, *steps, *([] if command != b"IDLE" else [b"* 9 EXISTS\r\n%t OK done\r\n"]))
    if command == b"IDLE":
        async with asyncio.timeout(AT_ONCE):
            await session.idle(600, asyncio.Event())
    server.noise = [line * 5000]
    assert await session.uids(1) == [1, 2]
    found = await session.fetch([1, 2], "BODY.PEEK[]")
    assert [found[uid].body for uid in (1, 2)] == letters("ab")
    await session.close()


async def test_answers_in_odd_forms_are_understood(server):
    """Single bytes, quoted bodies, empty literals and unrequested items are understood."""
    raws = [
        b"",
        b"* 1 FETCH (UID 9 BODY[] {3}",
        b'a "quoted" \\ body',
        b"* OK\r\n* BYE\r\nA1 OK done\r\n",
    ]
    server.put(*raws)
    server.piece, server.quotes = 1, True
    session = await opened(server)
    told = await session.fetch([1, 2, 3, 4], "BODY.PEEK[]")
    assert [told[uid].body for uid in (1, 2, 3, 4)] == raws
    server.piece, server.quotes = 0, False
    server.on(
        rb"UID FETCH",
        (
            b"* 1 FETCH (MODSEQ (7) body[] {2}\r\nhi flags (\\Seen) uid 1)\r\n* 2 FETCH (UID 2 "
            b"FLAGS ())\r\n%t OK done\r\n"
        ),
    )
    told = await session.fetch([1, 2], "BODY.PEEK[]")
    assert {uid: each.body for uid, each in told.items()} == {1: b"hi"}
    await session.close()


async def test_unrequested_mail_is_ignored(server):
    """A FETCH of another UID in the middle of an answer is ignored."""
    server.put(letter("a"))
    session = await opened(server)
    server.on(rb"UID FETCH", b"* 5 FETCH (UID 77 BODY[] {1}\r\nx)\r\n", "go on")
    assert set(await session.fetch([1], "BODY.PEEK[]")) == {1}
    await session.close()


async def test_found_mails_are_listed_once_and_ascending(server):
    """However a server lists the mails it found; a long list in no order is refused."""
    session = await opened(server)
    server.on(rb"UID SEARCH", b"* SEARCH 5 3\r\n* SEARCH 3 9 5\r\n* 5 EXISTS\r\n%t OK done\r\n")
    assert await session.uids(2) == [3, 5, 9]
    server.on(rb"UID SEARCH", b"* SEARCH 9 5 3\r\n%t OK done\r\n")
    assert await session.uids(4, 8) == [5]
    many = b" ".join(b"%d" % uid for uid in range(MAX_UNORDERED + 1, 0, -1))
    server.on(rb"UID SEARCH", b"* SEARCH " + many + b"\r\n%t OK done\r\n")
    with pytest.raises(ProtocolError, match="in no order"):
        await session.uids(1)
    session.abort()


async def test_an_endless_answer_is_given_up(server):
    """An answer without end is stopped before it fills the memory."""
    session = await opened(server)
    server.on(rb"NOOP", b"* OK " + b"x" * 100_000 + b"\r\n", "go on", times=0)
    server.noise = [b"* OK " + b"x" * (1 << 20) + b"\r\n"] * 140
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="more than"):
        await session.noop()
    assert (
        tracemalloc.get_traced_memory()[1] < 420 << 20
    )  # the server's memory is in this process too
    tracemalloc.stop()


async def test_a_temporary_login_failure_is_no_refusal(server):
    """Temporary trouble of the server (RFC 5530) is retried soon; a refusal is not."""
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port), PATIENT)
    server.on(rb"AUTHENTICATE", b"%t NO [UNAVAILABLE] Temporary authentication failure\r\n")
    with pytest.raises(CommandRefused):
        await session.login(USER, PASSWORD)
    server.on(rb"AUTHENTICATE", b"%t NO [ALERT] Application-specific password required\r\n")
    with pytest.raises(LoginRefused, match="Application-specific password"):
        await session.login(USER, PASSWORD)
    await session.close()


@pytest.mark.parametrize(
    ("capabilities", "outcome"),
    [
        ("IMAP4rev1 AUTH=PLAIN", b"AUTHENTICATE PLAIN"),
        ("IMAP4rev1 AUTH=PLAIN SASL-IR", b"AUTHENTICATE PLAIN "),
        ("IMAP4rev1", b"LOGIN"),
        ("IMAP4rev1 LOGINDISABLED", None),
    ],
)
async def test_the_login_uses_a_mechanism_of_the_server(server, capabilities, outcome):
    """PLAIN in one step or two, LOGIN, or a clear refusal, as the server offers."""
    server.before = capabilities
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port), PATIENT)
    if outcome is None:
        with pytest.raises(LoginRefused, match="not accept passwords"):
            await session.login(USER, PASSWORD)
    else:
        await session.login(USER, PASSWORD)
        assert any(outcome in line for line in server.heard)
    await session.close()


@pytest.mark.parametrize(
    "before",
    [
        "IMAP4rev1 AUTH=XOAUTH2",
        "IMAP4rev1 AUTH=XOAUTH2 SASL-IR",
        "IMAP4rev1 AUTH=OAUTHBEARER AUTH=XOAUTH2",
    ],
)
async def test_a_refused_token_ends_the_dialog_as_it_should(server, before):
    """RFC 7628, 3.2.3: the server's challenge gets an empty line, then it answers NO."""
    server.before = before
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port), PATIENT)
    with pytest.raises(LoginRefused):
        await session.bearer(USER, "bad")
    assert b"-> " in server.heard
    await session.bearer(USER, server.token)
    await session.close()


async def test_a_server_without_tokens_says_so(server):
    """Without XOAUTH2 and OAUTHBEARER the login is refused before a token is sent."""
    server.before = "IMAP4rev1 AUTH=PLAIN"
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port), PATIENT)
    with pytest.raises(LoginRefused, match="access tokens"):
        await session.bearer(USER, "secret-token")
    assert not any(b"AUTHENTICATE" in line for line in server.heard)
    await session.close()


@pytest.mark.parametrize("secret", ["a\r\nA2 DELETE INBOX", "a\0b", "ключ"])
async def test_a_secret_cannot_smuggle_a_command(server, secret):
    """With LOGIN, a secret that cannot be quoted is refused before it is sent."""
    server.before = "IMAP4rev1"
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port), PATIENT)
    with pytest.raises(LoginRefused, match="ASCII"):
        await session.login(USER, secret)
    assert not any(b"DELETE" in line for line in server.heard)
    await session.close()


@pytest.mark.parametrize(
    "lines", [b"* 0 EXISTS\r\n", b"* OK [UIDVALIDITY 1] x\r\n* OK [UIDNOTSTICKY] no\r\n"]
)
async def test_a_folder_without_lasting_uids_is_refused(server, lines):
    """A folder without UIDVALIDITY or with changing UIDs is refused."""
    session = await opened(server, folder=False)
    server.on(rb"SELECT", lines + b"%t OK done\r\n")
    with pytest.raises(ProtocolError, match="keep the UIDs"):
        await session.select("INBOX", read_only=False)
    await session.close()


async def test_a_silent_server_does_not_delay_the_logout(server):
    """A server that does not answer LOGOUT does not delay the end."""
    session = await opened(server, SHORT)
    server.on(rb"LOGOUT", "silence")
    async with asyncio.timeout(AT_ONCE):
        await session.close()
    with pytest.raises(ImapError):
        await session.noop()


async def test_an_untrusted_certificate_is_refused(server):
    """A certificate is accepted only from a trusted authority and for its name."""
    with dovecot() as real:
        with pytest.raises(ConnectionLost, match=r"certificate of 127\.0\.0\.1 is not trusted"):
            await ImapSession.open(
                ImapServer("127.0.0.1", real.tls_port, ssl.create_default_context()), PATIENT
            )
        trusting = ssl.create_default_context(cafile=str(real.ca))
        session = await ImapSession.open(ImapServer("127.0.0.1", real.tls_port, trusting), PATIENT)
        await session.login(USER, PASSWORD)
        await session.close()
        with pytest.raises(ConnectionLost, match="cannot be reached"):
            await ImapSession.open(ImapServer("127.0.0.1", real.port, trusting), PATIENT)


async def test_a_connection_cut_after_any_byte_is_lost_at_once():
    """A dialog cut after any byte gives an error in time, never a wrong answer."""
    with small_imap() as server, proxy(server.port) as between:
        server.put(letter("a"))

        async def dialog():
            session = await ImapSession.open(ImapServer("127.0.0.1", between.port), PATIENT)
            try:
                await session.login(USER, PASSWORD)
                await session.select("INBOX", read_only=False)
                return (await session.fetch(await session.uids(1), "BODY.PEEK[]"))[1].body
            finally:
                session.abort()

        assert await dialog() == letter("a")
        whole = between.down
        for at in range(1, whole, 3):
            between.faults.append(Fault(at, "down", "reset" if at % 2 else "close"))
            async with asyncio.timeout(AT_ONCE):
                with pytest.raises(ImapError):
                    await dialog()
