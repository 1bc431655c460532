"""Classes and ids by which clients mark quoted mail in HTML.

To add a client, add its class or id in lower case to one of the three sets. Marks
matter only if the text itself does not show the quote (:mod:`gateway.reading.client_quotes`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

Place = Literal["quote", "attribution", "above_quote"]

# Classes and ids of the element around a quoted mail.
_QUOTE: Final = frozenset(
    {
        "gmail_quote",
        "gmail_quote_container",
        "mail-editor-reference-message-container",  # Outlook
        "moz-forward-container",  # Thunderbird
        "ms-outlook-mobile-reference-message",
        "olk_src_body_section",  # Outlook for Mac
        "protonmail_quote",
        "yahoo_quoted",
        "zmail_extra",  # Zoho
    }
)
# Classes and ids of the element around an attribution.
_ATTRIBUTION: Final = frozenset(
    {
        "gmail_attr",
        "moz-cite-prefix",  # Thunderbird
        "reply-intro",  # Roundcube
    }
)
# Classes and ids of an element below which everything is quoted.
_ABOVE_QUOTE: Final = frozenset(
    {
        "appendonsend",  # Outlook
        "divrplyfwdmsg",  # Outlook
        "outlookmessageheader",
        "stopspelling",  # Outlook
        "zwchr",  # Zimbra
    }
)
_ANY: Final = re.compile(
    "|".join(map(re.escape, sorted(_QUOTE | _ATTRIBUTION | _ABOVE_QUOTE))), re.IGNORECASE
)


def is_marked(source: str) -> bool:
    """Tell whether a client may have marked its quotes in this HTML."""
    return _ANY.search(source) is not None


def mark_of(tag: str, attributes: Mapping[str, str]) -> Place | None:
    """Return what an element marks (quote, attribution, line above a quote), or None."""
    if tag == "blockquote":
        return None
    words = f"{attributes.get('class', '')} {attributes.get('id', '')}"[:500].lower().split()
    for word in words:
        if word in _QUOTE or word.endswith("yahoo_quoted") or word.startswith("yahoo_quoted_"):
            return "quote"
        if word in _ATTRIBUTION:
            return "attribution"
        if word in _ABOVE_QUOTE:
            return "above_quote"
    return None
