"""The process that imports the reading code once and forks the workers, which share that code.

:mod:`gateway.intake.sandbox.pool` starts it as ``python -m gateway.intake.sandbox.fork_server FD
READER CPU MEMORY``. It is single-threaded, which makes forking safe, and obeys two commands on its
control socket. ``F`` comes with the file descriptor of a socket and forks a worker that answers
requests on this socket. ``K`` with a pid kills that worker. The answer to both is the pid of the
worker. When the control socket closes, the daemon is gone and all workers are killed.
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
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, NoReturn

_LENGTH: Final = struct.Struct("!IQ")
_COMMAND: Final = struct.Struct("!cI")
_PR_SET_PDEATHSIG: Final = 1


def main(argv: list[str]) -> int:
    """Obey the commands on the control socket until it closes, then kill all workers."""
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
    """Execute the next command; return False if the socket was closed."""
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
    if command == b"K" and pid in children:  # not reaped, so no other process has this pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        children.discard(pid)
    control.sendall(struct.pack("!I", pid))
    return True


def _serve(channel: socket.socket, reader: ModuleType, cpu: int, memory: int) -> NoReturn:
    """Run a worker: read requests and answer them until the daemon hangs up."""
    code = 0
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while (request := _receive(channel)) is not None:
            # The request is safe to unpickle: only the daemon has the other end.
            asked = pickle.loads(request)  # noqa: S301
            for each in _answers(reader, asked, cpu):
                answer = pickle.dumps(each, pickle.HIGHEST_PROTOCOL)
                # in one piece, which wakes the daemon once
                channel.sendall(_LENGTH.pack(0x54474D31, len(answer)) + answer)
    except BaseException:  # noqa: BLE001
        # The daemon sees the closed socket, and has the mail at fault read alone.
        code = 70
    os._exit(code)


def _answers(reader: ModuleType, request: tuple[Any, ...], cpu: int) -> Iterator[tuple[str, Any]]:
    """Yield ("ok", result) for each mail of a request.

    If a mail cannot be read, yield ("error", name of the exception) and stop.
    """
    try:
        if request[0] == "part":
            _allow(cpu)
            yield "ok", reader.read_part(request[1], request[2])
            return
        for job in request[1]:
            _allow(cpu)
            yield "ok", reader.read_job(job)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        yield "error", type(error).__name__


def _allow(cpu: int) -> None:
    """Let this process use ``cpu`` more seconds of processor time before the kernel kills it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + cpu + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _receive(channel: socket.socket) -> bytearray | None:
    """Return one request, or None when the daemon closed the socket."""
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    _, size = _LENGTH.unpack(head)
    return _exactly(channel, size)


def _exactly(channel: socket.socket, size: int) -> bytearray | None:
    """Return ``size`` bytes from the socket, or None if it was closed."""
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
