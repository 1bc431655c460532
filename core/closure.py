"""Decide the close date after a move to a closed or an open status (behaviour.md S3, S4, 2.4).

The date is the day in the account's time zone at the instant of the move (C12, C19). A date given
explicitly wins over every switch (C07).
"""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from typing import Literal

from core.decisions.tickets import SetClosure
from core.events import StatusChanged


def clears_with_switch_off() -> bool:
    """Tell whether reopening clears the close date in a pipeline where closing sets none (C1)."""
    return True


def closed_again_stamps_again() -> bool:
    """Tell whether a move from one closed status to another sets the date again (C8, row C04)."""
    return True


def after_move(event: StatusChanged, now: datetime, zone: tzinfo) -> SetClosure | None:
    """Return the closure fields to set after a move, or None to keep them (rows C01 to C07, C09).

    The switch is read from ``event.pipeline``, the pipeline that the ticket moved to (C09). ``now``
    is aware; ``zone`` is the account's time zone.
    """
    if event.state == "closed":
        return _closed(event, now, zone)
    if event.was_state == "closed":
        return _reopened(event)
    if event.close_date is None:
        return None
    ticket = event.ticket
    return SetClosure(ticket.number, event.cause, ticket.closed_at, event.close_date)


def _closed(event: StatusChanged, now: datetime, zone: tzinfo) -> SetClosure | None:
    if event.was_state == "closed" and not closed_again_stamps_again():
        return None
    stamped = now.astimezone(zone).date() if event.pipeline.set_close_date else None
    return SetClosure(event.ticket.number, event.cause, now, event.close_date or stamped or "keep")


def _reopened(event: StatusChanged) -> SetClosure:
    cleared = event.pipeline.set_close_date or clears_with_switch_off()
    close_date: date | Literal["keep"] | None = event.close_date or (None if cleared else "keep")
    return SetClosure(event.ticket.number, event.cause, None, close_date, reopened=True)
