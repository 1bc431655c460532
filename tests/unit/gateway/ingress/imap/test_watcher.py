"""Tests of the watcher of mailboxes: prompt reading, failures, refusals, leases, stopping."""

from __future__ import annotations

import asyncio
import io
import socket
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway import log
from gateway.ingress.imap import watcher as imap
from gateway.ingress.imap.connection import Timeouts
from gateway.ingress.imap.watcher import Watcher
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.dovecot import letter, letters
from tests.unit.gateway.ingress.reading import QUICK, account_of, on

# ---- the watcher


async def test_new_mail_is_stored_as_soon_as_the_server_reports_it(world, real):
    """With IDLE, new mail is stored within two seconds."""
    async with world.watched(on(real), replace(QUICK, idle=600, poll=600)):
        real.deliver(real.user, letter(0))
        await world.holds([letter(0)])
        for number in range(1, 4):
            await asyncio.to_thread(real.deliver, real.user, letter(number))
            async with asyncio.timeout(2):
                await world.holds(letters(range(number + 1)))


@pytest.mark.parametrize("what", ["killed", "restarted", "index deleted", "new numbers"])
async def test_a_restarted_server_loses_no_mail(world, real, what):
    """After Dovecot was killed, restarted or reindexed, nothing is lost or stored twice."""
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
async def test_a_fault_at_any_command_loses_no_mail(world, small, command, how):
    """After BYE, a lost connection, silence or NO at any command all mails are moved once."""
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
    """One attempt, then a long pause; the mailbox is reported as refused."""
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
    """An absent server makes the mailbox failing, with the first time and the reason."""
    async with world.watched(account_of(free_port)):

        async def failing():
            box = await world.box()
            return box is not None and box.state == "failing"

        await world.until(failing)
    box = await world.box()
    assert (box.failing_since, "cannot be reached" in box.problem) == (START, True)


async def test_a_silent_server_does_not_delay_the_stop(world, small):
    """A silent server does not delay the daemon's stop; leases are released."""
    small.put(letter("a"))
    small.on(rb"UID SEARCH", "silence", times=99)
    async with world.watched(account_of(small.port), replace(QUICK, timeouts=Timeouts(silence=60))):

        async def asked():
            return any(b"SEARCH" in line for line in small.heard)

        await world.until(asked)
    assert (await world.box()).lease_owner is None


async def test_a_server_that_ends_idle_at_once_is_asked_with_pauses(world, small, monkeypatch):
    """If IDLE ends at once there is a pause after each try."""
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
    """After one refused IDLE the connection stays, and the mailbox is polled."""
    small.on(rb"IDLE", b"%t NO not for you\r\n", times=99)
    async with world.watched(account_of(small.port), replace(QUICK, poll=0.05)):
        for number in range(3):
            small.put(letter(number))
            await world.holds(letters(range(number + 1)))
    assert (sum(line.endswith(b" IDLE") for line in small.heard), small.logins) == (1, 1)


async def test_a_server_that_hangs_up_is_contacted_with_pauses(world, small, monkeypatch):
    """A server that hangs up at IDLE is contacted with growing pauses."""
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
async def test_two_logins_that_end_the_connection_are_a_refusal(world, small, goodbye):
    """A server that hangs up on two logins is left alone for a long pause."""
    small.on(rb"AUTHENTICATE", *goodbye, times=99)
    async with world.watched(account_of(small.port)):

        async def refused():
            box = await world.box()
            return box is not None and box.state == "refused"

        await world.until(refused)
    assert sum(b"AUTHENTICATE" in line for line in small.heard) == 2


async def test_a_refused_move_is_logged(world, small):
    """A move that the server refuses is logged as a failure of the mailbox."""
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


async def test_a_slow_mailbox_delays_no_lease(world, small, free_port):
    """A mailbox that is still connecting delays neither leases nor stopping."""
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
        async with asyncio.timeout(30):  # half of the slow one's timeout
            await running


async def test_a_reader_with_an_internal_error_is_replaced(world, small, monkeypatch):
    """After an internal error the mailbox is read again, and the log says so."""
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
    """A mailbox that another process has taken over is no longer read."""
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
