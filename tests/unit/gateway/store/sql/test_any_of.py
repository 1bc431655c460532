"""Tests of one SQL parameter for many values."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from gateway.store.engine import Database, upgrade
from gateway.store.queues import spool
from gateway.store.schema import tables
from gateway.store.sql.any_of import among
from gateway.store.tickets import contacts, threads, tickets

BY_NUMBER = sa.select(tables.counter.c.name).where(among(tables.counter.c.value, "values"))
BY_NAME = sa.select(tables.counter.c.name).where(among(tables.counter.c.name, "names"))


async def test_values_of_both_kinds(built_database):
    """Integers and strings select their rows; none and 100,000 values work as well."""
    database = await Database.open(built_database(upgrade), node="test")
    async with database.write() as connection:
        await connection.execute(
            sa.update(tables.counter).where(tables.counter.c.name == "ticket").values(value=70_000)
        )
        await connection.execute(
            sa.update(tables.counter).where(tables.counter.c.name == "thread").values(value=2**40)
        )
        for values, expected in (
            ({70_000, 2**40}, {"ticket", "thread"}),
            ((), set()),
            (range(1, 100_000), {"ticket"}),
        ):
            assert (
                set((await connection.execute(BY_NUMBER, {"values": values})).scalars()) == expected
            )
        for names, expected in ((["thread", "x'y", 'q"'], {"thread"}), ([], set())):
            assert set((await connection.execute(BY_NAME, {"names": names})).scalars()) == expected
    await database.close()


@pytest.mark.parametrize(
    "query",
    [
        threads.BY_ID,
        threads.BY_TICKET,
        threads.REFS_BY_ID,
        threads.PARTICIPANTS_BY_THREAD,
        tickets.BY_NUMBER,
        tickets.EARLIER_TICKETS,
        contacts.BY_ADDRESS,
        spool.SELECT_RAW,
    ],
)
def test_indexes_are_used(query, tmp_path):
    """The queries that load a batch never scan a whole table on SQLite."""
    upgrade(f"sqlite:///{tmp_path / 'plan.db'}")
    compiled = query.compile(dialect=sqlite_dialect())
    with closing(sqlite3.connect(tmp_path / "plan.db")) as database:
        rows = database.execute(
            f"EXPLAIN QUERY PLAN {compiled}", ["[]"] * len(compiled.positiontup)
        ).fetchall()
    steps = [row[3] for row in rows]
    assert [step for step in steps if step.startswith("SCAN") and "json_each" not in step] == []
    assert any(step.startswith("SEARCH") for step in steps)
