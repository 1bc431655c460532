"""Tests that results in mail by SMTP count only from listed peers, through a whole daemon."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from config.load import load
from gateway.daemon.assemble import Installation, open_installation
from gateway.daemon.serve import Daemon
from gateway.store.engine import upgrade
from gateway.store.schema.tables import contact
from tests.unit.gateway.ingress.conftest import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

OURS = "mx.desk.example"


class Port:
    """The SMTP port of a daemon, and what became of the mail that it took."""

    def __init__(self, parts: Installation, address: str) -> None:
        self.parts = parts
        self.host, _, self.port = address.rpartition(":")

    async def send(self, name: str, peer: str, *fields: str) -> str:
        """Send a mail of ``name`` from a local address, have it filed; return its state."""
        streams = await asyncio.open_connection(self.host, int(self.port), local_addr=(peer, 0))
        client = await Client(*streams).hello()
        lines = [
            *fields,
            f"From: {name}@example.org",
            "To: support@localhost",
            f"Message-ID: <{name}-{len(fields)}-{peer}@example.org>",
            "Subject: Printer",
            "",
            "It does not print.",
            "",
        ]
        await client.begin("support@localhost", f"{name}@example.org")
        await client.send("\r\n".join(lines).encode() + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        client.close()
        (done,) = await (await self.parts.intake()).drain()
        return done.state

    async def proven(self) -> dict[str, bool]:
        """Return for each sender whether a mail was proven to be theirs."""
        async with self.parts.database.read() as connection:
            rows = await connection.execute(sa.select(contact.c.address, contact.c.proven))
            return {address.partition("@")[0]: known for address, known in rows}


@pytest.fixture
def open_port(built_database: Callable[..., str], tmp_path: Path) -> Callable[..., Any]:
    """Return a function that opens a daemon's port, with these ``[auth_results]``."""

    @asynccontextmanager
    async def opened(**given: list[str]) -> AsyncIterator[Port]:
        environ = {
            "TICKETGATE_DATABASE__URL": built_database(upgrade),
            "TICKETGATE_DATA__DIRECTORY": str(tmp_path),
            "TICKETGATE_SMTP__LISTEN": '["127.0.0.1:0"]',
            "TICKETGATE_HEALTH__LISTEN": "",
            "TICKETGATE_WORKERS__PROCESSES": "1",
            "TICKETGATE_LIMITS__EXEMPT": "[]",
            "TICKETGATE_AUTH_RESULTS__TRUSTED": json.dumps([OURS]),
        } | {f"TICKETGATE_AUTH_RESULTS__{key.upper()}": json.dumps(v) for key, v in given.items()}
        async with open_installation(load(None, environ).settings, {}) as parts:
            daemon = Daemon(parts)
            stop = asyncio.Event()
            services = await daemon.start(frozenset({"ingress"}))
            running = [asyncio.create_task(service.run(stop)) for service in services]
            yield Port(parts, daemon.listening[0].removeprefix("smtp "))
            stop.set()
            await asyncio.gather(*running)

    return opened


async def test_results_count_from_listed_peers_only(open_port):
    """A peer that is not listed can neither prove, nor condemn, nor flag a mail with our id."""
    passed, failed, none = (f"Authentication-Results: {OURS}; dmarc={each}" for each in WORDS)
    async with open_port(peers=["127.0.0.3"]) as port:
        assert await port.send("eve", "127.0.0.2", passed) == "done"
        assert await port.send("eve", "127.0.0.1", f'Authentication-Results: "{OURS}" 1', passed)
        assert await port.send("ann", "127.0.0.3", passed) == "done"
        assert await port.proven() == {"eve": False, "ann": True}
        assert await port.send("ann", "127.0.0.2", failed, "X-A: 1") == "done"
        assert await port.send("ann", "127.0.0.3", failed, "X-A: 1") == "quarantined"
        assert await port.send("ann", "127.0.0.2", none, "X-Spam-Flag: YES", "X-A: 1") == "done"
        assert await port.send("ann", "127.0.0.3", none, "X-Spam-Flag: YES", "X-A: 1") == (
            "quarantined"
        )


async def test_the_loopback_is_listed_by_default(open_port):
    """Without ``peers`` a mail server on this machine gives results; an empty list lists nobody."""
    passed = f"Authentication-Results: {OURS}; dmarc=pass"
    async with open_port() as port:
        await port.send("ann", "127.0.0.2", passed)
        assert await port.proven() == {"ann": True}
    async with open_port(peers=[]) as port:
        await port.send("eve", "127.0.0.1", passed)
        assert (await port.proven())["eve"] is False


WORDS = ("pass", "fail", "none")
