"""``agenda run``: one pass of all that a daemon would do until nothing is due (interfaces.md 2.1), for cron and for tests.

Today what can be due is mail in the spool; it returns when each has an outcome and prints what ran.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.opening import Opened, run
from gateway.cli.output import AsJson, emit
from gateway.clock import parse_instant

app = typer.Typer(help="What is due.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """What is due."""


@app.command("run")
def run_due(
    context: typer.Context,
    until: Annotated[str | None, typer.Option("--until", metavar="ISO-TIME", help="Act as if it were this instant.")] = None,
    as_json: AsJson = False,
) -> None:
    """Process everything that is due, once."""

    async def act(opened: Opened) -> list[dict[str, Any]]:
        if until is not None:
            opened.clock.set(parse_instant(until, "--until"))
        done = await (await opened.intake()).drain()
        return [{"mail": row.mail_id, "state": row.state, "ticket": row.ticket, "reason": row.reason} for row in done]

    ran = run(context, act)
    if as_json:
        emit({"ran": ran})
    else:
        for row in ran:
            print(f"mail {row['mail']}: {row['state']}. {row['reason']}")
        print(f"{len(ran)} done, nothing more is due")
