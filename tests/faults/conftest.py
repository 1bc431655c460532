"""Fixtures of a daemon process that tests kill or disturb, and of clients with their own logs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import pytest

from tests.conftest import Postgres, open_port, require_program
from tests.faults.witness import Stored, rows, stored, until

PROGRAM = Path(sys.executable).with_name("ticketgate")
READY = b"Ctrl-C"


class Lines:
    """The lines of a stream as they arrive, for threads that wait for one."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read ``stream`` to its end in a thread."""
        self.lines: list[bytes] = []
        self.ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait_for(
        self, wanted: Callable[[bytes], bool], timeout: float = 60.0, *, since: int = 0
    ) -> bytes:
        """Return the first wanted line from ``since`` on; RuntimeError if none comes in time."""
        found: list[bytes] = []

        def there() -> bool:
            found.extend(line for line in self.lines[since:] if wanted(line))
            return bool(found) or self.ended

        with self._changed:
            self._changed.wait_for(there, timeout)
            if not found:
                raise RuntimeError(b"".join(self.lines[-30:]).decode(errors="replace"))
            return found[0]

    def close(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(30)


@dataclass(slots=True)
class Daemon:
    """A ``ticketgate serve`` process with a folder and a port of its own, restartable."""

    folder: Path
    port: int
    environ: dict[str, str]
    roles: Sequence[str] = ()
    wrapper: Sequence[str] = ()  # a command prefix that runs it
    process: subprocess.Popen[bytes] | None = None
    out: Lines | None = None
    log: Lines | None = None
    before: list[bytes] = field(default_factory=list)  # the logs of earlier processes

    def start(self) -> None:
        """Start it and return when it accepts mail; RuntimeError with its log if it never does."""
        self.launch()
        assert self.out is not None
        assert self.log is not None
        try:
            self.out.wait_for(lambda line: line.startswith(READY))
        except RuntimeError:
            if (
                self.process is not None and self.process.poll() is None
            ):  # it hangs: print its stack
                self.process.send_signal(signal.SIGABRT)
                self.log.close()
            code = self.process.wait(30) if self.process is not None else None
            raise RuntimeError(
                f"ended with {code}: {self.said().decode(errors='replace')[-3000:]}"
            ) from None

    def launch(self) -> None:
        """Start it and return at once."""
        roles = [word for role in self.roles for word in ("--role", role)]
        self.process = subprocess.Popen(
            [*self.wrapper, PROGRAM, "serve", *roles],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out, self.log = Lines(self.process.stdout), Lines(self.process.stderr)

    def kill(self) -> None:
        """Send SIGKILL to it and everything it started."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.ended()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code after the drain."""
        self.signal()
        return self.ended()

    def signal(self) -> None:
        """Send SIGTERM without waiting."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def ended(self, timeout: float = 90.0) -> int:
        """Wait for its end and return the exit code."""
        assert self.process is not None
        code = self.process.wait(timeout)
        for lines, stream in ((self.out, self.process.stdout), (self.log, self.process.stderr)):
            assert lines is not None
            assert stream is not None
            lines.close()
            stream.close()
        assert self.log is not None
        self.before += self.log.lines
        self.process = self.out = self.log = None
        return code

    def said(self) -> bytes:
        """Return everything it ever wrote to stderr."""
        return b"".join([*self.before, *(self.log.lines if self.log is not None else [])])

    def wait_for(self, event: str, *, since: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for the first log line with this event and fields, from ``since`` on; return it."""

        def wanted(line: bytes) -> bool:
            found = json.loads(line) if line.startswith(b"{") else {}
            return found.get("event") == event and all(
                found.get(name) == value for name, value in fields.items()
            )

        assert self.log is not None
        found: dict[str, Any] = json.loads(self.log.wait_for(wanted, since=since))
        return found

    def run(
        self, *arguments: str, stdin: bytes | None = None, **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the same installation."""
        environment = self.environ | environ
        return subprocess.run(
            [PROGRAM, *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )

    @property
    def url(self) -> str:
        """Return the address of its database."""
        return self.environ.get(
            "TICKETGATE_DATABASE__URL", f"sqlite:///{self.folder / 'var/ticketgate.db'}"
        )

    def mails(self) -> list[Stored]:
        """Return every mail in its spool."""
        return stored(self.url, self.folder / "var/blobs")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on its database."""
        return rows(self.url, statement)

    def leftovers(self) -> list[str]:
        """Return files of mail being received, and blobs without a final name."""
        return sorted(
            str(path)
            for pattern in ("incoming/*", "blobs/parts/*")
            for path in (self.folder / "var").glob(pattern)
        )


@pytest.fixture
def make_daemon(tmp_path: Path, free_ports: Callable[[], int]) -> Iterator[Callable[..., Daemon]]:
    """Return a function that makes a daemon on SQLite, not started, with these settings."""
    made: list[Daemon] = []

    def make(*roles: str, **settings: str) -> Daemon:
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
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("TICKETGATE_")
        }
        daemon = Daemon(
            folder,
            port,
            environ
            | {"PYTHONFAULTHANDLER": "1"}
            | {f"TICKETGATE_{name}": value for name, value in own.items()},
            roles,
        )
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        if daemon.process is not None:
            daemon.kill()


@dataclass(slots=True)
class Strace:
    """An attached strace that logs system calls of a process, lets them fail, or kills in them.

    Counters (``when``) are per thread and begin at the moment of attaching. Processes that the
    daemon started earlier are not traced.
    """

    traced: subprocess.Popen[bytes]
    output: Path
    injections: Sequence[str]
    calls: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    said: Lines | None = None

    def __enter__(self) -> Self:
        options = [
            "-f",
            "-p",
            str(self.traced.pid),
            "-o",
            str(self.output),
            "-e",
            f"trace={','.join(self.calls)}",
        ]
        for each in self.injections:
            options += ["-e", f"inject={each}"]
        self.process = subprocess.Popen(
            [require_program("strace"), *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self.process.stderr is not None
        self.said = Lines(self.process.stderr)
        self.said.wait_for(lambda line: b"attached" in line)
        return self

    def __exit__(self, *_error: object) -> None:
        assert self.process is not None
        assert self.said is not None
        assert self.process.stderr is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        until(self._left)
        self.said.close()
        self.process.stderr.close()

    def _left(self) -> bool:
        """Return whether strace has ended; reap a released process, for which strace waits."""
        assert self.process is not None
        self.traced.poll()
        return self.process.poll() is not None

    def injected(self) -> int:
        """Return how many calls were tampered with."""
        return sum(
            "(INJECTED" in line for line in self.output.read_text(errors="replace").splitlines()
        )

    def killed(self) -> bool:
        """Return whether a process was killed while it was traced."""
        return "+++ killed by SIGKILL" in self.output.read_text(errors="replace")

    def seen(self) -> list[tuple[str, str]]:
        """Return thread and name of each call, in order."""
        found = [
            line.split(None, 1) for line in self.output.read_text(errors="replace").splitlines()
        ]
        return [
            (thread, call.split("(")[0])
            for thread, call in found
            if "(" in call and not call.startswith(("<", "+", "-"))
        ]


@pytest.fixture
def disturb(tmp_path: Path) -> Callable[..., Strace]:
    """Attach strace with injections like "fdatasync:error=EIO:when=1" for the block, or skip."""
    require_program("strace")
    allowed = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() != 0 and allowed.exists() and allowed.read_text().strip() != "0":
        pytest.skip(
            "this machine does not let one process trace another (kernel.yama.ptrace_scope)"
        )
    numbers = iter(range(100_000))

    def attach(daemon: Daemon, *injections: str, calls: Sequence[str] = ()) -> Strace:
        assert daemon.process is not None
        named = calls or sorted({each.split(":")[0] for each in injections})
        return Strace(daemon.process, tmp_path / f"strace{next(numbers)}", injections, named)

    return attach


@contextmanager
def own_server() -> Iterator[Postgres]:
    """Return a PostgreSQL server, not started and without fsync, that a test may kill."""
    binaries = require_program("initdb").resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="ticketgate-postgres-"))
    as_other = []
    if os.geteuid() == 0:  # PostgreSQL refuses to be run by root
        shutil.chown(folder, "postgres", "postgres")
        as_other = ["runuser", "-u", "postgres", "--"]
    server = Postgres(folder=folder, binaries=binaries, port=open_port())
    initdb: list[str | Path] = [
        *as_other,
        binaries / "initdb",
        "-D",
        folder / "data",
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    settings = {
        "port": server.port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
    }
    with (folder / "data/postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    try:
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):
            server.control("-m", "immediate", "-w", "-s", "stop")
        shutil.rmtree(folder)


def start_server(server: Postgres) -> None:
    """Start it and wait until it answers."""
    server.control("-w", "-s", "-t", "60", "-l", str(server.folder / "log"), "start")


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Return a running :func:`own_server`."""
    with own_server() as server:
        start_server(server)
        yield server


@dataclass(slots=True)
class Barrage:
    """Clients that send numbered mails and retry until each has its 250 (``acknowledged``)."""

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
        """Start sending, until every mail is acknowledged or :meth:`end` is called."""
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int, timeout: float = 150.0) -> None:
        """Return once this many mails were acknowledged; AssertionError if that takes too long."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= count, timeout), (
                f"{len(self.acknowledged)} of {count}"
            )

    def end(self) -> None:
        """Stop all clients and wait for them."""
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
            with (
                socket.create_connection(("127.0.0.1", self.port), 10) as connection,
                connection.makefile("rb") as replies,
            ):
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
    """Return a function that makes clients; running ones are ended after the test."""
    made: list[Barrage] = []

    def make(port: int, mail: Callable[[int], bytes], total: int) -> Barrage:
        made.append(Barrage(port, mail, total))
        return made[-1]

    yield make
    for each in made:
        each.end()
