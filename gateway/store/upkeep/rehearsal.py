"""A database in which nothing lasts: all writes are rolled back at the end.

It has the methods of :class:`gateway.store.engine.Database`, so that a dry run uses the same code
as the real run. Each write is a savepoint in one long transaction. On SQLite the transaction holds
the write lock, on PostgreSQL the lock of ordered transactions. Until it ends, other writers wait,
or ask their clients to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import Database


class Rehearsal(Database):
    """The database of a rehearsal; made by :func:`rehearsal`."""

    __slots__ = ("_connection", "_turn")

    def __init__(
        self, real: Database, connection: AsyncConnection
    ) -> None:  # without super(): nothing of its own is opened
        self.url = real.url
        self.node = real.node
        self.dialect = real.dialect
        self._connection = connection
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield the connection, which sees all that the rehearsal has written so far."""
        async with self._turn:
            yield self._connection

    @asynccontextmanager
    async def write(
        self,
        *,
        ordered: bool = False,  # noqa: ARG002
        durable: bool = True,  # noqa: ARG002
    ) -> AsyncIterator[AsyncConnection]:
        """Yield the connection in a savepoint, which is undone if the block fails."""
        async with self._turn, self._connection.begin_nested():
            yield self._connection


class _Over(Exception):
    """Raised to end the transaction of a rehearsal without a commit."""


@asynccontextmanager
async def rehearsal(database: Database) -> AsyncIterator[Database]:
    """Yield a database that accepts every write and rolls all writes back at the end."""
    with suppress(_Over):
        async with database.write(ordered=True) as connection:
            yield Rehearsal(database, connection)
            _end()


def _end() -> None:
    raise _Over
