"""Fixtures of the IMAP tests: servers and databases."""

from __future__ import annotations

import pytest

from gateway.store.engine import Database, upgrade
from tests.servers.dovecot import dovecot
from tests.servers.smallimap import small_imap


@pytest.fixture
def small():
    """Return the small server."""
    with small_imap() as server:
        yield server


@pytest.fixture(scope="module")
def shared():
    """Start one Dovecot for all tests of a module; each test has a user of its own."""
    with dovecot() as server:
        yield server


@pytest.fixture
def real(shared):
    """Return that server with a fresh user."""
    shared.user = shared.add_user(f"user{next(shared.numbers)}@example.org")
    return shared


@pytest.fixture
async def database(clean_url):
    """Return a database with all tables, of each kind."""
    opened = await Database.open(clean_url, node="one")
    yield opened
    await opened.close()


@pytest.fixture
async def quick(tmp_path, templates):
    """Return a SQLite database, for tests that are the same on every kind."""
    opened = await Database.open(templates.sqlite(upgrade, tmp_path / "ticketgate.db"), node="one")
    yield opened
    await opened.close()
