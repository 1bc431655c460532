"""Reading the addresses of MAIL and RCPT, and deciding which recipients are ours.

What can go wrong: an address with NUL, CR, other control characters or bytes that are no UTF-8; it
is refused here, so it reaches neither the store nor a log. A recipient of another domain is
foreign, never relayed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol

from core.model.message import address_key

if TYPE_CHECKING:
    from collections.abc import Iterable

Verdict = Literal["ours", "unknown", "foreign"]

_LONGEST = 320  # RFC 5321 4.5.3.1 allows 64 + 1 + 255
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
    """Splits ``<address> parameters`` (RFC 5321 4.1.2) into address and parameters; None where it
    is none.

    The null path comes as ``<>``, a source route is left out (RFC 5321 appendix C), and
    ``<postmaster>`` is the one address without a domain.
    """
    found = _PATH.fullmatch(text)
    if found is None:
        return None
    address = found[1] if found[2] is None else found[2]
    if len(address) > _LONGEST:
        return None
    return address or NULL_PATH, found[3] or ""


class Directory(Protocol):
    """Who knows our addresses."""

    async def lookup(self, address: str) -> Verdict:
        """Whether mail to ``address`` is for us, for nobody in a domain of ours, or for another
        domain. May raise StoreUnavailable.
        """
        ...


class Addresses:
    """A :class:`Directory` in memory: the addresses of the channels, with any plus part, and
    postmaster and abuse of their domains.
    """

    def __init__(self, channels: Iterable[str] = ()) -> None:
        """``channels`` are the full addresses we own."""
        self._channels: frozenset[str] = frozenset()
        self._domains: frozenset[str] = frozenset()
        self.replace(channels)

    def replace(self, channels: Iterable[str]) -> None:
        """Sets the addresses anew, after a channel was added or changed."""
        keys = [_key(channel) for channel in channels]
        self._channels = frozenset(f"{local}@{domain}" for local, domain in keys)
        self._domains = frozenset(domain for _, domain in keys)

    async def lookup(self, address: str) -> Verdict:
        """See :class:`Directory`. The plus part is not looked at: whether it ties to a ticket is
        decided later (behaviour.md 5).
        """
        return self.verdict(address)

    def verdict(self, address: str) -> Verdict:
        """The same without waiting."""
        local, domain = _key(address)
        if domain not in self._domains:
            return "ours" if not domain and local == "postmaster" else "foreign"
        if local in ("postmaster", "abuse") or f"{local}@{domain}" in self._channels:
            return "ours"
        return "ours" if f"{local.partition('+')[0]}@{domain}" in self._channels else "unknown"


def _key(address: str) -> tuple[str, str]:
    """Local part and domain as compared: lower case, the domain in its ASCII form and without a
    closing dot.
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
