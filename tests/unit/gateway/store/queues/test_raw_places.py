"""Tests of failed commits and crashes: no blob stays that no mail names, and none is lost."""

from __future__ import annotations

import random

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.engine import Database
from gateway.store.queues import blob_files
from gateway.store.queues.blobs import Blobs, open_blobs
from gateway.store.queues.raw_places import lost_blobs, sweep
from gateway.store.queues.spool import Spool
from tests.unit.gateway.store.mails import mail

BIG = random.Random(1).randbytes(300_000)
AWAY = StoreUnavailable("the database does not answer")


@pytest.fixture
def blobs(tmp_path) -> Blobs:
    return open_blobs(f"file://{tmp_path}/blobs")


@pytest.fixture
def spool(store: Database, blobs: Blobs) -> Spool:
    return Spool(store, blobs)


@pytest.fixture
def fail(monkeypatch):
    """Return a function that makes the next commit fail "before", "in" or "after" it happens."""
    from sqlalchemy.ext.asyncio import AsyncConnection

    real = AsyncConnection.commit

    def arrange(when: str) -> None:
        async def commit(self: AsyncConnection) -> None:
            monkeypatch.undo()
            if when == "after":
                await real(self)
            raise AWAY

        async def insert(*_arguments: object) -> None:
            monkeypatch.undo()
            raise AWAY

        if when == "before":
            monkeypatch.setattr("gateway.store.queues.spool._insert", insert)
        else:
            monkeypatch.setattr(AsyncConnection, "commit", commit)

    return arrange


async def keys(blobs: Blobs) -> list[str]:
    return [key async for key in blobs.listing()]


async def test_a_failed_transaction_leaves_no_blob(spool, blobs, fail, tmp_path):
    """Twelve tries of a large mail while the database is away leave nothing in the folder."""
    for number in range(12):
        fail("before")
        with pytest.raises(StoreUnavailable):
            await spool.put([mail(BIG + bytes([number])), mail(b"small")])
    assert list((tmp_path / "blobs").glob("*/*")) == []
    await spool.put([mail(BIG)])
    assert len(await keys(blobs)) == 1


async def test_a_blob_that_fails_withdraws_those_of_the_same_commit(spool, blobs, monkeypatch):
    """If one large mail of a group cannot be placed, none of the group leaves a blob."""
    real = blobs.place

    async def place(raw, sha256):
        if raw == BIG:
            raise AWAY
        return await real(raw, sha256)

    monkeypatch.setattr(blobs, "place", place)
    with pytest.raises(StoreUnavailable):
        await spool.put([mail(BIG + b"1"), mail(BIG), mail(BIG + b"2")])
    assert await keys(blobs) == []


@pytest.mark.parametrize("when", ["in", "after"])
async def test_a_commit_in_doubt_keeps_its_blob_until_that_is_known(spool, blobs, fail, when):
    """A commit that fails at its end keeps its blob; it is deleted once no mail can name it."""
    fail(when)
    with pytest.raises(StoreUnavailable):
        await spool.put([mail(BIG)])
    assert len(await keys(blobs)) == 1
    await spool.put([mail(b"small")])
    stays = when == "after" or spool.database.dialect == "postgresql"  # there the next start looks
    assert len(await keys(blobs)) == int(stays)


@pytest.mark.parametrize("when", ["killed before", "killed after"])
async def test_the_next_start_deletes_what_a_crash_left(spool, blobs, fail, monkeypatch, when):
    """A blob of a process that died before its commit is deleted, one of a stored mail is not."""
    monkeypatch.setattr(blob_files, "_RUN", "earlier")
    if when == "killed before":
        await blobs.place(BIG, mail(BIG).sha256)
    else:
        monkeypatch.setattr(blobs, "settle", lambda _placed: _nothing())
        await spool.put([mail(BIG)])
    assert await sweep(spool.database, blobs) == 0  # it is not dead yet
    monkeypatch.undo()
    assert await sweep(spool.database, blobs) == int(when == "killed before")
    assert len(await keys(blobs)) == int(when == "killed after")
    assert blobs.doubtful() == []


async def _nothing() -> None:
    """Do nothing."""


async def test_the_sweep_leaves_what_a_living_process_is_placing(spool, blobs, monkeypatch):
    """A blob left by a crash, which another process is just storing again, stays."""
    monkeypatch.setattr(blob_files, "_RUN", "earlier")
    await blobs.place(BIG, mail(BIG).sha256)
    monkeypatch.undo()
    again = await blobs.place(BIG, mail(BIG).sha256)
    assert await sweep(spool.database, blobs) == 0
    assert len(await keys(blobs)) == 1
    await blobs.settle(again)


async def test_a_missing_folder_of_blobs_is_noticed(spool, blobs, tmp_path):
    """Mails that name blobs, where there is no folder of blobs, are told from a new desk."""
    assert not await lost_blobs(spool.database, blobs)
    await spool.put([mail(BIG)])
    assert not await lost_blobs(spool.database, blobs)
    (tmp_path / "blobs").rename(tmp_path / "away")
    assert await lost_blobs(spool.database, blobs)
