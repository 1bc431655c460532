"""Keep the services of the daemon running, and stop them in order.

A service has a ``name`` and ``async run(stop)``, which runs until shortly after the event ``stop``
is set. Services are stopped by this event, not by cancellation, so that they can finish their work.

- A service that raises or returns too early is logged and started again after growing pauses.
- A service that fails five times within a minute ends the daemon with InternalError (exit 70);
  systemd, or the operator, decides whether to start it again.
- A service that has not ended after the drain time is cancelled, and the log names it.
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

MAX_FAILURES: Final = 5  # of one service within FAILURE_SECONDS
FAILURE_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 0.1
DATAGRAM: Final = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
_log = log.logger("supervise")


class Service(Protocol):
    """A part of the daemon that runs as long as the daemon does."""

    @property
    def name(self) -> str:
        """The name of the service in the log."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, finish the current work, and return."""
        ...


class Supervisor:
    """Runs services until ``stop`` is set, then gives them ``drain`` seconds to finish.

    ``notify`` tells systemd that the daemon is alive or stopping.
    ``first_pause`` is the wait in seconds before the first restart; it doubles with each failure
    within the same minute.
    """

    def __init__(
        self,
        stop: asyncio.Event,
        notify: SystemdNotifier,
        *,
        drain: float = DRAIN_SECONDS,
        first_pause: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._stop = stop
        self._notify = notify
        self._drain = drain
        self._first_pause = first_pause
        self._given_up: str | None = None

    async def run(self, services: Sequence[Service]) -> None:
        """Run the services; return once ``stop`` is set and all services have ended.

        Raises InternalError when one of them keeps failing.
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
                f"service {self._given_up} failed {MAX_FAILURES} times within "
                f"{FAILURE_SECONDS:.0f} seconds, see the log"
            )

    async def _keep_up(self, service: Service) -> None:
        """Run a service, restarting it after each failure, until ``stop`` or too many failures."""
        loop = asyncio.get_running_loop()
        failures: deque[float] = deque(maxlen=MAX_FAILURES)
        while not self._stop.is_set():
            try:
                await service.run(self._stop)
            except Exception as error:  # noqa: BLE001 - whatever fails, the other services go on
                _log.error("service failed", service=service.name, **log.error_fields(error))
            else:
                if self._stop.is_set():
                    return
                _log.error("service ended by itself", service=service.name)
            now = loop.time()
            failures.append(now)
            recent = sum(1 for at in failures if now - at <= FAILURE_SECONDS)
            if recent >= MAX_FAILURES:
                self._given_up = self._given_up or service.name
                self._stop.set()
                return
            await _wait(self._stop, self._first_pause * 2 ** (recent - 1))

    async def _cut_off(self, late: set[asyncio.Task[None]]) -> None:
        """Cancel the services that did not end in time."""
        for task in late:
            _log.error("service did not stop in time", service=task.get_name(), seconds=self._drain)
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class SystemdNotifier:
    """Reports the daemon's state to systemd (sd_notify(3)), if systemd started it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` from ``environ``."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        for_us = environ.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        microseconds = environ.get("WATCHDOG_USEC", "")
        self._every = int(microseconds) / 2e6 if for_us and microseconds.isdecimal() else 0.0

    def ready(self) -> None:
        """Report that all listeners accept connections and all services run."""
        self.send(f"READY=1\nMAINPID={os.getpid()}")

    def send(self, state: str) -> None:
        """Send one datagram; a failure is only logged, since mail matters more than the report."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, DATAGRAM) as datagrams:
                datagrams.settimeout(1.0)
                datagrams.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warning("sd_notify failed", **log.error_fields(error))

    async def watch(self, stop: asyncio.Event) -> None:
        """Report that the event loop is alive, twice in each watchdog interval, until ``stop``."""
        while self._every and self._address and not stop.is_set():
            self.send("WATCHDOG=1")
            await _wait(stop, self._every)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleep for some seconds, or until ``stop`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
