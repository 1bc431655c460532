"""Tests of two daemons on one PostgreSQL, one killed under load (reliability.md section 3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from gateway.intake.worker import LEASE_SECONDS
from tests.faults.test_kill import CONVERSATIONS, mail
from tests.faults.witness import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Postgres
    from tests.faults.conftest import Barrage, Daemon

PENDING = "SELECT count(*) FROM mail WHERE state = 'pending'"


@pytest.fixture
def database(postgres: Postgres) -> str:
    """Return the address of an empty database on the tests' PostgreSQL."""
    return postgres.url(postgres.create())


def audit(daemon: Daemon, total: int, again: int) -> None:
    """Assert that every mail is one message on its conversation's thread and ticket."""
    mails = daemon.mails()
    states = [each.state for each in mails]
    assert set(states) <= {"done", "duplicate"}, set(states)
    assert states.count("duplicate") <= again
    assert sorted(
        each.raw.split(b"\r\n", 3)[3] for each in mails if each.state == "done"
    ) == sorted(mail(number) for number in range(total))
    assert (
        daemon.rows("SELECT message_id FROM message GROUP BY message_id HAVING count(*) > 1") == []
    )
    assert daemon.rows("SELECT count(*) FROM message") == [(total,)]
    conversations = min(total, CONVERSATIONS)
    alive = (
        "SELECT count(DISTINCT thread_id), count(DISTINCT t.ticket) FROM message m JOIN "
        "thread t ON t.id = m.thread_id"
    )
    assert daemon.rows(alive) == [(conversations, conversations)]
    assert daemon.rows("SELECT count(*) FROM ticket WHERE merged_into IS NULL") == [
        (conversations,)
    ]


def survive(victim: Daemon, others: list[Daemon], clients: Barrage, total: int) -> float:
    """Kill one daemon under load; clients switch ports. Return the monotonic time of the kill."""
    for each in (victim, *others):
        each.start()
    clients.start(6)
    clients.wait_for(total // 3)
    victim.kill()
    died = time.monotonic()
    clients.port = others[0].port
    clients.wait_for(total)
    return died


def finish(daemons: list[Daemon]) -> None:
    """Stop all daemons; then process what the dead one had claimed."""
    for each in daemons:
        assert each.stop() == 0
    done = daemons[0].run("agenda", "run", "--until", "2099-01-01T00:00:00Z")
    assert done.returncode == 0, done.stderr


def test_one_of_two_daemons_dies(
    make_daemon: Callable[..., Daemon], database: str, barrage: Callable[..., Barrage]
) -> None:
    """After one of two equal daemons is killed the other completes everything, once."""
    first, second = (make_daemon(DATABASE__URL=database) for _ in range(2))
    assert first.run("db", "upgrade").returncode == 0
    half = 150
    beside = barrage(second.port, lambda number: mail(2 * number), half)
    clients = barrage(first.port, lambda number: mail(2 * number + 1), half)
    beside.start(3)
    survive(first, [second], clients, half)
    beside.wait_for(half)
    finish([second])
    audit(second, 2 * half, clients.again + beside.again)
    print(
        f"{2 * half} mails to two daemons, one killed, {clients.again + beside.again} tries "
        "failed; none lost, none doubled"
    )


def test_a_worker_dies_beside_the_ingress(
    make_daemon: Callable[..., Daemon], database: str, barrage: Callable[..., Barrage]
) -> None:
    """When the processing daemon is killed mail is still accepted; a new one processes it."""
    ingress, worker = (
        make_daemon("ingress", DATABASE__URL=database),
        make_daemon("worker", DATABASE__URL=database),
    )
    assert ingress.run("db", "upgrade").returncode == 0
    clients = barrage(ingress.port, mail, 200)
    survive(worker, [ingress], clients, 200)
    assert clients.again == 0
    worker.start()
    finish([ingress, worker])
    audit(ingress, 200, 0)


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_the_other_daemon_takes_over_by_itself(
    make_daemon: Callable[..., Daemon], database: str, barrage: Callable[..., Barrage]
) -> None:
    """The living daemon processes everything soon after the dead one's leases end."""
    first, second = (make_daemon(DATABASE__URL=database) for _ in range(2))
    assert first.run("db", "upgrade").returncode == 0
    clients = barrage(first.port, mail, 2000)
    died = survive(first, [second], clients, 2000)
    until(lambda: second.rows(PENDING) == [(0,)], LEASE_SECONDS + 30)
    print(f"taken over {time.monotonic() - died:.1f} s after the death")
    assert second.stop() == 0
    audit(second, 2000, clients.again)
