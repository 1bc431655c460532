"""Run the real listeners over a spool of files in a process of their own.

``serve.py FOLDER [--lmtp] [--forget] [--no-sync]`` prints one line of JSON with its address and
pid. At SIGTERM it stops and prints its resource usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from gateway import log
from gateway.clock import Clock
from gateway.ingress.accept import AcceptedMail, Acceptor, SpoolFile
from gateway.ingress.connection_limits import Limits
from gateway.ingress.smtp.addresses import Addresses
from gateway.ingress.smtp.lmtp import LmtpServer
from gateway.ingress.smtp.protocol import SmtpServer
from gateway.ingress.smtp.server import ListenerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence


class FileSpool:
    """A durable spool of synced files; large mails keep their own file."""

    def __init__(self, folder: Path, *, sync: bool = True) -> None:
        self.folder = folder
        self.groups: list[int] = []
        self._next = 1
        self._sync = sync

    async def put(self, mails: Sequence[AcceptedMail]) -> list[int]:
        ids = list(range(self._next, self._next + len(mails)))
        self._next += len(mails)
        await asyncio.to_thread(self._write, ids, mails)
        self.groups.append(len(mails))
        return ids

    def _write(self, ids: list[int], mails: Sequence[AcceptedMail]) -> None:
        for number, mail in zip(ids, mails, strict=True):
            target = self.folder / f"{number}.eml"
            if isinstance(mail.raw, SpoolFile):
                mail.raw.path.rename(target)
                self._synced(os.open(target, os.O_RDONLY))
            else:
                handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                os.write(handle, mail.raw)
                self._synced(handle)
        self._synced(os.open(self.folder, os.O_RDONLY))

    def _synced(self, handle: int) -> None:
        if self._sync:
            os.fsync(handle)
        os.close(handle)


class NoSpool:
    """A spool that drops every mail, to measure the cost of the listeners alone."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    async def put(self, mails: Sequence[AcceptedMail]) -> list[int]:
        self.groups.append(len(mails))
        for mail in mails:
            if isinstance(mail.raw, SpoolFile):
                await asyncio.to_thread(mail.raw.discard)
        return list(range(len(mails)))


class StallMeter:
    """Measures the longest processor time of one pass of the event loop."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._before = 0.0
        self._loop = asyncio.get_running_loop()
        self._begin()

    def _begin(self) -> None:
        self._before = time.thread_time()
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self.worst = max(self.worst, time.thread_time() - self._before)
        self._loop.call_later(0.001, self._begin)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lmtp", action="store_true")
    parser.add_argument("--forget", action="store_true")
    parser.add_argument("--no-sync", action="store_true")
    given = parser.parse_args()
    log.configure(level="info", form="json", addresses="hashed")
    incoming, spool = given.folder / "incoming", given.folder / "spool"
    incoming.mkdir(parents=True, exist_ok=True)
    spool.mkdir(exist_ok=True)
    store = NoSpool() if given.forget else FileSpool(spool, sync=not given.no_sync)
    limits = Limits()
    accept = Acceptor(store, limits, incoming, wake=lambda: None)
    service = ListenerSettings(
        accept=accept,
        directory=Addresses(["support@localhost"]),
        clock=Clock(),
        limits=limits,
        hostname="mx.desk.example",
    )
    server = (LmtpServer if given.lmtp else SmtpServer)(["127.0.0.1:0"], service)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    meter = StallMeter()
    print(json.dumps({"address": server.addresses[0], "pid": os.getpid()}), flush=True)
    idle = time.process_time()
    await stop.wait()
    await server.stop(10)
    await accept.drain()
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "cpu": time.process_time() - idle,
        "groups": len(store.groups),
        "mails": sum(store.groups),
        "stall": meter.worst,
        "peak_kib": used.ru_maxrss,
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
