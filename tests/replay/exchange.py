"""Shared steps of tests of outgoing mail: set a switch, answer the newest mail, list the moves."""

from __future__ import annotations

from typing import Any

from gateway.desk.pipelines import PipelineDesk
from gateway.desk.transaction import BUILT_IN
from tests.replay.office import Office, answer
from tests.replay.world import ZONE

ANN = "Ann Example <ann@example.org>"


async def pipeline(office: Office, **switches: Any) -> None:
    """Set switches of the pipeline."""
    desk = PipelineDesk(office.database, office.clock, ZONE, BUILT_IN)
    await desk.set_pipeline("Support", switches)  # type: ignore[arg-type]


async def moves(office: Office, number: int = 1) -> list[tuple[str, str, str]]:
    """Return (rule, before, after) of each move of a ticket."""
    events = (await office.world.ticket(number))["events"]
    return [
        (each["cause"]["rule"], each["before"], each["after"])
        for each in events
        if each["type"] == "status_changed"
    ]


async def heard(
    office: Office, address: str = "ann@example.org", text: str = "Still burning.", **headers: str
) -> dict[str, Any]:
    """Answer the newest mail of ours that an address received."""
    return await office.world.mail(
        answer(office.received(address)[-1], text, office.clock.now(), **headers)
    )
