"""The words that mail clients write into bodies and subjects, in many languages.

There is one table of words for each language; the tables are merged into the look-ups below.

To add a word (a forward mark of a new client, a header label, a subject prefix, the verb of an
attribution), add it to the language's table in ``western``, ``nordic``, ``eastern`` or ``asian``,
separated by ``|``. To add a language, add a :class:`~gateway.reading.languages.table.Language` to
``TABLES`` of one of these modules. Tables hold plain words, never patterns. Case, the kind of
blanks and invisible characters do not matter (:func:`fold`). A word may have the same role in
several languages; if it has two roles, the first role in ``_ROLES`` wins.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from core.normal_form import nfc
from gateway.reading.languages import asian, eastern, nordic, western
from gateway.reading.languages.table import Language

Role = Literal["from", "to", "cc", "bcc", "date", "subject", "reply_to", "other"]

ALL: Final[tuple[Language, ...]] = (*western.TABLES, *nordic.TABLES, *eastern.TABLES, *asian.TABLES)

DECORATION: Final = " \t-_*=#|~<>:：.·•—–[]()\"'\u00a0\u200b\u200e\u200f\ufeff+"
_BLANK: Final = re.compile(r"[\s\u00a0\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")


def fold(text: str) -> str:
    """Return a text for comparison: in lower case, single blanks, no invisible characters."""
    if text.isascii():
        return " ".join(text.split()).lower()
    text = nfc(text.replace("İ", "i"))
    return _BLANK.sub(" ", text).strip().lower()


def _words(value: str) -> list[str]:
    """Return the folded words of one field of a table."""
    return [fold(each) for each in value.split("|") if each.strip()]


def _all_words(field: str) -> set[str]:
    """Return the folded words of one field in all tables."""
    return {word for table in ALL for word in _words(getattr(table, field))}


# The role of the labels in each field of a table; if a word has two roles, the first wins.
_ROLES: Final[tuple[tuple[str, Role], ...]] = (
    ("from_", "from"), ("to", "to"), ("cc", "cc"), ("bcc", "bcc"), ("date", "date"),
    ("subject", "subject"), ("reply_to", "reply_to"), ("other", "other"),
)  # fmt: skip


def _labels() -> dict[str, Role]:
    """Return the role of each header label in all tables."""
    out: dict[str, Role] = {}
    for field, role in _ROLES:
        for table in ALL:
            for word in _words(getattr(table, field)):
                out.setdefault(word.strip(DECORATION), role)
    return out


def _prefix(field: str) -> re.Pattern[str]:
    """Return the pattern of a subject prefix in any language; it allows list tags and counts."""
    words = "|".join(map(re.escape, sorted(_all_words(field), key=len, reverse=True)))
    return re.compile(f"{_TAGS}(?:{words}){_COUNT}", re.IGNORECASE)


_TAGS: Final = r"\s*(?:\[[^\]]{1,60}\]\s*)*"  # "[list] "
_COUNT: Final = r"\s*(?:\[\d{1,3}\]|\(\d{1,3}\)|\^\d{1,3}|\d{1,2})?\s*[:：]"  # "[2]:"
LABELS: Final[dict[str, Role]] = _labels()
FORWARD_MARKS: Final[frozenset[str]] = frozenset(_all_words("forwarded"))
REPLY_MARKS: Final[frozenset[str]] = frozenset(_all_words("original"))
FORWARD_PREFIX: Final = _prefix("forward_prefix")
REPLY_PREFIX: Final = _prefix("reply_prefix")
WROTE: Final[tuple[str, ...]] = tuple(sorted(_all_words("wrote"), key=len, reverse=True))
