"""Choose which users to notify about a ticket, and whether at once or with their digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta, tzinfo

from core.decisions.outgoing import Notify
from core.model.ticket import Ticket, User

MORNING = time(8)  # when a daily digest goes out, in the account's time zone


def told(
    decision: Notify, ticket: Ticket, users: Mapping[str, User], now: datetime, zone: tzinfo
) -> list[tuple[User, datetime]]:
    """Return (user, when) for every user to notify; the user who acted is left out.

    A ticket's owner is told of everything. Without an owner, all who may answer are told of a new
    ticket, and users with the role automation or admin are told of failures.
    """
    people: Iterable[User] = {
        user.id: user for user in users.values() if user.active and user.role != "reader"
    }.values()
    if ticket.owner_id is None and decision.kind == "failure":
        people = (user for user in people if user.role in ("admin", "automation"))
    elif ticket.owner_id is not None or decision.kind != "new":
        people = (user for user in people if user.id == ticket.owner_id)
    wanting = (
        user for user in people if user.wants(decision.kind) and decision.but not in user.addresses
    )
    return [(user, _when(user, now, zone)) for user in sorted(wanting, key=lambda user: user.id)]


def _when(user: User, now: datetime, zone: tzinfo) -> datetime:
    match (user.notify or {}).get("digest", "off"):
        case "hourly":
            return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        case "daily":
            local = now.astimezone(zone)
            morning = datetime.combine(local.date(), MORNING, zone)
            return (
                morning
                if morning > local
                else datetime.combine(local.date() + timedelta(days=1), MORNING, zone)
            ).astimezone(UTC)
        case _:
            return now
