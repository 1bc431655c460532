"""A pool of worker processes that read mail and can be killed (reliability.md 14).

No mail can stop the daemon. One fork server imports the reading code once and forks the workers. So
the workers share its memory, and a killed worker is replaced in milliseconds. The daemon has a
socket for each worker, sends it a chunk of mails, and gets a message for each as soon as it is
read. So if a worker dies or runs out of time, it is known which mail was at fault. That suspect is
read once more, last and alone, and becomes a :class:`ReadFailure` if it fails again. Idle workers
wait in ``recv`` and cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from core.model import message as values
from core.model.message import Attachment, Message
from gateway.intake.sandbox.jobs import ReadFailure, ReadJob

__all__ = ["ReadFailure", "ReadJob", "Sandbox", "WorkerLost"]

CPU_SECONDS: Final = 10
WALL_SECONDS: Final = 20.0
ADDRESS_SPACE: Final = 1024 * 1024 * 1024
# 100 KB take some milliseconds; a mail that takes longer than this is read again, last and alone.
_RECEIVE_BYTES = 262_144  # asked for at once from a worker
QUICK_SECONDS: Final = 0.5
QUICK_BYTES_A_SECOND: Final = 4 * 1024 * 1024
# An answer with eight of the longest texts, or the largest attachment, stays far below this.
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
_LENGTH: Final = struct.Struct("!IQ")


class WorkerLost(Exception):
    """A worker died or was killed while it had work; the message of this error says why."""


class _InvalidAnswer(Exception):
    """A worker sent bytes that are not a valid answer."""


@dataclass(slots=True)
class _Worker:
    """A worker process, the daemon's end of its socket, and what was received but not used yet."""

    number: int
    pid: int
    channel: socket.socket
    received: bytearray = field(default_factory=bytearray)


_Idle = asyncio.LifoQueue[_Worker | None]  # None: a worker is forked when it is needed


