"""``agenda run``: do all due work of a daemon, then end (interfaces.md 2.1).

The work is mail in the spool, scheduled mail, workflow runs, notifications, outgoing mail and
webhooks. It is done again and again until nothing is due. Then the work done is printed.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import AsJson
from gateway.cli.output import count, emit, paragraph, say
from gateway.clock import parse_instant
from gateway.daemon.assemble import Installation

app = App("Run everything that is due, then end.")


@app.callback()
def group() -> None:
    """Run everything that is due, then end."""


UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="ISO-TIME",
        help="Set the clock forward to this time, like 2026-01-31T09:00Z, and do work due by then.",
    ),
]


@app.command("run")
def run_due(context: typer.Context, until: UntilOption = None, as_json: AsJson = False) -> None:
    """Run everything that is due, then end. Useful in cron jobs, and for tests without a daemon."""

    async def act(opened: Installation) -> tuple[list[dict[str, Any]], int]:
        from gateway.cli.agenda_run import run_until_idle

        end = parse_instant(until, "--until") if until is not None else None
        if end is not None:
            opened.clock.set(min(opened.clock.now(), end))
        return await run_until_idle(opened, end), await _mails_without_smarthost(opened)

    ran, waiting = run(context, act)
    if as_json:
        emit({"ran": ran})
        return
    for row in ran:
        where = f" on ticket {row['ticket']}" if row["ticket"] else ""
        say(paragraph(f"{row['what']}{where}: {row['detail']}"))
    say(f"{len(ran)} done, nothing more is due{_waiting(waiting)}")


async def _mails_without_smarthost(opened: Installation) -> int:
    """Return how many mails wait because no smarthost is configured."""
    from gateway.store.queues import backlog

    if opened.settings.outbound.host:
        return 0
    counts = await backlog.counts(opened.database, opened.clock.now())
    return int(counts["outbox_waiting_deliveries"][1])


def _waiting(mails: int) -> str:
    if not mails:
        return ""
    verb = "waits" if mails == 1 else "wait"
    return f"; {count(mails, 'mail')} {verb}: no smarthost is configured ([outbound] host)"
