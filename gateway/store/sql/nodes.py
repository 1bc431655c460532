"""Names of processes that share a database: host and process id, like ``desk.1f2e3d4c-4711``.

Hosts may have the same name, and long names may differ only at their end. So the name of a process
holds a digest of the host's full name and the machine's boot id. When a process id is reused, the
lease of the dead process is kept until it runs out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

_SHOWN_CHARS = 30  # of the host name


def own() -> str:
    """Return the name of this process."""
    host = socket.gethostname()
    boot = b""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    digest = blake2b(host.encode() + boot, digest_size=4).hexdigest()
    return f"{host[:_SHOWN_CHARS]}.{digest}-{os.getpid()}"


def dead(nodes: Iterable[str], mine: str) -> list[str]:
    """Return which of ``nodes`` were processes of this host and have ended.

    ``mine`` is the name of this process. If ``mine`` is among ``nodes``, it stands for an earlier
    process with the same id, which has ended.
    """
    host = mine.rpartition("-")[0] + "-"
    local = (node for node in nodes if node.startswith(host))
    return [node for node in local if node == mine or _ended(node.removeprefix(host))]


def _ended(pid: str) -> bool:
    return pid.isdecimal() and not Path("/proc", pid).exists()
