"""Tests of floods, measured from outside the process: memory and time (reliability.md 6)."""

from __future__ import annotations

import json
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.alone  # two hundred sessions at once, memory and stalls measured
ROOT = Path(__file__).parents[2]
MIB = 1 << 20
RESIDENT = 512 * MIB  # of the whole process, reliability.md 6
A_SESSION = 1 * MIB
STALL = 0.050  # seconds


@dataclass
class Listener:
    """A process with a listener, seen from outside."""

    process: subprocess.Popen[str]
    port: int
    figures: dict[str, float]

    def resident(self) -> int:
        """Return the peak of its memory in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    def forget_peak(self) -> int:
        """Restart the measurement of the peak; return the memory in use."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.resident()

    def stop(self) -> None:
        """End it and read its ``figures``."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=60)
        self.figures = json.loads(output.splitlines()[-1])

    def connect(self) -> socket.socket:
        """Return a connection after the reply 354."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.recv(512)
        for line in (
            b"EHLO c",
            b"MAIL FROM:<a@c.example>",
            b"RCPT TO:<support@localhost>",
            b"DATA",
        ):
            connection.sendall(line + b"\r\n")
            reply = connection.recv(4096)
        assert reply.startswith(b"354"), reply
        return connection


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """Run a listener in a process of its own, whose store drops every mail."""
    command = [sys.executable, "-m", "tests.unit.gateway.ingress.serve", str(tmp_path), "--forget"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["address"]
    running = Listener(process, int(address.rpartition(":")[2]), {})
    yield running
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()


def send(connection: socket.socket, pieces: Iterator[bytes]) -> bytes:
    """Send until the listener has answered or closes; return its answer."""
    connection.setblocking(False)
    with selectors.DefaultSelector() as ready:
        ready.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        rest = memoryview(b"")
        while True:
            for _, events in ready.select(60):
                if events & selectors.EVENT_READ:
                    return connection.recv(4096)
                rest = rest or memoryview(next(pieces, b""))
                if rest:
                    rest = rest[connection.send(rest) :]
                else:
                    ready.modify(connection, selectors.EVENT_READ)


def flood(pattern: bytes, size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes of a pattern in pieces, then the end of the data."""
    piece = pattern * (65536 // len(pattern))
    yield from islice(cycle([piece]), size // len(piece))
    yield b"\r\n.\r\n"


@pytest.mark.parametrize(
    ("pattern", "size", "replies"),
    [
        pytest.param(b"\r\n", 24 * MIB, [b"250"], id="line ends"),
        pytest.param(b"\r\n", 32 * MIB, [b"552"], id="line ends over the limit"),
        pytest.param(b"x\r\n", 32 * MIB, [b"552"], id="short lines"),
        pytest.param(b"..\r\n", 24 * MIB, [b"250"], id="stuffed dots"),
        pytest.param(b"x", 50 * MIB, [b"552"], id="no line end"),
        pytest.param(b"x", 200 * MIB, [b"552"], id="no line end at all"),
        pytest.param(b"\r", 32 * MIB, [b"550"], id="bare CR"),
        pytest.param(b"\0", 32 * MIB, [b"552"], id="NUL"),
    ],
)
def test_no_flood_costs_memory_or_time(listener, pattern, size, replies):
    """A session needs 1 MiB at most, and the event loop never stops for 50 ms."""
    with listener.connect() as connection:
        before = listener.forget_peak()
        reply = send(connection, flood(pattern, size))
        grown = listener.resident() - before
        assert reply[:3] in replies
    listener.stop()
    assert listener.figures["stall"] < STALL
    assert grown < 4 * A_SESSION  # the session, and new pages of the allocator for temporary copies


def many(
    listener: Listener, sessions: int, size: int, spread: Callable[[int], bytes]
) -> list[bytes]:
    """Send a mail of ``size`` bytes in each of many parallel sessions; return the replies."""
    connections = [listener.connect() for _ in range(sessions)]
    for connection in connections:
        connection.setblocking(False)
    sent = dict.fromkeys(connections, 0)
    replies = dict.fromkeys(connections, b"")
    with selectors.DefaultSelector() as ready:
        for connection in connections:
            ready.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        deadline = time.monotonic() + 300
        while ready.get_map() and time.monotonic() < deadline:
            for key, events in ready.select(1):
                assert isinstance(key.fileobj, socket.socket)
                connection = key.fileobj
                if events & selectors.EVENT_READ:
                    replies[connection] = connection.recv(512)
                    ready.unregister(connection)
                elif sent[connection] < size:
                    sent[connection] += connection.send(spread(min(65536, size - sent[connection])))
                else:
                    connection.send(b"\r\n.\r\n")
                    ready.modify(connection, selectors.EVENT_READ)
    for connection in connections:
        connection.close()
    return list(replies.values())


LINE = b"0123456789abcdefghijklmnopqrstuvwxyz 0123456789abcdefghijklmnopqrstuvwxyz \r\n"
TEXT = LINE * 900


@pytest.mark.parametrize(
    ("sessions", "mebibytes"),
    [
        pytest.param(40, 6, id="sample"),
        pytest.param(200, 24, id="full", marks=[pytest.mark.sweep, pytest.mark.timeout(600)]),
    ],
)
def test_many_large_mails_at_once(listener, sessions, mebibytes):
    """Many parallel large mails cost 1 MiB each at most, are accepted, and delay nothing."""
    before = listener.forget_peak()
    replies = many(
        listener, sessions, mebibytes * MIB // len(LINE) * len(LINE), lambda size: TEXT[:size]
    )
    grown = listener.resident() - before
    print(
        f"{sessions} sessions of {mebibytes} MiB: {grown / MIB:.1f} MiB, "
        f"{listener.resident() / MIB:.1f} MiB in all"
    )
    assert {reply[:3] for reply in replies} == {b"250"}
    assert grown < sessions * A_SESSION + 8 * MIB
    assert listener.resident() < RESIDENT
    listener.stop()
    print(listener.figures)
    assert listener.figures["mails"] == sessions
    assert listener.figures["stall"] < STALL


def test_nothing_grows_from_mail_to_mail(listener):
    """After a hundred large mails the process is as large as after the first few."""

    def deliver(number: int) -> None:
        for _ in range(number):
            with listener.connect() as connection:
                assert (
                    send(connection, flood(b"0123456789abcde\n".replace(b"e\n", b"\r\n"), 2 * MIB))[
                        :3
                    ]
                    == b"250"
                )

    deliver(10)
    before = listener.forget_peak()
    deliver(60)
    assert listener.resident() - before < 4 * MIB
    open_files = [path.readlink() for path in Path(f"/proc/{listener.process.pid}/fd").iterdir()]
    assert not [path for path in open_files if "incoming" in path.name]
