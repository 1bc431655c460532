"""How the daemon is, for ``/readyz`` and ``/metrics``: the database, mail that waits on its way in
and out, mailboxes, runs. It changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """What is looked at."""

    settings: Settings
    clock: Clock
    database: Database
    spool: Spool

    async def check(self) -> HealthReport:
        """How each part is, for ``/readyz``: "ok", or what is wrong in a few words."""
        try:
            await self.spool.pending_count()
            return HealthReport(
                {"database": "ok"},
                {each.name: each.detail or "ok" for each in await self._mailboxes()},
            )
        except Unavailable as error:
            return HealthReport({"database": error.message})

    async def measure(self) -> list[Figure]:
        """The figures of ``/metrics``."""
        found = [
            Figure(
                "ticketgate_spool_pending_mails",
                "Mails that were accepted and not yet processed",
                await self.spool.pending_count(),
            )
        ]
        now = self.clock.now()
        found += [
            Figure(f"ticketgate_{name}", told, number)
            for name, (told, number) in (await backlog.counts(self.database, now)).items()
        ]
        for each in await self._mailboxes():
            about = {"mailbox": each.name}
            failing = (now - each.since).total_seconds() if each.since is not None else 0.0
            seen = each.last_pass_at.timestamp() if each.last_pass_at is not None else 0.0
            found += [
                Figure(
                    "ticketgate_mailbox_up",
                    "1 while the mailbox is read",
                    float(each.state in ("ok", "warning")),
                    about,
                ),
                Figure(
                    "ticketgate_mailbox_warning",
                    "1 while it is read and somebody should look at it",
                    float(each.state == "warning"),
                    about,
                ),
                Figure(
                    "ticketgate_mailbox_refused",
                    "1 while its server or provider refuses us",
                    float(each.state == "refused"),
                    about,
                ),
                Figure(
                    "ticketgate_mailbox_failing_seconds",
                    "For how long it cannot be read",
                    failing,
                    about,
                ),
                Figure(
                    "ticketgate_mailbox_last_pass_timestamp_seconds",
                    "When all of its mail had last been taken in",
                    seen,
                    about,
                ),
                Figure(
                    "ticketgate_mailbox_owed_mails",
                    "Mails in it that cannot be fetched",
                    each.owed,
                    about,
                ),
            ]
        return found

    async def _mailboxes(self) -> list[MailboxHealth]:
        given = accounts(self.settings)
        if not given:
            return []
        return await mailbox_health(
            given, Mailboxes(self.database), Tokens(self.database, self.clock), self.clock.now()
        )
