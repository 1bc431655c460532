"""How the program logs: structured lines on stderr, JSON for machines and coloured text on a
terminal.

No line holds a body, a subject, a full address or a secret at the default level (reliability.md 1,
item 30). Three things see to it: addresses go through :func:`address` or :func:`redact`, an
exception is logged as its type and places in the code but never with its text, and the loggers of
the mail libraries are held at WARNING whatever ``[log] level`` says, because below that they log
addresses, bodies and tokens.

What can go wrong: a hash of an address hides it from a reader of the log, not from somebody who
guesses the address and hashes it too.
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

CAPPED: Final = (
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
_FRAMES: Final = 6
_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


def _hashed(text: str) -> str:
    return "~" + blake2b(text.strip().lower().encode("utf-8", "replace"), digest_size=6).hexdigest()


def _domain(text: str) -> str:
    return "~@" + text.rpartition("@")[2].strip().lower()


def _full(text: str) -> str:
    return text


_HOW: Final[dict[Addresses, Callable[[str], str]]] = {
    "hashed": lru_cache(4096)(_hashed),
    "domain": _domain,
    "full": _full,
}
_shown: Callable[[str], str] = _HOW["hashed"]


def address(text: str | None) -> str | None:
    """An address as ``[log] addresses`` wants it in a log line: hashed (default), its domain, or in
    full. None stays None.
    """
    return _shown(text) if text else text


def redact(text: str) -> str:
    """A sentence in which everything that looks like an address is shown as :func:`address` shows
    it.
    """
    return _ADDRESS.sub(lambda found: _shown(found.group()), text) if "@" in text else text


def error_fields(error: BaseException) -> dict[str, Any]:
    """What may be logged of an exception: its type, the code places it came through, and the text
    only where we wrote that ourselves.

    The text of a foreign exception may quote a mail, an SQL parameter or a token. ``errno`` is
    kept, since "disk full" has to be seen.
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
    frames = extract_tb(error.__traceback__)[-_FRAMES:]
    return [
        f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}"
        for frame in frames
    ]


def logger(name: str) -> FilteringBoundLogger:
    """The logger of one room; ``name`` stands in each of its lines."""
    bound: FilteringBoundLogger = structlog.get_logger(room=name)
    return bound


def configure(
    *, level: Level, form: Format, addresses: Addresses, stream: TextIO | None = None
) -> None:
    """Sets up logging for the process: our own lines and those of the libraries, to ``stream``
    (stderr). Called once by each entry point.
    """
    global _shown  # noqa: PLW0603 - logging is state of the process, as in the standard library
    _shown = _HOW[addresses]
    target = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    pretty = form == "pretty" or (form == "auto" and target.isatty())
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=target.isatty())] if pretty else [_to_json]
    )
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _exceptions,
    ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    _take_in_libraries(number)


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


def _exceptions(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replaces ``exc_info`` by what may be logged of it, so that no renderer prints a text that
    quotes a mail.
    """
    given = event.pop("exc_info", None)
    if given is not None and given is not False:
        error = given if isinstance(given, BaseException) else sys.exc_info()[1]
        if error is not None:
            event.update(error_fields(error))
    return event


class _Libraries(logging.Handler):
    """Carries records of the standard library's loggers into our log: the format string without its
    arguments, which may hold mail.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log = structlog.get_logger(room="library").bind(
            library=record.name, template=redact(str(record.msg))[:200]
        )
        log.log(record.levelno, "library", **(error_fields(error) if error is not None else {}))


def _take_in_libraries(number: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries())
    root.setLevel(max(number, logging.INFO))
    for name in CAPPED:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
