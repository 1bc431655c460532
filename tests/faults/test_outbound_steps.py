"""Tests of a kill at each commit of outgoing mail: only accepted, unrecorded mail is sent twice.

A fixed course of two tickets (receipt, answer, delay, scheduled mail, refusal, notification to the
agent) is repeated; each time the process dies at another transaction, directly before or after its
commit. Then two agendas do the same work at once (reliability.md section 3, logical edges and two
nodes).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.agenda.worker import Agenda
from gateway.clock import Clock
from gateway.compose.route import MailIdentity
from gateway.desk.correspondence import CorrespondenceDesk, MailDraft
from gateway.desk.people import PeopleDesk
from gateway.desk.tickets import NewTicket, TicketDesk
from gateway.desk.transaction import BUILT_IN
from gateway.desk.workflows import WorkflowDesk, WorkflowPlan
from gateway.outbox.submit import Smarthost, SmarthostServer
from gateway.outbox.worker import LEASE_SECONDS, Outbox
from gateway.store.engine import Database, upgrade
from gateway.store.schema import tables
from tests.conftest import START, Postgres, Templates
from tests.replay.office import Received, Sink, sinking

HOUSE = MailIdentity(ZoneInfo("Europe/Amsterdam"), "Example Desk", "https://desk.example.net")
RECEIPT = {"id": "receipt", "kind": "send_email", "template": "Ticket received"}
WAIT = {"id": "wait", "kind": "delay", "for": "1m"}
REMIND = {"id": "remind", "kind": "send_email", "template": "Ticket closed"}
LOST, AGENT = "bea@gone.example", "bob@desk.example"


class Killed(BaseException):
    """The process dies, with its last transaction ``committed`` or not, after ``unnoted`` mails."""

    def __init__(self, *, committed: bool, unnoted: int) -> None:
        self.committed, self.unnoted = committed, unnoted


class Mortal(Database):
    """A database whose process dies in its ``dies_at``-th transaction from now."""

    count = 0
    dies_at: int | None = None
    after = False
    sink: Sink | None = None
    noted = 0

    @asynccontextmanager
    async def write(
        self, *, ordered: bool = False, durable: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        """Write as usual, unless this is the last transaction."""
        last = self.count == self.dies_at
        self.count += 1
        taken = len(self.sink.taken) if self.sink is not None else 0
        death = Killed(committed=self.after, unnoted=taken - self.noted)
        self.noted = taken
        async with super().write(ordered=ordered, durable=durable) as connection:
            yield connection
            if last and not self.after:
                raise death
        if last and self.after:
            raise death


@dataclass
class Life:
    """A fixed course of events, step by step; a step that was killed is repeated."""

    database: Mortal
    sink: Sink
    clock: Clock = field(default_factory=lambda: Clock(START))
    deaths: list[Killed] = field(default_factory=list)

    async def live(self) -> None:
        """Do all steps."""
        desk, person = (
            TicketDesk(self.database, self.clock, HOUSE.zone),
            CorrespondenceDesk(self.database, self.clock, HOUSE),
        )
        await self._act(
            lambda: desk.create(NewTicket("Printer on fire", "Ann Example <ann@example.org>"))
        )
        await self._run()
        await self._act(lambda: person.reply(1, MailDraft("We look into it.")))
        await self._act(lambda: person.reply(1, MailDraft("Is it out?", at=self._later(hours=2))))
        await self._act(lambda: desk.move([1], "Waiting on us"))
        await self._act(
            lambda: desk.create(NewTicket("Letter lost", LOST, status="Waiting on contact"))
        )
        await self._act(lambda: desk.set(2, {"owner": AGENT}))
        await self._act(lambda: person.reply(2, MailDraft("Where to?")))
        for minutes in (0, 5, 24 * 60):
            self.clock.set(self._later(minutes=minutes))
            await self._run()

    def _later(self, **time: float) -> Any:
        return self.clock.now() + timedelta(**time)

    async def _act(self, step: Callable[[], Awaitable[Any]]) -> None:
        """Do a person's act; repeat it if it was neither confirmed nor done."""
        try:
            await step()
        except Killed as death:
            self.deaths.append(death)
            if not death.committed:
                await step()

    async def _run(self) -> None:
        """Do a daemon's work until nothing is due."""
        try:
            await self._pass()
        except Killed as death:
            self.deaths.append(death)
            self.clock.set(self._later(seconds=LEASE_SECONDS + 1))
            await self._pass()

    async def _pass(self) -> None:
        agenda = Agenda(self.database, self.clock, HOUSE)
        outbox = Outbox(
            self.database,
            Smarthost(SmarthostServer("127.0.0.1", self.sink.port, "none")),
            None,
            self.clock,
        )
        while [*await agenda.run_due(), *await outbox.run_due()]:
            pass

    def arrived(self) -> Counter[tuple[tuple[str, ...], str]]:
        """Return the mails at the server by recipient and subject, each content once."""
        return Counter(
            (each.to, str(each.mail["Subject"]))
            for each in {each.mail["Message-ID"]: each for each in self.sink.taken}.values()
        )


