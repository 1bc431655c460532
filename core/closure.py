"""Close date and reopening: what follows a move to a closed or an open status, whatever caused it
(behaviour.md S3, S4, 2.4).

The date is taken in the account's time zone at the instant of the move (C12, C19). An explicit date
wins over every switch (C07).
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from core.decisions.tickets import SetClosure
from core.events import StatusChanged


def clears_with_switch_off() -> bool:
    """C1: the switch names only the setting half, so reopening always clears."""
    return True


def closed_again_stamps_again() -> bool:
    """C8, row C04: a move from one closed status to another is a move to a closed status."""
    return True


def after_move(event: StatusChanged, now: datetime, zone: tzinfo) -> SetClosure | None:
    """The closure fields after a move, or None where nothing follows (rows C01 to C07 and C09).

    ``event.pipeline`` is where the ticket landed: its switch counts (C09). ``now`` is aware;
    ``zone`` the account's.
    """
    number, explicit = event.ticket.number, event.close_date
    if event.state == "closed":
        if event.was_state == "closed" and not closed_again_stamps_again():
            return None
        if explicit is not None:
            return SetClosure(number, event.cause, closed_at=now, close_date=explicit)
        if event.pipeline.set_close_date:
            return SetClosure(
                number, event.cause, closed_at=now, close_date=now.astimezone(zone).date()
            )
        return SetClosure(number, event.cause, closed_at=now, close_date="keep")
    if event.was_state == "closed":
        kept = (
            explicit is None and not event.pipeline.set_close_date and not clears_with_switch_off()
        )
        return SetClosure(
            number,
            event.cause,
            closed_at=None,
            close_date="keep" if kept else explicit,
            reopened=True,
        )
    if explicit is not None:
        return SetClosure(
            number, event.cause, closed_at=event.ticket.closed_at, close_date=explicit
        )
    return None
