"""Bombs in the structure of a mail, its encodings and its attachments."""

from __future__ import annotations

import struct
from typing import Final

from tests.unit.gateway.reading.bombs.make import (
    HEAD,
    MARKS,
    Bombs,
    attribute,
    body,
    calendar,
    many,
    mixed,
    nested_base64,
    numbered,
    properties,
    winmail,
)

STRUCTURE: Final[Bombs] = {
    "nested multiparts": lambda n: (
        HEAD
        + b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
            for i in range(n // 60)
        )
        + b"\r\nx"
    ),
    "nested multiparts of one boundary": lambda n: (
        HEAD + many(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", n) + b"\r\nx"
    ),
    "nested mails": lambda n: HEAD + many(b"Content-Type: message/rfc822\r\n\r\n", n) + b"hi",
    "nested mails in base64": nested_base64,
    "attached mails": lambda n: mixed(
        many(b"--b\r\nContent-Type: message/rfc822\r\n\r\na:b\r\n", n)
    ),
    "parts": lambda n: mixed(many(b"--b\r\n\r\n", n)),
    "parts with fields": lambda n: mixed(
        many(b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx\r\n", n)
    ),
    "text parts of marks": lambda n: mixed(many(b"--b\r\n\r\n" + MARKS * 200 + b"\r\n", n)),
    "html parts": lambda n: mixed(many(b"--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n", n)),
    "headers of parts": lambda n: mixed(b"--b\r\n" + many(b"a: b\r\n", n)),
    "near boundaries": lambda n: mixed(many(b"--bx\r\n", n) + b"--b\r\n\r\nx"),
    "long boundaries": lambda n: body(
        many(b"--" + b"b" * 1999 + b"\r\n", n), b"multipart/mixed; boundary=" + b"b" * 2000
    ),
    "a multipart without its boundary": lambda n: body(
        many(b"--a\r\n", n), b"multipart/mixed; boundary=b"
    ),
    "boundaries without line": lambda n: mixed(many(b"--b", n)),
    "blanks behind boundaries": lambda n: mixed(b"--b" + many(b" ", n) + b"\r\n\r\nx"),
    "parts of blank lines": lambda n: mixed(b"--b\r\n" + many(b"\n \n", n)),
    "alternatives": lambda n: body(
        many(b"--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n", n),
        b"multipart/alternative; boundary=b",
    ),
    "attachments": lambda n: mixed(
        many(b"--b\r\nContent-Type: application/x; name=a\r\n\r\nx\r\n", n)
    ),
    "calendars": lambda n: mixed(
        many(
            b"--b\r\nContent-Type: text/calendar\r\n\r\n"
            b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
            n,
        )
    ),
    "large parts": lambda n: mixed(
        4 * (b"--b\r\n\r\n" + many("\u00e4b ".encode(), n // 4) + b"\r\n")
    ),
    "large html parts": lambda n: mixed(
        4 * (b"--b\r\nContent-Type: text/html\r\n\r\n" + many(b"<p>x", n // 4) + b"\r\n")
    ),
    "base64 with other characters": lambda n: body(
        many(b"A!", n), extra=b"Content-Transfer-Encoding: base64\r\n"
    ),
    "padding everywhere": lambda n: body(
        many(b"A==", n), extra=b"Content-Transfer-Encoding: base64\r\n"
    ),
    "soft line breaks": lambda n: body(
        many(b"=\r\n", n), extra=b"Content-Transfer-Encoding: quoted-printable\r\n"
    ),
    "equal signs in quoted-printable": lambda n: body(
        many(b"=", n), extra=b"Content-Transfer-Encoding: quoted-printable\r\n"
    ),
    "blanks in quoted-printable": lambda n: body(
        many(b" \t", n), extra=b"Content-Transfer-Encoding: quoted-printable\r\n"
    ),
    "marks in quoted-printable": lambda n: body(
        many(b"=CC=81=CC=A3", n), extra=b"Content-Transfer-Encoding: quoted-printable\r\n"
    ),
    "a uuencoded part": lambda n: body(
        many(b"M\n", n), extra=b"Content-Transfer-Encoding: x-uuencode\r\n"
    ),
    "uuencoded files": lambda n: body(many(b"begin 644 x\n`\nend\n", n)),
    "uuencoded files without end": lambda n: body(many(b"begin 644 x\n", n) + b"\nend"),
    "ends of uuencoded files": lambda n: body(many(b"begin 644 x\nzzzz\nend\n", n)),
    "blanks behind uuencoded names": lambda n: body(
        many(b"begin 644 a" + b" " * 4000 + b"x\r\n", n) + b"\r\nend\r\n"
    ),
    "marks beside uuencoded files": lambda n: body(b"begin 644 x\n`\nend\n" + many(MARKS, n)),
    "marks in uuencoded names": lambda n: body(many(b"begin 644 " + MARKS * 60 + b"\n`\nend\n", n)),
    "TNEF attributes": lambda n: winmail(many(attribute(0x0006, b""), n)),
    "TNEF files": lambda n: winmail(
        many(attribute(0x9002, b"\0" * 14) + attribute(0x800F, b"x"), n)
    ),
    "recipients in TNEF": lambda n: winmail(
        attribute(0x6004, struct.pack("<I", 0xFFFFFFFF) + many(b"\0\0\0\0", n))
    ),
    "TNEF properties": lambda n: winmail(attribute(0x9003, properties(n // 8))),
    "TNEF properties without end": lambda n: winmail(
        attribute(0x9003, struct.pack("<I", 0xFFFFFFFF) + b"\0" * n)
    ),
    "TNEF properties of files": lambda n: winmail(
        attribute(0x9002, b"\0" * 14) + attribute(0x9005, properties(n // 8))
    ),
    "people in a calendar": lambda n: calendar(
        many(b"ATTENDEE;CN=a;PARTSTAT=ACCEPTED:mailto:a@b.example\r\n", n)
    ),
    "nested components": lambda n: calendar(many(b"BEGIN:VEVENT\r\n", n)),
    "components": lambda n: calendar(many(b"END:VEVENT\r\nBEGIN:VEVENT\r\n", n)),
    "calendars in one part": lambda n: body(
        many(b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", n),
        b"text/calendar",
    ),
    "time zones": lambda n: calendar(many(b"BEGIN:VTIMEZONE\r\nEND:VTIMEZONE\r\n", n)),
    "folds in a calendar": lambda n: calendar(b"SUMMARY:x" + many(b"\r\n x", n)),
    "parameters in a calendar": lambda n: calendar(b"ATTENDEE" + many(b';A="b"', n) + b":x"),
    "open quotes in a calendar": lambda n: calendar(b"ATTENDEE" + many(b';A="', n) + b":x"),
    "escapes in a calendar": lambda n: calendar(b"SUMMARY:" + many(b"\\", n)),
    "marks in a calendar": lambda n: calendar(b"SUMMARY:a" + many(MARKS, n)),
    "properties in a calendar": lambda n: calendar(numbered(b"X-%d:y\r\n", n)),
    "categories in a calendar": lambda n: calendar(b"CATEGORIES:" + many(b"a,", n)),
    "dates in a calendar": lambda n: calendar(b"EXDATE:" + many(b"20260101,", n)),
    "periods in a calendar": lambda n: calendar(b"FREEBUSY:" + many(b"20260101T000000Z/PT1H,", n)),
    "durations in a calendar": lambda n: calendar(b"DURATION:P" + many(b"1", n) + b"D"),
    "rules in a calendar": lambda n: calendar(
        many(b"RRULE:FREQ=SECONDLY\r\nRDATE:20260101\r\n", n)
    ),
    "one rule in a calendar": lambda n: calendar(b"RRULE:FREQ=DAILY;BYDAY=" + many(b"MO,", n)),
}
