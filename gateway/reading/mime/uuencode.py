"""Decode uuencode: whole parts, and files pasted into a text (``begin 644 name`` to ``end``)."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final

_BEGIN: Final = re.compile(
    rb"^begin(?:-base64)? ([0-7]{3,4}) ([^\r\n]{0,254}[^\s])[ \t]*+\r?$", re.MULTILINE
)
_END: Final = re.compile(rb"^(?:end|====)[ \t]*\r?$", re.MULTILINE)
_MAX_FILES: Final = 50  # in one body


@dataclass(frozen=True, slots=True)
class PastedFile:
    """A file found in a text: its name, its content, and its ``start`` and ``end`` in the text."""

    name: bytes
    content: bytes
    start: int
    end: int


def decode_lines(data: bytes) -> bytes:
    """Decode uuencoded data, with or without begin and end lines; invalid lines are skipped."""
    begin = _BEGIN.search(data)
    if begin:
        data = data[begin.end() :]
    if (end := _END.search(data)) is not None:
        data = data[: end.start()]
    return b"".join(_line(line) for line in data.split(b"\n") if line.strip())


def _line(line: bytes) -> bytes:
    line = line.rstrip(b"\r\n")
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        length = (line[0] - 32) & 63
        try:
            return binascii.a2b_uu(line[: (length + 2) // 3 * 4 + 1])
        except binascii.Error:
            return b""


def find(body: bytes) -> list[PastedFile]:
    """Return the uuencoded files in a text, in order, but no file without an ``end`` line."""
    out: list[PastedFile] = []
    at = 0
    while len(out) < _MAX_FILES and (begin := _BEGIN.search(body, at)):
        end = _END.search(body, begin.end())
        if end is None:
            break
        at = end.end()
        block = body[begin.end() : end.start()].strip(b"\r\n")
        rows = block.split(b"\n")
        if rows and all(_is_encoded(row) for row in rows[:20]):
            if begin[0].startswith(b"begin-base64"):
                from gateway.reading.mime.headers import base64_bytes

                content = base64_bytes(block)
            else:
                content = decode_lines(block)
            out.append(PastedFile(begin[2], content, begin.start(), end.end()))
    return out


def _is_encoded(row: bytes) -> bool:
    row = row.rstrip(b"\r")
    if not row:
        return True
    return 32 <= row[0] <= 96 and (len(row) - 1) * 3 // 4 + 3 >= (row[0] - 32) & 63
