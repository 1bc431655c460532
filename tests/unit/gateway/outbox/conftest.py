"""Fixtures of the outbox tests: a smarthost, and deliveries in a database."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import count

import pytest
import sqlalchemy as sa
import uvloop

from gateway import log
from gateway.outbox.submit import Deadlines, Smarthost, SmarthostServer
from gateway.outbox.worker import Outbox
from gateway.store.engine import Database
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.certificates import Authority
from tests.servers.sink import Sink

MAIL = (
    b"From: Support <support@example.org>\r\n"
    b"To: ann@example.net\r\n"
    b"Subject: Re: A very private matter\r\n"
    b"Message-ID: <tg.one@example.org>\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"\r\n"
    b"Hello Ann,\r\n"
    b".\r\n"
    b"..two dots, and a line of its own with one\r\n"
)


def pytest_asyncio_loop_factories(item):
    """Use the daemon's event loop, and for test_submit also that of the standard library."""
    loops = {"uvloop": uvloop.new_event_loop}
    return (
        loops | {"asyncio": asyncio.new_event_loop} if item.path.name == "test_submit.py" else loops
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """Return a certificate authority that tests may trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority):
    """Return a certificate for this machine."""
    return authority.issue("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
async def sink():
    """Run a smarthost that accepts everything unless a test changes that."""
    async with Sink() as running:
        yield running


@pytest.fixture
async def smarthost():
    """Return ``smarthost(sink, username="desk", ...)``: plain text and 1 s deadlines by default."""
    made = []

    def make(to, *, deadlines=None, **server):
        plain = {"host": "127.0.0.1", "tls": "none", "hostname": "desk.example"}
        made.append(
            Smarthost(
                SmarthostServer(port=to.port, **(plain | server)),
                deadlines or Deadlines(10, 10, 10, 10),
            )
        )
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
async def database(clean_url):
    """Open a database with all tables."""
    opened = await Database.open(clean_url, node="host-1")
    yield opened
    await opened.close()


@dataclass
class Post:
    """Puts mail into the outbox and reads its deliveries."""

    database: Database
    numbers: count = field(default_factory=lambda: count(1))

    async def put(
        self, *recipients, state="queued", due=START, raw=MAIL, return_address=None, **more
    ):
        """Insert a mail with a delivery for each recipient; return their ids."""
        number = next(self.numbers)
        plain = {
            "id": number,
            "automatic": False,
            "subject": "A very private matter",
            "raw": raw,
            "created_at": START,
        }
        ids = [number * 100 + each for each in range(len(recipients))]
        rows = [
            {
                "id": each,
                "outgoing_id": number,
                "recipient": recipient,
                "domain": recipient.rpartition("@")[2],
                "state": state,
                "attempts": 0,
                "due_at": due,
                "created_at": START,
                "settled": True,
            }
            for each, recipient in zip(ids, recipients, strict=True)
        ]
        async with self.database.write() as connection:
            values = (
                plain
                | {"message_id": f"tg.{number}@example.org", "return_address": return_address}
                | more
            )
            await connection.execute(sa.insert(tables.outgoing).values(values))
            await connection.execute(sa.insert(tables.delivery), rows)
        return ids

    async def rows(self):
        """Return all deliveries in order."""
        async with self.database.read() as connection:
            return (
                await connection.execute(sa.select(tables.delivery).order_by(tables.delivery.c.id))
            ).all()

    async def states(self):
        """Return their states in order."""
        return [row.state for row in await self.rows()]

    async def row(self, delivery):
        """Return one delivery."""
        return next(row for row in await self.rows() if row.id == delivery)


@pytest.fixture
def post(database):
    """Return a ``Post`` on the database."""
    return Post(database)


@pytest.fixture
def outbox(database, clock, sink, smarthost):
    """Return a function that makes the outbox of a process, delivering to the sink."""

    def make(*, signer=None, on=None, **server):
        return Outbox(on or database, smarthost(sink, **server), signer, clock)

    return make


@pytest.fixture
def told():
    """Return the JSON log lines of the default level."""
    written = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=written)
    yield written
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)


def openssl(*arguments, stdin=b""):
    """Return the output of openssl."""
    return subprocess.run(
        ["openssl", *arguments], input=stdin, check=True, capture_output=True
    ).stdout
