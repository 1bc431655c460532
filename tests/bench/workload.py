"""The mails every speed figure is measured on: a folder given on the command line, or those of
``../shared/bench/gen.py``, made once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

GENERATOR = Path(__file__).resolve().parents[3] / "shared/bench/gen.py"


def folder(given: Path | None, count: int = 3000) -> Path:
    """Where the mails are; ends the program with a sentence where there are none and none can be
    made.
    """
    if given is not None:
        return given
    if not GENERATOR.exists():
        sys.exit("name a folder of .eml files, for example: make bench ARGS=path/to/mails")
    made = Path(tempfile.gettempdir()) / f"ticketgate-workload-{count}"
    if not (made / "manifest.jsonl").exists():
        subprocess.run(
            [sys.executable, GENERATOR, str(count), made], check=True, stdout=subprocess.DEVNULL
        )
    return made
