"""``completion SHELL``: print a script that lets a shell complete our commands."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.group import App
from gateway.cli.opening import explained
from gateway.cli.output import say
from gateway.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
app = App("Print a script for completion in a shell.")


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="|".join(SHELLS), help="The shell you use.")],
) -> None:
    """Print a script for completion in a shell, as in: source <(ticketgate completion bash)."""
    from typer._completion_shared import get_completion_script

    with explained():
        if shell not in SHELLS:
            names = f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
            raise UsageError(f"invalid shell {shell!r}: must be {names}")
    say(
        get_completion_script(
            prog_name="ticketgate", complete_var="_TICKETGATE_COMPLETE", shell=shell
        )
    )
