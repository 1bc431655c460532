"""Decisions at MAIL and RCPT, as hooks that aiosmtpd calls after checking the syntax.

If the directory fails, its error reaches the session, which replies 451, so that no mail is
refused permanently because of a fault of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway import maillog
from gateway.errors import DiskFull
from gateway.ingress.smtp.addresses import NULL_PATH

if TYPE_CHECKING:
    from gateway.ingress.smtp.server import ListenerSettings
    from gateway.ingress.smtp.session import SessionProtocol


class Policy:
    """The handler object of aiosmtpd, one per listener; each hook returns the reply."""

    def __init__(self, service: ListenerSettings) -> None:
        """Take the settings, which hold limits, directory and acceptor."""
        self._service = service

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self,
        server: SessionProtocol,
        _session: object,
        envelope: Any,
        address: str,
        _options: list[str],
    ) -> str:
        """Accept any sender, unless the database is away or the disk is short of space."""
        if not address.isascii() and not envelope.smtp_utf8:
            return "553 5.6.7 A non-ASCII address needs SMTPUTF8"
        try:
            self._service.accept.check_room()
        except DiskFull:
            maillog.refused(source=server.source, reason_code="disk_full", peer=server.host)
            return "452 4.3.1 Not enough disk space, try again later"
        await self._service.directory.check()
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: SessionProtocol,
        _session: object,
        envelope: Any,
        address: str,
        _options: list[str],
    ) -> str:
        """Accept our own addresses only; nothing is relayed (reliability.md 9 and 10)."""
        if address == NULL_PATH:
            return "553 5.1.3 The null address cannot receive mail"
        if not address.isascii() and not envelope.smtp_utf8:
            return "553 5.6.7 A non-ASCII address needs SMTPUTF8"
        if len(envelope.rcpt_tos) >= self._service.limits.recipients:
            return "452 4.5.3 Too many recipients, send the mail again for the others"
        match await self._service.directory.lookup(address):
            case "ours":
                envelope.rcpt_tos.append(address)
                server.commands_without_mail -= 1
                return "250 2.1.5 OK"
            case "unknown":
                server.unknown_recipients += 1
                maillog.refused(
                    source=server.source,
                    reason_code="unknown_recipient",
                    peer=server.host,
                    address=address,
                )
                return "550 5.1.1 No such address here"
            case "foreign":
                server.unknown_recipients += 1
                maillog.refused(
                    source=server.source,
                    reason_code="foreign_recipient",
                    peer=server.host,
                    address=address,
                )
                return "550 5.7.1 Relaying denied"
