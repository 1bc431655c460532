"""Tests of the spool: durable on return, claimed by one worker at a time, finished once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.errors import BlobsUnavailable, DiskFull, NotFound, Refused
from gateway.store.engine import Database
from gateway.store.queues import mail_register
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.earlier_mail import EarlierMail, by_fingerprint
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import CLAIM_BYTES, ClaimLost, Spool, finish
from gateway.store.schema import tables
from tests.unit.gateway.store.mails import ENVELOPE, NOW, became, mail

BIG = random.Random(1).randbytes(300_000)


@pytest.fixture
def spool(store: Database, tmp_path) -> Spool:
    return Spool(store, open_blobs(f"file://{tmp_path}/blobs"))


@pytest.fixture
def register(spool: Spool) -> MailRegister:
    return MailRegister(spool.database, spool.blobs)


async def done(spool: Spool, *results, **how) -> None:
    async with spool.database.write(ordered=True) as connection:
        await finish(connection, results, **how)


async def test_stored_mail_is_claimed_unchanged_and_in_order(spool, register, tmp_path):
    """Small and large mails, in memory and in files, are claimed unchanged and in order."""
    raws = [
        b"",
        b"a\0b\r\n" * 10,
        BIG,
        b"x" * (256 << 10),
        b"y" * ((256 << 10) + 1),
        bytes(range(256)),
    ]
    mails = [mail(raw, origin=str(place)) for place, raw in enumerate(raws)] + [
        mail(raw, tmp_path / f"f{place}") for place, raw in enumerate(raws)
    ]
    ids = await spool.put(mails[:7])
    ids += await spool.put(mails[7:])
    assert ids == sorted(ids)
    claimed = await spool.claim("n", 50, 60, NOW)
    assert [each.id for each in claimed] == ids
    assert [each.raw for each in claimed] == raws * 2
    assert [each.envelope for each in claimed] == [each.envelope for each in mails]
    assert [each.size for each in claimed] == [len(raw) for raw in raws] * 2
    assert {(each.tries, each.released, each.received_at) for each in claimed} == {(1, False, NOW)}
    assert [await register.raw(number) for number in ids] == raws * 2
    assert all((tmp_path / f"f{place}").exists() for place in range(6))


async def test_an_envelope_comes_back_as_it_was(spool):
    """Every fact of the transport is stored, such as a null and an unknown sender."""
    envelopes = [
        replace(ENVELOPE, sender=""),
        replace(ENVELOPE, sender=None, source="replay", automation=False),
        replace(ENVELOPE, recipients=("a@b", "c@d")),
    ]
    await spool.put([replace(mail(b"x"), envelope=each) for each in envelopes])
    assert [each.envelope for each in await spool.claim("n", 9, 60, NOW)] == envelopes


async def test_the_same_large_mail_twice_is_one_blob(spool):
    """Two copies of one large mail share their blob."""
    await spool.put([mail(BIG), mail(BIG)])
    assert len([key async for key in spool.blobs.listing()]) == 1
    assert [each.raw for each in await spool.claim("n", 9, 60, NOW)] == [BIG, BIG]


async def test_a_claimed_mail_belongs_to_one_worker_until_the_lease_is_over(spool):
    """A mail is not claimed again during its lease; afterwards it is, and counted."""
    await spool.put([mail(b"a"), mail(b"b"), mail(b"c")])
    first = await spool.claim("one", 2, 60, NOW)
    second = await spool.claim("two", 9, 60, NOW)
    assert [[each.raw for each in group] for group in (first, second)] == [[b"a", b"b"], [b"c"]]
    assert await spool.claim("two", 9, 60, NOW + timedelta(seconds=59)) == []
    assert await spool.next_due() == NOW + timedelta(seconds=60)
    again = await spool.claim("two", 9, 60, NOW + timedelta(seconds=61))
    assert [(each.raw, each.tries) for each in again] == [(b"a", 2), (b"b", 2), (b"c", 2)]


async def test_workers_that_claim_at_once_share_the_mail(spool, ready_url):
    """Concurrent claims of two daemons take each mail exactly once."""
    other = await Database.open(ready_url, node="other")
    try:
        ids = await spool.put([mail(bytes([place])) for place in range(40)])
        second = Spool(other, spool.blobs)
        groups = await asyncio.gather(
            *(each.claim("n", 7, 60, NOW) for _ in range(6) for each in (spool, second))
        )
        rest = await spool.claim("n", 99, 60, NOW)
        assert sorted(each.id for group in (*groups, rest) for each in group) == ids
    finally:
        await other.close()


async def test_only_the_named_mails_are_claimed(spool):
    """A claim with ids leaves all other mail alone."""
    ids = await spool.put([mail(b"a"), mail(b"b"), mail(b"c")])
    assert [each.id for each in await spool.claim("n", 9, 60, NOW, [ids[1], 999])] == [ids[1]]
    assert await spool.claim("n", 9, 60, NOW, []) == []


async def test_a_claim_does_not_bring_more_into_memory_than_it_may(spool, monkeypatch):
    """Large mails are claimed a few at a time, a single larger one alone."""
    monkeypatch.setattr("gateway.store.queues.spool.CLAIM_BYTES", 350_000)
    assert CLAIM_BYTES >= 25 << 20
    await spool.put([mail(BIG), mail(b"a"), mail(BIG), mail(b"z" * 400_000), mail(b"b")])
    sizes = [[each.size for each in await spool.claim("n", 9, 60, NOW)] for _ in range(4)]
    assert sizes == [[300_000, 1], [300_000], [400_000], [1]]


async def test_a_finished_mail_is_fully_shown(spool, register):
    """The register shows what a mail became; it is never claimed again."""
    [number] = await spool.put([mail(b"a")])
    await spool.claim("n", 1, 60, NOW)
    values = {
        "kind": "human",
        "channel_id": 1,
        "message_id": "m\0@x",
        "sender": "a@b",
        "subject": "S\ud800",
        "fingerprint": b"0" * 16,
    }
    outcome = {"steps": [{"why": "a\0"}]}
    await done(
        spool,
        became(
            number,
            "done",
            **values,
            message=7,
            thread_id=8,
            ticket=9,
            reason="because",
            outcome=outcome,
        ),
    )
    found = await register.get(number)
    assert (
        found.state,
        found.kind,
        found.channel,
        found.message_id,
        found.sender,
        found.subject,
    ) == ("done", "human", "support@localhost", "m\ufffd@x", "a@b", "S\ufffd")
    assert (found.message, found.thread_id, found.ticket, found.reason, found.processed_at) == (
        7,
        8,
        9,
        "because",
        NOW,
    )
    assert found.outcome == {"steps": [{"why": "a\ufffd"}]}
    assert found.envelope == ENVELOPE
    assert await spool.claim("n", 9, 60, NOW + timedelta(days=1)) == []
    assert (await spool.pending_count(), await spool.next_due()) == (0, None)


async def test_a_second_finish_changes_nothing(spool, register):
    """A batch with a mail that another worker finished changes nothing."""
    ids = await spool.put([mail(b"a"), mail(b"b")])
    await done(spool, became(ids[0]))
    with pytest.raises(ClaimLost):  # noqa: PT012 - the block is what is tested
        async with spool.database.write(ordered=True) as connection:
            await connection.execute(sa.update(tables.counter).values(value=99))
            await finish(connection, [became(ids[0], "ignored"), became(ids[1])])
    assert [(await register.get(number)).state for number in ids] == ["done", "pending"]
    async with spool.database.read() as connection:
        assert (
            99 not in (await connection.execute(sa.select(tables.counter.c.value))).scalars().all()
        )


async def test_a_mail_that_fails_twice_is_held(spool, register):
    """A mail is claimed again after its first failure, and held after its second."""
    bad, good = await spool.put([mail(b"bad"), mail(b"good")])
    await spool.claim("n", 9, 60, NOW)
    await spool.fail([bad], "It broke.", NOW)
    assert [(each.id, each.tries) for each in await spool.claim("n", 9, 60, NOW)] == [(bad, 2)]
    await spool.fail([bad], "It broke again.", NOW)
    found = await register.get(bad)
    assert (found.state, found.reason, found.processed_at) == ("held", "It broke again.", NOW)
    assert await spool.claim("n", 9, 60, NOW) == []
    assert (await register.get(good)).state == "pending"


async def test_a_released_mail_loses_no_attempt(spool):
    """What a node releases is free at once, but for what it holds and what others claimed."""
    free, held, other = await spool.put([mail(b"a"), mail(b"b"), mail(b"c")])
    await spool.claim("other", 9, 60, NOW, [other])
    await spool.claim("n", 9, 60, NOW, [held])
    for _ in range(5):
        [claimed] = await spool.claim("n", 9, 60, NOW)
        assert (claimed.id, claimed.tries) == (free, 1)
        await spool.release("n", [held])
    assert await spool.pending_count() == 3


async def test_a_blob_that_cannot_be_read_now_holds_up_no_other(spool, monkeypatch):
    """A mail whose blob is away waits for its lease without a try; the others are claimed."""
    large, small = await spool.put([mail(BIG), mail(b"small")])

    async def away(_key: str) -> bytes:
        raise BlobsUnavailable("cannot read blobs: permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(spool.blobs, "get", away)
        for _ in range(2):
            claimed = await spool.claim("n", 9, 60, NOW)
            assert [each.id for each in claimed] == [small] * bool(claimed)
    [later] = await spool.claim("n", 9, 60, NOW + timedelta(minutes=2), [large])
    assert (later.id, later.tries) == (large, 1)


async def test_a_lost_blob_holds_its_mail_and_no_other(spool, register, tmp_path):
    """A mail without its blob is held after two tries; the rest of its batch is claimed."""
    bad, good = await spool.put([mail(BIG), mail(b"good")])
    for path in (tmp_path / "blobs").glob("*/*"):
        path.unlink()
    for place in range(2):
        claimed = await spool.claim("n", 9, 60, NOW + timedelta(minutes=2 * place))
        assert [each.id for each in claimed] == [good]
    assert (await register.get(bad)).state == "held"


async def test_a_fingerprint_finds_the_newest_original(spool, register):
    """The newest finished mail with a fingerprint is found, duplicates left out."""
    old, new, copy, waiting = await spool.put(
        [mail(bytes([place]), received_at=NOW + timedelta(hours=place)) for place in range(4)]
    )
    seen, other = b"s" * 16, b"o" * 16
    await done(
        spool,
        became(old, fingerprint=seen, thread_id=1),
        became(new, fingerprint=seen, thread_id=2, ticket=3, channel_id=1),
    )
    await done(spool, became(copy, "duplicate", fingerprint=seen, original_id=new))
    async with spool.database.write() as connection:
        found = await by_fingerprint(connection, {seen, other})
        assert await by_fingerprint(connection, ()) == {}
    assert found == {
        seen: EarlierMail(
            new,
            NOW,
            2,
            3,
            1,
            "done",
            kind=None,
            proven=False,
            readers=frozenset(),
            parents=frozenset(),
        )
    }
    assert (await register.get(waiting)).state == "pending"


async def decide(spool, mail_id, state, reason=None, *, released=False) -> None:
    async with spool.database.write(ordered=True) as connection:
        await mail_register.set_state(
            connection, mail_id, state, reason=reason, now=NOW, released=released
        )


async def test_held_mail_is_retried_released_or_discarded(spool, register):
    """Retry, release and discard change held and quarantined mail only, and name the state."""
    held, kept, finished = await spool.put([mail(b"a"), mail(b"b"), mail(b"c")])
    await done(
        spool, became(held, "held"), became(kept, "quarantined", reason="spam"), became(finished)
    )
    await decide(spool, held, "pending")
    await decide(spool, kept, "pending", released=True)
    assert [
        (each.id, each.tries, each.released) for each in await spool.claim("n", 9, 60, NOW)
    ] == [(held, 1, False), (kept, 1, True)]
    with pytest.raises(Refused):
        await decide(spool, finished, "ignored", "no")
    with pytest.raises(NotFound):
        await decide(spool, 999, "ignored", "no")
    await spool.release("n", [])
    await done(spool, became(held, "held"))
    await decide(spool, held, "ignored", "Discarded.")
    assert ((await register.get(held)).state, (await register.get(held)).reason) == (
        "ignored",
        "Discarded.",
    )


async def test_mail_is_listed_by_state_newest_first(spool, register):
    """The register lists and counts by state, newest first, up to a limit."""
    ids = await spool.put([mail(bytes([place])) for place in range(6)])
    await done(spool, became(ids[0]), became(ids[1], "held"), became(ids[2], "quarantined"))
    assert [each.id for each in await register.listing(limit=2)] == [ids[5], ids[4]]
    assert [each.id for each in await register.listing("pending")] == ids[:2:-1]
    assert [each.id for each in await register.listing("held")] == [ids[1]]
    assert [each.id for each in await register.listing("done")] == [ids[0]]
    assert [each.id for each in await register.listing(ids=ids[:2])] == ids[1::-1]
    assert (
        await register.total(),
        await register.total("pending"),
        await register.total("done"),
    ) == (6, 3, 1)
    for absent in (register.get(999), register.raw(999)):
        with pytest.raises(NotFound):
            await absent


async def test_a_mail_that_cannot_be_stored_leaves_nothing(spool, register, monkeypatch):
    """A full disk below the blobs stores none of the mails of that commit."""

    def full(*_):
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("gateway.store.queues.blob_files.os.fsync", full)
        with pytest.raises(DiskFull):
            await spool.put([mail(b"a"), mail(BIG)])
    assert await register.total() == 0
    assert [key async for key in spool.blobs.listing()] == []
    assert len(await spool.put([mail(b"a"), mail(BIG)])) == 2


async def test_claiming_uses_the_index_of_unfinished_mail(store):
    """Claiming uses the index of unfinished mail."""
    if store.dialect != "sqlite":
        return
    from gateway.store.queues.spool import CLAIMABLE

    text = str(
        CLAIMABLE.compile(dialect=store._reader.dialect, compile_kwargs={"literal_binds": False})
    )
    async with store.read() as connection:
        plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (1, 1, 0))).all()
    assert any("ix_mail_state" in str(row) for row in plan), plan


KILLED = """
import asyncio, hashlib, random, sys
from gateway.store.queues.blobs import open_blobs
from gateway.store.engine import Database
from gateway.store.queues.spool import Spool
from tests.unit.gateway.store.mails import mail

