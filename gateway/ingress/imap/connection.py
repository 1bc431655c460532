"""One connection to an IMAP server, and the only use of aioimaplib.

Every command has a time limit. Every answer has a limit of bytes and of lines; in each turn of the
event loop only a few lines are read. aioimaplib 2.0.3 keeps tags, states and pending commands; we
read from the socket ourselves (docs/adr/0009). What we use of the library is checked by
tests/unit/gateway/ingress/imap/test_contract.py.

Each failure is an :class:`ImapError`; after any but :class:`CommandRefused` the connection is
closed.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

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

T = TypeVar("T")
ANSWER_LIMIT: Final = 128 << 20  # bytes after one command
ANSWER_LINES: Final = 100_000  # lines after one command, also those that nobody asked for
LINES_PER_TURN: Final = 500  # read before others get their turn of the event loop
_TURN_SECONDS: Final = 0.005  # spent on answers before others get their turn
_STATUS_LENGTH: Final = 64 << 10  # bytes of a tagged response that are looked at
_VERB_LENGTH: Final = 100  # bytes in which the name of an untagged response is looked for


class ImapError(Unavailable):
    """A failure after which a new connection may work."""


class ConnectionLost(ImapError):
    """The server cannot be reached, or the connection was closed or broke."""


class ImapTimeout(ImapError):
    """The server did not answer in time."""


class ProtocolError(ImapError):
    """The server sent something that is not IMAP."""


class CommandRefused(ImapError):
    """The server refused a command; ``code`` is its response code or "".

    The connection stays open.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class LoginRefused(Misconfigured, ImapError):
    """The server rejects our credentials; trying the same secret again is useless."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limits for a server, in seconds.

    ``connect`` limits the time to the greeting, ``silence`` the time without a byte, ``command``
    a whole command, and ``goodbye`` the logout.
    """

    connect: float = 30.0
    silence: float = 60.0
    command: float = 300.0
    goodbye: float = 2.0


@dataclass(slots=True)
class _CommandOutput:
    """The responses to a running command, and the parts of the command still to be sent.

    ``size`` and ``lines`` count all that came since the command was sent.
    """

    untagged: list[Parts] = field(default_factory=list)
    size: int = 0
    lines: int = 0
    challenge: list[str] = field(default_factory=list)  # sent at continuations, last one first
    literal: bytes = b""  # sent at the first continuation


class _ImapProtocol(IMAP4ClientProtocol):  # type: ignore[misc]  # the library has no types
    """Reads the socket; a subclass of aioimaplib's protocol, since aioimaplib demands one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.lost: asyncio.Future[Any] = loop.create_future()
        self.greeting: asyncio.Future[Any] = loop.create_future()
        self.output = _CommandOutput()
        self.idling = asyncio.Event()  # set once the server has agreed to IDLE
        self.new_mail = asyncio.Event()
        self.last_activity = loop.time()
        self._framing = grammar.Framing()
        self._exists = 0
        self._unread: deque[bytes] = deque()
        self._lines = self._unread_lines()
        self._behind = False  # whether another turn will go on reading

    def data_received(self, data: bytes) -> None:
        """Read the first lines of the bytes from the socket, and the others in later turns."""
        self.last_activity = self.loop.time()
        self.output.size += len(data)
        if self.output.size > ANSWER_LIMIT:
            self._refuse_flood(f"{ANSWER_LIMIT} bytes")
        self._unread.append(data)
        if not self._behind:
            self._read_turn()

    def _unread_lines(self) -> Iterator[Parts | None]:
        while self._unread:
            yield from self._framing.feed(self._unread.popleft())

    def _read_turn(self) -> None:
        """Read a few lines; while others wait, nothing more is read from the socket."""
        was_behind, self._behind = self._behind, False
        try:
            self._read_lines()
        except grammar.TooLongError as error:
            self.abort_with(ProtocolError(f"{error}"))
        except (AioImapException, ValueError):
            self.abort_with(ProtocolError("the server answered a command that was not sent"))
        if self.lost.done():
            return
        if self._behind:
            self.loop.call_soon(self._read_turn)
            if not was_behind:
                self.transport.pause_reading()
        elif was_behind and not self.transport.is_closing():
            self.transport.resume_reading()

    def _read_lines(self) -> None:
        for number, parts in enumerate(self._lines, 1):
            self._count_line()
            if self.lost.done():
                return
            if parts is not None:
                self._take(parts)
            if number == LINES_PER_TURN:
                self._behind = True
                return
        self._lines = self._unread_lines()

    def _count_line(self) -> None:
        self.output.lines += 1
        if self.output.lines > ANSWER_LINES:
            self._refuse_flood(f"{ANSWER_LINES} lines")

    def _refuse_flood(self, what: str) -> None:
        name = self.running or "no command"
        self.abort_with(ProtocolError(f"the server answered {name} with more than {what}"))

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that the socket is closed."""
        self.abort_with(ConnectionLost("the connection was lost"))

    def abort_with(self, error: ImapError) -> None:
        """End the connection and note the reason, unless it has ended already."""
        if not self.lost.done():
            self.lost.set_result(error)
        if self.transport is not None:
            self.transport.abort()

    def send(self, line: str, scrub: str | None = None) -> None:
        """Write a line; do nothing if the connection is gone, since uvloop would raise an error."""
        if not self.lost.done():
            super().send(line, scrub=scrub)

    def _take(self, parts: Parts) -> None:
        line = parts[0]
        if not self.greeting.done():
            self.greeting.set_result(line)
        elif line.startswith(b"* "):
            self._untagged(parts)
        elif line.startswith(b"+"):
            self._continue()
        else:
            self._response_done(line[:_STATUS_LENGTH])

    def _untagged(self, parts: Parts) -> None:
        match parts[0][2:_VERB_LENGTH].upper().split(None, 2):
            case [b"BYE", *_]:
                if self.running != "LOGOUT":
                    self.abort_with(
                        ConnectionLost(
                            f"the server closed the connection: {grammar.printable(parts[0][6:])}"
                        )
                    )
                return
            case [count, b"EXISTS", *_] if count.isdigit():
                if int(count) > self._exists:
                    self.new_mail.set()
                self._exists = int(count)
            case [count, b"EXPUNGE", *_] if count.isdigit():
                self._exists = max(0, self._exists - 1)
            case _:
                pass
        if self.running not in ("", "IDLE"):
            self.output.untagged.append(parts)

    @property
    def running(self) -> str:
        """The name of the command that the server has not answered, or ""."""
        pending = self.pending_sync_command or next(
            iter(self.pending_async_commands.values()), None
        )
        return getattr(pending, "name", "")

    def _continue(self) -> None:
        """Send the part of a command that the server now asks for, or note that IDLE began."""
        if self.running == "IDLE":
            self.idling.set()
        elif self.running == "AUTHENTICATE":
            self.send(self.output.challenge.pop() if self.output.challenge else "")
        elif self.output.literal and not self.lost.done():
            self.transport.write(self.output.literal + b"\r\n")
            self.output.literal = b""


