"""A TCP proxy that cuts, stalls, slows down or adds to a connection, at the byte it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from tests.servers.loop import Loop

_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens after so many bytes of one direction of a connection: it is reset, closed, or no byte goes on any more."""

    after: int
    way: Literal["down", "up"] = "down"
    how: Literal["reset", "close", "stall"] = "reset"


@dataclass(slots=True)
class Proxy:
    """A running proxy. ``faults`` are used up one a connection, in order; without any, everything passes. ``piece`` 1 sends single bytes."""

    loop: Loop
    target: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    piece: int = 65536
    down: int = 0  # bytes so far, of all connections
    up: int = 0
    connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def drop_all(self) -> None:
        """Resets every connection."""
        self.loop.call(self._drop)

    def _drop(self) -> None:
        for writer in list(self._writers):
            _cut(writer, "reset")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self.faults.pop(0) if self.faults else self.always
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _cut(writer, "reset")
            return
        both = {writer, other_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, other_writer, "up", fault, both), self._pump(other_reader, writer, "down", fault, both))
        finally:
            self._writers -= both
            for each in both:
                _cut(each, "close")

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Literal["up", "down"],
        fault: Fault | None,
        both: set[asyncio.StreamWriter],
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(self.piece):
                if fault is not None and fault.way == way and passed + len(data) >= fault.after:
                    data = data[: max(0, fault.after - passed)]
                    self._count(way, len(data))
                    writer.write(data)
                    await writer.drain()
                    if fault.how == "stall":
                        await asyncio.Event().wait()
                    for each in both:
                        _cut(each, fault.how)
                    return
                passed += len(data)
                self._count(way, len(data))
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    def _count(self, way: str, size: int) -> None:
        setattr(self, way, getattr(self, way) + size)


def _cut(writer: asyncio.StreamWriter, how: str) -> None:
    with contextlib.suppress(OSError):
        opened = writer.get_extra_info("socket")
        if how == "reset" and opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        else:
            writer.close()


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy in front of a port of this machine."""
    loop = Loop()
    made = Proxy(loop, target)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(made._serve, "127.0.0.1", 0)

    server = loop.run(start())
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        loop.call(server.close)
        loop.close()
