"""Which of our addresses a mail address belongs to (behaviour.md 5, *Recipient*).

Mail for ``local+anything@domain`` is mail for ``local@domain``. A channel may itself have plus
parts: the longest channel that fits an address is the one that is meant, and what follows it is its
plus part. Each way in and out of the desk asks here, so that all agree.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from core.model.message import address_key, ascii_domain

MOST_PLUS_PARTS: Final = 3  # of a channel: an address is compared with only so many beginnings


def our_address(ours: Container[str], address: str) -> str | None:
    """Return the longest of ``ours`` (address keys) that fits an address, or None."""
    local, at, domain = address_key(address).rpartition("@")
    parts = local.split("+", MOST_PLUS_PARTS + 1)
    for spelling in _spellings(domain):
        if (whole := local + at + spelling) in ours:
            return whole
        for length in range(min(len(parts), MOST_PLUS_PARTS + 1), 0, -1):
            if (shorter := "+".join(parts[:length]) + at + spelling) in ours:
                return shorter
    return None


def _spellings(domain: str) -> tuple[str, ...]:
    """Return a domain as written and, if it has letters beyond ASCII, as in the DNS or back."""
    if not domain.isascii():
        return (domain, ascii_domain(domain))
    if not domain.startswith("xn--") and ".xn--" not in domain:
        return (domain,)
    try:
        return (domain, domain.encode().decode("idna"))
    except UnicodeError:
        return (domain,)
