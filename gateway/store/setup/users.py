"""Read, add and change users and their verified addresses.

A user signs in with their first address. The rule that an address belongs to one user only, and to
no channel, is in ``core.rules.structure``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from core.model.ticket import User
from core.rules.rights import Role
from gateway.errors import NotFound
from gateway.store.schema import tables

TABLE = tables.user
ADDRESS = tables.user_address
SETTINGS = frozenset({"name", "role", "active", "password_hash", "signature", "notify"})
ROWS = sa.select(
    TABLE.c.id, TABLE.c.name, TABLE.c.role, TABLE.c.active, TABLE.c.signature, TABLE.c.notify
).order_by(TABLE.c.id)
ADDRESSES = sa.select(ADDRESS.c.user_id, ADDRESS.c.address).order_by(
    ADDRESS.c.user_id, ADDRESS.c.position
)


async def load(connection: AsyncConnection) -> list[User]:
    """Return all users, active or not, sorted by id."""
    addresses: dict[int, list[str]] = {}
    for user_id, address in await connection.execute(ADDRESSES):
        addresses.setdefault(user_id, []).append(address)
    return [
        User(
            id=row.id,
            name=row.name,
            addresses=frozenset(addresses.get(row.id, ())),
            role=row.role,
            active=row.active,
            address=next(iter(addresses.get(row.id, ())), ""),
            signature=row.signature,
            notify=row.notify,
        )
        for row in await connection.execute(ROWS)
    ]


async def at(connection: AsyncConnection, address: str) -> User:
    """Return the user with this address; NotFound where there is none."""
    key = address_key(address)
    found = next((user for user in await load(connection) if key in user.addresses), None)
    if found is None:
        raise NotFound("no user has that address")
    return found


async def sign_in_address(connection: AsyncConnection, user_id: int) -> str:
    """Return the address a user signs in with."""
    own = sa.select(ADDRESS.c.address).where(ADDRESS.c.user_id == user_id)
    rows = await connection.execute(own.order_by(ADDRESS.c.position))
    return str(rows.scalars().first() or "")


async def password_hash(connection: AsyncConnection, user_id: int) -> str | None:
    """Return the stored hash of a user's password, or None where they have no password."""
    query = sa.select(TABLE.c.password_hash).where(TABLE.c.id == user_id)
    found: str | None = (await connection.execute(query)).scalar()
    return found


async def add(
    connection: AsyncConnection,
    name: str,
    addresses: Sequence[str],
    role: Role,
    now: datetime,
    *,
    password_hash: str | None = None,
) -> User:
    """Add a user with these addresses; the user signs in with the first."""
    keys = list(dict.fromkeys(address_key(address) for address in addresses))
    row = (
        sa.insert(TABLE)
        .values(name=name, role=role, active=True, password_hash=password_hash, created_at=now)
        .returning(TABLE.c.id)
    )
    user_id: int = (await connection.execute(row)).scalar_one()
    await _write_addresses(connection, user_id, keys)
    return User(user_id, name, frozenset(keys), role, active=True, address=keys[0])


async def change(connection: AsyncConnection, user_id: int, **values: Any) -> None:
    """Set columns of a user; ValueError for an unknown column."""
    if unknown := values.keys() - SETTINGS:
        raise ValueError(f"unknown columns of a user: {sorted(unknown)}")
    await connection.execute(sa.update(TABLE).where(TABLE.c.id == user_id).values(values))


async def set_addresses(
    connection: AsyncConnection, user_id: int, addresses: Sequence[str]
) -> None:
    """Replace all addresses of a user."""
    keys = list(dict.fromkeys(address_key(address) for address in addresses))
    await connection.execute(sa.delete(ADDRESS).where(ADDRESS.c.user_id == user_id))
    await _write_addresses(connection, user_id, keys)


async def _write_addresses(connection: AsyncConnection, user_id: int, keys: Iterable[str]) -> None:
    """Insert addresses of a user in the given order."""
    rows = [
        {"address": key, "user_id": user_id, "position": place} for place, key in enumerate(keys)
    ]
    await connection.execute(sa.insert(ADDRESS), rows)
