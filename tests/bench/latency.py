"""``make bench``, part 2: time from a mail to its ticket under light load; cost of an idle daemon.

One small mail is sent every 100 ms; the time is from its last byte until a reader of the database
sees its ticket. Idle: CPU over some seconds, and proportional memory of all processes. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from load import Job, deliver, prepared
from throughput import cpu_of, daemon, family

MAIL = (
    b"From: A <a%d@example.com>\nTo: support@localhost\nSubject: Question %d\nMessage-ID: "
    b"<%d@latency.example>\n\nHello,\n\nthis is question %d.\n"
)


def memory_of(pid: int) -> float:
    """Return the proportional set size of a process and its descendants in MB."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=200)
    parser.add_argument("--idle", type=float, default=10.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, daemon(Path(name)) as (port, pid):
        time.sleep(2)
        before, began = cpu_of(pid), time.monotonic()
        time.sleep(given.idle)
        share = (cpu_of(pid) - before) / (time.monotonic() - began)
        print(f"idle: {100 * share:.2f} % of a core, {memory_of(pid):.0f} MB proportional memory")
        reader = sqlite3.connect(f"file:{name}/ticketgate.db?mode=ro", uri=True)
        times = []
        for number in range(given.mails):
            began = time.monotonic()
            deliver(Job("127.0.0.1", port), prepared(MAIL % (number, number, number, number)))
            while reader.execute("SELECT count(*) FROM ticket").fetchone()[0] <= number:
                time.sleep(0.001)
            times.append(1000 * (time.monotonic() - began))
            time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
        reader.close()
        times.sort()
        print(
            f"mail to ticket, the session included: median {statistics.median(times):.1f} ms, "
            f"99th percentile {times[int(0.99 * len(times))]:.1f} ms"
        )
        print(f"after {given.mails} mails: {memory_of(pid):.0f} MB proportional memory")


if __name__ == "__main__":
    main()
