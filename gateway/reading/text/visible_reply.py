"""Find the visible reply: the text that the sender newly wrote (interfaces.md 3).

Quotes and attributions are moved to ``quoted_text``, so nothing is lost. Closings and signatures
stay. If the sender wrote both before and after a quote, or between quotes, the quotes stay too,
since the sender's words make no sense without them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from gateway.reading.text.quotes import OutlineItem, depth_of, is_framed

_RULE_LINE: Final = re.compile(r"[\s\u00a0]*(?:[-_=*~—–]{5,}|_{3,})[\s\u00a0]*")
_SIGNATURE: Final = re.compile(r"[\s\u00a0]*(?:--|__|—|–|-- )[\s\u00a0]*")
_FOOTER: Final = re.compile(r"[\s]*[_=-]{20,}[\s]*")
_CLOSING: Final = re.compile(
    r"\s*(?:(?:best|kind|warm|many)?\s*regards|best(?: wishes)?|thanks|thank you|many thanks|"
    r"cheers|sincerely|yours|br\b|rgds|mfg|lg|vg|viele gr|mit freundlichen|freundliche gr|"
    r"beste gr|liebe gr|gruß|gruss|danke|cordialement|bien à vous|merci|salutations|saludos|"
    r"un saludo|atentamente|gracias|cordiali saluti|saluti|grazie|atenciosamente|obrigad|"
    r"cumprimentos|abraço|met vriendelijke|groet|bedankt|med venlig|venlig hilsen|mvh|hilsen|"
    r"hälsningar|vänliga|med vänlig|hilsen|terveisin|yst[äa]v[äa]llisin|pozdraw|z poważaniem|"
    r"s pozdrav|pozdrav|üdvözlettel|с уважением|з повагою|saygı|với|"
    r"よろしく|此致|祝好|谢谢|감사)\b.{0,60}$",
    re.IGNORECASE,
)


def split(text: str, lines: list[str], found: list[OutlineItem]) -> tuple[str, str]:
    """Return the visible reply and the quoted text; ``found`` is the outline of ``lines``."""
    if not found:
        return text, ""
    cut = _quote_start(lines, found)
    start = 0
    while (
        cut < len(lines)
        and not any(line.strip() for line in lines[start:cut])
        and (attribution := _attribution_on_top(found, cut)) is not None
    ):
        start = attribution.end
        found = [each for each in found if each.start >= start]
        cut = _quote_start(lines, found)
    if start:
        reply, quoted = _split_at(
            lines[start:], [_shifted(each, start) for each in found], cut - start
        )
        return reply, "\n".join([*lines[:start], quoted]).strip("\n")
    return _split_at(lines, found, cut)


def _split_at(lines: list[str], found: list[OutlineItem], cut: int) -> tuple[str, str]:
    """Return two texts: the lines above ``cut`` without their quotes, and all other lines."""
    above = lines[:cut]
    below = lines[cut:]
    quotes = [
        each
        for each in found
        if each.start < cut and each.kind in {"quote", "attribution", "forward_mark", "block"}
    ]
    if not quotes:
        return _tidy(above), "\n".join(below).strip("\n")
    kept, dropped = _without_quotes(above, quotes)
    return _tidy(kept), "\n".join([*dropped, *below]).strip("\n")


def _quote_start(lines: list[str], found: list[OutlineItem]) -> int:
    """Return the line at which the quote at the end of the text begins.

    Without such a quote, the number of lines is returned.

    The quote begins at a header block, a mark, or an attribution without quote signs below it.
    """
    for index, each in enumerate(found):
        if each.depth:
            continue
        if (
            each.kind == "reply_mark"
            or each.kind == "block"
            and (each.strong or index and found[index - 1].kind == "reply_mark")
        ):
            return _start_of_rule(lines, each.start)
        if each.kind == "attribution" and each.strong and not _quote_follows(lines, each.end):
            return each.start
    return len(lines)


def _attribution_on_top(found: list[OutlineItem], cut: int) -> OutlineItem | None:
    """Return the attribution that begins at line ``cut``, or None.

    Call this only if no text is above ``cut``. The text below the attribution is kept as the reply,
    since the client either left the quote out or wrote it without quote signs.
    """
    return next((each for each in found if each.start == cut and each.kind == "attribution"), None)


def _shifted(each: OutlineItem, by: int) -> OutlineItem:
    """Return the item moved up by ``by`` lines."""
    return replace(each, start=each.start - by, end=each.end - by)


def _start_of_rule(lines: list[str], at: int) -> int:
    """Return where the blank and dashed lines above line ``at`` begin; ``at`` if there are none."""
    start = at
    while start and _is_blank_or_rule(lines[start - 1]):
        start -= 1
    return start


def _is_blank_or_rule(line: str) -> bool:
    return not line.strip() or bool(_RULE_LINE.fullmatch(line)) or is_framed(line)


def _quote_follows(lines: list[str], at: int) -> bool:
    """Tell whether quote signs follow an attribution."""
    for line in lines[at : at + 6]:
        if line.strip():
            return depth_of(line) > 0
    return False


def _without_quotes(lines: list[str], quotes: list[OutlineItem]) -> tuple[list[str], list[str]]:
    """Remove quotes from lines; return (the remaining lines, the removed lines).

    If the sender wrote on both sides of a quote, only the attributions are removed.
    """
    quoted = [False] * len(lines)
    attributed = [False] * len(lines)
    for each in quotes:
        where = attributed if each.kind == "attribution" else quoted
        for index in range(each.start, min(each.end, len(lines))):
            if each.kind in {"attribution", "quote"} or each.depth:
                where[index] = True
    own = [
        index
        for index, line in enumerate(lines)
        if line.strip() and not quoted[index] and not attributed[index]
    ]
    if any(quoted) and own and _interleaved(lines, quoted, own):
        quoted = [False] * len(lines)
    kept = [line for index, line in enumerate(lines) if not quoted[index] and not attributed[index]]
    dropped = [line for index, line in enumerate(lines) if quoted[index] or attributed[index]]
    return kept, dropped


def _interleaved(lines: list[str], quoted: list[bool], own: list[int]) -> bool:
    """Tell whether the sender wrote on both sides of a quote; a signature does not count."""
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
    """Join lines to a text without blank lines around it."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    start = next((index for index, line in enumerate(lines[:end]) if line.strip()), end)
    return "\n".join(lines[start:end])
