"""SMTP for incoming mail: the commands, on top of aiosmtpd's protocol class, and the server that
listens for them.

From aiosmtpd come the syntax of MAIL, RCPT, RSET, NOOP and EXPN, its hooks, and the reader of PROXY
headers. Ours are DATA, STARTTLS, the loop that reads commands (:mod:`gateway.ingress.smtp.session`)
and the construction, since the stock ones cancel a running commit when the client leaves, read DATA
line by line, answer an internal error with its text, and take 0.6 ms to build. What can go wrong:
another version of aiosmtpd; a test holds it to what is used here.
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

BORROWED = (  # the attributes of aiosmtpd's instances that its methods need where we call them
    "_auth_required",
    "_decode_data",
    "_handle_hooks",
    "data_size_limit",
    "enable_SMTPUTF8",
    "event_handler",
    "hostname",
    "loop",
)
_numbers = count(1)
_FAULTS: dict[Fault, str] = {
    "bare_newline": "550 5.5.2 Lines of mail end with CR LF, not with CR or LF alone",
    "too_large": "552 5.3.4 The mail is too large",
    "endless": "552 5.3.4 The mail is too large",
    "hops": "554 5.4.6 Too many hops, this mail is in a loop",
}


class SMTP(SessionProtocol, base.SMTP):
    """One SMTP session."""

    source: ClassVar[Any] = "smtp"
    commands: ClassVar[dict[bytes, Any]] = {}

    def __init__(self, prototype: dict[str, Any], register: SessionRegistry) -> None:
        """``prototype`` stands for aiosmtpd's constructor, see :func:`prototype_of`."""
        self.__dict__.update(prototype)
        SessionProtocol.__init__(self, register)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """The address and the parameters of MAIL and RCPT; the parser of the base class takes 0.2
        ms and lets control characters through.
        """
        return parse_path(arg) or (None, None)

    async def _read_proxy(self) -> bool:
        """Takes the client's address from the PROXY header, version 1 or 2, of a peer that is
        allowed to send one.
        """
        proxy = await get_proxy(self.inlet)
        if not proxy.valid:
            maillog.refused(source=self.source, reason_code="proxy_header", peer=self.host)
            return False
        if proxy.src_addr and proxy.command != V2_CMD.LOCAL:  # LOCAL: the proxy speaks for itself
            self.host = str(proxy.src_addr)
        return True

    async def smtp_HELO(self, hostname: str | None) -> None:
        """RFC 5321 4.1.1.1, without extensions."""
        if await self._introduce(hostname, "HELO"):
            self.session.extended_smtp = False
            await self.push(b"250 " + self.hostname.encode())

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """RFC 5321 4.1.1.1: what we can do. AUTH is not among it, since nobody signs in to deliver
        mail to us.
        """
        if await self._introduce(hostname, "EHLO"):
            self.session.extended_smtp = True
            await self.push(
                self.ehlo_tls
                if self.service.certificate is not None and not self.tls
                else self.ehlo
            )

    async def _introduce(self, hostname: str | None, command: str) -> bool:
        if not hostname:
            await self.push(f"501 5.5.4 Syntax: {command} hostname")
            return False
        self.envelope = self._create_envelope()
        self.session.host_name = hostname[:255]
        return True

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """RFC 3207: what was sent before the handshake is never executed after it, and the session
        begins anew.
        """
        if self.service.certificate is None or self.tls:
            await self.push(
                "502 5.5.1 TLS is not available"
                if not self.tls
                else "503 5.5.1 TLS is already there"
            )
            return
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
            return
        await self.push("220 2.0.0 Go ahead")
        await self._flush()
        if self.transport is None:
            return
        self.inlet.begin_tls()
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
        self.inlet.attach(transport)
        tls = transport.get_extra_info("ssl_object")
        self.tls = f"{tls.version()} with cipher {tls.cipher()[0]}"
        self.session, self.envelope = self._create_session(), self._create_envelope()
        self.state = "command"

    async def smtp_DATA(self, arg: str | None) -> None:
        """Receives one mail and hands it to the door; 250 is said when it is durable, and never
        before.
        """
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos or arg:
            await self.push("503 5.5.1 Send RCPT first" if not arg else "501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        await self._flush()
        envelope, data = self._facts(), self._mail_data()
        try:
            await self._receive(data)
            replies = await self._store(data, envelope)
        finally:
            await data.abandon()
            self.state = "command"
        self.mails += 1
        self.envelope = self._create_envelope()
        if data.fault in ("bare_newline", "endless"):
            self._leaving = True
        for reply in replies:
            await self.push(reply)

    def _facts(self) -> Envelope:
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
        )

    def _mail_data(self) -> MailData:
        limits = self.service.limits
        head = received(
            helo=self.session.host_name,
            host=self.host,
            hostname=self.hostname,
            protocol=self._protocol(),
            tls=self.tls,
            number=f"{next(_numbers):x}.{new_error_id()}",
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
        """The word for the Received field (RFC 3848, RFC 6531 4.3)."""
        if not self.session.extended_smtp:
            return "SMTP"
        return f"{'UTF8' if self.envelope.smtp_utf8 else 'E'}SMTP{'S' if self.tls else ''}"

    async def _receive(self, data: MailData) -> None:
        """Feeds ``data`` until the end of the mail, or until the session is beyond repair; raises
        EndOfInput when the client goes.
        """
        began = self.loop.time()
        self._window = (began, self._received)
        self.state = "data"
        while True:
            chunk = self.inlet.take()
            if not chunk:
                if self.inlet.paused:
                    await self.register.turns.wait()
                await self.inlet.more()
                continue
            if len(chunk) > HIGH_WATER:
                await self.register.turns.wait()
            rest = data.feed(chunk)
            if rest is not None:
                self.inlet.give_back(rest)
                break
            if data.fault in ("bare_newline", "endless"):
                break
            if data.full:
                self.state = "commit"  # the client is not to blame for our disk
                await data.relieve()
                self.state = "data"
        self._in_data += self.loop.time() - began

    async def _store(self, data: MailData, envelope: Envelope) -> list[str]:
        """Commits the mail; returns the replies. An error here is an answer too, since the mail was
        received to its end.
        """
        self.state = "commit"
        try:
            raw = await data.finish()
            if data.fault is not None:
                maillog.refused(source=self.source, reason_code=data.fault, peer=self.host)
                return self._answers(_FAULTS[data.fault])
            receipt = await self.service.accept.accept(raw, envelope)
        except Exception as error:  # noqa: BLE001 - reliability.md 1, item 4
            error_id = new_error_id()
            maillog.failed(source=self.source, error_id=error_id, exc=error)
            return self._answers(reply_to_error(error, error_id))
        return self._answers(f"250 2.0.0 Queued as {receipt.mail_id}")

    def _answers(self, reply: str) -> list[str]:
        """SMTP answers once for all recipients."""
        return [reply]

    async def smtp_QUIT(self, _arg: str | None) -> None:
        """RFC 5321 4.1.1.10."""
        await self.quit()

    async def smtp_VRFY(self, _arg: str | None) -> None:
        """Tells nobody which addresses exist (RFC 5321 3.5.3)."""
        await self.push("252 2.0.0 Send the mail, then you will see")

    async def smtp_HELP(self, _arg: str | None) -> None:
        """Neither HELP, nor BDAT (RFC 3030), nor AUTH (RFC 4954)."""
        await self.push("502 5.5.1 Not implemented")

    smtp_BDAT = smtp_HELP
    smtp_AUTH = smtp_HELP


def commands_of(protocol: type[SessionProtocol]) -> dict[bytes, Any]:
    """The commands a protocol class knows, by name."""
    return {
        name.removeprefix("smtp_").encode(): getattr(protocol, name)
        for name in dir(protocol)
        if name.startswith("smtp_")
    }


SMTP.commands = commands_of(SMTP)


def prototype_of(
    service: ListenerSettings, loop: asyncio.AbstractEventLoop, *, word: str
) -> dict[str, Any]:
    """The state with which each protocol object begins: what aiosmtpd's constructor makes, done
    once, and texts that never change.
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
        **{name: vars(stock)[name] for name in BORROWED},
        "banner": f"220 {service.name} {word} ticketgate\r\n".encode(),
        "ehlo": _listing(service.name, extensions),
        "ehlo_tls": _listing(service.name, ["STARTTLS", *extensions]),
    }


def _listing(name: str, extensions: list[str]) -> bytes:
    lines = [name, *extensions]
    return "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines).encode()


class SmtpServer(SmtpListeners):
    """SMTP on the given addresses."""

    protocol: ClassVar[type[SMTP]] = SMTP
    word: ClassVar[str] = "ESMTP"

    def __init__(self, listen: Sequence[str], service: ListenerSettings) -> None:
        """``listen`` holds ``host:port``; port 0 lets the system choose. Nothing is opened before
        :meth:`start`.
        """
        self._service = service
        self._prototype: dict[str, Any] = {}
        super().__init__(
            listen,
            SessionRegistry(service, self.protocol.source),
            lambda: self.protocol(self._prototype, self._register),
        )

    async def start(self) -> None:
        """See :meth:`SmtpListeners.start`. What a crash left of mails that were being received is removed
        first.
        """
        await asyncio.to_thread(remove_leftovers, self._service.accept.directory)
        self._prototype = prototype_of(self._service, asyncio.get_running_loop(), word=self.word)
        await super().start()
