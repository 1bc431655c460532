"""Unpack winmail.dat, the TNEF stream in which Outlook sends files; ``tnefparse`` reads it."""

from __future__ import annotations

import logging
from typing import Final

from gateway.reading.mime import charset, limits

_MAX_FILES: Final = 100  # of one stream


def unpack(data: bytes) -> tuple[list[tuple[str, bytes]], str | None]:
    """Return the names and contents of the files in a TNEF stream, and a defect or None."""
    from tnefparse import TNEF

    logging.getLogger("tnefparse").setLevel(logging.CRITICAL + 1)  # it logs names and contents
    try:
        stream = TNEF(data, do_checksum=False)
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
