"""Tests of reading a mailbox into the store, on both databases: oldest first, each mail once."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

import pytest

from core.model.message import address_key
from gateway.ingress.imap import fetch
from gateway.ingress.imap import reader as imap_reader
from gateway.ingress.imap.reader import MailboxReader
from tests.conftest import START
from tests.servers.dovecot import letter, letters
from tests.servers.smallimap import RECEIVED
from tests.unit.gateway.ingress.reading import account_of, on

# ---- present mail is stored, oldest first


@pytest.mark.parametrize("after", ["keep", "seen", "move", "delete"])
async def test_each_mail_is_stored_once_and_then_settled(world, real, after):
    """Mails are stored once, in order, then kept, flagged, moved or removed."""
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


async def test_seen_mail_is_stored_too(world, small):
    """Mail already seen is stored; mail flagged as deleted is not."""
    small.put(*letters("abc"))
    small.folders["INBOX"].mails[0].flags.add("\\Seen")
    small.folders["INBOX"].mails[1].flags.add("\\Deleted")
    await world.read(account_of(small.port))
    assert await world.raws() == [letter("a"), letter("c")]


@pytest.mark.parametrize("size", [0, 255 << 10, 300 << 10, 2_500_000, 25 << 20])
async def test_mails_of_any_size_are_the_same_bytes(world, small, size):
    """Mails of 0 to 25 MiB are stored unchanged, even if the server's sizes are wrong."""
    raw = letter("big", size) if size else b""
    small.put(raw, letter("small"), raw + b"2", raw + b"3")
    small.sizes = {3: 10, 4: size * 2 + 1000}
    await world.read(account_of(small.port))
    assert await world.raws() == [raw, letter("small"), raw + b"2", raw + b"3"]
    assert not list(world.accept.directory.iterdir())


async def test_a_folder_of_any_name_with_a_mail_of_25_mib(world, real):
    """Folder names with spaces, quotes and non-ASCII letters work on Dovecot."""
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


async def test_a_mail_too_large_is_recorded_and_others_go_on(world, small, monkeypatch):
    """A mail too large for the store stays in the mailbox and is recorded; reading goes on."""
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
async def test_a_mail_cut_short_is_recorded_and_not_removed(world, small, piece, answer):
    """A mail cut short by the server is not stored in part; it is read later."""
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
        # sizes may be wrong: an empty piece is the end of the mail
        return
    assert (await world.raws(), len(small.folders["INBOX"].mails)) == ([], 1)
    world.clock.advance(timedelta(minutes=2))
    await world.read(account)
    assert (await world.raws(), small.folders["INBOX"].mails) == ([raw], [])


@pytest.mark.parametrize("body", [b"{0}\r\n", b"NIL", b'""'])
async def test_an_empty_body_of_a_mail_with_a_size_is_no_mail(world, small, body):
    """An empty body for a mail with a size counts as unfetchable; the mail stays."""
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
    """A UID below the cursor is found later, unless an import left it out."""
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


async def test_large_uid_gaps_take_few_searches(world, small):
    """Large gaps between UIDs take few searches."""
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
    """A mailbox of several search windows, with gaps between UIDs, is read completely."""
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


async def test_old_mail_at_the_first_opening_is_not_answered(world, small):
    """At the first opening, mail older than a day becomes tickets without automation."""
    for days in (30, 2, 0):
        small.put(letter(days), received=START - timedelta(days=days, minutes=1))
    await world.read(account_of(small.port))
    small.put(letter("late"), received=START - timedelta(days=30))
    await world.read(account_of(small.port))
    claimed = await world.spool.claim("n", 9, 9, START)
    assert [each.envelope.automation for each in claimed] == [False, False, True, True]


async def test_an_import_into_a_known_mailbox_keeps_its_options(world, small):
    """Mail that arrived while nobody read is imported with the options of the import."""
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
    """A configuration that points at another folder runs no automation on its old mail."""
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
async def test_an_import_follows_its_options(world, small, automation, answered):
    """An import takes only mail since a day, with or without automation."""
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


async def test_an_interrupted_import_is_finished_with_its_options(world, small, monkeypatch):
    """The next reader continues an interrupted import with its options."""
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


# ---- channels


async def test_mail_that_names_no_channel_goes_to_that_of_its_mailbox(world, small):
    """The envelope names mailbox and UID; mail without a channel goes to the mailbox's."""
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
