"""The sentence above a quote, in which a program says who wrote when ("On Monday, A wrote:"), in
any language and over up to four lines.

Told by a verb of the language tables, a beginning as programs write it, and a time or an address.
What can go wrong: a person's own sentence ending in "he wrote:"; without time and address it counts
only where a quote follows.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.reading.languages import WROTE, fold
from gateway.reading.text.quotes import Found, depth_of, quoted_next

_MAILBOX: Final = re.compile(r"[^\s<>,;\"'()\[\]]+@[^\s<>,;\"'()\[\]]+")
_SPACELESS: Final = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SPACELESS_VERBS: Final = tuple(word for word in WROTE if _SPACELESS.search(word))
_TOKEN: Final = re.compile(r"[\w'’]+(?:\([^)\s]{1,5}\)|/-?\w+|-\w+)?")
# the last token of a verb tells it well enough: "ha scritto", "a écrit"
_VERB_TOKENS: Final = frozenset(
    token[0]
    for word in WROTE
    if not _SPACELESS.search(word)
    for token in [list(_TOKEN.finditer(word))[-1:]][0]
)
_START: Final = (
    r"(?:on|am|le|el|il|op|den|dne|dňa|w dniu|dnia|em|pe|în data|in data|no "
    r"dia|às|στις|την|a|al|il giorno|il giorno|at|em|de|d\.|\*?on|в|у|на|dana|"
    r"dana|u|ve|tarihinde|vào|pada|ב-?|בתאריך|في|در|เมื่อ|วันที่|kuupäeval|feladó|quoting|mr\.?|zitat von|citando|citaat|quote from|nachricht von|"
    r"el día|el dia|le|die|il|s dne|kl\.?|dagsins|þann|bei|в письме от|dňa|ngày|--+\s*on|在|于|於)"
)
_DAY: Final = r"(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|vie|sáb|dom|man|tir|ons|tor|fre|lør|søn|пн|вт|ср|чт|пт|сб|вс|нд)"
_STRONG: Final = re.compile(rf"[>\s*_\-–—]*{_START}[\s,.:']", re.DOTALL)
_NUMBER: Final = re.compile(r"[>\s*_\-–—]*\[?\d")
_QUOTING: Final = re.compile(
    r"(?:quoting|zitat von|zitiere|citando|citation de|citaat "
    r"van|citat|citerar|цитирую|cytat)\b.{1,120}@.{1,80}[:：]$"
)
_WEAK: Final = re.compile(rf"[\s*_]*(?:\d|{_DAY}\b)")
_HAS_BOX: Final = re.compile(r"@|\bmailto\b")
_DATED: Final = re.compile(
    r"\W{0,3}(?:[^\W\d]{1,12}\.?,?\s+)?(?:\d{4}\s*[-/.年]\s*\d{1,2}|\d{1,2}\s*[-/.]\s*\d{1,2}\s*[-/.]\s*\d{2,4}|\d{1,2}\.?\s+\S{3,12}\s+\d{4}).{0,120}(?:<[^<>]+@[^<>]+>|@\S+).{0,20}[:：]$",
    re.DOTALL,
)
_DIGIT: Final = re.compile(r"\d")
_TIME: Final = re.compile(r"\d{1,2}[:.h]\d{2}|\d{4}")


def introduction(lines: list[str], last: int) -> Found | None:
    """The introduction of a quote that ends at line ``last``: who wrote when, in any language; None
    where it is no such sentence.
    """
    candidates = _candidates(lines, last)
    if (
        not candidates
        or len(candidates) == 1
        and _verb_at(candidates[0][1]) < 0
        and not _names_somebody(candidates[0][1])
    ):
        return None
    found = _with_beginning(lines, candidates)
    if found is None:
        found = next((each for each in candidates if _names_somebody(each[1])), None)
    if found is not None:
        found = _completed(lines, candidates, found)
        return Found("introduction", found[0], last + 1, 0, {}, strong=_telling(found[1]))
    start, folded = candidates[0]
    verb = _verb_at(folded)
    if 1 < verb <= 100 and len(folded) - verb < 60 and quoted_next(lines, last + 1):
        return Found("introduction", start, last + 1, 0, {}, strong=False)
    return None


def _candidates(lines: list[str], last: int) -> list[tuple[int, str]]:
    """The sentences that end at a line: that line alone, with the one above it, and so on; each
    with its first line.
    """
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
    """The shortest sentence that begins as programs begin it; one that begins with a number may be
    the rest of a longer one.
    """
    numbered: tuple[int, str] | None = None
    for start, folded in candidates:
        verb = _verb_at(folded)
        if verb <= 5 or len(folded) - verb >= 180 or not _DIGIT.search(folded):
            continue
        if numbered is not None and lines[start].rstrip()[-1:] in ".!?":
            break
        if _STRONG.match(folded):
            return start, folded
        if numbered is None and _NUMBER.match(folded):
            numbered = start, folded
    return numbered


def _completed(
    lines: list[str], candidates: list[tuple[int, str]], found: tuple[int, str]
) -> tuple[int, str]:
    """The sentence with the lines above it, where they hold the time, the address or the year that
    a whole introduction has and this rest lacks.
    """
    for longer in candidates:
        above = lines[longer[0]]
        if longer[0] >= found[0]:
            continue
        if above.rstrip()[-1:] in "!?" or above.rstrip()[-1:] == "." and len(above) > 60:
            break
        timed = not _TIME.search(found[1]) and bool(_TIME.search(above))
        addressed = not _MAILBOX.search(found[1]) and bool(_MAILBOX.search(above))
        dated = found[1][:1].isdigit() and bool(_YEAR.search(above)) and not _YEAR.search(found[1])
        if not (timed or addressed or dated or _begins(above, found[1])):
            break
        found = longer
    return found


def _begins(above: str, rest: str) -> bool:
    """Whether a line holds the date or the name with which the sentence begins whose ``rest``
    stands below it.
    """
    if rest[:1] == "<":
        return len(above) < 60
    folded = fold(above)
    if (
        len(above) >= 80
        or not _YEAR.search(folded)
        or _STRONG.match(rest)
        and (_YEAR.search(rest) or folded.endswith("."))
    ):
        return False
    return bool(_STRONG.match(folded) or _WEAK.match(folded))


_YEAR: Final = re.compile(r"(?<!\d)(?:19|20)\d{2}(?!\d)")


def _names_somebody(folded: str) -> bool:
    """A verb beside an address, a weekday and a verb, or a date and an address without verb."""
    verb = _verb_at(folded)
    if verb >= 0 and _HAS_BOX.search(folded) and len(folded) < 320 and len(folded) - verb < 130:
        return True
    if _QUOTING.match(folded):
        return True
    return bool(verb > 3 and _WEAK.match(folded) or _DATED.match(folded))


def _verb_at(folded: str) -> int:
    """Where the last verb of an introduction stands in a folded sentence; -1 where there is none."""
    at = -1
    for token in _TOKEN.finditer(folded):
        if token[0] in _VERB_TOKENS:
            at = token.start()
    if at < 0 and not folded.isascii():
        at = max((folded.rfind(word) for word in _SPACELESS_VERBS), default=-1)
    return at


def _telling(folded: str) -> bool:
    """Whether an introduction names an address or a time, as only programs do."""
    return bool(_MAILBOX.search(folded) or _TIME.search(folded))
