"""``make bench``: mails a second from the SMTP socket to tickets, compared with Postfix.

``throughput.py [WORKLOAD] [--rounds N]`` alternates the two, prints a line a round and the median
ratio; nothing is asserted. WORKLOAD is a folder of .eml files with any addresses: all are sent to
support@localhost, 20 sessions, one connection a mail. The time ends when the last mail is in its
ticket (committed, SQLite with synchronous FULL), or in the Maildir of Postfix.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import workload
from load import Job, load_folder, run
from reference import free_port, postfix, why_not

SESSIONS = 20
PROGRAM = Path(sys.executable).with_name("ticketgate")


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: seconds until all mail has arrived, and CPU seconds of the server."""

    mails: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Return the mails a second."""
        return self.mails / self.seconds


@contextmanager
def daemon(folder: Path) -> Iterator[tuple[int, int]]:
    """Run a fresh daemon on SQLite in a folder; yield its port and process id."""
    port = free_port()
    environ = os.environ | {
        "TICKETGATE_DATA__DIRECTORY": str(folder),
        "TICKETGATE_SMTP__LISTEN": json.dumps([f"127.0.0.1:{port}"]),
        "TICKETGATE_WEB__LISTEN": "",
        "TICKETGATE_HEALTH__LISTEN": "",
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
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants, ended ones included."""
    total, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for each in family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / ticks
    return total


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for each in found:
        try:
            children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except OSError:
            continue
        found.extend(map(int, children))
    return found


def ours(mails: list[tuple[str, bytes]]) -> Round:
    """Measure a fresh daemon."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, daemon(Path(name)) as (port, pid):
        folder = Path(name)
        before, began = cpu_of(pid), time.monotonic()
        run(
            Job("127.0.0.1", port),
            mails,
            sessions=SESSIONS,
            total=len(mails),
            audit=folder / "audit",
        )
        database = sqlite3.connect(f"file:{folder}/ticketgate.db?mode=ro", uri=True)
        while database.execute("SELECT count(*) FROM mail WHERE ticket IS NOT NULL").fetchone()[
            0
        ] < len(mails):
            time.sleep(0.01)
        seconds = time.monotonic() - began
        database.close()
        return Round(len(mails), seconds, cpu_of(pid) - before)


def theirs(mails: list[tuple[str, bytes]]) -> Round:
    """Measure a fresh Postfix."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, postfix(Path(name)) as (port, new):
        master = int(Path(name, "queue/pid/master.pid").read_text())
        before, began = cpu_of(master), time.monotonic()
        run(
            Job("127.0.0.1", port),
            mails,
            sessions=SESSIONS,
            total=len(mails),
            audit=Path(name, "audit"),
        )
        while sum(1 for _ in new.iterdir()) < len(mails):
            time.sleep(0.01)
        seconds = time.monotonic() - began
        return Round(len(mails), seconds, cpu_of(master) - before)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    mails = load_folder([workload.folder(given.workload)])
    size = sum(len(mail) for _, mail in mails) // max(1, len(mails))
    print(
        f"{len(mails)} mails, mean {size} bytes on the wire, {SESSIONS} sessions, one "
        f"connection a mail, {os.cpu_count()} cores"
    )
    missing = why_not()
    rounds: list[tuple[Round, Round | None]] = []
    for number in range(1, given.rounds + 1):
        mine, other = ours(mails), None if missing else theirs(mails)
        rounds.append((mine, other))
        beside = (
            f"   Postfix {other.rate:6.1f}/s   ratio {mine.rate / other.rate:.2f}" if other else ""
        )
        print(
            (
                f"round {number}: ticketgate {mine.rate:6.1f}/s, "
                f"{1000 * mine.cpu / mine.mails:.2f} ms CPU a mail{beside}"
            ),
            flush=True,
        )
    rates = [mine.rate for mine, _ in rounds]
    print(
        f"ticketgate: median {statistics.median(rates):.1f} mails/s ({min(rates):.1f} to "
        f"{max(rates):.1f})"
    )
    if missing:
        print(f"no reference: {missing}")
        return
    others = [other.rate for _, other in rounds if other]
    ratios = [mine.rate / other.rate for mine, other in rounds if other]
    print(
        f"Postfix:    median {statistics.median(others):.1f} mails/s ({min(others):.1f} to "
        f"{max(others):.1f})"
    )
    print(
        f"ratio:      median {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
