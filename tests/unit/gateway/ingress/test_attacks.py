"""Tests of clients that try to block others (reliability.md 8), and of odd mail folders."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gateway.ingress.connection_limits import Limits
from gateway.ingress.mail_files import FoundMail, iter_paths


async def test_a_begun_mail_does_not_keep_its_place(open_desk):
    """Silent clients are dropped for active ones, even after MAIL."""
    desk = await open_desk(limits=Limits(connections=3, evict_idle_seconds=0.0))
    silent = [await desk.hello() for _ in range(3)]
    for client in silent[:2]:
        assert (await client.say("MAIL FROM:<a@client.example>")).startswith("250")
    good = await desk.hello()
    assert await silent[2].reply() == "421 4.3.2 Too many connections, try again later"
    assert (await good.mail(b"x\r\n")).startswith("250")
    assert (await good.say("MAIL FROM:<a@client.example>")).startswith("250")
    second = await desk.hello()
    assert (await second.mail(b"y\r\n")).startswith("250")
    left = [asyncio.create_task(client.reply()) for client in silent[:2]]
    (gone,), (stays,) = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert gone.result().startswith("421 4.3.2")
    stays.cancel()


async def test_a_mail_under_way_is_given_time(open_desk):
    """Within a mail a client may be silent for twice as long as an idle one."""
    desk = await open_desk(limits=Limits(connections=1, evict_idle_seconds=60.0))
    busy = await desk.hello()
    await busy.say("MAIL FROM:<a@client.example>")
    registry = desk.server._registry
    since = next(iter(registry.sessions)).since
    assert not registry._evict_idle(since + 119.0)
    assert registry._evict_idle(since + 121.0)


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
