"""Tests of mailbox cursors and leases, on both databases."""

from __future__ import annotations

import asyncio
import os
from datetime import date, timedelta
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.engine import Database
from gateway.store.imap import taken_mail
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.imap.taken_mail import MailboxLeaseLost, MailboxPosition, reached
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Spool
from gateway.store.schema import tables
from gateway.store.sql import nodes
from tests.unit.gateway.store.mails import NOW, mail

LEASE = 15.0
VALIDITY = 7


@pytest.fixture
async def boxes(store):
    """Return mailbox ``desk``, leased by us, opened with UIDVALIDITY 7 and empty."""
    made = Mailboxes(store)
    await made.register([("desk", "desk@host/INBOX")])
    await made.claim(["desk"], LEASE, NOW)
    await made.begin(1, VALIDITY, 0, NOW)
    return made


@pytest.fixture
def spool(store, tmp_path):
    """Return the spool of the same database."""
    return Spool(store, open_blobs(f"file://{tmp_path}/blobs"))


def marked(uid, follows, raw=None, *, validity=VALIDITY, settled=False):
    """Return a mail with this UID that follows ``follows``."""
    return mail(
        raw or f"Subject: {uid}\r\n\r\n{uid}\r\n".encode(),
        mark=MailboxPosition(1, validity, uid, follows, settled),
    )


async def cursor(boxes):
    return (await boxes.get("desk")).last_uid


async def count(store, table=tables.mail):
    async with store.read() as connection:
        return (
            await connection.execute(sa.select(sa.func.count()).select_from(table))
        ).scalar_one()


async def test_place_and_bytes_are_one_transaction(boxes, spool, store):
    """A stored mail is recorded with its spool id, and the cursor has moved past it."""
    ids = await spool.put([marked(3, 0), marked(5, 3)])
    async with store.read() as connection:
        rows = (
            await connection.execute(
                sa.select(tables.mailbox_mail.c.uid, tables.mailbox_mail.c.mail_id)
            )
        ).all()
    assert dict(rows) == {3: ids[0], 5: ids[1]}
    assert await cursor(boxes) == 5
    assert await boxes.known(1, VALIDITY, [3, 4, 5]) == {3, 5}


async def test_a_mail_that_comes_again_is_not_stored_again(boxes, spool, store):
    """The same UID twice is one mail with one id."""
    first = await spool.put([marked(3, 0), marked(4, 3)])
    again = await spool.put([marked(4, 3), marked(5, 4)])
    assert (again[0], await count(store), await cursor(boxes)) == (first[1], 3, 5)


async def test_the_cursor_does_not_pass_a_mail_that_was_not_stored(boxes, spool):
    """When a mail fails, later ones are stored and the cursor waits until the gap is filled."""
    await spool.put([marked(1, 0)])
    await spool.put([marked(3, 2)])
    assert await cursor(boxes) == 1
    await spool.put([marked(2, 1)])
    assert await cursor(boxes) == 2
    assert await boxes.known(1, VALIDITY, [1, 2, 3]) == {1, 2, 3}


@given(
    st.sets(st.integers(1, 50), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 11)),
)
def test_the_cursor_is_never_beyond_a_mail_that_is_missing(uids, random: Random, failing):
    """Each listed mail up to the cursor was stored, whatever the order."""
    listed = sorted(uids)
    taken_mail = [
        MailboxPosition(1, VALIDITY, uid, follows, settled=False)
        for follows, uid in zip([0, *listed], listed, strict=False)
    ]
    stored = [mark for number, mark in enumerate(taken_mail) if number not in failing]
    last, done = 0, set()
    shuffled = list(stored)
    random.shuffle(shuffled)
    while shuffled:
        some = [shuffled.pop() for _ in range(random.randint(1, len(shuffled)))]
        done |= {mark.uid for mark in some}
        last = reached(last, some)
        assert all(uid in done for uid in listed if uid <= last)


async def test_without_the_lease_nothing_is_stored(boxes, spool, store):
    """Without the lease, all mail of the same commit is refused."""
    async with store.write() as connection:
        await connection.execute(sa.update(tables.mailbox).values(lease_owner="other-1"))
    with pytest.raises(MailboxLeaseLost):
        await spool.put([marked(1, 0), mail(b"by smtp")])
    with pytest.raises(MailboxLeaseLost):
        await boxes.advance(1, 9)
    assert (await count(store), await count(store, tables.mailbox_mail), await cursor(boxes)) == (
        0,
        0,
        0,
    )
    assert len(await spool.put([mail(b"by smtp")])) == 1


