"""The shape of a language table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """The words of one language; several words of one kind are separated by ``|``.

    ``forwarded``: the line above a forwarded mail, without dashes and colon. ``original``: the line
    above a quoted mail. ``from_`` to ``reply_to``: labels in header blocks; ``other``: further
    labels there, which tell us nothing. ``wrote``: the verb of an attribution ("On Monday, Ada
    wrote:"). ``forward_prefix``, ``reply_prefix``: prefixes of subjects.
    """

    code: str
    forwarded: str
    original: str
    from_: str
    to: str
    cc: str
    date: str
    subject: str
    wrote: str
    bcc: str = ""
    reply_to: str = ""
    other: str = ""
    forward_prefix: str = ""
    reply_prefix: str = ""
