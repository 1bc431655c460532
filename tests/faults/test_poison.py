"""Tests of mail that kills its reading process: it becomes a ticket, and holds no other mail.

The readers of these tests obey the subject of a mail (reliability.md 14).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from core.model.message import Envelope
from gateway import log
from gateway.ingress.accept import Acceptor
from gateway.ingress.connection_limits import Limits
from gateway.intake import worker
from gateway.intake.batch import Rules
from gateway.intake.sandbox.pool import QUICK_SECONDS, Sandbox
from gateway.intake.worker import LEASE_SECONDS, Intake
from gateway.store.engine import Database, upgrade
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Spool
from gateway.store.queues.wake import Wake
from gateway.store.schema.types import instant
from tests.faults.witness import letter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from gateway.clock import Clock

POISON = ("kill", "stall", "eat")
ORDER = ("first", "kill", "second", "stall", "third", "eat", "fourth")
FOR_EVER = 3600.0  # seconds


class PoisonedDesk:
    """A spool, the intake that empties it, and what the log says."""

    def __init__(self, database: Database, folder: Path, clock: Clock, sandbox: Sandbox) -> None:
        self.database = database
        self.clock = clock
        self.sandbox = sandbox
        self.spool = Spool(database, open_blobs("database:"))
        self.accept = Acceptor(
            self.spool, Limits(), folder, wake=lambda: None, free_space=lambda _: 1 << 40
        )
        self.intake = Intake(database, self.spool, sandbox, Rules(ZoneInfo("UTC")), clock)
        self.said = io.StringIO()
        log.configure(level="info", form="json", addresses="hashed", stream=self.said)

    async def put(self, words: Sequence[str]) -> None:
        """Store a mail for each word."""
        envelope = Envelope("a@client.example", ("support@localhost",), "smtp", self.clock.now())
        await self.accept.accept_all([(letter(word), envelope) for word in words])

    async def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        async with self.database.read() as connection:
            return [tuple(row) for row in await connection.exec_driver_sql(statement)]

    async def filed(self, count: int) -> list[str]:
        """Return the words of the mails in the order of their tickets, once there are so many."""
        query = (
            "SELECT m.subject FROM message m JOIN thread h ON h.id = m.thread_id "
            "JOIN ticket t ON t.number = h.ticket ORDER BY t.number"
        )
        async with asyncio.timeout(120):
            while len(found := await self.ask(query)) < count:
                pass
        return [subject.removeprefix("About ") for (subject,) in found]

    async def leased_until(self) -> datetime:
        """Return when the lease of the only claimed mail ends."""
        query = "SELECT lease_until FROM mail WHERE lease_until IS NOT NULL"
        return instant((await self.ask(query))[0][0])

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Wake]:
        """Run the intake as the daemon does; in the end, stop it as SIGTERM does."""
        stop, wake = asyncio.Event(), Wake()
        task = asyncio.create_task(self.intake.serve(stop, wake))
        try:
            yield wake
            stop.set()
            async with asyncio.timeout(60):  # reliability.md 30
                await task
        finally:
            task.cancel()


MakeDesk = Callable[[float], Awaitable[PoisonedDesk]]


@pytest.fixture
async def make_desk(
    built_database: Callable[..., str], tmp_path: Path, clock: Clock
) -> AsyncIterator[Callable[[float], Awaitable[PoisonedDesk]]]:
    """Make a desk with two reading processes that may take ``wall`` seconds for a mail."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(wall: float) -> PoisonedDesk:
            database = await Database.open(built_database(upgrade), node="test")
            stack.push_async_callback(database.close)
            sandbox = Sandbox(2, reader="tests.faults.poisonous", wall=wall)
            stack.push_async_callback(sandbox.stop)
            await sandbox.start()
            return PoisonedDesk(database, tmp_path, clock, sandbox)

        yield make


async def test_poison_becomes_a_ticket_and_the_queue_goes_on(make_desk: MakeDesk) -> None:
    """For a command, mails that kill, hang or bloat their reader become tickets in their order."""
    desk = await make_desk(2.0)
    await desk.put(ORDER)
    done = await desk.intake.drain()
    assert [row.state for row in done] == ["done"] * len(ORDER)
    assert await desk.filed(len(ORDER)) == list(ORDER)
    raws = await desk.ask("SELECT data FROM raw_mail ORDER BY mail_id")
    assert [bytes(data) for (data,) in raws] == [letter(word) for word in ORDER]
    assert desk.said.getvalue().count('"unreadable"') == len(POISON)
    assert desk.sandbox.killed >= 2 * len(POISON)
    assert "About" not in desk.said.getvalue()


async def test_the_daemon_reads_suspects_last(make_desk: MakeDesk) -> None:
    """In the daemon, a mail that hangs becomes a ticket behind the good ones, after another try."""
    desk = await make_desk(3.0)
    await desk.put(ORDER)
    async with desk.serving():
        found = await desk.filed(len(ORDER))
    assert [word for word in found if word not in POISON] == ["first", "second", "third", "fourth"]
    assert found.index("stall") > found.index("fourth")
    assert sorted(found) == sorted(ORDER)
    assert desk.sandbox.killed >= 2 * len(POISON)
    assert desk.said.getvalue().count('"unreadable"') == len(POISON)


async def test_bombs_hold_no_other_mail(make_desk: MakeDesk) -> None:
    """With 20 mails that hang their reader for ever, 100 good mails become tickets in order.

    Each bomb costs the others a killed process and half a second in which one of two readers does
    nothing. Mail that comes later does not wait either, and a stop gives the bombs back.
    """
    desk = await make_desk(FOR_EVER)
    good = [f"good-{number}" for number in range(100)]
    mixed = [word for at in range(10) for word in (*good[at * 10 : at * 10 + 10], f"stall-{at}")]
    await desk.put([*(f"stall-{number}" for number in range(10, 20)), *mixed])
    async with desk.serving() as wake:
        assert await desk.filed(100) == good
        assert desk.sandbox.killed >= 20
        assert desk.sandbox.killed * (QUICK_SECONDS + 0.1) / desk.sandbox.processes < 15
        await desk.put(["later"])
        wake.notify("mail")
        assert (await desk.filed(101))[-1] == "later"
    states = "SELECT state, count(*), max(tries), count(lease_until) FROM mail GROUP BY state"
    assert sorted(await desk.ask(states)) == [("done", 101, 1, 0), ("pending", 20, 0, 0)]
    assert "unreadable" not in desk.said.getvalue()


async def test_leases_are_renewed_while_a_suspect_is_read(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail that takes longer to read than its lease lasts is not claimed by another daemon."""
    monkeypatch.setattr(worker, "RENEW_SECONDS", 0.01)
    desk = await make_desk(FOR_EVER)
    await desk.put(["stall", "good"])
    async with desk.serving():
        await desk.filed(1)
        for _ in range(3):
            desk.clock.set(desk.clock.now() + timedelta(seconds=LEASE_SECONDS - 1))
            async with asyncio.timeout(60):
                while await desk.leased_until() <= desk.clock.now() + timedelta(seconds=1):
                    pass
        assert await desk.spool.claim("other", 8, LEASE_SECONDS, desk.clock.now()) == []
