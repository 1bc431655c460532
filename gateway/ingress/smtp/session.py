"""One connection of a client that speaks SMTP or LMTP: its bytes, its place in the register, its
time limits, and the loop that reads commands.

The task of a connection is never cancelled because the client leaves: whatever was handed to
``accept`` is waited for (reliability.md 1, item 2). What can go wrong: a client that is slow,
silent, noisy or no mail client at all; each is sent away with a reply, and no error of ours ends a
session.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, ClassVar, cast

from gateway import maillog
from gateway.ingress.smtp.input_buffer import EndOfInput, InputBuffer
from gateway.ingress.smtp.replies import encoded, new_error_id, reply_to_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gateway.ingress.smtp.server import SessionRegistry, State

    Command = Callable[[Any, str | None], Coroutine[Any, Any, None]]

LONGEST_LINE = 2048  # RFC 5321 4.5.3.1.4 asks for 512 and what extensions add
_BREATH = 64  # commands that are answered before other sessions get their turn
_LINGER_SECONDS = 5.0
_HTTP = frozenset(
    (
        b"GET",
        b"POST",
        b"PUT",
        b"HEAD",
        b"DELETE",
        b"OPTIONS",
        b"CONNECT",
        b"TRACE",
        b"PATCH",
        b"PRI",
        b"HOST:",
        b"USER-AGENT:",
    )
)


class SessionProtocol:
    """What SMTP and LMTP sessions have in common, apart from the commands themselves. Mixed into
    aiosmtpd's protocol class.
    """

    source: ClassVar[Any]
    commands: ClassVar[dict[bytes, Any]]

    banner: bytes
    ehlo: bytes
    ehlo_tls: bytes
    loop: asyncio.AbstractEventLoop
    transport: asyncio.BaseTransport | None
    envelope: Any
    session: Any
    _create_session: Callable[[], Any]
    _create_envelope: Callable[[], Any]

    def __init__(self, register: SessionRegistry) -> None:
        """``register`` is asked for a place once the connection stands."""
        self.register = register
        self.service = register.service
        self.inlet = InputBuffer(self.loop)
        self.state: State = "greeting"
        self.since = 0.0
        self.host = ""
        self.tls = ""
        self.mails = 0
        self.unknown = 0
        self.trusted = False
        self._errors = 0
        self._out: list[bytes] = []
        self._leaving = False
        self._polite = False  # nothing of the client is left unread
        self._admitted: str | None = None
        self._resume: asyncio.Future[None] | None = None
        self._write_paused = False
        self._task: asyncio.Task[None] | None = None
        self._opened = 0.0
        self._in_data = 0.0  # seconds spent in DATA
        self._window = (
            0.0,
            0,
        )  # when the present window of DATA began, and the bytes received until then
        self._received = 0

    # The proxy header is read by a library that only aiosmtpd's door may import.

    async def _read_proxy(self) -> bool:
        raise NotImplementedError

    # The transport's side. Nothing here calls the base class: its versions cancel the handler and
    # own a second buffer.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets a client, or turns it away where there is no place for it."""
        self.transport = transport
        self.inlet.attach(cast("asyncio.Transport", transport))
        self._opened = self.since = self.loop.time()
        peer = transport.get_extra_info("peername")
        self.host = peer[0] if isinstance(peer, tuple) else ""
        self.session = self._create_session()
        self.envelope = self._create_envelope()
        refused = self.register.enter(self, self.since)
        if refused is not None:
            self.dismiss(refused)
            return
        self._task = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        """Keeps what has come for the task."""
        self._received += len(data)
        self.inlet.feed(data)

    def eof_received(self) -> bool:
        """The client has finished sending; it may still want to read our answers, which TLS cannot
        do.
        """
        self.inlet.end()
        return not self.tls

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone; the task finds out by itself."""
        self.transport = None
        self.inlet.end()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client does not read our answers: :meth:`_flush` waits from now on."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_paused = False
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)

    # The register's side.

    @property
    def in_transaction(self) -> bool:
        """Whether a mail has been begun."""
        return self.envelope is not None and self.envelope.mail_from is not None

    def check(self, now: float, patience: float) -> None:
        """Cuts the session off when it is too slow for the state it is in (reliability.md 1, item
        8).
        """
        limits = self.service.limits
        match self.state:
            case "commit":
                return
            case "data":
                began, before = self._window
                if now - began < limits.data_window:
                    return
                late = self._received - before < limits.data_rate * (now - began)
                self._window = (now, self._received)
            case "parting":
                if now - self.since > _LINGER_SECONDS:
                    self.abort()
                return
            case "greeting":
                late = now - self.since > limits.handshake_seconds
            case "command":
                late = (
                    now - self.since > patience
                    or now - self._opened - self._in_data > limits.session_seconds
                )
        if late:
            maillog.refused(source=self.source, reason_code=f"slow_{self.state}", peer=self.host)
            self.dismiss("421 4.4.2 You are too slow, closing the connection")

    def dismiss(self, reply: str) -> None:
        """Says a last reply and closes, without waiting for the client to read it."""
        transport = self._open_transport()
        self._leaving = True
        self.inlet.clear()
        if transport is not None:
            if self._write_paused:
                transport.abort()
            else:
                transport.write(encoded(reply))
                transport.close()

    def abort(self) -> None:
        """Closes at once."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    def _open_transport(self) -> asyncio.Transport | None:
        """The transport as long as it can be written to."""
        transport = cast("asyncio.Transport | None", self.transport)
        return None if transport is None or transport.is_closing() else transport

    # The dialog.

    async def push(self, status: str | bytes) -> None:
        """Queues a reply, with an enhanced status code (RFC 2034) where it has none; replies to
        pipelined commands leave together.
        """
        data = encoded(status)
        if data.startswith(b"5"):
            self._errors += 1
        self._out.append(data)

    async def _flush(self) -> None:
        out, self._out = b"".join(self._out), []
        transport = self._open_transport()
        if transport is not None and out:
            transport.write(out)
            if self._write_paused:
                self._resume = self.loop.create_future()
                await self._resume

    async def _handle_client(self) -> None:
        try:
            if await self._greet():
                await self._converse()
        except (EndOfInput, ConnectionError, ssl.SSLError):
            pass
        # the last net: the session ends, the server goes on
        except Exception as error:  # noqa: BLE001
            maillog.failed(source=self.source, error_id=new_error_id(), exc=error)
        finally:
            try:
                await self._part()
            finally:
                self.register.leave(self, self._admitted)

    async def _greet(self) -> bool:
        if (
            self.service.proxy_from
            and self.host in self.service.proxies
            and not await self._read_proxy()
        ):
            return False
        refused = self.register.admit(self.host, self.since)
        if refused is None:
            self._admitted = self.host
            self.trusted = self.host in self.service.exempt
        self._out.append(encoded(refused) if refused is not None else self.banner)
        self.state = "command"
        return refused is None

    async def _converse(self) -> None:
        commands = 0
        while not self._leaving:
            line = self.inlet.line(LONGEST_LINE)
            if line is None:
                await self._flush()
                self.since = self.loop.time()
                await self.inlet.more()
                commands = 0
                continue
            errors = self._errors
            await self._obey(line)
            if self._errors > errors:
                await self._punish()
            commands += 1
            if commands >= _BREATH:
                commands = 0
                await self._flush()
                await asyncio.sleep(0)

    async def _obey(self, line: bytes) -> None:
        """Performs one command line; an error of ours is answered with its number, and the session
        goes on.
        """
        if not line.endswith(b"\r\n") or b"\0" in line or b"\r" in line[:-2]:
            await self._reject_line(line)
            return
        verb, _, rest = line[:-2].partition(b" ")
        verb = verb.upper()
        command = self.commands.get(verb)
        if (
            command is None
            or self.register.stopping
            or self.mails >= self.service.limits.mails_per_session
        ):
            await self._unusual(verb, command)
            return
        try:
            arg = rest.strip().decode() or None
        except UnicodeDecodeError:
            await self.push("501 5.5.2 This is not UTF-8")
            return
        try:
            await command(self, arg)
        except (EndOfInput, ConnectionError, ssl.SSLError):
            raise
        except Exception as error:  # noqa: BLE001 - reliability.md 1, item 4
            error_id = new_error_id()
            maillog.failed(source=self.source, error_id=error_id, exc=error)
            await self.push(reply_to_error(error, error_id))

    async def _reject_line(self, line: bytes) -> None:
        while not line.endswith(b"\n"):
            following = self.inlet.line(LONGEST_LINE)
            if following is None:
                await self.inlet.more()
            else:
                line = following[-1:]
                if line != b"\n":
                    continue
                await self.push("500 5.5.2 Line too long")
                return
        await self.push("500 5.5.2 A command is one line that ends with CR LF")

    async def _unusual(self, verb: bytes, command: Command | None) -> None:
        if verb == b"QUIT":
            await self.quit()
        elif self.register.stopping:
            await self.leave("421 4.3.2 Service is stopping, try again later")
        elif verb in _HTTP:
            maillog.refused(source=self.source, reason_code="http", peer=self.host)
            await self.leave("554 5.5.1 This is a mail server")
        elif command is None:
            await self.push("500 5.5.1 Unknown command")
        else:
            await self.leave("421 4.7.0 Enough mail in one session, please connect again")

    async def _punish(self) -> None:
        """Slows down a client that makes errors, and ends the session when there are too many."""
        limits = self.service.limits
        if self._leaving:
            return
        if limits.error_delay:
            await self.service.pause(limits.error_delay)
        if self.unknown >= limits.unknown_recipients or self._errors >= limits.errors:
            maillog.refused(source=self.source, reason_code="too_many_errors", peer=self.host)
            await self.leave("421 4.7.0 Too many errors")

    async def leave(self, reply: str) -> None:
        """Says a last reply, and ends the session after the present command."""
        await self.push(reply)
        self._leaving = True

    async def quit(self) -> None:
        """Ends the session as the client wishes."""
        await self.push("221 2.0.0 Bye")
        self._leaving = self._polite = True

    async def _part(self) -> None:
        """Ends the connection so that the last reply arrives: an unread rest in the socket would
        reset it away.
        """
        await self._flush()
        transport = self._open_transport()
        if transport is None:
            return
        if self._leaving and not self._polite and transport.can_write_eof() and not self.tls:
            self.state, self.since = "parting", self.loop.time()
            transport.write_eof()
            try:
                while self.state == "parting":
                    self.inlet.clear()
                    await self.inlet.more()
            except EndOfInput:
                pass
        transport.close()
