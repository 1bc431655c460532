"""Submit mail to the smarthost, one transaction per recipient; the only user of aiosmtplib.

The result is a value, never an exception. A 5xx reply about the recipient or the mail is a
:class:`PermanentFailure`. A 4xx reply, a lost connection, a timeout, and any fault of TLS or our
account is :class:`Deferred`. Where no reply comes after the end of data, the smarthost may have
accepted the mail. The mail is deferred too, and this is the only case in which it can arrive twice.

Connections are kept for the next mail and checked before reuse. No password or token is sent
without TLS, except over the loopback.
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

MAILS_PER_CONNECTION: Final = 100
MIN_BYTES_PER_SECOND: Final = 10_000  # of a mail; the deadline for its reply comes on top
WRITE_BYTES: Final = 1 << 18  # written before other tasks run
QUIT_SECONDS: Final = 5.0  # for the reply to QUIT
# replies about our account, whatever the command (RFC 4954 section 6)
ACCOUNT_CODES: Final = frozenset({530, 534, 535, 538})
END_OF_DATA: Final = "the end of data"
_log = log.logger("outbox")

TokenSource = Callable[
    [str | None], Awaitable[str]
]  # called with the token that was refused, or None


@dataclass(frozen=True, slots=True)
class SmarthostServer:
    """The smarthost and our account there.

    ``token`` returns an access token (XOAUTH2), used instead of ``password``.
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
    """The seconds allowed for each step, and how long an unused connection is kept."""

    connect: float = 30.0
    command: float = 60.0
    data: float = 300.0
    idle: float = 30.0


class _ConnectionUnusable(Exception):
    """No usable connection could be made; the message gives the reason."""


class _ConnectionStale(Exception):
    """A kept connection turned out to be dead before the mail was sent."""


@dataclass(slots=True)
class _SmarthostConnection:
    """A connection to the smarthost that is signed in and ready for a mail."""

    client: aiosmtplib.SMTP
    mails: int = 0
    since: float = 0.0
    stage: str = ""


