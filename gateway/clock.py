"""The only source of the current time.

All code that depends on time takes a :class:`Clock`, so that tests, replays and operators can set
the time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gateway.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "TICKETGATE_NOW"


class Clock:
    """Tells the time in aware UTC: the machine's time or, after :meth:`set`, a fixed instant."""

    __slots__ = ("_fixed",)

    def __init__(self, fixed: datetime | None = None) -> None:
        """Make a clock stopped at the aware instant ``fixed``; if that is None, the clock runs."""
        self._fixed: datetime | None = None
        if fixed is not None:
            self.set(fixed)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Clock:
        """Return a clock that stands at ``TICKETGATE_NOW`` if that is set (interfaces.md 2.1)."""
        text = environ.get(VARIABLE, "")
        return cls(parse_instant(text)) if text else cls()

    @property
    def frozen(self) -> bool:
        """Whether the clock stands still."""
        return self._fixed is not None

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        return datetime.now(UTC) if self._fixed is None else self._fixed

    def set(self, instant: datetime) -> None:
        """Stop the clock at an aware instant; ValueError for a naive one."""
        if instant.tzinfo is None:
            raise ValueError("a clock needs an aware instant")
        self._fixed = instant.astimezone(UTC)

    def advance(self, by: timedelta) -> datetime:
        """Stop the clock if it runs, move it forward, and return the new instant."""
        self.set(self.now() + by)
        return self.now()


def parse_instant(text: str, name: str = VARIABLE) -> datetime:
    """Parse an ISO 8601 instant with an offset or ``Z`` into aware UTC.

    Raises UsageError for other text; its message calls the text ``name``.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):  # too large where it lies beyond the year 9999 in UTC
        pass
    raise UsageError(f"{name} is not an instant like 2026-11-22T10:00:00Z: {text[:40]!r}")
