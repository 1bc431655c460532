"""A smarthost to talk to, and deliveries in a database: what the tests of the outbox ask for."""

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
    """The event loop of the daemon; for the talk with the smarthost also that of the standard
    library.
    """
    loops = {"uvloop": uvloop.new_event_loop}
    return (
        loops | {"asyncio": asyncio.new_event_loop} if item.path.name == "test_submit.py" else loops
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority whose certificates the tests trust when they say so."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority):
    """A certificate for this machine."""
    return authority.issue("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
async def sink():
    """A smarthost that takes everything, until the test says otherwise."""
    async with Sink() as running:
        yield running


@pytest.fixture
async def smarthost():
    """``smarthost(sink, username="desk", ...)`` is the way to a sink: in plain text unless told
    otherwise, with a second for each step.
    """
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
    """A database with all tables, open."""
    opened = await Database.open(clean_url, node="host-1")
    yield opened
    await opened.close()


@dataclass
class Post:
    """Puts mail into the outbox and looks at what became of it."""

    database: Database
    numbers: count = field(default_factory=lambda: count(1))

    async def put(
        self, *recipients, state="queued", due=START, raw=MAIL, return_address=None, **more
    ):
        """One mail with a delivery for each recipient; their ids."""
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
        """All deliveries, in order."""
        async with self.database.read() as connection:
            return (
                await connection.execute(sa.select(tables.delivery).order_by(tables.delivery.c.id))
            ).all()

    async def states(self):
        """Their states, in order."""
        return [row.state for row in await self.rows()]

    async def row(self, delivery):
        """One of them."""
        return next(row for row in await self.rows() if row.id == delivery)


@pytest.fixture
def post(database):
    """See :class:`Post`."""
    return Post(database)


@pytest.fixture
def outbox(database, clock, sink, smarthost):
    """``outbox()`` is one process's outbox, which delivers to the sink."""

    def make(*, signer=None, on=None, **server):
        return Outbox(on or database, smarthost(sink, **server), signer, clock)

    return make


@pytest.fixture
def told():
    """What is logged at the default level, as JSON lines."""
    written = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=written)
    yield written
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)


def openssl(*arguments, stdin=b""):
    """What openssl prints."""
    return subprocess.run(
        ["openssl", *arguments], input=stdin, check=True, capture_output=True
    ).stdout
