"""Tests that bad input is refused with a clear message and code, and stores nothing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.faults.witness import ENVELOPE, Dialog, letter, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Daemon

MIB = 1 << 20
HELLO, MAIL, RCPT, DATA = ENVELOPE


def refused(daemon: Daemon, *envelope: bytes) -> str:
    """Return the reply to the last line of a dialog."""
    with Dialog(daemon.port) as dialog:
        return [dialog.say(line) for line in envelope][-1]


def big(daemon: Daemon, size: int) -> str:
    """Return the reply to a mail of ``size`` bytes whose size was not announced."""
    with Dialog(daemon.port) as dialog:
        assert dialog.begin().startswith("354")
        return dialog.finish(letter("big", size // len("Line of big.\r\n")))


def test_refused_dialogs_store_nothing(make_daemon: Callable[..., Daemon]) -> None:
    """Unknown recipients and too large mail are refused; an empty mail is accepted."""
    daemon = make_daemon(LIMITS__MESSAGE_BYTES=str(MIB))
    daemon.start()
    cases: list[tuple[Callable[..., str], tuple[Any, ...], str]] = [
        (refused, (HELLO, MAIL, b"RCPT TO:<someone@elsewhere.example>"), "550 5.7.1"),
        (refused, (HELLO, MAIL, b"RCPT TO:<nobody@localhost>"), "550 5.1.1"),
        (refused, (HELLO, MAIL, b"RCPT TO:<>"), "553 5.1.3"),
        (refused, (HELLO, b"MAIL FROM:<a@client.example> SIZE=%d" % (MIB + 1)), "552 5.3.4"),
        (refused, (HELLO, MAIL, b"RCPT TO:<nobody@localhost>", b"DATA"), "503 5.5.1"),
        (big, (2 * MIB,), "552 5.3.4"),
    ]
    with ThreadPoolExecutor(len(cases)) as clients:  # the reply to an error is delayed by a second
        replies = list(clients.map(lambda case: case[0](daemon, *case[1]), cases))
    assert [reply[:9] for reply in replies] == [expected for _, _, expected in cases]
    assert daemon.mails() == []
    with Dialog(daemon.port) as dialog:
        assert dialog.begin().startswith("354")
        assert dialog.say(b".").startswith("250")
    assert daemon.stop() == 0
    assert daemon.leftovers() == []
    assert [mail.raw.split(b"\r\n", 3)[3] for mail in daemon.mails()] == [b""]
    assert json.loads(daemon.run("agenda", "run", "--json").stdout) is not None
    assert {mail.state for mail in daemon.mails()} <= {"done", "ignored"}


def test_all_problems_of_a_configuration_are_reported(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """``serve`` lists all problems of its configuration and ends with 78; ``deliver`` with 75."""
    daemon = make_daemon()
    file = tmp_path / "wrong.toml"
    file.write_text('[smtp]\nlistn = []\n[log]\nlevel = "loud"\n[limits]\nrecipients = 0\n')
    run = daemon.run("--config", str(file), "serve")
    assert (run.returncode, run.stdout) == (os.EX_CONFIG, b"")
    assert all(word in run.stderr for word in (b"smtp.listn", b"log.level", b"limits.recipients"))
    assert b"Traceback" not in run.stderr
    for command, code in (("serve", os.EX_CONFIG), ("deliver", os.EX_TEMPFAIL)):
        run = daemon.run("--config", str(tmp_path / "nowhere.toml"), command, stdin=letter("one"))
        assert run.returncode == code
        assert b"nowhere.toml: there is no such file" in run.stderr
    assert not (daemon.folder / "var").exists()


def test_an_unreadable_file_does_not_stop_the_others(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """``replay`` names unreadable files and ends with 65 after all others; ``inspect`` with 0."""
    daemon = make_daemon()
    good = [tmp_path / "first.eml", tmp_path / "last.eml"]
    for path in good:
        path.write_bytes(letter(path.stem))
    missing, loop = tmp_path / "missing.eml", tmp_path / "loop.eml"
    loop.symlink_to(loop)
    paths = [str(path) for path in (good[0], missing, loop, good[1])]
    run = daemon.run("replay", *paths, "--json")
    assert run.returncode == os.EX_DATAERR
    assert [line.split(": ")[0] for line in run.stderr.decode().splitlines()] == [
        str(missing),
        str(loop),
    ]
    assert [json.loads(line).get("file") for line in run.stdout.splitlines()] == [
        str(good[0]),
        str(good[1]),
        None,
    ]
    assert [(mail.state, mail.raw) for mail in daemon.mails()] == [
        ("done", path.read_bytes()) for path in good
    ]
    run = daemon.run("inspect", *paths, "--json")
    shown = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0
    assert [each["file"] for each in shown] == paths
    assert [bool(each["defects"]) for each in shown] == [False, True, True, False]


def gone(group: int) -> bool:
    """Return whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_taken_port_is_reported(make_daemon: Callable[..., Daemon]) -> None:
    """A second server on an address ends with 75 and its name, and leaves no process."""
    daemon = make_daemon()
    with closing(socket.create_server(("127.0.0.1", daemon.port))):
        daemon.launch()
        group = daemon.process.pid if daemon.process is not None else 0
        code = daemon.ended()
    assert code == os.EX_TEMPFAIL
    assert (
        f"ticketgate: cannot listen on 127.0.0.1:{daemon.port}: Address already in use"
        in daemon.said().decode()
    )
    assert b"Traceback" not in daemon.said()
    until(lambda: gone(group))


def test_tables_of_another_version_are_not_touched(make_daemon: Callable[..., Daemon]) -> None:
    """With tables of another version the daemon ends with 78, ``deliver`` with 75; no change."""
    daemon = make_daemon()
    assert daemon.run("deliver", stdin=letter("kept")).returncode == 0
    path = daemon.folder / "var/ticketgate.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
    for command, code in (("serve", os.EX_CONFIG), ("deliver", os.EX_TEMPFAIL)):
        run = daemon.run(command, stdin=letter("another"))
        assert run.returncode == code
        assert b"run ticketgate db upgrade" in run.stderr
    assert [mail.raw for mail in daemon.mails()] == [letter("kept")]


def test_deliver_accepts_stored_mail_only(
    make_daemon: Callable[..., Daemon], free_port: int
) -> None:
    """``deliver`` ends with 0 only for a stored mail: 65 if unfit, 75 without a database."""
    daemon = make_daemon(LIMITS__MESSAGE_BYTES=str(MIB))
    assert daemon.run("deliver", stdin=letter("big", 100_000)).returncode == os.EX_DATAERR
    assert daemon.run("deliver", stdin=b"").returncode == os.EX_DATAERR
    away = daemon.run(
        "deliver",
        stdin=letter("away"),
        TICKETGATE_DATABASE__URL=f"postgresql://nobody@127.0.0.1:{free_port}/none",
    )
    assert (away.returncode, away.stderr.count(b"\n")) == (os.EX_TEMPFAIL, 1)
    assert daemon.mails() == []
    assert daemon.leftovers() == []
