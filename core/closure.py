"""Close date and reopening after a move to a closed or open status (behaviour.md S3, S4, 2.4).

The date is taken in the account's time zone at the instant of the move (C12, C19). A date given
explicitly wins over every switch (C07).
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from core.decisions.tickets import SetClosure
from core.events import StatusChanged


def clears_with_switch_off() -> bool:
    """Tell whether reopening clears the date: always, the switch is about setting it (C1)."""
    return True


def closed_again_stamps_again() -> bool:
    """Tell whether a move between closed statuses sets the date again (C8, row C04)."""
    return True


def after_move(event: StatusChanged, now: datetime, zone: tzinfo) -> SetClosure | None:
    """Return the closure fields after a move, None if they stay (rows C01 to C07 and C09).

    The switch of ``event.pipeline`` counts: where the ticket landed (C09). ``now`` is aware;
    ``zone`` is the account's.
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
