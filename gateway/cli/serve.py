"""The ``serve`` command: run the daemon or some of its parts."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from gateway.cli.group import App
from gateway.cli.opening import explained, loaded_as_owner, named_file
from gateway.cli.output import say

app = App("Run the daemon.")


@app.command()
def serve(
    context: typer.Context,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="all|ingress|worker|web",
            help="The part of the daemon to run; may be repeated. Default: all.",
        ),
    ] = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C. Work in progress is finished first."""
    with explained():
        settings = loaded_as_owner(named_file(context)).settings
        from gateway.daemon import serve

        roles = serve.chosen(role or ["all"])
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve.serve(settings, roles, os.environ, announce=_announce))


def _announce(lines: list[str]) -> None:
    for line in lines:
        say(line, flush=True)
