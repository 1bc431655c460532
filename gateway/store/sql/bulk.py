"""Allot numbers from counters, and run statements for many rows at once.

The numbers of tickets, threads, messages, events and contacts are known before the rows are
written. So a whole batch of mail is decided in memory and then written in a few statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables
from gateway.store.sql import sqlite

Rows = Sequence[Mapping[str, Any]]
Work = list[tuple[sa.Table | sa.Insert | sa.Update | sa.Delete, Rows]]
_Processor = Callable[[Any], Any]
_FROM_ROW = object()

_ALLOT = (
    sa.update(tables.counter)
    .where(tables.counter.c.name == sa.bindparam("counter_name"))
    .values(value=tables.counter.c.value + sa.bindparam("step"))
    .returning(tables.counter.c.value)
)


async def allot(connection: AsyncConnection, name: str, n: int) -> int:
    """Take ``n`` consecutive numbers from a counter and return the first of them.

    KeyError for an unknown counter. No two transactions get the same numbers. But when a
    transaction is rolled back, its numbers are given out again.
    """
    last: int | None = (
        await connection.execute(_ALLOT, {"counter_name": name, "step": n})
    ).scalar()
    if last is None:
        raise KeyError(name)
    return last - n + 1


async def write_rows(
    connection: AsyncConnection,
    work: Iterable[tuple[sa.Table | sa.Insert | sa.Update | sa.Delete, Rows]],
) -> None:
    """Run each statement for each of its rows, in order; for a table, insert the rows into it.

    On SQLite everything runs in one call to the connection's thread. All rows of a statement have
    the same keys (else KeyError). Statements should be constants of a module, since they are
    prepared once.
    """
    prepared = [
        (_prepare(what, tuple(rows[0]), connection.dialect), rows) for what, rows in work if rows
    ]
    filled = [(statement.sql, statement.fill(rows)) for statement, rows in prepared]
    if connection.dialect.name == "sqlite":
        await sqlite.in_thread(connection, sqlite.run_all(filled))
        return
    for sql, rows in filled:
        await connection.exec_driver_sql(sql, rows)


class _Prepared:
    """A statement as SQL text, with the source of each of its parameters."""

    __slots__ = ("_columns", "sql")

    def __init__(self, sql: str, columns: tuple[tuple[str, _Processor | None, Any], ...]) -> None:
        self.sql = sql
        self._columns = columns  # (key, bind processor, constant or _FROM_ROW)

    def fill(self, rows: Rows) -> list[tuple[Any, ...]]:
        """Return the parameters for all rows; each column is worked out for all rows at once."""
        columns: list[Sequence[Any]] = []
        for key, processor, constant in self._columns:
            values = [row[key] for row in rows] if constant is _FROM_ROW else [constant] * len(rows)
            columns.append(list(map(processor, values)) if processor is not None else values)
        return list(zip(*columns, strict=True))


@lru_cache(512)
def _prepare(
    what: sa.Table | sa.Insert | sa.Update | sa.Delete, keys: tuple[str, ...], dialect: Dialect
) -> _Prepared:
    statement = sa.insert(what) if isinstance(what, sa.Table) else what
    constants = _constants(statement.table, keys) if isinstance(statement, sa.Insert) else {}
    compiled = statement.compile(dialect=dialect, column_keys=[*keys, *constants])
    values = {**compiled.params, **constants, **dict.fromkeys(keys, _FROM_ROW)}
    # as SQLAlchemy converts values itself; contract-tested
    processors: Mapping[str, Any] = compiled._bind_processors  # noqa: SLF001
    order = compiled.positiontup or []
    return _Prepared(str(compiled), tuple((key, processors.get(key), values[key]) for key in order))


def _constants(table: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the constant defaults of the columns that are not in ``keys``."""
    return {
        column.name: column.default.arg
        for column in table.c
        if column.default is not None and column.default.is_scalar and column.name not in keys
    }
