"""The names of processes that share a database: host and process id, as ``desk-4711``.

What can go wrong: a process id is used again. Then a lease of a dead process looks alive until it runs out, which is all that leases promise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def dead(nodes: Iterable[str], mine: str) -> list[str]:
    """Those that were processes of this host and are gone. ``mine`` just begins: who had that name before is gone too."""
    host, _, _ = mine.rpartition("-")
    return [node for node in nodes if node == mine or (node.startswith(f"{host}-") and _ended(node.removeprefix(f"{host}-")))]


def _ended(pid: str) -> bool:
    return pid.isdecimal() and not Path("/proc", pid).exists()
