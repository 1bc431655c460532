"""When to try again after a temporary failure: after one minute, then two, four and so on.

Mail and webhook calls wait at most four hours between attempts. The first attempt is due at
``first_at``, the last one five days later (reliability.md 26). Actions of workflow runs are tried
five more times after the first failure. The clock and the random number are arguments: ``jitter``
from 0 to 1 makes a wait up to a fifth shorter or longer.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FIRST = timedelta(minutes=1)
LONGEST = timedelta(hours=4)
GIVE_UP = timedelta(days=5)
SPREAD = 0.2  # so that mails that failed together are not tried again together
RETRIES = 5  # of an action of a workflow run, and of a run that failed unexpectedly
_DOUBLINGS = 8  # after which a minute is longer than LONGEST


def next_attempt(
    attempts: int, first_at: datetime, now: datetime, jitter: float
) -> datetime | None:
    """Return when to send after ``attempts`` failures (1 or more), None to give up."""
    last = first_at + GIVE_UP
    if now >= last:
        return None
    return min(now + _wait(attempts) * (1 - SPREAD + 2 * SPREAD * jitter), last)


def next_run(attempts: int, now: datetime) -> datetime | None:
    """Return when to retry a failed run, or None to give up.

    ``attempts`` is how often the run was retried.
    """
    return now + _wait(attempts + 1) if attempts < RETRIES else None


def _wait(failures: int) -> timedelta:
    return min(FIRST * (1 << min(max(failures - 1, 0), _DOUBLINGS)), LONGEST)
