"""The pool of reading processes that all tests of this folder share, and a fresh desk for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.clock import Clock
from gateway.intake.sandbox import Sandbox
from gateway.store.engine import Database, upgrade
from tests.replay.world import World


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    """One real reading process for the whole session."""
    pool = Sandbox(1)
    await pool.start()
    yield pool
    await pool.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    built_database: Callable[[Callable[[str], None]], str], sandbox: Sandbox, clock: Clock, tmp_path: Path
) -> AsyncIterator[World]:
    """A desk with the first data, on each database in turn; what must always hold is checked at the end."""
    database = await Database.open(built_database(upgrade), node="test")
    made = World(database, sandbox, clock, tmp_path)
    yield made
    try:
        await made.check()
    finally:
        await database.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs ``scenario`` once a folder."""
    if "scenario" in metafunc.fixturenames:
        folders = sorted(path.parent for path in Path(__file__).parent.glob("*/scenario.toml"))
        metafunc.parametrize("scenario", folders, ids=[folder.name for folder in folders])
