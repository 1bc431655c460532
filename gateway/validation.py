"""What a person types that will stand in a header or in a list: one line, and something in it.
Refused, never mended (reliability.md 5, 25).

Mail that comes in is another matter: whatever strangers put into their headers is taken and
cleaned.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import Refused

_BREAKS: Final = re.compile("[\r\n\0\x0b\x0c\x85\u2028\u2029\ud800-\udfff]")


def refuse_breaks(what: str, *given: str | None) -> None:
    """Refused where one of these holds what would open a new header line, or what no header may
    hold.
    """
    if any(each and _BREAKS.search(each) for each in given):
        raise Refused(
            f"There is a line end, or another character that no header may hold, in the {what}."
        )


def refuse_unnamed(whose: str, what: str, given: str) -> None:
    """Refused also where nothing stands there but blanks: ``whose`` needs its ``what``."""
    refuse_breaks(what, given)
    if not given.strip():
        raise Refused(f"{whose} needs a {what}")
