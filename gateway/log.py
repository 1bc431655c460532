"""Structured logging to stderr: JSON for machines, coloured text on a terminal.

At the default level no line holds a body, a subject, a full address or a secret (reliability.md
30). Addresses go through :func:`address` or :func:`redact`; exceptions are logged as their
type and code locations, never with their text; the loggers of mail libraries stay at WARNING
whatever ``[log] level`` says, because below that they log addresses, bodies and tokens.

A hashed address is hidden from readers of the log, but not from someone who guesses it and hashes
the guess.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from functools import lru_cache
from hashlib import blake2b
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gateway.errors import TicketgateError

if TYPE_CHECKING:
    from collections.abc import Callable

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "pretty"]
Addresses = Literal["hashed", "full", "domain"]

QUIET_LIBRARIES: Final = (
    "mail",
    "aiohttp",
    "aioimaplib",
    "aiosmtpd",
    "sqlalchemy",
    "asyncio",
    "aiosqlite",
    "alembic",
    "asyncpg",
    "mailparser",
    "charset_normalizer",
)
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),:;@\[\]=]{1,128}@[\w.-]{1,255}")
_LOGGED_FRAMES: Final = 6
_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


def _hashed(text: str) -> str:
    return "~" + blake2b(text.strip().lower().encode("utf-8", "replace"), digest_size=6).hexdigest()


def _domain(text: str) -> str:
    return "~@" + text.rpartition("@")[2].strip().lower()


def _full(text: str) -> str:
    return text


_FORMATS: Final[dict[Addresses, Callable[[str], str]]] = {
    "hashed": lru_cache(4096)(_hashed),
    "domain": _domain,
    "full": _full,
}
_show_address: Callable[[str], str] = _FORMATS["hashed"]


def address(text: str | None) -> str | None:
    """Return an address in the form that ``[log] addresses`` sets: hash (default), domain, full."""
    return _show_address(text) if text else text


def redact(text: str) -> str:
    """Return the text with everything that looks like an address replaced by :func:`address`."""
    return _ADDRESS.sub(lambda match: _show_address(match.group()), text) if "@" in text else text


def error_fields(error: BaseException) -> dict[str, Any]:
    """Return the fields that may be logged of an exception: its type and code locations.

    The text is included only if it is our own, since foreign text may quote a mail, an SQL
    parameter or a token. ``errno`` is kept so that "disk full" can be recognized.
    """
    fields: dict[str, Any] = {"error": type(error).__qualname__, "where": _places(error)}
    if isinstance(error, TicketgateError):
        fields["why"] = redact(error.message)
    if isinstance(error, OSError) and error.errno is not None:
        fields["errno"] = error.errno
    cause = error.__cause__ or error.__context__
    if cause is not None and not error.__suppress_context__:
        fields["cause"] = type(cause).__qualname__
    return fields


def _places(error: BaseException) -> list[str]:
    frames = extract_tb(error.__traceback__)[-_LOGGED_FRAMES:]
    return [
        f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}"
        for frame in frames
    ]


def logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a part of the program; each line has ``name`` in its field ``room``."""
    bound: FilteringBoundLogger = structlog.get_logger(room=name)
    return bound


def configure(
    *, level: Level, form: Format, addresses: Addresses, stream: TextIO | None = None
) -> None:
    """Set up our logging and that of the libraries; each entry point calls this once."""
    global _show_address  # noqa: PLW0603 - logging is process-wide
    _show_address = _FORMATS[addresses]
    target = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    pretty = form == "pretty" or (form == "auto" and target.isatty())
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=target.isatty())] if pretty else [_to_json]
    )
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _replace_exceptions,
    ]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    _forward_libraries(number)


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


def _replace_exceptions(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by :func:`error_fields`, so no renderer prints foreign text."""
    exc_info = event.pop("exc_info", None)
    if exc_info is not None and exc_info is not False:
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        if error is not None:
            event.update(error_fields(error))
    return event


class _Libraries(logging.Handler):
    """Forwards log records of libraries without their arguments, which may hold mail."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log = structlog.get_logger(room="library").bind(
            library=record.name, template=redact(str(record.msg))[:200]
        )
        log.log(record.levelno, "library", **(error_fields(error) if error is not None else {}))


def _forward_libraries(number: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries())
    root.setLevel(max(number, logging.INFO))
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
