"""Mailboxes into the real store, on both databases: each mail once, none left behind, whatever the
server does; with Dovecot and the small server.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from core.model.message import address_key
from gateway import log
from gateway.errors import DiskFull, StoreUnavailable
from gateway.ingress.imap import fetch
from gateway.ingress.imap import reader as imap_reader
from gateway.ingress.imap import watcher as imap
from gateway.ingress.imap.connection import Timeouts
from gateway.ingress.imap.reader import MailboxReader
from gateway.ingress.imap.watcher import Watcher
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.dovecot import dovecot, letter, letters
from tests.servers.proxy import Fault, proxy
from tests.servers.smallimap import RECEIVED, small_imap
from tests.unit.gateway.ingress.reading import QUICK, account_of


@pytest.fixture
def small():
    """The small server."""
    with small_imap() as server:
        yield server


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


def on(server, **settings):
    """The account of the test's user."""
    return account_of(server.port, username=server.user, **settings)


# ---- what is there becomes mail, oldest first


@pytest.mark.parametrize("after", ["keep", "seen", "move", "delete"])
async def test_each_mail_is_taken_in_once_and_then_dealt_with(world, real, after):
    """All mails are stored in order; then they stay, are marked, moved or removed, and the next
    look takes only what is new.
    """
    raws = letters(range(7))
    real.deliver(real.user, *raws[:5])
    account = on(real, after=after, move_to="Done & gone" if after == "move" else "")
    await world.read(account)
    real.deliver(real.user, *raws[5:])
    await world.read(account)
    await world.read(account)
    assert await world.raws() == raws
    left = await asyncio.to_thread(real.seen, real.user)
    assert len(left) == (7 if after in ("keep", "seen") else 0)
    assert all(("\\Seen" in flags) == (after == "seen") for _, flags in left.values())
    if after == "move":
        assert [
            raw
            for raw, _ in (await asyncio.to_thread(real.seen, real.user, "Done & gone")).values()
        ] == raws
    box = await world.box()
    assert (box.state, box.last_uid, await world.boxes.unsettled(box.id, box.uidvalidity, 9)) == (
        "ok",
        7,
        [],
    )


async def test_seen_mail_is_taken_in_as_well(world, small):
    """Mail that somebody has read already is mail all the same; what is marked as deleted was
    thrown away.
    """
    small.put(*letters("abc"))
    small.folders["INBOX"].mails[0].flags.add("\\Seen")
    small.folders["INBOX"].mails[1].flags.add("\\Deleted")
    await world.read(account_of(small.port))
    assert await world.raws() == [letter("a"), letter("c")]


@pytest.mark.parametrize("size", [0, 255 << 10, 300 << 10, 2_500_000, 25 << 20])
async def test_mails_of_any_size_are_the_same_bytes(world, small, size):
    """From an empty mail to 25 MiB, with a server that is right about the size, wrong, or says
    nothing of it.
    """
    raw = letter("big", size) if size else b""
    small.put(raw, letter("small"), raw + b"2", raw + b"3")
    small.sizes = {3: 10, 4: size * 2 + 1000}
    await world.read(account_of(small.port))
    assert await world.raws() == [raw, letter("small"), raw + b"2", raw + b"3"]
    assert not list(world.accept.directory.iterdir())


async def test_a_folder_of_any_name_with_a_mail_of_25_mib(world, real):
    """A real Dovecot, a folder with blanks, quotes and letters beyond ASCII, another such to move
    to, and a mail of 25 MiB between small ones.
    """
    strange, other = 'Eingang "neu" & wichtig é☺', "erledigt/日本 'x'"
    real.create(real.user, strange)
    raws = [letter("a"), letter("big", 25 << 20), letter("c")]
    real.deliver(real.user, *raws, folder=strange)
    await world.read(on(real, folder=strange, after="move", move_to=other))
    assert await world.raws() == raws
    assert await asyncio.to_thread(real.count, real.user, strange) == 0
    assert [
        raw for raw, _ in (await asyncio.to_thread(real.seen, real.user, other)).values()
    ] == raws


