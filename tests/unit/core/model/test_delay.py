"""Tests of delays and windows (behaviour.md 3.3, Delays), with the days of a clock change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.delay import (
    DATED,
    EVENTS,
    LONGEST_WAIT,
    WEEKDAYS,
    delay_problem,
    due,
    opening,
    span,
    window_problem,
)

ZONE = ZoneInfo("Europe/Amsterdam")
OFFICE = {"days": ["mon", "tue", "wed", "thu", "fri"], "hours": "09:00-17:00"}


def at(text: str) -> datetime:
    """Return an instant; without an offset the text is Amsterdam time."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=ZONE)).astimezone(UTC)


SUNDAY = at("2026-11-22T11:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2d", (2, timedelta())),
        ("12h", (0, timedelta(hours=12))),
        (" 1d 2h 30m ", (1, timedelta(hours=2, minutes=30))),
        ("0m", (0, timedelta())),
        ("", None),
        ("2", None),
        ("30m 2h", None),
        ("-1d", None),
        ("1w", (7, timedelta())),
        ("1y", None),
        ("\u0662d", None),
    ],
)
def test_spans(text: str, expected: Any) -> None:
    """A span is weeks, days, hours and minutes in this order, and nothing else."""
    assert span(text) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({"for": "2d"}, "2026-11-24T11:00", id="amount"),
        pytest.param({"for": "90m"}, "2026-11-22T12:30", id="minutes"),
        pytest.param({"for": "0m"}, "2026-11-22T11:00", id="nothing-at-once"),
        pytest.param({"until": "2026-12-24"}, "2026-12-24T00:00", id="date"),
        pytest.param({"until": date(2026, 12, 24)}, "2026-12-24T00:00", id="date-of-toml"),
        pytest.param({"until": "2026-12-24T09:00"}, "2026-12-24T09:00", id="local-time"),
        pytest.param({"until": "2026-12-24T09:00:00+00:00"}, "2026-12-24T10:00", id="instant"),
        pytest.param(
            {"until": datetime(2026, 12, 24, 9, tzinfo=UTC)},
            "2026-12-24T10:00",
            id="instant-of-toml",
        ),
        pytest.param({"until": "2020-01-01"}, "2020-01-01T00:00", id="past-date"),
        pytest.param(
            {"until": "9999-12-31T23:59:59-12:00"}, "9999-12-29T01:00", id="end-of-the-calendar"
        ),
        pytest.param({"field": "close_date"}, "2026-12-01T00:00", id="date-field"),
        pytest.param(
            {"field": "close_date", "for": "1d"}, "2026-12-02T00:00", id="date-field-and-amount"
        ),
        pytest.param({"field": "created_at"}, "2026-11-20T10:00", id="past-field"),
        pytest.param({"field": "created_at", "for": "3d"}, "2026-11-23T10:00", id="since-a-field"),
        pytest.param({"field": "closed_at"}, "2026-11-22T11:00", id="empty-field-at-once"),
        pytest.param(
            {"field": "closed_at", "for": "3d"},
            "2026-11-22T11:00",
            id="empty-field-and-amount-at-once",
        ),
        pytest.param({"weekday": "mon"}, "2026-11-23T00:00", id="weekday"),
        pytest.param({"weekday": "Sunday"}, "2026-11-22T11:00", id="weekday-is-today-at-once"),
        pytest.param(
            {"weekday": "sun", "time": "10:30"}, "2026-11-29T10:30", id="weekday-and-time-passed"
        ),
        pytest.param(
            {"weekday": "sun", "time": "11:30"}, "2026-11-22T11:30", id="weekday-and-time-ahead"
        ),
        pytest.param({"time": "09:30"}, "2026-11-23T09:30", id="time-tomorrow"),
        pytest.param({"time": time(11, 30)}, "2026-11-22T11:30", id="time-of-toml"),
        pytest.param({"event": "agent_reply"}, "2027-11-22T11:00", id="event"),
        pytest.param(
            {"event": "customer_reply", "for": "3d"}, "2026-11-25T11:00", id="event-or-amount"
        ),
        pytest.param(
            {"event": "Agent replied", "for": "1w 2d"},
            "2026-12-01T11:00",
            id="event-in-words-and-weeks",
        ),
    ],
)
def test_delays(config: dict[str, Any], expected: str) -> None:
    """3.3: each kind of delay in the account's zone; a past or empty one ends at once."""
    fields = {
        "close_date": date(2026, 12, 1),
        "created_at": at("2026-11-20T10:00").astimezone(ZONE),
        "closed_at": None,
    }
    assert delay_problem(config) is None
    assert due(config, SUNDAY, ZONE, None, fields) == at(expected)


