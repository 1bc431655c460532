"""What can go wrong, by what the caller should do about it.

Each class stands for one exit code of sysexits.h, so a command ends with the code its user can act
on. The message of an error is one plain sentence written by us: it never holds a subject, a body, a
full address or a secret, so it may be printed and logged.
"""

from __future__ import annotations

import os

from config.problems import ConfigError


class TicketgateError(Exception):
    """The base of our errors. ``exit_code`` is what a command ends with when the error reaches its
    top.
    """

    exit_code: int = os.EX_SOFTWARE

    def __init__(self, message: str) -> None:
        """``message`` is the sentence shown to the user."""
        super().__init__(message)
        self.message = message


class UsageError(TicketgateError):
    """The command line asks for something that cannot be: exit 64."""

    exit_code = os.EX_USAGE


class Refused(TicketgateError):
    """A rule forbids it, or the data is not there or not right; nothing was changed: exit 65."""

    exit_code = os.EX_DATAERR


class Software(TicketgateError):
    """A mistake of ours, or a service that does not stay up: exit 70."""

    exit_code = os.EX_SOFTWARE


class TryAgain(TicketgateError):
    """Nothing was stored, and the same request may succeed later: exit 75, SMTP 4xx."""

    exit_code = os.EX_TEMPFAIL


class StoreUnavailable(TryAgain):
    """The database or the blob store does not answer."""


class DiskFull(TryAgain):
    """Less room is left than a mail may need (reliability.md 1, item 27)."""


class Misplaced(TicketgateError):
    """Where the configuration puts something, nothing can be: exit 78."""

    exit_code = os.EX_CONFIG


class SchemaOutdated(TicketgateError):
    """The database has another schema than this program: ``db upgrade`` has to run first, exit 78."""

    exit_code = os.EX_CONFIG


def exit_code(error: BaseException) -> int:
    """The sysexits code for an error that ends a command; anything that is not ours is 70."""
    match error:
        case TicketgateError():
            return error.exit_code
        case ConfigError():
            return os.EX_CONFIG
        case _:
            return os.EX_SOFTWARE
