"""Replies to clients: their bytes and enhanced status codes, and the replies to internal errors.

A reply never quotes an exception, only the number under which it is logged.
"""

from __future__ import annotations

import errno
import re
import secrets
from functools import lru_cache

from gateway.errors import DiskFull, TicketgateError

_ENHANCED = re.compile(r"\d{3}[ -][245]\.\d{1,3}\.\d{1,3} ")
_AIOSMTPD_CODES = {  # since its replies have none
    "221": "2.0.0",
    "250": "2.0.0",
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "552": "5.3.4",
    "553": "5.1.3",
    "555": "5.5.4",
}


@lru_cache(512)
def encoded(status: str | bytes) -> bytes:
    """Return a reply with its line end; a ``str`` also gets an enhanced status code (RFC 2034)."""
    if isinstance(status, bytes):
        return status + b"\r\n"
    code = _AIOSMTPD_CODES.get(status[:3])
    if code is not None and not _ENHANCED.match(status):
        status = f"{status[:4]}{code} {status[4:]}"
    return status.encode("utf-8", "replace") + b"\r\n"


def new_error_id() -> str:
    """Return a number that names an error, in the reply to the client and in the log."""
    return secrets.token_hex(4)


def reply_to_error(error: Exception, error_id: str) -> str:
    """Return the temporary reply (4xx) to an error of ours, whatever its kind."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or isinstance(error, DiskFull):
        return f"452 4.3.1 Not enough disk space, try again later ({error_id})"
    if isinstance(error, TicketgateError):
        return f"451 4.3.0 Cannot store mail now, try again later ({error_id})"
    return f"451 4.3.0 Internal error, try again later ({error_id})"
