"""``make bench-workflows``: cost of finding due work, and of mail while many tickets are moved.

``workflows.py [--url FEW MANY] [--waiting N] [--moved N]``. The first half finds due
work among 100,000 waiting runs and among 100, in fresh databases (``--url``: two empty ones of
PostgreSQL; default SQLite): medians in milliseconds and their ratio. The second half is a daemon
on SQLite with a smarthost: one command moves 1,000 tickets into a status that mails and waits,
while a mail arrives every 100 ms. Figures are printed, nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from load import Job, deliver, prepared
from reference import free_port

from gateway import log
from gateway.agenda.worker import BATCH, Agenda
from gateway.clock import Clock
from gateway.compose.route import MailIdentity
from gateway.desk.tickets import TicketDesk
from gateway.desk.workflows import WorkflowDesk, WorkflowPlan
from gateway.store.engine import Database, migrate
from gateway.store.queues.outbox import Deliveries
from gateway.store.schema import tables
from gateway.store.setup import workflows
from gateway.store.sql.bulk import write_rows
from gateway.store.tickets import pending_outgoing
from tests.replay.office import sinking

PROGRAM = Path(sys.executable).with_name("ticketgate")
BEGIN = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUSE = MailIdentity(ZoneInfo("Europe/Amsterdam"), "Example Desk", "https://desk.example.net")
MAIL = {"id": "mail", "kind": "send_email", "template": "Ticket closed"}
WAIT = {"id": "wait", "kind": "delay", "for": "30d"}
ROUNDS = 5
LETTER = (
    "From: A <a%d@c%d.example>\nTo: support@localhost\nSubject: Question %d\nMessage-ID: "
    "<%s-%d@bench.example>\n\nHello,\n\nthis is question %d.\n"
)


# ---- what is due


@asynccontextmanager
async def filled(url: str, waiting: int) -> AsyncIterator[Database]:
    """Create a database with tickets in delays, one a minute, and mails to retry."""
    await migrate(url)
    database = await Database.open(url, node="bench")
    try:
        await WorkflowDesk(database, Clock(BEGIN), HOUSE.zone).put(
            [WorkflowPlan("Support", "New", [WAIT, MAIL], {"enabled": True})]
        )
        async with database.read() as connection:
            place = (
                await connection.execute(tables.workflow.select().where(tables.workflow.c.enabled))
            ).one()
        numbers = range(1, waiting + 1)
        contacts = [
            {
                "id": n,
                "address": f"a@c{n}.example",
                "name": "A",
                "created_at": BEGIN,
                "proven": True,
            }
            | OFF
            for n in numbers
        ]
        tickets = [
            {
                "number": n,
                "subject": f"Matter {n}",
                "pipeline_id": place.pipeline_id,
                "status_id": place.status_id,
                "source": "manual",
            }
            | {
                "requester_id": n,
                "subject_key": f"matter {n}",
                "created_at": BEGIN,
                "reopened_count": 0,
                "times_contacted": 0,
            }
            | {"flags": [], "tags": [], "worked": False, "titled": False}
            for n in numbers
        ]
        runs = [
            {
                "id": n,
                "workflow_id": place.id,
                "ticket": n,
                "state": "ACTIVE",
                "place": "wait",
                "entered_at": BEGIN,
                "due_at": minute(n),
            }
            | {"started_at": BEGIN, "attempts": 0, "chain": [], "cause": {}}
            for n in numbers
        ]
        mails = [
            {
                "id": n,
                "ticket": n,
                "automatic": True,
                "subject": "Re",
                "raw": b"x" * 1000,
                "created_at": BEGIN - DAY,
            }
            for n in numbers
        ]
        attempts = [
            {
                "id": n,
                "outgoing_id": n,
                "recipient": f"a@c{n}.example",
                "domain": f"c{n}.example",
                "state": "deferred",
                "attempts": 1,
            }
            | {"due_at": minute(n), "created_at": BEGIN, "settled": True}
            for n in numbers
        ]
        work = [
            (tables.contact, contacts),
            (tables.ticket, tickets),
            (tables.enrolment, runs),
            (tables.outgoing, mails),
        ]
        async with database.write() as connection:
            await write_rows(connection, [*work, (tables.delivery, attempts)])
            names = ("contact", "ticket", "enrolment", "outgoing", "delivery")
            await connection.execute(
                tables.counter.update()
                .where(tables.counter.c.name.in_(names))
                .values(value=waiting)
            )
            await connection.exec_driver_sql("ANALYZE")
        yield database
    finally:
        await database.close()


OFF = {"blocked": False, "automated": False, "marketing_ok": False}


def minute(number: int) -> datetime:
    """Return when a wait ends: a batch a minute."""
    return BEGIN + timedelta(minutes=1 + (number - 1) // BATCH)


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the duration in milliseconds."""
    began = time.perf_counter()
    await work()
    return 1000 * (time.perf_counter() - began)


