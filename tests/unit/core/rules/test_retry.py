"""Tests of the back-off between attempts to send (reliability.md 26)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from core.rules.retry import GIVE_UP, LONGEST, next_attempt

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
JITTER = st.floats(0, 1)


def waits(jitter: float) -> list[timedelta]:
    """Return all waits of a delivery that never succeeds."""
    found, now = [], START
    for attempts in range(1, 1000):
        due = next_attempt(attempts, START, now, jitter)
        if due is None:
            return found
        found.append(due - now)
        now = due
    raise AssertionError("it never ends")


def test_a_minute_doubles_to_four_hours():
    """Without jitter: 1, 2, 4, ... 128 minutes, then 4 hours each."""
    minutes = [wait.total_seconds() / 60 for wait in waits(0.5)]
    assert minutes[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240]
    assert set(minutes[8:-1]) == {240}


@given(JITTER)
def test_it_ends_after_five_days(jitter: float):
    """The last attempt is at the end of five days; every wait is positive."""
    found = waits(jitter)
    assert sum(found, timedelta()) == GIVE_UP
    assert all(wait > timedelta() for wait in found)
    assert 30 < len(found) < 60


@given(st.integers(0, 10**9), st.integers(0, 5 * 86400 - 1), JITTER)
def test_a_wait_is_within_a_fifth_of_its_length(attempts: int, late: int, jitter: float):
    """A wait is between 48 seconds and 4.8 hours, and only the end of the five days cuts it."""
    now = START + timedelta(seconds=late)
    due = next_attempt(attempts, START, now, jitter)
    assert due is not None
    assert due <= START + GIVE_UP
    assert due - now <= LONGEST * 1.2
    assert due - now >= timedelta(seconds=48) or due == START + GIVE_UP


@given(st.integers(0, 10**9), st.integers(5 * 86400, 10**8), JITTER)
def test_afterwards_there_is_none(attempts: int, late: int, jitter: float):
    """Five days after the first attempt there is no further one."""
    assert next_attempt(attempts, START, START + timedelta(seconds=late), jitter) is None