@pytest.mark.parametrize(
    ("config", "entered", "expected"),
    [
        pytest.param(
            {"for": "1d"}, "2026-10-24T12:00", "2026-10-25T11:00", id="a-day-is-24-hours-in-autumn"
        ),
        pytest.param(
            {"for": "1d"}, "2026-03-28T12:00", "2026-03-29T13:00", id="a-day-is-24-hours-in-spring"
        ),
        pytest.param(
            {"time": "09:00"}, "2026-10-24T12:00", "2026-10-25T09:00", id="time-of-day-in-autumn"
        ),
        pytest.param(
            {"time": "09:00"}, "2026-03-28T12:00", "2026-03-29T09:00", id="time-of-day-in-spring"
        ),
        pytest.param(
            {"time": "02:30"},
            "2026-03-29T01:30",
            "2026-03-29T01:30+00:00",
            id="a-time-that-is-left-out",
        ),
        pytest.param(
            {"time": "02:30"},
            "2026-10-25T01:30",
            "2026-10-25T00:30+00:00",
            id="a-time-that-comes-twice",
        ),
        pytest.param(
            {"time": "02:30"},
            "2026-10-25T01:15+00:00",
            "2026-10-26T02:30",
            id="entered-between-its-two-times",
        ),
        pytest.param(
            {"weekday": "sun", "time": "02:30"},
            "2026-10-25T01:15+00:00",
            "2026-11-01T02:30",
            id="and-on-a-weekday",
        ),
        pytest.param(
            {"until": "2026-10-25T02:30"},
            "2026-10-24T12:00",
            "2026-10-25T00:30+00:00",
            id="until-the-first-of-two",
        ),
    ],
)
def test_delays_over_a_clock_change(config: dict[str, Any], entered: str, expected: str) -> None:
    """3.3: across a clock change a day is 24 hours, and a time of day follows the local clock."""
    assert due(config, at(entered), ZONE, None, {}) == at(expected)


@pytest.mark.parametrize(
    ("text", "window", "entered", "expected"),
    [
        pytest.param(
            "1d", OFFICE, "2026-11-20T16:00", "2026-11-23T16:00", id="from-friday-to-monday"
        ),
        pytest.param("2d", OFFICE, "2026-11-22T11:00", "2026-11-24T11:00", id="from-sunday"),
        pytest.param("1d 2h", OFFICE, "2026-11-20T16:00", "2026-11-23T18:00", id="hours-are-hours"),
        pytest.param("20h", OFFICE, "2026-11-20T16:00", "2026-11-21T12:00", id="less-than-a-day"),
        pytest.param(
            "1d",
            {**OFFICE, "holidays": ["2026-11-23"]},
            "2026-11-20T16:00",
            "2026-11-24T16:00",
            id="holiday",
        ),
        pytest.param(
            "1d",
            {**OFFICE, "holidays": [date(2026, 11, 23)]},
            "2026-11-20T16:00",
            "2026-11-24T16:00",
            id="holiday-of-toml",
        ),
        pytest.param(
            "1d",
            {**OFFICE, "holidays": ["20261123"]},
            "2026-11-20T16:00",
            "2026-11-24T16:00",
            id="holiday-without-dashes",
        ),
        pytest.param(
            "1d",
            {"hours": "09:00-17:00"},
            "2026-10-24T12:00",
            "2026-10-25T12:00",
            id="same-time-on-the-wall",
        ),
    ],
)
def test_days_where_a_window_is_set(
    text: str, window: dict[str, Any], entered: str, expected: str
) -> None:
    """3.3: "days" are 24 hours, or days of the window when one is set."""
    assert window_problem(window) is None
    assert due({"for": text}, at(entered), ZONE, window, {}) == at(expected)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "a delay has one of"),
        ({"for": "1d", "until": "2026-01-01"}, "a delay has one of"),
        ({"for": "1d", "time": "09:00"}, "a delay has one of"),
        ({"for": 5}, "for must be text"),
        ({"for": "soon"}, "for must be a span"),
        ({"until": "soon"}, "until must be a date"),
        ({"until": time(9)}, "until must be a date"),
        ({"field": "subject"}, "field must be one of"),
        ({"weekday": "noday"}, "weekday must be a day"),
        ({"time": "24:00"}, "time must be like"),
        ({"time": date(2026, 1, 1)}, "time must be like"),
        ({"event": "rain"}, "event must be one of"),
    ],
)
def test_mistakes_in_a_delay_are_reported(config: dict[str, Any], problem: str) -> None:
    """Each mistake in a delay is reported by name."""
    assert problem in (delay_problem(config) or "")


