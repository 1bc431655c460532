"""Access and refresh tokens of mailbox accounts. Renewing one takes its lease first, so that a refresh token is used by one process at a time.

What can go wrong: the process dies between the provider's answer and :meth:`TokenRows.keep`. The lease runs out then, and a provider that has replaced the
refresh token may refuse the old one, which is told as a refusal; nothing can be kept before it is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store import schema
from gateway.store.engine import Database
from gateway.store.nodes import dead

TOKEN = schema.oauth_token
Key = tuple[str, str]  # client, account


@dataclass(frozen=True, slots=True)
class StoredToken:
    """The row of an account; ``changed_at`` is when a person last signed in."""

    client: str
    account: str
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
    """The table, in ``database``."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, key: Key) -> StoredToken | None:
        """The row of an account, None where there is none."""
        async with self.database.read() as connection:
            row = (await connection.execute(sa.select(TOKEN).where(_is(key)))).mappings().one_or_none()
            return StoredToken(**row) if row is not None else None

    async def lease(self, key: Key, seconds: float, now: datetime) -> bool:
        """Takes the right to renew, for ``seconds``; False while another process has it."""
        mine = {"lease_owner": self.database.node, "lease_until": now + timedelta(seconds=seconds)}
        async with self.database.write() as connection:
            row = await self._locked(connection, key, now)
            owner = row["lease_owner"]
            if owner and owner != self.database.node and row["lease_until"] > now and not dead([owner], self.database.node):
                return False
            await connection.execute(sa.update(TOKEN).where(_is(key)).values(**mine))
            return True

    async def _locked(self, connection: AsyncConnection, key: Key, now: datetime) -> Any:
        """The row, made where it is missing, until the end of the transaction nobody else's."""
        query = sa.select(TOKEN).where(_is(key)).with_for_update()
        if (row := (await connection.execute(query)).mappings().one_or_none()) is None:
            insert = postgresql.insert if self.database.dialect == "postgresql" else sqlite.insert
            fresh = insert(TOKEN).values(client=key[0], account=key[1], changed_at=now).on_conflict_do_nothing()
            await connection.execute(fresh)
            row = (await connection.execute(query)).mappings().one()
        return row

    async def keep(
        self,
        key: Key,
        access_token: str,
        access_until: datetime,
        refresh_token: str | None,
        refresh_until: datetime | None,
        now: datetime,
        *,
        signed_in: bool,
    ) -> None:
        """What the provider gave, in one transaction: the lease ends with it. Without a new refresh token the old one stays good.

        ``signed_in``: a person agreed anew, so what was refused before is forgotten, and an older refresh token too.
        """
        values: dict[str, Any] = {"access_token": access_token, "access_until": access_until, "problem": None, "refused_at": None}
        if refresh_token is not None or signed_in:
            values |= {"refresh_token": refresh_token, "refresh_until": refresh_until}
        if signed_in:
            values["changed_at"] = now
        async with self.database.write() as connection:
            await self._locked(connection, key, now)
            await connection.execute(sa.update(TOKEN).where(_is(key)).values(**values, lease_owner=None, lease_until=None))

    async def refuse(self, key: Key, problem: str, now: datetime) -> None:
        """The provider does not want to hear of us: told to everybody, until a person signs in."""
        values = {
            "access_token": None,
            "access_until": None,
            "problem": problem,
            "refused_at": now,
            "lease_owner": None,
            "lease_until": None,
        }
        async with self.database.write() as connection:
            await self._locked(connection, key, now)
            await connection.execute(sa.update(TOKEN).where(_is(key)).values(**values))

    async def release(self, key: Key) -> None:
        """Gives the right to renew back, with nothing changed."""
        mine = sa.update(TOKEN).where(_is(key), TOKEN.c.lease_owner == self.database.node)
        async with self.database.write() as connection:
            await connection.execute(mine.values(lease_owner=None, lease_until=None))


def _is(key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(TOKEN.c.client == key[0], TOKEN.c.account == key[1])