async def test_uids_of_another_validity_are_refused(boxes, spool, store):
    """A mail fetched under another UIDVALIDITY is not stored."""
    with pytest.raises(MailboxLeaseLost):
        await spool.put([marked(1, 0, validity=6)])
    assert await count(store) == 0


async def test_new_numbers_do_not_double_what_is_known(boxes, spool, store):
    """After new UIDs the same bytes are the same mail; the same bytes twice are two."""
    raws = [b"Subject: a\r\n\r\na", b"Subject: b\r\n\r\nb"]
    ids = await spool.put(
        [marked(uid, uid - 1, raw) for uid, raw in enumerate([raws[0], raws[1], raws[0]], 1)]
    )
    await boxes.begin(1, 8, 4, NOW)
    assert await cursor(boxes) == 0
    again = await spool.put(
        [
            marked(uid, uid - 1, raw, validity=8)
            for uid, raw in enumerate([raws[1], raws[0], raws[0], raws[0]], 1)
        ]
    )
    assert again[:3] == [ids[1], ids[0], ids[2]]
    assert (await count(store), again[3] > ids[2], await cursor(boxes)) == (4, True, 4)
    assert await boxes.known(1, 8, [1, 2, 3, 4]) == {1, 2, 3, 4}


async def test_a_validity_that_comes_back_hides_no_mail(boxes, spool, store):
    """UIDs of an earlier time are not recognised when their UIDVALIDITY comes back."""
    await spool.put([marked(1, 0), marked(2, 1)])
    for validity in (8, VALIDITY):
        await boxes.begin(1, validity, 2, NOW)
    assert await boxes.known(1, VALIDITY, [1, 2]) == set()
    await spool.put([marked(1, 0, b"something else"), marked(2, 1)])
    assert (await count(store), await cursor(boxes)) == (3, 2)
    await boxes.begin(1, 9, 2, NOW)
    await spool.put(
        [
            marked(1, 0, validity=9),
            marked(2, 1, validity=9),
            marked(3, 2, b"something else", validity=9),
        ]
    )
    assert await count(store) == 3


async def test_another_place_under_the_same_name_is_read_from_the_beginning(boxes, spool):
    """A mailbox moved to another server keeps its mails, but not its UIDs."""
    await spool.put([marked(1, 0)])
    await boxes.register([("desk", "desk@elsewhere/INBOX")])
    assert (await boxes.get("desk")).uidvalidity == 0
    await boxes.begin(1, VALIDITY, 1, NOW + timedelta(days=9))
    box = await boxes.get("desk")
    assert (box.last_uid, box.first_seen_at, await boxes.known(1, VALIDITY, [1])) == (
        0,
        NOW + timedelta(days=9),
        set(),
    )


async def test_work_on_the_server_is_remembered(boxes, spool):
    """Stored mails wait to be settled on the server, unless they need nothing."""
    await spool.put([marked(1, 0), marked(2, 1), marked(3, 2, settled=True)])
    assert await boxes.unsettled(1, VALIDITY, 10) == [1, 2]
    assert await boxes.unsettled(1, VALIDITY, 1) == [1]
    await boxes.settle(1, VALIDITY, [1])
    assert await boxes.unsettled(1, VALIDITY, 10) == [2]


async def test_an_unfetchable_mail_is_listed_until_stored_or_gone(boxes, spool, store):
    """An unfetchable mail is listed and retried until it is stored or gone."""
    later = NOW + timedelta(minutes=1)
    await boxes.record_unfetchable(1, VALIDITY, 1, "no text", later)
    await boxes.record_unfetchable(1, VALIDITY, 1, "still no text", later)
    await boxes.record_unfetchable(1, VALIDITY, 2, "no text", later)
    assert [(each.uid, each.problem, each.tries) for each in await boxes.owed(1, VALIDITY)] == [
        (1, "still no text", 2),
        (2, "no text", 1),
    ]
    assert (await boxes.owed(1, VALIDITY, NOW), len(await boxes.owed(1, VALIDITY, later))) == (
        [],
        2,
    )
    assert (await boxes.known(1, VALIDITY, [1, 2, 3]), await boxes.unsettled(1, VALIDITY, 9)) == (
        {1, 2},
        [],
    )
    assert await boxes.owed_counts() == {1: 2}
    await spool.put([marked(1, 1)])
    await boxes.drop_unfetchable(1, VALIDITY, [1, 2])
    assert (
        await boxes.owed(1, VALIDITY),
        await boxes.unsettled(1, VALIDITY, 9),
        await count(store),
    ) == ([], [1], 1)


