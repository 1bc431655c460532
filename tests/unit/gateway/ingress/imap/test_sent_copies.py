"""Tests of copies of sent mail in a real Dovecot, on both databases, and of their service."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from datetime import timedelta

from gateway import log
from gateway.ingress.imap import sent_copies
from gateway.ingress.imap.connection import Timeouts
from gateway.ingress.imap.sent_copies import SentCopies
from gateway.oauth.tokens import Tokens
from gateway.store.imap.sent_copies import Copies
from tests.conftest import START
from tests.servers.proxy import proxy
from tests.unit.gateway.ingress.imap.sent_mail import (
    CHANNEL,
    FOLDER,
    keeper,
    on,
    own,
    rows,
    went,
    wrote,
)
from tests.unit.gateway.ingress.reading import account_of

# ---- which mails


async def test_mail_of_a_user_is_copied_to_the_folder(database, clock, real):
    """The copy has the same bytes, is seen and dated; a missing folder is created."""
    await wrote(database, 1, at=START - timedelta(hours=3))
    account = on(real)
    sent = keeper(database, clock, account)
    assert await sent.catch_up(account) == 1
    assert await sent.catch_up(account) == 0
    [(raw, flags)] = real.seen(real.user, FOLDER).values()
    assert raw == own(1)
    assert "\\Seen" in flags
    with real.client(real.user) as client:
        client.select('"Gesendet &- mehr"', readonly=True)
        assert (
            b'INTERNALDATE "22-Nov-2026 07:00:00 +0000"'
            in client.fetch("1", "(INTERNALDATE)")[1][0]
        )
        assert b"Gesendet" in client.lsub()[1][0]
    [row] = await rows(database)
    assert (row.mailbox, row.attempts, row.problem, row.due_at, row.done_at) == (
        "desk",
        1,
        None,
        None,
        START,
    )


async def test_nothing_else_gets_a_copy(database, clock, real):
    """Automatic, foreign, unsent and old mail and drafts are not copied."""
    await wrote(database, 1, automatic=True)
    await wrote(database, 2, return_address="sales@localhost")
    await wrote(database, 3, return_address=None)
    for number, state in ((4, "queued"), (5, "deferred"), (6, "failed"), (7, "cancelled")):
        await wrote(database, number, state=state)
    await wrote(database, 8, at=START - timedelta(days=7, seconds=1))
    await wrote(database, 9, at=START - timedelta(days=7))
    account = on(real)
    assert await keeper(database, clock, account).catch_up(account) == 1
    assert [row.outgoing_id for row in await rows(database)] == [9]
    assert real.count(real.user, FOLDER) == 1


async def test_mails_sent_later_are_copied_too(database, clock):
    """Mail that is sent late is found by a later search."""
    copies, wanted = Copies(database), {"desk": CHANNEL}

    async def planned(after):
        after = await copies.plan(wanted, clock.now(), after)
        return after, [row.outgoing_id for row in await rows(database)]

    await wrote(database, 1, state="deferred")
    await wrote(database, 2)
    await wrote(database, 3, state="failed")
    after, found = await planned(None)
    assert (after, found) == (0, [2])
    await went(database, 1, "sent", START)
    after, found = await planned(after)
    assert (after, found) == (3, [1, 2])
    await wrote(database, 4)
    after, found = await planned(after)
    assert (after, found) == (4, [1, 2, 4])
    await went(database, 3, "queued", None)
    after, _ = await planned(after)
    await went(database, 3, "sent", START)
    assert await planned(after) == (4, [1, 2, 3, 4])


async def test_a_full_search_begins_two_weeks_back(database, clock):
    """A full search begins two weeks back, however many older mails there are."""
    await wrote(database, 1, at=START - timedelta(days=30))
    await wrote(database, 3, at=START - timedelta(days=29), message=2)
    await wrote(database, 2, at=START, message=3, created_at=START - timedelta(days=60))
    await Copies(database).plan({"desk": CHANNEL}, clock.now())
    assert [row.outgoing_id for row in await rows(database)] == [2]


async def test_each_mailbox_of_a_channel_gets_one(database, clock, real):
    """Each account with a sent folder for the channel gets a copy."""
    await wrote(database, 1)
    two = [on(real, name="desk"), on(real, name="other")]
    sent = keeper(database, clock, *two, account_of(real.port, name="third"))
    assert [each.name for each in sent.accounts] == ["desk", "other"]
    await sent.catch_up(two[0])
    assert [(row.mailbox, row.done_at) for row in await rows(database)] == [("desk", START)]


async def test_an_existing_copy_is_not_added_again(quick, clock, real):
    """No second copy is added beside the server's, or one of a process that died."""
    real.create(real.user, FOLDER)
    real.append(real.user, own(1), folder=FOLDER)
    await wrote(quick, 1)
    account = on(real)
    assert await keeper(quick, clock, account).catch_up(account) == 1
    assert real.count(real.user, FOLDER) == 1


# ---- the service


async def test_the_service_makes_copies_until_it_is_stopped(quick, clock, real, monkeypatch):
    """It polls by itself, does not wait for a silent mailbox, and stops soon."""
    monkeypatch.setattr(sent_copies, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sent_copies, "GOODBYE_SECONDS", 0.1)
    await wrote(quick, 1)
    await wrote(quick, 2, return_address="sales@localhost")
    with proxy(real.port) as silent:
        silent.stall_after(down=0, always=True)
        accounts = (
            on(real, silent.port, name="silent"),
            on(real, name="well", channel="sales@localhost"),
        )
        stop = asyncio.Event()
        patient = SentCopies(accounts, quick, Tokens(quick, clock), clock, Timeouts(connect=60))
        running = asyncio.create_task(patient.run(stop))
        async with asyncio.timeout(20):
            while not [row for row in await rows(quick) if row.done_at]:
                await asyncio.to_thread(lambda: None)
        stop.set()
        async with asyncio.timeout(30):  # half of the silent one's timeout
            await running
    assert [(row.mailbox, row.done_at is not None) for row in await rows(quick)] == [
        ("silent", False),
        ("well", True),
    ]
    assert real.count(real.user, FOLDER) == 1


async def test_the_log_holds_neither_mail_nor_secret(quick, clock, real, free_port):
    """At debug level the log has no subject, text, address or password."""
    written = io.StringIO()
    log.configure(level="debug", form="json", addresses="hashed", stream=written)
    await wrote(quick, 1)
    account, away = on(real), on(real, free_port)
    await keeper(quick, clock, away).catch_up(away)
    clock.advance(timedelta(minutes=1))
    await keeper(quick, clock, account).catch_up(account)
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)
    events = [
        line["event"]
        for line in map(json.loads, written.getvalue().splitlines())
        if line.get("room") == "sent"
    ]
    assert events == ["copies of sent mail delayed", "copies of sent mail made"]
    assert not [
        word
        for word in ("About", "A line of", "client@client", account.password, account.username)
        if word in written.getvalue()
    ]