async def test_a_mail_beyond_every_size_is_owed_and_the_others_go_on(world, small, monkeypatch):
    """A mail too large for the store stays in the mailbox and is told; the cursor moves on."""
    monkeypatch.setattr(fetch, "MAX_MAIL_BYTES", 3 << 20)
    small.put(letter("a"), letter("big", 5 << 20), letter("c"), letter("said to be small", 5 << 20))
    small.sizes = {4: 10}
    await world.read(account_of(small.port, after="delete"))
    assert sorted(await world.raws()) == [
        letter("a"),
        letter("c"),
        letter("said to be small", 5 << 20),
    ]
    [owed] = await world.boxes.owed(1, 1)
    assert (
        owed.uid,
        "larger" in owed.problem,
        [mail.uid for mail in small.folders["INBOX"].mails],
    ) == (2, True, [2])
    assert not any(b"FETCH 2 (UID BODY" in line for line in small.heard)
    assert not list(world.accept.directory.iterdir())


@pytest.mark.parametrize("answer", ["nothing", "NIL", "empty"])
@pytest.mark.parametrize("piece", [b"0", rb"1048576", rb"2097152"])
async def test_a_mail_whose_text_stops_is_owed_and_not_removed(world, small, piece, answer):
    """A piece that is left out, NIL or empty before the end is no end: the mail is not stored in
    part, stays, and is taken in whole later.
    """
    raw = letter("big", 3 << 20)
    small.put(raw)
    said = {
        "nothing": b"",
        "NIL": b"* 1 FETCH (UID 1 BODY[]<" + piece + b"> NIL)\r\n",
        "empty": b"* 1 FETCH (UID 1 BODY[]<" + piece + b"> {0}\r\n)\r\n",
    }
    small.on(
        rb"UID FETCH 1 \(UID BODY.PEEK\[\]<" + piece + rb"\.", said[answer] + b"%t OK done\r\n"
    )
    account = account_of(small.port, after="delete")
    await world.read(account)
    if answer == "empty" and piece != b"0":
        # a server may be wrong about the size: where it gives an empty piece the mail is at its end
        return
    assert (await world.raws(), len(small.folders["INBOX"].mails)) == ([], 1)
    world.clock.advance(timedelta(minutes=2))
    await world.read(account)
    assert (await world.raws(), small.folders["INBOX"].mails) == ([raw], [])


@pytest.mark.parametrize("body", [b"{0}\r\n", b"NIL", b'""'])
async def test_an_empty_body_of_a_mail_with_a_size_is_no_mail(world, small, body):
    """A server that gives nothing for a mail of some size has not given it: it is owed and stays."""
    small.put(letter("a"), letter("b"))
    other = b"* 2 FETCH (UID 2 BODY[] {%d}\r\n%s)\r\n%%t OK done\r\n" % (
        len(letter("b")),
        letter("b"),
    )
    small.on(rb"UID FETCH 1:2 \(UID BODY", b"* 1 FETCH (UID 1 BODY[] " + body + b")\r\n", other)
    small.on(
        rb"UID FETCH 1 \(UID BODY",
        b"* 1 FETCH (UID 1 BODY[]<0> " + body + b")\r\n%t OK done\r\n",
        times=9,
    )
    await world.read(account_of(small.port, after="delete"))
    assert (await world.raws(), [mail.uid for mail in small.folders["INBOX"].mails]) == (
        [letter("b")],
        [1],
    )
    assert [each.uid for each in await world.boxes.owed(1, 1)] == [1]


async def test_a_mail_that_shows_late_is_found_behind_the_cursor(world, small):
    """A server with several writers may show UID 3 before UID 2: the next look finds it; what an
    import left out stays out.
    """
    small.put(letter("old"), received=RECEIVED - timedelta(days=99))
    small.put(letter("first"))
    async with world.reader(account_of(small.port)) as reader:
        await reader.plan(RECEIVED.date(), "all")
        await reader.catch_up(asyncio.Event())
    small.put(*letters("abc"))
    folder = small.folders["INBOX"]
    late = folder.mails.pop(3)
    await world.read(account_of(small.port))
    assert await world.raws() == [letter("first"), letter("a"), letter("c")]
    folder.mails.insert(3, late)
    await world.read(account_of(small.port))
    assert await world.raws() == [letter("first"), letter("a"), letter("c"), letter("b")]
    assert (await world.box()).last_uid == 5