class ImapConnection:
    """A connection that runs one command at a time; the server has sent its greeting.

    ``new_mail`` is set when the server announces new mail; clear it before looking for mail.
    ``capabilities`` are in upper case. Methods raise ImapError.
    """

    def __init__(self, protocol: _ImapProtocol, timeouts: Timeouts) -> None:
        self._protocol = protocol
        self._timeouts = timeouts
        self.new_mail = protocol.new_mail
        self.capabilities: frozenset[str] = frozenset()

    @classmethod
    async def open(cls, server: ImapServer, timeouts: Timeouts | None = None) -> Self:
        """Connect, read the greeting and ask for the capabilities."""
        timeouts = timeouts or Timeouts()
        loop = asyncio.get_running_loop()
        protocol = _ImapProtocol(loop)
        try:
            async with asyncio.timeout(timeouts.connect):
                await connect(lambda: protocol, server, timeouts.connect)
                await asyncio.wait(
                    {protocol.greeting, protocol.lost}, return_when=asyncio.FIRST_COMPLETED
                )
        except TimeoutError:
            protocol.abort_with(
                ImapTimeout(f"{server.host} sent no greeting within {timeouts.connect:.0f} s")
            )
        except ssl.SSLCertVerificationError as error:
            protocol.abort_with(
                ConnectionLost(
                    f"the certificate of {server.host} is not trusted: {error.verify_message}"
                )
            )
        except (OSError, ssl.SSLError) as error:
            protocol.abort_with(
                ConnectionLost(
                    f"{server.host} port {server.port} cannot be reached: {reason(error)}"
                )
            )
        except BaseException:
            protocol.abort_with(ConnectionLost("the attempt was cancelled"))
            raise
        session = cls(protocol, timeouts)
        try:
            session._read_greeting()
            await session.refresh_capabilities()
        except BaseException:
            session.abort()
            raise
        return session

    def _read_greeting(self) -> None:
        protocol = self._protocol
        if not protocol.greeting.done() or protocol.lost.done():
            raise self._lost_error()
        line: bytes = protocol.greeting.result()
        match line.split(None, 2)[:2]:
            case [b"*", word] if word.upper() == b"OK":
                protocol.state = NONAUTH
            case [b"*", word] if word.upper() == b"PREAUTH":
                protocol.state = AUTH
            case [b"*", word] if word.upper() == b"BYE":
                raise ConnectionLost(
                    f"the server refuses connections: {grammar.printable(line[6:])}"
                )
            case _:
                raise ProtocolError("this is not an IMAP server")

    @property
    def authenticated(self) -> bool:
        """Whether we are signed in, by a login or by the server's greeting (PREAUTH)."""
        return bool(self._protocol.state == AUTH)

    def mark_authenticated(self) -> None:
        """Tell the library that the server has accepted our login."""
        self._protocol.state = AUTH

    def mark_selected(self) -> None:
        """Tell the library that the server has opened a folder."""
        self._protocol.state = SELECTED

    async def refresh_capabilities(self) -> None:
        """Ask for the capabilities again, since servers may have more after the login."""
        async for parts in in_turns(await self.run("CAPABILITY")):
            words = grammar.decode(parts[0][:_STATUS_LENGTH]).upper().split()
            if words[1:2] == ["CAPABILITY"]:
                self.capabilities = frozenset(words[2:])

    async def idle(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait for new mail, for ``stop``, or at most ``seconds`` (RFC 2177).

        Returns at once if new mail was announced already.
        """
        protocol = self._protocol
        if protocol.new_mail.is_set() or stop.is_set():
            return
        protocol.idling.clear()
        protocol.output = _CommandOutput()
        async with self._start(Command("IDLE", protocol.new_tag(), loop=protocol.loop)) as running:
            if not await self._wait_for_any(running, self._timeouts.silence, protocol.idling):
                protocol.abort_with(
                    ImapTimeout(f"the server was silent for {self._timeouts.silence:.0f} s")
                )
            elif not running.done():
                await self._wait_for_any(running, seconds, protocol.new_mail, stop)
                if protocol.running == "IDLE":  # else the server ended it
                    protocol.send("DONE")
            await self._wait_until_done(running)
            _check_response("IDLE", running)

    async def _wait_for_any(
        self, running: asyncio.Task[Any], seconds: float, *events: asyncio.Event
    ) -> bool:
        """Wait for an event or the command's end; return False after ``seconds`` without either."""
        waits = {asyncio.create_task(event.wait()) for event in events}
        try:
            done, _ = await asyncio.wait(
                {running, self._protocol.lost, *waits},
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
        challenges: list[str] | None = None,
        literal: bytes = b"",
    ) -> list[Parts]:
        """Send a command and return the responses before its OK; NO and BAD raise CommandRefused.

        ``literal`` is sent as the last argument.
        """
        protocol = self._protocol
        if protocol.lost.done():
            raise self._lost_error()
        protocol.output = _CommandOutput(challenge=list(challenges or ()), literal=literal)
        if literal:
            arguments = (*arguments, f"{{{len(literal)}}}")
        try:
            command = Command(
                name, protocol.new_tag(), *arguments, prefix=prefix, loop=protocol.loop
            )
        except ValueError:
            raise CommandRefused("a name or a secret contains a control character") from None
        async with self._start(command) as running:
            await self._wait_until_done(running)
            return [*protocol.output.untagged, [_check_response(name, running)]]

    @asynccontextmanager
    async def _start(self, command: Command) -> AsyncIterator[asyncio.Task[Any]]:
        """Send a command; the answer may be awaited only inside the ``with`` block."""
        running = asyncio.create_task(self._protocol.execute(command))
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _wait_until_done(self, running: asyncio.Task[Any]) -> None:
        """Wait until a command ends; raises ImapTimeout if the server is silent or too slow."""
        protocol, timeouts = self._protocol, self._timeouts
        began = protocol.last_activity = protocol.loop.time()
        unsent = 0
        while not running.done():
            now = protocol.loop.time()
            before, unsent = unsent, protocol.transport.get_write_buffer_size()
            if unsent < before:
                protocol.last_activity = now
            quiet, last = protocol.last_activity + timeouts.silence, began + timeouts.command
            left = min(quiet, last) - now
            if left <= 0:
                what = "was silent for" if quiet <= last else "did not finish a command within"
                protocol.abort_with(ImapTimeout(f"the server {what} {now - began:.0f} s"))
                raise self._lost_error()
            await asyncio.wait(
                {running, protocol.lost},
                timeout=min(left, timeouts.silence / 4),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if protocol.lost.done():
                # The command may have ended just before the connection did.
                await asyncio.wait({running}, timeout=0)
                if not running.done():
                    raise self._lost_error()

    def _lost_error(self) -> ImapError:
        if not self._protocol.lost.done():
            self._protocol.abort_with(ConnectionLost("the connection was lost"))
        error: ImapError = self._protocol.lost.result()
        return error

    def abort(self) -> None:
        """Close the connection at once."""
        self._protocol.abort_with(ConnectionLost("the connection was closed"))

    async def close(self) -> None:
        """Log out if the connection still works, and close it."""
        try:
            if not self._protocol.lost.done() and self._protocol.greeting.done():
                async with asyncio.timeout(self._timeouts.goodbye):
                    await self.run("LOGOUT")
        except (ImapError, TimeoutError):
            pass
        finally:
            self.abort()


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items, giving others their turn of the event loop every few milliseconds."""
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > _TURN_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()


def _check_response(name: str, ended: asyncio.Task[Any]) -> bytes:
    """Return the text after OK; raises CommandRefused for other responses."""
    try:
        response = ended.result()
    except AioImapException:
        raise ProtocolError(
            f"the server's answers to {name} and to earlier commands contradict each other"
        ) from None
    line = response.lines[-1] if response.lines else b""
    if response.result.upper() != "OK":
        code, _ = grammar.response_code(line)
        raise CommandRefused(
            f"the server refused {name}: {grammar.printable(line) or response.result}", code
        )
    return bytes(line)
