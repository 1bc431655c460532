"""Quote signs at the start of lines, and the items of an outline."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from gateway.reading.languages import Role

ItemKind = Literal["forward_mark", "reply_mark", "block", "attribution", "quote"]

_QUOTE: Final = re.compile(r"[ \t]{0,3}((?:[>|][ \t]?){1,100}+)")

_FRAMED: Final = re.compile(r"\s{0,10}-{4,80}[^\n]{1,120}?-{4,80}\s{0,10}")


@dataclass(slots=True)
class OutlineItem:
    """An item of an outline: lines ``start`` to ``end`` (exclusive) at a quote depth.

    ``fields`` are the fields of a header block. ``strong`` means that an attribution has a time or
    an address, or that a block has enough fields to count without a mark.
    """

    kind: ItemKind
    start: int
    end: int
    depth: int = 0
    fields: dict[Role, str] = field(default_factory=dict)
    strong: bool = False


class QuoteMark(NamedTuple):
    """Lines ``start`` to ``end`` (exclusive) that the HTML marks as a quote or an attribution."""

    kind: Literal["quote", "attribution"]
    start: int
    end: int


def depth_of(line: str) -> int:
    """Count the quote signs at the start of a line: ``>``, or the bars of some clients."""
    if not line or line[0] not in "> \t|":
        return 0
    match = _QUOTE.match(line)
    if match is None or line[0] == "|" and _is_table_row(line):
        return 0
    return match[1].count(">") + match[1].count("|")


def _is_table_row(line: str) -> bool:
    """Tell whether a line that begins with a bar is a row of a table, not a quote."""
    return line[1:2] not in ("", " ") or len(line) > 2 and line.rstrip()[-1] == "|"


def is_framed(line: str) -> bool:
    """Tell whether a line is text between dashes; it is a mark if a header block follows."""
    return len(line) <= 300 and _FRAMED.fullmatch(line) is not None


def unquoted(line: str, depth: int) -> str:
    """Return a line without its first ``depth`` quote signs."""
    for _ in range(depth):
        bare = line.lstrip(" \t")
        if not bare.startswith((">", "|")):
            break
        line = bare[1:].removeprefix(" ")
    return line


def quoted_next(lines: list[str], at: int) -> bool:
    """Tell whether the next line that is not blank is quoted."""
    for line in lines[at : at + 4]:
        if line.strip():
            return depth_of(line) > 0
    return False


def quote_end(lines: list[str], at: int, count: int) -> int:
    """Return the line after a quote; blank lines between quoted lines belong to the quote."""
    end = at
    while at < count:
        line = lines[at]
        if depth_of(line):
            end = at + 1
        elif (
            line
            and not line.isspace()
            and not (
                end == at
                and at + 1 < count
                and depth_of(lines[at + 1])
                and _wrapped(lines[at - 1], line)
            )
        ):
            break
        at += 1
    return end


def _wrapped(before: str, line: str) -> bool:
    """Tell whether a client broke a quoted line into ``before`` and the unquoted ``line``."""
    in_brackets = before.count("(") > before.count(")") and ")" in line
    in_address = before.count("<") > before.count(">", 2) and ">" in line
    last_words = len(before) >= 68 and len(line) <= 24 and line[0].islower()
    return in_brackets or in_address or last_words
