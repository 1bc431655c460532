"""``agenda run``: one pass of all that a daemon would do until nothing is due (interfaces.md 2.1),
for cron and for tests.

Mail in the spool, mails for later, workflow runs, notices, submission to the smarthost, webhooks:
pass after pass until nothing is due. It returns when each attempt has an outcome, and prints what
ran.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.opening import run
from gateway.cli.output import AsJson, emit, paragraph
from gateway.clock import parse_instant
from gateway.daemon.assemble import Installation

app = typer.Typer(help="What is due.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """What is due."""


@app.command("run")
def run_due(
    context: typer.Context,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="ISO-TIME", help="Live through the time up to this instant."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Process everything that is due, once."""

    async def act(opened: Installation) -> tuple[list[dict[str, Any]], str]:
        from gateway.cli.passes import passes
        from gateway.store.queues import backlog

        end = parse_instant(until, "--until") if until is not None else None
        if end is not None:
            opened.clock.set(min(opened.clock.now(), end))
        ran = await passes(opened, end)
        if opened.settings.outbound.host:
            return ran, ""
        _, mails = (await backlog.counts(opened.database, opened.clock.now()))[
            "outbox_waiting_deliveries"
        ]
        return (
            ran,
            f"; {mails:.0f} mails wait: no smarthost is configured ([outbound] host)"
            if mails
            else "",
        )

    ran, waiting = run(context, act)
    if as_json:
        emit({"ran": ran})
    else:
        for row in ran:
            where = f" on ticket {row['ticket']}" if row["ticket"] else ""
            print(paragraph(f"{row['what']}{where}: {row['detail']}"))
        print(f"{len(ran)} done, nothing more is due{waiting}")
