"""The two workflows that every pipeline comes with, switched off (behaviour.md 3.3)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from core.pipeline import Pipeline
from gateway.store.setup import workflows

RECEIVED, CLOSED = "Ticket received", "Ticket closed"
AUTHOR = "ticketgate"


async def workflows_for(connection: AsyncConnection, pipeline: Pipeline, now: datetime) -> None:
    """Add the default workflows of a pipeline.

    *Ticket received* runs at the first open status, *Ticket closed* at the first closed status.
    """
    closed = next(status for status in pipeline.statuses if status.state == "closed")
    for status, template in ((pipeline.first_open(), RECEIVED), (closed, CLOSED)):
        actions = [
            {
                "id": template.lower().replace(" ", "-"),
                "kind": "send_email",
                "template": template,
                "to": "requester",
            }
        ]
        await workflows.add(connection, pipeline.id, status.id, actions, AUTHOR, now)