async def test_numbers_far_apart_are_no_long_way(world, small):
    """The newest UID may be in the thousands of millions: few questions are asked about the empty
    space below it.
    """
    small.put(letter("a"))
    small.folders["INBOX"].uidnext = 4_000_000_000
    small.put(letter("z"))
    await world.read(account_of(small.port))
    assert await world.raws() == [letter("a"), letter("z")]
    assert sum(b"SEARCH" in line for line in small.heard) < 40


async def test_memory_is_bounded_by_bytes_not_by_mails(world, small):
    """Two hundred mails of 200 KB are handed over in parts."""
    small.put(*(letter(number, 200_000) for number in range(120)))
    seen = []
    store = MailboxReader._store

    async def watching(self, taken, **how):
        seen.append(sum(len(each.raw) for each in taken))
        return await store(self, taken, **how)

    MailboxReader._store = watching
    try:
        await world.read(account_of(small.port))
    finally:
        MailboxReader._store = store
    assert len(await world.raws()) == 120
    assert max(seen) <= fetch.BATCH_BYTES


async def test_a_large_mailbox_is_looked_through_in_windows(world, small, monkeypatch):
    """More mails than are asked for at a time, with gaps between their UIDs, are all taken in."""
    monkeypatch.setattr(imap_reader, "WINDOW_UIDS", 10)
    folder = small.folders["INBOX"]
    for number in range(45):
        folder.uidnext += 0 if number % 9 else 37
        small.put(letter(number))
    folder.uidnext += 100
    await world.read(account_of(small.port))
    assert await world.raws() == letters(range(45))
    before = len(small.heard)
    await world.read(account_of(small.port))
    asked = [line for line in small.heard[before:] if b"SEARCH" in line or b"FETCH" in line]
    assert len(asked) <= 1


# ---- the first opening, and imports


async def test_what_lay_there_for_long_is_not_answered(world, small):
    """At the first opening mail older than a day becomes tickets without automation; later mail is
    answered whatever its age.
    """
    for days in (30, 2, 0):
        small.put(letter(days), received=START - timedelta(days=days, minutes=1))
    await world.read(account_of(small.port))
    small.put(letter("late"), received=START - timedelta(days=30))
    await world.read(account_of(small.port))
    claimed = await world.spool.claim("n", 9, 9, START)
    assert [each.envelope.automation for each in claimed] == [False, False, True, True]


async def test_an_import_into_a_mailbox_that_was_read_before_does_as_it_is_told(world, small):
    """What came in while nobody read is taken in by the wishes of the import, not as new mail."""
    small.put(letter("first"), received=START)
    await world.read(account_of(small.port))
    world.clock.advance(timedelta(days=30))
    small.put(letter("too old"), received=START + timedelta(days=1))
    small.put(letter("wanted"), received=START + timedelta(days=20))
    async with world.reader(account_of(small.port)) as reader:
        await reader.plan((START + timedelta(days=10)).date(), "none")
        await reader.catch_up(asyncio.Event())
    claimed = await world.spool.claim("n", 9, 9, START)
    assert [(each.raw, each.envelope.automation) for each in claimed] == [
        (letter("first"), True),
        (letter("wanted"), False),
    ]


async def test_another_mailbox_under_the_same_name_is_opened_for_the_first_time(world, small):
    """A table that is pointed at another folder does not answer what lay there."""
    small.put(letter("here"), received=START)
    await world.read(account_of(small.port))
    world.clock.advance(timedelta(days=30))
    small.folders["Other"] = type(small.folders["INBOX"])(uidvalidity=1)
    small.put(letter("old there"), into=small.folders["Other"], received=START + timedelta(days=2))
    await world.read(account_of(small.port, folder="Other"))
    assert [each.envelope.automation for each in await world.spool.claim("n", 9, 9, START)] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("automation", "answered"), [("all", [True, True, True]), ("none", [False, False, True])]
)
async def test_an_import_does_as_it_is_told(world, small, automation, answered):
    """Only mail since a day, with or without automation; mail that comes in later is ordinary mail."""
    for day in (10, 20, 21):
        small.put(letter(day), received=RECEIVED.replace(day=day))
    async with world.reader(account_of(small.port)) as reader:
        await reader.plan(date(2026, 11, 20), automation)
        assert await reader.count() == 2
        await reader.catch_up(asyncio.Event())
    small.put(letter("new"), received=START + timedelta(minutes=1))
    await world.read(account_of(small.port))
    claimed = await world.spool.claim("n", 9, 9, START)
    assert [each.raw for each in claimed] == [letter(20), letter(21), letter("new")]
    assert [each.envelope.automation for each in claimed] == answered


