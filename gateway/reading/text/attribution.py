"""Find the attribution above a quote ("On Monday, Ada wrote:"), in any language.

An attribution has at most five lines. It is recognised by a verb of the language tables
(``wrote``), a first word that programs write, and a time or an address. People, too, write
sentences that end in "wrote:"; without time and address, these count only if a quote follows.

To add a verb, see :mod:`gateway.reading.languages`; to add the first word of attributions in a new
language, add it to ``_BEGINNINGS``.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.reading.languages import WROTE, fold
from gateway.reading.text.quotes import OutlineItem, depth_of, quoted_next

_MAILBOX: Final = re.compile(r"[^\s<>,;\"'()\[\]]+@[^\s<>,;\"'()\[\]]+")
_SPACELESS: Final = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SPACELESS_VERBS: Final = tuple(word for word in WROTE if _SPACELESS.search(word))
_TOKEN: Final = re.compile(r"[\w'’]+(?:\([^)\s]{1,5}\)|/-?\w+|-\w+)?")
# The last word of a verb is enough: "ha scritto", "a écrit".
_VERB_TOKENS: Final = frozenset(
    token[0]
    for word in WROTE
    if not _SPACELESS.search(word)
    for token in [list(_TOKEN.finditer(word))[-1:]][0]
)
_BEGINNINGS: Final = (  # first words of an attribution
    r"(?:on|am|le|el|il|op|den|dne|dňa|w dniu|dnia|em|pe|în data|in data|no dia|às|στις|την|"
    r"a|al|il giorno|il giorno|at|em|de|d\.|\*?on|в|у|на|dana|dana|u|ve|tarihinde|vào|pada|"
    r"ב-?|בתאריך|في|در|เมื่อ|วันที่|kuupäeval|feladó|quoting|mr\.?|zitat von|citando|citaat|"
    r"quote from|nachricht von|el día|el dia|le|die|il|s dne|kl\.?|dagsins|þann|bei|"
    r"в письме от|dňa|ngày|--+\s*on|在|于|於)"
)
_WEEKDAYS: Final = (
    r"(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|"
    r"vie|sáb|dom|man|tir|ons|tor|fre|lør|søn|пн|вт|ср|чт|пт|сб|вс|нд)"
)
_PROGRAM_BEGINNING: Final = re.compile(rf"[>\s*_\-–—]*{_BEGINNINGS}[\s,.:']", re.DOTALL)
_NUMBER: Final = re.compile(r"[>\s*_\-–—]*\[?\d")
_QUOTING: Final = re.compile(
    r"(?:quoting|zitat von|zitiere|citando|citation de|citaat van|citat|citerar|цитирую|cytat)"
    r"\b.{1,120}@.{1,80}[:：]$"
)
_DATE_BEGINNING: Final = re.compile(rf"[\s*_]*(?:\d|{_WEEKDAYS}\b)")
_HAS_ADDRESS: Final = re.compile(r"@|\bmailto\b")
_DATED: Final = re.compile(
    r"\W{0,3}(?:[^\W\d]{1,12}\.?,?\s+)?"
    r"(?:\d{4}\s*[-/.年]\s*\d{1,2}|\d{1,2}\s*[-/.]\s*\d{1,2}\s*[-/.]\s*\d{2,4}|"
    r"\d{1,2}\.?\s+\S{3,12}\s+\d{4}).{0,120}(?:<[^<>]+@[^<>]+>|@\S+).{0,20}[:：]$",
    re.DOTALL,
)
_DIGIT: Final = re.compile(r"\d")
_TIME: Final = re.compile(r"\d{1,2}[:.h]\d{2}|\d{4}")


def attribution(lines: list[str], last: int) -> OutlineItem | None:
    """Return the attribution that ends at line ``last``, or None."""
    candidates = _candidates(lines, last)
    if (
        not candidates
        or len(candidates) == 1
        and _verb_at(candidates[0][1]) < 0
        and not _names_author(candidates[0][1])
    ):
        return None
    found = _with_beginning(lines, candidates)
    if found is None:
        found = next((each for each in candidates if _names_author(each[1])), None)
    if found is not None:
        found = _completed(lines, candidates, found)
        return OutlineItem(
            "attribution", found[0], last + 1, 0, {}, strong=_has_address_or_time(found[1])
        )
    start, folded = candidates[0]
    verb = _verb_at(folded)
    if 1 < verb <= 100 and len(folded) - verb < 60 and quoted_next(lines, last + 1):
        return OutlineItem("attribution", start, last + 1, 0, {}, strong=False)
    return None


def _candidates(lines: list[str], last: int) -> list[tuple[int, str]]:
    """Return (first line, folded text) for each sentence ending at ``last``, shortest first."""
    out: list[tuple[int, str]] = []
    text = ""
    for start in range(last, max(-1, last - 5), -1):
        line = lines[start]
        if not line.strip() or depth_of(line) or len(line) > 400:
            break
        text = f"{line.strip()} {text}".strip()
        out.append((start, fold(text)))
    return out


def _with_beginning(lines: list[str], candidates: list[tuple[int, str]]) -> tuple[int, str] | None:
    """Return the shortest sentence whose first word is one that programs write.

    If no sentence begins with such a word, the shortest one that begins with a number is returned.
    """
    numbered: tuple[int, str] | None = None
    for start, folded in candidates:
        verb = _verb_at(folded)
        if verb <= 5 or len(folded) - verb >= 180 or not _DIGIT.search(folded):
            continue
        if numbered is not None and lines[start].rstrip()[-1:] in ".!?":
            break
        if _PROGRAM_BEGINNING.match(folded):
            return start, folded
        if numbered is None and _NUMBER.match(folded):
            numbered = start, folded
    return numbered


def _completed(
    lines: list[str], candidates: list[tuple[int, str]], found: tuple[int, str]
) -> tuple[int, str]:
    """Extend a sentence by the lines above it that hold its missing time, address or year."""
    for longer in candidates:
        above = lines[longer[0]]
        if longer[0] >= found[0]:
            continue
        if above.rstrip()[-1:] in "!?" or above.rstrip()[-1:] == "." and len(above) > 60:
            break
        timed = not _TIME.search(found[1]) and bool(_TIME.search(above))
        addressed = not _MAILBOX.search(found[1]) and bool(_MAILBOX.search(above))
        dated = found[1][:1].isdigit() and bool(_YEAR.search(above)) and not _YEAR.search(found[1])
        if not (timed or addressed or dated or _holds_beginning(above, found[1])):
            break
        found = longer
    return found


def _holds_beginning(above: str, rest: str) -> bool:
    """Tell whether a sentence begins in the line ``above`` and ends in ``rest``."""
    if rest[:1] == "<":
        return len(above) < 60
    folded = fold(above)
    if (
        len(above) >= 80
        or not _YEAR.search(folded)
        or _PROGRAM_BEGINNING.match(rest)
        and (_YEAR.search(rest) or folded.endswith("."))
    ):
        return False
    return bool(_PROGRAM_BEGINNING.match(folded) or _DATE_BEGINNING.match(folded))


_YEAR: Final = re.compile(r"(?<!\d)(?:19|20)\d{2}(?!\d)")


def _names_author(folded: str) -> bool:
    """Tell whether a sentence has two of these three: a verb, an address, a date."""
    verb = _verb_at(folded)
    if verb >= 0 and _HAS_ADDRESS.search(folded) and len(folded) < 320 and len(folded) - verb < 130:
        return True
    if _QUOTING.match(folded):
        return True
    return bool(verb > 3 and _DATE_BEGINNING.match(folded) or _DATED.match(folded))


def _verb_at(folded: str) -> int:
    """Return the index of the last attribution verb in a folded sentence; -1 if it has none."""
    verbs = [token.start() for token in _TOKEN.finditer(folded) if token[0] in _VERB_TOKENS]
    if verbs or folded.isascii():
        return verbs[-1] if verbs else -1
    return max((folded.rfind(word) for word in _SPACELESS_VERBS), default=-1)


def _has_address_or_time(folded: str) -> bool:
    """Tell whether an attribution has an address or a time, as only programs write them."""
    return bool(_MAILBOX.search(folded) or _TIME.search(folded))
