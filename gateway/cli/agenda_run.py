"""Do the work of a daemon until nothing is due, for ``agenda run``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.agenda.worker import Agenda
    from gateway.daemon.assemble import Installation
    from gateway.outbox.webhook import Webhooks
    from gateway.outbox.worker import Outbox

MOST_PASSES = 10_000  # at one instant; more would mean that work creates work without end


async def run_until_idle(
    opened: Installation, until: datetime | None = None
) -> list[dict[str, Any]]:
    """Do all due work, again and again until none is left; return the work done, in order.

    If ``until`` is given, set the clock to the next due time and do the due work; repeat this up to
    the time ``until``.
    """
    done: list[dict[str, Any]] = []
    work = _Work(opened, opened.agenda(), opened.outbox(), opened.webhooks())
    try:
        left = MOST_PASSES
        while left:
            found = await work.once()
            done += found
            if found:
                left -= 1
                continue
            left = MOST_PASSES
            due = await work.next_due() if until is not None else None
            if until is None or opened.clock.now() >= until:
                break
            opened.clock.set(min(due or until, until))
    finally:
        await work.outbox.close()
    return done


@dataclass(frozen=True)
class _Work:
    """The workers of a daemon, run one after the other."""

    opened: Installation
    agenda: Agenda
    outbox: Outbox
    webhooks: Webhooks

    async def once(self) -> list[dict[str, Any]]:
        """Run each worker once: incoming mail, the agenda, outgoing mail, webhooks."""
        found = [
            *await _mail_in(self.opened),
            *(_row(each.what, each.ticket, each.detail) for each in await self.agenda.run_due()),
        ]
        found += [
            _row("mail out", each.ticket, f"{each.recipient}: {each.state}. {each.reply}")
            for each in await self.outbox.run_due()
        ]
        found += [
            _row("webhook", each.ticket, f"{each.state}. {each.reply}")
            for each in await self.webhooks.run_due()
        ]
        return found

    async def next_due(self) -> datetime | None:
        """Return the earliest due time after now, or None if nothing is due later.

        Work due now is left out: we have just attempted it, so another process must be doing it.
        """
        workers = (self.agenda, self.outbox, self.webhooks)
        now, found = self.opened.clock.now(), [await each.next_due() for each in workers]
        return min((each for each in found if each is not None and each > now), default=None)


def _row(what: str, ticket: int | None, detail: str) -> dict[str, Any]:
    return {"what": what, "ticket": ticket, "detail": detail}


async def _mail_in(opened: Installation) -> list[dict[str, Any]]:
    spool = await opened.spool()
    if not await spool.pending_count():
        return []
    rows = await (await opened.intake(processes=1)).drain()
    return [
        _row("mail in", row.ticket, f"{row.state}. {row.reason}")
        | {"mail": row.mail_id, "state": row.state, "reason": row.reason}
        for row in rows
    ]
