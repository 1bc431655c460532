"""Bombs in delivery reports."""

from __future__ import annotations

from typing import Final

from tests.unit.gateway.reading.bombs.make import (
    HEAD,
    MAILER,
    MARKS,
    REPORT,
    Bombs,
    body,
    fields,
    many,
    numbered,
)

REPORTS: Final[Bombs] = {
    "failed addresses": lambda n: MAILER + many(b"<a@b.example>:\r\n", n),
    "addresses of failures": lambda n: MAILER + many(b"user a@b.example unknown ", n),
    "blanks in a notice": lambda n: MAILER + many(b" ", n),
    "blanks behind an address": lambda n: MAILER + b"a@b.example" + many(b" ", n) + b"x",
    "lines of blanks in a notice": lambda n: MAILER + many(b" \t>\n", n),
    "dots in an address": lambda n: MAILER + b"a@" + many(b"a.", n),
    "dots in addresses": lambda n: MAILER + many(b"a@" + b"a." * 150 + b" ", n),
    "signs in a notice": lambda n: MAILER + many(b"a@", n),
    "letters in a notice": lambda n: MAILER + many(b"a", n),
    "exceed": lambda n: MAILER + many(b"exceed", n),
    "sentences of failures": lambda n: MAILER + many(b"could not a a a a ", n),
    "sentences of deliveries": lambda n: MAILER + many(b"delivery a a a a a a ", n),
    "sentences of recipients": lambda n: MAILER + many(b"recipient a a a ", n),
    "SMTP replies": lambda n: MAILER + many(b"550 5.1.1 ", n),
    "SMTP replies in one line": lambda n: MAILER + many(b"550 <", n),
    "copies": lambda n: MAILER + many(b"-- the original message\n", n),
    "near copies": lambda n: MAILER + many(b"the original message is ", n),
    "original messages": lambda n: MAILER + many(b"original message " + b"-" * 40, n),
    "returned ids": lambda n: MAILER + many(b"Message-ID:\n <a", n),
    "returned recipients": lambda n: MAILER + b"x\nReceived: y\n" + many(b"To: a@b.c\n", n),
    "failures of a library": lambda n: (
        MAILER + many(b"Hi. This is the qmail-send program at x.\n<a@b.c>:\n", n)
    ),
    "challenges": lambda n: MAILER + many(b"please confirm click message ", n),
    "status groups": lambda n: (
        REPORT + many(b"Final-Recipient: rfc822; a@b.c\r\nAction: failed\r\n\r\n", n)
    ),
    "recipients without group": lambda n: (
        REPORT + many(b"Final-Recipient: rfc822; a@b.c\r\n", n) + b"Action: failed\r\n"
    ),
    "one long status": lambda n: REPORT + b"Status: " + many(b"5.1.", n) + b"\r\n",
    "one long recipient": lambda n: (
        REPORT + b"Final-Recipient: rfc822; " + many(b"a", n) + b"\r\nAction: failed\r\n"
    ),
    "signs in a recipient": lambda n: (
        REPORT + b"Final-Recipient: rfc822; " + many(b"a@", n) + b"\r\nAction: failed\r\n"
    ),
    "quotes in a recipient": lambda n: (
        REPORT + b"Final-Recipient: rfc822; " + many(b'"a', n) + b"\r\nAction: failed\r\n"
    ),
    "escapes in a recipient": lambda n: (
        REPORT
        + b"Final-Recipient: utf-8; "
        + many(b"\\x{301}\\x{323}", n)
        + b"@b.c\r\nAction: failed\r\n"
    ),
    "folds in a status": lambda n: REPORT + b"Status: 5.1.1" + many(b"\r\n x", n),
    "fields of a status": lambda n: REPORT + numbered(b"X-%d: y\r\n", n),
    "diagnostics": lambda n: REPORT + b"Action: failed\r\nDiagnostic-Code: " + many(MARKS, n),
    "status parts": lambda n: (
        REPORT + many(b"\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed", n)
    ),
    "failed recipients": lambda n: fields(b"X-Failed-Recipients", b"a@b.example, ", n),
    "DMARC": lambda n: fields(b"Subject", b"report domain: ", n),
    "names of aggregate reports": lambda n: (
        HEAD + b"Content-Type: application/zip; name=" + many(b"a!", n) + b"\r\n\r\nx"
    ),
    "notices of a mail service": lambda n: body(
        b'{"notificationType":"Bounce","a":' + many(b"[", n)
    ),
    "recipients of a mail service": lambda n: body(
        b'{"notificationType":"Bounce","bounce":{"bouncedRecipients":['
        + many(b'{"emailAddress":"a@b.c"},', n)
        + b"{}]}}"
    ),
    "broken lines of a mail service": lambda n: body(
        b'{"notificationType":"Bounce","a":"' + many(b"!\r\n ", n) + b'"}'
    ),
}
