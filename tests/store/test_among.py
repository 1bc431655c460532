"""One parameter for many values: the construct that every batch is loaded with."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store import schema
from gateway.store.among import among
from gateway.store.engine import Database, upgrade

BY_NUMBER = sa.select(schema.counter.c.name).where(among(schema.counter.c.value, "values"))
BY_NAME = sa.select(schema.counter.c.name).where(among(schema.counter.c.name, "names"))


async def test_values_of_both_kinds(built_database):
    """Integers and strings select their rows on both databases; an empty collection selects none, a hundred thousand values are one parameter."""
    database = await Database.open(built_database(upgrade), node="test")
    async with database.write() as connection:
        await connection.execute(sa.update(schema.counter).where(schema.counter.c.name == "ticket").values(value=70_000))
        await connection.execute(sa.update(schema.counter).where(schema.counter.c.name == "thread").values(value=2**40))
        for values, expected in (({70_000, 2**40}, {"ticket", "thread"}), ((), set()), (range(1, 100_000), {"ticket"})):
            assert set((await connection.execute(BY_NUMBER, {"values": values})).scalars()) == expected
        for names, expected in ((["thread", "x'y", 'q"'], {"thread"}), ([], set())):
            assert set((await connection.execute(BY_NAME, {"names": names})).scalars()) == expected
    await database.close()
