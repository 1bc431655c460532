"""The Received field added to each mail (RFC 5321, 4.4), to trace mails and detect loops."""

from __future__ import annotations

import re
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,254}|\[[A-Za-z0-9.:]{1,64}\]")


def received(
    *, helo: str, host: str, hostname: str, protocol: str, tls: str, number: str, now: datetime
) -> bytes:
    """Return the Received field, with its line ends.

    ``host`` is the peer's address, "" for a Unix socket; ``protocol`` is a word such as ESMTPS.
    """
    peer = f"[IPv6:{host}]" if ":" in host else f"[{host}]" if host else "local"
    name = helo if _NAME.fullmatch(helo) else "unknown"
    tls_part = f"\r\n\t({tls})" if tls else ""
    return (
        f"Received: from {name} ({peer})\r\n"
        f"\tby {hostname} (ticketgate) with {protocol} id {number}{tls_part};\r\n"
        f"\t{_date(now.replace(microsecond=0))}\r\n"
    ).encode("ascii", "replace")


@lru_cache(4)
def _date(now: datetime) -> str:
    return format_datetime(now)
