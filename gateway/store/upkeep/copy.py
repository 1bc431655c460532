"""Copy a whole database into an empty one, of either kind, and verify the copy.

The source is read as of one instant while others may write. The target is filled in one
transaction, so it holds everything or nothing. Afterwards every table is read back and compared.
Raises ``Conflict`` where the target is not empty and ``StoreUnavailable`` where a database goes
away. Raises ``InternalError`` where a table differs; then the target stays empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Conflict, InternalError
from gateway.store.engine import Database, migrate
from gateway.store.schema import tables
from gateway.store.sql.bulk import write_rows
from gateway.store.tickets import search

BATCH_ROWS = 500
BATCH_RAW_ROWS = 50  # up to 256 KiB each
BEGIN_SNAPSHOT = {
    "sqlite": "BEGIN",
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
}
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table after copying: its number of rows, and their digest, which ignores their order."""

    name: str
    rows: int
    digest: str


async def copy(
    source: Database, url: str, progress: Progress = lambda _table, _rows: None
) -> list[CopiedTable]:
    """Copy all tables into the database at ``url``; missing tables are created there first.

    ``progress`` gets each table and the number of rows just written. Blobs stay in the blob store:
    their keys depend on their content only.
    """
    await migrate(url, seed=False)
    target = await Database.open(url, node=source.node)
    try:
        async with snapshot(source) as old, target.write(ordered=True) as new:
            await _refuse_full(new)
            copied = [
                await _copy_table(old, new, table, progress)
                for table in tables.metadata.sorted_tables
            ]
            await search.rebuild(new)
            await _continue_numbers(new)
            for table, was in zip(tables.metadata.sorted_tables, copied, strict=True):
                if await digest(new, table) != was:
                    raise InternalError(
                        f"table {table.name} differs after copying; the target was left empty"
                    )
        await _analyse(target)
    finally:
        await target.close()
    return copied


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[AsyncConnection]:
    """Yield a connection that sees the database as of one instant."""
    async with database.read() as connection:
        await connection.exec_driver_sql(BEGIN_SNAPSHOT[database.dialect])
        yield connection
        await connection.rollback()


async def _refuse_full(connection: AsyncConnection) -> None:
    for table in tables.metadata.sorted_tables:
        if (
            await connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1))
        ).first() is not None:
            raise Conflict(f"the target is not empty: its table {table.name} has rows")


async def batches(connection: AsyncConnection, table: sa.Table) -> AsyncIterator[Sequence[Any]]:
    """Yield the rows of a table in batches, in the order of their keys."""
    size = BATCH_RAW_ROWS if table is tables.raw_mail else BATCH_ROWS
    query = sa.select(table).order_by(*table.primary_key.columns).execution_options(yield_per=size)
    result = await connection.stream(query)
    async for rows in result.partitions():
        yield rows


async def _copy_table(
    old: AsyncConnection, new: AsyncConnection, table: sa.Table, progress: Progress
) -> CopiedTable:
    total = _Digest()
    async for rows in batches(old, table):
        total.add(rows)
        await write_rows(new, [(table, [row._asdict() for row in rows])])
        progress(table.name, len(rows))
    return total.of(table.name)


async def digest(connection: AsyncConnection, table: sa.Table) -> CopiedTable:
    """Return the number of rows of a table and their digest."""
    total = _Digest()
    async for rows in batches(connection, table):
        total.add(rows)
    return total.of(table.name)


class _Digest:
    """The sum of the SHA-256 of all rows; the order of the rows does not change it."""

    def __init__(self) -> None:
        self._sum = 0
        self._rows = 0

    def add(self, rows: Sequence[Any]) -> None:
        for row in rows:
            values = tuple(
                hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value
                for value in row
            )
            self._sum += int.from_bytes(hashlib.sha256(repr(values).encode()).digest())
        self._rows += len(rows)

    def of(self, name: str) -> CopiedTable:
        return CopiedTable(name, self._rows, f"{self._sum % (1 << 256):064x}")


async def _continue_numbers(connection: AsyncConnection) -> None:
    """Move PostgreSQL's sequences past the copied numbers; SQLite needs no such step."""
    if connection.dialect.name == "sqlite":
        return
    for table in tables.metadata.sorted_tables:
        column = table.autoincrement_column
        highest = (
            (await connection.execute(sa.select(sa.func.max(column)))).scalar()
            if column is not None
            else None
        )
        if column is not None and highest is not None:
            sql = "SELECT setval(pg_get_serial_sequence($1, $2)::regclass, $3::bigint)"
            await connection.exec_driver_sql(sql, (table.name, column.name, highest))


async def _analyse(database: Database) -> None:
    """Update the statistics of the query planner now, rather than hours later."""
    async with database.write() as connection:
        await connection.exec_driver_sql("ANALYZE")


async def count(database: Database) -> int:
    """Return the number of rows to copy, for a progress bar."""
    async with database.read() as connection:
        queries = (
            sa.select(sa.func.count()).select_from(table) for table in tables.metadata.sorted_tables
        )
        return sum([int((await connection.execute(query)).scalar_one()) for query in queries])
