"""Words that options take: on and off, a word out of a few, a day. A wrong one is a UsageError
(exit 64) that says which are right.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from gateway.errors import UsageError

HIGHEST = 2**63 - 1  # what a database can be asked for; nothing has a higher number


def switch(option: str, given: str | None) -> bool | None:
    """``on`` or ``off``; None where nothing was said."""
    return None if given is None else one_of(option, given, ("on", "off")) == "on"


def one_of(option: str, given: str | None, allowed: tuple[str, ...]) -> Any:
    """A word out of a few; None where nothing was said."""
    if given is not None and given not in allowed:
        raise UsageError(f"{option} is one of {', '.join(allowed)}, not {given!r}")
    return given


def day(given: str | None) -> date | None:
    """A date in ISO form; None where nothing was said."""
    if given is None:
        return None
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise UsageError(f"{given!r} is no date like 2026-01-31") from None
