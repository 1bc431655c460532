"""Open the installation for a command, and turn errors into exit codes.

A TicketgateError becomes one sentence on stderr and the exit code of its class. The command has
changed nothing in that case.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from config.load import Loaded, load
from config.problems import ConfigError
from gateway.cli.output import say, visible
from gateway.cli.places import refuse_absent
from gateway.daemon.assemble import Installation, act_as_owner, open_installation
from gateway.errors import TicketgateError, exit_code

if TYPE_CHECKING:
    from config.settings import Settings

T = TypeVar("T")


def named_file(context: typer.Context) -> Path | None:
    """Return the configuration file given with ``--config`` before the command."""
    named = context.find_root().params.get("config")
    return Path(named) if named is not None else None


def loaded_as_owner(config_path: Path | None) -> Loaded:
    """Load the configuration; if root started us, then become the owner of the data directory.

    Raises ConfigError, and Misconfigured if the system refuses the change of user.
    """
    loaded = load(config_path, os.environ)
    act_as_owner(loaded.settings)
    return loaded


@asynccontextmanager
async def opened(config_path: Path | None, *, create: bool) -> AsyncIterator[Installation]:
    """Load the configuration and open the installation (interfaces.md 2.1).

    Raises ConfigError, and the errors of :func:`gateway.daemon.assemble.open_installation`.
    """
    loaded = loaded_as_owner(config_path)
    settings = loaded.settings
    if not create:
        refuse_absent(loaded)
    async with open_installation(settings, os.environ, partial(_start_log, settings)) as found:
        yield found


def _start_log(settings: Settings) -> None:
    """Write log lines to stderr; most commands log nothing and start faster without structlog."""
    from gateway import log

    given = settings.log
    # A command prints its own result; the daemon's info line for each mail would only repeat it.
    level = "warning" if given.level == "info" else given.level
    log.configure(level=level, form=given.format, addresses=given.addresses, stream=sys.stderr)


def run(
    context: typer.Context, act: Callable[[Installation], Awaitable[T]], *, create: bool = False
) -> T:
    """Run an act in the opened installation; :func:`explained` reports its errors."""

    async def whole() -> T:
        async with opened(named_file(context), create=create) as installation:
            return await act(installation)

    with explained():
        return asyncio.run(whole())


@contextmanager
def explained() -> Iterator[None]:
    """Turn a TicketgateError or ConfigError into a text on stderr and an exit code."""
    try:
        yield
    except TicketgateError as error:
        say(visible(f"ticketgate: {error.message}"), error=True)
        raise typer.Exit(exit_code(error)) from None
    except ConfigError as error:
        from gateway.cli.config import problems_text

        say(problems_text(error), error=True)
        raise typer.Exit(os.EX_CONFIG) from None
