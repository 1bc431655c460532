"""Copies of sent mail in a real Dovecot, on both databases: of what users wrote and nothing else,
each once, wherever the connection breaks.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway import log
from gateway.ingress.imap import sent_copies
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connection import Timeouts
from gateway.ingress.imap.sent_copies import SentCopies
from gateway.oauth.tokens import Tokens
from gateway.store.engine import Database, upgrade
from gateway.store.imap.sent_copies import Copies
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.dovecot import dovecot, letter
from tests.servers.proxy import proxy
from tests.servers.smallimap import small_imap
from tests.unit.gateway.ingress.reading import account_of

SHORT = Timeouts(connect=5, silence=2, command=20, goodbye=0.3)
CHANNEL = "support@localhost"
FOLDER = "Gesendet & mehr"
COPY = tables.sent_copy


@pytest.fixture(scope="module")
def shared():
    """One Dovecot for all of these tests; each test has a user of its own."""
    with dovecot() as server:
        yield server


@pytest.fixture
def real(shared):
    """That server with a fresh user."""
    shared.user = shared.add_user(f"user{next(shared.numbers)}@example.org")
    return shared


@pytest.fixture
async def database(clean_url):
    """A database with all tables, on each kind."""
    opened = await Database.open(clean_url, node="one")
    yield opened
    await opened.close()


@pytest.fixture
async def quick(tmp_path, templates):
    """One for tests that are the same on every database."""
    opened = await Database.open(templates.sqlite(upgrade, tmp_path / "ticketgate.db"), node="one")
    yield opened
    await opened.close()


def on(server, port=0, **more):
    """The account of the test's user, which keeps sent mail."""
    return account_of(port or server.port, username=server.user, sent_folder=FOLDER, **more)


def keeper(database, clock, *accounts):
    """The service, in a hurry."""
    return SentCopies(accounts, database, Tokens(database, clock), clock, SHORT)


def own(number, size=0):
    """A mail of ours."""
    return letter(f"tg.{number}.1.abc", size)


async def wrote(database, number, raw=None, *, state="sent", at=START, message=None, **more):
    """A mail that a user wrote, with one recipient."""
    plain = {
        "automatic": False,
        "subject": "",
        "return_address": CHANNEL,
        "message_id": f"tg.{number}.1.abc@client.example",
    }
    async with database.write() as connection:
        empty = {name: [] for name in ("parents", "attachments", "flags", "evidence")}
        text = {
            "head": {},
            "subject": "",
            "text": "",
            "reply_text": "",
            "direction": "outbound",
            "kind": "reply",
            "sender_role": "user",
        }
        await connection.execute(
            sa.insert(tables.message).values(id=message or number, created_at=at, **empty, **text)
        )
        values = (
            plain
            | {
                "id": number,
                "message": message or number,
                "raw": raw or own(number),
                "created_at": at,
            }
            | more
        )
        await connection.execute(sa.insert(tables.outgoing).values(values))
        to = {
            "recipient": "ann@example.org",
            "domain": "example.org",
            "state": state,
            "created_at": at,
        }
        ended = at if state == "sent" else None
        await connection.execute(
            sa.insert(tables.delivery).values(id=number, outgoing_id=number, ended_at=ended, **to)
        )


async def went(database, number, state, at):
    """What became of a delivery."""
    async with database.write() as connection:
        change = sa.update(tables.delivery).where(tables.delivery.c.id == number)
        await connection.execute(
            change.values(state=state, ended_at=at if state == "sent" else None)
        )


async def rows(database):
    """All copies, in order."""
    async with database.read() as connection:
        return (
            await connection.execute(sa.select(COPY).order_by(COPY.c.outgoing_id, COPY.c.mailbox))
        ).all()


# ---- which mails


async def test_what_a_user_wrote_lies_in_the_folder(database, clock, real):
    """Byte for byte, as read, with the date it went out, in a folder that is made where it is
    missing, and once.
    """
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
    """Not what is automatic, of another channel, of none, not sent, or sent more than a week ago; a
    draft has no bytes yet.
    """
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


async def test_mails_that_go_out_later_get_theirs(database, clock):
    """What was on its way at one look, or was tried again long after, is found at a later one,
    however many went out between.
    """
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