async def test_an_interrupted_import_is_finished_with_the_same_wishes(world, small, monkeypatch):
    """Stopped in the middle, whoever reads next goes on after the last mail, and leaves out what
    the import leaves out.
    """
    monkeypatch.setattr(imap_reader, "MAX_UIDS", 2)
    small.put(letter("old"), received=RECEIVED - timedelta(days=99))
    small.put(*letters(range(6)))
    stop = asyncio.Event()
    async with world.reader(account_of(small.port)) as reader:
        await reader.plan(RECEIVED.date(), "none")
        assert not await reader.catch_up(stop, lambda _: stop.set())
    assert 0 < len(await world.raws()) < 6
    await world.read(account_of(small.port))
    assert await world.raws() == letters(range(6))
    assert not any(each.envelope.automation for each in await world.spool.claim("n", 9, 9, START))


# ---- which channel


async def test_mail_that_names_no_channel_goes_to_that_of_its_mailbox(world, small):
    """The envelope of a fetched mail names mailbox and UID, and the channel it falls to."""
    small.put(letter("a"))
    await world.read(account_of(small.port, channel="sales@example.org"))
    [claimed] = await world.spool.claim("n", 9, 9, START)
    envelope = claimed.envelope
    assert (envelope.source, envelope.sender, envelope.recipients, envelope.origin) == (
        "imap",
        None,
        (),
        "desk/1/1",
    )
    assert (envelope.channel, envelope.trusted_hop, address_key("Sales@example.org")) == (
        "sales@example.org",
        True,
        envelope.channel,
    )


# ---- servers that change their minds


@pytest.mark.parametrize("after", ["keep", "move"])
async def test_another_uidvalidity_doubles_nothing(world, real, after):
    """With new numbers for all mails nothing is stored again, and what came in meanwhile is taken
    in.
    """
    raws = letters(range(6))
    account = on(real, after=after, move_to="Done" if after == "move" else "")
    real.deliver(real.user, *raws[:4])
    await world.read(account)
    if after == "move":
        real.deliver(real.user, *raws[:2])  # a person has put two of them back
    await asyncio.to_thread(real.change_uidvalidity, real.user)
    real.deliver(real.user, *raws[4:])
    await world.read(account)
    assert sorted(await world.raws()) == sorted(raws)
    assert await asyncio.to_thread(real.count, real.user) == (6 if after == "keep" else 0)
    real.delete_indexes(real.user)
    await world.read(account)
    assert sorted(await world.raws()) == sorted(raws)


async def test_numbers_that_go_back_are_new_numbers(world, small):
    """A server that begins at UID 1 again under the same UIDVALIDITY hides no mail behind the old
    numbers.
    """
    small.put(*letters("abc"))
    await world.read(account_of(small.port))
    folder = small.folders["INBOX"]
    folder.mails.clear()
    folder.uidnext = 1
    small.put(letter("b"), letter("d"))
    await world.read(account_of(small.port))
    assert sorted(await world.raws()) == letters("abcd")


@pytest.mark.parametrize("missing", ["MOVE", "MOVE UIDPLUS", "UIDPLUS", "IDLE"])
@pytest.mark.parametrize("after", ["move", "delete"])
async def test_servers_without_the_newer_commands(world, small, missing, after):
    """Without MOVE mails are copied and removed; without UIDPLUS they stay, marked; in no case
    twice or lost.
    """
    small.after = " ".join(word for word in small.after.split() if word not in missing.split())
    small.put(*letters("abc"))
    account = account_of(small.port, after=after, move_to="Done" if after == "move" else "")
    await world.read(account)
    await world.read(account)
    assert await world.raws() == letters("abc")
    left = small.folders["INBOX"].mails
    removed = "UIDPLUS" in small.after or (after == "move" and "MOVE" in small.after)
    assert left == [] if removed else all("\\Deleted" in mail.flags for mail in left)
    if after == "move":
        assert [mail.raw for mail in small.folders["Done"].mails] == letters("abc")


