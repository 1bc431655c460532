"""A database in which nothing lasts: every write is a savepoint inside one transaction that is
rolled back at the end.

It has the verbs of :class:`gateway.store.engine.Database`, so that a dry run is the same code as
the real one. While it runs it holds the write lock (SQLite) or the desk lock (PostgreSQL): other
writers wait, or tell their clients to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import Database


class Rehearsal(Database):
    """See the module; made by :func:`rehearsal`."""

    __slots__ = ("_connection", "_turn")

    def __init__(
        self, real: Database, connection: AsyncConnection
    ) -> None:  # it opens nothing of its own
        self.url = real.url
        self.node = real.node
        self.dialect = real.dialect
        self._connection = connection
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """What was written so far is seen."""
        async with self._turn:
            yield self._connection

    @asynccontextmanager
    async def write(
        self,
        *,
        ordered: bool = False,  # noqa: ARG002
        durable: bool = True,  # noqa: ARG002
    ) -> AsyncIterator[AsyncConnection]:  # the same verbs
        """A savepoint: undone when the block fails, else kept until the whole rehearsal is undone."""
        async with self._turn, self._connection.begin_nested():
            yield self._connection


class _Over(Exception):  # no error: it ends the transaction without a commit
    """The rehearsal is over."""


@asynccontextmanager
async def rehearsal(database: Database) -> AsyncIterator[Database]:
    """A block in which the database given takes everything and keeps nothing."""
    with suppress(_Over):
        async with database.write(ordered=True) as connection:
            yield Rehearsal(database, connection)
            _end()


def _end() -> None:
    raise _Over
