"""Bombs in plain text."""

from __future__ import annotations

from typing import Final

from tests.unit.gateway.reading.bombs.make import (
    FORWARD,
    HEAD,
    MANY_MARKS,
    MARKS,
    Bombs,
    body,
    many,
    words,
)

TEXT: Final[Bombs] = {
    "combining marks": lambda n: body(many(MARKS, n)),
    "combining marks of many classes": lambda n: body(many(MANY_MARKS, n)),
    "runs of marks": lambda n: body(many(b"a" + MARKS * 15_000, n)),
    "short runs of marks": lambda n: body(many(b"a" + MARKS * 8, n)),
    "marks and invisible signs": lambda n: body(many(MARKS + "\u034f".encode(), n)),
    "marks and joiners": lambda n: body(many(MARKS + "\u200d".encode(), n)),
    "decomposing letters": lambda n: body(words("\u1e69\u01d6\u0344", n)),
    "decomposing marks": lambda n: body(words("\u0344\u0323", n)),
    "marks that decompose": lambda n: body(words("\u0f73\u0f75\u0f81\u0345", n)),
    "growing signs": lambda n: body(words("\ufdfa\u0390\u1f82", n)),
    "musical signs": lambda n: body(words("\U0001d160\U0001d16d", n)),
    "Hangul": lambda n: body(words("\u1100\u1161\u11a8", n)),
    "marks in UTF-16": lambda n: body(
        many("\u0301\u0323".encode("utf-16-le"), n), b"text/plain; charset=utf-16le"
    ),
    "marks in Vietnamese": lambda n: body(
        many(b"\xcc\xf2", n), b"text/plain; charset=windows-1258"
    ),
    "marks in Hebrew": lambda n: body(many(b"\xc0\xc8", n), b"text/plain; charset=windows-1255"),
    "direction signs": lambda n: body(words("\u202e\u2066\u202c", n)),
    "joiners": lambda n: body(words("\U0001f468\u200d", n)),
    "invisible signs": lambda n: body(words("\u200b\ufeff", n)),
    "invisible lines": lambda n: body(words("\u200b\u202c:\n", n)),
    "surrogates": lambda n: body(many(b"\xed\xa0\x80", n)),
    "broken UTF-8": lambda n: body(many(b"\xe2\x82", n)),
    "unknown bytes": lambda n: body(many(b"\xe0\xf0\x80", n), b"text/plain"),
    "words of unknown bytes": lambda n: body(many(b"\xf0\xe1\xe2 ", n), b"text/plain"),
    "punycode": lambda n: body(many(b"\xe9a", n), b"text/plain; charset=punycode"),
    "utf-7": lambda n: body(many(b"+AGE-", n), b"text/plain; charset=utf-7"),
    "open utf-7": lambda n: body(b"+" + many(b"A", n), b"text/plain; charset=utf-7"),
    "hz": lambda n: body(many(b"~{!!~}", n), b"text/plain; charset=hz-gb-2312"),
    "escapes": lambda n: body(many(b"\x1b$B!!\x1b(B", n), b"text/plain; charset=iso-2022-jp"),
    "escapes only": lambda n: body(many(b"\x1b", n), b"text/plain; charset=iso-2022-kr"),
    "capital letters with dots": lambda n: body(words("\u0130:\n", n)),
    "NUL": lambda n: body(many(b"\0", n)),
    "lone CR": lambda n: body(many(b"\r", n)),
    "CR before every letter": lambda n: body(many(b"\rx", n)),
    "line ends": lambda n: body(many(b"\r\n", n)),
    "blank lines of blanks": lambda n: body(many(b" \t\n", n)),
    "blanks": lambda n: body(b"x" + many(b" ", n) + b"x"),
    "tabs": lambda n: body(b"x" + many(b"\t ", n) + b"x"),
    "hard blanks": lambda n: body(words("\u00a0", n) + b"x"),
    "lines of hard blanks": lambda n: body(many("\u00a0".encode() * 400 + b"x\n", n)),
    "one long word": lambda n: body(many(b"a", n)),
    "one long number": lambda n: body(many(b"1", n) + b":"),
    "words": lambda n: body(many(b"a ", n)),
    "URLs": lambda n: body(many(b"http://a.example/b ", n)),
    "one long URL": lambda n: body(b"http://a.example/" + many(b"?a=b&", n)),
    "addresses": lambda n: body(many(b"a@b.example ", n)),
    "signs": lambda n: body(many(b"a@", n)),
    "tags in a text": lambda n: body(many(b"[#1.aaaaaaaaaaaaaaaa] ", n)),
    "quote signs": lambda n: body(many(b">", n)),
    "quote signs and blanks": lambda n: body(many(b"> ", n)),
    "deep quotes": lambda n: body(many(b">" * 500 + b"a\n", n)),
    "deeper and deeper quotes": lambda n: body(
        b"".join(b">" * (i % 200) + b"a\n" for i in range(n // 100))
    ),
    "bars": lambda n: body(many(b"| a |\n", n)),
    "one row of bars": lambda n: body(many(b"| ", n) + b"|"),
    "quotes and answers": lambda n: body(many(b"> a\nb\n", n)),
    "quotes and blank lines": lambda n: body(many(b"> a\n\n\n", n)),
    "quotes that wrap": lambda n: body(many(b"> (a\n) b\n", n)),
    "introductions": lambda n: body(many(b"On Mon, 1 Jan 2024 at 10:00, a <a@b.c> wrote:\n", n)),
    "introductions and quotes": lambda n: body(
        many(b"On Mon, 1 Jan 2024 at 10:00, a <a@b.c> wrote:\n> x\n", n)
    ),
    "introductions of many languages": lambda n: body(
        words(
            "Am 1. Januar 2024 schrieb a <a@b.c>:\nLe 1 janv. 2024, a a écrit :\n"
            "El 1 de enero escribió:\n2024年1月1日 a <a@b.c> 写道：\n1 января пишет:\n",
            n,
        )
    ),
    "introductions without verb": lambda n: body(many(b"On Mon, 1 Jan 2024 at 10:00:\n", n)),
    "verbs": lambda n: body(many(b"wrote " * 60 + b"wrote:\n", n)),
    "verbs without blanks": lambda n: body(words("写道" * 100 + "：\n", n)),
    "lines of dates": lambda n: body(many(b"On 2 March 2026\n2 March 2026 a wrote:\n", n)),
    "lines with colons": lambda n: body(many(b"abc def 1:\n", n)),
    "lines that end in brackets": lambda n: body(many(b"1-1-1 " + b"<a@b" * 20 + b">\n> x\n", n)),
    "header blocks": lambda n: body(many(b"From: a\nTo: b\nSubject: c\n\n", n)),
    "header blocks without end": lambda n: body(many(b"From: a\nTo: <\nb\n", n)),
    "header blocks of blank lines": lambda n: body(many(b"From: a\n\n\nTo: b\n\n\n", n)),
    "fields of a block": lambda n: body(b"From: a\n" + many(b"To: a@b.c,\n", n)),
    "labels": lambda n: body(words("От: a\nVon: b\n差出人: c\n發件人：d\n", n)),
    "decorated labels": lambda n: body(many(b"*" * 150 + b"From: a\n", n)),
    "marks in labels": lambda n: body(many(b"From" + MARKS * 10 + b": a\nTo: b\n", n)),
    "forward marks": lambda n: body(many(b"---------- Forwarded message ---------\n", n)),
    "forward marks of many languages": lambda n: body(
        words(
            "-------- Weitergeleitete Nachricht --------\n---- Message transféré ----\n"
            "---------- 转发的邮件 ----------\nBegin forwarded message:\n"
            "-------- Пересылаемое сообщение --------\n",
            n,
        )
    ),
    "reply marks": lambda n: body(many(b"-----Original Message-----\n", n)),
    "near marks": lambda n: body(many(b"---- Forwarded mess by a ----\n", n)),
    "dashes": lambda n: body(many(b"-", n)),
    "lines of dashes": lambda n: body(many(b"-" * 199 + b"\n", n)),
    "dashes and words": lambda n: body(many(b"--a", n)),
    "lines of dashes and words": lambda n: body(many(b"--a" * 60 + b"\n", n)),
    "one long mark": lambda n: body(b"-- Forwarded message -- From: " + many(b"To:", n)),
    "one long line": lambda n: body(many(b"a wrote:", n)),
    "rules": lambda n: body(many(b"_____\n", n)),
    "rules above a block": lambda n: body(many(b"_____\n", n) + b"From: a\nTo: b\nSubject: c\n"),
    "signatures": lambda n: body(many(b"-- \nx\n", n)),
    "closings": lambda n: body(many(b"Best regards\n", n)),
    "closings below a quote": lambda n: body(b"x\n> a\n" + many(b"best best best \n", n)),
    "rules below a forward": lambda n: body(
        b"-- Forwarded message --\nFrom: a\nTo: b\n\nx\n" + many(b"----------------\n", n)
    ),
    "mailboxes in a forward": lambda n: FORWARD + b"To: " + many(b"a <a@b.example>, ", n),
    "lines of mailboxes in a forward": lambda n: (
        FORWARD + b"To: a <a@b.c>,\r\n" + many(b"a <a@b.c>,\r\n", n) + b"\r\nhi"
    ),
    "links in a forward": lambda n: FORWARD + b"To: " + many(b"a@b<mailto:", n) + b"\r\n\r\nhi",
    "brackets in a forward": lambda n: FORWARD + b"To: " + many(b"<a@b <", n) + b"\r\n\r\nhi",
    "repeated addresses in a forward": lambda n: FORWARD + b"To: " + many(b"<a@b> ", n),
    "quoted forwards": lambda n: body(
        many(b"> ---------- Forwarded message ---------\n> From: a\n> To: b\n", n)
    ),
    "a sender on behalf": lambda n: (
        FORWARD.replace(b"a <a@b.example>", many(b"a on behalf of ", n)) + b"\r\nhi"
    ),
    "lines of a forward": lambda n: FORWARD + b"\r\n" + many(b"> x\r\n\r\n", n),
    "marks in a forward": lambda n: FORWARD + b"To: a" + many(MARKS, n) + b" <a@b.c>\r\n\r\nhi",
    "enriched text": lambda n: body(many(b"<a>", n), b"text/enriched"),
    "parameters of enriched text": lambda n: body(many(b"<param>", n), b"text/enriched"),
    "flowed lines": lambda n: body(many(b"a \n", n), b"text/plain; format=flowed; delsp=yes"),
    "an absence": lambda n: (
        HEAD + b"Precedence: bulk\r\nSubject: automatic reply\r\n\r\n" + many(b"will a a a ", n)
    ),
    "PGP": lambda n: body(b"-----BEGIN PGP MESSAGE-----\n" + many(b"=a\n", n)),
}
