"""Act as the owner of the data directory if root started the process.

The daemon, which runs as the owner, could not write to files made by root: it would refuse all
mail. So a process started by root becomes the owner of the directory for good, before it makes any
file. It keeps two rights of root: to read any file, since root names files on the
command line, and to listen on ports below 1024. Processes it starts inherit the first only.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.errors import Misconfigured

# linux/capability.h and linux/prctl.h
_VERSION: Final = 0x20080522
_DAC_READ_SEARCH: Final = 1 << 2
_NET_BIND_SERVICE: Final = 1 << 10
_PR_SET_KEEPCAPS: Final = 8
_PR_CAP_AMBIENT: Final = 47
_AMBIENT_RAISE: Final = 2


def become_owner(places: Sequence[Path]) -> None:
    """Become the owner of the first place that exists; do nothing unless this process is root's.

    If no place exists yet, become the owner of the folder in which the first place would be made.
    If the owner is root, nothing changes. Raises Misconfigured if the system refuses the change.
    """
    if os.geteuid() != 0 or not places:
        return
    found = next((each for each in places if each.exists()), None)
    if found is None:
        found = next(each for each in places[0].absolute().parents if each.exists())
    owner = found.stat()
    if owner.st_uid != 0:
        try:
            _become(owner.st_uid, owner.st_gid)
        except OSError as error:
            raise Misconfigured(
                f"{found} belongs to user {owner.st_uid}, whom root cannot act as here "
                f"({error.strerror}): run the command as that user"
            ) from error


def _become(user: int, group: int) -> None:
    """Change to this user and group for good; keep two capabilities of root, if it has them."""
    try:
        entry = pwd.getpwuid(user)
    except KeyError:  # as in containers: the user has a number only
        os.setgroups([group])
    else:
        group = entry.pw_gid
        os.initgroups(entry.pw_name, group)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    kept = _permitted() & (_DAC_READ_SEARCH | _NET_BIND_SERVICE)
    _set_capabilities(kept, kept & _DAC_READ_SEARCH)
    if kept & _DAC_READ_SEARCH:
        number = _DAC_READ_SEARCH.bit_length() - 1
        libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number, 0, 0)


def _permitted() -> int:
    """Return the first 32 permitted capabilities of this thread."""
    found = ctypes.create_string_buffer(24)
    ctypes.CDLL(None).capget(struct.pack("Ii", _VERSION, 0), found)
    return int(struct.unpack("6I", found.raw)[1])


def _set_capabilities(kept: int, inherited: int) -> None:
    """Set the capabilities of this thread: permitted and effective ones, and ``inherited`` ones.

    The system refuses to add capabilities. Threads started later get the same capabilities, so
    call this before the first thread is started.
    """
    data = struct.pack("6I", kept, kept, inherited, 0, 0, 0)
    ctypes.CDLL(None).capset(struct.pack("Ii", _VERSION, 0), data)
