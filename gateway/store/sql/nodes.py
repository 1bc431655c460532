"""The names of processes that share a database: host and process id, as ``desk.1f2e3d4c-4711``.

Hosts may have the same name, and names may be long and differ at their end only: a digest of the
whole name and of the machine's boot tells them apart.

What can go wrong: a process id is used again. Then a lease of a dead process looks alive until it
runs out, which is all that leases promise.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

_LONGEST = 30  # characters of the host's name that are shown


def own() -> str:
    """The name of this process."""
    host = socket.gethostname()
    boot = b""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return f"{host[:_LONGEST]}.{blake2b(host.encode() + boot, digest_size=4).hexdigest()}-{os.getpid()}"


def dead(nodes: Iterable[str], mine: str) -> list[str]:
    """Those that were processes of this host and are gone. ``mine`` just begins: who had that name
    before is gone too.
    """
    host, _, _ = mine.rpartition("-")
    return [
        node
        for node in nodes
        if node == mine or (node.startswith(f"{host}-") and _ended(node.removeprefix(f"{host}-")))
    ]


def _ended(pid: str) -> bool:
    return pid.isdecimal() and not Path("/proc", pid).exists()