async def furnished(database: Database) -> None:
    """Store the workflows, and an agent who is told of failures."""
    clock = Clock(START)
    plans = [
        WorkflowPlan("Support", "New", [RECEIPT], {"enabled": True}),
        WorkflowPlan("Support", "Waiting on us", [WAIT, REMIND], {"enabled": True}),
    ]
    await WorkflowDesk(database, clock, HOUSE.zone).put(plans)
    people = PeopleDesk(database, clock, HOUSE.zone, BUILT_IN)
    await people.add_user("Bob Agent", [AGENT], "agent")
    await people.set_user(AGENT, notify={"new": False, "reply": False, "failure": True})


async def lived(
    url: str, dies_at: int | None = None, *, after: bool = False
) -> tuple[Life, list[Any], int]:
    """Play all steps on a fresh database; return the mails, final states, and transaction count."""
    with sinking() as sink:
        sink.refuse[LOST] = "550 5.1.1 no such user"
        database = await Mortal.open(url, node="test")
        try:
            await furnished(database)
            database.count, database.dies_at, database.after, database.sink = (
                0,
                dies_at,
                after,
                sink,
            )
            life = Life(database, sink)
            await life.live()
            return life, await ends(database), database.count
        finally:
            await database.close()


async def ends(database: Database) -> list[Any]:
    """Return the final states of deliveries, runs and tickets."""
    d, e, r, t = tables.delivery.c, tables.enrolment.c, tables.action_run.c, tables.ticket.c
    queries = (
        sa.select(d.recipient, d.state, d.settled),
        sa.select(e.ticket, e.state),
        sa.select(r.ticket, r.action, r.outcome),
        sa.select(t.number, t.status_id, t.flags),
    )
    async with database.read() as connection:
        return [sorted(map(repr, await connection.execute(query))) for query in queries]


def fresh(templates: Templates, folder: Path, name: str) -> str:
    """Return the address of an empty installation on SQLite."""
    return templates.sqlite(upgrade, folder / f"{name}.db")


async def died_everywhere(templates: Templates, folder: Path, step: int) -> None:
    """Die at every ``step``-th transaction."""
    whole, ended, count = await lived(fresh(templates, folder, "whole"))
    assert Counter(to for (to, _), copies in whole.arrived().items() for _ in range(copies)) == {
        ("ann@example.org",): 4,
        (AGENT,): 1,
    }
    doubled = 0
    for after in (False, True):
        for number in range(0, count, step):
            life, found, _ = await lived(
                fresh(templates, folder, f"{number}{after}"), number, after=after
            )
            where = f"dead {'after' if after else 'before'} commit {number} of {count}"
            assert len(life.deaths) == 1, where
            assert (life.arrived(), found) == (whole.arrived(), ended), where
            twice = len(life.sink.taken) - len(
                {each.mail["Message-ID"] for each in life.sink.taken}
            )
            assert twice == (life.deaths[0].unnoted if not after else 0), where
            assert (
                len({(each.mail["Message-ID"], each.raw) for each in life.sink.taken})
                == len(life.sink.taken) - twice
            ), where
            doubled += twice
    print(
        f"{2 * len(range(0, count, step))} deaths at {count} transactions: none lost, "
        f"{doubled} doubled"
    )


