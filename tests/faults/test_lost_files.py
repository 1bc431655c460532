"""Tests of a store whose files are taken away, locked or not ours: 451, not ready, the reason."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import open_port
from tests.faults.witness import Ledger, letter, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.conftest import Daemon

LARGE = 20_000  # lines; such a mail goes through a file and becomes a blob


class Watched:
    """A daemon with the pages of its health."""

    def __init__(self, make_daemon: Callable[..., Daemon], *roles: str, **settings: str) -> None:
        self.port = open_port()
        self.daemon = make_daemon(*roles, HEALTH__LISTEN=f"127.0.0.1:{self.port}", **settings)
        self.ledger = Ledger()

    def ready(self) -> tuple[int, dict[str, Any]]:
        """Return the status of /readyz and its parts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=60) as page:
                return page.status, json.load(page)["parts"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["parts"]

    def send(self, word: str, lines: int = 3) -> str:
        """Send a mail and return the reply."""
        return self.ledger.send(self.daemon.port, word, letter(word, lines))

    def loud(self) -> list[str]:
        """Return the reasons of the loud lines of the log."""
        lines = [json.loads(line) for line in self.daemon.said().splitlines() if line[:1] == b"{"]
        return [
            line["reason"]
            for line in lines
            if line["event"] == "mail refused until the store works"
        ]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_database_file_taken_away_stops_acknowledgements(
    make_daemon: Callable[..., Daemon], how: str
) -> None:
    """Without its file the daemon answers 451, is not ready and says so loudly, once."""
    watched = Watched(make_daemon, "ingress")
    daemon, path = watched.daemon, watched.daemon.folder / "var/ticketgate.db"
    daemon.start()
    assert watched.send("before").startswith("250")
    assert watched.ready() == (
        200,
        {"database": "ok", "blobs": "ok", "incoming": "ok", "mail": "ok"},
    )
    os.link(path, daemon.folder / "kept")
    path.unlink()
    if how == "replaced":
        shutil.copyfile(daemon.folder / "kept", path)
    for word, lines in (("gone", 3), ("gone-large", LARGE)):
        assert watched.send(word, lines).startswith("451 4.3.0")
    status, parts = watched.ready()
    assert (status, "was removed or replaced while it was open" in parts["database"]) == (503, True)
    assert len(watched.loud()) == 1
    assert str(path) in watched.loud()[0]
    (daemon.folder / "kept").replace(path)
    assert watched.send("back", LARGE).startswith("250")
    assert watched.ready()[0] == 200
    assert daemon.stop() == 0
    watched.ledger.audit(daemon.mails())
    assert len(daemon.mails()) == 2


def test_a_new_database_is_not_made_beside_the_mail_of_another(
    make_daemon: Callable[..., Daemon],
) -> None:
    """An absent database beside blobs, and absent blobs of a database, are a sentence and 78."""
    daemon = make_daemon()
    var = daemon.folder / "var"
    assert daemon.run("deliver", stdin=letter("large", LARGE)).returncode == 0
    (var / "ticketgate.db").rename(daemon.folder / "kept")
    for command in (("serve",), ("db", "upgrade"), ("ticket", "list")):
        run = daemon.run(*command)
        assert (run.returncode, run.stderr.count(b"\n")) == (os.EX_CONFIG, 1), run.stderr
        assert b"there is no database at" in run.stderr
    assert daemon.run("deliver", stdin=letter("more")).returncode == os.EX_TEMPFAIL
    assert not (var / "ticketgate.db").exists()
    (daemon.folder / "kept").rename(var / "ticketgate.db")
    (var / "blobs").rename(daemon.folder / "blobs")
    run = daemon.run("serve")
    assert (run.returncode, run.stderr.count(b"\n")) == (os.EX_CONFIG, 1), run.stderr
    assert b"there is no folder" in run.stderr
    assert not (var / "blobs").exists()


def test_a_locked_database_is_not_ready(make_daemon: Callable[..., Daemon]) -> None:
    """reliability.md section 3: locked for 70 s, each client has its 451 within ten, 503 too."""
    watched = Watched(make_daemon)
    watched.daemon.start()
    path = watched.daemon.folder / "var/ticketgate.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert watched.send("locked").startswith("451 4.3.0")
        assert watched.ready()[0] == 503
        assert "busy with another writer" in watched.loud()[0]
        other.execute("ROLLBACK")
    assert watched.send("free").startswith("250")
    assert watched.ready() == (
        200,
        {"database": "ok", "blobs": "ok", "incoming": "ok", "mail": "ok"},
    )
    until(lambda: watched.daemon.rows("SELECT state FROM mail") == [("done",)])


@pytest.mark.parametrize(("call", "left"), [("rename", 0), ("fdatasync", 1)])
def test_orphans_of_a_killed_daemon_are_swept(
    make_daemon: Callable[..., Daemon], disturb: Callable[..., Any], call: str, left: int
) -> None:
    """A daemon killed between blob and commit leaves a blob; the next start deletes it."""
    daemon = make_daemon("ingress")
    daemon.start()
    ledger = Ledger()
    with disturb(daemon, f"{call}:signal=KILL:when=1") as strace:
        assert not ledger.send(daemon.port, "large", letter("large", LARGE)).startswith("250")
        assert daemon.process is not None
        daemon.process.wait(30)
    assert strace.killed()
    daemon.ended()
    assert len(list((daemon.folder / "var/blobs").glob("??/*"))) == left
    daemon.start()
    if left:
        daemon.wait_for("deleted blobs that no mail names", blobs=left)
    until(lambda: not daemon.leftovers())
    assert list((daemon.folder / "var/blobs").glob("??/*")) == []
    assert ledger.send(daemon.port, "large", letter("large", LARGE)).startswith("250")
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())
