"""Bring text into a normal form of Unicode (UAX 15) in linear time.

Normalising sorts the combining marks behind each letter; 160 KB of unsorted marks behind one letter
take seven seconds. Real letters have three or four marks. So only the first marks of a long run are
kept, as in the Stream-Safe Text Format (UAX 15 section 13). No other module may normalise text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import count, groupby
from typing import Final

LONGEST_RUN: Final = 30  # combining marks in a row
_END_OF_MARKS: Final = 0x20000  # Unicode has no combining marks above
# These vowel signs of Tibetan are no marks themselves, but decompose into marks.
_MADE_OF_MARKS: Final = frozenset("\u0f73\u0f75\u0f81")


def _ranges() -> Iterator[str]:
    """Yield the code ranges of all marks; a pattern of single characters would be slower."""
    marks = (
        code
        for code in range(_END_OF_MARKS)
        if unicodedata.combining(chr(code)) or chr(code) in _MADE_OF_MARKS
    )
    numbers = count()
    for _, group in groupby(marks, key=lambda code: code - next(numbers)):
        run = list(group)
        yield f"{chr(run[0])}-{chr(run[-1])}"


_LONG_RUN: Final = re.compile(f"[{''.join(_ranges())}]{{{LONGEST_RUN + 1},}}+")


def without_long_runs(text: str) -> str:
    """Return a text in which no run of combining marks is longer than :data:`LONGEST_RUN`."""
    return _LONG_RUN.sub(lambda run: run[0][:LONGEST_RUN], text)


def is_nfc(text: str) -> bool:
    """Tell whether a text is in NFC, in linear time: the check stops at the first unsorted mark."""
    return text.isascii() or unicodedata.is_normalized("NFC", text)


def nfc(text: str) -> str:
    """Return a text in NFC. If it was in another form, marks beyond a run's limit are left out."""
    return nfc_and_rest(text)[0]


def nfc_and_rest(text: str) -> tuple[str, int]:
    """Return what :func:`nfc` returns, and how many marks were left out."""
    if is_nfc(text):
        return text, 0
    kept = without_long_runs(text)
    return unicodedata.normalize("NFC", kept), len(text) - len(kept)


def nfkc(text: str) -> str:
    """Return a text in NFKC, without the marks beyond a run's limit."""
    return unicodedata.normalize("NFKC", without_long_runs(text))
