"""Tests of servers that send without end: the loop goes on, and the connection is closed."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager

import pytest

from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connect import ImapServer
from gateway.ingress.imap.connection import LINES_PER_TURN, ImapError, ProtocolError
from tests.servers.dovecot import PASSWORD, letter, letters
from tests.servers.smallimap import Endless, small_imap

pytestmark = pytest.mark.alone  # processor time measured
USER = "desk@example.org"
CALLBACK = 0.050  # seconds of CPU
LINES = {
    "exists": b"* 7 EXISTS\r\n",
    "fetch": b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n",
    "status": b"* OK [UIDNEXT 9] still here\r\n",
    "search": b"* SEARCH 1 2 3\r\n",
    "continuation": b"+ go on\r\n",
    "empty": b"\r\n",
}
LONG = {
    "literals": b"* 1 FETCH (X" + b" {0}\r\n" * 100_000 + b")\r\n",
    "braces": b"* OK " + b"{1" * 1_000_000 + b"\r\n",
    "codes": b"* OK " + b"[a " * 1_000_000 + b"\r\n",
    "lists": b"* 1 FETCH (" + b"()" * 1_000_000 + b"\r\n",
    "short lists": (b"* 1 FETCH (" + b"()" * 32_000 + b")\r\n") * 20,
    "string": b'* 1 FETCH (X "' + b"x" * 3_000_000 + b'")\r\n',
    "atom": b"* 1 FETCH (" + b"x" * 3_000_000 + b")\r\n",
    "numbers": b"* SEARCH" + b" 1 999999999" * 300_000 + b"\r\n",
    "capabilities": b"* CAPABILITY" + b" a" * 1_000_000 + b"\r\n",
    "folders": b"* LIST () NIL " + b"&a" * 1_000_000 + b"\r\n",
    "words": b"* 1" + b" a" * 1_000_000 + b"\r\n",
    "refusal": b"%t NO " + b"x" * 3_000_000 + b"\r\n",
    "goodbye": b"* BYE " + b"x" * 3_000_000 + b"\r\n",
}


@pytest.fixture
def server():
    """Return the small server."""
    with small_imap() as made:
        made.put(*letters("ab"))
        yield made


class Passes:
    """Measures each pass of the event loop: processor time of this thread, and lines read."""

    def __init__(self, session: ImapSession) -> None:
        self.protocol = session.connection._protocol
        self.longest = 0.0
        self.most_lines = 0
        self.over = False
        self._lines = self.protocol.output.lines
        self._began = time.thread_time()
        asyncio.get_running_loop().call_soon(self._end)

    def stop(self) -> None:
        """Measure the pass that is under way, and no other."""
        self.over = True
        self._end()

    def _end(self) -> None:
        self.longest = max(self.longest, time.thread_time() - self._began)
        lines = self.protocol.output.lines
        self.most_lines = max(self.most_lines, lines - self._lines)
        self._lines, self._began = lines, time.thread_time()
        if not self.over:
            asyncio.get_running_loop().call_soon(self._end)


@contextmanager
def measured(session):
    """Measure the passes of the loop in the block; then assert that each was short."""
    gc.collect()
    gc.disable()  # its pauses grow with the test process, not with the flood
    passes = Passes(session)
    try:
        yield
    finally:
        passes.stop()
        gc.enable()
    print(f"{passes.longest * 1000:.1f} ms, {passes.most_lines} lines")
    assert passes.most_lines <= 2 * LINES_PER_TURN  # one of the socket, one left from before
    assert passes.longest < CALLBACK


async def opened(server):
    """Return a session with its inbox open."""
    session = await ImapSession.open(ImapServer("127.0.0.1", server.port))
    await session.login(USER, PASSWORD)
    await session.select("INBOX", read_only=False)
    return session


async def idled(session):
    """Idle until an error; announcements of mail end the wait, not the flood."""
    while True:
        session.new_mail.clear()
        await session.idle(600, asyncio.Event())


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
async def test_an_endless_flood_while_idling(server, line):
    """Lines without end while we wait for mail stall nothing, and end the connection."""
    session = await opened(server)
    server.on(rb"IDLE", b"+ idling\r\n", Endless(line))
    with measured(session), pytest.raises(ProtocolError, match="more than 100000 lines"):
        await idled(session)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
async def test_an_endless_flood_between_commands(server, line):
    """The same after SELECT, when nothing was asked; the next command says why it failed."""
    session = await opened(server)
    server.on(rb"SELECT", "answer", Endless(line))
    with measured(session):
        await session.select("INBOX", read_only=False)
        await asyncio.wait_for(asyncio.shield(session.connection._protocol.lost), 60)
        with pytest.raises(ProtocolError, match="more than 100000 lines"):
            await session.noop()


@pytest.mark.parametrize("line", [LINES["fetch"], LINES["empty"]], ids=["fetch", "empty"])
@pytest.mark.parametrize("command", [rb"NOOP", rb"UID FETCH"], ids=bytes.decode)
async def test_an_endless_answer_of_short_lines(server, command, line):
    """The same instead of an answer."""
    session = await opened(server)
    server.on(command, Endless(line))
    with measured(session), pytest.raises(ProtocolError, match="more than 100000 lines"):
        await (session.noop() if command == b"NOOP" else session.fetch([1], "BODY.PEEK[]"))


COMMANDS = {
    rb"CAPABILITY": lambda session: session.connection.refresh_capabilities(),
    rb"SELECT": lambda session: session.select("INBOX", read_only=False),
    rb"LIST": lambda session: session.folders(),
    rb"UID SEARCH": lambda session: session.uids(1),
    rb"UID FETCH": lambda session: session.fetch([1, 2], "BODY.PEEK[]"),
}


@pytest.mark.parametrize("line", LONG.values(), ids=LONG)
async def test_long_lines_stall_nothing(server, line):
    """Lines of megabytes, whatever they are made of, are read and parsed in short steps."""
    for command, call in COMMANDS.items():
        session = await opened(server)
        server.on(command, line, "go on")
        with measured(session):
            try:
                await call(session)
            except ImapError as error:
                assert len(str(error)) < 500  # noqa: PT017 - it may be refused or ignored
        session.abort()


@pytest.mark.parametrize("line", [LINES["fetch"], LINES["search"]], ids=["fetch", "search"])
@pytest.mark.parametrize("command", COMMANDS, ids=bytes.decode)
async def test_many_lines_in_an_answer_stall_nothing(server, command, line):
    """An answer of 90,000 lines is taken, in short steps."""
    session = await opened(server)
    server.on(command, line * 90_000, "go on")
    with measured(session):
        found = await COMMANDS[command](session)
    if command == b"UID FETCH":
        assert [found[uid].body for uid in (1, 2)] == letters("ab")
    await session.close()


async def test_the_count_begins_anew_with_each_command(server):
    """What the server says in answer to one command does not count for the next."""
    session = await opened(server)
    server.on(rb"NOOP", LINES["exists"] * 60_000, "go on", times=2)
    await session.noop()
    await session.noop()
    server.put(letter("c"))
    assert await session.uids(1) == [1, 2, 3]
    await session.close()
