"""What mails that cost time are built of.

The modules beside this one name a bomb for every construct that is normalised, sanitised, split or
searched: a function that makes a mail of about the given size.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Final

Bombs = dict[str, Callable[[int], bytes]]

HEAD: Final = b"From: a@b.example\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\nMessage-ID: <x@y>\r\n"
MAILER: Final = (
    b"Return-Path: <>\r\nFrom: MAILER-DAEMON@x.example\r\nSubject: failure notice\r\n\r\n"
)
FORWARD: Final = (
    HEAD
    + b"Subject: Fwd: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    + b"---------- Forwarded message ---------\r\nFrom: a <a@b.example>\r\nDate: x\r\n"
    + b"Subject: y\r\n"
)
REPORT: Final = (
    HEAD
    + b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n"
    + b"\r\nx\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
)
# Canonical reordering sorts marks of different classes, so their order is what costs.
MARKS: Final = "\u0301\u0323".encode()
MANY_MARKS: Final = "\u0345\u0301\u0323\u0327\u0338\u031b\u05b0\u064b".encode()


def many(unit: bytes, size: int) -> bytes:
    """Repeat ``unit`` up to ``size`` bytes."""
    return unit * (size // len(unit))


def numbered(form: bytes, size: int) -> bytes:
    """Repeat ``form`` with ascending numbers up to ``size`` bytes."""
    return b"".join(form % index for index in range(size // (len(form) + 2)))


def field(name: bytes, value: bytes) -> bytes:
    """Return a mail with one more header field."""
    return HEAD + name + b": " + value + b"\r\n\r\nbody\r\n"


def fields(name: bytes, unit: bytes, size: int) -> bytes:
    """Return a mail with as many fields of 60 KB as ``size`` needs."""
    whole, rest = divmod(size, 60_000)
    values = [many(unit, 60_000)] * whole + [many(unit, rest)]
    return HEAD + b"".join(name + b": " + each + b"\r\n" for each in values) + b"\r\nbody\r\n"


def body(text: bytes, kind: bytes = b"text/plain; charset=utf-8", extra: bytes = b"") -> bytes:
    """Return a mail with this body."""
    return HEAD + b"Content-Type: " + kind + b"\r\n" + extra + b"\r\n" + text


def html(text: bytes) -> bytes:
    """Return a mail with this HTML as its only body."""
    return body(text, b"text/html; charset=utf-8")


def beside(text: bytes, shown: bytes) -> bytes:
    """Return an answer with a plain text and its HTML alternative."""
    kind = b"multipart/alternative; boundary=b"
    both = b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text
    both += b"\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + shown + b"\r\n--b--\r\n"
    return body(both, kind, b"In-Reply-To: <z@y>\r\n")


def mixed(parts: bytes) -> bytes:
    """Return a multipart with these parts, whose boundary is ``b``."""
    return body(parts, b"multipart/mixed; boundary=b")


def calendar(text: bytes) -> bytes:
    """Return an invitation whose event has these lines."""
    return body(
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n" + text + b"\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        b"text/calendar; method=REQUEST",
    )


def winmail(attributes: bytes) -> bytes:
    """Return a mail with a TNEF stream of these attributes."""
    stream = struct.pack("<IH", 0x223E9F78, 1) + attributes
    return body(
        base64.encodebytes(stream),
        b"application/ms-tnef; name=winmail.dat",
        b"Content-Transfer-Encoding: base64\r\n",
    )


def nested_base64(size: int) -> bytes:
    """Return a mail in a mail in a mail, each in base64."""
    raw = HEAD + b"\r\n" + many(b"x", size // 16)
    for _ in range(8):
        raw = body(
            base64.encodebytes(raw), b"message/rfc822", b"Content-Transfer-Encoding: base64\r\n"
        )
    return raw


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("<BII", 2, kind, len(data)) + data + struct.pack("<H", 0)


def properties(count: int) -> bytes:
    """Return a stream attribute with ``count`` MAPI properties of four bytes."""
    return struct.pack("<I", count) + struct.pack("<HHI", 3, 0x3705, 1) * count


def words(text: str, size: int) -> bytes:
    return many(text.encode(), size)
