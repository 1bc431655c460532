"""``ticketgate``: the command line (interfaces.md 2). Each group is a module, imported on use.

Exit codes follow sysexits.h: 0 success, 64 wrong usage, 65 bad data or a refusal, 70 a defect of
the program, 74 output not written, 75 try again later, 78 invalid configuration.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from gateway.cli.group import PARSER_ERROR, App, PlainCommand, PlainGroup
from gateway.cli.output import say

MODULES = {  # command or group: its module, and its line on the first help page
    "serve": ("serve", "Run the daemon."),
    "send-test": ("send_test", "Send one mail through the SMTP port, to try the daemon out."),
    "deliver": ("deliver", "Store one mail from stdin in the spool."),
    "replay": ("replay", "Process .eml files, mboxes and Maildirs."),
    "inspect": ("inspect", "Read mail without storing anything."),
    "config": ("config", "Check and show the configuration."),
    "db": ("db", "Upgrade, check, back up and copy the database."),
    "ticket": ("ticket", "Work on tickets."),
    "pipeline": ("pipeline", "Set up pipelines and their statuses."),
    "channel": ("channel", "Set up channels and their mailboxes."),
    "contact": ("contact", "List, change and erase contacts: the people outside."),
    "workflow": ("workflow", "Set up workflows: actions that run at a status."),
    "template": ("template", "Edit the texts of automatic mail."),
    "user": ("user", "Manage users: the people inside."),
    "mail": ("mail", "Look at incoming mail and process it again."),
    "outbox": ("outbox", "Look at outgoing mail, retry and cancel it."),
    "agenda": ("agenda", "Run everything that is due, then end."),
    "completion": ("completion", "Print a script for completion in a shell."),
}
CALLED = "gateway.cli.main.called"  # key of the context under which the called name is kept
COMPLETION = "_TICKETGATE_COMPLETE"  # set by the script of the shell that asks for completions


class LazyGroup(PlainGroup):
    """A group whose members are imported when they are called, so that commands start quickly."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # typer's signature
        """Return all names, for the help page."""
        return [*MODULES]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Note which command was called, so that a help page does not import every module."""
        ctx.meta[CALLED] = args[0] if args else None
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; only the called one is imported.

        The others have just a name and a line of help.
        """
        if (where := MODULES.get(cmd_name)) is None:
            return None
        if ctx.meta.get(CALLED) != cmd_name:
            return PlainCommand(cmd_name, help=where[1])
        command = get_command(import_module(f"gateway.cli.{where[0]}").app)
        command.name = cmd_name
        return command


app = App("Turn mail into tickets.", cls=LazyGroup)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"ticketgate {version('ticketgate')}")
        raise typer.Exit


@app.callback()
def root(
    config: str | None = typer.Option(
        None, "--config", metavar="FILE", help="The configuration file; give it before the command."
    ),
    version: bool = typer.Option(  # _show_version uses it
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Turn mail into tickets."""


def _print_usage_error(error: Any) -> None:
    from gateway.cli.usage_errors import is_help, sentence

    if is_help(error):
        say(error.message)
    else:
        say(sentence(error), error=True)


def _open_absent_streams() -> None:
    """Use the null device for each standard stream that was closed before the start."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _output_problem(error: Exception) -> str | None:
    """Return why stdout takes no more output; None if stdout is not the cause of the error."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    if isinstance(error, OSError) and error.filename is None and error.errno in full:
        return os.strerror(error.errno)  # an unbuffered stream has nothing left to flush
    try:
        sys.stdout.flush()
    except OSError as found:
        return found.strerror or type(found).__name__
    return None


def _drop_output() -> None:
    """Discard output still in the buffer of stdout, so that Python reports no error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run a command line; exit with 64 for usage errors, with 70 for errors without a code."""
    if COMPLETION in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    _open_absent_streams()
    try:
        code = get_command(app).main(prog_name="ticketgate", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except PARSER_ERROR as error:
        _print_usage_error(error)
        sys.exit(os.EX_USAGE)
    except typer.Abort as error:
        # A prompt that gets no answer leaves its line open; elsewhere typer has ended the line.
        line_end = "" if error.__cause__ is not None else "\n"
        say(f"{line_end}ticketgate: aborted", error=True)
        sys.exit(1)
    except BrokenPipeError:
        _drop_output()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  # printed with its traceback
        if (problem := _output_problem(error)) is not None:
            say(f"ticketgate: cannot write the output: {problem}", error=True)
            _drop_output()
            sys.exit(os.EX_IOERR)
        from traceback import format_exception

        from gateway.errors import exit_code

        say("".join(format_exception(error)), error=True, end="")
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
