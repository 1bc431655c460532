"""Agents and their verified addresses. The first address is the one they sign in with; an address
belongs to one user.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from core.model.ticket import User
from gateway.errors import Refused
from gateway.store.schema import tables
from gateway.store.setup.channels import ADDRESS_FORM

TABLE = tables.user
ADDRESS = tables.user_address
Role = Literal["admin", "automation", "agent", "reader"]
ROWS = sa.select(
    TABLE.c.id, TABLE.c.name, TABLE.c.role, TABLE.c.active, TABLE.c.signature, TABLE.c.notify
).order_by(TABLE.c.id)
ADDRESSES = sa.select(ADDRESS.c.user_id, ADDRESS.c.address).order_by(
    ADDRESS.c.user_id, ADDRESS.c.position
)


async def load(connection: AsyncConnection) -> list[User]:
    """All users, active or not, by number."""
    addresses: dict[int, list[str]] = {}
    for user_id, address in await connection.execute(ADDRESSES):
        addresses.setdefault(user_id, []).append(address)
    found = []
    for row in await connection.execute(ROWS):
        own = addresses.get(row.id, [""])
        found.append(
            User(
                row.id,
                row.name,
                frozenset(own) - {""},
                row.role,
                row.active,
                own[0],
                row.signature,
                row.notify,
            )
        )
    return found


async def at(connection: AsyncConnection, address: str) -> User:
    """The user with this address; Refused when there is none."""
    key = address_key(address)
    found = next((user for user in await load(connection) if key in user.addresses), None)
    if found is None:
        raise Refused("no user has that address")
    return found


async def sign_in_address(connection: AsyncConnection, user_id: int) -> str:
    """The address a user signs in with."""
    query = (
        sa.select(ADDRESS.c.address)
        .where(ADDRESS.c.user_id == user_id)
        .order_by(ADDRESS.c.position)
    )
    return str((await connection.execute(query)).scalars().first() or "")


async def password_hash(connection: AsyncConnection, user_id: int) -> str | None:
    """The hash a password is checked against, None where the user has none."""
    found: str | None = (
        await connection.execute(sa.select(TABLE.c.password_hash).where(TABLE.c.id == user_id))
    ).scalar()
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
    """Makes a user with these addresses, the first of them to sign in with.

    Refused when one is no address, another user's, or a channel's: mail from it would be our own.
    """
    keys = list(dict.fromkeys(address_key(address) for address in addresses))
    await _refuse_taken(connection, keys, None)
    row = (
        sa.insert(TABLE)
        .values(name=name, role=role, active=True, password_hash=password_hash, created_at=now)
        .returning(TABLE.c.id)
    )
    user_id: int = (await connection.execute(row)).scalar_one()
    await _write_addresses(connection, user_id, keys)
    return User(user_id, name, frozenset(keys), role, active=True, address=keys[0])


async def change(connection: AsyncConnection, user_id: int, **values: Any) -> None:
    """Sets ``name``, ``role``, ``active``, ``password_hash``, ``signature`` or ``notify`` of a
    user.
    """
    if unknown := values.keys() - {
        "name",
        "role",
        "active",
        "password_hash",
        "signature",
        "notify",
    }:
        raise ValueError(f"a user has no {sorted(unknown)}")
    await connection.execute(sa.update(TABLE).where(TABLE.c.id == user_id).values(values))


async def set_addresses(
    connection: AsyncConnection, user_id: int, addresses: Sequence[str]
) -> None:
    """Replaces the addresses of a user; Refused like :func:`add`."""
    keys = list(dict.fromkeys(address_key(address) for address in addresses))
    await _refuse_taken(connection, keys, user_id)
    await connection.execute(sa.delete(ADDRESS).where(ADDRESS.c.user_id == user_id))
    await _write_addresses(connection, user_id, keys)


async def _write_addresses(connection: AsyncConnection, user_id: int, keys: Iterable[str]) -> None:
    rows = [
        {"address": key, "user_id": user_id, "position": place} for place, key in enumerate(keys)
    ]
    await connection.execute(sa.insert(ADDRESS), rows)


async def _refuse_taken(
    connection: AsyncConnection, keys: Sequence[str], owner: int | None
) -> None:
    if not keys or not all(keys):
        raise Refused("a user needs an address")
    if wrong := next((key for key in keys if not ADDRESS_FORM.fullmatch(key)), None):
        raise Refused(f"{wrong!r} is no address")
    taken = sa.select(ADDRESS.c.address).where(
        ADDRESS.c.address.in_(keys), ADDRESS.c.user_id != (owner if owner is not None else -1)
    )
    if found := (await connection.execute(taken)).scalars().first():
        raise Refused(f"{found} belongs to another user")
    own = sa.select(tables.channel.c.address).where(tables.channel.c.address.in_(keys))
    if found := (await connection.execute(own)).scalars().first():
        raise Refused(f"{found} is a channel")
