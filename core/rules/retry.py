"""When a mail that was put off is tried again: after a minute at first, then twice as long each
time up to four hours, for five days (reliability.md 26).

Nothing here reads a clock or throws dice; both are arguments. Nothing raises.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST = timedelta(minutes=1)
LONGEST = timedelta(hours=4)
GIVE_UP = timedelta(days=5)
SPREAD = 0.2  # so that what failed together does not come back together
_DOUBLINGS = 8  # after which a minute is longer than LONGEST


def next_attempt(
    attempts: int, first_at: datetime, now: datetime, jitter: float
) -> datetime | None:
    """When to try again after ``attempts`` failed ones (one or more), the first due at
    ``first_at``; None where the five days are over: it failed for good.

    ``jitter`` from 0 to 1 makes the wait up to a fifth shorter or longer. The last attempt is made
    when the five days end, not before.
    """
    last = first_at + GIVE_UP
    if now >= last:
        return None
    wait = min(FIRST * (1 << min(max(attempts - 1, 0), _DOUBLINGS)), LONGEST)
    return min(now + wait * (1 - SPREAD + 2 * SPREAD * jitter), last)
