"""Unpack winmail.dat, the TNEF stream in which Outlook sends files; ``tnefparse`` reads it."""

from __future__ import annotations

import logging
import struct
from typing import Final

from gateway.reading.mime import charset, limits

_MAX_FILES: Final = 100  # of one stream
_MAX_COPIED: Final = 1 << 30  # bytes; the library copies the rest of the stream for each attribute
_HEADER_BYTES: Final = 6  # of a stream
_ATTRIBUTE: Final = struct.Struct("<BII")  # level, kind, length; data and a checksum follow


def unpack(data: bytes) -> tuple[list[tuple[str, bytes]], str | None]:
    """Return the names and contents of the files in a TNEF stream, and a defect or None."""
    from tnefparse import TNEF

    logging.getLogger("tnefparse").setLevel(logging.CRITICAL + 1)  # it logs names and contents
    kept = _end(data)
    if kept < len(data):
        limits.leave_out("a winmail.dat longer than is read")
    try:
        stream = TNEF(data[:kept], do_checksum=False)
    except Exception:  # noqa: BLE001
        # On damaged streams, the library raises ValueError, struct.error, IndexError and others.
        return [], "a winmail.dat that cannot be read"
    out: list[tuple[str, bytes]] = []
    for index, each in enumerate(stream.attachments[:_MAX_FILES]):
        try:
            name = str(each.long_filename() or each.name or "")
            content = bytes(each.data or b"")
        except Exception:  # noqa: BLE001
            return out, "a file in winmail.dat that cannot be read"
        out.append(
            (
                charset.one_line(name.replace("\x00", ""), limits.FILENAME)
                or f"attachment-{index + 1}",
                content,
            )
        )
    return out, None


def _end(data: bytes) -> int:
    """Return where to stop reading a stream, so that the library copies no more than the cap."""
    at, copied = _HEADER_BYTES, 0
    while at + _ATTRIBUTE.size <= len(data) and copied < _MAX_COPIED:
        copied += len(data) - at
        at += _ATTRIBUTE.size + _ATTRIBUTE.unpack_from(data, at)[2] + 2
    return at if copied >= _MAX_COPIED else len(data)
