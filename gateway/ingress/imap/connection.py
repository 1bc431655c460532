"""One connection to an IMAP server, and the only door to aioimaplib: every command under a
deadline, every answer bounded, no state left behind.

aioimaplib 2.0.3 keeps the tags, states and pending commands. It does not read from the socket here
(docs/adr/0009); what is used of it is held by tests/unit/gateway/ingress/imap/test_contract.py.

What can go wrong: the server is silent, goes away, says NO, or says nonsense. Each is an
:class:`ImapError`; after any but :class:`CommandRefused` the connection is closed and nothing more can be
asked on it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

from aioimaplib.aioimaplib import (
    AUTH,
    NONAUTH,
    SELECTED,
    AioImapException,
    Command,
    IMAP4ClientProtocol,
)

from gateway.errors import Misconfigured, Unavailable
from gateway.ingress.imap import grammar
from gateway.ingress.imap.connect import ImapServer, connect, reason
from gateway.ingress.imap.grammar import Parts

ANSWER_LIMIT: Final = 128 << 20  # bytes a server may tell before it ends a command
_OVERHEAD: Final = 200  # bytes of memory that a response takes beside its own


class ImapError(Unavailable):
    """Something that a new connection may mend."""


class ConnectionLost(ImapError):
    """The server cannot be reached, said goodbye, or the connection is gone."""


class Deadline(ImapError):
    """The server did not answer in time."""


class Broken(ImapError):
    """The server sent something that is no IMAP."""


class CommandRefused(ImapError):
    """The server refused a command; the connection goes on. ``code`` is its response code, "" where
    it gave none.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class LoginRefused(Misconfigured, ImapError):
    """The server rejects our credentials; trying again with the same secret is of no use."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take, in seconds: to let us in, without sending a byte, for one command
    in all, and to say goodbye.
    """

    connect: float = 30.0
    silence: float = 60.0
    command: float = 300.0
    goodbye: float = 2.0


@dataclass(slots=True)
class _CommandOutput:
    """What came while a command ran."""

    untagged: list[Parts] = field(default_factory=list)
    size: int = 0
    challenge: list[str] = field(
        default_factory=list
    )  # what is sent at each continuation, the last one first
    literal: bytes = b""  # what is sent at the first one


class _Wire(IMAP4ClientProtocol):  # type: ignore[misc]  # the library brings no types
    """The library's protocol with a reader of ours: see the module."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.lost: asyncio.Future[Any] = loop.create_future()
        self.greeting: asyncio.Future[Any] = loop.create_future()
        self.answer = _CommandOutput()
        self.going = asyncio.Event()  # the server has agreed to IDLE
        self.news = asyncio.Event()
        self.heard_at = loop.time()
        self._framing = grammar.Framing()
        self._exists = 0

    def data_received(self, data: bytes) -> None:
        """Takes what the socket gave."""
        self.heard_at = self.loop.time()
        if self.lost.done():
            return
        try:
            for parts in self._framing.feed(data):
                self._take(parts)
        except grammar.TooLongError as error:
            self.give_up(Broken(f"{error}"))
        except (AioImapException, ValueError):
            self.give_up(Broken("the server answered a command that was not given"))

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket is closed."""
        self.give_up(ConnectionLost("the connection was lost"))

    def give_up(self, error: ImapError) -> None:
        """Ends the connection for the reason given; the first one counts."""
        if not self.lost.done():
            self.lost.set_result(error)
        if self.transport is not None:
            self.transport.abort()

    def send(self, line: str, scrub: str | None = None) -> None:
        """Writes a line; on a connection that is gone, which uvloop would call an error, nothing."""
        if not self.lost.done():
            super().send(line, scrub=scrub)

    def _take(self, parts: Parts) -> None:
        line = parts[0]
        if not self.greeting.done():
            self.greeting.set_result(line)
        elif line.startswith(b"* "):
            self._untagged(parts)
        elif line.startswith(b"+"):
            self._continued()
        else:
            self._response_done(line)

    def _untagged(self, parts: Parts) -> None:
        match parts[0][2:].upper().split(None, 2):
            case [b"BYE", *_]:
                if self.running != "LOGOUT":
                    self.give_up(
                        ConnectionLost(f"the server said goodbye: {grammar.sentence(parts[0][6:])}")
                    )
                return
            case [count, b"EXISTS", *_] if count.isdigit():
                if int(count) > self._exists:
                    self.news.set()
                self._exists = int(count)
            case [count, b"EXPUNGE", *_] if count.isdigit():
                self._exists = max(0, self._exists - 1)
            case _:
                pass
        if self.running not in ("", "IDLE"):
            self.answer.untagged.append(parts)
            self.answer.size += sum(map(len, parts)) + _OVERHEAD
            if self.answer.size > ANSWER_LIMIT:
                self.give_up(Broken(f"the server told more than {ANSWER_LIMIT} bytes at once"))

    @property
    def running(self) -> str:
        """The name of the command that the server has not answered, "" where there is none."""
        pending = self.pending_sync_command or next(
            iter(self.pending_async_commands.values()), None
        )
        return getattr(pending, "name", "")

    def _continued(self) -> None:
        """The server waits for us: for the rest of a login, or it has begun to idle."""
        if self.running == "IDLE":
            self.going.set()
        elif self.running == "AUTHENTICATE":
            self.send(self.answer.challenge.pop() if self.answer.challenge else "")
        elif self.answer.literal and not self.lost.done():
            self.transport.write(self.answer.literal + b"\r\n")
            self.answer.literal = b""


