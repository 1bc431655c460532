"""The domain of the organisation behind a host, by the public suffix list.

The list is part of the library: nothing is fetched while the program runs. It is as new as the
library's version in the lock.
"""

from __future__ import annotations

from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList

from core.model.message import ascii_domain

LONGEST = 255  # what the column holds


@lru_cache(4096)
def organisational_domain(host: str) -> str:
    """Return ``example.co.uk`` for ``mail.example.co.uk``; a public suffix stands for itself."""
    domain = ascii_domain(host.strip().lower()).rstrip(".")
    if domain.startswith("["):
        return domain[:LONGEST]  # a literal address
    return (_list().privatesuffix(domain) or domain)[-LONGEST:]


@cache
def _list() -> PublicSuffixList:
    """Return the list, read once, when the first mail goes out."""
    return PublicSuffixList()
