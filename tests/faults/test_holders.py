"""Tests of clients that hold connections: others deliver all the same (reliability.md 8)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.faults.witness import Ledger, letter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.conftest import Daemon

pytestmark = pytest.mark.alone  # two hundred and fifty clients at once, seconds measured
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 21)]
HOLDERS, SLOW_SENDERS = 200, 50
MAILS = 100
PATIENCE = 2.0  # seconds for the 99th percentile of a good client's mails
GIVE_UP = 10.0  # seconds after which a mail counts as kept out
BEGIN = (b"MAIL FROM:<a@c.example>", b"RCPT TO:<support@localhost>", b"DATA")


@dataclass
class Attack:
    """Clients that hold connections; each is back at once when it was cut off."""

    port: int
    over: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Counter[str] = field(default_factory=Counter)

    async def hold(self, address: str) -> None:
        """Say NOOP every 3 s for as long as the server lets us."""
        await self._for_ever(address, (), b"NOOP\r\n", pause=3.0)

    async def send_slowly(self, address: str) -> None:
        """Send a mail without end, a little faster than the least rate."""
        await self._for_ever(address, BEGIN, b"x" * 598 + b"\r\n", pause=1.0)

    async def _for_ever(
        self, address: str, opening: tuple[bytes, ...], piece: bytes, *, pause: float
    ) -> None:
        while not self.over.is_set():
            with suppress(OSError, asyncio.IncompleteReadError):
                async with self._connected(address) as (reader, writer):
                    for line in (b"EHLO c.example", *opening):
                        writer.write(line + b"\r\n")
                        while (await reader.readuntil(b"\n"))[3:4] == b"-":
                            pass
                    self.seen["let in"] += 1
                    while not (self.over.is_set() or reader.at_eof()):
                        writer.write(piece)
                        self.seen["pieces"] += 1
                        with suppress(TimeoutError):
                            await asyncio.wait_for(reader.read(), pause)

    @asynccontextmanager
    async def _connected(
        self, address: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        self.seen["tries"] += 1
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0)
        )
        try:
            if not (await reader.readuntil(b"\n")).startswith(b"220"):
                raise ConnectionRefusedError
            yield reader, writer
        finally:
            writer.transport.abort()


def deliver(ledger: Ledger, port: int, number: int) -> float:
    """Deliver a mail, however many tries it takes; return the seconds until its 250."""
    began = time.monotonic()
    word = f"good{number}"
    while not ledger.send(port, word, letter(word)).startswith("250"):
        if time.monotonic() - began > GIVE_UP:
            return GIVE_UP
    return time.monotonic() - began


@pytest.mark.parametrize(
    "exempt", [["127.0.0.1"], ["127.0.0.0/8"]], ids=["within their limits", "without limits"]
)
async def test_holders_keep_nobody_out(make_daemon: Callable[..., Daemon], exempt: list[str]):
    """With 200 NOOP holders and 50 slow senders, a mail takes less than 2 s (99th percentile)."""
    daemon = make_daemon("ingress", LIMITS__EXEMPT=json.dumps(exempt))
    daemon.start()
    attack, ledger = Attack(daemon.port), Ledger()
    clients = [attack.send_slowly] * SLOW_SENDERS + [attack.hold] * HOLDERS
    tasks = [
        asyncio.create_task(client(ADDRESSES[number % len(ADDRESSES)]))
        for number, client in enumerate(clients)
    ]
    seconds: list[float] = []
    while len(seconds) < MAILS or attack.seen["pieces"] < 3 * len(clients):
        seconds.append(await asyncio.to_thread(deliver, ledger, daemon.port, len(seconds)))
        if sum(each >= PATIENCE for each in seconds) > MAILS // 100:
            break  # it cannot get better any more
    attack.over.set()
    await asyncio.gather(*tasks)
    worst = sorted(seconds)[len(seconds) * 99 // 100]
    print(f"{len(seconds)} mails, 99th percentile {worst:.2f} s, {dict(attack.seen)}")
    assert worst < PATIENCE
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())
