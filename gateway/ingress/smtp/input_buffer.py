"""What a client has sent and nobody has read yet, bounded: reading from the socket stops while too
much is waiting.

What can go wrong: the client half-closes, resets or goes away. Whoever waits for more gets
:class:`EndOfInput` once everything is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

HIGH_WATER = (
    64 << 10
    # beyond it the socket is not read; one more read of the event loop (at most 256 KiB) may still come
)


class EndOfInput(Exception):
    """The client sends nothing more."""


class InputBuffer:
    """The input of one connection: fed by the protocol, read by its one task."""

    __slots__ = ("_at", "_data", "_eof", "_loop", "_transport", "_waiter", "paused")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """An empty inlet; :meth:`attach` gives it the transport that it stops and starts."""
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._at = 0
        self.paused = False  # the socket is not read
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Sets the transport that is to be paused."""
        self._transport = transport
        self.paused = False

    def begin_tls(self) -> None:
        """Throws away what was sent in plain text (RFC 3207 4.2). What comes from now on was
        encrypted, also before the new transport is known.
        """
        self._transport = None
        self.clear()

    def feed(self, data: bytes) -> None:
        """Takes what the socket gave."""
        rest = self._data[self._at :] if self._at else self._data
        self._data = rest + data if rest else data
        self._at = 0
        if len(self._data) > HIGH_WATER and not self.paused and self._transport is not None:
            self.paused = True
            self._transport.pause_reading()
        self._wake()

    def end(self) -> None:
        """Nothing more will come."""
        self._eof = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def more(self) -> None:
        """Waits until something new has come; raises EndOfInput where nothing can come any more."""
        if self._eof:
            raise EndOfInput
        if self.paused and self._transport is not None:
            self.paused = False
            self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        await self._waiter

    def line(self, longest: int) -> bytes | None:
        """The next line with its LF, or None where it is not complete. A line over ``longest``
        comes as pieces, the first without LF.
        """
        end = self._data.find(b"\n", self._at, self._at + longest) + 1
        if not end:
            if len(self._data) - self._at < longest:
                return None
            end = self._at + longest
        line = self._data[self._at : end]
        self._at = end
        return line

    def take(self) -> bytes:
        """Everything that is there."""
        data = self._data[self._at :] if self._at else self._data
        self.clear()
        return data

    def give_back(self, data: bytes) -> None:
        """Puts what was read too far before everything else."""
        self._data = data + self._data[self._at :]
        self._at = 0

    def clear(self) -> None:
        """Throws away everything that is there."""
        self._data = b""
        self._at = 0

    @property
    def waiting(self) -> int:
        """The number of bytes that are there."""
        return len(self._data) - self._at

    async def readexactly(self, n: int = 1) -> bytes:
        """Waits for exactly ``n`` bytes; raises EndOfInput."""
        while self.waiting < n:
            await self.more()
        return self._cut(n)

    async def read(self, n: int = HIGH_WATER) -> bytes:
        """Waits for at least one and at most ``n`` bytes; raises EndOfInput."""
        while not self.waiting:
            await self.more()
        return self._cut(min(n, self.waiting))

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Waits for the bytes up to and with ``separator``; ValueError when it does not come within
        256 bytes; raises EndOfInput.
        """
        while (found := self._data.find(separator, self._at)) < 0:
            if self.waiting > 256:
                raise ValueError("no end of line where a header must end")
            await self.more()
        return self._cut(found + len(separator) - self._at)

    def _cut(self, n: int) -> bytes:
        data = self._data[self._at : self._at + n]
        self._at += n
        return data
