"""Find which of our addresses a mail address belongs to (behaviour.md 5, *Recipient*).

Mail for ``local+anything@domain`` is mail for ``local@domain``. A channel's own address may have
plus parts too. So the longest channel address that fits is taken, and the rest is the plus part.
Everything that receives or sends mail calls this module, so that all parts of the program agree.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from core.model.message import address_key, ascii_domain

MOST_PLUS_PARTS: Final = 3  # of a channel: an address is compared with only so many beginnings


def our_address(ours: Container[str], address: str) -> str | None:
    """Return the longest address in ``ours`` (address keys) that an address belongs to, or None."""
    key = address_key(address)
    if key in ours:
        return key
    if "+" not in key and key.isascii() and "xn--" not in key:
        return None
    local, at, domain = key.rpartition("@")
    parts = local.split("+", MOST_PLUS_PARTS + 1)
    for spelling in _spellings(domain):
        if (whole := local + at + spelling) in ours:
            return whole
        for length in range(min(len(parts), MOST_PLUS_PARTS + 1), 0, -1):
            if (shorter := "+".join(parts[:length]) + at + spelling) in ours:
                return shorter
    return None


def _spellings(domain: str) -> tuple[str, ...]:
    """Return a domain as it is written and, if it is international, also in its other spelling.

    The two spellings are Unicode and the ASCII form used in the DNS (``xn--``).
    """
    if not domain.isascii():
        return (domain, ascii_domain(domain))
    if not domain.startswith("xn--") and ".xn--" not in domain:
        return (domain,)
    try:
        return (domain, domain.encode().decode("idna"))
    except UnicodeError:
        return (domain,)
