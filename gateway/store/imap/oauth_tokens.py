"""Access and refresh tokens of mailbox accounts.

A process takes the lease of a row before it renews the tokens, so that no two processes use a
refresh token at once. A process may die before :meth:`TokenRows.renewed` has stored the answer.
Then a provider that has replaced the refresh token may refuse the old one, and the user has to sign
in again. When a person signs in during a renewal, the result of the renewal is discarded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import Database
from gateway.store.schema import tables
from gateway.store.sql.nodes import dead

TOKEN = tables.oauth_token
Key = tuple[str, str]  # client, account
_NO_LEASE = {"lease_owner": None, "lease_until": None}
_NO_PROBLEM = {"problem": None, "refused_at": None}


@dataclass(frozen=True, slots=True)
class Granted:
    """The tokens that a provider granted.

    ``refresh_token`` is None where the old refresh token stays valid. ``refresh_until`` is None
    where the provider did not say when the refresh token expires.
    """

    access_token: str = field(repr=False)
    access_until: datetime
    refresh_token: str | None = field(repr=False)
    refresh_until: datetime | None


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The tokens, last problem and lease of a mailbox account, as stored.

    ``changed_at`` is the time of the last sign-in. If nobody has signed in, it is the time at which
    the row was inserted.
    """

    client: str
    account: str = field(repr=False)
    access_token: str | None = field(repr=False)
    access_until: datetime | None
    refresh_token: str | None = field(repr=False)
    refresh_until: datetime | None
    problem: str | None
    refused_at: datetime | None
    changed_at: datetime
    lease_owner: str | None
    lease_until: datetime | None


class TokenRows:
    """The token rows in ``database``."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, key: Key) -> StoredToken | None:
        """Return the row of an account, or None where it has no row."""
        query = sa.select(TOKEN).where(_is(key))
        async with self.database.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            return StoredToken(**row) if row is not None else None

    async def lease(self, key: Key, seconds: float, now: datetime) -> StoredToken | None:
        """Take the lease for ``seconds`` and return the row; None while another process holds it.

        The lease is not synced to disk, since losing it in a crash does no harm.
        """
        mine = {"lease_owner": self.database.node, "lease_until": now + timedelta(seconds=seconds)}
        async with self.database.write(durable=False) as connection:
            row = await self._locked(connection, key, now)
            if self._taken(row, now):
                return None
            await connection.execute(sa.update(TOKEN).where(_is(key)).values(mine))
            return row

    def _taken(self, row: StoredToken, now: datetime) -> bool:
        if (
            row.lease_owner in {None, self.database.node}
            or row.lease_until is None
            or row.lease_until <= now
        ):
            return False
        return not dead([row.lease_owner or ""], self.database.node)

    async def _locked(self, connection: AsyncConnection, key: Key, now: datetime) -> StoredToken:
        """Lock the row until the transaction ends, and return it; insert it where it is missing."""
        insert = postgresql.insert if self.database.dialect == "postgresql" else sqlite.insert
        query = sa.select(TOKEN).where(_is(key)).with_for_update()
        if (row := (await connection.execute(query)).mappings().one_or_none()) is None:
            new = {"client": key[0], "account": key[1], "changed_at": now}
            await connection.execute(insert(TOKEN).values(new).on_conflict_do_nothing())
            row = (await connection.execute(query)).mappings().one()
        return StoredToken(**row)

    async def release(self, key: Key) -> None:
        """Give up the lease; nothing else changes."""
        async with self.database.write(durable=False) as connection:
            await connection.execute(
                sa.update(TOKEN)
                .where(_is(key), TOKEN.c.lease_owner == self.database.node)
                .values(_NO_LEASE)
            )

    async def renewed(self, key: Key, used: str | None, granted: Granted) -> bool:
        """Store renewed tokens and end the lease.

        ``used`` is the refresh token that was sent. If the row holds another one by now, nothing is
        stored and False is returned.
        """
        values: dict[str, Any] = {
            "access_token": granted.access_token,
            "access_until": granted.access_until,
        }
        if granted.refresh_token is not None:
            values["refresh_token"] = granted.refresh_token
        if granted.refresh_token is not None or granted.refresh_until is not None:
            values["refresh_until"] = granted.refresh_until
        return await self._replace(key, used, values | _NO_PROBLEM)

    async def refused(self, key: Key, used: str | None, problem: str, now: datetime) -> bool:
        """Record that the provider refused the refresh token ``used``.

        Returns False, and records nothing, where the row has another refresh token.
        """
        values = {"access_token": None, "access_until": None, "problem": problem, "refused_at": now}
        return await self._replace(key, used, values)

    async def _replace(self, key: Key, used: str | None, values: dict[str, Any]) -> bool:
        """Change the row and end its lease; return False if it has another refresh token."""
        is_unchanged = TOKEN.c.refresh_token.is_not_distinct_from(used)
        change = sa.update(TOKEN).where(_is(key), is_unchanged).values(values | _NO_LEASE)
        async with self.database.write() as connection:
            return (await connection.execute(change)).rowcount > 0

    async def signed_in(self, key: Key, granted: Granted, now: datetime) -> None:
        """Store the tokens of a new sign-in, in place of earlier tokens and problems."""
        values = {
            "access_token": granted.access_token,
            "access_until": granted.access_until,
            "refresh_token": granted.refresh_token,
            "refresh_until": granted.refresh_until,
            "changed_at": now,
        }
        async with self.database.write() as connection:
            await self._locked(connection, key, now)
            await connection.execute(
                sa.update(TOKEN).where(_is(key)).values(values | _NO_PROBLEM | _NO_LEASE)
            )


def _is(key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(TOKEN.c.client == key[0], TOKEN.c.account == key[1])
