"""Shared by the tests of status workflows: actions, templates, and what runs did."""

from __future__ import annotations

from typing import Any

from core.model.ticket import Source
from gateway.desk.tickets import NewTicket
from tests.replay.office import Office

ANN = "Ann Example <ann@example.org>"
RECEIPT: dict[str, Any] = {"id": "receipt", "kind": "send_email", "template": "Ticket received"}
REMINDER: dict[str, Any] = {"id": "remind", "kind": "send_email", "template": "Reminder"}
NOTE: dict[str, Any] = {"id": "note", "kind": "add_note", "text": "It was here."}


def wait(time: str = "2d", action: str = "wait") -> dict[str, Any]:
    """Return a delay."""
    return {"id": action, "kind": "delay", "for": time}


def tag(name: str) -> dict[str, Any]:
    """Return an action whose effect is visible on the ticket."""
    return {"id": name, "kind": "add_tag", "tag": name}


async def template(
    office: Office,
    text: str = "Do you still need us?",
    name: str = "Reminder",
    *,
    transactional: bool = True,
) -> None:
    """Store a template."""
    await office.templates().put_template(
        name, "", "Your request", text, None, transactional=transactional
    )


async def by_hand(
    office: Office,
    status: str | None = None,
    *,
    source: Source = "manual",
    requester: str | None = ANN,
) -> int:
    """Create a ticket as an agent."""
    made = await office.world.desk().create(
        NewTicket("Printer on fire", requester, None, status, source)
    )
    return made.tickets[0]


async def outcomes(office: Office, status: str, ticket: int | None = None) -> list[str]:
    """Return the outcomes of the actions of a workflow."""
    return [outcome for _, outcome in await office.runs(status, ticket)]


async def states(office: Office, status: str, ticket: int | None = None) -> list[str]:
    """Return the states of the enrolments in a workflow."""
    return [each.state for each in await office.enrolments(status, ticket)]


async def details(office: Office) -> list[str]:
    """Return the detail of every recorded action."""
    return [str(row[0]) for row in await office.world.rows("action_run", "detail")]


async def tags(office: Office, number: int = 1) -> list[str]:
    """Return the tags of a ticket."""
    return list((await office.world.ticket(number))["tags"])


async def messages(office: Office, number: int) -> list[dict[str, Any]]:
    """Return all messages of a ticket."""
    return [
        message
        for thread in (await office.world.ticket(number))["threads"]
        for message in thread["messages"]
    ]
