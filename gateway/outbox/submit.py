"""The door to aiosmtplib: hands mail to the smarthost, one transaction a recipient, and says in
three words what became of it.

What can go wrong is an answer, never an exception: 5xx about the recipient or the mail is
:class:`PermanentFailure`; 4xx, a lost connection, a time that was over and whatever is about us rather than
the recipient (TLS, our account) is :class:`Deferred`. After the end of data the mail may have been
taken although nobody said so; it is put off too, and that is the only way in which one arrives
twice.

Connections are kept for the next mail and looked at before they are used again. No password or
token is sent without TLS, but to the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import aiosmtplib
from aiosmtplib import SMTPAuthenticationError, SMTPException, SMTPResponseException

from gateway import log
from gateway.errors import TicketgateError
from gateway.outbox.results import Deferred, PermanentFailure, Result, Sent
from gateway.outbox.wire import CannotSend, SmtpEnvelope, cleaned, is_this_machine, parameters

MAILS_PER_CONNECTION: Final = 100  # that one connection carries
MIN_BYTES_PER_SECOND: Final = (
    10_000  # bytes a second that a mail needs at least, beyond the time for its last answer
)
WRITE_BYTES: Final = 1 << 18  # bytes written before other tasks have their turn
QUIT_SECONDS: Final = 5.0  # seconds for the answer to QUIT
ACCOUNT_CODES: Final = frozenset(
    {530, 534, 535, 538}
)  # RFC 4954 section 6: about our account, whatever the command
END_OF_DATA: Final = "the end of data"
_log = log.logger("outbox")

TokenSource = Callable[[str | None], Awaitable[str]]  # given the token that was refused, or None


@dataclass(frozen=True, slots=True)
class SmarthostServer:
    """Where the smarthost is and who we are there. ``token`` is asked for an access token (XOAUTH2)
    instead of using ``password``.
    """

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"] = "starttls"
    tls_ca: str = ""
    username: str = ""
    password: str = ""
    token: TokenSource | None = None
    hostname: str = "localhost"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for each step, and how long an unused connection is kept."""

    connect: float = 30.0
    command: float = 60.0
    data: float = 300.0
    idle: float = 30.0


class _ConnectionUnusable(Exception):
    """No connection that could be used, for a reason in words of ours or of the server."""


class _ConnectionStale(Exception):
    """A kept connection turned out to be dead before anything was said on it."""


@dataclass(slots=True)
class _SmartHostConnection:
    """A connection that is ready for a mail."""

    client: aiosmtplib.SMTP
    mails: int = 0
    since: float = 0.0
    stage: str = ""


