"""Tests of the supervisor: services restart, stop in order, or end the daemon."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from gateway.daemon.supervisor import Supervisor, SystemdNotifier
from gateway.errors import InternalError, exit_code


class Worker:
    """A service that fails the given number of times, then runs until stop."""

    def __init__(self, name: str, failures: int = 0, ends: bool = False) -> None:
        self.name = name
        self.failures = failures
        self.ends = ends
        self.starts = 0
        self.running = asyncio.Event()
        self.finished = False

    async def run(self, stop: asyncio.Event) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise ValueError("broken")
        if self.ends:
            return
        self.running.set()
        await stop.wait()
        await asyncio.sleep(0)
        self.finished = True


class Stubborn(Worker):
    """A service that ignores stop."""

    cancelled = False

    async def run(self, stop: asyncio.Event) -> None:
        self.running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def supervisor(stop: asyncio.Event, **more) -> Supervisor:
    """Return a supervisor with short waits that notifies nobody."""
    return Supervisor(stop, SystemdNotifier({}), first_pause=0.0001, **more)


async def test_stop_lets_services_finish():
    """When stop is set each service finishes its work, and nothing is cancelled."""
    stop = asyncio.Event()
    workers = [Worker("a"), Worker("b")]
    run = asyncio.create_task(supervisor(stop).run(workers))
    for worker in workers:
        await worker.running.wait()
    stop.set()
    await run
    assert [worker.finished for worker in workers] == [True, True]


async def test_a_failing_service_is_started_again():
    """Four failures within a minute are survived, and other services are not affected."""
    stop = asyncio.Event()
    weak, strong = Worker("weak", failures=4), Worker("strong")
    run = asyncio.create_task(supervisor(stop).run([weak, strong]))
    await weak.running.wait()
    assert (weak.starts, strong.starts) == (5, 1)
    stop.set()
    await run


@pytest.mark.parametrize(
    "broken", [{"failures": 99}, {"ends": True}], ids=["raises", "ends by itself"]
)
async def test_five_failures_a_minute_end_the_daemon(broken):
    """The fifth failure stops everything, lets the others drain, and ends with exit code 70."""
    stop = asyncio.Event()
    weak, strong = Worker("weak", **broken), Worker("strong")
    with pytest.raises(InternalError, match="weak") as raised:
        await supervisor(stop).run([weak, strong])
    assert exit_code(raised.value) == os.EX_SOFTWARE == 70
    assert (weak.starts, strong.finished) == (5, True)


async def test_a_service_that_does_not_drain_is_cut_off():
    """The daemon ends when the time to drain is over."""
    stop = asyncio.Event()
    stubborn = Stubborn("stubborn")
    run = asyncio.create_task(supervisor(stop, drain=0.01).run([stubborn]))
    await stubborn.running.wait()
    stop.set()
    await run
    assert stubborn.cancelled


async def test_systemd_is_notified(tmp_path):
    """READY, WATCHDOG and STOPPING arrive at the socket that systemd named."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.setblocking(False)
        notify = SystemdNotifier(
            {
                "NOTIFY_SOCKET": str(path),
                "WATCHDOG_USEC": "20000000",
                "WATCHDOG_PID": str(os.getpid()),
            }
        )
        loop = asyncio.get_running_loop()
        notify.ready()
        assert await loop.sock_recv(listener, 100) == f"READY=1\nMAINPID={os.getpid()}".encode()
        stop = asyncio.Event()
        worker = Worker("a")
        run = asyncio.create_task(Supervisor(stop, notify).run([worker]))
        assert await loop.sock_recv(listener, 100) == b"WATCHDOG=1"
        stop.set()
        await run
        assert await loop.sock_recv(listener, 100) == b"STOPPING=1"


async def test_a_watchdog_for_another_process_is_not_ours(tmp_path):
    """A WATCHDOG_PID of another process means that nothing is sent."""
    notify = SystemdNotifier(
        {"NOTIFY_SOCKET": str(tmp_path / "none"), "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}
    )
    await notify.watch(asyncio.Event())


def test_a_missing_systemd_socket_is_ignored(tmp_path):
    """A missing socket is logged and otherwise ignored."""
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")
    SystemdNotifier({}).ready()