@pytest.mark.parametrize(
    ("window", "now", "expected"),
    [
        pytest.param(None, "2026-11-22T11:00", "2026-11-22T11:00", id="none"),
        pytest.param(OFFICE, "2026-11-23T09:00", "2026-11-23T09:00", id="as-it-opens"),
        pytest.param(OFFICE, "2026-11-23T16:59", "2026-11-23T16:59", id="open"),
        pytest.param(OFFICE, "2026-11-23T17:00", "2026-11-24T09:00", id="as-it-closes"),
        pytest.param(OFFICE, "2026-11-22T11:00", "2026-11-23T09:00", id="sunday"),
        pytest.param(OFFICE, "2026-11-20T17:30", "2026-11-23T09:00", id="friday-evening"),
        pytest.param(
            {**OFFICE, "holidays": ["2026-12-25", "2026-12-28"]},
            "2026-12-24T18:00",
            "2026-12-29T09:00",
            id="holidays",
        ),
        pytest.param(
            {**OFFICE, "holidays": ["2026-12-25T00:00:00"]},
            "2026-12-24T18:00",
            "2026-12-28T09:00",
            id="holiday-with-time",
        ),
        pytest.param(
            {**OFFICE, "holidays": ["2026-W53-1"]},
            "2026-12-26T18:00",
            "2026-12-29T09:00",
            id="holiday-by-week",
        ),
        pytest.param(
            {"hours": "00:00-24:00", "days": ["Saturday"]},
            "2026-11-22T11:00",
            "2026-11-28T00:00",
            id="a-day-long",
        ),
        pytest.param({}, "2026-11-22T11:00", "2026-11-22T11:00", id="always"),
        pytest.param(
            OFFICE, "2026-03-27T18:00", "2026-03-30T07:00+00:00", id="over-the-change-in-spring"
        ),
        pytest.param(
            OFFICE, "2026-10-23T18:00", "2026-10-26T08:00+00:00", id="over-the-change-in-autumn"
        ),
        pytest.param(
            {"hours": "02:30-04:00"},
            "2026-03-29T01:30",
            "2026-03-29T01:30+00:00",
            id="opens-at-a-time-left-out",
        ),
        pytest.param(
            {"hours": "02:15-02:45"},
            "2026-03-29T01:30",
            "2026-03-30T02:15",
            id="lies-in-what-is-left-out",
        ),
        pytest.param(
            {"hours": "02:30-03:30"},
            "2026-03-29T01:30",
            "2026-03-30T02:30",
            id="over-before-it-opens",
        ),
    ],
)
def test_windows(window: Any, now: str, expected: str) -> None:
    """3.3, windows: the next instant at which one is open, by local time, holidays excluded."""
    assert window is None or window_problem(window) is None
    assert opening(window, at(now), ZONE) == at(expected)


