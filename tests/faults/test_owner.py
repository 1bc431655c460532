"""Tests of root at the data of a service's own user: the daemon can go on writing there."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.test_lost_files import LARGE, Watched
from tests.faults.witness import letter, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Daemon

USER = 61_184  # of nobody on this machine, as of a service with a dynamic user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")


def owners(folder: Path) -> set[int]:
    """Return the owners of a folder and everything in it."""
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize("exists", ["the folder", "its parent"])
def test_commands_of_root_leave_the_data_to_its_owner(
    make_daemon: Callable[..., Daemon], exists: str
) -> None:
    """Whatever root runs makes no file of root's, and root's daemon is that user's daemon too."""
    watched = Watched(make_daemon)
    daemon, var = watched.daemon, watched.daemon.folder / "var"
    if exists == "the folder":
        var.mkdir(mode=0o700)
    os.chown(var if exists == "the folder" else daemon.folder, USER, USER)
    mail = daemon.folder / "large.eml"
    mail.write_bytes(letter("replayed", LARGE))
    mail.chmod(0o600)  # root may read it, that user may not
    for command in (
        ("db", "upgrade"),
        ("replay", str(mail)),
        ("deliver",),
        ("agenda", "run"),
        ("ticket", "list"),
        ("db", "check"),
    ):
        run = daemon.run(*command, stdin=letter("piped", LARGE))
        assert (run.returncode, run.stderr) == (0, b""), (command, run.stderr)
        assert owners(var) == {USER}, command
    daemon.start()
    assert watched.send("sent", LARGE).startswith("250")
    assert watched.ready()[0] == 200
    until(lambda: daemon.rows("SELECT count(*) FROM mail WHERE state <> 'done'") == [(0,)])
    assert daemon.process is not None
    status = dict(
        line.split(":\t", 1)
        for line in (daemon_folder(daemon) / "status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [str(USER)] * 4
    assert status["Gid"].split() == [str(USER)] * 4
    assert daemon.stop() == 0
    assert owners(var) == {USER}


def daemon_folder(daemon: Daemon) -> Path:
    """Return what the system tells of a daemon's process."""
    from pathlib import Path

    assert daemon.process is not None
    return Path("/proc", str(daemon.process.pid))


def test_a_backup_where_that_user_may_not_write_is_refused(
    make_daemon: Callable[..., Daemon],
) -> None:
    """A backup into a folder of root's names the folder; into one of that user's it works."""
    daemon = make_daemon()
    var, mine = daemon.folder / "var", daemon.folder / "backups"
    var.mkdir()
    mine.mkdir()
    os.chown(var, USER, USER)
    assert daemon.run("db", "upgrade").returncode == 0
    run = daemon.run("db", "backup", str(mine / "desk.db"))
    assert run.returncode == os.EX_DATAERR
    assert run.stderr.decode().startswith(f"ticketgate: cannot write to {mine}: Permission denied")
    os.chown(mine, USER, USER)
    assert daemon.run("db", "backup", str(mine / "desk.db")).returncode == 0


@pytest.mark.parametrize("where", ["blobs/parts", "blobs", "incoming"])
def test_a_folder_of_somebody_else_is_told_and_small_mail_goes_on(
    make_daemon: Callable[..., Daemon], where: str
) -> None:
    """Large mail gets 451, small mail 250; /readyz and the log name the folder until it is ours."""
    watched = Watched(make_daemon)
    daemon, var = watched.daemon, watched.daemon.folder / "var"
    var.mkdir(mode=0o700)
    os.chown(var, USER, USER)
    daemon.start()
    assert watched.send("first", LARGE).startswith("250")
    foreign = var / where
    if where == "blobs":  # a folder of one of the 256 beginnings that root made
        foreign = next(path for path in foreign.glob("??"))
    shutil.chown(foreign, 0, 0)
    foreign.chmod(0o700)
    status, parts = watched.ready()
    part = "incoming" if where == "incoming" else "blobs"
    told = {"incoming": "cannot write incoming mail", "blobs": "cannot write blobs"}[part]
    assert (status, parts["database"]) == (503, "ok")
    assert parts[part].startswith(f"{told}: permission denied at {foreign}")
    if where != "blobs":
        assert watched.send("second", LARGE).startswith("451 4.3.0")
        line = daemon.wait_for("failed", source="smtp")
        assert line["why"].startswith(f"{told}: permission denied at {var}"), line
    assert watched.send("small").startswith("250")
    shutil.chown(foreign, USER, USER)
    assert watched.send("third", LARGE).startswith("250")
    assert watched.ready()[0] == 200
    assert daemon.stop() == 0
    assert [line for line in daemon.said().splitlines() if b"never retr" in line] == []
    watched.ledger.audit(daemon.mails())