async def test_a_move_that_is_refused_does_not_keep_mail_out(world, small):
    """The mails are stored, the mailbox says what is refused, and the move is made up for when it
    is allowed again.
    """
    small.put(*letters("ab"))
    account = account_of(small.port, after="move", move_to="Done")
    small.on(rb"UID MOVE", b"%t NO [NOPERM] you may not\r\n", times=9)
    small.folders["Done"] = type(small.folders["INBOX"])()
    await world.read(account)
    box = await world.box()
    assert (box.state, "not moved" in box.problem, "you may not" in box.problem) == (
        "failing",
        True,
        True,
    )
    assert await world.raws() == letters("ab")
    small.actions.clear()
    await world.read(account)
    assert ((await world.box()).state, small.folders["INBOX"].mails) == ("ok", [])
    assert [mail.raw for mail in small.folders["Done"].mails] == letters("ab")


async def test_a_mail_that_is_left_out_of_an_answer_is_asked_for_again(world, small):
    """A server that forgets a mail in a FETCH of many gives it when asked alone."""
    small.put(*letters("abc"))
    small.on(rb"UID FETCH [^ ]+ \(UID BODY", b"* 1 FETCH (UID 1 FLAGS ())\r\n%t OK done\r\n")
    await world.read(account_of(small.port))
    assert sorted(await world.raws()) == letters("abc")


async def test_a_mail_that_is_never_given_is_owed_and_tried_again(world, small):
    """It is told with its reason, the others are stored, and it is stored when the server gives it
    at last; gone, it is forgotten.
    """
    small.put(*letters("abcd"))
    small.omit = {2, 3}
    account = account_of(small.port, after="delete")
    await world.read(account)
    assert await world.raws() == [letter("a"), letter("d")]
    assert [(each.uid, each.tries) for each in await world.boxes.owed(1, 1)] == [(2, 1), (3, 1)]
    await world.read(account)
    assert [each.tries for each in await world.boxes.owed(1, 1)] == [1, 1]
    world.clock.advance(timedelta(minutes=2))
    small.omit = {3}
    await world.read(account)
    assert sorted(await world.raws()) == [letter("a"), letter("b"), letter("d")]
    assert [(each.uid, each.tries) for each in await world.boxes.owed(1, 1)] == [(3, 2)]
    small.folders["INBOX"].mails.clear()
    world.clock.advance(timedelta(minutes=20))
    await world.read(account)
    assert (await world.boxes.owed(1, 1), (await world.box()).state) == ([], "ok")


async def test_a_mail_that_is_refused_does_not_stop_the_others(world, small):
    """NO to a FETCH of several is answered by asking for each; the one that is refused alone is
    owed.
    """
    small.put(*letters("abc"))
    small.on(
        rb"UID FETCH [^ ]*[:,][^ ]* \(UID BODY",
        b"%t NO [SERVERBUG] message 2 is broken\r\n",
        times=99,
    )
    small.on(rb"UID FETCH 2 \(UID BODY", b"%t NO [SERVERBUG] message 2 is broken\r\n", times=99)
    await world.read(account_of(small.port))
    assert sorted(await world.raws()) == [letter("a"), letter("c")]
    [owed] = await world.boxes.owed(1, 1)
    assert (owed.uid, "message 2 is broken" in owed.problem) == (2, True)


async def test_a_mail_that_breaks_the_connection_is_found_and_put_aside(world, small):
    """After three connections that broke on the same mail it is owed, and everything else is stored
    once.
    """
    small.put(*letters(range(6)))
    small.on(rb"UID FETCH (\d+:\d+|4) \(UID BODY", "close", times=99)
    async with world.watched(account_of(small.port)):
        await world.holds([letter(number) for number in (0, 1, 2, 4, 5)])

        async def told():
            return bool(await world.boxes.owed(1, 1))

        await world.until(told)
    [owed] = await world.boxes.owed(1, 1)
    assert (owed.uid, "breaks" in owed.problem) == (4, True)


# ---- trouble on our side


