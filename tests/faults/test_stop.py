"""Tests of SIGTERM, and of a new daemon that takes over the work of a killed one."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil
import pytest

from gateway.intake.worker import LEASE_SECONDS
from tests.faults.witness import LOST, Dialog, Ledger, letter, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.conftest import Daemon

DRAIN_SECONDS = 60.0  # reliability.md 30


def test_sigterm_finishes_mail_under_way(make_daemon: Callable[..., Daemon]) -> None:
    """Mail in DATA or in its commit gets 250, idle clients 421, new ones nothing; exit code 0."""
    daemon = make_daemon("ingress")
    daemon.start()
    slow, quick = letter("slow"), letter("quick")
    with (
        Dialog(daemon.port) as idle,
        Dialog(daemon.port) as sending,
        Dialog(daemon.port) as waiting,
        closing(
            sqlite3.connect(daemon.url.removeprefix("sqlite:///"), isolation_level=None)
        ) as other,
    ):
        assert sending.begin().startswith("354")
        sending.socket.sendall(slow[:100])
        assert waiting.begin().startswith("354")
        other.execute("BEGIN IMMEDIATE")  # every commit waits
        waiting.socket.sendall(quick + b".\r\n")
        daemon.signal()
        daemon.wait_for("stopping")
        assert idle.reply().startswith("421 4.3.2")
        with pytest.raises(OSError, match="refused"):
            Dialog(daemon.port)
        sending.socket.sendall(slow[100:] + b".\r\n")
        other.execute("ROLLBACK")
        assert [each.reply()[:9] for each in (sending, waiting)] == ["250 2.0.0", "250 2.0.0"]
    began = time.monotonic()
    assert daemon.ended() == 0
    assert time.monotonic() - began < DRAIN_SECONDS
    assert sorted(mail.raw.split(b"\r\n", 3)[3] for mail in daemon.mails()) == sorted([slow, quick])


def test_sigterm_finishes_the_batch(make_daemon: Callable[..., Daemon]) -> None:
    """Mail that the intake has claimed is processed before the end, and no lease is left."""
    daemon = make_daemon()
    for number in range(2):
        assert daemon.run("deliver", stdin=letter(f"m{number}", 2000)).returncode == 0
    daemon.start()
    daemon.signal()
    assert daemon.ended() == 0
    assert daemon.rows(
        "SELECT count(*) FROM mail WHERE state = 'pending' AND lease_until IS NOT NULL"
    ) == [(0,)]


@pytest.mark.sweep
def test_a_client_that_never_ends_is_cut_off(make_daemon: Callable[..., Daemon]) -> None:
    """A client that stands still in DATA delays the end by 60 s at most; its mail is dropped."""
    daemon = make_daemon()
    daemon.start()
    with Dialog(daemon.port, patience=90) as dialog:
        assert dialog.begin().startswith("354")
        dialog.socket.sendall(letter("endless"))
        began = time.monotonic()
        daemon.signal()
        assert dialog.reply() == LOST
        assert daemon.ended() == 0
        assert time.monotonic() - began < DRAIN_SECONDS
    assert daemon.mails() == []


def claimed_and_killed(daemon: Daemon, ledger: Ledger) -> None:
    """Leave a mail behind that a daemon had claimed when it was killed."""
    daemon.start()
    assert daemon.process is not None
    for reader in psutil.Process(daemon.process.pid).children(recursive=True):
        reader.suspend()  # no mail is finished
    assert ledger.send(daemon.port, "claimed", letter("claimed")).startswith("250")
    until(
        lambda: (
            daemon.rows("SELECT state, lease_owner IS NOT NULL, tries FROM mail")
            == [("pending", 1, 1)]
        )
    )
    daemon.kill()


def test_claims_of_a_killed_daemon_are_taken_at_once(make_daemon: Callable[..., Daemon]) -> None:
    """A new daemon on the same machine does not wait for a dead daemon's lease."""
    daemon, ledger = make_daemon(), Ledger()
    claimed_and_killed(daemon, ledger)
    daemon.start()
    daemon.wait_for("processed", mail_id=1)
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())
    assert [mail.state for mail in daemon.mails()] == ["done"]


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param("lease_owner = 'elsewhere-1'", id="another machine"),
        pytest.param("tries = 2", id="crashed twice", marks=pytest.mark.sweep),
    ],
)
def test_claims_of_unknown_processes_wait_for_their_lease(
    make_daemon: Callable[..., Daemon], disguise: str
) -> None:
    """Mail claimed on another machine, or twice by dead daemons, waits for its lease alone."""
    daemon, ledger = make_daemon(), Ledger()
    claimed_and_killed(daemon, ledger)
    with closing(sqlite3.connect(daemon.url.removeprefix("sqlite:///"))) as database, database:
        database.execute(f"UPDATE mail SET {disguise}")
    daemon.start()
    assert ledger.send(daemon.port, "next", letter("next")).startswith("250")
    daemon.wait_for("processed", mail_id=2)
    assert daemon.stop() == 0
    assert [mail.state for mail in daemon.mails()] == ["pending", "done"]
    later = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS + 1)
    daemon.environ["TICKETGATE_NOW"] = later.isoformat()
    daemon.start()
    daemon.wait_for("processed", mail_id=1)
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())
    assert [mail.state for mail in daemon.mails()] == ["done", "done"]
    assert daemon.rows("SELECT count(*) FROM ticket") == [(2,)]
