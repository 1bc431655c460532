"""The replies to a client: their bytes, their enhanced status codes, and what is said when
something of ours broke.

What can go wrong: a reply that quotes an exception would show a client our insides; only its number
is ever sent.
"""

from __future__ import annotations

import errno
import re
import secrets
from functools import lru_cache

from gateway.errors import DiskFull, TicketgateError

_ENHANCED = re.compile(r"\d{3}[ -][245]\.\d{1,3}\.\d{1,3} ")
_CODES = {  # for the replies of aiosmtpd, which have none
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
    """A reply with its line end and an enhanced status code (RFC 2034); bytes are taken as complete
    but for the line end.
    """
    if isinstance(status, bytes):
        return status + b"\r\n"
    code = _CODES.get(status[:3])
    if code is not None and not _ENHANCED.match(status):
        status = f"{status[:4]}{code} {status[4:]}"
    return status.encode("utf-8", "replace") + b"\r\n"


def new_error_id() -> str:
    """The number under which a client can tell us of an error; it stands in our log."""
    return secrets.token_hex(4)


def reply_to_error(error: Exception, error_id: str) -> str:
    """The answer when we could not do it: the client is to try again later, also for errors of
    ours.
    """
    if isinstance(error, DiskFull) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ):
        return f"452 4.3.1 Not enough room, try again later ({error_id})"
    if isinstance(error, TicketgateError):
        return f"451 4.3.0 Cannot store mail now, try again later ({error_id})"
    return f"451 4.3.0 Internal error, try again later ({error_id})"