@pytest.mark.parametrize("trouble", ["disk", "database", "one mail"])
async def test_trouble_on_our_side_leaves_mail_where_it_is(world, small, trouble, monkeypatch):
    """While nothing can be stored, nothing is moved; afterwards each mail is stored once, in order."""
    small.put(*letters(range(5)))
    account = account_of(small.port, after="delete")
    put = world.spool.put

    async def refusing(mails):
        if trouble == "database":
            raise StoreUnavailable("away")
        if any(mail.raw == letter(2) for mail in mails):
            raise RuntimeError("this mail makes trouble")
        return await put(mails)

    if trouble == "disk":
        world.room = 0
    else:
        monkeypatch.setattr(type(world.spool), "put", lambda _self, mails: refusing(mails))
    with pytest.raises(
        {"disk": DiskFull, "database": StoreUnavailable, "one mail": RuntimeError}[trouble]
    ):
        await world.read(account)
    assert len(small.folders["INBOX"].mails) == 5
    monkeypatch.undo()
    world.room = 1 << 40
    world.accept._spool = world.spool
    await world.read(account)
    assert sorted(await world.raws()) == letters(range(5))
    assert (small.folders["INBOX"].mails, (await world.box()).last_uid) == ([], 5)


# ---- the watcher


async def test_new_mail_is_taken_in_as_soon_as_the_server_tells(world, real):
    """Through IDLE, mail that is delivered is stored within two seconds: the next look would be ten
    minutes away.
    """
    async with world.watched(on(real), replace(QUICK, idle=600, poll=600)):
        real.deliver(real.user, letter(0))
        await world.holds([letter(0)])
        for number in range(1, 4):
            await asyncio.to_thread(real.deliver, real.user, letter(number))
            async with asyncio.timeout(2):
                await world.holds(letters(range(number + 1)))


@pytest.mark.parametrize("what", ["killed", "restarted", "index deleted", "new numbers"])
async def test_the_server_may_go_and_come_back(world, real, what):
    """Dovecot killed, restarted, without its index, or with new UIDs: the watcher comes back by
    itself, nothing is lost or doubled.
    """
    raws = letters(range(6))
    real.deliver(real.user, *raws[:3])
    async with world.watched(on(real, after="keep")):
        await world.holds(raws[:3])
        if what == "restarted":
            await asyncio.to_thread(real.restart)
        else:
            await asyncio.to_thread(real.kill)
            if what == "index deleted":
                real.delete_indexes(real.user)
            await asyncio.to_thread(real.start)
        if what == "new numbers":
            await asyncio.to_thread(real.kill)
            await asyncio.to_thread(real.start)
            await asyncio.to_thread(real.change_uidvalidity, real.user)
            await asyncio.to_thread(real.restart)
        await asyncio.to_thread(real.deliver, real.user, *raws[3:])
        await world.holds(raws)


@pytest.mark.parametrize(
    "command",
    [
        rb"CAPABILITY",
        rb"AUTHENTICATE",
        rb"SELECT",
        rb"UID SEARCH",
        rb"UID FETCH",
        rb"UID MOVE",
        rb"IDLE",
    ],
    ids=bytes.decode,
)
@pytest.mark.parametrize("how", ["bye", "close", "silence", "no"])
async def test_trouble_at_any_command_is_got_over(world, small, command, how):
    """BYE, a lost connection, silence or NO in the place of any answer: all mails are stored once
    and moved in the end.
    """
    steps = {
        "bye": (b"* BYE later\r\n", "close"),
        "close": ("close",),
        "silence": ("silence",),
        "no": (b"%t NO [UNAVAILABLE] later\r\n",),
    }
    small.put(*letters("abc"))
    small.on(command, *steps[how])
    impatient = replace(QUICK, timeouts=replace(QUICK.timeouts, silence=0.4))
    async with world.watched(account_of(small.port, after="move", move_to="Done"), impatient):
        await world.holds(letters("abc"))
        small.put(letter("d"))
        await world.holds(letters("abcd"))

        async def moved():
            return not small.folders["INBOX"].mails

        await world.until(moved)
    assert Counter(mail.raw for mail in small.folders["Done"].mails) == Counter(letters("abcd"))


async def test_a_refused_login_never_hammers_the_server(world, real):
    """One attempt, then a long pause; the mailbox is told as refused."""
    before = real.refused_logins
    async with world.watched(on(real, password="wrong")):

        async def refused():
            box = await world.box()
            return box is not None and box.state == "refused"

        await world.until(refused)
        await asyncio.to_thread(real.deliver, real.user, letter("a"))
    assert real.refused_logins - before == 1
    assert await world.raws() == []


