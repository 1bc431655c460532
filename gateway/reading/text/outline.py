"""Outline the text of a mail: where quotes, attributions, header blocks and forward marks are.

One pass over the lines serves both the search for forwards and the visible reply. Of a quote, only
the first lines are looked at, so a long quoted mail takes little time. The words come from
:mod:`gateway.reading.languages`; no rule here is made for a single client.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from gateway.reading.languages import DECORATION, FORWARD_MARKS, REPLY_MARKS, fold
from gateway.reading.text.attribution import attribution
from gateway.reading.text.header_blocks import colon_of, header_block, label_of
from gateway.reading.text.quotes import OutlineItem, depth_of, quote_end, quoted_next, unquoted

MAX_LINES: Final = 20_000
MAX_ITEMS: Final = 2_000
_FRAMED: Final = re.compile(
    r"[\s\ufeff]*[-_=*~—–]{2,80}[ \t]*(\S[^\n]{1,78}?)[ \t]*[-_=*~—–]{2,80}[ \t]*(.*)"
)
_BY_OR_DATE: Final = re.compile(
    r"\s+(?:by|from|von|par|por|da|de|door|van|av|af|fra|från|przez|od|от|от:)(?=\s)|\s*[-:]\s*\d"
)
_FRAME_CHARS: Final = frozenset("-_=*~—–<[#>|+")
_ATTRIBUTION_END: Final = re.compile(r"(?:[:：]|[:：]\*|\bwrote\s*-{2,}|----)[\s\u200b\u202c]*$")
_MAX_LINE_CHARS: Final = 1000
_ATTRIBUTION_LAST_CHARS: Final = frozenset(":：-*\u200b\u202c>")
_DATED_BARE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b.{0,100}<[^<>\s]+@[^<>\s]+>")


def outline(lines: list[str]) -> list[OutlineItem]:
    """Return the items of a text in order; of each quote, only the first lines are searched."""
    out: list[OutlineItem] = []
    at = 0
    count = min(len(lines), MAX_LINES)
    while at < count and len(out) < MAX_ITEMS:
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
            if found.kind == "forward_mark" and len(line) > _MAX_LINE_CHARS:
                return out
            at = max(found.end, at + 1)
        elif depth:
            end = quote_end(lines, at, count)
            out.append(OutlineItem("quote", at, end, depth))
            at = end
        else:
            at += 1
    return out


def _at(lines: list[str], at: int, depth: int) -> OutlineItem | None:
    """Return the mark, header block or attribution that begins at a line."""
    line = lines[at]
    if depth:
        line = unquoted(line, depth)
    head = line[:200]
    kind = mark_kind(head)
    if kind == "forward_mark" or kind and not depth:
        return OutlineItem(kind, at, at + 1, depth)
    colon = colon_of(head)
    if (
        colon > 0
        and label_of(head[:colon]) is not None
        and (block := header_block(lines, at, depth)) is not None
    ):
        return block
    if (
        not depth
        and len(line) <= _MAX_LINE_CHARS
        and (last := line.rstrip()[-1:]) in _ATTRIBUTION_LAST_CHARS
    ):
        if last == ">":
            old = bool(_DATED_BARE.fullmatch(line.strip())) and quoted_next(lines, at + 1)
            return OutlineItem("attribution", at, at + 1, 0, {}, strong=True) if old else None
        if _ATTRIBUTION_END.search(line[-40:]):
            return attribution(lines, at)
    elif not depth and line.rstrip().endswith(" wrote") and quoted_next(lines, at + 1):
        return attribution(lines, at)
    return None


MarkKind = Literal["forward_mark", "reply_mark"]
_KINDS: Final[dict[str, MarkKind]] = {
    **dict.fromkeys(REPLY_MARKS, "reply_mark"),
    **dict.fromkeys(FORWARD_MARKS, "forward_mark"),
}


def mark_kind(line: str) -> MarkKind | None:
    """Return whether a line is a forward mark or a reply mark; None if it is neither."""
    bare = line.strip(DECORATION)
    if len(bare) < 4:
        return None
    first = line.lstrip(" \t\ufeff")[0]
    if len(bare) < 120 and (first in _FRAME_CHARS or line.rstrip()[-1] in ":："):
        folded = fold(bare)
        if folded in FORWARD_MARKS:
            return "forward_mark"
        if folded in REPLY_MARKS and (first in _FRAME_CHARS or " " in folded):
            return "reply_mark"
    elif 12 < len(bare) < 60 and bare.lower() in FORWARD_MARKS:
        return "forward_mark"
    match = _FRAMED.match(line) if first in "-_=*~—–" and len(line) > 8 else None
    if match:
        return _framed_mark(fold(match[1].strip(DECORATION)))
    return None


def _framed_mark(inner: str) -> MarkKind | None:
    """Return the kind of a mark between dashes, even if a name or a date follows the dashes."""
    heads = [inner]
    for by in list(_BY_OR_DATE.finditer(inner))[:3]:
        heads += [inner[: by.start()].strip(DECORATION), inner[: by.end()]]
    return next((_KINDS[head] for head in heads if head in _KINDS), None)


def after_mark(line: str) -> str:
    """Return the text after a mark on the same line; some clients lose line ends."""
    match = _FRAMED.match(line[:4000])
    return match[2] if match else ""
