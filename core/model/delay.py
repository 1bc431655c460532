"""How long a delay lasts, and when a workflow may act (behaviour.md 3.3).

Everything is computed from the instant at which the ticket entered the delay, so that an edited
delay can be computed again (table 3.4). A delay that would end in the past is over at once. Nothing
raises for a delay that :func:`delay_problem` accepts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Literal

Awaited = Literal["customer_reply", "agent_reply"]
EVENTS: Final[dict[str, Awaited]] = {  # in the words of the interface and of behaviour.md 3.1
    "customer_reply": "customer_reply",
    "agent_reply": "agent_reply",
    "customer_replied": "customer_reply",
    "agent_replied": "agent_reply",
}
LONGEST_WAIT: Final = timedelta(days=365)  # for an event that never comes: every run ends
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DATED: Final = (
    "created_at",
    "closed_at",
    "close_date",
    "last_customer_message_at",
    "last_agent_message_at",
    "first_response_at",
)
_SPAN: Final = re.compile(
    r"(?:(\d{1,4})w)?\s*(?:(\d{1,5})d)?\s*(?:(\d{1,6})h)?\s*(?:(\d{1,8})m)?", re.ASCII
)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
# An instant that some time zone cannot express is replaced with the nearer of these two.
EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
SEARCHED_DAYS: Final = 800  # a window that does not open within these days never opens


def span(text: str) -> tuple[int, timedelta] | None:
    """Return a span like ``2d``, ``1d 30m`` or ``1w`` as (days, hours and minutes), or None."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    weeks, days, hours, minutes = (int(each) if each else 0 for each in found.groups())
    return 7 * weeks + days, timedelta(hours=hours, minutes=minutes)


def awaited(config: Mapping[str, Any]) -> Awaited | None:
    """Return the event that a delay waits for, or None."""
    return EVENTS.get("_".join(str(config.get("event", "")).lower().split()))


def delay_problem(config: Mapping[str, Any]) -> str | None:
    """Return a clause that says why a delay is not valid, or None."""
    given = {key for key in ("for", "until", "field", "weekday", "time", "event") if key in config}
    if given not in (
        {"for"},
        {"until"},
        {"field"},
        {"field", "for"},
        {"weekday"},
        {"weekday", "time"},
        {"time"},
        {"event"},
        {"event", "for"},
    ):
        return (
            "a delay has one of for, until, field, weekday, time, event (weekday can be combined "
            "with time, event and field with for)"
        )
    return next(
        (
            problem
            for key in sorted(given)
            if (problem := _value_problem(key, config[key])) is not None
        ),
        None,
    )


def _value_problem(key: str, value: Any) -> str | None:
    """Return why a value is not valid, or None; dates and times of TOML count as text."""
    if isinstance(value, date | time):
        value = value.isoformat()[:5] if key == "time" else value.isoformat()
    if not isinstance(value, str):
        return f"{key} must be text"
    match key:
        case "for" if span(value) is None:
            return "for must be a span like 2d, 12h or 1d 30m"
        case "until" if _moment(value, UTC) is None:
            return "until must be a date or an instant"
        case "field" if value not in DATED:
            return f"field must be one of {', '.join(DATED)}"
        case "weekday" if value[:3].lower() not in WEEKDAYS:
            return "weekday must be a day like mon"
        case "time" if not _TIME.fullmatch(value):
            return "time must be like 09:30"
        case "event" if awaited({"event": value}) is None:
            return "event must be one of customer_reply, agent_reply"
        case _:
            return None


def due(
    config: Mapping[str, Any],
    entered: datetime,
    zone: tzinfo,
    window: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
) -> datetime:
    """Return when a delay is over, in aware UTC; ``fields`` are the fields of the ticket."""
    if "event" in config:
        return (
            _after(config["for"], entered, zone, window)
            if "for" in config
            else entered + LONGEST_WAIT
        )
    if "field" in config:
        start = _moment(fields.get(config["field"]), zone)
        if start is None:
            return entered
        return _after(config["for"], start, zone, window) if "for" in config else start
    if "until" in config:
        return _moment(config["until"], zone) or entered
    if "for" in config:
        return _after(config["for"], entered, zone, window)
    return _next(config, entered, zone)


def _after(text: str, start: datetime, zone: tzinfo, window: Mapping[str, Any] | None) -> datetime:
    """Return the instant at which a span that begins at ``start`` ends."""
    try:
        return _counted(*(span(text) or (0, timedelta())), start, zone, window)
    except OverflowError:
        return LATEST