async def test_a_failing_mailbox_keeps_the_instant_and_the_reason(world, free_port):
    """A server that is away is a state of the mailbox, with its first instant."""
    async with world.watched(account_of(free_port)):

        async def failing():
            box = await world.box()
            return box is not None and box.state == "failing"

        await world.until(failing)
    box = await world.box()
    assert (box.failing_since, "cannot be reached" in box.problem) == (START, True)


async def test_stopping_takes_no_longer_than_it_may(world, small):
    """A server that is silent in the middle of a command does not keep the daemon from stopping;
    leases are given back.
    """
    small.put(letter("a"))
    small.on(rb"UID SEARCH", "silence", times=99)
    async with world.watched(account_of(small.port), replace(QUICK, timeouts=Timeouts(silence=60))):

        async def asked():
            return any(b"SEARCH" in line for line in small.heard)

        await world.until(asked)
    assert (await world.box()).lease_owner is None


async def test_a_server_that_ends_the_wait_at_once_is_not_asked_all_the_time(
    world, small, monkeypatch
):
    """IDLE that is answered at once, or refused, is a reason to poll, not to ask again and again:
    after each there is a pause.
    """
    small.on(rb"IDLE", b"+ idling\r\n%t OK done\r\n", times=10_000)
    waited, wait = [], imap.wait

    async def noted(stop, seconds):
        waited.append(seconds)
        await wait(stop, seconds)

    monkeypatch.setattr(imap, "wait", noted)
    async with world.watched(account_of(small.port), replace(QUICK, poll=0.3)):
        small.put(letter("a"))
        await world.holds([letter("a")])
        for number in range(3):
            small.put(letter(number))
            await world.holds([letter("a"), *letters(range(number + 1))])
    assert 0 < sum(line.endswith(b" IDLE") for line in small.heard) <= waited.count(0.3) + 1


async def test_a_server_that_refuses_to_idle_is_polled(world, small):
    """One refusal is enough: the connection stays, and mail is found by looking."""
    small.on(rb"IDLE", b"%t NO not for you\r\n", times=99)
    async with world.watched(account_of(small.port), replace(QUICK, poll=0.05)):
        for number in range(3):
            small.put(letter(number))
            await world.holds(letters(range(number + 1)))
    assert (sum(line.endswith(b" IDLE") for line in small.heard), small.logins) == (1, 1)


async def test_a_connection_that_breaks_after_each_look_is_not_made_again_at_once(
    world, small, monkeypatch
):
    """A server that hangs up at every IDLE is called with growing pauses, although each look went
    well.
    """
    small.on(rb"IDLE", "close", times=99)
    pauses, pause = [], Watcher._pause

    def noted(self, failures):
        pauses.append(pause(self, failures))
        return pauses[-1]

    monkeypatch.setattr(Watcher, "_pause", noted)
    rhythm = replace(QUICK, first_pause=0.05, last_pause=60, steady=600)
    small.put(letter("a"))
    async with world.watched(account_of(small.port), rhythm):
        await world.holds([letter("a")])
        await world.until(lambda: asyncio.sleep(0, result=len(pauses) > 4))
    assert small.logins <= len(pauses) + 1
    assert all(0.025 * 2**number <= each <= 0.05 * 2**number for number, each in enumerate(pauses))


@pytest.mark.parametrize("goodbye", [(b"* BYE no\r\n", "close"), ("close",)])
async def test_a_login_that_ends_the_connection_is_a_refusal_the_second_time(world, small, goodbye):
    """Once may be an accident; a server that hangs up on each login is not called again before the
    long pause.
    """
    small.on(rb"AUTHENTICATE", *goodbye, times=99)
    async with world.watched(account_of(small.port)):

        async def refused():
            box = await world.box()
            return box is not None and box.state == "refused"

        await world.until(refused)
    assert sum(b"AUTHENTICATE" in line for line in small.heard) == 2


async def test_a_refused_move_is_told_in_the_log_too(world, small):
    """What the server refuses after the commit is a failing mailbox like any other."""
    told = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=told)
    small.put(letter("a"))
    small.folders["Done"] = type(small.folders["INBOX"])()
    small.on(rb"UID MOVE", b"%t NO [NOPERM] you may not\r\n", times=99)
    async with world.watched(account_of(small.port, after="move", move_to="Done")):

        async def failing():
            box = await world.box()
            return box is not None and box.state == "failing" and bool(small.idlers)

        await world.until(failing)
    assert "mailbox failing" in told.getvalue()
    assert await world.raws() == [letter("a")]


