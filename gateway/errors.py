"""The kinds of errors; the kind tells the caller what to do about an error.

The message of an error is one plain sentence of our own. It never holds a subject, a body, a full
address or a secret, so it may be printed and logged. The command line turns kinds into exit codes
(:data:`EXIT_CODES`, after sysexits.h), the API into status codes (:data:`HTTP_STATUS`).
"""

from __future__ import annotations

import os
from typing import Final

from config.problems import ConfigError


class TicketgateError(Exception):
    """Base of all errors of this program; ``message`` is the sentence shown to the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UsageError(TicketgateError):
    """The command line is wrong."""


class Rejected(TicketgateError):
    """The request cannot be fulfilled, and nothing was changed; base class of five kinds."""


class NotFound(Rejected):
    """What the request names does not exist."""


class Forbidden(Rejected):
    """The role of the acting user does not allow the request."""


class Invalid(Rejected):
    """A value is not acceptable; ``field`` names it, or is empty if no single field is to blame."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Conflict(Rejected):
    """Somebody else changed the object meanwhile, or an object to create exists already."""


class Refused(Rejected):
    """A rule forbids the request; ``rule`` is its row in docs/spec/behaviour.md, or empty."""

    def __init__(self, message: str, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class Unavailable(TicketgateError):
    """Nothing was stored, and the same request may succeed later."""


class StoreUnavailable(Unavailable):
    """The database or the blob store does not answer."""


class BlobsUnavailable(StoreUnavailable):
    """The blob store alone fails, so small mail can still be stored."""


class DiskFull(Unavailable):
    """The disk has less free space than a mail may need (reliability.md 27)."""


class InternalError(TicketgateError):
    """This program has a fault, or one of its services failed too often."""


class Misconfigured(TicketgateError):
    """The installation has to be changed before the program can run."""


class UnusablePath(Misconfigured):
    """A path named by the configuration cannot be used."""


class AbsentDatabase(Misconfigured):
    """There is no database where the configuration says, and this command creates none."""


class SchemaOutdated(Misconfigured):
    """The schema of the database differs from this program's: run ``ticketgate db upgrade``."""


EXIT_CODES: Final[dict[type[Exception], int]] = {
    UsageError: os.EX_USAGE,
    Rejected: os.EX_DATAERR,
    NotFound: os.EX_DATAERR,
    Forbidden: os.EX_DATAERR,
    Invalid: os.EX_DATAERR,
    Conflict: os.EX_DATAERR,
    Refused: os.EX_DATAERR,
    Unavailable: os.EX_TEMPFAIL,
    InternalError: os.EX_SOFTWARE,
    Misconfigured: os.EX_CONFIG,
    ConfigError: os.EX_CONFIG,
}
HTTP_STATUS: Final[dict[type[Exception], int]] = {
    UsageError: 400,
    Rejected: 422,
    NotFound: 404,
    Forbidden: 403,
    Invalid: 400,
    Conflict: 409,
    Refused: 422,
    Unavailable: 503,
    InternalError: 500,
    Misconfigured: 500,
    ConfigError: 500,
}


def exit_code(error: BaseException) -> int:
    """Return the sysexits code of an error that ends a command; 70 for an unforeseen one."""
    return _of_kind(EXIT_CODES, error, os.EX_SOFTWARE)


def http_status(error: BaseException) -> int:
    """Return the HTTP status of an error that ends a request; 500 for an unforeseen one."""
    return _of_kind(HTTP_STATUS, error, 500)


def _of_kind(table: dict[type[Exception], int], error: BaseException, otherwise: int) -> int:
    """Return the entry of the error's class or, if it has none, of its nearest base class."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), otherwise)
