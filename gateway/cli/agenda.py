"""``agenda run``: do once all that a daemon would do, for cron and for tests (interfaces.md 2.1).

Spool, scheduled mail, workflow runs, notifications, submission and webhooks, pass after pass until
nothing is due. Returns when each attempt has an outcome, and prints what ran.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import AsJson
from gateway.cli.output import count, emit, paragraph
from gateway.clock import parse_instant
from gateway.daemon.assemble import Installation

app = App("Run everything that is due.")


@app.callback()
def group() -> None:
    """Run everything that is due."""


@app.command("run")
def run_due(
    context: typer.Context,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="ISO-TIME", help="Advance the clock to this instant, step by step."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run everything that is due, once."""

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
        print(paragraph(f"{row['what']}{where}: {row['detail']}"))
    print(f"{len(ran)} done, nothing more is due{_waiting(waiting)}")


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
