"""Tests of the recipient of a mail on a thread where nobody of its circle has written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from core.model.ticket import ParticipantRole, Thread, ThreadKind, Ticket
from core.rules.recipients import first_recipient

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ANN, BOB, EVE = 1, 2, 3


def chosen(
    roles: dict[int, ParticipantRole], kind: ThreadKind = "normal", first: int | None = 1
) -> int | None:
    """Return the recipient on a thread of ticket 1, which Ann requested."""
    ticket = Ticket(1, "A", 1, 1, "email", NOW, requester_id=ANN)
    return first_recipient(ticket, Thread(1, kind, NOW, ticket=1, first_ticket=first), roles)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"roles": {BOB: "participant"}}, ANN),
        ({"roles": {BOB: "participant"}, "first": None}, ANN),
        ({"roles": {ANN: "participant", BOB: "requester"}, "first": 2}, BOB),
        ({"roles": {ANN: "requester", BOB: "requester"}, "first": 2}, BOB),
        ({"roles": {ANN: "requester", BOB: "participant"}, "first": 2}, ANN),
        ({"roles": {EVE: "stranger", BOB: "participant"}, "first": 2}, BOB),
        ({"roles": {EVE: "stranger"}, "first": 2}, ANN),
        ({"roles": {EVE: "stranger", BOB: "participant"}, "kind": "forward"}, BOB),
        ({"roles": {}, "kind": "forward"}, None),
    ],
)
def test_a_thread_of_somebody_else_keeps_to_its_own_people(
    given: dict[str, Any], found: int | None
) -> None:
    """E17, E36: the requester gets mail on threads of their own ticket; never a stranger."""
    assert chosen(**given) == found
