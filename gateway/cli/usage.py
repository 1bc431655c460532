"""What is wrong with a command line, as one sentence; typer would draw a box of six lines around
its own words.

typer carries its own click, which is private to it, so the kinds of error are known by their names;
one that is not known here is told in the library's words.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.cli.output import visible

EXTRA = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)
NO_COMMAND = re.compile(r"No such command ('.*?')\.(?: Did you mean (.*)\?)?", re.DOTALL)


def is_help(error: Exception) -> bool:
    """Whether the parser ended because a group was called alone: its page was shown already."""
    return type(error).__name__ == "NoArgsIsHelpError"


def sentence(error: Any) -> str:
    """The error of the parser as a line for stderr, with where help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "ticketgate"
    return visible(
        f"ticketgate: {_wrong(error, path.removeprefix('ticketgate '))}; see {path} --help"
    )


def _wrong(error: Any, command: str) -> str:
    param = getattr(error, "param", None)
    match type(error).__name__:
        case "MissingParameter" if param is not None:
            return f"{command} needs {_called(param)}"
        case "BadParameter" if param is not None:
            return f"{command} {_called(param)}: {_misfit(error)}"
        case "NoSuchOption":
            meant = (
                f", but {' and '.join(sorted(error.possibilities))}" if error.possibilities else ""
            )
            return f"{command} has no option {error.option_name!r}{meant}".replace("'", "")
        case "BadOptionUsage":
            return (
                f"{error.option_name} "
                f"{'takes no' if 'not take' in error.message else 'needs a'} value"
            )
        case _:
            return _plain(str(error.message))


def _plain(message: str) -> str:
    """The errors that only differ by their words."""
    if (extra := EXTRA.fullmatch(message)) is not None:
        return f"there is no place for {extra[1]}"
    if (absent := NO_COMMAND.fullmatch(message)) is not None:
        return f"there is no command {absent[1]}" + (f", but {absent[2]}" if absent[2] else "")
    return message.rstrip(".")


def _called(param: Any) -> str:
    """An option by its long name, an argument as the page of help calls it."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.metavar or param.name.upper())


def _misfit(error: Any) -> str:
    """Why a value does not fit. The validator behind typer tells kind and value apart; its own
    sentence leaves the value out.
    """
    told: list[Any] = getattr(error.__cause__, "errors", list)()
    if not told:
        return str(error.message).rstrip(".")
    given, bounds = repr(str(told[0]["input"])), told[0].get("ctx", {})
    match told[0]["type"]:
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"{given} is no number"
        case "greater_than_equal":
            return f"{given} is less than {bounds['ge']}"
        case "less_than_equal":
            return f"{given} is more than {bounds['le']}"
        case _:
            return f"{given}: {told[0]['msg']}"
