"""One pass of all that a daemon does, again until nothing is due: for ``agenda run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.cli.opening import Opened

MOST_PASSES = 10_000  # more would mean that work makes itself anew


async def passes(opened: Opened) -> list[dict[str, Any]]:
    """What was done, in order: mail in, then what is due, then mail out, until a pass finds nothing."""
    done: list[dict[str, Any]] = []
    agenda, outbox, webhooks = opened.agenda(), opened.outbox(), opened.webhooks()
    try:
        for _ in range(MOST_PASSES):
            found = [*await _mail_in(opened), *(_row(each.what, each.ticket, each.detail) for each in await agenda.run_due())]
            found += [_row("mail out", each.ticket, f"{each.recipient}: {each.state}. {each.reply}") for each in await outbox.run_due()]
            found += [_row("webhook", each.ticket, f"{each.state}. {each.reply}") for each in await webhooks.run_due()]
            if not found:
                break
            done += found
    finally:
        await outbox.close()
    return done


def _row(what: str, ticket: int | None, detail: str) -> dict[str, Any]:
    return {"what": what, "ticket": ticket, "detail": detail}


async def _mail_in(opened: Opened) -> list[dict[str, Any]]:
    spool = await opened.spool()
    if not await spool.pending_count():
        return []
    rows = await (await opened.intake()).drain()
    return [
        {
            "what": "mail in",
            "ticket": row.ticket,
            "detail": f"{row.state}. {row.reason}",
            "mail": row.mail_id,
            "state": row.state,
            "reason": row.reason,
        }
        for row in rows
    ]
