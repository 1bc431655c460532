"""Tests of every act with every role, as in docs/rights.md, and that no act skips the check."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import gateway.desk
from core.rules.rights import RIGHTS, Right, may, why_not
from gateway.clock import Clock
from gateway.compose.route import MailIdentity
from gateway.desk.correspondence import CorrespondenceDesk, MailDraft
from gateway.desk.tickets import NewTicket
from gateway.desk.transaction import Actor
from gateway.errors import Forbidden, Rejected
from gateway.store.engine import Database
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.drafts import DueDraft
from gateway.store.schema import tables
from tests.unit.gateway.desk.conftest import UTC, Office

PAGE = Path(__file__).parents[4] / "docs" / "rights.md"
NOT_ACTS = {"acting", "check"}  # of the base class
ACTION = {"id": "x", "kind": "add_tag", "tag": "x"}
ARGUMENTS: dict[str, Any] = {
    "action": "ticket-received",
    "address": "ann@customer.example",
    "addresses": ["new@ours.example"],
    "after": "ticket-received",
    "blobs": open_blobs("database:"),
    "change": "add",
    "changes": {},
    "channel_address": "support@localhost",
    "draft": NewTicket("One"),
    "due": DueDraft(1, "agent@ours.example", 1, None),
    "following": False,
    "html": None,
    "ids": [1],
    "into": 2,
    "language": "",
    "mail": MailDraft("Hello.", to=("ann@customer.example",), subject="Hello"),
    "mail_id": 1,
    "messages": [1],
    "name": "New",
    "new": "Newer",
    "number": 1,
    "numbers": [1],
    "old": "New",
    "pipeline": "Support",
    "plans": [],
    "position": 1,
    "role": "agent",
    "settings": {"enabled": True},
    "state": "open",
    "status": "New",
    "statuses": [("A", "open"), ("B", "closed")],
    "subject": "S",
    "switches": {"allow_back": True},
    "task": 1,
    "text": "T",
    "thread_id": 1,
    "transactional": None,
    "values": {},
    "version": 1,
}


def desks() -> dict[str, type[Actor]]:
    """Return every desk class by name."""
    for module in pkgutil.iter_modules(gateway.desk.__path__):
        importlib.import_module(f"gateway.desk.{module.name}")
    found, left = {}, [Actor]
    while left:
        below = left.pop().__subclasses__()
        found.update({each.__name__: each for each in below})
        left += below
    return found


def acts() -> set[tuple[str, str]]:
    """Return (class, method) of every public coroutine method of every desk."""
    return {
        (name, method)
        for name, desk in desks().items()
        for method, found in inspect.getmembers(desk, inspect.iscoroutinefunction)
        if not method.startswith("_") and method not in NOT_ACTS
    }


def told() -> dict[tuple[str, str], Right]:
    """Return the right that docs/rights.md names for each (class, method)."""
    found: dict[tuple[str, str], Right] = {}
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| ") or "`" not in line.rsplit("|", 2)[1]:
            continue
        right, *_, cell = (each.strip() for each in line.strip("|").split("|"))
        for desk, methods in re.findall(r"`(\w+)`: ((?:`\w+`(?:, )?)+)", cell):
            for method in re.findall(r"`(\w+)`", methods):
                assert (desk, method) not in found, f"{desk}.{method} is told twice"
                found[desk, method] = Right(right)
    return found


def arguments(method: Any) -> dict[str, Any]:
    """Return a value for every argument of an act that has no default."""
    needed = [
        each
        for each in list(inspect.signature(method).parameters.values())[1:]
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    ]
    missing = {each.name for each in needed} - ARGUMENTS.keys()
    assert not missing, f"give ARGUMENTS a value for {sorted(missing)}"
    given = {each.name: ARGUMENTS[each.name] for each in needed}
    return given | ({"action": ACTION} if method.__qualname__ == "WorkflowDesk.add" else {})


def made(name: str, database: Database, clock: Clock, actor: str) -> Actor:
    """Return a desk of this class for a user."""
    if name == CorrespondenceDesk.__name__:
        return CorrespondenceDesk(database, clock, MailIdentity(UTC, "Desk", ""), actor)
    return desks()[name](database, clock, UTC, actor)


async def content(database: Database) -> dict[str, list[Any]]:
    """Return every row of every table."""
    async with database.read() as connection:
        return {
            table.name: sorted(map(repr, await connection.execute(sa.select(table))))
            for table in tables.metadata.sorted_tables
        }


@pytest.fixture
async def staffed(office: Office) -> Office:
    """Return a desk with a user of each role, and a ticket."""
    for role in RIGHTS:
        await office.people.add_user(role.title(), [f"{role}@ours.example"], role)
    await office.mail("ann@customer.example", key="1")
    return office


def test_the_page_names_every_act_and_no_other():
    """A new act or desk must be added to the page, with its right."""
    assert told().keys() == acts()


@pytest.mark.parametrize("role", RIGHTS)
async def test_each_act_is_refused_exactly_to_those_without_the_right(staffed: Office, role):
    """Without the right: Forbidden, a sentence and no change; with it: not Forbidden."""
    actor, allowed = f"{role}@ours.example", []
    before = await content(staffed.database)
    for (name, method), right in sorted(told().items()):
        act = getattr(made(name, staffed.database, staffed.clock, actor), method)
        if may(role, right):
            allowed.append(act)
            continue
        with pytest.raises(Forbidden) as refused:
            await act(**arguments(getattr(desks()[name], method)))
        assert refused.value.message == why_not(role, right)
    assert await content(staffed.database) == before
    for act in allowed:
        try:
            await act(**arguments(act.__func__))
        except Forbidden:
            pytest.fail(f"{role} may not {act.__qualname__}")
        except Rejected:
            pass  # allowed, but refused for another reason


async def test_the_right_is_read_when_somebody_acts(staffed: Office):
    """A desk created before a change of role uses the new role."""
    desk = staffed.desk_of("agent@ours.example")
    await desk.note(1, "x")
    await staffed.people.set_user("agent@ours.example", role="reader")
    with pytest.raises(Forbidden, match="a reader cannot work on tickets"):
        await desk.note(1, "x")
    await staffed.people.set_user("agent@ours.example", role="agent", active=False)
    with pytest.raises(Forbidden, match=r"no active user has the address agent@ours\.example"):
        await desk.note(1, "x")


def test_every_act_names_a_right():
    """``acting`` has no default, so every act must name its right."""
    parameter = inspect.signature(Actor.acting).parameters["right"]
    assert (parameter.default, parameter.kind) == (
        inspect.Parameter.empty,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


async def test_scheduled_mail_needs_the_right_of_its_author(staffed: Office):
    """O11: a scheduled mail whose author became a reader is not sent."""
    identity = MailIdentity(UTC, "Desk", "")
    author = "agent@ours.example"
    desk = CorrespondenceDesk(staffed.database, staffed.clock, identity, author)
    later = staffed.clock.now() + timedelta(hours=1)
    await desk.reply(1, MailDraft("Hello.", at=later))
    await staffed.people.set_user(author, role="reader")
    staffed.clock.set(later)
    with pytest.raises(Forbidden, match="a reader cannot send mail"):
        await desk.send_draft(DueDraft(1, author, 1, None))
