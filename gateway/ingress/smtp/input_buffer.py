"""Hold bytes of a client until the session reads them; pause the socket if there are too many.

After the client has closed or reset the connection, the bytes received before can still be read.
When none are left, the methods that read raise :class:`EndOfInput`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# Beyond this many bytes the socket is not read; one read of at most 256 KiB may still follow.
HIGH_WATER = 64 << 10


class EndOfInput(Exception):
    """The client sends nothing more."""


class InputBuffer:
    """The input of one connection, fed by the protocol and read by its single task.

    The ``read`` methods have the names and signatures that aiosmtpd's PROXY parser expects.
    """

    __slots__ = ("_at", "_data", "_eof", "_loop", "_transport", "_waiter", "paused")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Create an empty buffer; :meth:`attach` gives it the transport to pause."""
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._at = 0
        self.paused = False  # whether reading from the socket is paused
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Set the transport to pause and resume."""
        self._transport = transport
        self.paused = False

    def begin_tls(self) -> None:
        """Drop plain text input (RFC 3207, 4.2); later input is encrypted."""
        self._transport = None
        self.clear()

    def feed(self, data: bytes) -> None:
        """Add bytes from the socket."""
        rest = self._data[self._at :] if self._at else self._data
        self._data = rest + data if rest else data
        self._at = 0
        if len(self._data) > HIGH_WATER and not self.paused and self._transport is not None:
            self.paused = True
            self._transport.pause_reading()
        self._wake()

    def feed_eof(self) -> None:
        """Note that nothing more will come."""
        self._eof = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_data(self) -> None:
        """Wait until the client sends bytes; raises EndOfInput if it sends nothing more."""
        if self._eof:
            raise EndOfInput
        if self.paused and self._transport is not None:
            self.paused = False
            self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        await self._waiter

    def take_line(self, longest: int) -> bytes | None:
        """Return the next line with its LF, or None if it is incomplete.

        A line over ``longest`` bytes is returned in pieces; all but the last have no LF.
        """
        end = self._data.find(b"\n", self._at, self._at + longest) + 1
        if not end:
            if len(self._data) - self._at < longest:
                return None
            end = self._at + longest
        line = self._data[self._at : end]
        self._at = end
        return line

    def take_all(self) -> bytes:
        """Return and remove all bytes."""
        data = self._data[self._at :] if self._at else self._data
        self.clear()
        return data

    def push_back(self, data: bytes) -> None:
        """Put back bytes that were taken too early, in front of all others."""
        self._data = data + self._data[self._at :]
        self._at = 0

    def clear(self) -> None:
        """Drop all bytes."""
        self._data = b""
        self._at = 0

    @property
    def waiting(self) -> int:
        """The number of bytes in the buffer."""
        return len(self._data) - self._at

    async def readexactly(self, n: int = 1) -> bytes:
        """Wait for exactly ``n`` bytes; raises EndOfInput."""
        while self.waiting < n:
            await self.wait_for_data()
        return self._cut(n)

    async def read(self, n: int = HIGH_WATER) -> bytes:
        """Wait for at least one byte, and return at most ``n``; raises EndOfInput."""
        while not self.waiting:
            await self.wait_for_data()
        return self._cut(min(n, self.waiting))

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Return bytes up to and with ``separator``; ValueError if the first 256 bytes lack it."""
        while (found := self._data.find(separator, self._at)) < 0:
            if self.waiting > 256:
                raise ValueError("the PROXY header has no end of line")
            await self.wait_for_data()
        return self._cut(found + len(separator) - self._at)

    def _cut(self, n: int) -> bytes:
        data = self._data[self._at : self._at + n]
        self._at += n
        return data
