"""The skeleton of a mail's text: where quotes, their introductions, header blocks and forward marks stand.

One pass over the lines, shared by the engines for forwards and for visible replies. Lines inside a quote are looked at only where the quote begins, so
a long quoted mail costs little. The words come from :mod:`gateway.intake.languages`; nothing here knows a client by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.intake.languages import FORWARD_MARKS, LABELS, REPLY_MARKS, WROTE, Role, fold

Sign = Literal["forward_mark", "reply_mark", "block", "introduction", "quote"]

MOST_LINES: Final = 20_000
MOST_FOUND: Final = 2_000
_DECORATION: Final = " \t-_*=#|~<>:：.·•—–[]()\"'\u00a0\u200b\u200e\u200f\ufeff+"
_FRAMED: Final = re.compile(r"[\s\ufeff]*[-_=*~—–]{2,80}[ \t]*(\S[^\n]{1,78}?)[ \t]*[-_=*~—–]{2,80}[ \t]*(.*)")
_BY: Final = re.compile(r"\s+(?:by|von|par|por|da|door|av|af|przez|от|от:)\s+.*|\s*[-:]\s*\d.*")
_FRAME: Final = frozenset("-_=*~—–<[#>|+")
_COLON: Final = re.compile(r"[:：]")
_MAILBOX: Final = re.compile(r"[^\s<>,;\"'()\[\]]+@[^\s<>,;\"'()\[\]]+")
_ENDS: Final = re.compile(r"(?:[:：]|[:：]\*|\bwrote\s*-{2,}|----)[\s\u200b\u202c]*$")
_SPACELESS: Final = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SPACELESS_VERBS: Final = tuple(word for word in WROTE if _SPACELESS.search(word))
_TOKEN: Final = re.compile(r"[\w'’]+(?:\([^)\s]{1,5}\)|/-?\w+|-\w+)?")
# the last token of a verb tells it well enough: "ha scritto", "a écrit"
_VERB_TOKENS: Final = frozenset(token[0] for word in WROTE if not _SPACELESS.search(word) for token in [list(_TOKEN.finditer(word))[-1:]][0])
_START: Final = (
    r"(?:on|am|le|el|il|op|den|dne|dňa|w dniu|dnia|em|pe|în data|in data|no dia|às|στις|την|a|al|il giorno|il giorno|at|em|de|d\.|\*?on|в|у|на|dana|"
    r"dana|u|ve|tarihinde|vào|pada|ב-?|בתאריך|في|در|เมื่อ|วันที่|kuupäeval|feladó|quoting|mr\.?|zitat von|citando|citaat|quote from|nachricht von|"
    r"el día|el dia|le|die|il|s dne|kl\.?|dagsins|þann|bei|в письме от|dňa|ngày|--+\s*on|在|于|於|\[?\d)"
)
_DAY: Final = r"(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|vie|sáb|dom|man|tir|ons|tor|fre|lør|søn|пн|вт|ср|чт|пт|сб|вс|нд)"
_STRONG: Final = re.compile(rf"[>\s*_\-–—]*{_START}[\s,.:']|[>\s*_\-–—]*\[?\d", re.DOTALL)
_WEAK: Final = re.compile(rf"[\s*_]*(?:\d|{_DAY}\b)")
_HAS_BOX: Final = re.compile(r"@|\bmailto\b")
_DATED: Final = re.compile(r"\W{0,3}(?:\d{4}\s*[-/.年]\s*\d{1,2}|\d{1,2}\s*[-/.]\s*\d{1,2}\s*[-/.]\s*\d{2,4}|\d{1,2}\.?\s+\S{3,12}\s+\d{4}).{0,120}(?:<[^<>]+@[^<>]+>|@\S+).{0,20}[:：]$", re.DOTALL)
_DIGIT: Final = re.compile(r"\d")
_LONGEST_LINE: Final = 1000
_QUOTE: Final = re.compile(r"[ \t]{0,3}((?:[>|][ \t]?){1,100}+)")
_UNMARKED: Final = " \t\u00a0*_"


@dataclass(slots=True)
class Found:
    """One thing found: lines ``start`` to ``end`` (exclusive), at a quote depth. ``fields`` belong to a block; ``strong`` to an introduction
    that names a time or an address."""

    sign: Sign
    start: int
    end: int
    depth: int = 0
    fields: dict[Role, str] = field(default_factory=dict)
    strong: bool = False


def depth_of(line: str) -> int:
    """How deep a line is quoted by ``>`` signs (or bars, which some clients draw)."""
    if not line or line[0] not in "> \t|":
        return 0
    match = _QUOTE.match(line)
    if match is None:
        return 0
    if line[0] == "|" and (line[1:2] not in ("", " ") or len(line) > 2 and line.rstrip()[-1] == "|"):
        return 0  # a table
    return match[1].count(">") + match[1].count("|")


def unquoted(line: str, depth: int) -> str:
    """A line with at most ``depth`` quote signs taken off."""
    for _ in range(depth):
        bare = line.lstrip(" \t")
        if not bare.startswith((">", "|")):
            break
        line = bare[1:].removeprefix(" ")
    return line


def outline(lines: list[str]) -> list[Found]:
    """Everything found in a text, in order. Of a quote only its extent and what stands on its first lines is told."""
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
            end = _quote_end(lines, at, count)
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
    if (sign := mark(head)) is not None:
        return Found(sign, at, at + 1, depth)
    colon = _colon(head)
    if colon > 0 and _label(head[:colon]) is not None and (block := header_block(lines, at, depth)) is not None:
        return block
    if not depth and len(line) <= _LONGEST_LINE and (last := line.rstrip()[-1:]) in _LAST:
        if last == ">":
            old = bool(_DATED_BARE.fullmatch(line.strip())) and _quoted_next(lines, at + 1)
            return Found("introduction", at, at + 1, 0, {}, strong=True) if old else None
        if _ENDS.search(line[-40:]):
            return _introduction(lines, at)
    return None


def _colon(text: str) -> int:
    """Where the first colon of a line stands, as far as a label can reach; -1 where there is none."""
    at = text.find(":", 0, 60)
    if at < 0 and not text.isascii():
        at = text.find("：", 0, 60)
    return at


_LAST: Final = frozenset(":：-*\u200b\u202c>")
_DATED_BARE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b.{0,100}<[^<>\s]+@[^<>\s]+>")


def mark(line: str) -> Literal["forward_mark", "reply_mark"] | None:
    """Whether a line is the mark above a forwarded or a quoted mail."""
    bare = line.strip(_DECORATION)
    if len(bare) < 4:
        return None
    first = line.lstrip(" \t\ufeff")[0]
    if len(bare) < 120 and (first in _FRAME or line.rstrip()[-1] in ":："):
        folded = fold(bare)
        if folded in FORWARD_MARKS:
            return "forward_mark"
        if folded in REPLY_MARKS:
            return "reply_mark"
    elif 12 < len(bare) < 60 and bare.lower() in FORWARD_MARKS:
        return "forward_mark"
    match = _FRAMED.match(line) if first in "-_=*~—–" and len(line) > 8 else None
    if match:
        inner = _BY.sub("", fold(match[1].strip(_DECORATION)))
        inner = inner.strip(_DECORATION)
        if inner in FORWARD_MARKS:
            return "forward_mark"
        if inner in REPLY_MARKS:
            return "reply_mark"
    return None


def after_mark(line: str) -> str:
    """What stands on the line of a mark behind it (clients that lose line ends)."""
    match = _FRAMED.match(line[:4000])
    return match[2] if match else ""


def _label(text: str) -> Role | None:
    """The role of a header label as written, with its decoration."""
    bare = text.strip(_DECORATION)
    return LABELS.get(fold(bare)) if 0 < len(bare) <= 40 else None


def header_block(lines: list[str], at: int, depth: int, *, marked: bool = False) -> Found | None:
    """The header block that begins at line ``at`` (blank lines before it allowed when ``marked``), quoted ``depth`` deep or, after a mark, one deeper.

    It needs a sender and one more field; after a mark any two fields are enough.
    """
    start = at
    while marked and at < len(lines) and at - start < 5 and not lines[at].strip("> \t\u00a0"):
        at += 1
    if at >= len(lines):
        return None
    own = depth_of(lines[at])
    if own != depth and not (marked and own == depth + 1):
        return None
    block = _Block(lines, own)
    end = block.read(at)
    fields = block.fields
    if not ("from" in fields and len(fields) > 1 or marked and len(fields) > 1 or marked and "from" in fields):
        return None
    return Found("block", at, end, own, fields, strong=len(fields) > 2)


class _Block:
    """Reads the fields of a header block line by line."""

    def __init__(self, lines: list[str], depth: int) -> None:
        self.lines = lines
        self.depth = depth
        self.fields: dict[Role, str] = {}
        self.role: Role | None = None

    def read(self, at: int) -> int:
        """Read from line ``at`` on; gives the line behind the block."""
        end = at
        stop = min(len(self.lines), at + 60)
        while at < stop:
            line = self.lines[at]
            if self.depth:
                if depth_of(line) < self.depth and line.strip():
                    break
                line = unquoted(line, self.depth)
            if not line.strip(_UNMARKED):
                if not self.goes_on(at):
                    break
            elif not self.take(line):
                break
            else:
                end = at + 1
            at += 1
        return end

    def goes_on(self, at: int) -> bool:
        """Whether a new field follows a blank line: mail made from paragraphs has one between all fields."""
        for index in range(at + 1, min(at + 3, len(self.lines))):
            line = unquoted(self.lines[index], self.depth)
            if not line.strip(_UNMARKED):
                continue
            colon = _COLON.search(line, 0, 60)
            role = _label(line[: colon.start()]) if colon else None
            if role is not None:
                return role not in self.fields and (len(self.fields) < 2 or not {"from", "date"} <= self.fields.keys() or "subject" not in self.fields)
            return self.role is not None and self.fields.get(self.role) == "" and len(line) < 200
        return False

    def take(self, line: str) -> bool:
        """One line: a field, or the rest of the one before; False where the block is over."""
        colon = _COLON.search(line, 0, 60)
        role = _label(line[: colon.start()]) if colon else None
        if role is not None and colon is not None and (role not in self.fields or role in {"other", "cc", "to"}):
            value = line[colon.end() :].strip(_UNMARKED)
            if role != "other" or "other" not in self.fields:
                self.fields[role] = f"{self.fields[role]}, {value}" if role in self.fields and role != "other" else value
            self.role = role
            return True
        if self.role is None:
            return False
        value = self.fields.get(self.role, "")
        unfinished = value.count("<") > value.count(">") or value.count('"') % 2 == 1
        boxed = self.role == "from" and "@" not in value and bool(_ONLY_BOXES.fullmatch(line.strip()))
        folded = boxed or line[0] in " \t" and (self.role in {"to", "cc", "bcc", "from"} and "@" in line or self.role == "subject" and len(value) > 40)
        if value == "" or unfinished or folded or self.role in {"to", "cc", "bcc"} and (value[-1] in ",;" or bool(_ONLY_BOXES.fullmatch(line.strip()))):
            self.fields[self.role] = f"{value} {line.strip(_UNMARKED)}".strip()
            return len(self.fields[self.role]) < 20_000
        return False


_ONLY_BOXES: Final = re.compile(r"(?:[^<>@:]{0,80}<[^<>\s]+@[^<>\s]+>[,;]?\s*)+|[^\s<>@:]+@[^\s<>@:]+[,;]?")


def collapsed_fields(text: str) -> dict[Role, str]:
    """The fields of a header block whose line ends got lost (``From: a <b>To: c <d>Sent: ...``)."""
    spots: list[tuple[int, int, Role]] = []
    seen: set[Role] = set()
    for colon in _COLON.finditer(text[:8000]):
        stop = colon.start()
        bare_stop = len(text[:stop].rstrip(" \u00a0"))
        for length in range(min(30, bare_stop), 0, -1):
            start = bare_stop - length
            role = LABELS.get(fold(text[start:bare_stop])) if not text[start].isspace() else None
            if role is None or role in seen or role == "other" or not _may_begin(text, start):
                continue
            spots.append((start, colon.end(), role))
            seen.add(role)
            break
    out: dict[Role, str] = {}
    for index, (_, begin, role) in enumerate(spots):
        end = spots[index + 1][0] if index + 1 < len(spots) else len(text)
        out[role] = text[begin:end].strip(" *\u00a0")
    return out


def _may_begin(text: str, start: int) -> bool:
    """Whether a label can begin here: at a blank, or with a capital or a letter of a script without capitals."""
    char = text[start]
    return start == 0 or not text[start - 1].isalnum() or char.isupper() and (not text[start - 1].isupper() or text[start + 1 : start + 2].islower()) or char.lower() == char.upper()


def _introduction(lines: list[str], last: int) -> Found | None:
    """The introduction of a quote that ends at line ``last``: who wrote when, in any language; None where it is no such sentence."""
    candidates: list[tuple[int, str]] = []
    text = ""
    for start in range(last, max(-1, last - 5), -1):
        line = lines[start]
        if not line.strip() or depth_of(line) or len(line) > 400:
            break
        text = f"{line.strip()} {text}".strip()
        candidates.append((start, fold(text)))
    for start, folded in candidates:
        verb = _verb_at(folded)
        if verb > 5 and len(folded) - verb < 180 and _STRONG.match(folded) and _DIGIT.search(folded):
            return Found("introduction", start, last + 1, 0, {}, strong=_telling(folded))
        if verb < 0 and len(candidates) == 1 and not _DATED.match(folded):
            return None
    for start, folded in candidates:
        verb = _verb_at(folded)
        named = verb >= 0 and _HAS_BOX.search(folded) and len(folded) < 320 and len(folded) - verb < 130
        if named or verb > 3 and _WEAK.match(folded) or _DATED.match(folded):
            return Found("introduction", start, last + 1, 0, {}, strong=_telling(folded))
    start, folded = candidates[0] if candidates else (last, "")
    verb = _verb_at(folded)
    if 1 < verb <= 100 and len(folded) - verb < 60 and _quoted_next(lines, last + 1):
        return Found("introduction", start, last + 1, 0, {}, strong=False)
    return None


def _verb_at(folded: str) -> int:
    """Where the last verb of an introduction stands in a folded sentence; -1 where there is none."""
    at = -1
    for token in _TOKEN.finditer(folded):
        if token[0] in _VERB_TOKENS:
            at = token.start()
    if at < 0 and not folded.isascii():
        at = max((folded.rfind(word) for word in _SPACELESS_VERBS), default=-1)
    return at


_TIME: Final = re.compile(r"\d{1,2}[:.h]\d{2}|\d{4}")


def _telling(folded: str) -> bool:
    """Whether an introduction names an address or a time, as only programs do."""
    return bool(_MAILBOX.search(folded) or _TIME.search(folded))


def _quoted_next(lines: list[str], at: int) -> bool:
    """Whether the next line that is not blank is quoted."""
    for line in lines[at : at + 4]:
        if line.strip():
            return depth_of(line) > 0
    return False


def _quote_end(lines: list[str], at: int, count: int) -> int:
    """The line behind a quote; blank lines between quoted ones belong to it."""
    end = at
    while at < count:
        line = lines[at]
        if depth_of(line):
            end = at + 1
        elif line and not line.isspace() and not (end == at and at + 1 < count and depth_of(lines[at + 1]) and _wrapped(lines[at - 1], line)):
            break
        at += 1
    return end


def _wrapped(before: str, line: str) -> bool:
    """Whether an unquoted line inside a quote is the end of the quoted line before it, which a client broke: an open bracket, or a long line's rest."""
    if before.count("(") > before.count(")") and ")" in line or before.count("<") > before.count(">", 2) and ">" in line:
        return True
    return len(before) >= 68 and len(line) <= 24 and line[0].islower()
