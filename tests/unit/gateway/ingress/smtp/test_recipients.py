"""Tests of the recipients in the database: what is ours, and whether there is a database at all."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import StoreUnavailable
from gateway.ingress.smtp import recipients
from gateway.ingress.smtp.recipients import ChannelDirectory
from gateway.store.engine import Database


@pytest.fixture
async def away():
    """Return a database whose server hangs up, and the list of attempts to reach it."""
    tries = []

    def hang_up(_reader, writer):
        tries.append(writer)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database(f"postgresql://nobody@127.0.0.1:{port}/none", "test")
    yield database, tries
    await database.close()
    server.close()


async def test_a_database_that_answers(world):
    """Its answer is believed for a second, without another question."""
    directory = ChannelDirectory(world.database)
    await directory.check()
    read_at = directory._read_at
    await directory.check()
    assert directory._read_at == read_at > float("-inf")


async def test_a_database_that_is_away_is_asked_once_for_all(away, monkeypatch):
    """Many clients at once cost one attempt, and each of them gets the error."""
    database, tries = away
    directory = ChannelDirectory(database)
    with pytest.raises(StoreUnavailable):
        await directory.check()
    each = len(tries)
    monkeypatch.setattr(directory, "_away_at", float("-inf"))
    found = await asyncio.gather(*[directory.check() for _ in range(20)], return_exceptions=True)
    assert [type(error) for error in found] == [StoreUnavailable] * 20
    assert len(tries) == 2 * each


async def test_a_database_that_comes_back_is_seen(away, world, monkeypatch):
    """The absence is believed for as long as an answer, no longer."""
    directory = ChannelDirectory(away[0])
    with pytest.raises(StoreUnavailable):
        await directory.check()
    directory._database = world.database
    with pytest.raises(StoreUnavailable):
        await directory.check()
    monkeypatch.setattr(recipients, "CHECK_SECONDS", 0.0)
    await directory.check()
