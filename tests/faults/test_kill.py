"""Tests of kill -9 under load: no acknowledged mail is lost or doubled (reliability.md 1 to 3)."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

CONVERSATIONS = 97


def mail(number: int) -> bytes:
    """Return mail ``number``; every CONVERSATIONS-th is of the same conversation and sender."""
    parent = number % CONVERSATIONS
    reply = (
        f"In-Reply-To: <{parent}@client.example>\r\nReferences: <{parent}@client.example>\r\n"
        if number != parent
        else ""
    )
    body = f"This is mail {number}.\r\n" * (1 + number % 40)
    return (
        f"From: Client {parent % 13} <c{parent % 13}@client.example>\r\nTo: "
        f"support@localhost\r\nSubject: Matter {parent}\r\n"
        f"Date: Mon, 23 Nov 2026 10:{number // 60 % 60:02}:{number % 60:02} "
        f"+0000\r\nMessage-ID: <{number}@client.example>\r\n{reply}\r\n{body}"
    ).encode()


def killed_under_load(make_daemon: Any, barrage: Any, total: int, kills: int, seed: int) -> None:
    """Kill at random moments under load, restart, drain, and compare with the clients' log."""
    chance = random.Random(seed)
    daemon = make_daemon()
    daemon.start()
    clients = barrage(daemon.port, mail, total)
    clients.start(8)
    for moment in sorted(chance.sample(range(total // 20, total * 19 // 20), kills)):
        clients.wait_for(moment)
        daemon.kill()
        daemon.start()
    clients.wait_for(total)
    daemon.kill()
    done = daemon.run("agenda", "run")
    # Leases of the last killed process are still running: mail that it had claimed is taken
    # once they are over.
    later = daemon.run("agenda", "run", "--until", "2099-01-01T00:00:00Z")
    assert (done.returncode, later.returncode) == (0, 0), (done.stderr, later.stderr)
    audit(daemon.folder / "var/ticketgate.db", total, clients.again)


def audit(path: Path, total: int, again: int) -> None:
    """Assert that every acknowledged mail is one unchanged message of one ticket."""
    database = sqlite3.connect(path)
    states = dict(database.execute("SELECT state, count(*) FROM mail GROUP BY state").fetchall())
    assert set(states) <= {"done", "duplicate"}, states
    stored: dict[str, list[bytes]] = {}
    for message_id, raw in database.execute(
        "SELECT m.message_id, r.data FROM mail m JOIN raw_mail r ON r.mail_id = m.id WHERE "
        "m.state = 'done'"
    ):
        stored.setdefault(message_id, []).append(raw)
    for number in range(total):
        raws = stored.get(f"{number}@client.example", [])
        assert len(raws) == 1, f"mail {number} is there {len(raws)} times"
        assert raws[0].endswith(mail(number)), f"mail {number} is not what was sent"
    messages = database.execute(
        "SELECT message_id, count(*) FROM message GROUP BY message_id HAVING count(*) > 1"
    ).fetchall()
    assert messages == []
    tickets = database.execute("SELECT count(*) FROM ticket WHERE merged_into IS NULL").fetchone()[
        0
    ]
    assert tickets == CONVERSATIONS
    homeless = database.execute(
        "SELECT count(*) FROM message m LEFT JOIN thread t ON t.id = m.thread_id WHERE "
        "t.ticket IS NULL"
    ).fetchone()[0]
    assert homeless == 0
    database.close()
    assert states.get("duplicate", 0) <= again


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost(make_daemon: Any, barrage: Any) -> None:
    """After twelve kills each of 2,000 mails is there once, in its conversation's one ticket."""
    killed_under_load(make_daemon, barrage, total=2000, kills=12, seed=20261123)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_nothing_acknowledged_is_lost_in_the_long_run(
    make_daemon: Any, barrage: Any, seed: int
) -> None:
    """The same with 10,000 mails and a hundred kills, five times."""
    killed_under_load(make_daemon, barrage, total=10_000, kills=100, seed=seed)
