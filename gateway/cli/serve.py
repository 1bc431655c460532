"""The ``serve`` command: run the daemon, whole or by role."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from config.load import load
from gateway.cli.opening import explained, named_file

app = typer.Typer(help="Run the daemon.")


@app.command()
def serve(
    context: typer.Context,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="all, or one or more of ingress, worker, web."),
    ] = None,
) -> None:
    """Run until SIGTERM or Ctrl-C, then finish what is in hand."""
    with explained():
        settings = load(named_file(context), os.environ).settings
        from gateway.daemon import serve

        roles = serve.chosen(role or ["all"])
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve.serve(settings, roles, os.environ, announce=_announce))


def _announce(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stdout, flush=True)
