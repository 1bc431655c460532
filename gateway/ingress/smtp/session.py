"""One client connection for SMTP or LMTP: its bytes, limits and command loop.

A session's task is never cancelled because the client leaves: it waits until the mail handed to
``accept`` is stored or refused (reliability.md 2). Slow, silent or misbehaving clients get a last
reply; no internal error ends a session.
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

MAX_LINE = 2048  # RFC 5321, 4.5.3.1.4: 512 and what extensions add
_CUT_LINE = 4096  # bytes without a line end that end the session
_COMMANDS_PER_TURN = 64  # before other sessions get their turn
_LINGER_SECONDS = 5.0
_HTTP_WORDS = frozenset(
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
    """What SMTP and LMTP sessions need besides commands: bytes, replies and limits.

    It is a mixin for aiosmtpd's protocol class, since asyncio calls methods of the protocol object.
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

    def __init__(self, registry: SessionRegistry) -> None:
        """Take the registry, which decides whether the connection may stay."""
        self.registry = registry
        self.service = registry.service
        self.input_buffer = InputBuffer(self.loop)
        self.state: State = "greeting"
        self.since = 0.0
        self.host = ""
        self.tls = ""
        self.mails = 0
        self.unknown_recipients = 0
        self.commands_without_mail = 0
        self.last_mail_at = 0.0
        self.trusted = False
        self.hidden = False  # behind a proxy that does not tell its address
        self._errors = 0
        self._replies: list[bytes] = []
        self._ending = False
        self._client_quit = False  # then no input is left unread
        self._counted_address: str | None = None
        self._resume: asyncio.Future[None] | None = None
        self._write_paused = False
        self._task: asyncio.Task[None] | None = None
        self._opened = 0.0
        self._in_data = 0.0  # seconds spent in DATA
        self._window = (0.0, 0)  # start of the current DATA window, bytes received before it
        self._received = 0
        self._received_before = 0  # the current DATA

    # Implemented in protocol.py, the only module that may import aiosmtpd.

    async def _read_proxy(self) -> bool:
        raise NotImplementedError

    # Called by the transport. None of these calls aiosmtpd's version, which would cancel the
    # handler and keep a second buffer.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet a client, or send it the reply by which the registry refuses it."""
        self.transport = transport
        self.input_buffer.attach(cast("asyncio.Transport", transport))
        self._opened = self.since = self.last_mail_at = self.loop.time()
        peer = transport.get_extra_info("peername")
        self.host = peer[0] if isinstance(peer, tuple) else ""
        self.session = self._create_session()
        self.envelope = self._create_envelope()
        # counted first: a client over its own limit must not take the place of another
        refused = None if self._is_proxied else self._count_address()
        refused = refused or self.registry.add(self, self.since)
        if refused is not None:
            self.registry.remove(self, self._counted_address)
            self.close_with(refused)
            return
        self._task = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        """Buffer bytes from the socket."""
        self._received += len(data)
        self.input_buffer.feed(data)

    def eof_received(self) -> bool:
        """Note that the client sends nothing more; it can still get replies, except under TLS."""
        self.input_buffer.feed_eof()
        return not self.tls

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that the connection is gone; the session's task then ends by itself."""
        self.transport = None
        self.input_buffer.feed_eof()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Make :meth:`_flush` wait, since the client does not read our replies."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Let :meth:`_flush` continue."""
        self._write_paused = False
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)

    @property
    def _is_proxied(self) -> bool:
        """Whether the PROXY header tells the client's address."""
        return bool(self.service.proxy_from) and self.host in self.service.proxies

    def _count_address(self) -> str | None:
        """Count the connection for its address; return a last reply if there are too many."""
        refused = self.registry.count_address(self.host, self.since)
        if refused is None:
            self._counted_address = self.host
            self.trusted = self.host in self.service.exempt
        return refused

    # Called by the registry.

    @property
    def in_transaction(self) -> bool:
        """Whether the client has begun a mail."""
        return self.envelope is not None and self.envelope.mail_from is not None

    @property
    def mail_bytes(self) -> int:
        """The bytes received so far of a mail in DATA."""
        return self._received - self._received_before if self.state == "data" else 0

    def check(self, now: float, idle_limit: float) -> None:
        """End the session if it is too slow for its state (reliability.md 8)."""
        limits = self.service.limits
        match self.state:
            case "commit":
                return
            case "data":
                began, before = self._window
                if now - began < limits.data_window:
                    return
                too_slow = self._received - before < limits.data_rate * (now - began)
                self._window = (now, self._received)
            case "parting":
                if now - self.since > _LINGER_SECONDS:
                    self.abort()
                return
            case "greeting":
                too_slow = now - self.since > limits.handshake_seconds
            case "command":
                too_slow = (
                    now - self.since > idle_limit
                    or now - self._opened - self._in_data > limits.session_seconds
                )
        if too_slow:
            maillog.refused(source=self.source, reason_code=f"slow_{self.state}", peer=self.host)
            self.close_with("421 4.4.2 Timeout, closing connection")

    def close_with(self, reply: str) -> None:
        """Send a last reply and close without waiting for the client to read it."""
        transport = self._open_transport()
        self._ending = True
        self.input_buffer.clear()
        if transport is not None:
            if self._write_paused:
                transport.abort()
            else:
                transport.write(encoded(reply))
                transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    def _open_transport(self) -> asyncio.Transport | None:
        """Return the transport if it can still be written to, or else None."""
        transport = cast("asyncio.Transport | None", self.transport)
        return None if transport is None or transport.is_closing() else transport

    # The dialog with the client.

    async def push(self, status: str | bytes) -> None:
        """Queue a reply with its enhanced status code; pipelined replies are sent together."""
        data = encoded(status)
        if data.startswith(b"5"):
            self._errors += 1
        self._replies.append(data)

    async def _flush(self) -> None:
        out, self._replies = b"".join(self._replies), []
        transport = self._open_transport()
        if transport is not None and out:
            transport.write(out)
            if self._write_paused:
                self._resume = self.loop.create_future()
                await self._resume

    async def _handle_client(self) -> None:
        try:
            if await self._greet():
                await self._command_loop()
        except (EndOfInput, ConnectionError, ssl.SSLError):
            pass
        # an unforeseen error ends this session only
        except Exception as error:  # noqa: BLE001
            maillog.failed(source=self.source, error_id=new_error_id(), exc=error)
        finally:
            try:
                await self._close()
            finally:
                self.registry.remove(self, self._counted_address)

    async def _greet(self) -> bool:
        refused = None
        if self._is_proxied:
            if not await self._read_proxy():
                return False
            refused = self._count_address()
        self._replies.append(encoded(refused) if refused is not None else self.banner)
        self.state, self.since = "command", self.loop.time()
        return refused is None

    async def _command_loop(self) -> None:
        commands = 0
        while not self._ending:
            line = self.input_buffer.take_line(MAX_LINE)
            if line is None:
                await self._flush()
                await self.input_buffer.wait_for_data()
                commands = 0
                continue
            errors = self._errors
            await self._run_command(line)
            if self._errors > errors:
                await self._delay_after_error()
            self.since = self.loop.time()  # not at each byte: half a command is no sign of life
            commands += 1
            if commands >= _COMMANDS_PER_TURN:
                commands = 0
                await self._flush()
                await asyncio.sleep(0)

    async def _run_command(self, line: bytes) -> None:
        """Execute a command line; after an internal error, reply with its number, and go on."""
        self.commands_without_mail += 1
        if not line.endswith(b"\r\n") or b"\0" in line or b"\r" in line[:-2]:
            await self._reject_line(line)
            return
        verb, _, rest = line[:-2].partition(b" ")
        verb = verb.upper()
        command = self.commands.get(verb)
        if command is None or self.registry.stopping or self._used_up():
            await self._refuse_command(verb, command)
            return
        try:
            arg = rest.strip().decode() or None
        except UnicodeDecodeError:
            await self.push("501 5.5.2 Command is not valid UTF-8")
            return
        try:
            await command(self, arg)
        except (EndOfInput, ConnectionError, ssl.SSLError):
            raise
        except Exception as error:  # noqa: BLE001 - reliability.md 4
            error_id = new_error_id()
            maillog.failed(source=self.source, error_id=error_id, exc=error)
            await self.push(reply_to_error(error, error_id))

    def _used_up(self) -> str:
        """Return the last reply if the session has used up its mails or commands, or else ""."""
        limits = self.service.limits
        if self.mails >= limits.mails_per_session:
            return "421 4.7.0 Too many mails in one session, please reconnect"
        if self.commands_without_mail > limits.commands_without_mail:
            return "421 4.7.0 Too many commands without a mail"
        return ""

    async def _reject_line(self, line: bytes) -> None:
        size = len(line)
        while not line.endswith(b"\n"):
            if size >= _CUT_LINE:
                await self.end_with("500 5.5.2 Line too long")
                return
            following = self.input_buffer.take_line(MAX_LINE)
            if following is None:
                await self.input_buffer.wait_for_data()
            else:
                size += len(following)
                line = following[-1:]
                if line != b"\n":
                    continue
                await self.push("500 5.5.2 Line too long")
                return
        await self.push("500 5.5.2 Commands must end with CR LF")

    async def _refuse_command(self, verb: bytes, command: Command | None) -> None:
        if verb == b"QUIT":
            await self.quit()
        elif self.registry.stopping:
            await self.end_with("421 4.3.2 Service is stopping, try again later")
        elif verb in _HTTP_WORDS:
            maillog.refused(source=self.source, reason_code="http", peer=self.host)
            await self.end_with("554 5.5.1 This is a mail server")
        elif command is None:
            await self.push("500 5.5.1 Unknown command")
        else:
            await self.end_with(self._used_up())

    async def _delay_after_error(self) -> None:
        """Wait before replying to an error; end the session after too many errors."""
        limits = self.service.limits
        if self._ending:
            return
        if limits.error_delay:
            await self.service.pause(limits.error_delay)
        if self.unknown_recipients >= limits.unknown_recipients or self._errors >= limits.errors:
            maillog.refused(source=self.source, reason_code="too_many_errors", peer=self.host)
            await self.end_with("421 4.7.0 Too many errors")

    async def end_with(self, reply: str) -> None:
        """Queue a last reply and end the session after the current command."""
        await self.push(reply)
        self._ending = True

    async def quit(self) -> None:
        """End the session at the client's request."""
        await self.push("221 2.0.0 Bye")
        self._ending = self._client_quit = True

    async def _close(self) -> None:
        """Read what the client still sends, then close; else our last reply could get lost."""
        await self._flush()
        transport = self._open_transport()
        if transport is None:
            return
        if self._ending and not self._client_quit and transport.can_write_eof() and not self.tls:
            self.state, self.since = "parting", self.loop.time()
            transport.write_eof()
            try:
                while self.state == "parting":
                    self.input_buffer.clear()
                    await self.input_buffer.wait_for_data()
            except EndOfInput:
                pass
        transport.close()