class ImapConnection:
    """A connection that has been greeted. One command at a time; every method raises
    :class:`ImapError`.
    """

    def __init__(self, wire: _Wire, patience: Patience) -> None:
        self._wire = wire
        self._patience = patience
        self.news = (
            wire.news
        )  # set when the server tells of new mail; whoever is about to look for it clears it first
        self.capabilities: frozenset[str] = frozenset()

    @classmethod
    async def open(cls, server: ImapServer, patience: Patience | None = None) -> Self:
        """Connects, reads the greeting and asks what the server can do."""
        patience = patience or Patience()
        loop = asyncio.get_running_loop()
        wire = _Wire(loop)
        try:
            async with asyncio.timeout(patience.connect):
                await connect(lambda: wire, server, patience.connect)
                await asyncio.wait({wire.greeting, wire.lost}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            wire.give_up(
                Deadline(f"{server.host} did not greet us within {patience.connect:.0f} s")
            )
        except ssl.SSLCertVerificationError as error:
            wire.give_up(
                ConnectionLost(
                    f"the certificate of {server.host} is not trusted: {error.verify_message}"
                )
            )
        except (OSError, ssl.SSLError) as error:
            wire.give_up(
                ConnectionLost(
                    f"{server.host} port {server.port} cannot be reached: {reason(error)}"
                )
            )
        except BaseException:
            wire.give_up(ConnectionLost("given up"))
            raise
        session = cls(wire, patience)
        try:
            session._welcome()
            await session.ask()
        except BaseException:
            session.abort()
            raise
        return session

    def _welcome(self) -> None:
        wire = self._wire
        if not wire.greeting.done() or wire.lost.done():
            raise self._lost()
        line: bytes = wire.greeting.result()
        match line.split(None, 2)[:2]:
            case [b"*", word] if word.upper() == b"OK":
                wire.state = NONAUTH
            case [b"*", word] if word.upper() == b"PREAUTH":
                wire.state = AUTH
            case [b"*", word] if word.upper() == b"BYE":
                raise ConnectionLost(f"the server turned us away: {grammar.sentence(line[6:])}")
            case _:
                raise Broken("what answers there is no IMAP server")

    @property
    def authenticated(self) -> bool:
        """Whether the server knew who we are without being told."""
        return bool(self._wire.state == AUTH)

    def enter(self, *, folder: bool) -> None:
        """The server has accepted who we are, or has opened a folder."""
        self._wire.state = SELECTED if folder else AUTH

    async def ask(self) -> None:
        """What the server can do, as it is from now on: it may tell more once we are known."""
        for parts in await self.run("CAPABILITY"):
            words = grammar.text(parts[0]).upper().split()
            if words[1:2] == ["CAPABILITY"]:
                self.capabilities = frozenset(words[2:])

    async def idle(self, seconds: float, stop: asyncio.Event) -> None:
        """Waits until the server tells of new mail, until ``stop``, or ``seconds`` at most (RFC
        2177); returns at once where it already told.
        """
        wire = self._wire
        if wire.news.is_set() or stop.is_set():
            return
        wire.going.clear()
        wire.answer = _CommandOutput()
        async with self._given(Command("IDLE", wire.new_tag(), loop=wire.loop)) as running:
            if not await self._first(running, self._patience.silence, wire.going):
                wire.give_up(Deadline(f"the server was silent for {self._patience.silence:.0f} s"))
            elif not running.done():
                await self._first(running, seconds, wire.news, stop)
                if wire.running == "IDLE":  # else the server has ended it by itself
                    wire.send("DONE")
            await self._finished(running)
            _judge("IDLE", running)

    async def _first(
        self, running: asyncio.Task[Any], seconds: float, *events: asyncio.Event
    ) -> bool:
        """Waits until one of the events is set or the command ends; whether anything happened
        within ``seconds``.
        """
        waits = {asyncio.create_task(event.wait()) for event in events}
        try:
            done, _ = await asyncio.wait(
                {running, self._wire.lost, *waits},
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for each in waits:
                each.cancel()
        return bool(done)

    async def run(
        self,
        name: str,
        *arguments: str,
        prefix: str = "",
        answers: list[str] | None = None,
        literal: bytes = b"",
    ) -> list[Parts]:
        """Gives a command and returns what the server told before it said OK; :class:`CommandRefused` for NO
        and BAD. A ``literal`` is its last argument.
        """
        wire = self._wire
        if wire.lost.done():
            raise self._lost()
        wire.answer = _CommandOutput(challenge=list(answers or ()), literal=literal)
        if literal:
            arguments = (*arguments, f"{{{len(literal)}}}")
        try:
            command = Command(name, wire.new_tag(), *arguments, prefix=prefix, loop=wire.loop)
        except ValueError:
            raise CommandRefused("a name or a secret holds a control character") from None
        async with self._given(command) as running:
            await self._finished(running)
            return [*wire.answer.untagged, [_judge(name, running)]]

    @asynccontextmanager
    async def _given(self, command: Command) -> AsyncIterator[asyncio.Task[Any]]:
        """A command that has been sent; nobody waits for it any longer than the block."""
        running = asyncio.create_task(self._wire.execute(command))
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _finished(self, running: asyncio.Task[Any]) -> None:
        """Waits for the end of a command: as long as bytes come or go, but not beyond the time for
        one command.
        """
        wire, patience = self._wire, self._patience
        began = wire.heard_at = wire.loop.time()
        unsent = 0
        while not running.done():
            now = wire.loop.time()
            before, unsent = unsent, wire.transport.get_write_buffer_size()
            if unsent < before:
                wire.heard_at = now
            quiet, last = wire.heard_at + patience.silence, began + patience.command
            left = min(quiet, last) - now
            if left <= 0:
                what = "was silent for" if quiet <= last else "did not finish a command within"
                wire.give_up(Deadline(f"the server {what} {now - began:.0f} s"))
                raise self._lost()
            await asyncio.wait(
                {running, wire.lost},
                timeout=min(left, patience.silence / 4),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if wire.lost.done():
                await asyncio.wait(
                    {running}, timeout=0
                )  # its end may have come just before that of the connection
                if not running.done():
                    raise self._lost()

    def _lost(self) -> ImapError:
        if not self._wire.lost.done():
            self._wire.give_up(ConnectionLost("the connection was lost"))
        error: ImapError = self._wire.lost.result()
        return error

    def abort(self) -> None:
        """Closes at once."""
        self._wire.give_up(ConnectionLost("the connection was closed"))

    async def close(self) -> None:
        """Says goodbye where the server still listens, and closes."""
        try:
            if not self._wire.lost.done() and self._wire.greeting.done():
                async with asyncio.timeout(self._patience.goodbye):
                    await self.run("LOGOUT")
        except (ImapError, TimeoutError):
            pass
        finally:
            self.abort()


def _judge(name: str, ended: asyncio.Task[Any]) -> bytes:
    """The text after OK; :class:`CommandRefused` for what is not OK."""
    try:
        response = ended.result()
    except AioImapException:
        raise Broken(
            f"the server's answers to {name} and what came before do not fit together"
        ) from None
    line = response.lines[-1] if response.lines else b""
    if response.result.upper() != "OK":
        code, _ = grammar.code(line)
        raise CommandRefused(
            f"the server refused {name}: {grammar.sentence(line) or response.result}", code
        )
    return bytes(line)
