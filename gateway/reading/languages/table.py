"""The shape of a language table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """Words of one language, several of a kind separated by ``|``.

    ``forwarded``: what stands on the line above a forwarded mail, without dashes and colon.
    ``original``: the same above a quoted mail. ``from_`` to ``reply_to``: labels of header blocks;
    ``other``: labels that stand there and say nothing to us. ``wrote``: the verb of a quote
    introduction. ``forward_prefix``, ``reply_prefix``: of subjects. ``mobile``: beginnings of the
    signatures that phones add.
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
    mobile: str = ""
