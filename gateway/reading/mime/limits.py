"""The caps within which one mail is read (reliability.md 12).

A mail over a cap raises no error: it is read up to the cap, and its message is marked
``over_limit``. Sizes are bytes unless noted. A function that leaves something out calls
:func:`leave_out`, which notes it for the code that reads the mail inside :func:`noting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

HEADER_BLOCK: Final = 256 * 1024
HEADER_FIELDS: Final = 1000
HEADER_FIELD: Final = 64 * 1024
PART_HEADER_BLOCK: Final = 64 * 1024  # of a part inside the mail
PARTS: Final = 500
DEPTH: Final = 20
BOUNDARY: Final = 2048
RECEIVED: Final = 100
ADDRESSES: Final = 1000
ENCODED_WORDS: Final = 2000  # a field; a long real subject has some forty
REFERENCES: Final = 1000

# Characters of a stored string.
TEXT: Final = 1024 * 1024
SUBJECT: Final = 2000
NAME: Final = 500
ADDRESS: Final = 500
MESSAGE_ID: Final = 998
FILENAME: Final = 255
HEADER_VALUE: Final = 4000
DEFECTS: Final = 50

HTML: Final = 1024 * 1024  # characters of HTML that are sanitised or turned into text
HTML_DEPTH: Final = 256
HTML_TAGS: Final = 100_000  # of one HTML body; a long newsletter has some ten thousand
HTML_ATTRIBUTES: Final = 100  # of one tag
HTML_ENTITIES: Final = 30_000  # signs of one HTML body that must be written as entities
HTML_REOPENED: Final = 1_000_000  # times that open formats, like <b>, may be carried over to a tag
CHARSET_SAMPLE: Final = 64 * 1024

_left_out: ContextVar[dict[str, None] | None] = ContextVar("left_out", default=None)


@contextmanager
def noting() -> Iterator[dict[str, None]]:
    """Collect what :func:`leave_out` notes in this ``with`` block: defects, each once."""
    found: dict[str, None] = {}
    token = _left_out.set(found)
    try:
        yield found
    finally:
        _left_out.reset(token)


def leave_out(defect: str) -> None:
    """Note that a mail is over a cap and read in part; ``defect`` says what is left out."""
    found = _left_out.get()
    if found is not None:
        found[defect] = None