def _counted(
    days: int, rest: timedelta, start: datetime, zone: tzinfo, window: Mapping[str, Any] | None
) -> datetime:
    """Add a span to an instant: ``days``, and its hours and minutes (``rest``).

    Without a window a day is 24 hours. With a window, only days on which the window is open count,
    and the time of day stays the same.
    """
    if not days or window is None:
        return start + timedelta(days=days) + rest
    local = start.astimezone(zone)
    at = local.date()
    weekdays, holidays = _open_days(window)
    for _ in range(SEARCHED_DAYS + 7 * days):
        if not days:
            break
        at += timedelta(days=1)
        days -= at.weekday() in weekdays and at not in holidays
    return datetime.combine(at, local.time(), zone).astimezone(UTC) + rest


def _next(config: Mapping[str, Any], entered: datetime, zone: tzinfo) -> datetime:
    """Return the next instant after ``entered`` with the given weekday, time of day, or both.

    A weekday alone means the first instant of that day. Exception: if ``entered`` is on that
    weekday, ``entered`` itself is returned.
    """
    local = entered.astimezone(zone)
    hour, minute = map(int, str(config.get("time", "00:00")).split(":")[:2])
    day = WEEKDAYS.index(config["weekday"][:3].lower()) if "weekday" in config else None
    if day is not None and day == local.weekday() and "time" not in config:
        return entered  # it is that day already
    at = local.date()
    for _ in range(15):
        moment = datetime.combine(at, time(hour, minute), zone).astimezone(UTC)
        if (day is None or at.weekday() == day) and moment > entered:
            return moment
        at += timedelta(days=1)
    return entered


def _moment(value: Any, zone: tzinfo) -> datetime | None:
    """Return an instant, or the start of a date in ``zone``, in aware UTC; else None."""
    if isinstance(value, datetime):
        found = value
    elif isinstance(value, date):
        found = datetime.combine(value, time())
    elif isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
    else:
        return None
    try:
        return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        return EARLIEST if found.year == 1 else LATEST


# ---- execution windows


def window_problem(window: Any) -> str | None:
    """Return a clause that says why an execution window is not valid, or None.

    The keys of a window are days, hours ("09:00-17:00") and holidays (dates).
    """
    if not isinstance(window, dict) or window.keys() - {"days", "hours", "holidays"}:
        return "a window is a table with only days, hours and holidays"
    days = window.get("days", list(WEEKDAYS))
    if (
        not isinstance(days, list)
        or not days
        or any(not isinstance(each, str) or each[:3].lower() not in WEEKDAYS for each in days)
    ):
        return "the days of a window must be a list like ['mon', 'tue']"
    hours = window.get("hours", "00:00-24:00")
    found = _HOURS.fullmatch(hours) if isinstance(hours, str) else None
    if found is None or not _minutes(hours)[0] < _minutes(hours)[1] <= 24 * 60:
        return "the hours of a window must be like 09:00-17:00"
    holidays = window.get("holidays", [])
    if not isinstance(holidays, list) or any(_moment(each, UTC) is None for each in holidays):
        return "the holidays of a window must be a list of dates"
    return None


def opening(window: Mapping[str, Any] | None, now: datetime, zone: tzinfo) -> datetime | None:
    """Return the first instant at or after ``now`` at which a window is open, or None."""
    if window is None:
        return now
    local = now.astimezone(zone)
    weekdays, holidays = _open_days(window)
    first, last = _minutes(window.get("hours", "00:00-24:00"))
    for day in range(SEARCHED_DAYS):
        at = local.date() + timedelta(days=day)
        if at.weekday() not in weekdays or at in holidays:
            continue
        # wall-clock time, as people read it
        start = datetime.combine(at, time(), zone) + timedelta(minutes=first)
        end = datetime.combine(at, time(), zone) + timedelta(minutes=last)
        opens = max(now, start.astimezone(UTC))
        if opens.astimezone(zone) < end:  # unless the clock skips the rest of it
            return opens
    return None


def _open_days(window: Mapping[str, Any]) -> tuple[frozenset[int], frozenset[date]]:
    """Return the weekdays of a window, and the dates on which it stays closed."""
    days = frozenset(WEEKDAYS.index(each[:3].lower()) for each in window.get("days", WEEKDAYS))
    return days, frozenset(_day(each) for each in window.get("holidays", ()))


def _day(value: Any) -> date:
    """Return the date of a holiday, given as text or as a date."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.date() if isinstance(found, datetime) else found


def _minutes(hours: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(hours)
    if found is None:
        return 0, 24 * 60
    a, b, c, d = map(int, found.groups())
    return a * 60 + b, c * 60 + d