def test_a_window_without_a_day_never_opens() -> None:
    """A window that holidays close for good never opens; a delay in days still ends."""
    holidays = [(date(2026, 1, 1) + timedelta(days=day)).isoformat() for day in range(1300)]
    assert opening({"holidays": holidays}, SUNDAY, ZONE) is None
    assert due({"for": "1d"}, SUNDAY, ZONE, {"holidays": holidays}, {}) > SUNDAY


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        ("always", "a window is a table"),
        ({"weeks": 1}, "a window is a table"),
        ({"days": []}, "the days"),
        ({"days": "mon"}, "the days"),
        ({"days": ["someday"]}, "the days"),
        ({"hours": "17:00-09:00"}, "the hours"),
        ({"hours": "09:00-24:30"}, "the hours"),
        ({"hours": 9}, "the hours"),
        ({"holidays": "2026-12-25"}, "the holidays"),
        ({"holidays": ["christmas"]}, "the holidays"),
        ({"holidays": [5]}, "the holidays"),
    ],
)
def test_mistakes_in_a_window_are_reported(window: Any, problem: str) -> None:
    """Each mistake in a window is reported by name."""
    assert problem in (window_problem(window) or "")


ZONES = st.sampled_from(
    [
        UTC,
        ZONE,
        ZoneInfo("America/Sao_Paulo"),
        ZoneInfo("Australia/Lord_Howe"),
        timezone(timedelta(hours=-12)),
    ]
)
INSTANTS = st.builds(
    at, st.datetimes(*map(datetime.fromisoformat, ("2000-01-01", "2060-01-01"))).map(str)
) | st.builds(
    at,
    st.datetimes(*map(datetime.fromisoformat, ("2026-10-25T00:00", "2026-10-25T06:00"))).map(
        lambda each: f"{each}+02:00"
    ),
)
DAYS = (
    st.dates()
    | st.datetimes()
    | st.dates().map(str)
    | st.sampled_from(["9999-12-31T23:00:00-12:00", "0001-01-01", "9999-12-31", "soon", ""])
)
SPANS = st.from_regex(r"([0-9]{1,5}d)? ?([0-9]{1,6}h)? ?([0-9]{1,8}m)?", fullmatch=True)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "for": SPANS,
        "until": DAYS,
        "field": st.sampled_from(DATED),
        "weekday": st.sampled_from(WEEKDAYS),
        "time": st.times().map(lambda each: each.isoformat()[:5]) | st.times() | st.just("02:30"),
        "event": st.sampled_from(sorted(EVENTS)),
        "name": st.text(max_size=3),
    },
).filter(lambda config: delay_problem(config) is None)
HOURS = st.from_regex(r"[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]", fullmatch=True)
WINDOWS = st.fixed_dictionaries(
    {},
    optional={
        "days": st.lists(st.sampled_from(WEEKDAYS), max_size=3),
        "hours": HOURS | st.sampled_from(["02:00-03:00", "02:15-02:45", "00:00-24:00"]),
        "holidays": st.lists(DAYS, max_size=2),
    },
).filter(lambda window: window_problem(window) is None)


@given(
    CONFIGS,
    INSTANTS,
    ZONES,
    st.none() | WINDOWS,
    st.dictionaries(st.sampled_from(DATED), st.none() | st.dates() | INSTANTS),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_a_sound_delay_has_an_end(
    config: dict[str, Any], entered: datetime, zone: Any, window: Any, fields: dict[str, Any]
) -> None:
    """No valid delay raises; only a date, a date field or an empty one may end before it began."""
    ends = due(config, entered, zone, window, fields)
    assert ends.utcoffset() == timedelta()
    if not config.keys() & {"until", "field"}:
        assert ends >= entered
    if "event" in config and "for" not in config:
        assert ends == entered + LONGEST_WAIT


@given(WINDOWS, INSTANTS, ZONES)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_a_window_is_open_when_it_opens(window: dict[str, Any], now: datetime, zone: Any) -> None:
    """The next opening is never in the past, is inside the window, and is on no holiday."""
    opens = opening(window, now, zone)
    if opens is None:
        return
    assert opens >= now
    assert opening(window, opens, zone) == opens
    assert not window.get("days") or WEEKDAYS[opens.astimezone(zone).weekday()] in window["days"]


@given(
    st.dictionaries(
        st.sampled_from(["for", "until", "days", "hours", "holidays"]),
        st.integers() | DAYS | st.lists(DAYS | st.integers()),
    )
)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_any_input_is_checked(config: dict[str, Any]) -> None:
    """Neither check raises, whatever the input."""
    delay_problem(config)
    window_problem(config)
