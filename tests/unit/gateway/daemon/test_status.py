"""Tests of what /readyz is told: each part answers for itself, and in time."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from contextlib import closing

import pytest

from config.load import load
from gateway.daemon.assemble import open_installation
from gateway.daemon.status import DaemonStatus
from gateway.errors import BlobsUnavailable, StoreUnavailable


@pytest.fixture
async def status(tmp_path):
    """Return the state of a fresh installation in its own folder."""
    environ = {
        "TICKETGATE_DATABASE__URL": f"sqlite:///{tmp_path}/ticketgate.db",
        "TICKETGATE_BLOBS__URL": f"file://{tmp_path}/blobs",
        "TICKETGATE_DATA__DIRECTORY": str(tmp_path),
    }
    async with open_installation(load(None, environ).settings, {}) as parts:
        spool, accept = await parts.spool(), await parts.acceptor()
        yield DaemonStatus(parts.settings, parts.clock, parts.database, spool, parts.tokens, accept)


async def test_a_store_that_works_is_ok(status):
    """Each part that a mail needs is asked, and the answers leave nothing behind."""
    report = await status.check()
    assert report.status == "ok"
    assert set(report.parts) == {"database", "blobs", "incoming", "mail"}
    assert list(status.accept.directory.iterdir()) == []
    assert [key async for key in status.spool.blobs.listing()] == []
    status.accept = None
    assert set((await status.check()).parts) == {"database", "blobs"}


async def test_each_part_tells_its_own_reason(status, monkeypatch):
    """A failing blob store is not taken for the database, nor the database for the blobs."""

    async def broken() -> None:
        raise BlobsUnavailable("cannot write blobs: permission denied at /x")

    monkeypatch.setattr(status.spool.blobs, "probe", broken)
    report = await status.check()
    assert report.status == "not ready"
    assert report.parts["blobs"] == "cannot write blobs: permission denied at /x"
    assert report.parts["database"] == "ok"


async def test_a_locked_database_is_told_by_asking_it_once(status, tmp_path):
    """While the database is locked each answer comes in time, and one question waits for it."""
    status.seconds = 0.05
    with closing(sqlite3.connect(tmp_path / "ticketgate.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        reports = [await status.check() for _ in range(5)]
        waiting = status._asked["database"]
        assert not waiting.done()
        other.execute("ROLLBACK")
    await waiting
    assert {report.parts["database"] for report in reports} == {
        "no answer within 0 seconds: it is locked, or its disk is stuck"
    }
    status.seconds = 30
    assert (await status.check()).status == "ok"


async def test_an_answer_that_comes_too_late_is_no_error_of_ours(status, monkeypatch):
    """A part that fails after its time is up is told as silent, and asyncio logs nothing."""
    late, complaints = asyncio.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: complaints.append(about))

    async def broken() -> None:
        await late.wait()
        raise BlobsUnavailable("cannot write blobs: permission denied at /x")

    monkeypatch.setattr(status.spool.blobs, "probe", broken)
    status.seconds = 0.01
    assert (await status.check()).parts["blobs"].startswith("no answer within")
    late.set()
    await asyncio.wait([status._asked.pop("blobs")])
    gc.collect()
    assert complaints == []


async def test_refused_mail_is_told_though_every_part_answers(status, monkeypatch):
    """What only a mail finds out, such as a full server, makes the daemon unready as well."""

    async def refuse(_mails: object) -> list[int]:
        raise StoreUnavailable("the disk of the database is full")

    monkeypatch.setattr(type(status.spool), "put", lambda _self, mails: refuse(mails))
    from tests.unit.gateway.store.mails import ENVELOPE

    with pytest.raises(StoreUnavailable):
        await status.accept.accept(b"x", ENVELOPE)
    report = await status.check()
    assert (report.status, report.parts["mail"]) == (
        "not ready",
        "the disk of the database is full",
    )
    assert report.parts["database"] == "ok"
