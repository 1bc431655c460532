"""Tests of inconsistent servers and of errors of our own: no mail is lost or stored twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from gateway.errors import DiskFull, StoreUnavailable
from tests.servers.dovecot import letter, letters
from tests.unit.gateway.ingress.reading import account_of, on

# ---- inconsistent servers


@pytest.mark.parametrize("after", ["keep", "move"])
async def test_another_uidvalidity_doubles_nothing(world, real, after):
    """With a new UIDVALIDITY only new mail is stored."""
    raws = letters(range(6))
    account = on(real, after=after, move_to="Done" if after == "move" else "")
    real.deliver(real.user, *raws[:4])
    await world.read(account)
    if after == "move":
        real.deliver(real.user, *raws[:2])  # as if a person had moved two of them back
    await asyncio.to_thread(real.change_uidvalidity, real.user)
    real.deliver(real.user, *raws[4:])
    await world.read(account)
    assert sorted(await world.raws()) == sorted(raws)
    assert await asyncio.to_thread(real.count, real.user) == (6 if after == "keep" else 0)
    real.delete_indexes(real.user)
    await world.read(account)
    assert sorted(await world.raws()) == sorted(raws)


async def test_uids_that_start_again_hide_no_mail(world, small):
    """UIDs that start again under the same UIDVALIDITY hide no mail."""
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
    """Without MOVE or UIDPLUS no mail is lost or stored twice."""
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


async def test_a_refused_move_does_not_stop_storing(world, small):
    """Mails are stored and the refusal reported; the move is made later."""
    small.put(*letters("ab"))
    account = account_of(small.port, after="move", move_to="Done")
    small.on(rb"UID MOVE", b"%t NO [NOPERM] you may not\r\n", times=9)
    small.folders["Done"] = type(small.folders["INBOX"])()
    await world.read(account)
    box = await world.box()
    assert (box.state, "cannot be moved" in box.problem, "you may not" in box.problem) == (
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
    """A mail missing from a FETCH of several is fetched alone."""
    small.put(*letters("abc"))
    small.on(rb"UID FETCH [^ ]+ \(UID BODY", b"* 1 FETCH (UID 1 FLAGS ())\r\n%t OK done\r\n")
    await world.read(account_of(small.port))
    assert sorted(await world.raws()) == letters("abc")


async def test_a_mail_that_is_never_sent_is_recorded_and_retried(world, small):
    """An unfetchable mail is recorded with a reason and retried; once gone it is forgotten."""
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
    """After NO to a FETCH of several, each is fetched alone."""
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


async def test_a_mail_that_breaks_the_connection_is_skipped(world, small):
    """After three breaks the mail is recorded; all others are stored."""
    small.put(*letters(range(6)))
    small.on(rb"UID FETCH (\d+:\d+|4) \(UID BODY", "close", times=99)
    async with world.watched(account_of(small.port)):
        await world.holds([letter(number) for number in (0, 1, 2, 4, 5)])

        async def told():
            return bool(await world.boxes.owed(1, 1))

        await world.until(told)
    [owed] = await world.boxes.owed(1, 1)
    assert (owed.uid, "breaks" in owed.problem) == (4, True)


# ---- errors of our own


@pytest.mark.parametrize("trouble", ["disk", "database", "one mail"])
async def test_an_error_of_ours_leaves_mail_in_the_mailbox(world, small, trouble, monkeypatch):
    """While nothing can be stored, nothing is moved; later each mail is stored once."""
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
