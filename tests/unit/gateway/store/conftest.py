"""Fixtures of the store tests: a migrated database of each kind in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from gateway.store.engine import Database, upgrade


@pytest.fixture
def ready_url(built_database: Callable[[Callable[[str], None]], str]) -> str:
    """Return the URL of a database with all tables and the initial data."""
    return built_database(upgrade)


@pytest.fixture
async def store(ready_url: str) -> AsyncIterator[Database]:
    """Return that database, open."""
    database = await Database.open(ready_url, node="test")
    yield database
    await database.close()
