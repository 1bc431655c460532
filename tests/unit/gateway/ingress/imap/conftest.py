"""Servers and databases of the IMAP tests."""

from __future__ import annotations

import pytest

from gateway.store.engine import Database, upgrade
from tests.servers.dovecot import dovecot
from tests.servers.smallimap import small_imap


@pytest.fixture
def small():
    """The small server."""
    with small_imap() as server:
        yield server


@pytest.fixture(scope="module")
def shared():
    """One Dovecot for all tests of a module; each test has a user of its own."""
    with dovecot() as server:
        yield server


@pytest.fixture
def real(shared):
    """That server with a fresh user."""
    shared.user = shared.add_user(f"user{next(shared.numbers)}@example.org")
    return shared


@pytest.fixture
async def database(clean_url):
    """A database with all tables, on each kind."""
    opened = await Database.open(clean_url, node="one")
    yield opened
    await opened.close()


@pytest.fixture
async def quick(tmp_path, templates):
    """A SQLite database, for tests that are the same on every kind."""
    opened = await Database.open(templates.sqlite(upgrade, tmp_path / "ticketgate.db"), node="one")
    yield opened
    await opened.close()
