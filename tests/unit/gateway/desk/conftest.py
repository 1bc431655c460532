"""Fixtures of the desk on each database: a clock that tests set, and mail by the real intake."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.model.message import Envelope
from gateway.clock import Clock
from gateway.desk import views
from gateway.desk.channels import ChannelDesk
from gateway.desk.people import PeopleDesk
from gateway.desk.pipelines import PipelineDesk
from gateway.desk.tickets import TicketDesk
from gateway.desk.transaction import BUILT_IN
from gateway.ingress.accept import AcceptedMail
from gateway.intake.batch import Batch, Item, Rules
from gateway.reading import parse
from gateway.store.engine import Database
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Finished, Spool

UTC = ZoneInfo("UTC")


@dataclass
class Office:
    """An installation in a test: people act at desks, mail arrives, and results are read."""

    database: Database
    clock: Clock
    zone: ZoneInfo = UTC

    @property
    def desk(self) -> TicketDesk:
        """Return the desk of the built-in user."""
        return self.desk_of(BUILT_IN)

    def desk_of(self, actor: str) -> TicketDesk:
        """Return the desk of a user."""
        return TicketDesk(self.database, self.clock, self.zone, actor)

    @property
    def pipelines(self) -> PipelineDesk:
        """Return the pipeline desk of the built-in administrator."""
        return PipelineDesk(self.database, self.clock, self.zone)

    @property
    def channels(self) -> ChannelDesk:
        """Return the channel desk of the built-in administrator."""
        return ChannelDesk(self.database, self.clock, self.zone)

    @property
    def people(self) -> PeopleDesk:
        """Return the people desk of the built-in administrator."""
        return PeopleDesk(self.database, self.clock, self.zone)

    async def show(self, number: int) -> dict[str, Any]:
        """Return `ticket show` without HTML."""
        async with self.database.read() as connection:
            ticket = await views.resolve(connection, number)
            return await views.show(
                connection, ticket, await views.messages_of(connection, ticket), {}
            )

    async def list(self, **how: Any) -> list[dict[str, Any]]:
        """Return `ticket list`."""
        async with self.database.read() as connection:
            return await views.listing(connection, **how)

    async def mail(
        self,
        sender: str,
        subject: str = "Printer",
        *,
        key: str,
        to: str = "support@localhost",
        cc: str = "",
        answers: str = "",
        references: str = "",
    ) -> Finished:
        """Receive a mail; ``key``, ``answers`` and ``references`` become its Message-ID headers."""
        written = EmailMessage()
        written["From"], written["To"], written["Subject"] = sender, to, subject
        written["Message-ID"] = f"<{key}@mail.example>"
        written["Date"] = self.clock.now()
        if answers:
            written["In-Reply-To"] = f"<{answers}@mail.example>"
        if references:
            written["References"] = " ".join(
                f"<{each}@mail.example>" for each in references.split()
            )
        if cc:
            written["Cc"] = cc
        written.set_content(f"The text of {key}.")
        raw = written.as_bytes()
        spool = Spool(self.database, open_blobs("database:"))
        envelope = Envelope("bounce@mail.example", (to,), "smtp", self.clock.now())
        (mail_id,) = await spool.put(
            [AcceptedMail(raw, len(raw), hashlib.sha256(raw).hexdigest(), envelope)]
        )
        (claimed,) = await spool.claim("test", 1, 60.0, self.clock.now(), [mail_id])
        item = Item(mail_id, claimed.envelope, parse.read(raw), False, self.clock.now())
        async with self.database.write(ordered=True) as connection:
            (row,) = await Batch(connection, Rules(self.zone), [item], self.clock.now()).run()
        return row


@pytest.fixture
async def office(clean_url: str, clock: Clock) -> AsyncIterator[Office]:
    """Return a fresh installation, on each database in turn."""
    database = await Database.open(clean_url, node="test")
    yield Office(database, clock)
    await database.close()
