"""The Received field that we put before each mail (RFC 5321 4.4), so that its way can be read later
and loops can be counted.
"""

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
    """The field with its line ends. ``host`` is the address of the peer, "" for a Unix socket;
    ``protocol`` stands for ESMTPS and the like.
    """
    peer = f"[IPv6:{host}]" if ":" in host else f"[{host}]" if host else "local"
    name = helo if _NAME.fullmatch(helo) else "unknown"
    return (
        f"Received: from {name} ({peer})\r\n\tby {hostname} (ticketgate) with {protocol} id "
        f"{number}"
        f"{f'{chr(13)}{chr(10)}{chr(9)}({tls})' if tls else ''};\r\n\t{_date(now.replace(microsecond=0))}\r\n"
    ).encode("ascii", "replace")


@lru_cache(4)
def _date(now: datetime) -> str:
    return format_datetime(now)
