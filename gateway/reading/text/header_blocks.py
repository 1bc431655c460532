"""Find header blocks in a text: the ``From: / To: / Subject:`` above a quoted or forwarded mail.

The labels of all languages are one table (:mod:`gateway.reading.languages`); a block is recognised
by its shape. Lines of the body may look like fields (``Date: tomorrow``), so a block needs a sender
and one more field, and ends at the first line that is not a field.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.reading.languages import DECORATION, LABELS, Role, fold
from gateway.reading.text.quotes import OutlineItem, depth_of, unquoted

_COLON: Final = re.compile(r"[:：]")
_PADDING: Final = " \t\u00a0*_"
# The quantifiers are possessive: a comma between two mailboxes could belong to either, and the
# pattern would try every combination.
_ONLY_MAILBOXES: Final = re.compile(
    r"(?:[^<>@:]{0,90}+<[^<>\s@]++@[^<>\s]++>)++[,;\s]*+|[^\s<>@:]+@[^\s<>@:]+[,;]?"
)


def colon_of(text: str) -> int:
    """Return the index of the first colon within the first 60 characters, or -1."""
    at = text.find(":", 0, 60)
    if at < 0 and not text.isascii():
        at = text.find("：", 0, 60)
    return at


def label_of(text: str) -> Role | None:
    """Return the role of a header label, or None; signs around it, like ``*``, are ignored."""
    bare = text.strip(DECORATION)
    return LABELS.get(fold(bare)) if 0 < len(bare) <= 40 else None


def header_block(
    lines: list[str], at: int, depth: int, *, marked: bool = False
) -> OutlineItem | None:
    """Return the header block at line ``at``, quoted ``depth`` deep; None if there is none.

    It needs a sender and one more field. After a forward mark (``marked``) any two fields are
    enough, blank lines may precede the block, and the block may be quoted one level deeper.
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
    enough = (
        "from" in fields
        and marked
        or len(fields) > 1
        and ("from" in fields or marked or _dated_and_addressed(fields))
    )
    if not enough:
        return None
    return OutlineItem(
        "block", at, end, own, fields, strong=len(fields) > 2 or "from" not in fields
    )


def _dated_and_addressed(fields: dict[Role, str]) -> bool:
    """Tell whether a block without sender has a time of day and a recipient's address."""
    return bool(_CLOCK.search(fields.get("date", ""))) and "@" in fields.get("to", "")


_CLOCK: Final = re.compile(r"\d{1,2}[:.]\d{2}")


class _Block:
    """Reads the fields of a header block line by line."""

    def __init__(self, lines: list[str], depth: int) -> None:
        self.lines = lines
        self.depth = depth
        self.fields: dict[Role, str] = {}
        self.role: Role | None = None
        self.gaps = 0

    def read(self, at: int) -> int:
        """Read from line ``at``, and return the line after the block."""
        end = at
        stop = min(len(self.lines), at + 60)
        while at < stop:
            line = self.lines[at]
            if self.depth:
                if depth_of(line) < self.depth and line.strip():
                    break
                line = unquoted(line, self.depth)
            if not line.strip(_PADDING):
                if not self.goes_on(at):
                    break
            elif not self.take(line):
                break
            else:
                end = at + 1
            at += 1
        return end

    def goes_on(self, at: int) -> bool:
        """Tell whether the block continues after the blank line ``at``."""
        for index in range(at + 1, min(at + 3, len(self.lines))):
            line = unquoted(self.lines[index], self.depth)
            if not line.strip(_PADDING):
                continue
            colon = _COLON.search(line, 0, 60)
            role = label_of(line[: colon.start()]) if colon else None
            if role is not None:
                spaced = self.gaps == len(self.fields) - 1  # every field so far stood on its own
                self.gaps += 1
                complete = {"from", "date", "subject"} <= self.fields.keys()
                return role not in self.fields and (spaced or not complete)
            return self.role is not None and self.fields.get(self.role) == "" and len(line) < 200
        return False

    def take(self, line: str) -> bool:
        """Read a line as a new field or as a continuation; return False if the block ended."""
        colon = _COLON.search(line, 0, 60)
        role = label_of(line[: colon.start()]) if colon else None
        if colon is not None and role is not None and self.may_add(role):
            self.add(role, line[colon.end() :].strip(_PADDING))
            return True
        if self.role is None:
            return False
        value = self.fields.get(self.role, "")
        if not _goes_on(self.role, value, line):
            return False
        self.fields[self.role] = f"{value} {line.strip(_PADDING)}".strip()
        return len(self.fields[self.role]) < 20_000

    def may_add(self, role: Role) -> bool:
        """Tell whether the block may take another field of this role."""
        return role not in self.fields or role in {"other", "cc", "to"}

    def add(self, role: Role, value: str) -> None:
        """Add a field, or append to an earlier field of this role."""
        self.role = role
        if role not in self.fields:
            self.fields[role] = value
        elif role != "other":
            self.fields[role] += f", {value}"


def _goes_on(role: Role, value: str, line: str) -> bool:
    """Tell whether a line without label belongs to the field above it."""
    if value == "" or value.count("<") > value.count(">") or value.count('"') % 2 == 1:
        return True
    if role == "from" and "@" not in value and _ONLY_MAILBOXES.fullmatch(line.strip()):
        return True
    if line[0] in " \t":
        if role in {"to", "cc", "bcc", "from"} and "@" in line:
            return True
        if role == "subject" and len(value) > 40:
            return True
    return role in {"to", "cc", "bcc"} and (
        value[-1] in ",;" or _ONLY_MAILBOXES.fullmatch(line.strip()) is not None
    )


def collapsed_fields(text: str) -> dict[Role, str]:
    """Return the fields of a block that lost its line ends (``From: a <b>To: c <d>Sent: ...``)."""
    spots: list[tuple[int, int, Role]] = []
    seen: set[Role] = set()
    for colon in _COLON.finditer(text[:8000]):
        stop = colon.start()
        bare_stop = len(text[:stop].rstrip(" \u00a0"))
        for length in range(min(30, bare_stop), 0, -1):
            start = bare_stop - length
            role = (
                LABELS.get(fold(text[start:bare_stop]).rstrip(DECORATION))
                if text[start].isalnum()
                else None
            )
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
    """Tell whether a label can begin here: after a blank, at a capital, or in a caseless script."""
    char, before = text[start], text[start - 1] if start else " "
    if char.isupper():
        return not (before.isalnum() and before.isupper()) or text[start + 1 : start + 2].islower()
    return not before.isalnum() or char.lower() == char.upper()