async def test_a_whole_look_begins_two_weeks_back(database, clock):
    """However many older mails there are, and although a scheduled mail's row is older than its
    message.
    """
    await wrote(database, 1, at=START - timedelta(days=30))
    await wrote(database, 3, at=START - timedelta(days=29), message=2)
    await wrote(database, 2, at=START, message=3, created_at=START - timedelta(days=60))
    await Copies(database).plan({"desk": CHANNEL}, clock.now())
    assert [row.outgoing_id for row in await rows(database)] == [2]


async def test_each_mailbox_of_a_channel_gets_one(database, clock, real):
    """Two accounts that keep the same channel's mail have a copy each; one without a folder has
    none.
    """
    await wrote(database, 1)
    two = [on(real, name="desk"), on(real, name="other")]
    sent = keeper(database, clock, *two, account_of(real.port, name="third"))
    assert [each.name for each in sent.accounts] == ["desk", "other"]
    await sent.catch_up(two[0])
    assert [(row.mailbox, row.done_at) for row in await rows(database)] == [("desk", START)]


async def test_what_is_there_already_is_not_put_there(quick, clock, real):
    """A server that keeps a copy by itself, or a copy whose maker died before he could say so."""
    real.create(real.user, FOLDER)
    real.append(real.user, own(1), folder=FOLDER)
    await wrote(quick, 1)
    account = on(real)
    assert await keeper(quick, clock, account).catch_up(account) == 1
    assert real.count(real.user, FOLDER) == 1


# ---- whatever breaks


async def test_a_copy_of_a_process_that_died_is_made_once(clean_url, database, clock, real):
    """He had put it there and not said so; after five minutes another looks, and finds it."""
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
    """What one has in hand the other leaves alone."""
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
    """What passes while two copies are made: the bytes of each direction, from a run without a
    fault.
    """
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
    """The connection breaks or falls silent before, within and after an APPEND: in the end each
    mail lies there once.
    """
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


async def test_a_large_mail_over_a_slow_way(quick, clock, real):
    """Eight megabytes arrive whole, through a proxy that takes its time."""
    raw = own(1, 8 << 20)
    await wrote(quick, 1, raw)
    with proxy(real.port) as middle:
        middle.piece = 4096
        account = on(real, middle.port)
        assert await keeper(quick, clock, account).catch_up(account) == 1
    [(there, _)] = real.seen(real.user, FOLDER).values()
    assert there == raw


async def test_the_pauses_grow_while_a_server_is_away(quick, clock, free_port, real):
    """1, 2, 4 ... minutes, four hours at most; each row tells why, and a new mail does not shorten
    the rest.
    """
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


async def test_a_refused_login_rests_for_a_quarter_of_an_hour(quick, clock, real):
    """A wrong password is not tried at every mail, or the account would be locked."""
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


async def test_a_mail_that_the_server_refuses_does_not_hold_up_the_others(quick, clock):
    """Its row says why and it is tried again later; the mailbox does not rest, and nothing was sent
    of the one that was refused.
    """
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
    """A server that hangs up at one mail each time still gets all the others, as soon as it has
    rested.
    """
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


async def test_a_folder_that_cannot_be_made_is_told(quick, clock):
    """The server's words stand in the row."""
    await wrote(quick, 1)
    with small_imap() as server:
        account = account_of(server.port, sent_folder="Sent")
        server.on(b"CREATE", b"%t NO [NOPERM] not for you\r\n")
        sent = keeper(quick, clock, account)
        assert await sent.catch_up(account) == 0
    [row] = await rows(quick)
    assert "not for you" in row.problem


# ---- the service


async def test_the_service_makes_copies_until_it_is_stopped(quick, clock, real, monkeypatch):
    """It looks by itself, waits for no mailbox that is silent, and ends soon after it is told to."""
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
        async with asyncio.timeout(30):  # half of what the silent one has
            await running
    assert [(row.mailbox, row.done_at is not None) for row in await rows(quick)] == [
        ("silent", False),
        ("well", True),
    ]
    assert real.count(real.user, FOLDER) == 1


async def test_the_log_holds_neither_mail_nor_secret(quick, clock, real, free_port):
    """At the lowest level: that copies were made or not, and why, without subject, text, address or
    password.
    """
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
    assert events == ["copies hindered", "copies of sent mail"]
    assert not [
        word
        for word in ("About", "A line of", "client@client", account.password, account.username)
        if word in written.getvalue()
    ]
