"""What became of an attempt to hand over a mail, in three words; ``reply`` is what the server said,
or our own sentence where it said nothing.

Nothing can go wrong here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The smarthost has it."""

    reply: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. ``everybody``: the trouble is with the smarthost or our account, so the next
    recipient need not be tried.
    """

    reply: str
    everybody: bool = False


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """Never."""

    reply: str


Result = Sent | Deferred | PermanentFailure