async def test_one_process_reads_a_mailbox(boxes, ready_url):
    """A lease keeps others out until it ends or is released; its holder can renew it."""
    other = Mailboxes(await Database.open(ready_url, node="other-1"))
    try:
        assert await other.claim(["desk"], LEASE, NOW) == {}
        assert set(await boxes.claim(["desk"], LEASE, NOW + timedelta(seconds=10))) == {"desk"}
        assert await other.claim(["desk"], LEASE, NOW + timedelta(seconds=20)) == {}
        assert set(await other.claim(["desk"], LEASE, NOW + timedelta(seconds=26))) == {"desk"}
        assert await boxes.claim(["desk"], LEASE, NOW + timedelta(seconds=27)) == {}
        await other.release(["desk"])
        assert set(await boxes.claim(["desk"], LEASE, NOW + timedelta(seconds=28))) == {"desk"}
    finally:
        await other.database.close()


async def test_a_dead_process_has_no_lease(boxes, ready_url, store):
    """The lease of a dead process of this host is free; that of a living one is not."""
    host = nodes.own().rpartition("-")[0]
    next_one = Mailboxes(await Database.open(ready_url, node=nodes.own()))
    try:
        for owner, got in (
            (f"{host}-{os.getppid()}", set()),
            (f"{host}-4194305", {"desk"}),
            (f"elsewhere-{os.getpid()}", set()),
        ):
            async with store.write() as connection:
                await connection.execute(
                    sa.update(tables.mailbox).values(
                        lease_owner=owner, lease_until=NOW + timedelta(hours=1)
                    )
                )
            assert set(await next_one.claim(["desk"], LEASE, NOW)) == got
    finally:
        await next_one.database.close()


async def test_a_transaction_on_a_mailbox_does_not_cost_its_lease(boxes, ready_url, spool):
    """Renewing our lease waits for our own transaction; nobody else gets the lease meanwhile."""
    inside, leave = asyncio.Event(), asyncio.Event()

    async def store():
        async with boxes.database.write() as connection:
            await taken_mail.find_taken(
                connection,
                boxes.database.node,
                {MailboxPosition(1, VALIDITY, 1, 0, settled=False): b"x" * 16},
            )
            inside.set()
            await leave.wait()

    storing = asyncio.create_task(store())
    await inside.wait()
    renewing = asyncio.create_task(boxes.claim(["desk"], LEASE, NOW))
    if boxes.database.dialect == "postgresql":
        other = Mailboxes(await Database.open(ready_url, node="other-1"))
        assert await other.claim(["desk"], LEASE, NOW + timedelta(hours=1)) == {}
        await other.database.close()
    leave.set()
    await storing
    assert set(await renewing) == {"desk"}


async def test_two_processes_share_mailboxes_without_overlap(ready_url):
    """Processes that claim ten mailboxes at once get each of them once."""
    names = [f"box{number}" for number in range(10)]
    made = [
        Mailboxes(await Database.open(ready_url, node=f"host{number}-1")) for number in range(3)
    ]
    try:
        await asyncio.gather(
            *(each.register([(name, f"{name}@host/INBOX") for name in names]) for each in made)
        )
        got = await asyncio.gather(*(each.claim(names, LEASE, NOW) for each in made))
        assert sorted(name for each in got for name in each) == sorted(names)
    finally:
        for each in made:
            await each.database.close()


async def test_the_state_of_a_mailbox_is_shown(boxes):
    """The time of the first failure is kept until everything was read again."""
    await boxes.mark_failing(1, "failing", "the server is silent", NOW)
    await boxes.mark_failing(1, "refused", "wrong password", NOW + timedelta(hours=1))
    box = await boxes.get("desk")
    assert (box.state, box.problem, box.failing_since, box.last_pass_at) == (
        "refused",
        "wrong password",
        NOW,
        None,
    )
    await boxes.mark_ok(1, NOW + timedelta(hours=2))
    box = await boxes.get("desk")
    assert (box.state, box.problem, box.failing_since, box.last_pass_at) == (
        "ok",
        None,
        None,
        NOW + timedelta(hours=2),
    )


async def test_an_import_reads_from_the_beginning(boxes, spool):
    """An import starts again at the first UID; known mail stays known."""
    await spool.put([marked(4, 0)])
    await boxes.plan(1, date(2026, 1, 1), "none", 9, NOW + timedelta(days=1))
    box = await boxes.get("desk")
    assert (box.last_uid, box.backlog_since, box.backlog_automation, box.backlog_end) == (
        0,
        date(2026, 1, 1),
        "none",
        9,
    )
    assert box.first_seen_at == NOW + timedelta(days=1)
    assert await boxes.known(1, VALIDITY, [4]) == {4}
