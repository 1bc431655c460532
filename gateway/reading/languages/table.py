"""The fields of a language table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """The words of one language; several words of one kind are separated by ``|``.

    ``forwarded`` is the line above a forwarded mail, without dashes and colon; ``original`` is the
    line above a quoted mail. ``from_`` to ``reply_to`` are labels in header blocks; ``other`` are
    labels whose values are not used. ``wrote`` is the verb of an attribution ("On Monday, Ada
    wrote:"). ``forward_prefix`` and ``reply_prefix`` are prefixes of subjects.
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
