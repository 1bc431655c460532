"""The process that forks the reading workers: it imports their code once, so that they share its
memory.

Started by :mod:`gateway.intake.sandbox.pool` as ``python -m gateway.intake.sandbox.fork_server FD
READER CPU MEMORY``. It is single-threaded, which makes forking safe, and obeys two commands on its
control socket: ``F`` with a file descriptor (fork a worker that serves it, answer its pid) and
``K`` with a pid (kill that worker). When the socket closes, the daemon is gone and all workers are
killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from types import ModuleType
from typing import Any, Final, NoReturn

_LENGTH: Final = struct.Struct("!IQ")
_COMMAND: Final = struct.Struct("!cI")
_PR_SET_PDEATHSIG: Final = 1


def main(argv: list[str]) -> int:
    """Serve the control socket until it closes."""
    control = socket.socket(fileno=int(argv[1]))
    reader = importlib.import_module(argv[2])
    if hasattr(reader, "warm_up"):
        reader.warm_up()
    cpu, memory = int(argv[3]), int(argv[4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    try:
        while _obey(control, reader, cpu, memory, children):
            pass
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return 0


def _obey(
    control: socket.socket, reader: ModuleType, cpu: int, memory: int, children: set[int]
) -> bool:
    """One command; False when there are no more."""
    data, fds, _, _ = socket.recv_fds(control, _COMMAND.size, 4)
    if len(data) != _COMMAND.size:
        return False
    command, pid = _COMMAND.unpack(data)
    if command == b"F" and fds:
        pid = os.fork()
        if pid == 0:
            control.close()
            _serve(socket.socket(fileno=fds[0]), reader, cpu, memory)
        children.add(pid)
    for fd in fds:
        os.close(fd)
    if command == b"K" and pid in children:  # not reaped yet, so the number is still this child's
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        children.discard(pid)
    control.sendall(struct.pack("!I", pid))
    return True


def _serve(channel: socket.socket, reader: ModuleType, cpu: int, memory: int) -> NoReturn:
    """A worker: read requests, answer them, until the daemon hangs up."""
    code = 0
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while (request := _receive(channel)) is not None:
            # the daemon asks, and nobody else has the other end
            asked = pickle.loads(request)  # noqa: S301
            answer = pickle.dumps(_answer(reader, asked, cpu), pickle.HIGHEST_PROTOCOL)
            channel.sendall(_LENGTH.pack(0x54474D31, len(answer)))
            channel.sendall(answer)
    except BaseException:  # noqa: BLE001
        # whatever went wrong, the daemon sees the closed socket and reads the mails one by one
        code = 70
    os._exit(code)


def _answer(reader: ModuleType, request: tuple[Any, ...], cpu: int) -> tuple[str, Any]:
    try:
        if request[0] == "read":
            found = []
            for job in request[1]:
                _allow(cpu)
                found.append(reader.read_job(job))
            return "ok", found
        _allow(cpu)
        return "ok", reader.read_part(request[1], request[2])
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        return "error", type(error).__name__


def _allow(cpu: int) -> None:
    """From now on ``cpu`` more seconds of processor time, then the kernel kills this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + cpu + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _receive(channel: socket.socket) -> bytearray | None:
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    _, size = _LENGTH.unpack(head)
    return _exactly(channel, size)


def _exactly(channel: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        count = channel.recv_into(view[at:])
        if not count:
            return None
        at += count
    return data


if __name__ == "__main__":
    sys.exit(main(sys.argv))
