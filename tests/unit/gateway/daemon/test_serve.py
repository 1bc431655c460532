"""Tests of the start of the daemon: little work before it accepts mail, whatever waits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from gateway.store.engine import Database
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Spool
from tests.conftest import open_port
from tests.unit.gateway.store.mails import mail

# Serves until the welcome, then prints what the start has cost and ends.
START = """
import asyncio, json, os, sys, time
from config.load import load
from gateway.daemon import serve
from gateway.intake.sandbox.pool import Sandbox
from sqlalchemy import event
from sqlalchemy.engine import Engine

statements, forked = [], []
fork = Sandbox._fork
Sandbox._fork = lambda pool: forked.append(True) or fork(pool)
event.listen(Engine, "before_cursor_execute", lambda *a: statements.append(a[2]))

def announce(lines):
    slow = [each for each in ("gateway.intake.worker", "gateway.agenda.worker")
            if each in sys.modules]
    print(json.dumps([statements, slow, len(forked), time.process_time()]), flush=True)
    os._exit(0)

settings = load(None, os.environ).settings
asyncio.run(serve.serve(settings, serve.chosen(["all"]), os.environ, announce))
"""


async def fill(url: str, count: int) -> None:
    """Make a database with mails that wait."""
    database = await Database.open(url, node="test")
    spool = Spool(database, open_blobs("database:"))
    for start in range(0, count, 500):
        await spool.put([mail(b"%d" % number) for number in range(start, start + 500)])
    await database.close()


def test_waiting_mail_costs_the_start_nothing(tmp_path: Path) -> None:
    """Ready in under 10 s with 10,000 mails waiting: the same queries as with none, few imports."""
    found = []
    for count in (0, 10_000):
        folder = tmp_path / str(count)
        url = f"sqlite:///{folder}/ticketgate.db"
        asyncio.run(fill(url, count))
        settings = {
            "DATA__DIRECTORY": str(folder),
            "DATABASE__URL": url,
            "BLOBS__URL": f"file://{folder}/blobs",
            "SMTP__LISTEN": json.dumps([f"127.0.0.1:{open_port()}"]),
            "HEALTH__LISTEN": f"127.0.0.1:{open_port()}",
        }
        environ = os.environ | {f"TICKETGATE_{name}": value for name, value in settings.items()}
        run = subprocess.run(
            [sys.executable, "-c", START], env=environ, capture_output=True, check=True, timeout=120
        )
        found.append(json.loads(run.stdout))
    (few, slow, forked, _), (many, _, _, seconds) = found
    assert many == few
    assert len(many) < 30
    assert (slow, forked) == ([], 0)
    print(f"{len(many)} queries and {seconds:.2f} s of CPU time to accept mail")