class Sandbox:
    """A pool of ``processes`` workers.

    ``reader`` names the module whose ``read_job`` and ``read_part`` the workers call. A request may
    take ``wall`` seconds, a mail ``cpu`` seconds of processor time, and a worker ``memory`` bytes
    of address space.
    """

    def __init__(
        self,
        processes: int,
        *,
        reader: str = "gateway.intake.sandbox.child",
        wall: float = WALL_SECONDS,
        cpu: int = CPU_SECONDS,
        memory: int = ADDRESS_SPACE,
    ) -> None:
        self.processes = max(1, processes)
        self.reader = reader
        self.wall = wall
        self.limits = (cpu, memory)
        self.killed = 0
        self._fork_server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: _Idle = asyncio.LifoQueue()
        self._spare: _Idle = asyncio.LifoQueue()
        self._spare.put_nowait(None)  # one place: suspects are read one at a time
        self._workers: dict[int, _Worker] = {}
        self._count = 0
        self._fork_lock = asyncio.Lock()
        self._stopped = False

    async def start(self, *, wait: bool = True) -> None:
        """Start the fork server and the workers, and return when the workers can read.

        Without ``wait``, return while the fork server still imports the readers; the first
        requests fork the workers.
        """
        self._stopped = False
        await self._start_fork_server()
        for _ in range(self.processes):
            self._idle.put_nowait(await self._fork() if wait else None)

    async def stop(self) -> None:
        """End every process of the pool; unfinished work is lost."""
        self._stopped = True
        for worker in list(self._workers.values()):
            await self._kill(worker)
        await self._end_fork_server()

    async def read_many(self, jobs: Sequence[ReadJob]) -> list[Message | ReadFailure]:
        """Return the messages of some mails, in order; an unreadable mail gives a ReadFailure."""
        found: list[Message | ReadFailure] = []
        suspects: list[int] = []
        while len(found) < len(jobs):
            messages, lost = await self.read_until_lost(jobs[len(found) :])
            found += messages
            if lost is not None:
                suspects.append(len(found))
                found.append(ReadFailure(str(lost)))
        for index in suspects:
            found[index] = await self.read_suspect(jobs[index])
        return found

    async def read_until_lost(
        self, jobs: Sequence[ReadJob], *, quickly: bool = False
    ) -> tuple[list[Message], WorkerLost | None]:
        """Read mails in order, in one process, up to the first one that fails.

        Return the messages, and why the next mail failed. With ``quickly``, a mail has only the
        time in which mails of its size are read, so that a bad one does not hold others.
        """
        walls = [_quick_wall(job, self.wall) if quickly else self.wall for job in jobs]
        found: list[Message] = []
        try:
            await self._ask(("read", list(jobs)), walls, found, self._idle)
        except WorkerLost as lost:
            return found, lost
        return found, None

    async def read_suspect(self, job: ReadJob) -> Message | ReadFailure:
        """Read a failed mail again, in a process made for it; one such mail at a time."""
        found: list[Message] = []
        try:
            await self._ask(("read", [job]), [self.wall], found, self._spare)
        except WorkerLost as lost:
            return ReadFailure(str(lost))
        finally:
            await self._end_spare()
        return found[0]

    async def _end_spare(self) -> None:
        """End the process that read a suspect, unless the next suspect has it already."""
        if self._spare.empty():
            return
        worker = self._spare.get_nowait()
        try:
            if worker is not None:
                await self._kill(worker)
        finally:
            self._spare.put_nowait(None)

    async def attachment(self, raw: bytes, part: str) -> tuple[Attachment, bytes]:
        """Return an attachment and its content.

        Raise KeyError if the attachment is missing, WorkerLost if it cannot be read.
        """
        found: list[tuple[Attachment, bytes] | None] = []
        await self._ask(("part", raw, part), [self.wall], found, self._idle)
        if found[0] is None:
            raise KeyError(part)
        return found[0]

    async def _ask(
        self, request: tuple[Any, ...], walls: Sequence[float], found: list[Any], idle: _Idle
    ) -> None:
        """Send a request to the next free worker, and add its answers to ``found`` as they come.

        ``walls`` holds, for each expected answer, the seconds that it may take. Raises WorkerLost
        if the worker fails, and then replaces the worker. Raises WorkerLost too if a mail cannot be
        read.
        """
        worker = await idle.get()
        try:
            if worker is None:
                worker = await self._fork()
            await self._converse(worker, request, walls, found)
        except WorkerLost:  # the worker itself is well
            idle.put_nowait(worker)
            raise
        except TimeoutError:
            await self._replace(worker, idle)
            wall = walls[min(len(found), len(walls) - 1)]
            raise WorkerLost(f"reading took longer than {wall:.1f} seconds") from None
        except (OSError, EOFError):
            await self._replace(worker, idle)
            raise WorkerLost(
                "the reading process died: it probably used too much time or memory"
            ) from None
        except _InvalidAnswer:
            await self._replace(worker, idle)
            raise WorkerLost("the reading process gave an invalid answer") from None
        except BaseException:  # cancelled while the worker is reading
            await asyncio.shield(self._replace(worker, idle))
            raise
        idle.put_nowait(worker)

    async def _converse(
        self, worker: _Worker, request: tuple[Any, ...], walls: Sequence[float], found: list[Any]
    ) -> None:
        """Send a request and add the answers to ``found``; WorkerLost if an answer is an error."""
        now = asyncio.get_running_loop().time
        async with asyncio.timeout(walls[0]) as limit:
            await _send(worker.channel, pickle.dumps(request, pickle.HIGHEST_PROTOCOL))
            for wall in walls:
                limit.reschedule(now() + wall)
                outcome, value = _opened(request, await _receive(worker))
                if outcome == "error":
                    raise WorkerLost(f"reading failed: {value}")
                found.append(value)

    async def _replace(self, worker: _Worker | None, idle: _Idle) -> None:
        """Kill a worker; the next request that finds no free worker forks a new one."""
        if worker is not None:
            self.killed += 1
            await self._kill(worker)
        idle.put_nowait(None)

    async def _kill(self, worker: _Worker) -> None:
        """Kill a worker through the fork server."""
        self._workers.pop(worker.number, None)
        worker.channel.close()
        async with self._fork_lock:
            with contextlib.suppress(OSError, EOFError):
                await self._command(struct.pack("!cI", b"K", worker.pid))

    async def _fork(self) -> _Worker:
        """Return a new worker; restart the fork server first if it died."""
        async with self._fork_lock:
            for attempt in (1, 2, 3):
                if self._stopped:
                    break
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                ours.setblocking(False)
                with contextlib.closing(theirs):
                    try:
                        answer = await self._command(struct.pack("!cI", b"F", 0), theirs.fileno())
                    except (OSError, EOFError):
                        ours.close()
                        if attempt < 3:
                            await self._end_fork_server()
                            await self._start_fork_server()
                        continue
                self._count += 1
                worker = _Worker(self._count, struct.unpack("!I", answer)[0], ours)
                self._workers[worker.number] = worker
                return worker
        raise OSError("no reading process could be started")

    async def _command(self, command: bytes, fd: int | None = None) -> bytes:
        """Send a command to the fork server; return its answer, a pid packed in 4 bytes.

        The caller must hold ``_fork_lock``.
        """
        if self._control is None:
            raise OSError("the fork server is gone")
        control = self._control
        socket.send_fds(control, [command], [fd] if fd is not None else [])
        async with asyncio.timeout(30):
            answer = await asyncio.get_running_loop().sock_recv(control, 4)
        if len(answer) != 4:
            raise EOFError("the fork server is gone")
        return answer

    async def _start_fork_server(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        fd = theirs.fileno()
        cpu, memory = self.limits
        argv = [
            sys.executable,
            "-P",
            "-m",
            "gateway.intake.sandbox.fork_server",
            str(fd),
            self.reader,
            str(cpu),
            str(memory),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        with contextlib.closing(theirs):
            self._fork_server = await asyncio.to_thread(_spawn, argv, fd, environment)
        self._control = ours

    async def _end_fork_server(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._fork_server is not None:
            process, self._fork_server = self._fork_server, None
            process.terminate()
            await asyncio.to_thread(_reap, process)


def _spawn(argv: list[str], fd: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv, pass_fds=(fd,), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
    )


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _quick_wall(job: ReadJob, wall: float) -> float:
    """Return the seconds in which mails of this size are read, even on a busy machine."""
    return min(wall, QUICK_SECONDS + len(job.raw) / QUICK_BYTES_A_SECOND)


def _opened(request: tuple[Any, ...], answer: bytes) -> tuple[str, Any]:
    """Return outcome and value of an answer; _InvalidAnswer if it does not fit the request."""
    try:
        outcome, value = _ResultUnpickler(io.BytesIO(answer)).load()
        _check(request, outcome, value)
    except Exception:  # noqa: BLE001  # bytes made to confuse a pickle raise anything
        raise _InvalidAnswer from None
    return outcome, value


class _ResultUnpickler(pickle.Unpickler):
    """Unpickles an answer, building nothing but message values.

    A mail that exploits a fault in a reader could make the worker send anything. The types are
    listed one by one, because a dotted name leads from any function of a module to its globals and
    to ``exec``.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the type with this name, which must be one that an answer may hold."""
        found = _ANSWER_TYPES.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an answer")
        return found


_ANSWER_TYPES: Final[dict[tuple[str, str], type]] = {
    (each.__module__, each.__name__): each
    for each in (*vars(values).values(), datetime, timedelta, timezone, ReadFailure)
    if isinstance(each, type)
    and each.__module__ in {"core.model.message", "datetime", "gateway.intake.sandbox.jobs"}
}


def _check(request: tuple[Any, ...], outcome: object, value: object) -> None:
    """Raise ValueError if an answer does not have the form that its request needs."""
    if outcome == "error":
        fits = isinstance(value, str)
    elif request[0] == "read":
        fits = isinstance(value, Message)
    else:
        fits = value is None or (
            isinstance(value, tuple)
            and len(value) == 2
            and isinstance(value[0], Attachment)
            and isinstance(value[1], bytes)
        )
    if not fits or outcome not in ("ok", "error"):
        raise ValueError


async def _send(channel: socket.socket, data: bytes) -> None:
    """Send the length of a message, then the message."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(channel, _LENGTH.pack(0x54474D31, len(data)) + data)


async def _receive(worker: _Worker) -> bytes:
    """Return one message; EOFError if the socket is closed or too many bytes are announced."""
    await _fill(worker, _LENGTH.size)
    _, size = _LENGTH.unpack_from(worker.received)
    if size > MAX_ANSWER_BYTES:
        raise EOFError
    end = _LENGTH.size + size
    await _fill(worker, end)
    data = bytes(memoryview(worker.received)[_LENGTH.size : end])
    del worker.received[:end]
    return data


async def _fill(worker: _Worker, size: int) -> None:
    """Receive until ``size`` bytes are there; EOFError if the socket is closed before."""
    loop = asyncio.get_running_loop()
    while len(worker.received) < size:
        piece = await loop.sock_recv(worker.channel, _RECEIVE_BYTES)
        if not piece:
            raise EOFError
        worker.received += piece
