"""Fixtures of the replay tests: a reading process, and databases emptied before each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.clock import Clock
from gateway.intake.sandbox.pool import Sandbox
from gateway.store.engine import Database, upgrade
from tests.conftest import Postgres
from tests.replay.office import Office, Sink, sinking
from tests.replay.world import World, start_again


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    """Start one real reading process for the whole session."""
    pool = Sandbox(1)
    await pool.start()
    yield pool
    await pool.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    """Return an open SQLite database."""
    async with _open(
        f"sqlite:///{tmp_path_factory.mktemp('replay') / 'ticketgate.db'}"
    ) as database:
        yield database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgresql_database(postgres: Postgres) -> AsyncIterator[Database]:
    """Return an open PostgreSQL database."""
    async with _open(postgres.url(postgres.create())) as database:
        yield database


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[Database]:
    upgrade(url)
    database = await Database.open(url, node="test")
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def database(database_kind: str, request: pytest.FixtureRequest) -> Database:
    """Return the open database of each kind in turn, as the previous test left it."""
    found: Database = request.getfixturevalue(f"{database_kind}_database")
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    database: Database, sandbox: Sandbox, clock: Clock, tmp_path: Path
) -> AsyncIterator[World]:
    """Return a desk with the initial data; check the invariants at the end."""
    await start_again(database)
    made = World(database, sandbox, clock, tmp_path)
    yield made
    await made.check()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument ``scenario`` once per scenario folder."""
    if "scenario" in metafunc.fixturenames:
        folders = sorted(path.parent for path in Path(__file__).parent.glob("*/scenario.toml"))
        metafunc.parametrize("scenario", folders, ids=[folder.name for folder in folders])


@pytest.fixture(scope="session")
def sink_server() -> Iterator[Sink]:
    """Start one SMTP server that takes mail, for the whole session."""
    with sinking() as sink:
        yield sink


@pytest.fixture
def office(world: World, sink_server: Sink) -> Office:
    """Return the world with its agenda, its outbox and an empty server to send to."""
    sink_server.taken.clear()
    sink_server.refuse.clear()
    return Office(world, sink_server)
