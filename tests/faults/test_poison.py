"""Tests of mail that kills its reading process: it becomes a ticket (reliability.md 14)."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from core.model.message import Envelope
from gateway import log
from gateway.ingress.accept import Acceptor
from gateway.ingress.connection_limits import Limits
from gateway.intake.batch import Rules
from gateway.intake.sandbox.pool import Sandbox
from gateway.intake.worker import Intake
from gateway.store.engine import Database, upgrade
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Spool
from tests.faults.witness import letter, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from gateway.clock import Clock

POISON = ("kill", "stall", "eat")
ORDER = ("first", "kill", "second", "stall", "third", "eat", "fourth")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run two reading processes that obey the mail; each may take two seconds."""
    box = Sandbox(2, reader="tests.faults.poisonous", wall=2.0)
    await box.start()
    yield box
    await box.stop()


async def test_poison_becomes_a_ticket_and_the_queue_goes_on(
    built_database: Callable[..., str], tmp_path: Path, clock: Clock, sandbox: Sandbox
) -> None:
    """Mails that kill, hang or bloat their reader become tickets from headers, in order."""
    url = built_database(upgrade)
    said = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=said)
    database = await Database.open(url, node="test")
    spool = Spool(database, open_blobs("database:"))
    accept = Acceptor(spool, Limits(), tmp_path, wake=lambda: None, free_space=lambda _: 1 << 40)
    for word in ORDER:
        await accept.accept(
            letter(word), Envelope("a@client.example", ("support@localhost",), "smtp", clock.now())
        )
    done = await Intake(database, spool, sandbox, Rules(ZoneInfo("UTC")), clock).drain()
    await database.close()
    assert [row.state for row in done] == ["done"] * len(ORDER)
    tickets = (
        "SELECT m.subject FROM message m JOIN thread h ON h.id = m.thread_id JOIN ticket t "
        "ON t.number = h.ticket ORDER BY t.number"
    )
    assert await asyncio.to_thread(rows, url, tickets) == [(f"About {word}",) for word in ORDER]
    raws = await asyncio.to_thread(rows, url, "SELECT data FROM raw_mail ORDER BY mail_id")
    assert [bytes(data) for (data,) in raws] == [letter(word) for word in ORDER]
    assert said.getvalue().count('"unreadable"') == len(POISON)
    assert sandbox.killed >= 2 * len(POISON)
    assert "About" not in said.getvalue()
