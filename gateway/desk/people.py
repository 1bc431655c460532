"""Changes of users by administrators, and of contacts by agents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from core.model.message import address_key
from core.model.ticket import Contact, User
from core.rules import structure
from core.rules.rights import Right, Role
from gateway.desk.names import rename_user
from gateway.desk.transaction import Actor, Transaction, enforce
from gateway.errors import Invalid, NotFound
from gateway.store.setup import users
from gateway.store.tickets import contacts
from gateway.store.tickets.unit_of_work import Connection
from gateway.validation import refuse_unnamed


class PeopleDesk(Actor):
    """Add and change users; change contacts."""

    async def set_contact(self, address: str, **flags: bool | str | None) -> Contact:
        """Set ``marketing_ok``, ``blocked`` or ``language`` of a contact."""
        async with self.acting(Right.EDIT_CONTACTS) as act:
            if not flags:
                raise Invalid("nothing to set: give at least one value")
            contact = await contact_at(act.unit.connection, address)
            await contacts.set_flags(act.unit.connection, [contact.id], **flags)
            return await contact_at(act.unit.connection, address)

    async def add_user(
        self, name: str, addresses: Sequence[str], role: Role, password_hash: str | None = None
    ) -> User:
        """Add a user with these addresses, which count as verified."""
        refuse_unnamed("a user", "name", name)
        async with self.acting(Right.MANAGE_USERS) as act:
            await _refuse_taken(act, addresses, None)
            given = (name, addresses, role, act.now)
            return await users.add(act.connection, *given, password_hash=password_hash)

    async def set_user(self, address: str, also: Sequence[str] = (), **values: Any) -> User:
        """Set any of :data:`gateway.store.setup.users.SETTINGS`; ``also`` adds addresses."""
        if "name" in values:
            refuse_unnamed("a user", "name", values["name"])
        async with self.acting(Right.MANAGE_USERS) as act:
            connection = act.unit.connection
            user = await users.at(connection, address)
            if "name" in values:
                await rename_user(act, user, values["name"])
            if values:
                await users.change(connection, user.id, **values)
            if also:
                addresses = [user.address, *sorted(user.addresses - {user.address}), *also]
                await _refuse_taken(act, addresses, user)
                await users.set_addresses(connection, user.id, addresses)
            return await users.at(connection, address)


async def contact_at(connection: Connection, address: str) -> Contact:
    """Return the contact with this address; NotFound where there is none."""
    found = await contacts.load(connection, addresses=[address_key(address)])
    if not found:
        raise NotFound(f"no contact {address}")
    return found[0]


async def _refuse_taken(act: Transaction, addresses: Collection[str], user: User | None) -> None:
    """Refuse addresses that a channel or another user has; ``user`` is None for a new user."""
    keys = [address_key(address) for address in addresses]
    people = await users.load(act.unit.connection)
    others = {
        key for each in people if user is None or each.id != user.id for key in each.addresses
    }
    enforce(structure.refuse_user_addresses(keys, others, act.unit.desk.channels.keys()))
