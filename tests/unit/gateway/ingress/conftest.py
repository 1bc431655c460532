"""Fixtures of the listeners: a server with a spool of files, a client that sends exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from gateway import log
from gateway.ingress.accept import Acceptor
from gateway.ingress.connection_limits import Limits
from gateway.ingress.smtp.addresses import Addresses
from gateway.ingress.smtp.protocol import SmtpServer
from gateway.ingress.smtp.server import ListenerSettings
from gateway.store.engine import Database, upgrade
from tests.unit.gateway.ingress.reading import World
from tests.unit.gateway.ingress.serve import FileSpool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from gateway.clock import Clock
    from gateway.ingress.accept import AcceptedMail

CHANNELS = ("support@desk.example", "sales@desk.example")
PLENTY = 1 << 40
DEFAULT = Limits()


def pytest_asyncio_loop_factories(item):
    """Run on uvloop as the daemon does; TLS and IMAP connections on asyncio's loop too."""
    loops = {"uvloop": uvloop.new_event_loop}
    return (
        loops | {"asyncio": asyncio.new_event_loop}
        if item.path.name in ("test_tls.py", "test_connection.py")
        else loops
    )


class Spool(FileSpool):
    """A spool of files whose commits a test can block (``gate``) or fail (``errors``, ``bad``)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, sync=False)
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.errors: list[BaseException] = []
        self.bad: dict[bytes, BaseException] = {}
        self.calls = 0
        self.mails: list[AcceptedMail] = []

    async def put(self, mails: Sequence[AcceptedMail]) -> list[int]:
        self.calls += 1
        self.entered.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        for mail in mails:
            for word, error in self.bad.items():
                if isinstance(mail.raw, bytes) and word in mail.raw:
                    raise error
        ids = await super().put(mails)
        self.mails.extend(mails)
        return ids

    def stored(self) -> list[bytes]:
        """Return the stored mails without our Received field."""
        paths = sorted(self.folder.glob("*.eml"), key=lambda path: int(path.stem))
        return [without_trace(path.read_bytes()) for path in paths]


def without_trace(raw: bytes) -> bytes:
    """Return a stored mail without the three-line field that we put before it."""
    assert raw.startswith(b"Received: from ")
    return raw.split(b"\r\n", 3)[3]


class Client:
    """A connection to a listener; replies are text without their last line end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        """Return the next reply, all its lines; "" when the server has closed."""
        lines: list[bytes] = []
        while True:
            try:
                line = await asyncio.wait_for(self.reader.readline(), 20)
            except ConnectionError:
                line = b""
            lines.append(line)
            if not line or line[3:4] != b"-":
                return b"".join(lines).decode().rstrip("\r\n")

    async def say(self, line: str | bytes) -> str:
        """Send a line and return the reply."""
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def send(self, data: bytes) -> None:
        """Send bytes unchanged."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def hello(self) -> Client:
        """Read the greeting and send EHLO."""
        assert (await self.reply()).startswith("220 ")
        assert (await self.say("EHLO client.example")).startswith("250-")
        return self

    async def begin(
        self, recipient: str = "support@desk.example", sender: str = "a@client.example"
    ) -> Client:
        """Send the commands up to the reply 354."""
        assert (await self.say(f"MAIL FROM:<{sender}>")).startswith("250 ")
        assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250 ")
        assert (await self.say("DATA")).startswith("354 ")
        return self

    async def mail(self, data: bytes) -> str:
        """Deliver one mail, given as on the wire without its end; return the last reply."""
        await self.begin()
        await self.send(data + b".\r\n")
        return await self.reply()

    async def closed(self) -> bool:
        """Wait until the server closes; discard anything else it sends."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), 20)
        return True

    def close(self) -> None:
        """Close the connection without QUIT."""
        self.writer.transport.abort()


async def until(condition: Callable[[], object]) -> None:
    """Run the event loop until the condition holds; the time limit is the test's."""
    # no event tells when the other side of a socket has read
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


@dataclass
class Desk:
    """An open listener with its spool and settings."""

    server: SmtpServer
    service: ListenerSettings
    spool: Spool
    accept: Acceptor
    free: list[int]
    pauses: list[float]
    wakes: list[None]
    clients: list[Client] = field(default_factory=list)

    async def connect(self, address: str | None = None, **options: Any) -> Client:
        """Return a new connection, before the greeting."""
        address = address or self.server.addresses[0]
        if address.startswith("unix:"):
            streams = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            streams = await asyncio.open_connection(host.strip("[]"), int(port), **options)
        self.clients.append(Client(*streams))
        return self.clients[-1]

    async def hello(self) -> Client:
        """Return a new connection, after EHLO."""
        return await (await self.connect()).hello()


@pytest.fixture
async def open_desk(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[..., Awaitable[Desk]]]:
    """Yield a function that opens a listener on a free port with the given settings."""
    desks: list[Desk] = []

    async def opened(
        *,
        limits: Limits = DEFAULT,
        server: type[SmtpServer] = SmtpServer,
        listen: Sequence[str] = ("127.0.0.1:0",),
        **given: Any,
    ) -> Desk:
        folder = tmp_path / f"desk{len(desks)}"
        (folder / "spool").mkdir(parents=True)
        (folder / "incoming").mkdir()
        spool, free, pauses, wakes = Spool(folder / "spool"), [PLENTY], [], []
        accept = Acceptor(
            spool,
            limits,
            folder / "incoming",
            wake=lambda: wakes.append(None),
            free_space=lambda _: free[0],
        )

        async def pause(seconds: float) -> None:
            pauses.append(seconds)

        given = {
            "directory": Addresses(CHANNELS),
            "hostname": "mx.desk.example",
            "pause": pause,
        } | given
        service = ListenerSettings(accept=accept, clock=clock, limits=limits, **given)
        listener = server(listen, service)
        await listener.start()
        desks.append(Desk(listener, service, spool, accept, free, pauses, wakes))
        return desks[-1]

    yield opened
    for desk in desks:
        desk.spool.gate.set()
        for client in desk.clients:
            client.close()
        await desk.server.stop(5)
        await desk.accept.drain()
        assert not list(desk.accept.directory.iterdir()), "a file of a reception was left behind"


@pytest.fixture
async def desk(open_desk: Callable[..., Awaitable[Desk]]) -> Desk:
    """Return a listener with the default limits."""
    return await open_desk()


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    def replace_by(self, other: Pair) -> None:
        """Copy another pair into these files, as a renewal does."""
        for old, new in ((self.certificate, other.certificate), (self.key, other.key)):
            fresh = old.with_suffix(".new")
            fresh.write_bytes(new.read_bytes())
            fresh.replace(old)


@pytest.fixture(scope="session")
def make_pair(
    require: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pair]:
    """Return a function that makes a new self-signed certificate for a name."""
    openssl = require("openssl")

    def make(name: str) -> Pair:
        folder = tmp_path_factory.mktemp("certificate")
        pair = Pair(folder / "cert.pem", folder / "key.pem")
        command = [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        command += ["-subj", f"/CN={name}", "-keyout", pair.key, "-out", pair.certificate]
        subprocess.run(command, check=True, capture_output=True)
        return pair

    return make


@pytest.fixture
def printed_log():
    """Capture the log of the test at the default level."""
    written = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=written)
    yield written
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)


@pytest.fixture
async def world(built_database: Callable[..., str], tmp_path: Path) -> AsyncIterator[World]:
    """Return a mailbox reader with a fresh store, on each database in turn."""
    database = await Database.open(built_database(upgrade), node="test-1")
    yield World(database, tmp_path)
    await database.close()