class Smarthost:
    """The smarthost, with connections kept open to it.

    Concurrent calls of :meth:`submit` use one connection each.
    """

    def __init__(self, server: SmarthostServer, deadlines: Deadlines | None = None) -> None:
        self.server = server
        self.deadlines = deadlines or Deadlines()
        self._kept: list[_SmarthostConnection] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def submit(self, sender: str, recipient: str, raw: bytes) -> Result:
        """Submit a mail for one recipient; an empty ``sender`` means the null path ``<>``.

        ``raw`` has the form of :func:`gateway.outbox.wire.lines`.
        """
        try:
            envelope = SmtpEnvelope.of(sender, recipient, raw)
        except CannotSend as error:
            return PermanentFailure(str(error))
        while True:
            connection = self._kept.pop() if self._kept else None
            fresh = connection is None
            try:
                connection = connection or _SmarthostConnection(await self._open())
                result = await self._transaction(connection, envelope, raw)
            except _ConnectionUnusable as error:
                return Deferred(str(error), everybody=True)
            except _ConnectionStale:
                if fresh:
                    return Deferred("the smarthost closed the connection at once", everybody=True)
                continue
            return result

    async def close(self) -> None:
        """Close every kept connection with QUIT."""
        kept, self._kept = self._kept, []
        await asyncio.gather(*self._closing, *(_quit(connection) for connection in kept))

    # ---- a connection

    async def _open(self, refused: str | None = None) -> aiosmtplib.SMTP:
        """Open a connection and sign in.

        If the smarthost refuses a token, try once more with a new token; ``refused`` is then the
        old one.
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
            raise _ConnectionUnusable(
                f"cannot connect to the smarthost: {_reason(error)}"
            ) from None
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
        """Return the TLS context, loaded in a thread, since this is slow."""
        if self.server.tls == "none":
            return None
        file = self.server.tls_ca or None
        try:
            return await asyncio.to_thread(ssl.create_default_context, cafile=file)
        except OSError as error:
            reason = f"cannot read the CA certificates: {_reason(error)}"
            raise _ConnectionUnusable(reason) from None

    async def _greet(self, client: aiosmtplib.SMTP) -> None:
        await client.connect(timeout=self.deadlines.connect)
        await client.ehlo()
        if self.server.tls == "starttls":
            if not client.supports_extension("starttls"):
                raise _ConnectionUnusable("the smarthost does not offer STARTTLS")
            await client.starttls(timeout=self.deadlines.connect)
            await client.ehlo()

    async def _sign_in(self, client: aiosmtplib.SMTP, token: str | None) -> None:
        """Sign in by XOAUTH2 with a token, else by PLAIN or LOGIN."""
        server, offered = self.server, client.server_auth_methods
        if token is not None:
            await client.auth_xoauth2(server.username, token)
        elif "plain" in offered:
            await client.auth_plain(server.username, server.password)
        elif "login" in offered:
            await client.auth_login(server.username, server.password)
        else:
            raise _ConnectionUnusable("the smarthost offers neither AUTH PLAIN nor AUTH LOGIN")

    def _keep(self, connection: _SmarthostConnection) -> None:
        """Keep a connection for the next mail, or close it after enough mails."""
        connection.mails += 1
        if connection.mails >= MAILS_PER_CONNECTION and connection.client.is_connected:
            self._close_later(connection)
        elif connection.client.is_connected:
            connection.since = (loop := asyncio.get_running_loop()).time()
            self._kept.append(connection)
            loop.call_later(self.deadlines.idle, self._expire, connection, connection.since)

    def _expire(self, connection: _SmarthostConnection, since: float) -> None:
        if connection.since == since and connection in self._kept:
            self._kept.remove(connection)
            self._close_later(connection)

    def _close_later(self, connection: _SmarthostConnection) -> None:
        closing = asyncio.create_task(_quit(connection), name="quit")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    # ---- a mail

    async def _transaction(
        self, connection: _SmarthostConnection, envelope: SmtpEnvelope, raw: bytes
    ) -> Result:
        """Submit a mail on a connection, which is kept or closed afterwards."""
        client, connection.stage = connection.client, "MAIL"
        try:
            options = parameters(envelope, client.esmtp_extensions, len(raw))
            reply = await self._dialog(connection, envelope, options, raw)
        except CannotSend as error:
            result: Result = PermanentFailure(str(error))
        except (SMTPException, OSError) as error:
            client.close()
            return _broken(connection, error)
        except BaseException:
            client.close()
            raise
        else:
            result = self._classified(connection, *reply)
        if not isinstance(result, Sent) and client.is_connected:
            await _reset(client)
        self._keep(connection)
        return result

    async def _dialog(
        self,
        connection: _SmarthostConnection,
        envelope: SmtpEnvelope,
        options: list[bytes],
        raw: bytes,
    ) -> aiosmtplib.SMTPResponse:
        """Send MAIL, RCPT, DATA and the mail; return the last reply.

        Stops at the first command that the server refuses. ``connection.stage`` names the command
        to which the last reply belongs.
        """
        client = connection.client
        reply = await client.execute_command(b"MAIL", b"FROM:<" + envelope.sender + b">", *options)
        if reply.code == 421 and connection.mails:
            raise _ConnectionStale
        if reply.code // 100 == 2:
            connection.stage = "RCPT"
            reply = await client.execute_command(b"RCPT", b"TO:<" + envelope.recipient + b">")
        if reply.code // 100 == 2:
            connection.stage = "DATA"
            reply = await client.execute_command(b"DATA")
            if reply.code == 354:
                connection.stage = END_OF_DATA
                reply = await self._data(client, raw)
        return reply

    def _classified(self, connection: _SmarthostConnection, code: int, text: str) -> Result:
        reply = cleaned(f"{code} {text}")
        if code in ACCOUNT_CODES:
            _log.error("the smarthost refuses our account", host=self.server.host, reply=code)
            return Deferred(reply, everybody=True)
        if code // 100 == 2 and connection.stage == END_OF_DATA:
            return Sent(reply)
        closing = code == 421 and connection.stage == "MAIL"
        return PermanentFailure(reply) if code // 100 == 5 else Deferred(reply, everybody=closing)

    async def _data(self, client: aiosmtplib.SMTP, raw: bytes) -> aiosmtplib.SMTPResponse:
        """Send the mail, with pauses for other tasks; return the reply.

        Stops sending if the server replies before the end of the mail.
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
            await asyncio.sleep(0)  # start listening before the first byte is sent
            with contextlib.suppress(ConnectionError):  # the reply reports it as well
                for at in range(0, len(stuffed), WRITE_BYTES):
                    if answer.done():
                        client.close()  # the server would read the rest as commands
                        break
                    protocol.write(stuffed[at : at + WRITE_BYTES])
                    await asyncio.sleep(0)
            return await answer
        finally:
            answer.cancel()


def _broken(connection: _SmarthostConnection, error: Exception) -> Result:
    """Return the result of a submission during which the connection broke or timed out."""
    if connection.stage == "MAIL" and connection.mails and isinstance(error, OSError):
        raise _ConnectionStale from None
    if connection.stage == END_OF_DATA:
        return Deferred(f"{_reason(error)} after the end of data; the mail may have been accepted")
    return Deferred(f"{_reason(error)} at {connection.stage}", everybody=connection.stage == "MAIL")


async def _reset(client: aiosmtplib.SMTP) -> None:
    try:
        await client.rset()
    except (SMTPException, OSError):
        client.close()


async def _quit(connection: _SmarthostConnection) -> None:
    with contextlib.suppress(SMTPException, OSError):
        await connection.client.quit(timeout=QUIT_SECONDS)
    connection.client.close()


def _refuse_open_line(client: aiosmtplib.SMTP) -> None:
    """Refuse to send a secret without TLS, except to this machine."""
    if client.get_transport_info("sslcontext") is None and not is_this_machine(
        str(client.get_transport_info("peername")[0])
    ):
        raise _ConnectionUnusable("no password is sent to the smarthost without TLS")


def _reason(error: BaseException) -> str:
    """Return the cause of an error in a few words, without mail addresses."""
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
        case OSError(strerror=str() as message):
            return message.lower()
        case UnicodeError():
            return "invalid host name"
        case _:
            return "the connection was lost"
