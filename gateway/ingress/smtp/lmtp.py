"""LMTP (RFC 2033) for an MTA in front of us: as SMTP, but greeted with LHLO, and each recipient
gets his own answer after DATA.

What can go wrong: an MTA that sends mail for many recipients sees some of them fail; it keeps
those. With us all share one commit, so they stand or fall together.
"""
# ruff: noqa: N802 - the names of commands are aiosmtpd's

from __future__ import annotations

from typing import Any, ClassVar

from gateway.ingress.smtp.protocol import SMTP, SmtpServer, commands_of


class LMTP(SMTP):
    """One LMTP session. Whoever may reach this port is part of our own infrastructure, so his spam
    verdict counts.
    """

    source: ClassVar[Any] = "lmtp"
    commands: ClassVar[dict[bytes, Any]] = {}

    async def smtp_LHLO(self, hostname: str | None) -> None:
        """RFC 2033 4.1: what EHLO is to SMTP."""
        await super().smtp_EHLO(hostname)

    def _protocol(self) -> str:
        """RFC 3848, RFC 6531 4.3."""
        return f"{'UTF8' if self.envelope.smtp_utf8 else ''}LMTP{'S' if self.tls else ''}"

    def _answers(self, reply: str) -> list[str]:
        """One reply for each RCPT that was accepted, in their order (RFC 2033 4.2)."""
        return [reply] * len(self.envelope.rcpt_tos)


LMTP.commands = {
    name: method for name, method in commands_of(LMTP).items() if name not in (b"HELO", b"EHLO")
}


class LmtpServer(SmtpServer):
    """LMTP on the given addresses, ``host:port`` or ``unix:/path``."""

    protocol: ClassVar[type[SMTP]] = LMTP
    word: ClassVar[str] = "LMTP"
