"""Read and write contacts. For contacts found in mail, the unit of work does the inserting."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.model.message import address_key
from core.model.ticket import Contact
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.sql.bulk import Work, allot, write_rows

TABLE = tables.contact
COLUMNS = (
    "id",
    "address",
    "name",
    "blocked",
    "automated",
    "marketing_ok",
    "proven",
    "bounced_at",
    "language",
)
SELECT_CONTACT = sa.select(*(TABLE.c[name] for name in COLUMNS))
CHANGED_BY_MAIL = ("name", "automated", "proven", "bounced_at")
UPDATE = (
    sa.update(TABLE)
    .where(TABLE.c.id == sa.bindparam("_id"))
    .values({name: sa.bindparam(f"_{name}", type_=TABLE.c[name].type) for name in CHANGED_BY_MAIL})
)
BY_ID = SELECT_CONTACT.where(among(TABLE.c.id, "ids"))
BY_ADDRESS = SELECT_CONTACT.where(among(TABLE.c.address, "addresses"))
FLAGS = frozenset({"blocked", "automated", "marketing_ok", "proven", "language"})


def writing(new: Iterable[Contact], changed: Iterable[Contact], now: datetime) -> Work:
    """Return inserts of contacts, and updates of the columns that mail changes.

    :func:`gateway.store.sql.bulk.write_rows` runs them.
    """
    names = ("id", *CHANGED_BY_MAIL)
    updates = [{f"_{name}": getattr(each, name) for name in names} for each in changed]
    return [(TABLE, [_row(each, now) for each in new]), (UPDATE, updates)]


def _row(contact: Contact, now: datetime) -> dict[str, Any]:
    """Return the row of a new contact."""
    return {name: getattr(contact, name) for name in COLUMNS} | {"created_at": now}


async def load(
    connection: AsyncConnection, *, addresses: Collection[str] = (), ids: Collection[int] = ()
) -> list[Contact]:
    """Return the contacts that have one of these address keys or ids; unknown ones are absent."""
    found: list[Contact] = []
    for query, name, wanted in (
        (BY_ADDRESS, "addresses", sorted(addresses)),
        (BY_ID, "ids", sorted(ids)),
    ):
        if wanted:
            rows = await connection.execute(query, {name: wanted})
            found.extend(Contact(*row) for row in rows)
    return found


async def listing(connection: AsyncConnection, limit: int | None = None) -> list[Contact]:
    """Return contacts, sorted by address."""
    query = SELECT_CONTACT.order_by(TABLE.c.address)
    return [
        Contact(*row)
        for row in await connection.execute(query.limit(limit) if limit is not None else query)
    ]


async def insert(
    connection: AsyncConnection, people: Sequence[tuple[str, str]], now: datetime
) -> list[Contact]:
    """Insert contacts for (address, name) pairs; return them in the order given.

    None of the addresses may have a contact yet.
    """
    numbered = enumerate(people, await allot(connection, "contact", len(people)))
    made = [Contact(number, address_key(address), name) for number, (address, name) in numbered]
    await write_rows(connection, [(TABLE, [_row(each, now) for each in made])])
    return made


async def set_flags(
    connection: AsyncConnection, ids: Collection[int], **flags: bool | str | None
) -> None:
    """Set any of :data:`FLAGS` for these contacts; ValueError for any other name."""
    if unknown := flags.keys() - FLAGS:
        raise ValueError(f"unknown flags of a contact: {sorted(unknown)}")
    values: dict[str, Any] = dict(flags)
    await connection.execute(sa.update(TABLE).where(TABLE.c.id.in_(sorted(ids))).values(values))
