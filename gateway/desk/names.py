"""Find and rename what workflows name: pipelines, statuses, templates and users."""

from __future__ import annotations

from collections.abc import Collection

from core.model.ticket import User
from gateway.desk.transaction import Transaction
from gateway.store.setup import pipelines, references, users
from gateway.store.tickets.unit_of_work import Connection


async def write_name(act: Transaction, meant: references.Meant, new: str, note: str) -> None:
    """Write a new name wherever ``meant`` is true; ``note`` explains the new workflow versions."""
    name = references.NewName(meant, new, note, act.cause.user or "", act.now)
    await references.rename(act.connection, act.unit.desk.pipelines, name)


async def rename_user(act: Transaction, user: User, new: str) -> None:
    """Replace a user's old name in all workflows, unless it means another user there."""
    old = user.name
    if new != old and _leads_to(user, await users.load(act.connection)):
        note = f"user {old} is {new} now"
        await write_name(act, lambda use, _: use.names("user", old), new, note)


async def naming_user(connection: Connection, address: str) -> tuple[str, ...]:
    """Return the actions and conditions of workflows that name a user."""
    user, people = await users.at(connection, address), await users.load(connection)
    names = [*user.addresses, *([user.name] if _leads_to(user, people) else [])]
    known = await pipelines.load_pipelines(connection)
    found = await references.using(connection, known, lambda use, _: use.names("user", *names))
    return tuple(found)


def _leads_to(user: User, people: Collection[User]) -> bool:
    """Tell whether workflows mean this user by the name: the first active user of that name."""
    alike = [each for each in people if each.name.casefold() == user.name.casefold()]
    first = next((each for each in alike if each.active), user)
    return first.id == user.id
