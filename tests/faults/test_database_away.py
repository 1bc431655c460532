"""Tests of an absent or busy database: senders keep their mail (reliability.md section 3)."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from gateway.daemon.services import WakeService
from gateway.daemon.supervisor import MAX_FAILURES, Supervisor, SystemdNotifier
from gateway.store.engine import Database
from gateway.store.queues.wake import Wake
from tests.faults.conftest import start_server
from tests.faults.test_kill import mail
from tests.faults.witness import ENVELOPE, Dialog, Ledger, letter, send, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Postgres
    from tests.faults.conftest import Barrage, Daemon


def audit(daemon: Daemon, clients: Barrage, total: int) -> None:
    """Assert that each mail is one message, unchanged; marked duplicates were sent twice."""
    mails = daemon.mails()
    assert {each.state for each in mails} <= {"done", "duplicate"}, {each.state for each in mails}
    originals = sorted(each.raw.split(b"\r\n", 3)[3] for each in mails if each.state == "done")
    assert originals == sorted(mail(number) for number in range(total))
    assert sum(each.state == "duplicate" for each in mails) <= clients.again
    assert (
        daemon.rows("SELECT message_id FROM message GROUP BY message_id HAVING count(*) > 1") == []
    )
    assert daemon.rows("SELECT count(*) FROM message") == [(total,)]


def away_under_load(
    daemon: Daemon, server: Postgres, barrage: Callable[..., Barrage], total: int, stops: list[str]
) -> Barrage:
    """Stop and restart the server in each way under load; return the clients when all is sent."""
    assert daemon.run("db", "upgrade").returncode == 0
    daemon.start()
    clients = barrage(daemon.port, mail, total)
    clients.start(6)
    for number, how in enumerate(stops, 1):
        clients.wait_for(number * total // (len(stops) + 1))
        server.control("-m", how, "-w", "-s", "stop")
        until(partial(refused_at_mail, daemon))
        soft = send(daemon.port, letter("away"))
        assert soft[:3] in {"451", "421"}, soft
        start_server(server)
    clients.wait_for(total)
    return clients


def refused_at_mail(daemon: Daemon) -> bool:
    """Return whether a client learns at MAIL that it has to come back."""
    with Dialog(daemon.port) as dialog:
        return dialog.begin(ENVELOPE[:2]).startswith("451 4.3.0")


def finish(daemon: Daemon) -> None:
    """Stop the daemon for good; process what it had claimed when the server stopped."""
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert daemon.stop() == 0
    done = daemon.run("agenda", "run", "--until", "2099-01-01T00:00:00Z")
    assert done.returncode == 0, done.stderr


def test_postgresql_goes_and_comes_back(
    make_daemon: Callable[..., Daemon], own_postgres: Postgres, barrage: Callable[..., Barrage]
) -> None:
    """PostgreSQL is stopped and killed under load: 451 meanwhile, then each mail is there once."""
    daemon = make_daemon(DATABASE__URL=own_postgres.url())
    clients = away_under_load(daemon, own_postgres, barrage, 150, ["fast", "immediate"])
    finish(daemon)
    audit(daemon, clients, 150)
    print(f"150 mails, {clients.again} tries refused or cut off")


@pytest.mark.sweep
def test_a_long_absence_does_not_end_the_daemon(
    make_daemon: Callable[..., Daemon], own_postgres: Postgres
) -> None:
    """However long PostgreSQL is away, the daemon stays, answers 451, and works afterwards."""
    daemon = make_daemon(DATABASE__URL=own_postgres.url())
    assert daemon.run("db", "upgrade").returncode == 0
    daemon.start()
    ledger = Ledger()
    assert ledger.send(daemon.port, "before", letter("before")).startswith("250")
    own_postgres.control("-m", "immediate", "-w", "-s", "stop")
    for _ in range(3):  # two seconds each: long enough for a failing service to fail five times
        assert daemon.log is not None
        daemon.wait_for("mail cannot be claimed", since=len(daemon.log.lines))
    assert ledger.send(daemon.port, "meanwhile", letter("meanwhile")).startswith("451 4.3.0")
    start_server(own_postgres)
    assert ledger.send(daemon.port, "meanwhile", letter("meanwhile")).startswith("250")
    until(lambda: daemon.rows("SELECT count(*) FROM mail WHERE state <> 'done'") == [(0,)])
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_postgresql_goes_and_comes_back_again_and_again(
    make_daemon: Callable[..., Daemon], own_postgres: Postgres, barrage: Callable[..., Barrage]
) -> None:
    """The same with thirty shutdowns and crashes."""
    daemon = make_daemon(DATABASE__URL=own_postgres.url())
    clients = away_under_load(daemon, own_postgres, barrage, 3000, ["fast", "immediate"] * 15)
    finish(daemon)
    audit(daemon, clients, 3000)
    print(f"3000 mails, {clients.again} tries refused or cut off")


async def test_the_listening_service_survives_failed_connections() -> None:
    """Failed connections of the listening service never end the daemon."""
    many = asyncio.Event()
    tries = 0

    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        writer.close()
        tries += 1
        if tries > 2 * MAX_FAILURES:
            many.set()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database(f"postgresql://nobody@127.0.0.1:{port}/none", "test")
    stop = asyncio.Event()
    supervisor = Supervisor(stop, SystemdNotifier({}), first_pause=0.001)
    running = asyncio.create_task(supervisor.run([WakeService(Wake(), database, pause=0.001)]))
    await asyncio.wait(
        {running, asyncio.ensure_future(many.wait())},
        timeout=30,
        return_when=asyncio.FIRST_COMPLETED,
    )
    assert many.is_set(), "it gave up"
    stop.set()
    await running
    server.close()
    await database.close()


def test_a_locked_sqlite_file_gives_451_after_a_wait(make_daemon: Callable[..., Daemon]) -> None:
    """With a locked SQLite file a mail gets 451 after the wait; the next one is accepted."""
    daemon = make_daemon("ingress")
    daemon.start()
    ledger = Ledger()
    assert ledger.send(daemon.port, "before", letter("before")).startswith("250")
    with closing(
        sqlite3.connect(daemon.url.removeprefix("sqlite:///"), isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as client:
            waiting = client.submit(ledger.send, daemon.port, "locked", letter("locked"))
            with Dialog(daemon.port) as dialog:  # other clients are served meanwhile
                assert dialog.begin().startswith("354")
                assert not waiting.done()
            assert waiting.result().startswith("451 4.3.0")
        other.execute("ROLLBACK")
    assert [mail.raw.endswith(letter("before")) for mail in daemon.mails()] == [True]
    assert ledger.send(daemon.port, "locked", letter("locked")).startswith("250")
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())
    assert len(daemon.mails()) == 2
