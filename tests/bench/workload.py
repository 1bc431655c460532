"""The mails of all speed figures: a given folder, or the output of ``../shared/bench/gen.py``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

GENERATOR = Path(__file__).resolve().parents[3] / "shared/bench/gen.py"


def folder(given: Path | None, count: int = 3000) -> Path:
    """Return the folder of mails, made if needed; exit with a message if impossible."""
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
