"""A TCP proxy that cuts, stalls, slows down or adds to a connection at a given byte."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from tests.servers.loop import Loop

_RESET = struct.pack("ii", 1, 0)

Way = Literal["down", "up"]  # from the server to the client, and back
How = Literal["reset", "close", "stall", "half", "inject"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A reset, close or stall of a connection after this many bytes of one direction.

    With ``half`` only this direction is closed. With ``inject`` the ``data`` is inserted at the
    first end of a line from there on.
    """

    after: int
    way: Way = "down"
    how: How = "reset"
    data: bytes = b""


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection: both ends, and its fault."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    fault: Fault | None
    passed: dict[Way, int] = field(default_factory=lambda: {"down": 0, "up": 0})
    line_ended: bool = True  # the last byte of the server ended a line
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # one direction has ended

    def cut(self, how: str) -> None:
        """End both sides."""
        for writer in (self.client, self.server):
            _cut(writer, how)


@dataclass(slots=True)
class Proxy:
    """A running proxy. ``piece`` 1 sends single bytes.

    ``faults`` are used in order, one a connection. ``always`` is the fault of every connection
    without one of its own; ``once`` counts the bytes of all connections.
    """

    loop: Loop
    target: int
    host: str = "127.0.0.1"
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    once: Fault | None = None
    refuse: bool = False  # connections are closed at once
    record: bool = False
    heard: list[tuple[Way, bytes]] = field(
        default_factory=list
    )  # the bytes that passed while ``record`` was on
    piece: int = 65536
    down: int = 0  # bytes so far, of all connections
    up: int = 0
    connections: int = 0
    _open: set[_Connection] = field(default_factory=set)

    @property
    def current(self) -> int:
        """Return the number of current connections."""
        return len(self._open)

    def cut_after(
        self,
        *,
        down: int = -1,
        up: int = -1,
        how: How = "reset",
        total: bool = False,
        always: bool = False,
    ) -> None:
        """Cut the next or every connection after this many bytes, or after ``total`` of all."""
        way: Way = "down" if down >= 0 else "up"
        after = down if down >= 0 else up
        if total:
            self.once = Fault(getattr(self, way) + after, way, how)
        elif always:
            self.always = Fault(after, way, how)
        else:
            self.faults.append(Fault(after, way, how))

    def stall_after(
        self, *, down: int = -1, up: int = -1, total: bool = False, always: bool = False
    ) -> None:
        """Let nothing pass in one direction after this many bytes; the connection stays open."""
        self.cut_after(down=down, up=up, how="stall", total=total, always=always)

    def inject(self, data: bytes, after: int = 0) -> None:
        """Insert bytes between two lines of the server in the next connection, from there on."""
        self.faults.append(Fault(after, "down", "inject", data))

    def drop_all(self, how: How = "reset") -> None:
        """End every connection."""

        def drop() -> None:
            for connection in list(self._open):
                connection.cut(how)

        self.loop.call(drop)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        fault = self.faults.pop(0) if self.faults else self.always
        if self.refuse:
            _cut(writer, "close")
            return
        try:
            other_reader, other_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            _cut(writer, "reset")
            return
        for each in (writer, other_writer):
            each.transport.set_write_buffer_limits(0)  # drained bytes were passed to the kernel
        connection = _Connection(writer, other_writer, fault)
        self._open.add(connection)
        try:
            await asyncio.gather(
                self._pump(connection, reader, other_writer, "up"),
                self._pump(connection, other_reader, writer, "down"),
            )
        finally:
            self._open.discard(connection)
            connection.cut("close")

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
    ) -> None:
        with contextlib.suppress(OSError):
            if await self._copy(connection, reader, writer, way):
                writer.write_eof()
        connection.ended.set()

    async def _copy(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
    ) -> bool:
        """Copy one direction; return whether the sender ended by itself."""
        while True:
            fault, left = self._next(connection, way)
            if fault is not None and left <= 0:
                if fault.how == "inject":
                    await self._inject(connection, reader, writer, fault)
                    continue
                await self._happen(connection, writer, fault)
                return False
            data = await reader.read(self.piece if fault is None else min(self.piece, left))
            if not data:
                return True
            await self._pass(connection, writer, way, data)

    def _next(self, connection: _Connection, way: Way) -> tuple[Fault | None, int]:
        """Return the next fault of this direction and the bytes until then."""
        found = [
            (fault.after - connection.passed[way], fault)
            for fault in [connection.fault]
            if fault is not None and fault.way == way
        ]
        found += [
            (fault.after - getattr(self, way), fault)
            for fault in [self.once]
            if fault is not None and fault.way == way
        ]
        if not found:
            return None, 0
        left, fault = min(found, key=lambda each: each[0])
        return fault, left

    async def _pass(
        self, connection: _Connection, writer: asyncio.StreamWriter, way: Way, data: bytes
    ) -> None:
        connection.passed[way] += len(data)
        if way == "down" and data:
            connection.line_ended = data.endswith(b"\n")
        setattr(self, way, getattr(self, way) + len(data))
        if self.record:
            self.heard.append((way, data))
        writer.write(data)
        await writer.drain()

    async def _inject(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault,
    ) -> None:
        connection.fault = None
        while not connection.line_ended and (data := await reader.readline()):
            await self._pass(connection, writer, "down", data)
        writer.write(fault.data)
        await writer.drain()

    async def _happen(
        self, connection: _Connection, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        if fault is self.once:
            self.once = None
        match fault.how:
            case "stall":
                await connection.ended.wait()
            case "half":
                writer.write_eof()
                await connection.ended.wait()
            case _:
                await _arrived(writer)
                connection.cut(fault.how)


async def _arrived(writer: asyncio.StreamWriter) -> None:
    """Wait until the receiver has all data, which a reset would discard, unless it stalls."""
    opened = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        for _ in range(1000):
            if fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, bytes(4)) == bytes(4):
                return
            await asyncio.sleep(0)


def _cut(writer: asyncio.StreamWriter, how: str) -> None:
    with contextlib.suppress(OSError):
        opened = writer.get_extra_info("socket")
        if how == "reset" and opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        else:
            writer.close()


@contextmanager
def proxy(target: int, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """Run a proxy in front of a port."""
    loop = Loop()
    made = Proxy(loop, target, host)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(made.serve, "127.0.0.1", 0)

    server = loop.run(start())
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        loop.call(server.close)
        loop.close()