async def test_a_slow_mailbox_does_not_cost_the_others_their_leases(world, small, free_port):
    """While a lost mailbox is still connecting to a server that does not answer, the others are
    kept, and stopping does not wait for it.
    """
    small.put(letter("a"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", free_port))
        silent.listen()
        slow = account_of(free_port, name="slow")
        rhythm = replace(QUICK, timeouts=Timeouts(connect=60))
        stop = asyncio.Event()
        watcher = Watcher(
            [slow, account_of(small.port)],
            world.accept,
            world.boxes,
            world.tokens,
            world.clock,
            rhythm,
        )
        running = asyncio.create_task(watcher.run(stop))
        await world.holds([letter("a")])
        async with world.database.write() as connection:
            away = sa.update(tables.mailbox).where(tables.mailbox.c.name == "slow")
            await connection.execute(
                away.values(lease_owner="other-1", lease_until=START + timedelta(days=1))
            )
        world.clock.advance(timedelta(seconds=10))

        async def renewed():
            return (await world.box()).lease_until == world.clock.now() + timedelta(seconds=15)

        await world.until(renewed)
        stop.set()
        async with asyncio.timeout(30):  # half of what the slow one has
            await running


async def test_a_reader_that_dies_of_a_mistake_is_replaced(world, small, monkeypatch):
    """Whatever ends a reader, the mailbox is read again, and the log says so."""
    small.put(letter("a"))
    once = iter([True])
    watch = Watcher._watch

    async def dying(self, given):
        if next(once, False):
            raise RuntimeError("a mistake of ours")
        await watch(self, given)

    monkeypatch.setattr(Watcher, "_watch", dying)
    async with world.watched(account_of(small.port)):
        await world.holds([letter("a")])


async def test_a_lost_lease_ends_the_reading(world, real):
    """Another process that has the mailbox is left alone with it."""
    async with world.watched(on(real)):
        real.deliver(real.user, letter("a"))
        await world.holds([letter("a")])
        async with world.database.write() as connection:
            await connection.execute(
                sa.update(tables.mailbox).values(
                    lease_owner="other-1", lease_until=START + timedelta(hours=1)
                )
            )
        real.deliver(real.user, letter("b"))

        async def ended():
            return "desk" not in {task.get_name() for task in asyncio.all_tasks()}

        await world.until(ended)
    assert await world.raws() == [letter("a")]


async def cut_anywhere(world, real, step):
    """Connections cut after every ``step``-th byte, both ways, while mails are moved: each is
    stored once, and none is left behind.
    """
    rng = random.Random(4)
    faults = [
        Fault(at, way, rng.choice(["reset", "close"]))
        for way, most in (("down", 2600), ("up", 700))
        for at in range(1, most, step)
    ]
    sent = []
    with proxy(real.port) as between:
        account = replace(on(real, after="move", move_to="Done"), port=between.port)
        async with world.watched(account):
            for number, fault in enumerate(faults):
                between.faults.append(fault)
                between.drop_all()
                sent.append(letter(number, 300))
                real.deliver(real.user, sent[-1])
                # Dovecot itself leaves a connection without a greeting now and then when hundreds
                # before it were torn away; each costs a deadline.
                await world.until(lambda: world.stored(len(sent)), 120)
            assert between.faults == []
            await world.holds(sent)

            async def moved():
                box = await world.box()
                return await world.boxes.unsettled(box.id, box.uidvalidity, 1) == []

            await world.until(moved)
    assert await asyncio.to_thread(real.count, real.user) == 0
    done = Counter(
        raw for raw, _ in (await asyncio.to_thread(real.seen, real.user, "Done")).values()
    )
    assert done == Counter(sent)


async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(world, real):
    """A sample of the bytes of the dialog."""
    await cut_anywhere(world, real, 61 if world.database.dialect == "sqlite" else 241)


@pytest.mark.sweep
@pytest.mark.timeout(5400)
async def test_a_connection_cut_after_every_byte_loses_and_doubles_nothing(world, real):
    """All of them."""
    await cut_anywhere(world, real, 1)
