"""Tests that no text of a mail and no secret is logged (reliability.md 30)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.witness import ENVELOPE, Dialog, rows, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Daemon

SUBJECT, BODY, SECRET, ADDRESS = (
    "zwiebelkuchen",
    "geheimrezept",
    "hunter2",
    "anna.beispiel@kunde.example",
)
UNKNOWN, FOREIGN = "nobody.anna@localhost", "anna.elsewhere@foreign.example"
HELLO, _, RCPT, DATA = ENVELOPE
MAIL = f"MAIL FROM:<{ADDRESS}>".encode()


def letter(word: str, *headers: str, body: str = "") -> bytes:
    """Return a mail full of what must not be logged."""
    fields = (
        f"From: Anna Beispiel <{ADDRESS}>",
        "To: support@localhost",
        f"Subject: {SUBJECT} {word}",
        f"Message-ID: <{word}@kunde.example>",
        *headers,
    )
    return ("\r\n".join(fields) + f"\r\n\r\n{body or BODY}\r\n").encode()


def rename(url: str, before: str, after: str) -> None:
    """Rename a table, so that queries on it fail with all their values in the error."""
    statement = f"ALTER TABLE {before} RENAME TO {after}"
    if not url.startswith("sqlite"):
        rows(url, statement)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as database:
        database.execute("PRAGMA legacy_alter_table = ON")
        database.execute(statement)


def a_full_life(daemon: Daemon) -> None:
    """Let everything happen to mail once: accepted, refused, held, duplicate, broken, failed."""
    daemon.start()
    wrong = (b"RCPT TO:<%s>" % UNKNOWN.encode(), b"RCPT TO:<%s>" % FOREIGN.encode(), BODY.encode())
    refused = [
        Dialog(daemon.port) for _ in wrong
    ]  # the replies are delayed by a second each; they are read at the end
    for dialog, line in zip(refused, wrong, strict=True):
        assert [dialog.say(each)[:3] for each in (HELLO, MAIL)] == ["250", "250"]
        dialog.socket.sendall(line + b"\r\n")
    assert send(daemon.port, letter("good")).startswith("250")
    daemon.wait_for("processed", mail_id=1, state="done")
    assert send(daemon.port, letter("spam", "X-Spam-Flag: YES")).startswith("250")
    daemon.wait_for("processed", mail_id=2, state="quarantined")
    assert send(daemon.port, letter("good")).startswith("250")
    daemon.wait_for("duplicate", mail_id=3)
    assert send(
        daemon.port, b"\xff\x00 " + letter("odd", "Content-Type: text/html; charset=nonsense")
    ).startswith("250")
    daemon.wait_for("processed", mail_id=4)
    assert send(daemon.port, letter("bare", body=f"{BODY}\n{BODY}")).startswith("550 5.5.2")
    rename(daemon.url, "raw_mail", "hidden")
    assert send(daemon.port, letter("broken")).startswith("451 4.3.0")
    rename(daemon.url, "hidden", "raw_mail")
    daemon.wait_for("failed", source="smtp")
    rename(daemon.url, "event", "hidden")
    reply = send(daemon.port, letter("held"))
    daemon.wait_for("held", mail_id=int(reply.rpartition(" ")[2]))
    assert [dialog.reply()[:3] for dialog in refused] == ["550", "550", "500"]
    for dialog in refused:
        dialog.close()
    assert daemon.stop() == 0
    rename(daemon.url, "hidden", "event")


def whispered(said: bytes, words: tuple[str, ...]) -> list[str]:
    """Return the lines that contain one of the words."""
    return [
        line
        for line in said.decode(errors="replace").splitlines()
        if any(word in line.lower() for word in words)
    ]


@pytest.mark.parametrize(("database_kind", "level"), [("sqlite", "info"), ("postgresql", "debug")])
def test_the_log_tells_nothing_of_a_mail(
    make_daemon: Callable[..., Daemon], database_url: str, level: str, tmp_path: Path, request: Any
) -> None:
    """No subject, body, address or password is logged, at the default level and at debug."""
    (tmp_path / "password").write_text(SECRET)
    daemon = make_daemon(
        DATABASE__URL=database_url.replace("postgres@", f"postgres:{SECRET}@"),
        LOG__LEVEL=level,
        OUTBOUND__HOST="127.0.0.1",
        OUTBOUND__USERNAME="desk",
        OUTBOUND__PASSWORD_FILE=str(tmp_path / "password"),
    )
    if database_url.startswith("postgresql"):
        assert daemon.run("db", "upgrade").returncode == 0
    a_full_life(daemon)
    (tmp_path / "a.eml").write_bytes(letter("replayed"))
    commands = [
        daemon.run("deliver", stdin=letter("piped")),
        daemon.run("replay", str(tmp_path / "a.eml"), "--json"),
        daemon.run("agenda", "run"),
    ]
    assert [each.returncode for each in commands] == [0, 0, 0]
    said = daemon.said() + b"".join(each.stderr for each in commands)
    assert said.count(b'"processed"') >= 3
    assert whispered(said, (SUBJECT, BODY, SECRET, ADDRESS, UNKNOWN, FOREIGN)) == []