async def looked(url: str, waiting: int) -> dict[str, float]:
    """Return the median milliseconds of each query."""
    async with filled(url, waiting) as database:
        clock = Clock(BEGIN)
        agenda, deliveries = Agenda(database, clock, HOUSE), Deliveries(database)
        times: dict[str, list[float]] = {}

        async def note(name: str, work: Callable[[Any], Awaitable[Any]]) -> None:
            async with database.read() as connection:
                times.setdefault(name, []).append(await timed(lambda: work(connection)))

        for number in range(1, min(ROUNDS, waiting // BATCH) + 1):
            clock.set(BEGIN + timedelta(minutes=number))
            await note("due runs", lambda connection: workflows.due(connection, clock.now(), BATCH))
            await note("next due run", workflows.next_due)
            await note(
                "automatic mails of the hour",
                lambda connection: pending_outgoing.automatic_since(
                    connection, clock.now() - timedelta(hours=1)
                ),
            )
            times.setdefault(f"turn of {BATCH} runs", []).append(await timed(agenda.run_due))
            times.setdefault("look with nothing due", []).append(await timed(agenda.run_due))
            times.setdefault("claim of 50 deliveries", []).append(
                await timed(lambda: deliveries.claim("bench", 50, 60.0, clock.now()))
            )
            times.setdefault("next due delivery", []).append(
                await timed(lambda: deliveries.earliest_due(clock.now()))
            )
        return {name: statistics.median(each) for name, each in times.items()}


async def due_work(urls: tuple[str, str], waiting: int) -> None:
    """Measure finding due work among few and many rows."""
    began = time.monotonic()
    few, many = await looked(urls[0], 100), await looked(urls[1], waiting)
    print(f"filled and measured in {time.monotonic() - began:.0f} s")
    for name, value in many.items():
        print(
            f"{name}: {few[name]:.2f} ms with 100 waiting, {value:.2f} ms with {waiting}; "
            f"ratio {value / few[name]:.2f}"
        )


# ---- many tickets at once


@contextmanager
def serving(folder: Path, smarthost: int, moved: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Run a daemon on SQLite with tickets from mail; yield its port and settings."""
    port = free_port()
    environ = os.environ | {
        "TICKETGATE_DATA__DIRECTORY": str(folder),
        "TICKETGATE_SMTP__LISTEN": json.dumps([f"127.0.0.1:{port}"]),
        "TICKETGATE_WEB__LISTEN": "",
        "TICKETGATE_HEALTH__LISTEN": "",
        "TICKETGATE_LOG__LEVEL": "warning",
        "TICKETGATE_OUTBOUND__HOST": "127.0.0.1",
        "TICKETGATE_OUTBOUND__PORT": str(smarthost),
        "TICKETGATE_OUTBOUND__TLS": "none",
    }
    mails = folder / "mails"
    mails.mkdir()
    for number in range(moved):
        (mails / f"{number:06}.eml").write_text(
            LETTER % (number, number, number, "old", number, number)
        )
    subprocess.run([PROGRAM, "replay", mails], env=environ, check=True, stdout=subprocess.DEVNULL)
    with (folder / "log").open("wb") as file:
        process = subprocess.Popen(
            [PROGRAM, "serve"], env=environ, stdout=subprocess.PIPE, stderr=file
        )
    try:
        assert process.stdout is not None
        while line := process.stdout.readline():
            if line.startswith(b"Ctrl-C"):
                break
        yield port, environ
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


class Clients:
    """Sends a mail every 100 ms and records when its ticket was committed."""

    def __init__(self, port: int, path: Path) -> None:
        self.port, self.path = port, path
        self.sent: dict[str, float] = {}
        self.accepted: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.over = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._send, self._look)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        for each in self._threads:
            each.join()

    def _send(self) -> None:
        number, senders = 0, []
        began = time.monotonic()
        while not self.over.wait(max(0.0, began + number / 10 - time.monotonic())):
            senders.append(threading.Thread(target=self._one, args=(number,)))
            senders[-1].start()
            number += 1
        for each in senders:
            each.join()

    def _one(self, number: int) -> None:
        name = f"new-{number}@bench.example"
        self.sent[name] = time.monotonic()
        deliver(
            Job("127.0.0.1", self.port),
            prepared((LETTER % (number, 10_000 + number, number, "new", number, number)).encode()),
        )
        self.accepted[name] = time.monotonic()

    def _look(self) -> None:
        reader = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        last = reader.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()[0]
        while not self.over.is_set() or self.accepted.keys() - self.seen.keys():
            found = reader.execute(
                "SELECT id, message_id FROM message WHERE id > ?", (last,)
            ).fetchall()
            now = time.monotonic()
            for at, name in found:
                last = max(last, at)
                self.seen[name] = now
            time.sleep(0.002)
        reader.close()

    def times(self, begin: float, end: float) -> tuple[list[float], list[float]]:
        """Return ms to the ticket and to the 250 of mails sent in this period, sorted."""
        names = [name for name, at in self.sent.items() if begin <= at <= end]
        return tuple(
            sorted(1000 * (what[name] - self.sent[name]) for name in names)
            for what in (self.seen, self.accepted)
        )  # type: ignore[return-value]


async def moved_at_once(url: str, moved: int) -> float:
    """Return the seconds of moving all tickets at once."""
    database = await Database.open(url, node="bench-desk")
    try:
        return (
            await timed(
                lambda: TicketDesk(database, Clock(), HOUSE.zone).move(
                    range(1, moved + 1), "Waiting on us"
                )
            )
            / 1000
        )
    finally:
        await database.close()


async def furnished(url: str) -> None:
    """Set up the status whose workflow mails and waits."""
    database = await Database.open(url, node="bench-desk")
    await WorkflowDesk(database, Clock(), HOUSE.zone).put(
        [WorkflowPlan("Support", "Waiting on us", [MAIL, WAIT], {"enabled": True})]
    )
    await database.close()


def at_once(folder: Path, moved: int) -> None:
    """Measure mail while many tickets are moved."""
    path = folder / "ticketgate.db"
    with (
        sinking() as sink,
        serving(folder, sink.port, moved) as (port, _),
        Clients(port, path) as clients,
    ):
        asyncio.run(furnished(f"sqlite:///{path}"))
        calm = time.monotonic()
        time.sleep(5)
        began = time.monotonic()
        act = asyncio.run(moved_at_once(f"sqlite:///{path}", moved))
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        while (
            reader.execute(
                "SELECT count(*) FROM enrolment WHERE state = 'ACTIVE' AND place = 'wait'"
            ).fetchone()[0]
            < moved
        ):
            time.sleep(0.01)
        run = time.monotonic() - began
        while len(sink.taken) < moved and time.monotonic() - began < 300:
            time.sleep(0.01)
        ended = time.monotonic()
        reader.close()
        time.sleep(2)
    for name, begin, end in (("before", calm, began), ("meanwhile", began, ended)):
        ticket, accepted = clients.times(begin, end)
        print(
            f"{name}: {len(ticket)} mails, to the ticket median "
            f"{statistics.median(ticket):.0f} ms, longest {ticket[-1]:.0f} ms; "
            f"to the 250 median {statistics.median(accepted):.0f} ms, longest {accepted[-1]:.0f} ms"
        )
    print(
        f"{moved} tickets moved in {act:.2f} s, their runs had their turn after {run:.2f} s, "
        f"{len(sink.taken)} mails were out after {ended - began:.2f} s"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--url", nargs=2, metavar=("FEW", "MANY"), help="two empty databases of PostgreSQL"
    )
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--moved", type=int, default=1000)
    given = parser.parse_args()
    log.configure(level="warning", form="auto", addresses="hashed", stream=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        urls = (
            tuple(given.url)
            if given.url
            else (f"sqlite:///{folder}/few.db", f"sqlite:///{folder}/many.db")
        )
        asyncio.run(due_work(urls, given.waiting))
        (folder / "var").mkdir()
        if given.moved:
            at_once(folder / "var", given.moved)


if __name__ == "__main__":
    main()