class Smarthost:
    """The smarthost, with the connections to it that are kept. As many are open at once as there
    are calls of :meth:`submit` at once.
    """

    def __init__(self, server: SmarthostServer, deadlines: Deadlines | None = None) -> None:
        self.server = server
        self.deadlines = deadlines or Deadlines()
        self._kept: list[_SmartHostConnection] = []
        self._leaving: set[asyncio.Task[None]] = set()

    async def submit(self, sender: str, recipient: str, raw: bytes) -> Result:
        """Hands over one mail for one recipient; ``sender`` "" is the null path. ``raw`` has the
        form of :func:`gateway.outbox.wire.lines`.
        """
        try:
            envelope = SmtpEnvelope.of(sender, recipient, raw)
        except CannotSend as error:
            return PermanentFailure(str(error))
        while True:
            line = self._kept.pop() if self._kept else None
            fresh = line is None
            try:
                line = line or _SmartHostConnection(await self._open())
                result = await self._transaction(line, envelope, raw)
            except _ConnectionUnusable as error:
                return Deferred(str(error), everybody=True)
            except _ConnectionStale:
                if fresh:
                    return Deferred("the smarthost closed the connection at once", everybody=True)
                continue
            return result

    async def close(self) -> None:
        """Says goodbye on every kept connection."""
        kept, self._kept = self._kept, []
        await asyncio.gather(*self._leaving, *(_quit(line) for line in kept))

    # ---- a connection

    async def _open(self, refused: str | None = None) -> aiosmtplib.SMTP:
        """A connection on which we are known. A token that is refused is renewed once, and
        ``refused`` is that one.
        """
        client = self._client(await self._context())
        token: str | None = None
        try:
            await self._greet(client)
            if self.server.username:
                _refuse_open_line(client)
                token = await self.server.token(refused) if self.server.token is not None else None
                await self._sign_in(client, token)
        except SMTPAuthenticationError as error:
            client.close()
            if token is not None and refused is None and error.code == 535:
                return await self._open(token)
            _log.error("the smarthost refuses our account", host=self.server.host, reply=error.code)
            raise _ConnectionUnusable(cleaned(f"{error.code} {error.message}")) from None
        except (SMTPException, OSError, UnicodeError, TicketgateError) as error:
            client.close()
            raise _ConnectionUnusable(f"no way to the smarthost: {_why(error)}") from None
        except BaseException:
            client.close()
            raise
        return client

    def _client(self, context: ssl.SSLContext | None) -> aiosmtplib.SMTP:
        server = self.server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=server.hostname,
            timeout=self.deadlines.command,
            use_tls=server.tls == "tls",
            start_tls=False,
            tls_context=context,
        )

    async def _context(self) -> ssl.SSLContext | None:
        """What TLS needs, read anew for each connection, in a thread: the system's authorities are
        many.
        """
        if self.server.tls == "none":
            return None
        try:
            return await asyncio.to_thread(
                ssl.create_default_context, cafile=self.server.tls_ca or None
            )
        except OSError as error:
            raise _ConnectionUnusable(
                f"the authorities to trust cannot be read: {_why(error)}"
            ) from None

    async def _greet(self, client: aiosmtplib.SMTP) -> None:
        await client.connect(timeout=self.deadlines.connect)
        await client.ehlo()
        if self.server.tls == "starttls":
            if not client.supports_extension("starttls"):
                raise _ConnectionUnusable("the smarthost does not offer STARTTLS")
            await client.starttls(timeout=self.deadlines.connect)
            await client.ehlo()

    async def _sign_in(self, client: aiosmtplib.SMTP, token: str | None) -> None:
        """PLAIN, else LOGIN, or XOAUTH2 where there is a token."""
        server, offered = self.server, client.server_auth_methods
        if token is not None:
            await client.auth_xoauth2(server.username, token)
        elif "plain" in offered:
            await client.auth_plain(server.username, server.password)
        elif "login" in offered:
            await client.auth_login(server.username, server.password)
        else:
            raise _ConnectionUnusable("the smarthost offers neither AUTH PLAIN nor AUTH LOGIN")

    def _keep(self, line: _SmartHostConnection) -> None:
        """Puts a connection aside for the next mail, or ends it when it has carried enough."""
        line.mails += 1
        if not line.client.is_connected:
            return
        if line.mails >= MAILS_PER_CONNECTION:
            self._leave(line)
            return
        loop = asyncio.get_running_loop()
        line.since = loop.time()
        self._kept.append(line)
        loop.call_later(self.deadlines.idle, self._expire, line, line.since)

    def _expire(self, line: _SmartHostConnection, since: float) -> None:
        if line.since == since and line in self._kept:
            self._kept.remove(line)
            self._leave(line)

    def _leave(self, line: _SmartHostConnection) -> None:
        leaving = asyncio.create_task(_quit(line), name="quit")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    # ---- a mail

    async def _transaction(
        self, line: _SmartHostConnection, envelope: SmtpEnvelope, raw: bytes
    ) -> Result:
        """One mail on one connection, which is kept or closed afterwards."""
        client, line.stage = line.client, "MAIL"
        try:
            options = parameters(envelope, client.esmtp_extensions, len(raw))
            said = await self._dialog(line, envelope, options, raw)
        except CannotSend as error:
            result: Result = PermanentFailure(str(error))
        except (SMTPException, OSError) as error:
            client.close()
            return _broken(line, error)
        except BaseException:
            client.close()
            raise
        else:
            result = self._classified(line, *said)
        if not isinstance(result, Sent) and client.is_connected:
            await _reset(client)
        self._keep(line)
        return result

    async def _dialog(
        self, line: _SmartHostConnection, envelope: SmtpEnvelope, options: list[bytes], raw: bytes
    ) -> aiosmtplib.SMTPResponse:
        """The first answer that is not as wished, or the last one; ``line.stage`` is what it
        answers.
        """
        client = line.client
        said = await client.execute_command(b"MAIL", b"FROM:<" + envelope.sender + b">", *options)
        if said.code == 421 and line.mails:
            raise _ConnectionStale
        if said.code // 100 == 2:
            line.stage = "RCPT"
            said = await client.execute_command(b"RCPT", b"TO:<" + envelope.recipient + b">")
        if said.code // 100 == 2:
            line.stage = "DATA"
            said = await client.execute_command(b"DATA")
            if said.code == 354:
                line.stage = END_OF_DATA
                said = await self._data(client, raw)
        return said

    def _classified(self, line: _SmartHostConnection, code: int, text: str) -> Result:
        reply = cleaned(f"{code} {text}")
        if code // 100 == 2 and line.stage == END_OF_DATA:
            return Sent(reply)
        if code in ACCOUNT_CODES:
            _log.error("the smarthost refuses our account", host=self.server.host, reply=code)
            return Deferred(reply, everybody=True)
        return (
            PermanentFailure(reply)
            if code // 100 == 5
            else Deferred(reply, everybody=code == 421 and line.stage == "MAIL")
        )

    async def _data(self, client: aiosmtplib.SMTP, raw: bytes) -> aiosmtplib.SMTPResponse:
        """The mail and the answer to it. Other tasks have their turn in between; an answer that
        comes early ends it.
        """
        protocol = client.protocol
        if protocol is None:
            raise ConnectionResetError
        stuffed = (
            (b"." if raw.startswith(b".") else b"") + raw.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        )
        answer = asyncio.ensure_future(
            protocol.read_response(
                timeout=self.deadlines.data + len(stuffed) / MIN_BYTES_PER_SECOND
            )
        )
        try:
            await asyncio.sleep(0)  # it listens before the first byte goes out
            with contextlib.suppress(ConnectionError):  # then the answer says so as well
                for at in range(0, len(stuffed), WRITE_BYTES):
                    if answer.done():
                        client.close()  # the server would take the rest for commands
                        break
                    protocol.write(stuffed[at : at + WRITE_BYTES])
                    await asyncio.sleep(0)
            return await answer
        finally:
            answer.cancel()


