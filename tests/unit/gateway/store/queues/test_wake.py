"""Tests of wake-ups, within a process and between daemons."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.errors import StoreUnavailable
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Spool
from gateway.store.queues.wake import Wake
from tests.unit.gateway.store.mails import mail


async def test_a_wake_up_ends_a_wait_or_the_next_one():
    """A wake-up ends a wait, or is kept for the next wait on its topic, once."""
    wake = Wake()
    waiting = asyncio.create_task(wake.wait("mail", 20))
    await asyncio.sleep(0)
    wake.notify("mail")
    assert await waiting
    wake.notify("mail")
    assert await wake.wait("mail", 20)
    assert not await wake.wait("mail", 0.001)
    assert not await wake.wait("other", 0.001)


async def test_stored_mail_wakes_other_daemons(store, postgres, database_kind, tmp_path):
    """On PostgreSQL storing a mail wakes other daemons; on SQLite listening returns."""
    wake = Wake()
    listening = asyncio.create_task(wake.listen(store))
    if database_kind == "sqlite":
        await asyncio.wait_for(listening, 20)
        return
    async with asyncio.timeout(20):  # a wake-up before it listens is lost
        while not await wake.wait("mail", 0.05):
            await Spool(store, open_blobs("database:")).put([mail(b"x")])
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening


async def test_a_listener_whose_server_goes_away_says_so(
    store, postgres, database_kind, monkeypatch
):
    """A lost connection ends the listener with StoreUnavailable."""
    if database_kind == "sqlite":
        return
    monkeypatch.setattr("gateway.store.queues.wake.PROBE_SECONDS", 0.02)
    wake = Wake()
    listening = asyncio.create_task(wake.listen(store))
    async with asyncio.timeout(20):
        while not await wake.wait("mail", 0.02):
            await Spool(store, open_blobs("database:")).put([mail(b"x")])
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name "
            "LIKE '%listen'"
        )
        with suppress(StoreUnavailable):
            await listening
    assert isinstance(listening.exception(), StoreUnavailable)


async def test_waiting_ends_at_a_stop_and_at_a_wake_up():
    """A worker that waits goes on when it is woken or stopped, and leaves no task behind."""
    wake, stop = Wake(), asyncio.Event()
    before = asyncio.all_tasks()
    wake.notify("mail")
    await wake.wait_or_stop(stop, "mail", 3600.0)
    stop.set()
    await wake.wait_or_stop(stop, "mail", 3600.0)
    assert asyncio.all_tasks() == before
