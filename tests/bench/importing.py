"""``make bench``, part 3: the mails of part 1 imported as a Maildir by ``replay``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import workload
from load import load_folder
from scale import PROGRAM, environ
from throughput import ours


def imported(mails: Path) -> float:
    """Return the mails a second of ``replay``, start included, into a fresh installation."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        box = Path(name) / "box"
        for each in ("cur", "new", "tmp"):
            (box / each).mkdir(parents=True)
        count = 0
        for path in sorted(mails.glob("*.eml")):
            (box / "new" / f"{path.stem}.bench").hardlink_to(path)
            count += 1
        began = time.monotonic()
        subprocess.run(
            [PROGRAM, "replay", box],
            env=environ(Path(name) / "var"),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return count / (time.monotonic() - began)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    mails = workload.folder(given.workload)
    ready = load_folder([mails])
    ratios = []
    for number in range(1, given.rounds + 1):
        direct, smtp = imported(mails), ours(ready).rate
        ratios.append(direct / smtp)
        print(
            (
                f"round {number}: replay {direct:.1f} mails/s, SMTP {smtp:.1f} mails/s, ratio "
                f"{ratios[-1]:.2f}"
            ),
            flush=True,
        )
    print(f"replay beside SMTP: median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
