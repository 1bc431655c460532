"""``make bench-scale``: the cost of a mail with a million stored messages and with ten thousand.

Two databases are seeded with small messages by SQL (three a conversation, indexed for search like
real ones). Then the same new mails and replies go through ``replay`` into a copy of each, in turn;
CPU and wall seconds a mail and their ratio are printed, nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import workload

PROGRAM = Path(sys.executable).with_name("ticketgate")
PEOPLE = 20_000
WORDS = (
    "order invoice server login printer update customer problem error message install "
    "delivery payment address password network report meeting"
).split()


def environ(folder: Path) -> dict[str, str]:
    """Return the environment of an installation in a folder."""
    return os.environ | {
        "TICKETGATE_DATA__DIRECTORY": str(folder),
        "TICKETGATE_LOG__LEVEL": "error",
    }


def seed(folder: Path, messages: int) -> None:
    """Create an installation with this many stored messages."""
    folder.mkdir()
    subprocess.run(
        [PROGRAM, "db", "upgrade"], env=environ(folder), check=True, stdout=subprocess.DEVNULL
    )
    database = sqlite3.connect(folder / "ticketgate.db", isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -500000")
    database.execute("BEGIN")
    pipeline, status = database.execute(
        "SELECT pipeline_id, id FROM status ORDER BY position LIMIT 1"
    ).fetchone()
    now = int(time.time() * 1e6)
    database.executemany(
        "INSERT INTO contact VALUES (?, ?, ?, 0, 0, 0, 0, ?)",
        ((n, f"person{n}@seed.example", f"Person {n}", now) for n in range(1, PEOPLE + 1)),
    )
    tickets = messages // 3
    columns = (
        "(number, subject, pipeline_id, status_id, source, requester_id, subject_key, "
        "created_at, reopened_count, flags, tags, worked, titled)"
    )
    database.executemany(
        f"INSERT INTO ticket {columns} VALUES (?, ?, ?, ?, 'email', ?, ?, ?, 0, '[]', '[]', 0, 0)",
        (
            (n, f"Matter {n}", pipeline, status, 1 + n % PEOPLE, f"matter {n}", now)
            for n in range(1, tickets + 1)
        ),
    )
    database.executemany(
        (
            "INSERT INTO thread (id, kind, ticket, origin, attached_at, created_at) VALUES (?, "
            "'normal', ?, 1, ?, ?)"
        ),
        ((n, n, now, now) for n in range(1, tickets + 1)),
    )
    database.executemany(
        "INSERT INTO participant VALUES (?, ?, 'requester')",
        ((n, 1 + n % PEOPLE) for n in range(1, tickets + 1)),
    )
    _messages(database, tickets * 3, now)
    counters = {
        "ticket": tickets,
        "thread": tickets,
        "message": tickets * 3,
        "event": tickets * 3,
        "contact": PEOPLE,
    }
    database.executemany(
        "UPDATE counter SET value = ? WHERE name = ?",
        ((value, name) for name, value in counters.items()),
    )
    database.execute("COMMIT")
    database.execute("ANALYZE")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def _messages(database: sqlite3.Connection, count: int, now: int) -> None:
    def text(n: int) -> str:
        return " ".join(WORDS[(n * 7 + k * k) % len(WORDS)] for k in range(30)) + f" case{n}"

    def rows() -> Iterator[tuple[object, ...]]:
        for n in range(1, count + 1):
            thread = 1 + (n - 1) // 3
            yield (
                n,
                thread,
                n,
                f"{n}@seed.example",
                f"Matter {thread}",
                now,
                now,
                text(n),
                1 + thread % PEOPLE,
            )

    database.executemany(
        "INSERT INTO message (id, thread_id, mail_id, direction, kind, message_id, parents, "
        "opens, sender_role, head, subject, date, created_at, text,"
        " reply_text, sender_id, attachments, auth, flags, evidence) VALUES (?1, ?2, ?3, "
        "'inbound', 'human', ?4, '[]', 1, 'contact', '{}', ?5, ?6, ?7, ?8,"
        " ?8, ?9, '[]', 'none', '[]', '[]')",
        rows(),
    )
    database.execute(
        "INSERT INTO message_search (rowid, subject, body) SELECT id, subject, text FROM message"
    )
    database.execute(
        "INSERT INTO message_ref SELECT message_id, thread_id, id, 0 FROM message ORDER BY "
        "message_id"
    )
    database.executemany(
        (
            "INSERT INTO event (id, ticket, at, type, actor, cause) VALUES (?, ?, ?, "
            "'rule_skipped', 'seed', '{}')"
        ),
        ((n, 1 + (n - 1) // 3, now) for n in range(1, count + 1)),
    )
    database.execute(
        "INSERT INTO mail (id, received_at, source, envelope, size, sha256, state, tries, "
        "released, processed_at, kind, message_id, subject, fingerprint,"
        " message, thread_id, ticket) SELECT id, created_at, 'smtp', '{}', 1000, "
        "hex(randomblob(32)), 'done', 1, 0, created_at, 'human', message_id, subject,"
        " randomblob(16), id, thread_id, thread_id FROM message"
    )
    database.execute("INSERT INTO raw_mail SELECT id, randomblob(1000) FROM mail")


def measured(seeded: Path, mails: Path, count: int) -> tuple[float, float]:
    """Return (CPU, wall) ms a mail for importing into a copy of a seeded installation."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name) / "var"
        shutil.copytree(seeded, folder)
        files = sorted(str(path) for path in mails.glob("*.eml"))
        idle_cpu, idle_wall = _replay(folder, files[:1])
        cpu, wall = _replay(folder, files[1 : count + 1])
    return 1000 * (cpu - idle_cpu) / count, 1000 * (wall - idle_wall) / count


def _replay(folder: Path, files: list[str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [PROGRAM, "replay", *files], env=environ(folder), check=True, stdout=subprocess.DEVNULL
    )
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ended - began


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path, nargs="?")
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    mails = workload.folder(given.workload)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        sizes = (given.small, given.large)
        for size in sizes:
            began = time.monotonic()
            seed(Path(name) / str(size), size)
            print(f"seeded {size} messages in {time.monotonic() - began:.0f} s", flush=True)
        ratios: list[tuple[float, float]] = []
        for number in range(1, given.rounds + 1):
            (small_cpu, small_wall), (large_cpu, large_wall) = (
                measured(Path(name) / str(size), mails, given.mails) for size in sizes
            )
            ratios.append((large_cpu / small_cpu, large_wall / small_wall))
            print(
                f"round {number}: {small_cpu:.2f} ms CPU, {small_wall:.2f} ms wall a mail with "
                f"{given.small}; "
                f"{large_cpu:.2f} ms CPU, {large_wall:.2f} ms wall with {given.large}; ratio "
                f"{ratios[-1][0]:.2f} CPU, {ratios[-1][1]:.2f} wall",
                flush=True,
            )
        cpu, wall = (statistics.median(each) for each in zip(*ratios, strict=True))
        print(f"ratio: median {cpu:.2f} CPU, {wall:.2f} wall")


if __name__ == "__main__":
    main()
