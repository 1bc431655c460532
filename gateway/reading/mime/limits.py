"""The caps within which one mail is read (reliability.md 12).

A mail over a cap raises no error: it is read up to the cap, and its message is marked
``over_limit``. Sizes are bytes unless noted.
"""

from __future__ import annotations

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
CHARSET_SAMPLE: Final = 64 * 1024
