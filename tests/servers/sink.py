"""A smarthost for tests, on aiosmtpd: keeps all mail, and refuses, stalls or stops on demand.

It runs in the loop of the test (``async with Sink() as sink``), or in a thread for commands and
daemons (``with sink_thread() as sink``).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult

from tests.servers.certificates import Pair
from tests.servers.loop import Loop

DROP, STALL = "drop", "stall"


@dataclass(frozen=True, slots=True)
class Caught:
    """A complete transaction: envelope, MAIL parameters, unstuffed content, client and TLS."""

    sender: str
    recipient: str
    options: tuple[str, ...]
    raw: bytes
    user: str | None
    tls: bool


@dataclass
class Sink:
    """The server. Tests change its fields while it runs.

    Lists of answers are used up one a command, "" accepts. ``mails`` were accepted, or had their
    end of data before the connection ended; ``tried`` counts recipients at RCPT.
    """

    tls: Pair | None = None
    implicit: bool = False  # TLS from the first byte
    needs_tls: bool = False  # STARTTLS before anything else
    needs_login: bool = False
    utf8: bool = False
    users: dict[str, str] = field(default_factory=dict)  # name -> password
    tokens: dict[str, str] = field(default_factory=dict)  # name -> the valid access token
    mechanisms: frozenset[str] = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})
    greeting: str = ""  # instead of 220
    at_mail: list[str] = field(default_factory=list)
    at_recipient: dict[str, str] = field(
        default_factory=dict
    )  # the answer to this recipient, always
    greylist: int = 0  # this many first attempts of each recipient get 451
    at_data: list[str] = field(default_factory=list)  # an answer, or DROP, or STALL
    port: int = 0
    mails: list[Caught] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)
    logins: list[tuple[str, str, str]] = field(default_factory=list)  # mechanism, name, secret
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0
    arrived: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # set by each mail; a test clears it
    left: asyncio.Event = field(default_factory=asyncio.Event)  # set when a connection has ended
    go_on: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # stalled commands are answered once it is set
    _server: asyncio.Server | None = None
    _open: set[_Session] = field(default_factory=set)

    async def start(self) -> None:
        """Listen on the loopback, on the port used before if there was one."""
        loop = asyncio.get_running_loop()
        context = self._context() if self.implicit else None
        self._server = await loop.create_server(
            lambda: self._session(loop), "127.0.0.1", self.port, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on and end those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.hang_up()

    def hang_up(self) -> None:
        """End every open connection without a reply."""
        for session in list(self._open):
            if session.transport is not None:
                session.transport.abort()  # type: ignore[attr-defined]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _context(self) -> ssl.SSLContext:
        assert self.tls is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        return context

    def _session(self, loop: asyncio.AbstractEventLoop) -> _Session:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some tests need AUTH without TLS
            return _Session(
                _Handler(self),
                loop=loop,
                hostname="sink.example",
                enable_SMTPUTF8=self.utf8,
                tls_context=self._context() if self.tls is not None and not self.implicit else None,
                require_starttls=self.needs_tls,
                auth_required=self.needs_login,
                auth_require_tls=False,
                auth_exclude_mechanism={"PLAIN", "LOGIN", "XOAUTH2"} - self.mechanisms,
                authenticator=self._known,
            )

    def _known(
        self, _server: object, _session: object, _envelope: object, mechanism: str, data: Any
    ) -> AuthResult:
        name, secret = data.login.decode(), data.password.decode()
        self.logins.append((mechanism, name, secret))
        return AuthResult(success=self.users.get(name) == secret, handled=False, auth_data=data)


class _Session(SMTP):
    """One connection."""

    def __init__(self, handler: _Handler, **options: Any) -> None:
        super().__init__(handler, **options)
        self.sink = handler.sink
        self.encrypted = self.sink.implicit

    def connection_made(self, transport: Any) -> None:
        if self not in self.sink._open:
            self.sink._open.add(self)
            self.sink.connections += 1
            self.sink.most_at_once = max(self.sink.most_at_once, len(self.sink._open))
        else:
            self.encrypted = True  # again, after STARTTLS
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.sink._open.discard(self)
        self.sink.left.set()
        super().connection_lost(error)

    async def push(self, status: Any) -> None:
        if self.sink.greeting and str(status).startswith("220 sink.example"):
            status = self.sink.greeting
        await super().push(status)


class _Handler:
    """The handler of commands for aiosmtpd."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    # the name is the mechanism
    async def auth_XOAUTH2(self, server: Any, arguments: list[str]) -> AuthResult:  # noqa: N802
        name, bearer = base64.b64decode(arguments[1]).decode().split("\1")[:2]
        name, token = name.removeprefix("user="), bearer.removeprefix("auth=Bearer ")
        self.sink.logins.append(("XOAUTH2", name, token))
        if self.sink.tokens.get(name) == token:
            return AuthResult(success=True)
        await server.push("334 " + base64.b64encode(b'{"status":"400"}').decode())
        await server._reader.readline()
        return AuthResult(success=False, handled=False)

    async def handle_MAIL(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        self.sink.commands.append("MAIL")
        answer = self.sink.at_mail.pop(0) if self.sink.at_mail else ""
        if answer:
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        sink = self.sink
        sink.commands.append("RCPT")
        sink.tried[address] += 1
        if sink.tried[address] <= sink.greylist:
            return "451 4.7.1 Greylisted, come back later"
        if address in sink.at_recipient:
            return sink.at_recipient[address]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_RSET(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802
        self.sink.commands.append("RSET")
        return "250 OK"

    async def handle_QUIT(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802
        self.sink.commands.append("QUIT")
        return "221 2.0.0 Bye"

    async def handle_DATA(self, server: _Session, session: Any, envelope: Any) -> str:  # noqa: N802
        sink = self.sink
        sink.commands.append("DATA")
        answer = sink.at_data.pop(0) if sink.at_data else ""
        if answer in ("", DROP, STALL):
            user = sink.logins[-1][1] if session.authenticated else None
            sender = (
                "" if envelope.mail_from == "<>" else envelope.mail_from
            )  # aiosmtpd's value of the null path
            recipients, options = ",".join(envelope.rcpt_tos), tuple(envelope.mail_options)
            caught = Caught(sender, recipients, options, envelope.content, user, server.encrypted)
            sink.mails.append(caught)
            sink.arrived.set()
        if answer == DROP:
            server.transport.abort()
        elif answer == STALL:
            await sink.go_on.wait()
        elif answer:
            return answer
        return f"250 2.0.0 taken as {len(sink.mails)}"


@contextmanager
def sink_thread(**options: Any) -> Iterator[Sink]:
    """Run a sink in a thread beside the test."""
    loop = Loop()
    try:
        sink = loop.run(_made(options))
        yield sink
        loop.run(sink.stop())
    finally:
        loop.close()


async def _made(options: dict[str, Any]) -> Sink:
    sink = Sink(**options)
    await sink.start()
    return sink