def _broken(line: _SmartHostConnection, error: Exception) -> Result:
    """What it means that a connection broke, or fell silent."""
    if line.stage == "MAIL" and line.mails and isinstance(error, OSError):
        raise _ConnectionStale from None
    if line.stage == END_OF_DATA:
        return Deferred(
            f"{_why(error)} after the end of data; whether the mail was taken is not known"
        )
    return Deferred(f"{_why(error)} at {line.stage}", everybody=line.stage == "MAIL")


async def _reset(client: aiosmtplib.SMTP) -> None:
    try:
        await client.rset()
    except (SMTPException, OSError):
        client.close()


async def _quit(line: _SmartHostConnection) -> None:
    with contextlib.suppress(SMTPException, OSError):
        await line.client.quit(timeout=QUIT_SECONDS)
    line.client.close()


def _refuse_open_line(client: aiosmtplib.SMTP) -> None:
    """No secret goes over a connection without TLS, except to this machine."""
    if client.get_transport_info("sslcontext") is None and not is_this_machine(
        str(client.get_transport_info("peername")[0])
    ):
        raise _ConnectionUnusable("the smarthost wants a password on a connection without TLS")


def _why(error: BaseException) -> str:
    """What went wrong, in a few words without addresses of mail."""
    cause = (
        error.__cause__
        if isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None
        else error
    )
    match cause:
        case SMTPResponseException():
            return cleaned(f"{cause.code} {cause.message}")
        case TicketgateError():
            return cause.message
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {cause.verify_message}"
        case ssl.SSLError():
            return (cause.reason or "TLS failed").replace("_", " ").lower()
        case TimeoutError():
            return "no answer in time"
        case OSError(errno=int() as number) if number > 0:
            return os.strerror(number).lower()
        case OSError(strerror=str() as said):
            return said.lower()
        case UnicodeError():
            return "its name is no host name"
        case _:
            return "the connection was lost"
