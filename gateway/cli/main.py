"""``ticketgate``: the command line (interfaces.md 2). Each group of commands is a module of its
own, loaded when it is the one that is called.

Exit codes follow sysexits.h: 0, 64 usage, 65 bad data or refused, 70 software, 75 try again, 78
configuration.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

GROUPS = {
    "config": ("gateway.cli.config", "look at the configuration"),
    "db": ("gateway.cli.db", "migrations, check, backup, copy"),
    "ticket": ("gateway.cli.ticket", "what an agent can do with tickets"),
    "pipeline": ("gateway.cli.pipeline", "pipelines and their statuses"),
    "channel": ("gateway.cli.channel", "the addresses mail comes in at"),
    "contact": ("gateway.cli.contact", "people outside"),
    "workflow": ("gateway.cli.workflow", "what a status does"),
    "template": ("gateway.cli.template", "the words of mails that nobody types"),
    "user": ("gateway.cli.user", "agents"),
    "mail": ("gateway.cli.mail", "every mail that came in, and why it went where it went"),
    "outbox": ("gateway.cli.outbox", "mail going out"),
    "agenda": ("gateway.cli.agenda", "what is due"),
}
COMMANDS = {
    "serve": ("gateway.cli.serve", "run the daemon"),
    "send-test": ("gateway.cli.send_test", "send one mail through the SMTP port, to see it work"),
    "deliver": ("gateway.cli.deliver", "take one mail on stdin into the spool"),
    "replay": ("gateway.cli.replay", "process .eml files, mboxes and Maildirs"),
    "inspect": ("gateway.cli.inspect", "read mail without storing anything"),
}


CALLED = "gateway.cli.main.called"


class Lazy(TyperGroup):
    """A group whose members are imported when they are called, so that each command starts quickly."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature of the library
        """Every name, for the help page."""
        return [*COMMANDS, *GROUPS]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Note which one is called; the help page asks for all of them."""
        ctx.meta[CALLED] = args[0] if args else None
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return the one that is called; of the others only name and line, for the help
        page.
        """
        where = GROUPS.get(cmd_name) or COMMANDS.get(cmd_name)
        if where is None:
            return None
        if ctx.meta.get(CALLED) != cmd_name:
            return TyperCommand(cmd_name, help=where[1])
        command = get_command(import_module(where[0]).app)
        command.name = cmd_name
        command.params = [
            each for each in command.params if each.name not in COMPLETION
        ]  # the shell completes the whole program
        return command


COMPLETION = ("install_completion", "show_completion")
WRONG: Any = (
    typer.BadParameter.__base__
)  # what the parser complains with; the library names only this one of the family
app = typer.Typer(
    cls=Lazy,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Mail becomes tickets.",
)


@app.callback()
def root(
    config: str | None = typer.Option(
        None, "--config", metavar="FILE", help="The configuration file; it must exist."
    ),
) -> None:
    """Mail becomes tickets."""


def main() -> None:
    """The console script. Usage errors are 64, a closed pipe ends quietly, what nobody foresaw is
    70 (or 75, 78 where it is one of ours).
    """
    try:
        code = get_command(app).main(prog_name="ticketgate", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except WRONG as error:
        from gateway.cli.usage import is_help, sentence

        if not is_help(error):
            print(sentence(error), file=sys.stderr)
        sys.exit(os.EX_USAGE)
    except typer.Abort:
        print("ticketgate: aborted", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  # shown whole, and told by the exit code
        from traceback import print_exception

        from gateway.errors import exit_code

        print_exception(error)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
