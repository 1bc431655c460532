"""The bytes between DATA and its end: found in chunks, freed of dot stuffing, checked for line
ends, and kept in memory or in a file.

Only CR LF . CR LF ends a mail. A CR or LF alone is how one mail is smuggled inside another (two
servers that disagree about where a mail ends), so it is refused, or, for networks that are trusted,
made a line end *after* the end of the mail was found. What can go wrong: a mail that never ends, is
too large, has too many hops, or a disk that does not take it; then the rest is read and dropped,
and the answer tells the reason.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Literal

from gateway.ingress.accept import IN_MEMORY, Raw
from gateway.ingress.spool_files import MailFile

if TYPE_CHECKING:
    from pathlib import Path

Fault = Literal["bare_newline", "too_large", "hops", "endless"]

_END = b"\r\n.\r\n"
_BEGINNINGS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_ANY_NEWLINE = re.compile(rb"\r*\n|\r+")
_MANY_CR = 1024
_TOLERATED = 1 << 20  # beyond twice the limit and this, the end of a mail is not waited for
_WRITE = 128 << 10  # written at once, once there is a file


class MailData:
    """One mail while it is received. :meth:`feed` it until it returns what follows the mail; then
    :meth:`finish` or :meth:`abandon` it.
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
        """``head`` is put before the mail and does not count towards ``limit`` bytes; ``hops`` is
        the greatest number of Received fields.
        """
        self._head = len(head)
        self._directory = directory
        self._limit = limit
        self._hops = hops
        self._normalize = normalize
        self._buffer = bytearray(head)
        self._size = 0  # bytes of the mail so far, without head
        self._tail = b"\r\n"  # read but not judged; a mail begins like after a line end
        self._skip = 2  # bytes at the front of _tail that are not part of the mail
        self._file: MailFile | None = None
        self.fault: Fault | None = None
        self.error: Exception | None = None

    def feed(self, chunk: bytes) -> bytes | None:
        """Takes the next bytes; returns None until the mail has ended, then the bytes after its end
        (pipelined commands).
        """
        data = self._tail + chunk
        dot = data.find(
            b"\r\n."
        )  # in most mails the first dot at the beginning of a line is the last: one search does
        end = dot if dot < 0 or data.startswith(_END, dot) else data.find(_END, dot)
        if end >= 0:
            self._take(data[: end + 2], stuffed=dot < end)
            return data[end + 5 :]
        cut = len(data)
        for beginning in _BEGINNINGS:
            if data.endswith(beginning):
                cut -= len(beginning)
                break
        if self._normalize:  # CR CR LF is one line end, also when it comes in two chunks
            cut = max(len(data[:cut].rstrip(b"\r")), cut - _MANY_CR)
        self._tail = data[cut:]
        if cut:
            self._take(data[:cut], stuffed=dot >= 0)
        return None

    def _take(self, piece: bytes, *, stuffed: bool) -> None:
        """Judges and keeps a piece, which never ends inside a CR LF or before a stuffed dot."""
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
            self._fail("too_large" if self._size <= 2 * self._limit + _TOLERATED else "endless")
        if self.fault is not None:
            self._buffer.clear()

    def _fail(self, fault: Fault) -> None:
        if self.fault is None or fault == "endless":
            self.fault = fault

    @property
    def full(self) -> bool:
        """Whether so much is in memory that :meth:`relieve` has to be awaited before more is read."""
        return len(self._buffer) > (IN_MEMORY if self._file is None else _WRITE)

    async def relieve(self) -> None:
        """Writes what is in memory to the file; an error of the disk is kept in ``error`` and the
        mail read to its end all the same.
        """
        if self._file is None and not self._few_hops():
            self._fail("hops")
            self._buffer.clear()
            return
        buffer, self._buffer = self._buffer, bytearray()
        try:
            if self._file is None:
                self._file = await asyncio.to_thread(MailFile, self._directory)
            await asyncio.to_thread(self._file.write, buffer)
        except OSError as error:
            self.error = error

    def _few_hops(self) -> bool:
        """Counts in the first of the buffers, which holds the whole header unless that is absurd."""
        end = self._buffer.find(b"\r\n\r\n", max(self._head - 2, 0))
        header = b"\r\n" + self._buffer[self._head : end if end >= 0 else None]
        return header.lower().count(b"\r\nreceived:") <= self._hops

    async def finish(self) -> Raw:
        """The whole mail; empty where ``fault`` says why not, and then nothing of it is left.
        Raises the error of the disk, an OSError.
        """
        if self.fault is None and self.error is None:
            if self._file is None and not self.full:
                if self._few_hops():
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
        """Removes what was written."""
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(file.remove)
