"""Report the state of the daemon for ``/readyz`` and ``/metrics``, without changing anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from config.settings import Settings
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.ingress.imap.account import accounts
from gateway.ingress.imap.health import MailboxHealth, mailbox_health
from gateway.oauth.tokens import Tokens
from gateway.store.engine import Database
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.queues import backlog
from gateway.store.queues.spool import Spool
from gateway.web.health import HealthReport
from gateway.web.metrics import Figure


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The state of the database, of waiting mail and of mailboxes; each call reads it anew."""

    settings: Settings
    clock: Clock
    database: Database
    spool: Spool
    tokens: Tokens

    async def check(self) -> HealthReport:
        """Return "ok" or a short error for each part and each mailbox."""
        try:
            await self.spool.pending_count()
            mailboxes = {each.name: each.detail or "ok" for each in await self._mailboxes()}
        except Unavailable as error:
            return HealthReport({"database": error.message})
        return HealthReport({"database": "ok"}, mailboxes)

    async def measure(self) -> list[Figure]:
        """Return the figures of ``/metrics``; Unavailable when the database does not answer."""
        now = self.clock.now()
        pending = Figure(
            "ticketgate_spool_pending_mails",
            "Mails accepted and not yet processed",
            await self.spool.pending_count(),
        )
        waiting = [
            Figure(f"ticketgate_{name}", meaning, number)
            for name, (meaning, number) in (await backlog.counts(self.database, now)).items()
        ]
        mailboxes = [
            figure for each in await self._mailboxes() for figure in _mailbox_figures(each, now)
        ]
        return [pending, *waiting, *mailboxes]

    async def _mailboxes(self) -> list[MailboxHealth]:
        given = accounts(self.settings)
        if not given:
            return []
        return await mailbox_health(given, Mailboxes(self.database), self.tokens, self.clock.now())


def _mailbox_figures(health: MailboxHealth, now: datetime) -> list[Figure]:
    """Return the figures of one mailbox."""
    failing = (now - health.since).total_seconds() if health.since is not None else 0.0
    last_pass = health.last_pass_at.timestamp() if health.last_pass_at is not None else 0.0
    figures = (
        ("up", "1 while the mailbox can be read", float(health.state in ("ok", "warning"))),
        (
            "warning",
            "1 while the mailbox can be read but needs attention",
            float(health.state == "warning"),
        ),
        ("refused", "1 while the server or provider refuses us", float(health.state == "refused")),
        ("failing_seconds", "Seconds since the mailbox could last be read", failing),
        (
            "last_pass_timestamp_seconds",
            "Unix time of the last pass that took in all mail",
            last_pass,
        ),
        ("owed_mails", "Mails in the mailbox that cannot be fetched", float(health.owed)),
    )
    labels = {"mailbox": health.name}
    return [
        Figure(f"ticketgate_mailbox_{name}", meaning, value, labels)
        for name, meaning, value in figures
    ]
