"""Tests of errors in processing: only the mail at fault is held (reliability.md 14)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.errors import StoreUnavailable
from gateway.intake import worker
from gateway.intake.mails_in_hand import ReadMails
from gateway.reading import parse
from gateway.store.queues.spool import Claimed, Spool
from gateway.store.queues.wake import Wake
from gateway.store.schema import tables
from gateway.store.setup import pipelines
from tests.conftest import Postgres
from tests.replay.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


def mail(name: str, answers: str | None = None) -> bytes:
    reply = f"In-Reply-To: <{answers}@example.org>\r\n" if answers else ""
    head = (
        "From: Ann <ann@example.org>\r\nTo: support@localhost\r\nSubject: "
        f"{name}\r\nMessage-ID: <{name}@example.org>\r\n{reply}"
    )
    return f"{head}Date: Sun, 22 Nov 2026 09:00:00 +0000\r\n\r\nText of {name}.\r\n".encode()


async def poison(world: World, number: int) -> int:
    """Give a ticket a status of another pipeline, which no rule expects; return the old status."""
    async with world.database.write(ordered=True) as connection:
        other = await pipelines.add(connection, "Sales", [("Lead", "open"), ("Won", "closed")])
        table = tables.ticket
        before: int = (
            await connection.execute(sa.select(table.c.status_id).where(table.c.number == number))
        ).scalar_one()
        await connection.execute(
            sa.update(table).where(table.c.number == number).values(status_id=other.statuses[0].id)
        )
    return before


async def cure(world: World, number: int, status: int) -> None:
    async with world.database.write(ordered=True) as connection:
        await connection.execute(
            sa.update(tables.ticket)
            .where(tables.ticket.c.number == number)
            .values(status_id=status)
        )


def read_by_hand(mails: list[Claimed]) -> ReadMails:
    """Read claimed mails in this process."""
    return ReadMails(mails, [parse.read(each.raw) for each in mails])


async def states(world: World, ids: list[int]) -> list[str]:
    found = {each.id: each.state for each in await world.register.listing(ids=ids)}
    return [found[each] for each in ids]


async def filed(world: World) -> None:
    """Wait until no mail is pending."""
    async with asyncio.timeout(30):
        while await world.spool.pending_count():
            pass


async def test_only_the_failing_mail_is_held(world: World) -> None:
    """A mail is held with a reason after its second failure and can be retried; others pass."""
    await world.mail(mail("one"))
    before = await poison(world, 1)
    ids = await world.put([mail("two"), mail("bad", "one"), mail("three"), mail("answer", "two")])
    done = await world.intake.drain(ids)
    assert await states(world, ids) == ["done", "held", "done", "done"]
    assert [row.ticket for row in done] == [2, 3, 2]
    entry = await world.register.get(ids[1])
    assert entry.tries == 2
    assert "KeyError" in (entry.reason or "")
    assert len(await world.rows("message", "id")) == 4
    await cure(world, 1, before)
    await world.set_state(ids[1])
    assert [row.ticket for row in await world.intake.drain([ids[1]])] == [1]
    assert (await world.ticket(1))["status"] == "Waiting on us"


async def test_the_daemon_goes_on_after_a_failing_mail(world: World) -> None:
    """The daemon processes what comes after a failing mail, and stops when told to."""
    await world.mail(mail("one"))
    before = await poison(world, 1)
    stop, wake = asyncio.Event(), Wake()
    serving = asyncio.create_task(world.intake.serve(stop, wake))
    ids = await world.put([mail("bad", "one"), mail("two")])
    wake.notify("mail")
    await filed(world)
    later = await world.put([mail("three")])
    wake.notify("mail")
    await filed(world)
    stop.set()
    wake.notify("mail")
    await serving
    await cure(world, 1, before)
    assert await states(world, [*ids, *later]) == ["held", "done", "done"]


async def test_a_mail_finished_elsewhere_defers_its_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose lease was lost makes no second ticket, holds no mail, and is done next time."""
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0)
    ids = await world.put([mail("one"), mail("two")])
    claimed = await world.spool.claim("test", 64, 60.0, world.clock.now(), ids)
    read = read_by_hand(claimed)
    async with world.database.write(ordered=True) as connection:
        freed = {"lease_until": None, "lease_owner": None}
        await connection.execute(
            sa.update(tables.mail).where(tables.mail.c.id == ids[0]).values(freed)
        )
    assert [row.ticket for row in await world.intake.drain([ids[0]])] == [1]
    assert await world.intake.file(read) == []
    assert await states(world, ids) == ["done", "pending"]
    assert len(await world.rows("ticket", "number")) == 1
    assert [row.ticket for row in await world.intake.drain(ids)] == [2]
    assert (await world.register.get(ids[1])).tries == 1  # what another did costs no try


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_without_the_database_no_mail_is_held(
    world: World, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the database processing stops quietly, and resumes at once when it is back."""
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0)
    ids = await world.put([mail("one")])
    read = read_by_hand(await world.spool.claim("test", 64, 60.0, world.clock.now(), ids))
    name = world.database.url.database
    postgres.sql(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    postgres.sql(f"ALTER DATABASE {name} RENAME TO {name}_away")
    try:
        assert await world.intake.file(read) == []
        with pytest.raises(StoreUnavailable):
            await world.spool.pending_count()
    finally:
        postgres.sql(f"ALTER DATABASE {name}_away RENAME TO {name}")
    assert [row.ticket for row in await world.intake.drain(ids)] == [1]
    entry = await world.register.get(ids[0])
    assert (entry.state, entry.tries) == ("done", 1)


async def test_a_claim_whose_answer_was_lost_is_released(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail that was claimed while the connection broke is claimed again at once, not in 120 s."""
    ids = await world.put([mail("one"), mail("two")])
    real = world.spool.claim

    async def lost(*arguments: Any) -> list[Claimed]:
        await real(*arguments)
        monkeypatch.undo()
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(Spool, "claim", lambda _self, *arguments: lost(*arguments))
    with pytest.raises(StoreUnavailable):
        await world.intake.drain(ids)
    assert [row.ticket for row in await world.intake.drain(ids)] == [1, 2]


async def test_the_same_mail_twice_in_one_batch(world: World) -> None:
    """Each second copy in a batch is a duplicate, of a first mail as well as of its answer."""
    lines = await world.batch([mail("one"), mail("one"), mail("two", "one"), mail("two", "one")])
    assert [line["outcome"] for line in lines] == ["done", "duplicate", "done", "duplicate"]
    assert [line["ticket"] for line in lines] == [1, 1, 1, 1]
    assert [line["status"]["after"] for line in lines] == [
        "New",
        "New",
        "Waiting on us",
        "Waiting on us",
    ]
    assert len(await world.rows("message", "id")) == 2
