"""Turn queue workers, listeners, and the receiver of wake-ups into services for the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gateway import log
from gateway.errors import Unavailable
from gateway.ingress.accept import Acceptor
from gateway.ingress.smtp.lmtp import LmtpServer
from gateway.ingress.smtp.protocol import SmtpServer
from gateway.store.engine import Database
from gateway.store.queues import raw_places
from gateway.store.queues.blobs import Blobs
from gateway.store.queues.wake import Wake

SESSION_GRACE_SECONDS: Final = 45.0  # for sessions that are sending; less than DRAIN_SECONDS
RECONNECT_SECONDS: Final = 2.0  # between attempts to listen for wake-ups again
_log = log.logger("daemon")


class QueueWorker(Protocol):
    """A worker that empties a queue until ``stop`` is set."""

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Work until ``stop`` is set, then finish the current batch."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerService:
    """A queue worker as a service."""

    worker: QueueWorker
    wake: Wake
    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Run the worker until ``stop`` is set."""
        await self.worker.serve(stop, self.wake)


@dataclass(frozen=True, slots=True)
class LateService:
    """A queue worker as a service that makes the worker when it runs, after the daemon is ready."""

    make: Callable[[], Awaitable[QueueWorker]]
    wake: Wake
    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Make the worker, and run it until ``stop`` is set."""
        worker = await self.make()
        await worker.serve(stop, self.wake)


@dataclass(frozen=True, slots=True)
class ListenerService:
    """An SMTP or LMTP listener as a service."""

    name: str
    server: SmtpServer | LmtpServer
    accept: Acceptor

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``; then let clients finish, and wait until their mail is stored."""
        if not self.server.addresses:
            await self.server.start()
        await stop.wait()
        await self.server.stop(SESSION_GRACE_SECONDS)
        await self.accept.drain()


@dataclass(frozen=True, slots=True)
class SweepService:
    """Deletes, after the start, blobs that a crashed process left and that belong to no mail."""

    database: Database
    blobs: Blobs
    name: str = "sweep"

    async def run(self, stop: asyncio.Event) -> None:
        """Delete these blobs, then wait for ``stop``; after an error the next start does it."""
        try:
            if found := await raw_places.sweep(self.database, self.blobs):
                _log.info("deleted blobs that no mail names", blobs=found)
        except Unavailable as error:
            _log.warning("unused blobs are kept until the next start", reason=error.message)
        await stop.wait()


@dataclass(frozen=True, slots=True)
class WakeService:
    """Receives wake-ups from other daemons on the same PostgreSQL database, as a service."""

    wake: Wake
    database: Database
    name: str = "hints"
    pause: float = RECONNECT_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Wake this process's workers whenever another daemon sends a wake-up, until ``stop``."""
        while not stop.is_set():
            try:
                await self._listen(stop)
            except Unavailable as error:  # no failure: the workers also find mail by polling
                _log.warning("wake-ups from other daemons are not received", reason=error.message)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self.pause)

    async def _listen(self, stop: asyncio.Event) -> None:
        listening = asyncio.create_task(self.wake.listen(self.database))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (listening, stopping):
            task.cancel()
        heard, _ = await asyncio.gather(listening, stopping, return_exceptions=True)
        if isinstance(heard, Exception) and not stop.is_set():
            raise heard
