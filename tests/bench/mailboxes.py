"""``make bench``: mails a second from a Dovecot mailbox to tickets, compared with mbsync.

``mailboxes.py [WORKLOAD] [--rounds N] [--mails N] [--large N]`` alternates the two, prints a line a
round and the median ratio; nothing is asserted. Both begin with everything in the page cache. Our
time ends when the last mail is in its ticket (SQLite with synchronous FULL), that of mbsync when
it ends (it copies to a Maildir and syncs each file). Then follows the time that a daemon needs to
find nothing new in a mailbox of ``--large`` known mails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import workload

from tests.servers.dovecot import PASSWORD, Dovecot, dovecot

PROGRAM = Path(sys.executable).with_name("ticketgate")
USER = "bench@example.org"
LARGE = "large@example.org"
MBSYNC = """IMAPAccount server
Host 127.0.0.1
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN

IMAPStore there
Account server

MaildirStore here
Path {folder}/mail/
Inbox {folder}/mail/INBOX

Channel both
Far :there:
Near :here:
Sync Pull
Create Near
SyncState *
"""


def filled(server: Dovecot, mails: list[bytes], total: int) -> None:
    """Put ``total`` mails into the inbox: the given ones, repeated with new Message-IDs."""

    def numbered(number: int) -> bytes:
        raw, round_ = mails[number % len(mails)], number // len(mails)
        return raw.replace(b"Message-ID: <", b"Message-ID: <%d." % round_, 1) if round_ else raw

    server.deliver_many(USER, (numbered(number) for number in range(total)))


@contextmanager
def daemon(folder: Path, server: Dovecot, user: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a fresh daemon on SQLite that only reads a mailbox."""
    box = {
        "name": "bench",
        "host": "127.0.0.1",
        "port": server.port,
        "tls": False,
        "username": user,
        "password": PASSWORD,
    }
    environ = os.environ | {
        "TICKETGATE_DATA__DIRECTORY": str(folder),
        "TICKETGATE_SMTP__LISTEN": "[]",
        "TICKETGATE_WEB__LISTEN": "",
        "TICKETGATE_HEALTH__LISTEN": "",
        "TICKETGATE_IMAP": json.dumps([box | {"channel": "support@localhost"}]),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve"], env=environ, stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert process.stdout is not None
        while line := process.stdout.readline():
            if line.startswith(b"Ctrl-C"):
                break
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


@contextmanager
def looking(folder: Path) -> Iterator[sqlite3.Connection]:
    """Return a reading connection to the daemon's database."""
    database = sqlite3.connect(f"file:{folder}/ticketgate.db?mode=ro", uri=True)
    yield database
    database.close()


def ours(server: Dovecot, total: int) -> float:
    """Return mails a second until all of them are in tickets."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with daemon(folder, server, USER), looking(folder) as database:
            began = time.monotonic()
            while (
                database.execute("SELECT count(*) FROM mail WHERE ticket IS NOT NULL").fetchone()[0]
                < total
            ):
                time.sleep(0.02)
            return total / (time.monotonic() - began)


def theirs(server: Dovecot, total: int) -> float:
    """Return mails a second of mbsync into a Maildir."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "mail").mkdir()
        (folder / "mbsyncrc").write_text(
            MBSYNC.format(port=server.port, user=USER, password=PASSWORD, folder=folder)
        )
        began = time.monotonic()
        subprocess.run(
            ["mbsync", "-c", folder / "mbsyncrc", "-q", "both"], check=True, capture_output=True
        )
        seconds = time.monotonic() - began
        copied = sum(1 for part in ("new", "cur") for _ in (folder / "mail/INBOX" / part).iterdir())
        assert copied == total, f"mbsync copied {copied} of {total}"
        return total / seconds


def nothing_new(server: Dovecot, mails: int) -> None:
    """Return how long a daemon needs to find nothing new in a large known mailbox."""
    server.add_user(LARGE)
    server.deliver_many(LARGE, (b"Subject: %d\r\n\r\nx\r\n" % number for number in range(mails)))
    with server.client(LARGE) as client:
        client.select("INBOX")  # the server's own index exists, as for any mailbox in use
        _, [validity] = client.status("INBOX", "(UIDVALIDITY)")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        subprocess.run(
            [PROGRAM, "db", "upgrade"],
            env=os.environ | {"TICKETGATE_DATA__DIRECTORY": str(folder)},
            check=True,
            capture_output=True,
        )
        know(
            folder / "ticketgate.db",
            f"{LARGE}@127.0.0.1/INBOX",
            int(validity.split()[-1].strip(b")")),
            mails,
        )
        seconds = []
        for _ in range(5):
            with daemon(folder, server, LARGE), looking(folder) as database:
                began = time.time()
                while (
                    at := database.execute("SELECT last_pass_at FROM mailbox").fetchone()[0] or 0
                ) < began * 1e6 - 2e6:
                    time.sleep(0.005)
                seconds.append(at / 1e6 - began)
            with sqlite3.connect(folder / "ticketgate.db") as database:
                assert database.execute("SELECT count(*) FROM mail").fetchone() == (0,)
                database.execute("UPDATE mailbox SET last_pass_at = NULL")
    median = statistics.median(seconds)
    print(
        f"nothing new in a mailbox of {mails}: known {median:.2f} s after READY (median of 5, "
        f"longest {max(seconds):.2f} s)"
    )


def know(path: Path, place: str, validity: int, mails: int) -> None:
    """Write into a fresh database that all mails of a mailbox are known."""
    with sqlite3.connect(path) as database:
        row = (1, "bench", place, validity, mails, mails, "fresh", 1, "new")
        columns = (
            "id, name, place, uidvalidity, last_uid, backlog_end, backlog_automation, "
            "first_seen_at, state"
        )
        database.execute(f"INSERT INTO mailbox ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        known = ((1, validity, uid, uid, True, 0) for uid in range(1, mails + 1))
        database.executemany(
            (
                "INSERT INTO mailbox_mail (mailbox_id, uidvalidity, uid, mail_id, settled, tries) "
                "VALUES (?, ?, ?, ?, ?, ?)"
            ),
            known,
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=100_000)
    given = parser.parse_args()
    if (
        shutil.which("dovecot", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
        is None
    ):
        sys.exit("no mailbox to read: Dovecot is not installed (Debian package dovecot-imapd)")
    mails = [path.read_bytes() for path in sorted(workload.folder(given.workload).glob("*.eml"))]
    missing = "" if shutil.which("mbsync") else "mbsync is not installed (Debian package isync)"
    with dovecot([USER]) as server:
        filled(server, mails, given.mails)
        print(
            f"{given.mails} mails in one Dovecot mailbox, mean "
            f"{sum(map(len, mails)) // len(mails)} bytes, {os.cpu_count()} cores"
        )
        if not missing:
            theirs(server, given.mails)  # fills the page cache and the server's index
        rounds = []
        for number in range(1, given.rounds + 1):
            mine, other = (
                ours(server, given.mails),
                None if missing else theirs(server, given.mails),
            )
            rounds.append((mine, other))
            beside = f"   mbsync {other:6.1f}/s   ratio {mine / other:.2f}" if other else ""
            print(f"round {number}: ticketgate {mine:6.1f}/s{beside}", flush=True)
        rates = [mine for mine, _ in rounds]
        print(
            f"ticketgate: median {statistics.median(rates):.1f} mails/s ({min(rates):.1f} to "
            f"{max(rates):.1f})"
        )
        if missing:
            print(f"no reference: {missing}")
        else:
            ratios = [mine / other for mine, other in rounds if other]
            print(
                f"ratio:      median {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
                f"{max(ratios):.2f})"
            )
        nothing_new(server, given.large)


if __name__ == "__main__":
    main()
