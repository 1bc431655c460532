"""Tests of deliveries in the store, on both databases: claims, leases, results, changes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway.errors import NotFound, Refused
from gateway.store.engine import Database
from gateway.store.queues import outbox as store
from gateway.store.queues.outbox import AttemptRecord, Deliveries, cancel, retry
from gateway.store.schema import tables
from gateway.store.sql.bulk import write_rows
from tests.conftest import START
from tests.unit.gateway.outbox.conftest import MAIL

MINUTE = timedelta(minutes=1)


@pytest.fixture
def deliveries(database):
    """Return the deliveries of the database."""
    return Deliveries(database)


async def claimed(deliveries, now=START, owner="host-1", limit=100, **more):
    """Return the ids of one claim."""
    return [job.id for job in await deliveries.claim(owner, limit, 60, now, **more)]


async def test_what_is_due_is_claimed_once(deliveries, post):
    """Due deliveries are claimed earliest first, and not again while the lease lasts."""
    late = await post.put("a@example.net", due=START - MINUTE, state="deferred")
    now = await post.put("b@example.net", "c@example.net")
    await post.put("d@example.net", due=START + MINUTE)
    for state in ("scheduled", "sent", "failed", "cancelled"):
        await post.put("e@example.net", state=state)
    assert await claimed(deliveries) == [*late, *now]
    assert await claimed(deliveries, owner="host-2") == []
    assert len(await claimed(deliveries, START + 2 * MINUTE, owner="host-2")) == 4


async def test_a_job_has_what_sending_needs(deliveries, post):
    """The raw mail is read once for all its recipients, and not by a claim alone."""
    first, second = await post.put(
        "a@example.net", "b@example.net", return_address="support@example.org", automatic=True
    )
    jobs = await deliveries.claim("host-1", 10, 60, START)
    assert [(job.id, job.recipient, job.attempts, job.first_at) for job in jobs] == [
        (first, "a@example.net", 0, START),
        (second, "b@example.net", 0, START),
    ]
    assert jobs[0].raw is jobs[1].raw or jobs[0].raw == jobs[1].raw == MAIL
    assert (jobs[0].return_address, jobs[0].automatic, jobs[0].ticket) == (
        "support@example.org",
        True,
        None,
    )
    await deliveries.give_back("host-1", [first, second])
    assert [job.raw for job in await deliveries.claim("host-1", 10, 60, START, bare=True)] == [
        b"",
        b"",
    ]


async def test_a_claim_is_bounded_in_bytes(deliveries, post, monkeypatch):
    """A claim loads a limited number of bytes, each mail counted once, but at least one mail."""
    monkeypatch.setattr(store, "CLAIM_BYTES", 250)
    first = await post.put("a@example.net", "b@example.net", raw=b"x" * 300)
    second = await post.put("c@example.net", raw=b"x" * 100, due=START + MINUTE)
    third = await post.put("d@example.net", raw=b"x" * 100, due=START + 2 * MINUTE)
    fourth = await post.put("e@example.net", raw=b"x" * 100, due=START + 3 * MINUTE)
    now = START + 5 * MINUTE
    assert [await claimed(deliveries, now) for _ in range(4)] == [
        first,
        [*second, *third],
        fourth,
        [],
    ]


async def test_concurrent_claims_share_no_delivery(clean_url, post):
    """Ten concurrent claims in each of two processes claim each delivery exactly once."""
    for _ in range(10):
        await post.put(*(f"{name}@example.net" for name in "abcdefghij"))
    databases = [await Database.open(clean_url, node=f"host-{number}") for number in (2, 3)]
    try:
        claims = [
            claimed(Deliveries(each), owner=each.node, limit=7)
            for _ in range(10)
            for each in databases
        ]
        found = [delivery for ids in await asyncio.gather(*claims) for delivery in ids]
    finally:
        for each in databases:
            await each.close()
    assert len(found) == len(set(found)) == 100


async def test_only_the_holder_records_a_result(deliveries, post):
    """Recording a result without the lease, or after the end, changes nothing."""
    [one] = await post.put("a@example.net")
    await claimed(deliveries)
    assert await claimed(deliveries, START + 2 * MINUTE, owner="host-2") == [one]
    assert (
        await deliveries.mark("host-1", [AttemptRecord(one, "sent", "250 OK", ended_at=START)])
        == set()
    )
    assert await deliveries.mark(
        "host-2", [AttemptRecord(one, "deferred", "451 Later", due_at=START + 3 * MINUTE)]
    ) == {one}
    row = await post.row(one)
    assert (row.state, row.attempts, row.last_reply, row.due_at, row.lease_owner) == (
        "deferred",
        1,
        "451 Later",
        START + 3 * MINUTE,
        None,
    )
    await claimed(deliveries, START + 3 * MINUTE)
    assert await deliveries.mark(
        "host-1", [AttemptRecord(one, "sent", "250 OK", ended_at=START)]
    ) == {one}
    assert (
        await deliveries.mark("host-1", [AttemptRecord(one, "failed", "550 No", ended_at=START)])
        == set()
    )
    row = await post.row(one)
    assert (row.state, row.attempts, row.due_at, row.ended_at, row.settled) == (
        "sent",
        2,
        None,
        START,
        True,
    )
    assert await claimed(deliveries, START + timedelta(days=9)) == []


async def test_a_failure_is_unsettled(deliveries, post):
    """A failed delivery is unsettled until its ticket is notified."""
    [one] = await post.put("a@example.net")
    await claimed(deliveries)
    await deliveries.mark("host-1", [AttemptRecord(one, "failed", "550 No", ended_at=START)])
    row = await post.row(one)
    assert (row.state, row.settled) == ("failed", False)


async def test_a_lease_can_be_made_longer(deliveries, post):
    """Only its holder can extend a lease."""
    [one] = await post.put("a@example.net")
    await claimed(deliveries)
    await deliveries.keep("host-2", [one], 600, START)
    assert (await post.row(one)).lease_until == START + MINUTE
    await deliveries.keep("host-1", [one], 600, START)
    assert (await post.row(one)).lease_until == START + 10 * MINUTE


async def test_orphans_are_freed(deliveries, post):
    """Deliveries claimed by dead processes of this host are free; those of others are not."""
    for owner in ("host-1", "host-999999999", "other-7"):
        await post.put("a@example.net")
        await claimed(deliveries, owner=owner)
    assert await deliveries.free_orphans("host-1") == 2
    assert len(await claimed(deliveries)) == 2


async def test_when_the_next_attempt_is_due(deliveries, post):
    """The earliest due delivery that nobody has claimed decides."""
    assert await deliveries.earliest_due(START) is None
    await post.put("a@example.net", due=START + MINUTE, state="scheduled")
    await post.put("a@example.net", due=START + 3 * MINUTE, state="deferred")
    assert await deliveries.earliest_due(START) == START + 3 * MINUTE
    await post.put("a@example.net", due=START - MINUTE)
    assert await deliveries.earliest_due(START) == START - MINUTE
    await claimed(deliveries)
    assert await deliveries.earliest_due(START) == START + 3 * MINUTE
    assert await deliveries.earliest_due(START + 2 * MINUTE) == START - MINUTE


# ---- commands


async def test_the_listing(deliveries, post):
    """The fields are those of interfaces.md 2.2, newest first; by state, and limited."""
    [one] = await post.put("a@example.net", template="Ticket received", automatic=True)
    [two] = await post.put(
        "b@example.net", state="scheduled", due=START + MINUTE, raw=None, draft={"text": "x"}
    )
    shown = await deliveries.listing()
    assert [each.id for each in shown] == [two, one]
    assert asdict(shown[1]) == {
        "id": one,
        "ticket": None,
        "message_id": "tg.1@example.org",
        "recipient": "a@example.net",
        "state": "queued",
        "attempts": 0,
        "due_at": START,
        "last_reply": None,
        "automatic": True,
        "template": "Ticket received",
        "subject": "A very private matter",
    }
    assert [each.id for each in await deliveries.listing("scheduled")] == [two]
    assert [each.id for each in await deliveries.listing(limit=1)] == [two]
    assert (await deliveries.show(two)).draft == {"text": "x"}
    assert (await deliveries.show(one)).raw == MAIL
    with pytest.raises(NotFound, match="no delivery 9"):
        await deliveries.show(9)


async def handled(deliveries, how, ids, now):
    """Change deliveries in a transaction of its own."""
    async with deliveries.database.write() as connection:
        await how(connection, ids, now)


async def test_what_waits_can_be_cancelled(deliveries, post):
    """Scheduled, queued and deferred deliveries can be cancelled and are never claimed again."""
    ids = [
        (await post.put("a@example.net", state=state))[0]
        for state in ("scheduled", "queued", "deferred")
    ]
    await handled(deliveries, cancel, ids, START)
    assert await post.states() == ["cancelled"] * 3
    assert (await post.row(ids[0])).ended_at == START
    assert await claimed(deliveries, START + MINUTE) == []


async def test_all_or_nothing(deliveries, post):
    """One delivery that has ended, is unknown or being sent refuses the whole command."""
    [waiting] = await post.put("a@example.net", due=START + MINUTE)
    for state in ("sent", "failed", "cancelled"):
        [ended] = await post.put("a@example.net", state=state)
        with pytest.raises(Refused, match=f"delivery {ended} is already {state}"):
            await handled(deliveries, cancel, [waiting, ended], START)
    with pytest.raises(NotFound, match="no delivery 77"):
        await handled(deliveries, cancel, [waiting, 77], START)
    [held] = await post.put("a@example.net")
    assert await claimed(deliveries) == [held]
    with pytest.raises(Refused, match="is being sent right now"):
        await handled(deliveries, cancel, [waiting, held], START)
    assert (await post.row(waiting)).state == "queued"
    await handled(deliveries, cancel, [waiting, held], START + 2 * MINUTE)
    assert (
        await deliveries.mark(
            "host-1", [AttemptRecord(held, "deferred", "451 Later", due_at=START)]
        )
        == set()
    )
    assert (await post.row(held)).state == "cancelled"


async def test_a_retry_begins_anew(deliveries, post):
    """Failed and deferred deliveries are due at once for five more days; others are refused."""
    [failed] = await post.put("a@example.net")
    [off] = await post.put("b@example.net")
    await claimed(deliveries)
    await deliveries.mark(
        "host-1",
        [
            AttemptRecord(failed, "failed", "550 No", ended_at=START),
            AttemptRecord(off, "deferred", "451 No", due_at=START + MINUTE),
        ],
    )
    later = START + timedelta(days=6)
    await handled(deliveries, retry, [failed, off], later)
    row = await post.row(failed)
    assert (row.state, row.attempts, row.due_at, row.settled, row.last_reply) == (
        "queued",
        1,
        later,
        True,
        "550 No",
    )
    assert (row.queued_at, row.ended_at) == (later, None)
    jobs = await deliveries.claim("host-1", 10, 60, later)
    assert [(job.id, job.attempts, job.created_at, job.first_at) for job in jobs] == [
        (failed, 1, START, later),
        (off, 1, START, later),
    ]
    await deliveries.mark(
        "host-1", [AttemptRecord(failed, "deferred", "451 Later", due_at=later + MINUTE)]
    )
    again = await deliveries.claim("host-1", 1, 60, later + MINUTE)
    assert [(job.id, job.first_at) for job in again] == [(failed, later)]
    for state in ("scheduled", "queued", "sent", "cancelled"):
        [other] = await post.put("c@example.net", state=state)
        with pytest.raises(Refused, match=f"is (already )?{state}"):
            await handled(deliveries, retry, [other], later)


async def test_a_claim_among_many_takes_the_few_that_are_due(database, deliveries):
    """Of 5,000 deliveries waiting for later, each claim takes only the one that is due."""
    row = {
        "outgoing_id": 1,
        "recipient": "a@example.net",
        "domain": "example.net",
        "state": "deferred",
        "attempts": 1,
        "created_at": START,
    }
    rows = [
        {"id": number, "due_at": START + timedelta(seconds=number), "settled": True} | row
        for number in range(1, 5001)
    ]
    async with database.write() as connection:
        values = {"id": 1, "automatic": False, "subject": "x", "raw": MAIL, "created_at": START}
        await connection.execute(sa.insert(tables.outgoing).values(values))
        for at in range(0, len(rows), 2000):
            await write_rows(connection, [(tables.delivery, rows[at : at + 2000])])
    for number in range(1, 8):
        jobs = await deliveries.claim("host-1", 50, 60, START + timedelta(seconds=number))
        assert [job.id for job in jobs] == [number]
        assert await deliveries.earliest_due(START) == START + timedelta(seconds=number + 1)
