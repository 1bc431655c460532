"""The bytes of a mail after DATA: find the end, undo dot stuffing, check line ends, store them.

Only CR LF . CR LF ends a mail. A bare CR or LF lets one mail be smuggled inside another when two
servers disagree about the end; such a mail is refused. Exception: in mail from trusted networks, a
bare CR or LF becomes a line end, but only *after* the end of the mail was found. A mail that is too
large, loops or cannot be stored is read to its end and discarded; the reply gives the reason.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Literal

from gateway.errors import Unavailable
from gateway.ingress.accept import IN_MEMORY, Raw
from gateway.ingress.spool_files import MailFile

if TYPE_CHECKING:
    from pathlib import Path

Fault = Literal["bare_newline", "too_large", "hops", "endless"]

_END = b"\r\n.\r\n"
_END_PREFIXES = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_ANY_NEWLINE = re.compile(rb"\r*\n|\r+")
_MANY_CR = 1024
_READ_BEYOND = 1 << 20  # bytes beyond twice the limit; then a mail counts as endless
_WRITE_BYTES = 128 << 10  # written to the file at a time


class MailData:
    """One mail being received: call :meth:`feed` until it returns bytes, then :meth:`finish`.

    Call :meth:`abandon` to drop the mail.
    """

    __slots__ = (
        "_buffer",
        "_directory",
        "_file",
        "_head",
        "_hops",
        "_limit",
        "_normalize",
        "_size",
        "_skip",
        "_tail",
        "error",
        "fault",
    )

    def __init__(
        self, head: bytes, directory: Path, *, limit: int, hops: int, normalize: bool
    ) -> None:
        """Put ``head`` before the mail; a mail has at most ``limit`` bytes without ``head``.

        ``hops`` is the largest allowed number of Received fields.
        """
        self._head = len(head)
        self._directory = directory
        self._limit = limit
        self._hops = hops
        self._normalize = normalize
        self._buffer = bytearray(head)
        self._size = 0  # bytes of the mail so far, without head
        self._tail = b"\r\n"  # unchecked rest; a mail begins as if after a line end
        self._skip = 2  # bytes at the front of _tail that are not part of the mail
        self._file: MailFile | None = None
        self.fault: Fault | None = None
        self.error: Exception | None = None

    def feed(self, chunk: bytes) -> bytes | None:
        """Take bytes; return None until the mail has ended, and then the bytes after its end."""
        data = self._tail + chunk
        # in most mails the first line that begins with a dot is the end, so one search is enough
        dot = data.find(b"\r\n.")
        end = dot if dot < 0 or data.startswith(_END, dot) else data.find(_END, dot)
        if end >= 0:
            self._take(data[: end + 2], stuffed=dot < end)
            return data[end + 5 :]
        cut = len(data)
        for prefix in _END_PREFIXES:
            if data.endswith(prefix):
                cut -= len(prefix)
                break
        if self._normalize:  # CR CR LF is one line end, even across chunks
            cut = max(len(data[:cut].rstrip(b"\r")), cut - _MANY_CR)
        self._tail = data[cut:]
        if cut:
            self._take(data[:cut], stuffed=dot >= 0)
        return None

    def _take(self, piece: bytes, *, stuffed: bool) -> None:
        """Check and keep a piece, which never ends inside CR LF or just before a stuffed dot."""
        if self.fault is None and self.error is None:
            if stuffed:
                piece = piece.replace(b"\r\n.", b"\r\n")
            lines = piece.count(b"\r\n")
            if piece.count(b"\n") != lines or piece.count(b"\r") != lines:
                if self._normalize:
                    piece = _ANY_NEWLINE.sub(b"\r\n", piece)
                else:
                    self._fail("bare_newline")
            self._buffer += memoryview(piece)[self._skip :] if self._skip else piece
        self._size += len(piece) - self._skip
        self._skip = 0
        if self._size > self._limit:
            self._fail("too_large" if self._size <= 2 * self._limit + _READ_BEYOND else "endless")
        if self.fault is not None:
            self._buffer.clear()

    def _fail(self, fault: Fault) -> None:
        if self.fault is None or fault == "endless":
            self.fault = fault

    @property
    def full(self) -> bool:
        """Whether :meth:`relieve` has to be awaited before more is read."""
        return len(self._buffer) > (IN_MEMORY if self._file is None else _WRITE_BYTES)

    async def relieve(self) -> None:
        """Write buffered bytes to the file; keep a failure in ``error`` instead of raising it."""
        if self._file is None and not self._hops_ok():
            self._fail("hops")
            self._buffer.clear()
            return
        buffer, self._buffer = self._buffer, bytearray()
        try:
            if self._file is None:
                self._file = await asyncio.to_thread(MailFile, self._directory)
            await asyncio.to_thread(self._file.write, buffer)
        except Unavailable as error:
            self.error = error

    def _hops_ok(self) -> bool:
        """Return whether the header has few Received fields; only the first buffer is searched."""
        end = self._buffer.find(b"\r\n\r\n", max(self._head - 2, 0))
        header = b"\r\n" + self._buffer[self._head : end if end >= 0 else None]
        return header.lower().count(b"\r\nreceived:") <= self._hops

    async def finish(self) -> Raw:
        """Return the whole mail, or empty bytes if ``fault`` is set; raises errors of the disk."""
        if self.fault is None and self.error is None:
            if self._file is None and not self.full:
                if self._hops_ok():
                    return bytes(self._buffer)
                self._fail("hops")
            else:
                await self.relieve()
        if self.fault is None and self.error is None and self._file is not None:
            file, self._file = self._file, None
            return await asyncio.to_thread(file.close)
        await self.abandon()
        if self.error is not None:
            raise self.error
        return b""

    async def abandon(self) -> None:
        """Drop the mail, and remove what was written of it."""
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(file.remove)
