"""Tests of clients that try to block others (reliability.md 8), and of odd mail folders."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gateway.ingress.connection_limits import Limits
from gateway.ingress.mail_files import FoundMail, iter_paths
from tests.unit.gateway.ingress.conftest import until

FULL = "421 4.3.2 Too many connections, try again later"
HOLD = Limits(connections=3, evict_seconds=60.0)


def clock():
    """Return the time by which sessions are judged."""
    return asyncio.get_running_loop().time()


async def whole(desk, client, data):
    """Send bytes and return once the server has read them."""
    session = session_of(desk, client)
    before = session._received
    await client.send(data)
    await until(lambda: session._received == before + len(data))


def session_of(desk, client):
    """Return the server's side of a connection."""
    port = client.writer.get_extra_info("sockname")[1]
    return next(
        session
        for session in desk.server._registry.sessions
        if session.transport.get_extra_info("peername")[1] == port
    )


async def test_the_one_longest_without_a_mail_goes(open_desk):
    """Neither commands nor a begun mail keep a place, only accepted mail does."""
    desk = await open_desk(limits=HOLD)
    sender, talker, beginner = [await desk.hello() for _ in range(3)]
    for age, client in enumerate((beginner, talker, sender), 1):
        session_of(desk, client).last_mail_at -= age
    await beginner.begin()
    assert (await sender.mail(b"x\r\n")).startswith("250")
    assert (await talker.say("NOOP")).startswith("250")
    registry, now = desk.server._registry, clock()
    for client in (talker, beginner, sender):
        assert registry._make_room("127.0.0.1", now + 61)
        assert await client.reply() == FULL
    assert not registry._make_room("127.0.0.1", now + 61)


async def test_a_new_session_is_given_time(open_desk):
    """No session is closed for another within the first second, or the one after a mail."""
    desk = await open_desk(limits=Limits(connections=1, evict_seconds=60.0))
    client, began = await desk.hello(), clock()
    registry = desk.server._registry
    assert not registry._make_room("127.0.0.1", began + 59)
    session_of(desk, client).last_mail_at -= 100
    assert (await client.mail(b"x\r\n")).startswith("250")
    assert not registry._make_room("127.0.0.1", began + 59)
    assert registry._make_room("127.0.0.1", clock() + 61)


async def test_a_mail_that_comes_in_quickly_is_let_finish(open_desk):
    """A sender of 4 KiB a second keeps its place; one of a few bytes does not."""
    desk = await open_desk(limits=HOLD)
    slow, quick, silent = [await desk.hello() for _ in range(3)]
    for client, size in ((slow, 100), (quick, 250_000)):
        await client.begin()
        await whole(desk, client, b"x" * size)
    session_of(desk, silent).last_mail_at += 30
    registry, now = desk.server._registry, clock()
    for client in (slow, silent, quick):
        assert registry._make_room("127.0.0.1", now + 100)
        assert await client.reply() == FULL
    await until(lambda: not desk.server.sessions)
    assert desk.spool.stored() == []


async def test_a_mail_being_stored_is_never_cut_off(open_desk):
    """A new client waits its turn rather than end the commit of a mail."""
    desk = await open_desk(limits=Limits(connections=1, evict_seconds=0.0))
    busy = await desk.hello()
    desk.spool.gate.clear()
    desk.spool.entered.clear()
    await busy.begin()
    await busy.send(b"x\r\n.\r\n")
    await desk.spool.entered.wait()
    assert await (await desk.connect()).reply() == FULL
    desk.spool.gate.set()
    assert (await busy.reply()).startswith("250")


async def test_the_address_with_most_places_makes_room(open_desk):
    """One with few places gets another at once, and never by turns with those that have as many."""
    desk = await open_desk(limits=HOLD)
    crowd = [await desk.hello() for _ in range(3)]
    single = await desk.connect(local_addr=("127.0.0.2", 0))
    assert (await single.reply()).startswith("220")
    replies = {asyncio.ensure_future(each.reply()): each for each in crowd}
    told, silent = await asyncio.wait(replies, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert [each.result() for each in told] == [FULL]
    for each in silent:
        each.cancel()
    assert await (await desk.connect(local_addr=("127.0.0.2", 0))).reply() == FULL
    for client in (single, *(replies[each] for each in silent)):
        assert (await client.say("NOOP")).startswith("250")


async def test_a_client_over_its_own_limit_takes_nobodys_place(open_desk):
    """Its connections are refused before a place is made."""
    limits = Limits(connections=3, connections_per_address=2, evict_seconds=0.0, exempt=())
    desk = await open_desk(limits=limits)
    clients = [await desk.hello() for _ in range(2)]
    clients.append(await desk.connect(local_addr=("127.0.0.2", 0)))
    assert (await clients[2].reply()).startswith("220")
    for _ in range(3):
        assert (await (await desk.connect()).reply()).startswith("421 4.7.0")
    for client in clients:
        assert (await client.say("NOOP")).startswith("250")


async def test_an_ended_session_keeps_no_place(open_desk):
    """A client that does not read its last reply makes room for the next."""
    desk = await open_desk(limits=Limits(connections=1))
    ended = await desk.hello()
    await ended.send(b"GET / HTTP/1.1\r\n")
    session = session_of(desk, ended)
    await until(lambda: session.state == "parting")
    assert (await (await desk.hello()).mail(b"x\r\n")).startswith("250")


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    """Pipes, devices and looping links are reported and not opened."""
    for name in ("box/cur", "box/new", "folder"):
        (tmp_path / name).mkdir(parents=True)
    for folder in ("box/new", "folder"):
        os.mkfifo(tmp_path / folder / "a.eml")
        (tmp_path / folder / "b.eml").write_bytes(b"From: a@b.example\r\n\r\nx\r\n")
        (tmp_path / folder / "c.eml").symlink_to("/dev/zero")
        (tmp_path / folder / "d.eml").symlink_to("d.eml")
    found = list(iter_paths([tmp_path / "box", tmp_path / "folder"]))
    assert [(Path(each.file).name, isinstance(each, FoundMail)) for each in found] == [
        ("a.eml", False),
        ("b.eml", True),
        ("c.eml", False),
        ("d.eml", False),
    ] * 2
