"""SMTP for incoming mail: the commands, on top of aiosmtpd's protocol class, and the server.

aiosmtpd supplies the syntax of MAIL, RCPT, RSET, NOOP and EXPN, its hooks, and the PROXY parser.
The handlers of DATA and STARTTLS, the command loop (:mod:`gateway.ingress.smtp.session`) and the
constructor are ours. With those of aiosmtpd, mail would be read line by line, a running commit
would be cancelled when the client leaves, replies would quote internal errors, and each session
would take 0.6 ms to build. A test checks what we use of aiosmtpd.
"""
# ruff: noqa: N802, N815 - the names of commands are aiosmtpd's

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, cast

from aiosmtpd import smtp as base
from aiosmtpd.proxy_protocol import V2_CMD, get_proxy

from core.model.message import Envelope
from gateway import maillog
from gateway.ingress.smtp.addresses import NULL_PATH, parse_path
from gateway.ingress.smtp.data import MailData
from gateway.ingress.smtp.input_buffer import HIGH_WATER
from gateway.ingress.smtp.policy import Policy
from gateway.ingress.smtp.received_header import received
from gateway.ingress.smtp.replies import new_error_id, reply_to_error
from gateway.ingress.smtp.server import ListenerSettings, SessionRegistry, SmtpListeners
from gateway.ingress.smtp.session import SessionProtocol
from gateway.ingress.spool_files import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.ingress.smtp.data import Fault

AIOSMTPD_ATTRIBUTES = (  # used by the methods of aiosmtpd that we call
    "_auth_required",
    "_decode_data",
    "_handle_hooks",
    "data_size_limit",
    "enable_SMTPUTF8",
    "event_handler",
    "hostname",
    "loop",
)
_trace_ids = count(1)
_FAULTS: dict[Fault, str] = {
    "bare_newline": "550 5.5.2 Lines must end with CR LF; bare CR or LF is not allowed",
    "too_large": "552 5.3.4 The mail is too large",
    "endless": "552 5.3.4 The mail is too large",
    "hops": "554 5.4.6 Too many hops, possible mail loop",
}


