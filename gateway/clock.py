"""The only source of "now". Everything that depends on time asks a :class:`Clock`, so that a test,
a replay or an operator can say what time it is.

What can go wrong: ``TICKETGATE_NOW`` that is no ISO 8601 instant with an offset; that is a
:class:`UsageError` before anything else happens.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gateway.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "TICKETGATE_NOW"


class Clock:
    """Tells the time in aware UTC: that of the machine, or a fixed instant once it has been
    :meth:`set`.
    """

    __slots__ = ("_fixed",)

    def __init__(self, fixed: datetime | None = None) -> None:
        """``fixed`` stops the clock at that aware instant; without it the clock runs."""
        self._fixed: datetime | None = None
        if fixed is not None:
            self.set(fixed)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Clock:
        """The clock of a command or of the daemon: stopped at ``TICKETGATE_NOW`` where that is set
        (interfaces.md 2.1).
        """
        text = environ.get(VARIABLE, "")
        return cls(parse_instant(text)) if text else cls()

    @property
    def frozen(self) -> bool:
        """Whether the clock stands still."""
        return self._fixed is not None

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC) if self._fixed is None else self._fixed

    def set(self, instant: datetime) -> None:
        """Stops the clock at an aware instant; a naive one is a mistake of the caller (ValueError)."""
        if instant.tzinfo is None:
            raise ValueError("a clock is set to an aware instant")
        self._fixed = instant.astimezone(UTC)

    def advance(self, by: timedelta) -> datetime:
        """Moves a stopped clock and returns the new instant; a running clock is stopped first."""
        self.set(self.now() + by)
        return self.now()


def parse_instant(text: str, named: str = VARIABLE) -> datetime:
    """An ISO 8601 instant with an offset or ``Z`` as aware UTC; UsageError for anything else, with
    what it was ``named``.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise UsageError(f"{named} is not an instant like 2026-11-22T10:00:00Z: {text[:40]!r}")
    return instant.astimezone(UTC)
