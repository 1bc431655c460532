"""Bombs in header fields."""

from __future__ import annotations

import base64
from typing import Final

from tests.unit.gateway.reading.bombs.make import HEAD, MARKS, Bombs, field, fields, many, numbered

HEADERS: Final[Bombs] = {
    "semicolons in an address field": lambda n: field(b"To", many(b";", n)),
    "commas in an address field": lambda n: fields(b"To", b"a,", n),
    "open comments": lambda n: field(b"Cc", many(b"(", n)),
    "nested comments": lambda n: field(b"Cc", many(b"(", n // 2) + many(b")", n // 2)),
    "comments between mailboxes": lambda n: fields(b"Cc", b"a@b.c (x) ", n),
    "comments inside an address": lambda n: field(b"Cc", b"<" + many(b"(a)", n) + b"@b.c>"),
    "open brackets": lambda n: field(b"Cc", many(b"<", n)),
    "open quotes": lambda n: field(b"Cc", many(b'"a', n)),
    "quoted pairs": lambda n: field(b"Cc", many(b'"\\', n)),
    "backslashes": lambda n: fields(b"From", b"\\", n),
    "mailboxes": lambda n: fields(b"To", b"a <a@b.example>, ", n),
    "signs in an address": lambda n: fields(b"To", b"a@", n),
    "words before an address": lambda n: fields(b"To", b"a ", n),
    "groups": lambda n: fields(b"To", b"g: a@b.c; ", n),
    "equal signs": lambda n: fields(b"To", b"=", n),
    "open words in an address field": lambda n: fields(b"To", b"=?utf-8?Q?", n),
    "words in an address field": lambda n: fields(b"To", b"=?utf-8?Q?a?= ", n),
    "commas and words": lambda n: fields(b"To", b"=?utf-8?Q?a?=,", n),
    "words inside brackets": lambda n: fields(b"To", b"<=?utf-8?Q?a@b.c?=> ", n),
    "semicolons in a content type": lambda n: (
        HEAD + b"Content-Type: text/plain" + many(b";", n) + b"\r\n\r\nx"
    ),
    "blank parameters": lambda n: (
        HEAD + b"Content-Type: text/plain" + many(b"; ", n) + b"\r\n\r\nx"
    ),
    "names of parameters": lambda n: HEAD + b"Content-Type: text/plain; " + many(b"a", n) + b"\r\n",
    "open parameters": lambda n: (
        HEAD + b"Content-Type: text/plain" + many(b'; a="\\', n) + b"\r\n\r\nx"
    ),
    "numbered parameters": lambda n: (
        HEAD + b"Content-Type: text/plain" + numbered(b"; a*%d*=x", n) + b"\r\n\r\nx"
    ),
    "percent signs": lambda n: (
        HEAD + b"Content-Disposition: x; filename*=utf-8''" + many(b"%e2%82", n) + b"\r\n\r\nx"
    ),
    "encoded words": lambda n: fields(b"Subject", b"=?utf-8?Q?a?= ", n),
    "open encoded words": lambda n: fields(b"Subject", b"=?utf-8?Q?", n),
    "words of many charsets": lambda n: fields(b"Subject", b"=?utf-8?Q?a?= =?gbk?Q?=b0=a1?= ", n),
    "words of base64 without end": lambda n: fields(b"Subject", b"=?utf-8?B?A?= ", n),
    "words with padding inside": lambda n: field(
        b"Subject", b"=?utf-8?B?" + many(b"A=", n) + b"?="
    ),
    "folds": lambda n: field(b"Subject", b"x" + many(b"\r\n ", n) + b"x"),
    "folds in an address field": lambda n: field(b"To", b"x" + many(b"\r\n ", n) + b"x"),
    "blanks in a subject": lambda n: fields(b"Subject", b" ", n),
    "prefixes": lambda n: fields(b"Subject", b"Re: ", n),
    "prefixes of many languages": lambda n: fields(
        b"Subject", "Fwd: AW: Antw: TR: 回复: ".encode(), n
    ),
    "tags": lambda n: fields(b"Subject", b"[#1.aaaaaaaaaaaaaaaa] ", n),
    "open tags": lambda n: fields(b"Subject", b"[", n),
    "empty tags": lambda n: fields(b"Subject", b"[a] ", n),
    "marks in a subject": lambda n: field(b"Subject", b"a" + many(MARKS, n)),
    "marks in subjects": lambda n: fields(b"Subject", MARKS, n),
    "marks in names": lambda n: fields(b"To", b"a" + MARKS * 200 + b" <a@b.example>, ", n),
    "marks in an address": lambda n: field(b"From", b"<" + many(MARKS, n) + b"@b.example>"),
    "marks in a domain": lambda n: field(b"From", b"<a@" + many(MARKS, n) + b".example>"),
    "marks in encoded words": lambda n: fields(
        b"Subject", b"=?utf-8?B?" + base64.b64encode(MARKS * 12) + b"?= ", n
    ),
    "marks in file names": lambda n: (
        HEAD
        + b"Content-Type: application/x; name*=utf-8''"
        + many(b"%CC%81%CC%A3", n)
        + b"\r\n\r\nx"
    ),
    "marks in ids": lambda n: fields(b"References", b"<a" + MARKS * 100 + b"@b> ", n),
    "marks in every field": lambda n: (
        HEAD
        + numbered(b"X-%d: " + MARKS * 300 + b"\r\n", n)
        + b"List-Id: "
        + MARKS * 1000
        + b"\r\n\r\nx"
    ),
    "references": lambda n: fields(b"References", b"<a@b> ", n),
    "numbered references": lambda n: field(b"References", numbered(b"<%d@b> ", n)),
    "open references": lambda n: fields(b"References", b"<a", n),
    "references without brackets": lambda n: fields(b"References", b"a@b ", n),
    "authentication comments": lambda n: fields(b"Authentication-Results", b"a; (", n),
    "authentication quotes": lambda n: fields(b"Authentication-Results", b'a; dmarc="\\', n),
    "authentication results": lambda n: fields(b"Authentication-Results", b"a; dmarc=fail ", n),
    "authentication policies": lambda n: field(
        b"Authentication-Results", b"a; dmarc=fail (" + many(b"p ", n) + b")"
    ),
    "Auto-Submitted": lambda n: fields(b"Auto-Submitted", b"a;(", n),
    "X-Auto-Response-Suppress": lambda n: fields(b"X-Auto-Response-Suppress", b"all,", n),
    "loop marks": lambda n: HEAD + many(b"X-Ticketgate-Loop: a@b\r\n", n) + b"\r\nx",
    "a robot's address": lambda n: fields(b"From", b"a-", n) + b"-owner",
    "received": lambda n: HEAD + many(b"Received: by x; Mon\r\n", n) + b"\r\nx",
    "trace fields": lambda n: HEAD + many(b"Received: x\r\n y\r\n", n) + b"\r\nx",
    "header lines": lambda n: HEAD + many(b"X: y\r\n", n) + b"\r\nx",
    "lines that are no fields": lambda n: HEAD + many(b"xy\r\n", n) + b"\r\nx",
    "a header without end": lambda n: HEAD + many(b"x", n),
    "lines of blanks": lambda n: HEAD + b"X: y" + many(b"\r\n \t", n) + b"\r\n\r\nx",
    "lines of blanks before the header": lambda n: many(b" \t\r\n", n) + HEAD + b"\r\nx",
    "blanks before the header": lambda n: many(b" ", n) + HEAD + b"\r\nx",
    "blank lines before the header": lambda n: many(b"\r\n", n) + HEAD + b"\r\nx",
    "dates": lambda n: field(b"Date", many(b"1 ", n)),
    "raw bytes in fields": lambda n: fields(b"Subject", b"\xe4\xf6", n),
    "escapes in fields": lambda n: fields(b"Subject", b"\x1b$B!!", n),
}
