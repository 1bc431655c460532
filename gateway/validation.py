"""Checks of text that users type into headers and lists: a single line, not blank.

Such text is refused, never repaired (reliability.md 5, 25); incoming mail is cleaned instead.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import Invalid

_FORBIDDEN: Final = re.compile("[\r\n\0\x0b\x0c\x85\u2028\u2029\ud800-\udfff]")


MAX_NAME: Final = 200  # characters; the database would cut a longer name


def refuse_breaks(what: str, *values: str | None) -> None:
    """Refuse values with a line break or another character that no header may contain."""
    if any(each and _FORBIDDEN.search(each) for each in values):
        raise Invalid(f"{what} contains a line break or control character", what)


def refuse_unnamed(whose: str, what: str, value: str) -> None:
    """Refuse a text that is blank, too long or has line breaks.

    In the error, ``what`` names the text and ``whose`` the object it belongs to.
    """
    refuse_breaks(what, value)
    if not value.strip():
        raise Invalid(f"{whose} needs a {what}", what)
    if what == "name" and len(value) > MAX_NAME:
        raise Invalid(f"the name of {whose} is longer than {MAX_NAME} characters", what)
