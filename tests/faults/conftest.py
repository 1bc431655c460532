"""A daemon as a real process that a test may kill, and clients that keep their own log of what was acknowledged."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

PROGRAM = Path(sys.executable).with_name("ticketgate")
READY = b"Ctrl-C"


@dataclass(slots=True)
class Daemon:
    """``ticketgate serve`` on a folder and a port of its own, restarted on the same ones as often as a test likes."""

    folder: Path
    port: int
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None

    def start(self) -> None:
        """Returns when it accepts mail; RuntimeError with the end of its log when it does not come up."""
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [PROGRAM, "serve"], env=dict(self.environ), stdout=subprocess.PIPE, stderr=self.log, start_new_session=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(READY):
                return
        raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])

    def kill(self) -> None:
        """SIGKILL to it and everything it started: nothing gets a chance to finish."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code after the drain."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        assert self.log is not None
        with suppress(ProcessLookupError):
            if how is signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
        code = self.process.wait(90)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()
        self.process = None
        return code

    def run(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """A command on the same installation."""
        return subprocess.run([PROGRAM, *arguments], env=dict(self.environ), input=stdin, capture_output=True, check=False, timeout=120)


@pytest.fixture
def make_daemon(tmp_path: Path, free_ports: Callable[[], int]) -> Iterator[Callable[..., Daemon]]:
    """``make_daemon(KEY=VALUE...)`` makes a daemon (not started) on SQLite; settings are environment variables without their prefix."""
    made: list[Daemon] = []

    def make(**settings: str) -> Daemon:
        folder = tmp_path / f"daemon{len(made)}"
        folder.mkdir()
        port = free_ports()
        own = {
            "DATA__DIRECTORY": str(folder / "var"),
            "SMTP__LISTEN": json.dumps([f"127.0.0.1:{port}"]),
            "WEB__LISTEN": "",
            "HEALTH__LISTEN": "",
            "WORKERS__PROCESSES": "1",
        } | settings
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TICKETGATE_")}
        daemon = Daemon(folder, port, environ | {f"TICKETGATE_{name}": value for name, value in own.items()})
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        if daemon.process is not None:
            daemon.kill()


@dataclass(slots=True)
class Barrage:
    """Clients that each send numbered mails, a connection a mail, and try again until each has its 250; ``acknowledged`` is their own log."""

    port: int
    mail: Callable[[int], bytes]
    total: int
    acknowledged: set[int] = field(default_factory=set)
    again: int = 0
    _next: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self, clients: int) -> None:
        """Begin; it goes on until every mail was acknowledged or :meth:`end`."""
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int, timeout: float = 60.0) -> None:
        """Returns once so many mails were acknowledged; AssertionError when that takes too long."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= count, timeout), f"{len(self.acknowledged)} of {count}"

    def end(self) -> None:
        """Give up what is left and wait for the clients."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _take(self) -> int | None:
        with self._changed:
            if self._next >= self.total:
                return None
            self._next += 1
            return self._next - 1

    def _client(self) -> None:
        while not self._over.is_set() and (number := self._take()) is not None:
            while not self._over.is_set() and not self._send(self.mail(number)):
                self.again += 1
                self._over.wait(0.02)
            with self._changed:
                self.acknowledged.add(number)
                self._changed.notify_all()

    def _send(self, data: bytes) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection, connection.makefile("rb") as replies:
                commands = (
                    b"",
                    b"EHLO client.example\r\n",
                    b"MAIL FROM:<a@client.example>\r\n",
                    b"RCPT TO:<support@localhost>\r\n",
                    b"DATA\r\n",
                )
                for command in (*commands, data + b".\r\n"):
                    connection.sendall(command)
                    line = replies.readline()
                    while line[3:4] == b"-":
                        line = replies.readline()
                    if line[:1] not in (b"2", b"3"):
                        return False
                return True
        except OSError:
            return False


@pytest.fixture
def barrage() -> Iterator[Callable[..., Barrage]]:
    """``barrage(port, mail, total)`` makes clients; those still at it are ended after the test."""
    made: list[Barrage] = []

    def make(port: int, mail: Callable[[int], bytes], total: int) -> Barrage:
        made.append(Barrage(port, mail, total))
        return made[-1]

    yield make
    for each in made:
        each.end()
