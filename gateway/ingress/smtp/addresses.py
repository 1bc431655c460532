"""Parse the addresses of MAIL and RCPT, and decide which recipients are ours.

Addresses with control characters or invalid UTF-8 are refused here and reach neither store nor log.
A recipient in another domain is foreign; nothing is relayed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol

from core.mail.our_addresses import our_address
from core.model.message import address_key

if TYPE_CHECKING:
    from collections.abc import Iterable

Verdict = Literal["ours", "unknown", "foreign"]

_MAX_LENGTH = 320  # RFC 5321 4.5.3.1 allows 64 + 1 + 255
_PLAIN = r"[^\x00-\x20\x7f-\x9f<>()\[\]\\,;:@\"\ud800-\udfff]+"
_QUOTED = r"\"(?:[^\x00-\x1f\x7f-\x9f\"\\\ud800-\udfff]|\\[\x20-\x7e])*\""
_DOMAIN = rf"(?:{_PLAIN}|\[[0-9A-Za-z:.]{{1,64}}\])"
_ADDRESS = rf"(?:{_PLAIN}|{_QUOTED})@{_DOMAIN}"
_PATH = re.compile(
    rf"(?:<(?:@[^\s<>:]{{1,500}}:)?({_ADDRESS}|postmaster|)>|({_ADDRESS}))(?:[ ]+(.*))?",
    re.IGNORECASE,
)
NULL_PATH = "<>"


def parse_path(text: str) -> tuple[str, str] | None:
    """Split ``<address> parameters`` (RFC 5321, 4.1.2) in two; return None if it is invalid.

    The null path is returned as ``<>``; a source route is dropped (RFC 5321, appendix C);
    ``<postmaster>`` is the only address without a domain.
    """
    found = _PATH.fullmatch(text)
    if found is None:
        return None
    address = found[1] if found[2] is None else found[2]
    if len(address) > _MAX_LENGTH:
        return None
    return address or NULL_PATH, found[3] or ""


class Directory(Protocol):
    """Knows which addresses are ours, and whether mail can be stored at all."""

    async def check(self) -> None:
        """Raise StoreUnavailable if mail cannot be stored now."""
        ...

    async def lookup(self, address: str) -> Verdict:
        """Return whether an address is ours, unknown in our domain, or foreign.

        May raise StoreUnavailable.
        """
        ...


class Addresses:
    """A :class:`Directory` in memory; it accepts channels, NAME+ANYTHING, postmaster and abuse."""

    def __init__(self, channels: Iterable[str] = ()) -> None:
        """Take the addresses that are ours, each with its domain."""
        self._channels: frozenset[str] = frozenset()
        self._domains: frozenset[str] = frozenset()
        self.replace(channels)

    def replace(self, channels: Iterable[str]) -> None:
        """Replace all addresses; call this after a channel was added or changed."""
        keys = [_key(channel) for channel in channels]
        self._channels = frozenset(f"{local}@{domain}" for local, domain in keys)
        self._domains = frozenset(domain for _, domain in keys)

    async def check(self) -> None:
        """Do nothing, since memory is always there."""

    async def lookup(self, address: str) -> Verdict:
        """Return whether an address is ours; NAME+ANYTHING is ours if NAME is (behaviour.md 5)."""
        return self.verdict(address)

    def verdict(self, address: str) -> Verdict:
        """Return the same as :meth:`lookup`, for callers that cannot await."""
        local, domain = _key(address)
        if domain not in self._domains:
            return "ours" if not domain and local == "postmaster" else "foreign"
        if local in ("postmaster", "abuse"):
            return "ours"
        fits = our_address(self._channels, f"{local}@{domain}")
        return "ours" if fits is not None else "unknown"


def _key(address: str) -> tuple[str, str]:
    """Return (local part, domain) for comparison.

    Both are in lower case; the domain is in ASCII and has no final dot.
    """
    local, at, domain = address_key(address).rpartition("@")
    if not at:
        return domain, ""
    domain = domain.removesuffix(".")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            return local, domain
    return local, domain
