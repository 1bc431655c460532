"""Report the state of the daemon for ``/readyz`` and ``/metrics``, without changing anything.

Each part is tested with what receiving a mail needs, for at most :data:`ANSWER_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from config.settings import Settings
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.ingress.accept import Acceptor
from gateway.ingress.imap.account import accounts
from gateway.ingress.imap.health import MailboxHealth, mailbox_health
from gateway.ingress.spool_files import probe_folder
from gateway.oauth.tokens import Tokens
from gateway.store.engine import Database
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.queues import backlog
from gateway.store.queues.spool import Spool
from gateway.web.health import HealthReport
from gateway.web.metrics import Figure

ANSWER_SECONDS: Final = 5.0
BUSY_PART: Final = "no answer within {seconds:.0f} seconds: it is locked, or its disk is stuck"


@dataclass(slots=True)
class DaemonStatus:
    """The state of store, waiting mail and mailboxes, read anew at each call.

    ``accept`` is given where this process takes in mail.
    """

    settings: Settings
    clock: Clock
    database: Database
    spool: Spool
    tokens: Tokens
    accept: Acceptor | None = None
    seconds: float = ANSWER_SECONDS
    _asked: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)

    async def check(self) -> HealthReport:
        """Return "ok" or a short error for each part and each mailbox."""
        questions = {"database": self._database(), "blobs": self.spool.blobs.probe()}
        if self.accept is not None:
            questions["incoming"] = self._incoming(self.accept)
        answers = await asyncio.gather(
            *(self._answer(part, question) for part, question in questions.items())
        )
        parts = dict(zip(questions, answers, strict=True))
        if self.accept is not None:
            parts["mail"] = self.accept.trouble or "ok"
        if parts["database"] != "ok":
            return HealthReport(parts)
        try:
            mailboxes = {each.name: each.detail or "ok" for each in await self._mailboxes()}
        except Unavailable as error:
            return HealthReport(parts | {"database": error.message})
        return HealthReport(parts, mailboxes)

    async def _answer(self, part: str, question: Coroutine[Any, Any, None]) -> str:
        """Return "ok" or why the part fails; while an earlier test still runs, start no other."""
        running = self._asked.get(part)
        if running is None or running.done():
            running = self._asked[part] = asyncio.create_task(question, name=f"probe {part}")
            running.add_done_callback(_retrieved)  # the answer may come when nobody waits for it
        else:
            question.close()
        await asyncio.wait({running}, timeout=self.seconds)
        if not running.done():
            return BUSY_PART.format(seconds=self.seconds)
        try:
            running.result()
        except Unavailable as error:
            return error.message
        return "ok"

    async def _database(self) -> None:
        await self.database.probe()
        await self.spool.pending_count()

    async def _incoming(self, accept: Acceptor) -> None:
        """Raise the reason why a large mail cannot be received."""
        accept.check_room()
        await asyncio.to_thread(probe_folder, accept.directory)

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


def _retrieved(task: asyncio.Task[None]) -> None:
    """Read the error of a task, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


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
