"""Groups and commands with plain help pages, which show what to type for each value.

Pages are text without markup, so ``[[imap]]`` in a sentence is printed as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

F = TypeVar("F", bound=Callable[..., Any])
HELP = {"help_option_names": ["-h", "--help"]}
PARSER_ERROR: Any = typer.BadParameter.__base__  # click's UsageError, which typer does not export


def _record(param: Any) -> tuple[str, str]:
    """Return the left and the right column of an option or argument on a help page."""
    default = param.default
    text = (param.help or "") + (
        f" Default: {default}." if default not in (None, "", False) else ""
    )
    if param.param_type_name != "option":
        return param.metavar, text
    names = ", ".join(sorted(param.opts, key=len))
    left = names if param.is_flag else f"{names} {param.metavar}"
    return left, f"{text} Required." if param.required else text


def _usage(command: Any, ctx: Any) -> list[str]:
    """Return what follows the command in the usage line: arguments and required options."""
    return [*filter(None, map(_usage_word, command.get_params(ctx))), "[OPTIONS]"]


def _usage_word(param: Any) -> str:
    """Return the text for an argument or a required option; "" for any other option."""
    if param.param_type_name == "argument":
        return str(param.metavar) if param.required else f"[{param.metavar}]"
    return f"{max(param.opts, key=len)} {param.metavar}" if param.required else ""


def _write_params(command: Any, ctx: Any, formatter: Any) -> None:
    params = command.get_params(ctx)
    for heading, kind in (("Arguments", "argument"), ("Options", "option")):
        rows = [_record(each) for each in params if each.param_type_name == kind]
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)


@contextmanager
def _context_known(ctx: Any) -> Iterator[None]:
    """Give parser errors the context of the command, unless they have a context."""
    try:
        yield
    except PARSER_ERROR as error:
        error.ctx = error.ctx or ctx
        raise


class PlainCommand(TyperCommand):
    """A command with a plain help page."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line."""
        return _usage(self, ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; errors carry the context of this command."""
        with _context_known(ctx):
            return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        _write_params(self, ctx, formatter)


class PlainGroup(TyperGroup):
    """A group of commands with a plain help page."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002  # typer's signature
        """Return the usage line."""
        return ["[OPTIONS]", "COMMAND ..."]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; errors carry the context of this command."""
        with _context_known(ctx):
            return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, then commands."""
        _write_params(self, ctx, formatter)
        self.format_commands(ctx, formatter)


PLAIN: dict[str, Any] = {
    "cls": PlainGroup,
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}


class App(typer.Typer):
    """The commands of one module; ``text`` is the first sentence of their help page."""

    def __init__(self, text: str, **settings: Any) -> None:
        super().__init__(**PLAIN | settings, help=text, context_settings=HELP)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Register a function as a command."""
        return super().command(name, cls=PlainCommand, context_settings=HELP, **settings)
