"""The skeleton of a mail's text: where quotes, their introductions, header blocks and forward marks
stand.

One pass over the lines, shared by the engines for forwards and for visible replies. Lines inside a
quote are looked at only where the quote begins, so a long quoted mail costs little. The words come
from :mod:`gateway.reading.languages`; nothing here knows a client by name.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from gateway.reading.languages import DECORATION, FORWARD_MARKS, REPLY_MARKS, fold
from gateway.reading.text.attribution import introduction
from gateway.reading.text.header_blocks import colon_of, header_block, label_of
from gateway.reading.text.quotes import Found, depth_of, quote_end, quoted_next, unquoted

MOST_LINES: Final = 20_000
MOST_FOUND: Final = 2_000
_FRAMED: Final = re.compile(
    r"[\s\ufeff]*[-_=*~—–]{2,80}[ \t]*(\S[^\n]{1,78}?)[ \t]*[-_=*~—–]{2,80}[ \t]*(.*)"
)
_BY: Final = re.compile(
    r"\s+(?:by|from|von|par|por|da|de|door|van|av|af|fra|från|przez|od|от|от:)(?=\s)|\s*[-:]\s*\d"
)
_FRAME: Final = frozenset("-_=*~—–<[#>|+")
_ENDS: Final = re.compile(r"(?:[:：]|[:：]\*|\bwrote\s*-{2,}|----)[\s\u200b\u202c]*$")
_LONGEST_LINE: Final = 1000
_LAST: Final = frozenset(":：-*\u200b\u202c>")
_DATED_BARE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b.{0,100}<[^<>\s]+@[^<>\s]+>")


def outline(lines: list[str]) -> list[Found]:
    """Everything found in a text, in order. Of a quote only its extent and what stands on its first
    lines is told.
    """
    out: list[Found] = []
    at = 0
    count = min(len(lines), MOST_LINES)
    while at < count and len(out) < MOST_FOUND:
        line = lines[at]
        if not line or line.isspace():
            at += 1
            continue
        depth = depth_of(line)
        found = _at(lines, at, depth)
        if found is not None and out and found.start < out[-1].end:
            found.start = at
        if found is not None:
            out.append(found)
            if found.sign == "forward_mark" and len(line) > _LONGEST_LINE:
                return out
            at = max(found.end, at + 1)
        elif depth:
            end = quote_end(lines, at, count)
            out.append(Found("quote", at, end, depth))
            at = end
        else:
            at += 1
    return out


def _at(lines: list[str], at: int, depth: int) -> Found | None:
    """What begins at a line: a mark, a header block or an introduction."""
    line = lines[at]
    if depth:
        line = unquoted(line, depth)
    head = line[:200]
    sign = mark(head)
    if sign == "forward_mark" or sign and not depth:
        return Found(sign, at, at + 1, depth)
    colon = colon_of(head)
    if (
        colon > 0
        and label_of(head[:colon]) is not None
        and (block := header_block(lines, at, depth)) is not None
    ):
        return block
    if not depth and len(line) <= _LONGEST_LINE and (last := line.rstrip()[-1:]) in _LAST:
        if last == ">":
            old = bool(_DATED_BARE.fullmatch(line.strip())) and quoted_next(lines, at + 1)
            return Found("introduction", at, at + 1, 0, {}, strong=True) if old else None
        if _ENDS.search(line[-40:]):
            return introduction(lines, at)
    elif not depth and line.rstrip().endswith(" wrote") and quoted_next(lines, at + 1):
        return introduction(lines, at)
    return None


def mark(line: str) -> Literal["forward_mark", "reply_mark"] | None:
    """Whether a line is the mark above a forwarded or a quoted mail."""
    bare = line.strip(DECORATION)
    if len(bare) < 4:
        return None
    first = line.lstrip(" \t\ufeff")[0]
    if len(bare) < 120 and (first in _FRAME or line.rstrip()[-1] in ":："):
        folded = fold(bare)
        if folded in FORWARD_MARKS:
            return "forward_mark"
        if folded in REPLY_MARKS and (first in _FRAME or " " in folded):
            return "reply_mark"
    elif 12 < len(bare) < 60 and bare.lower() in FORWARD_MARKS:
        return "forward_mark"
    match = _FRAMED.match(line) if first in "-_=*~—–" and len(line) > 8 else None
    if match:
        return _framed_mark(fold(match[1].strip(DECORATION)))
    return None


def _framed_mark(inner: str) -> Literal["forward_mark", "reply_mark"] | None:
    """The mark between two rules, alone or before the name and the time that some clients add
    ("Forwarded by ... on ...").
    """
    heads = [inner]
    for by in list(_BY.finditer(inner))[:3]:
        heads += [inner[: by.start()].strip(DECORATION), inner[: by.end()]]
    for head in heads:
        if head in FORWARD_MARKS:
            return "forward_mark"
        if head in REPLY_MARKS:
            return "reply_mark"
    return None


def after_mark(line: str) -> str:
    """What stands on the line of a mark behind it (clients that lose line ends)."""
    match = _FRAMED.match(line[:4000])
    return match[2] if match else ""
