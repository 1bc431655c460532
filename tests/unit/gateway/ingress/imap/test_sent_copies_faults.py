"""Tests of copies of sent mail when connections break: each mail is copied exactly once."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest

from gateway.ingress.imap import sent_copies
from gateway.ingress.imap.commands import ImapSession
from gateway.oauth.tokens import Tokens
from gateway.store.engine import Database, upgrade
from gateway.store.imap.sent_copies import Copies
from tests.conftest import START
from tests.servers.proxy import proxy
from tests.servers.smallimap import small_imap
from tests.unit.gateway.ingress.imap.sent_mail import (
    CHANNEL,
    FOLDER,
    SHORT,
    keeper,
    on,
    own,
    rows,
    wrote,
)
from tests.unit.gateway.ingress.reading import account_of

# ---- faults


async def test_a_copy_of_a_process_that_died_is_made_once(clean_url, database, clock, real):
    """A copy added but not recorded is found by another process after five minutes."""
    await wrote(database, 1)
    account = on(real)
    await Copies(database).plan({"desk": CHANNEL}, clock.now())
    other = await Database.open(clean_url, node="two")
    held = await Copies(other).take("desk", clock.now(), clock.now() + sent_copies.LEASE)
    session = await ImapSession.open(account.server(), SHORT)
    await account.sign_in(session, Tokens(other, clock))
    await session.create(FOLDER)
    await session.append(FOLDER, held.raw, held.sent_at)
    await session.close()
    await other.close()
    sent = keeper(database, clock, account)
    assert await sent.catch_up(account) == 0
    clock.advance(sent_copies.LEASE)
    assert await sent.catch_up(account) == 1
    assert real.count(real.user, FOLDER) == 1
    [row] = await rows(database)
    assert (row.attempts, row.done_at) == (2, clock.now())


async def test_two_processes_make_each_copy_once(clean_url, database, clock, real):
    """Two processes never work on the same copy."""
    for number in range(1, 31):
        await wrote(database, number)
    other = await Database.open(clean_url, node="two")
    account = on(real)
    real.create(real.user, FOLDER)
    made = await asyncio.gather(
        *(keeper(each, clock, account).catch_up(account) for each in (database, other))
    )
    await other.close()
    assert sum(made) == 30
    assert sorted(raw for raw, _ in real.seen(real.user, FOLDER).values()) == sorted(
        own(number) for number in range(1, 31)
    )


@pytest.fixture(scope="module")
def dialog(shared, tmp_path_factory, templates):
    """Record the bytes of both directions while two copies are made without a fault."""
    shared.user = shared.add_user(f"user{next(shared.numbers)}@example.org")

    async def run():
        from gateway.clock import Clock

        clock = Clock(START)
        database = await Database.open(
            templates.sqlite(upgrade, tmp_path_factory.mktemp("dialog") / "ticketgate.db"),
            node="one",
        )
        for number in (1, 2):
            await wrote(database, number, own(number, 3000))
        with proxy(shared.port) as way:
            way.record = True
            account = on(shared, way.port)
            assert await keeper(database, clock, account).catch_up(account) == 2
            heard = {
                each: b"".join(data for where, data in way.heard if where == each)
                for each in ("up", "down")
            }
        await database.close()
        return heard

    return asyncio.run(run())


CUTS = [
    *(("up", word, more) for word in (rb"CREATE", rb"SEARCH", rb"APPEND") for more in (0, 8)),
    *(("up", rb"\{\d+\}\r\n", more) for more in (0, 1, 700, 2900)),
    *(("down", rb"OK[^\r]*(?:Append|APPENDUID)", more) for more in (-6, 0, 20)),
    ("down", rb"\+ OK", 0),
    ("down", rb"\+ OK", 6),
]


@pytest.mark.parametrize("how", ["reset", "stall"])
@pytest.mark.parametrize(("way", "word", "more"), CUTS)
async def test_a_cut_leaves_exactly_one_copy(quick, clock, real, dialog, way, word, more, how):
    """However the connection breaks around an APPEND, each mail is copied once."""
    after = re.search(word, dialog[way]).start() + more
    for number in (1, 2):
        await wrote(quick, number, own(number, 3000))
    with proxy(real.port) as middle:
        middle.cut_after(**{way: after}, how=how)
        account = on(real, middle.port)
        sent = keeper(quick, clock, account)
        await sent.catch_up(account)
        hindered = [row for row in await rows(quick) if row.done_at is None]
        assert hindered
        assert all(row.problem and row.due_at >= START + timedelta(minutes=1) for row in hindered)
        await sent.catch_up(account)
        assert middle.connections == 1, "the mailbox rests"
        clock.advance(timedelta(minutes=1))
        await sent.catch_up(account)
    assert sorted(raw for raw, _ in real.seen(real.user, FOLDER).values()) == sorted(
        own(number, 3000) for number in (1, 2)
    )
    assert all(row.done_at is not None and row.problem is None for row in await rows(quick))


async def test_a_large_mail_over_a_slow_connection(quick, clock, real):
    """Eight megabytes arrive whole through a slow proxy."""
    raw = own(1, 8 << 20)
    await wrote(quick, 1, raw)
    with proxy(real.port) as middle:
        middle.piece = 4096
        account = on(real, middle.port)
        assert await keeper(quick, clock, account).catch_up(account) == 1
    [(there, _)] = real.seen(real.user, FOLDER).values()
    assert there == raw


async def test_the_pauses_grow_while_a_server_is_away(quick, clock, free_port, real):
    """Pauses grow from 1 minute to 4 hours; new mail does not shorten them."""
    await wrote(quick, 1)
    account = on(real, free_port)
    sent = keeper(quick, clock, account)
    pauses = []
    for number in range(2, 13):
        assert await sent.catch_up(account) == 0
        await wrote(quick, number)
        assert await sent.catch_up(account) == 0
        [first, *_] = await rows(quick)
        assert "cannot be reached: connection refused" in first.problem
        pauses.append((first.due_at - clock.now()) / timedelta(minutes=1))
        clock.set(first.due_at)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240, 240]
    assert [row.problem is not None for row in await rows(quick)] == [True] * 11


async def test_a_refused_login_pauses_for_a_quarter_of_an_hour(quick, clock, real):
    """A refused login is not repeated for every mail, since accounts get locked."""
    account = on(real, password="wrong")
    sent = keeper(quick, clock, account)
    before = real.login_count()
    for number in range(1, 6):
        await wrote(quick, number)
        assert await sent.catch_up(account) == 0
        clock.advance(timedelta(minutes=2))
    assert real.login_count() == before + 1
    clock.advance(timedelta(minutes=5))
    assert await keeper(quick, clock, on(real)).catch_up(on(real)) == 5


async def test_a_refused_mail_does_not_delay_the_others(quick, clock):
    """A refused mail is retried later; the mailbox does not pause."""
    for number in (1, 2, 3):
        await wrote(quick, number)
    with small_imap() as server:
        account = account_of(server.port, sent_folder="INBOX")
        server.on(b"UID SEARCH", b"* SEARCH\r\n%t OK done\r\n", times=9)
        server.on(b"APPEND", b"%t OK [APPENDUID 1 1] done\r\n", times=9)
        server.on(b"APPEND", b"%t NO [OVERQUOTA] the mailbox is full for ann@example.org\r\n")
        sent = keeper(quick, clock, account)
        assert await sent.catch_up(account) == 2
        assert server.connections == 1
        [first, *others] = await rows(quick)
        assert "the mailbox is full" in first.problem
        assert (first.attempts, first.due_at, first.done_at) == (
            1,
            START + timedelta(minutes=1),
            None,
        )
        assert all(row.done_at for row in others)
        clock.advance(timedelta(minutes=1))
        assert await sent.catch_up(account) == 1
        assert [command.split()[1] for command in server.heard].count(b"APPEND") == 4


async def test_a_mail_on_which_the_connection_breaks_comes_last(quick, clock):
    """After the pause all other mails are copied first."""
    for number in (1, 2, 3):
        await wrote(quick, number)
    with small_imap() as server:
        account = account_of(server.port, sent_folder="INBOX")
        server.on(b"UID SEARCH", b"* SEARCH\r\n%t OK done\r\n", times=9)
        server.on(b"APPEND", b"%t OK done\r\n", times=9)
        server.on(b"APPEND", "close")
        sent = keeper(quick, clock, account)
        assert await sent.catch_up(account) == 0
        server.on(b'UID SEARCH HEADER Message-ID "tg.1', "close", times=9)
        clock.advance(timedelta(minutes=1))
        assert await sent.catch_up(account) == 2
        assert [row.done_at is not None for row in await rows(quick)] == [False, True, True]


async def test_a_folder_that_cannot_be_created_is_reported(quick, clock):
    """The server's text is stored in the row."""
    await wrote(quick, 1)
    with small_imap() as server:
        account = account_of(server.port, sent_folder="Sent")
        server.on(b"CREATE", b"%t NO [NOPERM] not for you\r\n")
        sent = keeper(quick, clock, account)
        assert await sent.catch_up(account) == 0
    [row] = await rows(quick)
    assert "not for you" in row.problem
