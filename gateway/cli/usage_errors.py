"""Print errors of the command line as one sentence that names the help page.

typer has a private copy of click, so errors are told apart by the names of their classes. Errors
that this module does not know keep the message that typer gives them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer

from gateway.cli.opening import explained
from gateway.cli.option_values import HIGHEST
from gateway.cli.output import visible
from gateway.errors import UsageError

EXTRA = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)
NO_COMMAND = re.compile(r"No such command '(.*?)'\..*", re.DOTALL)


@contextmanager
def options_checked(context: typer.Context) -> Iterator[None]:
    """Print errors like :func:`explained`; for a UsageError, also name the help page."""
    with explained():
        try:
            yield
        except UsageError as error:
            raise UsageError(_with_help(error.message, context)) from None


def is_help(error: Exception) -> bool:
    """Return whether a group was called without a command: typer then raises to show the help."""
    return type(error).__name__ == "NoArgsIsHelpError"


def sentence(error: Any) -> str:
    """Return the line to print on stderr for an error of typer's parser."""
    return visible(f"ticketgate: {_with_help(_problem(error), getattr(error, 'ctx', None))}")


def _with_help(message: str, context: Any) -> str:
    path = context.command_path if context is not None else "ticketgate"
    return f"{message} (see {path} --help)"


def _problem(error: Any) -> str:
    param = getattr(error, "param", None)
    match type(error).__name__:
        case "MissingParameter" if param is not None:
            return f"missing {param.param_type_name} {_name(param)}"
        case "BadParameter" if param is not None:
            return f"{_name(param)}: {_value_problem(error)}"
        case "NoSuchOption":
            name = repr(error.option_name)[1:-1]  # without control characters
            return f"unknown option {name}{_guess(error.possibilities or ())}"
        case "BadOptionUsage":
            needs = "takes no" if "not take" in error.message else "needs a"
            return f"option {error.option_name} {needs} value"
        case _:
            return _from_message(error)


def _from_message(error: Any) -> str:
    """Return the words for an error that can be recognised only by its message."""
    message = str(error.message)
    if (extra := EXTRA.fullmatch(message)) is not None:
        words = extra[1].split()
        return f"unexpected argument{'s' * (len(words) > 1)} {', '.join(map(repr, words))}"
    if (absent := NO_COMMAND.fullmatch(message)) is not None:
        return _unknown_command(absent[1], error.ctx)
    return message.rstrip(".")


def _unknown_command(name: str, context: Any) -> str:
    similar = get_close_matches(name, context.command.list_commands(context))
    return f"unknown command {name!r}{_guess(similar)}"


def _guess(similar: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(sorted(similar))}?" if similar else ""


def _name(param: Any) -> str:
    """Return an option by its long name, or an argument by its name on the help page."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.metavar or param.name.upper())


def _value_problem(error: Any) -> str:
    """Return a sentence with the refused value and the reason; pydantic's text lacks the value."""
    problems: list[Any] = getattr(error.__cause__, "errors", list)()
    if not problems:
        return str(error.message).rstrip(".")
    given, bounds = repr(str(problems[0]["input"])), problems[0].get("ctx", {})
    match problems[0]["type"]:
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"{given} is not a number"
        case "greater_than_equal":
            return f"{given} is less than {bounds['ge']}"
        case "less_than_equal":
            return f"{given} is too large" + (
                f", at most {bounds['le']}" if bounds["le"] != HIGHEST else ""
            )
        case _:
            return f"{given}: {problems[0]['msg']}"
