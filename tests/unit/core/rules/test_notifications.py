"""Tests of notifications: which users are told, and when (behaviour.md O12, S11)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.decisions.outgoing import Notify
from core.model.ticket import Ticket, User
from core.rules.notifications import told

NOW = datetime(2026, 11, 22, 10, 20, 30, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Amsterdam")
TICKET = Ticket(3, "A lamp", 1, 1, "email", NOW)
UMA = User(7, "Uma", frozenset({"uma@desk.example", "u@desk.example"}), address="uma@desk.example")
OLA = User(8, "Ola", frozenset({"ola@desk.example"}))
REX = User(9, "Rex", frozenset({"rex@desk.example"}), role="reader")
OUT = User(6, "Out", frozenset({"out@desk.example"}), active=False)


def names(kind: Any, ticket: Ticket = TICKET, *people: User, but: str = "") -> list[str]:
    users = {address: user for user in people or (OLA, UMA, REX, OUT) for address in user.addresses}
    return [user.name for user, _ in told(Notify(3, kind, "why", but), ticket, users, NOW, ZONE)]


@pytest.mark.parametrize("kind", ["new", "reply", "failure"])
def test_who_is_told(kind: Any) -> None:
    """All who may answer hear of a new ticket without owner; the owner hears of the rest."""
    assert names(kind) == (["Uma", "Ola"] if kind == "new" else [])
    assert names(kind, replace(TICKET, owner_id=8)) == ["Ola"]
    for gone in (6, 9, 99):
        assert names(kind, replace(TICKET, owner_id=gone)) == []


def test_nobody_is_told_of_their_own_act() -> None:
    """A user is not told of their own act, by any of their addresses."""
    assert names("new", but="u@desk.example") == ["Ola"]
    assert names("reply", replace(TICKET, owner_id=7), but="uma@desk.example") == []


def test_what_a_user_does_not_want() -> None:
    """Each user can switch off each kind of notification."""
    quiet = replace(UMA, notify={"reply": False})
    owned = replace(TICKET, owner_id=7)
    assert [names(kind, owned, quiet) for kind in ("new", "reply", "failure")] == [
        ["Uma"],
        [],
        ["Uma"],
    ]


@pytest.mark.parametrize(
    ("digest", "now", "expected"),
    [
        ("off", NOW, NOW),
        ("hourly", NOW, NOW.replace(hour=11, minute=0, second=0)),
        ("daily", NOW, datetime(2026, 11, 23, 7, 0, tzinfo=UTC)),
        (
            "daily",
            datetime(2026, 11, 22, 6, 59, tzinfo=UTC),
            datetime(2026, 11, 22, 7, 0, tzinfo=UTC),
        ),
        (
            "daily",
            datetime(2026, 11, 22, 7, 0, tzinfo=UTC),
            datetime(2026, 11, 23, 7, 0, tzinfo=UTC),
        ),
        (
            "daily",
            datetime(2026, 10, 24, 12, 0, tzinfo=UTC),
            datetime(2026, 10, 25, 7, 0, tzinfo=UTC),
        ),
        (
            "daily",
            datetime(2026, 10, 23, 23, 0, tzinfo=UTC),
            datetime(2026, 10, 24, 6, 0, tzinfo=UTC),
        ),
    ],
)
def test_when(digest: str, now: datetime, expected: datetime) -> None:
    """At once, at the full hour, or at 08:00 in the account's zone, also across a clock change."""
    user = replace(UMA, notify={"digest": digest})
    assert told(Notify(3, "new", "why"), TICKET, {"uma@desk.example": user}, now, ZONE) == [
        (user, expected)
    ]
