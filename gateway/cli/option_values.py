"""Options that several commands share, and the values they take.

A wrong value is a UsageError (exit 64) that names the right values.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import typer

from gateway.errors import UsageError

HIGHEST = 2**63 - 1  # the highest number a database column holds
ON_OFF = "on|off"
As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="ADDRESS", help="Act as this user. Default: the built-in administrator."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
MailboxName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The name of an [[imap]] table, or the address of its channel."
    ),
]
TicketNumber = Annotated[
    int, typer.Argument(metavar="N", max=HIGHEST, help="The number of the ticket.")
]


def switch(option: str, given: str | None) -> bool | None:
    """Return True for ``on``, False for ``off``, or None if the option was not given."""
    return None if given is None else one_of(option, given, ("on", "off")) == "on"


def one_of(option: str, given: str | None, allowed: tuple[str, ...]) -> Any:
    """Return an allowed word, or None if the option was not given; else raise UsageError."""
    if given is not None and given not in allowed:
        raise UsageError(f"{option} must be {_either(allowed)}, not {given!r}")
    return given


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def day(given: str | None) -> date | None:
    """Return an ISO date, or None if the option was not given; else raise UsageError."""
    if given is None:
        return None
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise UsageError(f"{given!r} is not a date like 2026-01-31") from None
