"""LMTP (RFC 2033) for an MTA in front of us: LHLO, and a reply per recipient after DATA.

All recipients of a mail share one commit, so they succeed or fail together.
"""
# ruff: noqa: N802 - the names of commands are aiosmtpd's

from __future__ import annotations

from typing import Any, ClassVar

from gateway.ingress.smtp.protocol import SMTP, SmtpServer, commands_of


class LMTP(SMTP):
    """One LMTP session; its client is our own mail server, whose spam verdict is trusted.

    It is a subclass since LMTP is SMTP with another greeting and more replies.
    """

    source: ClassVar[Any] = "lmtp"
    commands: ClassVar[dict[bytes, Any]] = {}

    async def smtp_LHLO(self, hostname: str | None) -> None:
        """Handle LHLO, which is EHLO in LMTP (RFC 2033, 4.1)."""
        await super().smtp_EHLO(hostname)

    def _protocol(self) -> str:
        """Return the protocol name for the Received field (RFC 3848, RFC 6531, 4.3)."""
        return f"{'UTF8' if self.envelope.smtp_utf8 else ''}LMTP{'S' if self.tls else ''}"

    def _replies_for(self, reply: str) -> list[str]:
        """Return one reply per accepted recipient, in order (RFC 2033, 4.2)."""
        return [reply] * len(self.envelope.rcpt_tos)


LMTP.commands = {
    name: method for name, method in commands_of(LMTP).items() if name not in (b"HELO", b"EHLO")
}


class LmtpServer(SmtpServer):
    """The LMTP server; it listens on addresses like ``host:port`` or ``unix:/path``."""

    protocol: ClassVar[type[SMTP]] = LMTP
    word: ClassVar[str] = "LMTP"
