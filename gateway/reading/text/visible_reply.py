"""The visible reply: what the sender newly wrote, without quotes and their introductions
(interfaces.md 3).

Nothing is lost: what is cut stands in ``quoted_text``. Closings and signatures stay. Where the
sender wrote both before and after a quote, or between quotes, the quotes stay too, for without them
his sentences say nothing.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.reading.text.quotes import Found, depth_of, is_framed

_RULE_LINE: Final = re.compile(r"[\s\u00a0]*(?:[-_=*~—–]{5,}|_{3,})[\s\u00a0]*")
_SIGNATURE: Final = re.compile(r"[\s\u00a0]*(?:--|__|—|–|-- )[\s\u00a0]*")
_FOOTER: Final = re.compile(r"[\s]*[_=-]{20,}[\s]*")
_CLOSING: Final = re.compile(
    r"\s*(?:(?:best|kind|warm|many)?\s*regards|best(?: wishes)?|thanks|thank you|many "
    r"thanks|cheers|sincerely|yours|br\b|rgds|mfg|lg|vg|viele gr|mit freundlichen|freundliche "
    r"gr|beste gr|liebe gr|gruß|gruss|danke|"
    r"cordialement|bien à vous|merci|salutations|saludos|un "
    r"saludo|atentamente|gracias|cordiali "
    r"saluti|saluti|grazie|atenciosamente|obrigad|cumprimentos|abraço|met "
    r"vriendelijke|groet|bedankt|"
    r"med venlig|venlig hilsen|mvh|hilsen|hälsningar|vänliga|med "
    r"vänlig|hilsen|terveisin|yst[äa]v[äa]llisin|pozdraw|z poważaniem|s "
    r"pozdrav|pozdrav|üdvözlettel|с уважением|з повагою|saygı|với|"
    r"よろしく|此致|祝好|谢谢|감사)\b.{0,60}$",
    re.IGNORECASE,
)


def visible(text: str, lines: list[str], found: list[Found]) -> tuple[str, str]:
    """What the sender newly wrote, and the rest. ``lines`` and ``found`` are the outline of
    ``text``.
    """
    if not found:
        return text, ""
    cut = _cut(lines, found)
    start = 0
    while (
        cut < len(lines)
        and not any(line.strip() for line in lines[start:cut])
        and (intro := _opening(found, cut)) is not None
    ):
        start = intro.end
        found = [each for each in found if each.start >= start]
        cut = _cut(lines, found)
    if start:
        reply, quoted = _folded(lines[start:], [_moved(each, start) for each in found], cut - start)
        return reply, "\n".join([*lines[:start], quoted]).strip("\n")
    return _folded(lines, found, cut)


def _folded(lines: list[str], found: list[Found], cut: int) -> tuple[str, str]:
    """The lines above ``cut`` without their quotes, and everything else."""
    above = lines[:cut]
    below = lines[cut:]
    quotes = [
        each
        for each in found
        if each.start < cut and each.sign in {"quote", "introduction", "forward_mark", "block"}
    ]
    if not quotes:
        return _tidy(above), "\n".join(below).strip("\n")
    kept, dropped = _without_quotes(above, quotes)
    return _tidy(kept), "\n".join([*dropped, *below]).strip("\n")


def _cut(lines: list[str], found: list[Found]) -> int:
    """The line where a quoted mail begins that runs to the end: a header block, a mark, or an
    introduction without quote signs below it.
    """
    for index, each in enumerate(found):
        if each.depth:
            continue
        if (
            each.sign == "reply_mark"
            or each.sign == "block"
            and (each.strong or index and found[index - 1].sign == "reply_mark")
        ):
            return _with_rule(lines, each.start)
        if each.sign == "introduction" and each.strong and not _quoted_below(lines, each.end):
            return each.start
    return len(lines)


def _opening(found: list[Found], cut: int) -> Found | None:
    """An introduction on top of everything with unquoted text below it: the quote was taken out, or
    the sender wrote without signs. What stands below is all there is, so it is kept.
    """
    return next((each for each in found if each.start == cut and each.sign == "introduction"), None)


def _moved(each: Found, by: int) -> Found:
    return Found(each.sign, each.start - by, each.end - by, each.depth, each.fields, each.strong)


def _with_rule(lines: list[str], at: int) -> int:
    """The line of the rule drawn above a header block, if there is one."""
    start = at
    while start and (
        not lines[start - 1].strip()
        or _RULE_LINE.fullmatch(lines[start - 1])
        or is_framed(lines[start - 1])
    ):
        start -= 1
    return start


def _quoted_below(lines: list[str], at: int) -> bool:
    """Whether quote signs follow an introduction."""
    for line in lines[at : at + 6]:
        if line.strip():
            return depth_of(line) > 0
    return False


def _without_quotes(lines: list[str], quotes: list[Found]) -> tuple[list[str], list[str]]:
    """The lines without their quotes, or, where the sender wrote around them, without their
    introductions only.
    """
    quoted = [False] * len(lines)
    introduced = [False] * len(lines)
    for each in quotes:
        where = introduced if each.sign == "introduction" else quoted
        for index in range(each.start, min(each.end, len(lines))):
            if each.sign in {"introduction", "quote"} or each.depth:
                where[index] = True
    own = [
        index
        for index, line in enumerate(lines)
        if line.strip() and not quoted[index] and not introduced[index]
    ]
    if any(quoted) and own and _interleaved(lines, quoted, own):
        quoted = [False] * len(lines)
    kept = [line for index, line in enumerate(lines) if not quoted[index] and not introduced[index]]
    dropped = [line for index, line in enumerate(lines) if quoted[index] or introduced[index]]
    return kept, dropped


def _interleaved(lines: list[str], quoted: list[bool], own: list[int]) -> bool:
    """Whether the sender's words stand on both sides of a quote; a signature below the last quote
    does not count.
    """
    first = quoted.index(True)
    last = len(quoted) - 1 - quoted[::-1].index(True)
    before = any(index < first for index in own)
    between = any(first < index < last for index in own)
    after = [index for index in own if index > last]
    if after and (
        _SIGNATURE.fullmatch(lines[after[0]])
        or _FOOTER.fullmatch(lines[after[0]])
        or len(after) <= 5
        and _CLOSING.match(lines[after[0]])
    ):
        after = []
    return between or before and bool(after)


def _tidy(lines: list[str]) -> str:
    """Lines as a text, without blank lines around it and without a rule at its end."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    start = 0
    while start < end and not lines[start].strip():
        start += 1
    return "\n".join(lines[start:end])
