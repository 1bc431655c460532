"""What mail clients write into the body, in the languages people use them in: one table a language,
merged into the look-ups the engines use.

A table holds words, never patterns of one client. Compared are folded words (:func:`fold`), so
case, accents of capitals and non-breaking blanks do not matter. A word may mean the same role in
several languages; one that means two roles is decided by the first table that has it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

from gateway.reading.languages import asian, eastern, nordic, western
from gateway.reading.languages.table import Language

Role = Literal["from", "to", "cc", "bcc", "date", "subject", "reply_to", "other"]

ALL: Final[tuple[Language, ...]] = (*western.TABLES, *nordic.TABLES, *eastern.TABLES, *asian.TABLES)

DECORATION: Final = " \t-_*=#|~<>:：.·•—–[]()\"'\u00a0\u200b\u200e\u200f\ufeff+"
_BLANK: Final = re.compile(r"[\s\u00a0\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")


def fold(text: str) -> str:
    """The form in which words are compared: lower case, single blanks, invisible marks gone."""
    if text.isascii():
        return " ".join(text.split()).lower()
    text = unicodedata.normalize("NFC", text.replace("İ", "i"))
    return _BLANK.sub(" ", text).strip().lower()


def _words(value: str) -> list[str]:
    return [fold(each) for each in value.split("|") if each.strip()]


def _labels() -> dict[str, Role]:
    out: dict[str, Role] = {}
    roles: tuple[tuple[str, Role], ...] = (
        ("from_", "from"), ("to", "to"), ("cc", "cc"), ("bcc", "bcc"), ("date", "date"),
        ("subject", "subject"), ("reply_to", "reply_to"), ("other", "other"),
    )  # fmt: skip
    for attribute, role in roles:
        for table in ALL:
            for word in _words(getattr(table, attribute)):
                out.setdefault(word.strip(DECORATION), role)
    return out


LABELS: Final[dict[str, Role]] = _labels()
FORWARD_MARKS: Final[frozenset[str]] = frozenset(
    word for table in ALL for word in _words(table.forwarded)
)
REPLY_MARKS: Final[frozenset[str]] = frozenset(
    word for table in ALL for word in _words(table.original)
)
_FORWARD_WORDS: Final = sorted(
    {word for table in ALL for word in _words(table.forward_prefix)}, key=len, reverse=True
)
_REPLY_WORDS: Final = sorted(
    {word for table in ALL for word in _words(table.reply_prefix)}, key=len, reverse=True
)
_LEAD: Final = r"\s*(?:\[[^\]]{1,60}\]\s*)*"
_COUNT: Final = r"\s*(?:\[\d{1,3}\]|\(\d{1,3}\)|\^\d{1,3}|\d{1,2})?\s*[:：]"
FORWARD_PREFIX: Final = re.compile(
    _LEAD + "(?:" + "|".join(map(re.escape, _FORWARD_WORDS)) + ")" + _COUNT, re.IGNORECASE
)
REPLY_PREFIX: Final = re.compile(
    _LEAD + "(?:" + "|".join(map(re.escape, _REPLY_WORDS)) + ")" + _COUNT, re.IGNORECASE
)
WROTE: Final[tuple[str, ...]] = tuple(
    sorted({word for table in ALL for word in _words(table.wrote)}, key=len, reverse=True)
)