class SMTP(SessionProtocol, base.SMTP):
    """One SMTP session.

    It is a subclass of aiosmtpd's class to inherit the methods for MAIL, RCPT and others.
    SessionProtocol comes first so that its transport callbacks replace those of aiosmtpd.
    """

    source: ClassVar[Any] = "smtp"
    commands: ClassVar[dict[bytes, Any]] = {}

    def __init__(self, prototype: dict[str, Any], registry: SessionRegistry) -> None:
        """Copy the ``prototype`` of :func:`prototype_of`; aiosmtpd's constructor is not run."""
        self.__dict__.update(prototype)
        SessionProtocol.__init__(self, registry)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Return address and parameters of MAIL and RCPT.

        This replaces aiosmtpd's parser, which takes 0.2 ms and accepts control characters.
        """
        return parse_path(arg) or (None, None)

    async def _read_proxy(self) -> bool:
        """Take the client's address from the PROXY header (version 1 or 2) of a trusted proxy."""
        proxy = await get_proxy(self.input_buffer)
        if not proxy.valid:
            maillog.refused(source=self.source, reason_code="proxy_header", peer=self.host)
            return False
        if proxy.src_addr and proxy.command != V2_CMD.LOCAL:  # LOCAL: the proxy speaks for itself
            self.host = str(proxy.src_addr)
        else:
            self.hidden = True
        return True

    async def smtp_HELO(self, hostname: str | None) -> None:
        """Handle HELO (RFC 5321, 4.1.1.1), which offers no extensions."""
        if await self._begin_session(hostname, "HELO"):
            self.session.extended_smtp = False
            await self.push(b"250 " + self.hostname.encode())

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """Handle EHLO (RFC 5321, 4.1.1.1); AUTH is not offered, since nobody signs in here."""
        if await self._begin_session(hostname, "EHLO"):
            self.session.extended_smtp = True
            offers_tls = self.service.certificate is not None and not self.tls
            await self.push(self.ehlo_tls if offers_tls else self.ehlo)

    async def _begin_session(self, hostname: str | None, command: str) -> bool:
        if not hostname:
            await self.push(f"501 5.5.4 Syntax: {command} hostname")
            return False
        self.envelope = self._create_envelope()
        self.session.host_name = hostname[:255]
        return True

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """Handle STARTTLS (RFC 3207): reset the session, and drop input that came before."""
        if self.service.certificate is None or self.tls:
            await self.push(
                "502 5.5.1 TLS is not available"
                if not self.tls
                else "503 5.5.1 TLS is already active"
            )
            return
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
            return
        await self.push("220 2.0.0 Go ahead")
        await self._flush()
        if self.transport is None:
            return
        self.input_buffer.begin_tls()
        self.state, self.since = "greeting", self.loop.time()
        transport = await self.loop.start_tls(
            cast("asyncio.Transport", self.transport),
            self,
            self.service.certificate.context(),
            server_side=True,
            ssl_handshake_timeout=self.service.limits.handshake_seconds,
        )
        if transport is None:
            raise ConnectionAbortedError
        self.transport = transport
        self.input_buffer.attach(transport)
        tls = transport.get_extra_info("ssl_object")
        self.tls = f"{tls.version()} with cipher {tls.cipher()[0]}"
        self.session, self.envelope = self._create_session(), self._create_envelope()
        self.state = "command"

    async def smtp_DATA(self, arg: str | None) -> None:
        """Receive one mail and have it stored; reply 250 only once it is durable."""
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos or arg:
            await self.push("503 5.5.1 Send RCPT first" if not arg else "501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        await self._flush()
        envelope, data = self._mail_envelope(), self._mail_data()
        try:
            await self._receive(data)
            replies = await self._store(data, envelope)
        finally:
            await data.abandon()
            self.state = "command"
        self.mails += 1
        self.envelope = self._create_envelope()
        if data.fault in ("bare_newline", "endless"):
            self._ending = True
        for reply in replies:
            await self.push(reply)

    def _mail_envelope(self) -> Envelope:
        sender = self.envelope.mail_from
        return Envelope(
            sender="" if sender == NULL_PATH else sender,
            recipients=tuple(dict.fromkeys(self.envelope.rcpt_tos)),
            source=self.source,
            received_at=self.service.clock.now(),
            peer=self.host,
            helo=self.session.host_name,
            tls=self.tls,
            trusted_hop=self.trusted,
            listed_peer=not self.hidden and self.host in self.service.listed,
        )

    def _mail_data(self) -> MailData:
        limits = self.service.limits
        head = received(
            helo=self.session.host_name,
            host=self.host,
            hostname=self.hostname,
            protocol=self._protocol(),
            tls=self.tls,
            number=f"{next(_trace_ids):x}.{new_error_id()}",
            now=self.service.clock.now(),
        )
        normalize = self.trusted and self.service.bare_newline == "normalize"
        return MailData(
            head,
            self.service.accept.directory,
            limit=limits.message_bytes,
            hops=limits.hops,
            normalize=normalize,
        )

    def _protocol(self) -> str:
        """Return the protocol name for the Received field (RFC 3848, RFC 6531, 4.3)."""
        if not self.session.extended_smtp:
            return "SMTP"
        return f"{'UTF8' if self.envelope.smtp_utf8 else 'E'}SMTP{'S' if self.tls else ''}"

    async def _receive(self, data: MailData) -> None:
        """Feed ``data`` until the mail ends or reading fails; EndOfInput if the client leaves."""
        began = self.loop.time()
        self._window, self._received_before = (began, self._received), self._received
        self.state = "data"
        while True:
            chunk = self.input_buffer.take_all()
            if not chunk:
                if self.input_buffer.paused:
                    await self.registry.throttle.wait()
                await self.input_buffer.wait_for_data()
                continue
            if len(chunk) > HIGH_WATER:
                await self.registry.throttle.wait()
            rest = data.feed(chunk)
            if rest is not None:
                self.input_buffer.push_back(rest)
                break
            if data.fault in ("bare_newline", "endless"):
                break
            if data.full:
                self.state = "commit"  # our disk's time does not count against the client
                await data.relieve()
                self.state = "data"
        self._in_data += self.loop.time() - began

    async def _store(self, data: MailData, envelope: Envelope) -> list[str]:
        """Store the mail and return the replies; an error is returned as a reply, not raised."""
        self.state = "commit"
        try:
            raw = await data.finish()
            if data.fault is not None:
                maillog.refused(source=self.source, reason_code=data.fault, peer=self.host)
                return self._replies_for(_FAULTS[data.fault])
            receipt = await self.service.accept.accept(raw, envelope)
        except Exception as error:  # noqa: BLE001 - reliability.md 4
            error_id = new_error_id()
            maillog.failed(source=self.source, error_id=error_id, exc=error)
            return self._replies_for(reply_to_error(error, error_id))
        self.last_mail_at, self.commands_without_mail = self.loop.time(), 0
        return self._replies_for(f"250 2.0.0 Queued as {receipt.mail_id}")

    def _replies_for(self, reply: str) -> list[str]:
        """Return the single reply for all recipients."""
        return [reply]

    async def smtp_QUIT(self, _arg: str | None) -> None:
        """Handle QUIT (RFC 5321, 4.1.1.10)."""
        await self.quit()

    async def smtp_VRFY(self, _arg: str | None) -> None:
        """Handle VRFY without telling which addresses exist (RFC 5321, 3.5.3)."""
        await self.push("252 2.0.0 Cannot verify addresses; send the mail to find out")

    async def smtp_HELP(self, _arg: str | None) -> None:
        """Refuse HELP, BDAT (RFC 3030) and AUTH (RFC 4954)."""
        await self.push("502 5.5.1 Not implemented")

    smtp_BDAT = smtp_HELP
    smtp_AUTH = smtp_HELP


def commands_of(protocol: type[SessionProtocol]) -> dict[bytes, Any]:
    """Return the command methods of a protocol class by name."""
    return {
        name.removeprefix("smtp_").encode(): getattr(protocol, name)
        for name in dir(protocol)
        if name.startswith("smtp_")
    }


SMTP.commands = commands_of(SMTP)


def prototype_of(
    service: ListenerSettings, loop: asyncio.AbstractEventLoop, *, word: str
) -> dict[str, Any]:
    """Return the attributes that each protocol object starts with; call this once per listener.

    They are the attributes that aiosmtpd's constructor makes, and the replies that never change.
    """
    stock = base.SMTP(
        Policy(service),
        data_size_limit=service.limits.message_bytes,
        enable_SMTPUTF8=True,
        hostname=service.name,
        ident="ticketgate",
        loop=loop,
    )
    extensions = [
        "PIPELINING",
        f"SIZE {service.limits.message_bytes}",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    ]
    return {
        **{name: vars(stock)[name] for name in AIOSMTPD_ATTRIBUTES},
        "banner": f"220 {service.name} {word} ticketgate\r\n".encode(),
        "ehlo": _listing(service.name, extensions),
        "ehlo_tls": _listing(service.name, ["STARTTLS", *extensions]),
    }


def _listing(name: str, extensions: list[str]) -> bytes:
    lines = [name, *extensions]
    return "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines).encode()


class SmtpServer(SmtpListeners):
    """The SMTP server; it listens on addresses like ``host:port``."""

    protocol: ClassVar[type[SMTP]] = SMTP
    word: ClassVar[str] = "ESMTP"

    def __init__(self, listen: Sequence[str], service: ListenerSettings) -> None:
        """Take ``host:port`` texts; port 0 lets the system choose. :meth:`start` opens them."""
        self._service = service
        self._prototype: dict[str, Any] = {}
        super().__init__(
            listen,
            SessionRegistry(service, self.protocol.source),
            lambda: self.protocol(self._prototype, self._registry),
        )

    async def start(self) -> None:
        """Remove files that a crash left half received, then open the listeners."""
        await asyncio.to_thread(remove_leftovers, self._service.accept.directory)
        self._prototype = prototype_of(self._service, asyncio.get_running_loop(), word=self.word)
        await super().start()
