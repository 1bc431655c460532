"""Tests of the clock that can be set, and of the exit codes of errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from config.problems import ConfigError, Problem
from gateway.clock import Clock, parse_instant
from gateway.errors import (
    DiskFull,
    InternalError,
    Refused,
    SchemaOutdated,
    StoreUnavailable,
    Unavailable,
    UsageError,
    exit_code,
)

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_running_clock_returns_aware_utc():
    """Without TICKETGATE_NOW the clock is that of the machine, in UTC."""
    before = datetime.now(UTC)
    now = Clock.from_environ({}).now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["2026-11-22T12:00:00Z", "2026-11-22T13:00:00+01:00", "2026-11-22 12:00:00.000+00:00"]
)
def test_the_environment_stops_the_clock(text):
    """TICKETGATE_NOW freezes the clock at that instant, in any offset."""
    clock = Clock.from_environ({"TICKETGATE_NOW": text})
    assert (clock.now(), clock.frozen) == (NOON, True)
    assert clock.now() == NOON


@pytest.mark.parametrize(
    "text", ["today", "2026-11-22T12:00:00", "2026-11-22", "2026-13-01T00:00:00Z"]
)
def test_an_invalid_instant_is_a_usage_error(text):
    """An invalid or naive instant is a usage error."""
    with pytest.raises(UsageError, match="is not an instant"):
        Clock.from_environ({"TICKETGATE_NOW": text})


def test_a_clock_is_set_and_moved():
    """A settable clock moves only when the test or replay moves it."""
    clock = Clock(NOON.astimezone(timezone(timedelta(hours=5))))
    assert clock.now() == NOON
    assert clock.now().tzinfo is UTC
    assert clock.advance(timedelta(days=1)) == NOON + timedelta(days=1) == clock.now()
    with pytest.raises(ValueError):
        clock.set(datetime(2026, 1, 1))  # noqa: DTZ001 - the naive instant is what is tested


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 64),
        (Refused("x"), 65),
        (InternalError("x"), 70),
        (Unavailable("x"), 75),
        (StoreUnavailable("x"), 75),
        (DiskFull("x"), 75),
        (SchemaOutdated("x"), 78),
        (ConfigError((Problem("f", "k", "r"),)), 78),
        (ZeroDivisionError("x"), 70),
    ],
)
def test_exit_codes(error, code):
    """Each error has its code of sysexits.h; an error that is not ours is 70."""
    assert exit_code(error) == code


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_an_instant_beyond_the_calendar_is_no_instant(text):
    """What has no date in UTC is refused like other text that is no instant."""
    with pytest.raises(UsageError, match="--at is not an instant"):
        parse_instant(text, "--at")
