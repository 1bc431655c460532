"""Fixtures of fast databases with initial data; a PostgreSQL one is emptied between tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.store.engine import Database, upgrade
from gateway.store.schema import tables as schema
from gateway.store.setup import seed


@pytest.fixture(scope="session")
def emptied(templates: Any) -> Callable[[Any], str]:
    """Return a function that gives the URL of an emptied PostgreSQL database of a server."""
    names: list[str] = []

    def fresh(server: Any) -> str:
        if not names:
            names.append(templates.postgresql(upgrade, server))
        else:
            asyncio.run(_empty(server.url(names[0])))
        return str(server.url(names[0]))

    return fresh


async def _empty(url: str) -> None:
    database = Database(url, "test")
    try:
        async with database.write() as connection:
            tables = ", ".join(table.name for table in schema.metadata.sorted_tables)
            await connection.exec_driver_sql(f"TRUNCATE {tables}, message_search RESTART IDENTITY")
            await seed.sow(connection)
    finally:
        await database.close()


@pytest.fixture
def clean_url(database_kind: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of a database without tickets and mail, of each kind in turn."""
    if database_kind == "sqlite":
        return str(request.getfixturevalue("built_database")(upgrade))
    return str(request.getfixturevalue("emptied")(request.getfixturevalue("postgres")))
