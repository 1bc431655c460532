"""Read calendar invitations (RFC 5545, RFC 5546): people, their answers, time and place.

The library ``icalendar`` is imported only when a worker reads its first calendar. For a calendar
that defines its own time zone, the library expands recurrence rules, which may never end. So
definitions of time zones are removed first, and a zone is known by its name alone. Broken values
are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any, Final

from core.model.message import Address, Invitation, Invitee
from gateway.reading.mime import charset, limits

MAX_BYTES: Final = 256 * 1024  # bytes of a calendar that are read
_MAX_EVENTS: Final = 20  # of one calendar
_MAX_INVITEES: Final = 500  # of one event
_MAX_COMPONENTS: Final = 1000  # of one calendar
_KINDS: Final = frozenset({"VEVENT", "VTODO", "VFREEBUSY"})
TYPES: Final = frozenset({"text/calendar", "application/ics", "text/x-vcalendar"})


def read(data: bytes, label: str | None, method: str = "") -> tuple[list[Invitation], str | None]:
    """Return the events of a calendar, and a defect if the calendar could not be read whole.

    ``label`` and ``method`` are the parameters ``charset`` and ``method`` of its content type.
    """
    text, _ = charset.decode(data[:MAX_BYTES], label or "utf-8")
    source = _without_zones(text)
    if not source:
        return [], "a calendar that cannot be read"
    import icalendar

    try:
        calendars = icalendar.Calendar.from_ical(source, multiple=True)
        events = [
            (each, calendar)
            for calendar in calendars[:_MAX_EVENTS]
            for each in calendar.subcomponents
            if each.name in _KINDS
        ]
        found = [
            _event(event, _line(calendar, "METHOD") or method)
            for event, calendar in events[:_MAX_EVENTS]
        ]
    except Exception:  # noqa: BLE001
        # On damaged calendars, the library raises ValueError, KeyError and others.
        return [], "a calendar that cannot be read"
    if len(data) > MAX_BYTES or len(events) > _MAX_EVENTS:
        return found, "a calendar longer than is read"
    return found, "a calendar with broken values" if any(
        event.errors for event, _ in events
    ) else None


def lines(found: Invitation) -> str:
    """Return an invitation as lines of text, to be shown if the mail has no other text."""
    when = " - ".join(each for each in (found.start, found.end) if each)
    rows = [
        ("Invitation" if found.method != "REPLY" else "Answer to an invitation", found.summary),
        ("Method", found.method),
        ("When", f"{when} ({found.zone})" if when and found.zone else when),
        ("Where", found.location),
        ("Organizer", _shown(found.organizer) if found.organizer else ""),
        *(
            ("Attendee", f"{_shown(each.who)} ({each.status})" if each.status else _shown(each.who))
            for each in found.attendees[:50]
        ),
    ]
    head = "\n".join(f"{name}: {value}" for name, value in rows if value)
    return f"{head}\n\n{found.description}".strip() if found.description else head


def _without_zones(text: str) -> str:
    """Return a calendar without time zone definitions, and with missing END lines added.

    The result is empty if the text is no calendar or has too many components.
    """
    kept: list[str] = []
    opened: list[str] = []
    inside = False
    begun = 0
    for line in text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").split("\n"):
        verb, _, name = line[:40].rstrip().upper().partition(":")
        zone = name == "VTIMEZONE"
        if verb == "BEGIN" and not inside:
            begun += 1
            inside = zone
            opened += [] if zone else [name]
        if not inside and line.strip() and (verb != "END" or opened and opened.pop()):
            kept.append(line)
        if verb == "END" and zone:
            inside = False
    if not begun or begun > _MAX_COMPONENTS:
        return ""
    return "\r\n".join([*kept, *(f"END:{name}" for name in reversed(opened))]) + "\r\n"


def _event(event: Any, method: str) -> Invitation:
    start, zone = _moment(event, "DTSTART")
    end, _ = _moment(event, "DTEND")
    end = end or _moment(event, "DUE")[0] or _end_by_duration(event)
    organizer = next(_people(event, "ORGANIZER"), None)
    return Invitation(
        method=charset.one_line(method, 40).upper(),
        summary=_line(event, "SUMMARY"),
        start=start,
        end=end,
        zone=zone,
        organizer=organizer.who if organizer else None,
        attendees=tuple(_people(event, "ATTENDEE")),
        location=_line(event, "LOCATION"),
        description=charset.clean(
            str(_first(event, "DESCRIPTION") or "").replace("\r\n", "\n"), limits.SUBJECT * 10
        ).strip(),
        uid=_line(event, "UID"),
    )


def _first(component: Any, name: str) -> Any:
    """Return the first value of a property that may occur several times."""
    value = component.get(name)
    return value[0] if isinstance(value, list) and value else value


def _line(component: Any, name: str) -> str:
    return charset.one_line(str(_first(component, name) or ""), limits.SUBJECT)


def _moment(event: Any, name: str) -> tuple[str | None, str]:
    """Return the date or time in a property, in ISO 8601, and the name of its time zone."""
    value = _first(event, name)
    found = _value(value)
    if isinstance(found, datetime):
        return found.isoformat(), _zone_name(value, found)
    return found.isoformat() if isinstance(found, date) else None, ""


def _zone_name(value: Any, found: datetime) -> str:
    """Return the time zone that a property names; without one, "UTC" for offset 0, else ""."""
    zone = charset.one_line(str(value.params.get("TZID", "")), limits.NAME)
    return zone or ("UTC" if found.utcoffset() == timedelta(0) else "")


def _value(value: Any) -> Any:
    """Return the Python value of a date, a time or a duration; None if missing or broken."""
    try:
        return value.dt
    except Exception:  # noqa: BLE001
        # Missing values have no such attribute; broken ones raise the library's own error.
        return None


def _end_by_duration(event: Any) -> str | None:
    """Return the end of an event by its start and duration; None if either is missing."""
    start, length = _value(_first(event, "DTSTART")), _value(_first(event, "DURATION"))
    if isinstance(start, date) and isinstance(length, timedelta):
        with suppress(OverflowError):
            return (start + length).isoformat()
    return None


def _people(event: Any, name: str) -> Iterator[Invitee]:
    """Yield the people in a property, with their answers."""
    value = event.get(name)
    for each in (value if isinstance(value, list) else [value] if value else [])[:_MAX_INVITEES]:
        text = charset.one_line(str(each), limits.ADDRESS).strip()
        address = text[7:] if text[:7].lower() == "mailto:" else text
        params = getattr(each, "params", {})
        who = Address(
            charset.one_line(str(params.get("CN", "")), limits.NAME),
            address if "@" in address else None,
        )
        if who.name or who.address:
            yield Invitee(who, charset.one_line(str(params.get("PARTSTAT", "")), 40).lower())


def _shown(who: Address) -> str:
    return (
        f"{who.name} <{who.address}>" if who.name and who.address else who.name or who.address or ""
    )
