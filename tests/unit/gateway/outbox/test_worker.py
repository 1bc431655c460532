"""Tests of the outbox worker with a real smarthost, on both databases."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from config.keys import read_key
from core.mail import reply_tokens
from gateway.errors import StoreUnavailable
from gateway.outbox import worker
from gateway.outbox.signing import Signer
from gateway.outbox.submit import Deadlines
from gateway.outbox.worker import Outbox
from gateway.store.engine import Database
from gateway.store.queues.outbox import Deliveries, cancel, retry
from gateway.store.queues.wake import Wake
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.sink import DROP, STALL
from tests.unit.gateway.outbox.conftest import MAIL, openssl

DAY = timedelta(days=1)


async def advance(outbox, clock, until):
    """Move the clock from attempt to attempt, at most to ``until``; return the times."""
    instants = []
    while (due := await outbox.deliveries.earliest_due(clock.now())) is not None and due <= until:
        clock.set(max(due, clock.now()))
        instants.append(clock.now())
        await outbox.run_due()
    clock.set(until)
    return instants


async def test_every_recipient_gets_the_mail_once(outbox, post, sink):
    """There is one transaction per recipient; a second pass sends nothing."""
    ids = await post.put("ann@example.net", "bob@example.net")
    outcomes = await outbox().run_due()
    assert [(each.delivery, each.recipient, each.state) for each in outcomes] == [
        (ids[0], "ann@example.net", "sent"),
        (ids[1], "bob@example.net", "sent"),
    ]
    assert await outbox().run_due() == []
    assert [(mail.recipient, mail.raw) for mail in sink.mails] == [
        ("ann@example.net", MAIL),
        ("bob@example.net", MAIL),
    ]
    row = (await post.rows())[0]
    assert (row.attempts, row.due_at, row.ended_at, row.last_reply, row.settled) == (
        1,
        None,
        START,
        "250 2.0.0 taken as 1",
        True,
    )


async def test_without_a_smarthost_mail_waits(database, clock, post):
    """Nothing is claimed and nothing fails."""
    await post.put("ann@example.net")
    idle = Outbox(database, None, None, clock)
    assert await idle.run_due() == []
    stop = asyncio.Event()
    stop.set()
    await idle.serve(stop, Wake())
    row = (await post.rows())[0]
    assert (row.state, row.attempts, row.lease_owner) == ("queued", 0, None)


async def test_the_null_path_and_a_signed_one(outbox, post, sink, database):
    """The sender is the signed address of the delivery, or the null path without a channel."""
    ids = await post.put("ann@example.net", "bob@example.net", return_address="support@example.org")
    await post.put("cid@example.net", return_address=None)
    await outbox().run_due()
    async with database.read() as connection:
        keys = [
            bytes(key)
            for key in (await connection.execute(sa.select(tables.signing_key.c.secret))).scalars()
        ]
    senders = {mail.recipient: mail.sender for mail in sink.mails}
    assert senders.pop("cid@example.net") == ""
    for delivery, recipient in zip(ids, ("ann@example.net", "bob@example.net"), strict=True):
        channel, plus = reply_tokens.bare(senders[recipient])
        assert (channel, reply_tokens.read_return(keys, plus)) == ("support@example.org", delivery)


async def test_each_recipient_has_an_answer_of_their_own(outbox, post, sink):
    """4xx defers, 5xx fails and is unsettled, and the third recipient gets the mail."""
    sink.at_recipient = {
        "ann@example.net": "450 4.2.1 Busy",
        "bob@example.net": "550 5.1.1 Unknown",
    }
    await post.put("ann@example.net", "bob@example.net", "cid@example.net")
    await outbox().run_due()
    ann, bob, cid = await post.rows()
    assert [(row.state, row.last_reply, row.settled) for row in (ann, bob, cid)] == [
        ("deferred", "450 4.2.1 Busy", True),
        ("failed", "550 5.1.1 Unknown", False),
        ("sent", "250 2.0.0 taken as 1", True),
    ]
    assert timedelta(seconds=48) <= ann.due_at - START <= timedelta(seconds=72)
    assert bob.ended_at == cid.ended_at == START


async def test_greylisting(outbox, post, sink, clock):
    """A server that refuses the first attempt gets the same bytes at the next one."""
    sink.greylist = 1
    await post.put("ann@example.net", "bob@example.net")
    sender = outbox()
    await advance(sender, clock, START + DAY)
    assert await post.states() == ["sent", "sent"]
    assert [mail.raw for mail in sink.mails] == [MAIL, MAIL]
    assert {row.attempts for row in await post.rows()} == {2}


async def test_a_smarthost_that_is_away_for_three_days(outbox, post, sink, clock):
    """Attempts become rarer; once the smarthost is back, each mail is delivered once."""
    await post.put("ann@example.net", "bob@example.net")
    sender = outbox()
    await sink.stop()
    instants = await advance(sender, clock, START + 3 * DAY)
    waits = [later - earlier for earlier, later in zip(instants[::2], instants[2::2], strict=False)]
    assert min(waits) >= timedelta(0)
    assert 40 <= len(instants) <= 120
    assert await post.states() == ["deferred", "deferred"]
    assert {row.last_reply for row in await post.rows()} == {
        "cannot connect to the smarthost: connection refused"
    }
    before = [row.attempts for row in await post.rows()]
    assert min(before) >= 20
    await sink.start()
    await advance(sender, clock, START + 4 * DAY)
    assert await post.states() == ["sent", "sent"]
    assert sorted(mail.recipient for mail in sink.mails) == ["ann@example.net", "bob@example.net"]
    assert [row.attempts for row in await post.rows()] == [number + 1 for number in before]


async def test_five_days_are_the_end(outbox, post, sink, clock):
    """After five days it fails with the last reply; a manual retry gives five more."""
    [one] = await post.put("ann@example.net")
    sink.at_recipient = {"ann@example.net": "451 4.3.0 Not now"}
    sender = outbox()
    instants = await advance(sender, clock, START + 9 * DAY)
    row = await post.row(one)
    assert (row.state, row.settled, row.ended_at) == ("failed", False, START + 5 * DAY)
    assert row.last_reply == "given up after five days; the last answer was: 451 4.3.0 Not now"
    assert instants[-1] == START + 5 * DAY
    assert row.attempts == len(instants) == sink.tried["ann@example.net"]
    async with sender.deliveries.database.write() as connection:
        await retry(connection, [one], clock.now())
    await sender.run_due()
    assert await post.states() == ["deferred"]
    sink.at_recipient = {}
    await advance(sender, clock, START + 10 * DAY)
    assert (await post.states(), len(sink.mails)) == (["sent"], 1)


async def test_a_connection_that_ends_after_the_end_of_data(outbox, post, sink, clock):
    """Only in this case a mail is sent twice, with the same bytes and Message-ID."""
    await post.put("ann@example.net")
    sink.at_data = [DROP]
    sender = outbox()
    await sender.run_due()
    assert await post.states() == ["deferred"]
    await advance(sender, clock, START + DAY)
    assert await post.states() == ["sent"]
    assert [mail.raw for mail in sink.mails] == [MAIL, MAIL]


async def test_a_crash_between_the_answer_and_its_mark(outbox, post, sink, clock, database):
    """After the lease there is one more attempt, with the same bytes."""
    [one] = await post.put("ann@example.net")
    first = outbox(
        signer=Signer(
            "example.org", "desk", read_key(openssl("genpkey", "-algorithm", "ed25519").decode())
        )
    )
    dying = asyncio.create_task(first.run_due())
    sink.at_data = [STALL]
    await sink.arrived.wait()  # the smarthost has the mail but does not answer
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    assert (await post.row(one)).lease_owner == database.node
    second = outbox(signer=first.signer)
    assert await second.run_due() == []
    clock.advance(timedelta(seconds=61))
    assert [each.state for each in await second.run_due()] == ["sent"]
    assert len({mail.raw for mail in sink.mails}) == 1
    assert len(sink.mails) == 2
    assert sink.mails[0].raw.startswith(b"DKIM-Signature: ")


async def test_a_database_that_is_away_after_the_answer(
    database, post, sink, clock, smarthost, monkeypatch
):
    """An accepted mail is recorded once the database is back, and not sent again."""
    await post.put("ann@example.net")
    waited = []

    async def pause(seconds):
        waited.append(seconds)

    sender = Outbox(database, smarthost(sink), None, clock, pause=pause)
    mark, left = sender.deliveries.mark, [StoreUnavailable("away")] * 3

    class Failing(Deliveries):
        __slots__ = ()

        async def mark(self, owner, marks):
            if left:
                raise left.pop()
            return await mark(owner, marks)

    sender.deliveries = Failing(database)
    assert [each.state for each in await sender.run_due()] == ["sent"]
    assert (waited, len(sink.mails), await post.states()) == ([0.5, 1.0, 2.0], 1, ["sent"])


async def test_a_refused_account_defers_everything(outbox, post, sink):
    """After the first refusal the rest of the pass is deferred untried, with its reply."""
    sink.users["desk"] = "another"
    for _ in range(30):
        await post.put("ann@example.net", "bob@example.net")
    await outbox(username="desk", password="s3cret").run_due()
    rows = await post.rows()
    assert {(row.state, row.attempts, row.last_reply, row.lease_owner) for row in rows} == {
        ("deferred", 1, "535 5.7.8 Authentication credentials invalid", None)
    }
    assert len({row.due_at for row in rows}) > 50
    assert len(sink.logins) <= worker.MAX_CONNECTIONS


async def test_untried_deliveries_are_logged_in_one_line(outbox, post, sink, told):
    """Many deliveries deferred untried take one line of the log."""
    await post.put(*(f"r{number}@example.net" for number in range(15)))
    await sink.stop()
    await outbox().run_due()
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [(each["event"], each["reply"]) for each in lines] == [
        ("delivery", "cannot connect to the smarthost: connection refused"),
        ("deliveries put off", "cannot connect to the smarthost: connection refused"),
    ]
    assert lines[1]["deliveries"] == 14


async def test_many_are_sent_on_a_few_connections(outbox, post, sink):
    """More than twenty deliveries share up to four connections; fewer use one."""
    await post.put(*(f"r{number}@example.net" for number in range(20)))
    await outbox().run_due()
    assert (sink.connections, len(sink.mails)) == (1, 20)
    await post.put(*(f"s{number}@example.net" for number in range(130)))
    await outbox().run_due()
    assert 1 < sink.most_at_once <= worker.MAX_CONNECTIONS
    assert sorted(mail.recipient for mail in sink.mails[20:]) == sorted(
        f"s{number}@example.net" for number in range(130)
    )


async def test_two_processes_never_send_one_delivery_twice(outbox, post, sink, clean_url):
    """Two processes on one database send each delivery once."""
    for number in range(40):
        await post.put(f"a{number}@example.net", f"b{number}@example.net")
    other = await Database.open(clean_url, node="host-2")
    try:
        done = await asyncio.gather(outbox().run_due(), outbox(on=other).run_due())
    finally:
        await other.close()
    assert len(done[0]) + len(done[1]) == 80
    assert len({mail.recipient for mail in sink.mails}) == len(sink.mails) == 80
    assert set(await post.states()) == {"sent"}


async def test_cancelled_deliveries_are_not_sent(outbox, post, sink):
    """Cancelled deliveries are not sent, scheduled or deferred."""
    [one] = await post.put("ann@example.net")
    await post.put("bob@example.net")
    async with post.database.write() as connection:
        await cancel(connection, [one], START)
    await outbox().run_due()
    assert (await post.states(), [mail.recipient for mail in sink.mails]) == (
        ["cancelled", "sent"],
        ["bob@example.net"],
    )


async def test_no_bare_line_end_leaves(outbox, post, sink):
    """Every CR and LF sent is part of a CRLF, and the signature is that of the sent bytes."""
    await post.put(
        "ann@example.net", raw=b"Subject: x\nFrom: a@example.org\r\n\nbare\rbare\n.\r\n.\nend"
    )
    await outbox().run_due()
    assert (
        sink.mails[0].raw
        == b"Subject: x\r\nFrom: a@example.org\r\n\r\nbare\r\nbare\r\n.\r\n.\r\nend\r\n"
    )


async def test_a_mail_that_cannot_be_sent_does_not_stop_the_others(outbox, post, sink):
    """Each mail that cannot be sent fails with its reason, and the others are sent."""
    signer = Signer(
        "example.org", "desk", read_key(openssl("genpkey", "-algorithm", "ed25519").decode())
    )
    await post.put("ann@example.net", raw=None)
    await post.put("ann@example.net", raw=b"nothing\r\n\r\n")
    await post.put("nobody")
    await post.put("bob@example.net")
    await outbox(signer=signer).run_due()
    assert [(row.state, row.last_reply) for row in await post.rows()][:3] == [
        ("failed", "there is no mail to send"),
        ("failed", "the mail cannot be signed: its headers are malformed"),
        ("failed", "invalid mail address"),
    ]
    assert [mail.recipient for mail in sink.mails] == ["bob@example.net"]


async def test_it_serves_until_it_is_stopped(outbox, post, sink):
    """A wake-up sends new mail; stopping ends the connection with QUIT."""
    stop, wake = asyncio.Event(), Wake()
    serving = asyncio.create_task(outbox().serve(stop, wake))
    for number in range(3):
        sink.arrived.clear()
        await post.put(f"r{number}@example.net")
        wake.notify("outbox")
        await sink.arrived.wait()
    stop.set()
    await serving
    assert await post.states() == ["sent"] * 3
    assert sink.commands[-1] == "QUIT"


async def test_stopping_finishes_the_mail_under_way_only(outbox, post, sink):
    """The mail under way is finished and recorded; the others are released untried."""
    await post.put(*(f"r{number}@example.net" for number in range(10)))
    sink.at_data = [STALL]
    stop = asyncio.Event()
    serving = asyncio.create_task(outbox().serve(stop, Wake()))
    await sink.arrived.wait()
    stop.set()
    sink.go_on.set()
    await serving
    rows = await post.rows()
    assert [row.state for row in rows] == ["sent"] + ["queued"] * 9
    assert {row.lease_owner for row in rows} == {None}


async def test_it_goes_on_after_the_database_was_away(outbox, post, sink, monkeypatch):
    """A pass without a database is repeated a little later."""
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.01)
    sender = outbox()
    claim, left = sender.deliveries.claim, [StoreUnavailable("away")] * 2

    class Failing(Deliveries):
        __slots__ = ()

        async def claim(self, *arguments, **more):
            if left:
                raise left.pop()
            return await claim(*arguments, **more)

    sender.deliveries = Failing(post.database)
    await post.put("ann@example.net")
    stop = asyncio.Event()
    serving = asyncio.create_task(sender.serve(stop, Wake()))
    await sink.arrived.wait()
    stop.set()
    await serving
    assert await post.states() == ["sent"]


async def test_the_lease_is_kept_while_a_slow_server_takes_its_time(
    outbox, post, sink, clock, monkeypatch
):
    """A slow delivery is never claimed by another process."""
    monkeypatch.setattr(worker, "LEASE_SECONDS", 0.3)
    [one] = await post.put("ann@example.net")
    sink.at_data = [STALL]
    sending = asyncio.create_task(outbox(deadlines=Deadlines(60, 60, 60, 60)).run_due())
    await sink.arrived.wait()
    kept = asyncio.Event()
    keep = Deliveries.keep

    async def noticed(*arguments):
        await keep(*arguments)
        kept.set()

    monkeypatch.setattr(Deliveries, "keep", noticed)
    clock.advance(timedelta(seconds=0.2))
    await kept.wait()
    assert (await post.row(one)).lease_until == clock.now() + timedelta(seconds=0.3)
    sink.go_on.set()
    assert [each.state for each in await sending] == ["sent"]


async def test_the_log_tells_no_address_and_no_subject(outbox, post, sink, told):
    """An attempt is one line of codes and numbers, without people, mail or server text."""
    sink.at_recipient = {
        "ann@example.net": "550 5.1.1 <ann@example.net>: 'A very private matter' is unwanted"
    }
    await post.put("ann@example.net", "bob@example.net", return_address="support@example.org")
    await outbox().run_due()
    await sink.stop()
    await post.put("cid@example.net")
    await outbox().run_due()
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [(each["event"], each["state"], each["reply"], each["attempts"]) for each in lines] == [
        ("delivery", "failed", "550 5.1.1", 1),
        ("delivery", "sent", "250 2.0.0", 1),
        ("delivery", "deferred", "cannot connect to the smarthost: connection refused", 1),
    ]
    assert not re.search(r"\w@\w|private|unwanted", told.getvalue())


async def test_what_was_claimed_while_the_database_left_is_sent_when_it_is_back(
    outbox, post, sink, monkeypatch
):
    """A claim whose answer was lost is released at once, and does not wait for its lease."""
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0)
    await post.put("ann@example.net")
    sender, stop = outbox(), asyncio.Event()
    real = sender.deliveries.claim
    claims = 0

    async def claim(_self, *arguments, **how):
        nonlocal claims
        claims += 1
        jobs = await real(*arguments, **how)
        if claims == 1:
            raise StoreUnavailable("the database does not answer")
        return jobs

    monkeypatch.setattr(type(sender.deliveries), "claim", claim)
    serving = asyncio.create_task(sender.serve(stop, Wake()))
    async with asyncio.timeout(30):
        await sink.arrived.wait()
    stop.set()
    await serving
    assert len(sink.mails) == 1