async def main():
    database = await Database.open(sys.argv[1], node="child")
    spool = Spool(database, open_blobs(sys.argv[2]))
    chance = random.Random(int(sys.argv[3]))
    while True:
        sizes = [chance.choice((10, 5_000, 40_000, 270_000)) for _ in range(chance.randint(1, 6))]
        raws = [chance.randbytes(size) for size in sizes]
        ids = await spool.put([mail(raw) for raw in raws])
        for number, raw in zip(ids, raws):
            print(number, hashlib.sha256(raw).hexdigest(), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_was_acknowledged_survives_kill_9(ready_url, tmp_path, seed):
    """After a kill, every mail whose put returned is stored unchanged, and no partial mail."""
    blobs = f"file://{tmp_path}/blobs"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        ready_url,
        blobs,
        str(seed),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(random.Random(seed).randint(20, 80))]
    process.send_signal(signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    told = dict(line.split() for line in lines if line.endswith(b"\n"))
    database = await Database.open(ready_url, node="n")
    register = MailRegister(database, open_blobs(blobs))
    try:
        stored = await register.listing()
        assert {
            str(each.id).encode(): each.sha256.encode() for each in stored
        }.items() >= told.items()
        for each in stored:
            assert hashlib.sha256(await register.raw(each.id)).hexdigest() == each.sha256
    finally:
        await database.close()
    assert len(told) >= 20
