"""Tests of mails made to cost time or memory (reliability.md 12 to 16)."""

from __future__ import annotations

import time

import pytest

from gateway.reading import parse
from gateway.reading.mime.limits import DEFECTS

HEAD = b"From: a@b.example\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\nMessage-ID: <x@y>\r\n"
MAILER = b"Return-Path: <>\r\nFrom: MAILER-DAEMON@x.example\r\nSubject: failure notice\r\n\r\n"


def field(name, value):
    return HEAD + name + b": " + value + b"\r\n\r\nbody\r\n"


def body(text, kind=b"text/plain; charset=utf-8", extra=b""):
    return HEAD + b"Content-Type: " + kind + b"\r\n" + extra + b"\r\n" + text


def html(text):
    return body(text, b"text/html; charset=utf-8")


def calendar(text):
    return body(
        b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n" + text + b"\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        b"text/calendar; method=REQUEST",
    )


def many(unit, size):
    return unit * (size // len(unit))


# each makes a mail of about the given size
BOMBS = {
    "semicolons in an address field": lambda n: field(b"To", many(b";", n)),
    "open comments": lambda n: field(b"Cc", many(b"(", n)),
    "open brackets": lambda n: field(b"Cc", many(b"<", n)),
    "quoted pairs": lambda n: field(b"Cc", many(b'"\\', n)),
    "semicolons in a content type": lambda n: (
        HEAD + b"Content-Type: text/plain" + many(b";", n) + b"\r\n\r\nx"
    ),
    "blank parameters": lambda n: (
        HEAD + b"Content-Type: text/plain" + many(b"; ", n) + b"\r\n\r\nx"
    ),
    "numbered parameters": lambda n: (
        HEAD
        + b"Content-Type: text/plain"
        + b"".join(b"; a*%d*=x" % i for i in range(n // 10))
        + b"\r\n\r\nx"
    ),
    "encoded words": lambda n: field(b"Subject", many(b"=?utf-8?Q?a?= ", n)),
    "open encoded words": lambda n: field(b"Subject", many(b"=?utf-8?Q?", n)),
    "words of many charsets": lambda n: field(
        b"Subject", many(b"=?utf-8?Q?a?= =?gbk?Q?=b0=a1?= ", n)
    ),
    "folds": lambda n: field(b"Subject", b"x" + many(b"\r\n ", n) + b"x"),
    "references": lambda n: field(b"References", many(b"<a@b> ", n)),
    "authentication comments": lambda n: field(b"Authentication-Results", b"a; " + many(b"(", n)),
    "header lines": lambda n: HEAD + many(b"X: y\r\n", n) + b"\r\nx",
    "a header without end": lambda n: HEAD + many(b"x", n),
    "punycode": lambda n: body(many(b"\xe9a", n), b"text/plain; charset=punycode"),
    "utf-7": lambda n: body(many(b"+AGE-", n), b"text/plain; charset=utf-7"),
    "nested multiparts": lambda n: (
        HEAD
        + b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
            for i in range(n // 60)
        )
        + b"\r\nx"
    ),
    "nested mails": lambda n: HEAD + many(b"Content-Type: message/rfc822\r\n\r\n", n) + b"hi",
    "parts": lambda n: (
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + many(b"--b\r\n\r\n", n)
    ),
    "near boundaries": lambda n: (
        HEAD
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + many(b"--bx\r\n", n)
        + b"--b\r\n\r\nx"
    ),
    "lone CR": lambda n: body(many(b"\r", n)),
    "quote signs": lambda n: body(many(b">", n)),
    "quotes and answers": lambda n: body(many(b"> a\nb\n", n)),
    "introductions": lambda n: body(many(b"On Mon, 1 Jan 2024 at 10:00, a <a@b.c> wrote:\n", n)),
    "lines with colons": lambda n: body(many(b"abc def 1:\n", n)),
    "header blocks": lambda n: body(many(b"From: a\nTo: b\nSubject: c\n\n", n)),
    "forward marks": lambda n: body(many(b"---------- Forwarded message ---------\n", n)),
    "one long mark": lambda n: body(b"-- Forwarded message -- From: " + many(b"To:", n)),
    "one long line": lambda n: body(many(b"a wrote:", n)),
    "nested div": lambda n: html(many(b"<div>", n)),
    "nested quotes": lambda n: html(many(b"<blockquote>x", n)),
    "open conditions": lambda n: html(many(b"<!--[if x]>", n)),
    "tags that close others": lambda n: html(many(b"<b>x</i>", n)),
    "open attributes": lambda n: html(many(b"<a b=", n)),
    "uuencoded files": lambda n: body(many(b"begin 644 x\n`\nend\n", n)),
    "padding everywhere": lambda n: body(
        many(b"A==", n), extra=b"Content-Transfer-Encoding: base64\r\n"
    ),
    "failed addresses": lambda n: MAILER + many(b"<a@b.example>:\r\n", n),
    "blanks in a notice": lambda n: MAILER + many(b" ", n),
    "dots in an address": lambda n: MAILER + b"a@" + many(b"a.", n),
    "status groups": lambda n: (
        HEAD
        + (
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: "
            b"message/delivery-status\r\n\r\n"
        )
        + many(b"Final-Recipient: rfc822; a@b.c\r\nAction: failed\r\n\r\n", n)
        + b"--b--\r\n"
    ),
    "rules below a forward": lambda n: body(
        b"-- Forwarded message --\nFrom: a\nTo: b\n\nx\n" + many(b"----------------\n", n)
    ),
    "lines of dates": lambda n: body(many(b"On 2 March 2026\n2 March 2026 a wrote:\n", n)),
    "marks of clients": lambda n: html(many(b"<p>x<div class=gmail_quote>y</div>", n)),
    "nested marks of clients": lambda n: html(b"x" + many(b"<div class=yahoo_quoted>y<p>", n)),
    "long classes": lambda n: html(
        many(b"<p class='gmail_quot gmail_quot gmail_quot'>x", n) + b"<p class=gmail_quote>"
    ),
    "people in a calendar": lambda n: calendar(
        many(b"ATTENDEE;CN=a;PARTSTAT=ACCEPTED:mailto:a@b.example\r\n", n)
    ),
    "nested components": lambda n: calendar(many(b"BEGIN:VEVENT\r\n", n)),
    "folds in a calendar": lambda n: calendar(b"SUMMARY:x" + many(b"\r\n x", n)),
    "parameters in a calendar": lambda n: calendar(b"ATTENDEE" + many(b';A="b"', n) + b":x"),
    "open quotes in a calendar": lambda n: calendar(b"ATTENDEE" + many(b';A="', n) + b":x"),
    "escapes in a calendar": lambda n: calendar(b"SUMMARY:" + many(b"\\", n)),
    "rules in a calendar": lambda n: calendar(
        many(b"RRULE:FREQ=SECONDLY\r\nRDATE:20260101\r\n", n)
    ),
    "enriched text": lambda n: body(many(b"<a>", n), b"text/enriched"),
}


def cost(raw):
    """Return the processor seconds of one reading, the better of two."""
    spent = []
    for _ in range(2):
        begun = time.process_time()
        parse.read(raw, html=True)
        spent.append(time.process_time() - begun)
    return min(spent)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    parse.warm_up()
    parse.read(MAILER)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_cost_is_linear(bomb):
    """Four times the size costs about four times the time; quadratic code would need sixteen."""
    small, large = cost(bomb(30_000)), cost(bomb(120_000))
    assert large < 8 * max(small, 0.004)


def test_a_million_parts_are_not_made():
    """Five hundred parts are read and the rest is left out."""
    found = parse.read(
        HEAD
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\n\r\nx\r\n" * 1_000_000
    )
    assert found.over_limit
    assert found.text.count("x") < 501


def test_a_header_of_ten_megabytes():
    """The header is read up to the limit, and the body behind it is found."""
    found = parse.read(
        HEAD
        + b"X-Junk: "
        + b"y" * 76
        + b"\r\n"
        + b"X-Junk: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 160_000
        + b"\r\nbody"
    )
    assert (found.over_limit, found.text, found.message_id) == (True, "body", "x@y")


def test_defects_are_few_however_broken_a_mail_is():
    """A mail with a thousand faults has at most as many defects as the limit."""
    raw = (
        HEAD
        + b"nonsense\r\n" * 900
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nstray\r\nContent-Transfer-Encoding: odd\r\n\r\n\xff\r\n" * 400
    )
    assert len(parse.read(raw).defects) <= DEFECTS
