"""Keeps the services of the daemon running, and ends them in order.

A service is an object with a ``name`` and ``async run(stop)`` that returns soon after the event
``stop`` is set and not before. Stop is an event, never a cancellation, so that a service finishes
what it has in hand: a commit is not torn, a mail is not answered twice. What can go wrong:

- a service raises or returns too early: it is logged and started again with growing pauses;
- a service fails five times within a minute: the daemon stops and :class:`Software` (exit 70) is
  raised, since whoever supervises us can tell better;
- a service does not end within the time to drain: it is cancelled then, and the log names it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from gateway import log
from gateway.errors import InternalError

FAILURES: Final = 5
WITHIN: Final = 60.0
DRAIN: Final = 60.0
FIRST_PAUSE: Final = 0.1
_log = log.logger("supervise")


class Service(Protocol):
    """Something that runs as long as the daemon does."""

    @property
    def name(self) -> str:
        """The word that stands for the service in the log."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop`` is set, finishes what is in hand and returns."""
        ...


class Supervisor:
    """Runs services until ``stop`` is set, then lets them drain.

    ``drain`` is in seconds; ``notify`` is told when the services stop and, in the interval systemd
    wants, that the loop is alive.
    """

    def __init__(
        self,
        stop: asyncio.Event,
        notify: SystemdNotifier,
        *,
        drain: float = DRAIN,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """``first_pause`` is the wait in seconds before the first restart; it doubles with each
        failure of the same minute.
        """
        self._stop = stop
        self._notify = notify
        self._drain = drain
        self._first_pause = first_pause
        self._given_up: str | None = None

    async def run(self, services: Sequence[Service]) -> None:
        """Returns when ``stop`` was set and all services have ended; raises :class:`Software` when
        one of them cannot be kept up.
        """
        tasks = {
            asyncio.create_task(self._keep_up(service), name=service.name) for service in services
        }
        watchdog = asyncio.create_task(self._notify.watch(self._stop), name="watchdog")
        await self._stop.wait()
        self._notify.send("STOPPING=1")
        _log.info("stopping", services=[service.name for service in services])
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._drain)
            await self._cut_off(late)
        await watchdog
        _log.info("stopped")
        if self._given_up is not None:
            raise InternalError(
                f"the service {self._given_up} failed {FAILURES} times within {WITHIN:.0f} "
                "seconds; the log says where"
            )

    async def _keep_up(self, service: Service) -> None:
        """Runs one service again and again until stop, or until it failed too often."""
        loop = asyncio.get_running_loop()
        failures: deque[float] = deque(maxlen=FAILURES)
        while not self._stop.is_set():
            try:
                await service.run(self._stop)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other services go on
                _log.error("service failed", service=service.name, **log.error_fields(error))
            else:
                if self._stop.is_set():
                    return
                _log.error("service ended by itself", service=service.name)
            now = loop.time()
            failures.append(now)
            recent = sum(1 for at in failures if now - at <= WITHIN)
            if recent >= FAILURES:
                self._given_up = self._given_up or service.name
                self._stop.set()
                return
            await _wait(self._stop, self._first_pause * 2 ** (recent - 1))

    async def _cut_off(self, late: set[asyncio.Task[None]]) -> None:
        """Cancels what did not end in time; this is the only cancellation there is."""
        for task in late:
            _log.error("service did not drain", service=task.get_name(), seconds=self._drain)
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class SystemdNotifier:
    """Tells systemd how we are (sd_notify(3)); does nothing where nobody asked."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """``environ`` holds ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` when systemd runs us."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environ.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        microseconds = environ.get("WATCHDOG_USEC", "")
        self._every = int(microseconds) / 2e6 if mine and microseconds.isdecimal() else 0.0

    def ready(self) -> None:
        """Every listener accepts and every service runs."""
        self.send(f"READY=1\nMAINPID={os.getpid()}")

    def send(self, state: str) -> None:
        """Sends one datagram; a failure is logged and nothing else, for the mail is more important
        than the report.
        """
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(1.0)
                channel.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warning("sd_notify failed", **log.error_fields(error))

    async def watch(self, stop: asyncio.Event) -> None:
        """Says that we are alive, twice in each watchdog interval, until ``stop``; from the event
        loop, so that a stuck loop falls silent.
        """
        while self._every and self._address and not stop.is_set():
            self.send("WATCHDOG=1")
            await _wait(stop, self._every)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleeps, but not beyond stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