async def test_a_kill_at_a_commit_loses_no_outgoing_mail(
    templates: Templates, tmp_path: Path
) -> None:
    """After a kill at each third transaction the same mails arrive; doubled only if unrecorded."""
    await died_everywhere(templates, tmp_path, 3)


@pytest.mark.sweep
async def test_a_kill_at_every_commit_loses_no_outgoing_mail(
    templates: Templates, tmp_path: Path
) -> None:
    """The same at each transaction."""
    await died_everywhere(templates, tmp_path, 1)


async def test_cancelled_while_the_server_answers(templates: Templates, tmp_path: Path) -> None:
    """After a cancellation during the server's reply the same bytes are sent once more."""
    database = await Database.open(fresh(templates, tmp_path, "cancelled"), node="first")
    loop, clock = asyncio.get_running_loop(), Clock(START)
    try:
        with sinking() as sink:
            ended = threading.Event()

            def cancelled() -> None:
                """Return once the outbox has ended, so that the server's reply comes too late."""
                loop.call_soon_threadsafe(task.cancel)
                assert ended.wait(30)

            sink.taken = Cancelling(cancelled)
            await TicketDesk(database, clock, HOUSE.zone).create(
                NewTicket("Printer on fire", "ann@example.org")
            )
            await CorrespondenceDesk(database, clock, HOUSE).reply(1, MailDraft("We look into it."))
            smarthost = Smarthost(SmarthostServer("127.0.0.1", sink.port, "none"))
            task = asyncio.ensure_future(Outbox(database, smarthost, None, clock).run_due())
            task.add_done_callback(lambda _: ended.set())
            with pytest.raises(asyncio.CancelledError):
                await task
            clock.set(START + timedelta(seconds=LEASE_SECONDS + 1))
            done = [await Outbox(database, smarthost, None, clock).run_due() for _ in range(2)]
            assert [[each.state for each in some] for some in done] == [["sent"], []]
            first, second = sink.taken
            assert first == second
    finally:
        await database.close()


class Cancelling(list[Received]):
    """A list of mails at the server that calls back after the first one, before its 250."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = happens

    def append(self, mail: Received) -> None:
        """Add a mail."""
        super().append(mail)
        if len(self) == 1:
            self.happens()


async def test_two_daemons_execute_due_runs_once(postgres: Postgres, templates: Templates) -> None:
    """Two agendas and outboxes execute two hundred due runs: each mail arrives once."""
    url = postgres.url(templates.postgresql(upgrade, postgres))
    clock = Clock(START)
    databases = [await Database.open(url, node=f"node-{number}") for number in (1, 2)]
    try:
        with sinking() as sink:
            await furnished(databases[0])
            desk = TicketDesk(databases[0], clock, HOUSE.zone)
            for number in range(200):
                await desk.create(NewTicket("Printer on fire", f"ann@c{number}.example"))
            agendas = [Agenda(each, clock, HOUSE) for each in databases]
            outboxes = [
                Outbox(
                    each, Smarthost(SmarthostServer("127.0.0.1", sink.port, "none")), None, clock
                )
                for each in databases
            ]
            done = [
                done
                for each in await asyncio.gather(*map(work, agendas))
                for done in each
                if done.what == "action"
            ]
            assert Counter(each.ticket for each in done) == Counter(range(1, 201))
            await asyncio.gather(*map(work, outboxes))
            assert Counter(each.to for each in sink.taken) == Counter(
                {(f"ann@c{number}.example",): 1 for number in range(200)}
            )
            assert [len(each) for each in await ends(databases[0])] == [200] * 4
    finally:
        for each in databases:
            await each.close()


async def work(loop: Agenda | Outbox) -> list[Any]:
    """Work until nothing is due."""
    done: list[Any] = []
    while found := await loop.run_due():
        done += found
    return done
