"""What a client may do before it is told to wait or to go: the figures, who is exempt, and the
count of connections by address.

What can go wrong: an address behind a large NAT or a mail hub of one's own exceeds the limits per
address; such networks belong into ``exempt``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK = ("127.0.0.0/8", "::1")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The figures of reliability.md 1, items 7, 8 and 27; sizes in bytes, times in seconds, rates
    in bytes a second.
    """

    message_bytes: int = 25 * MIB
    connections: int = 200
    connections_per_address: int = 20
    connections_per_minute: int = 60
    mails_per_session: int = 100
    recipients: int = 100
    errors: int = 10
    unknown_recipients: int = 5
    error_delay: float = 1.0
    command_seconds: float = 300.0
    busy_command_seconds: float = (
        30.0  # instead of the former when nearly all connections are taken
    )
    handshake_seconds: float = 30.0
    session_seconds: float = 900.0  # outside DATA
    data_rate: int = 500
    data_window: float = 60.0  # the time over which the rate is taken
    # when every connection is taken, one idle for so long gives way to a new one; twice that in a
    # mail
    evict_idle_seconds: float = 5.0
    hops: int = 100
    exempt: tuple[str, ...] = LOOPBACK

    @property
    def free_bytes(self) -> int:
        """The room that has to be left on the disk for mail to be let in."""
        return max(512 * MIB, 3 * self.message_bytes)


class Networks:
    """A set of IP networks that can be asked for an address as a socket gives it; every Unix socket
    belongs to it when ``local`` is set.
    """

    def __init__(self, networks: Iterable[str], *, local: bool = False) -> None:
        """``networks`` are addresses or networks in CIDR form; ValueError for anything else."""
        self._networks = [ip_network(text, strict=False) for text in networks]
        self._local = local
        self._known = lru_cache(1024)(self._search)

    def __contains__(self, host: str) -> bool:
        """Whether an address lies in one of the networks; an IPv4 address written as IPv6 counts as
        itself. "" is a Unix socket.
        """
        return self._known(host)

    def _search(self, host: str) -> bool:
        address = parse_host(host)
        if address is None:
            return self._local and not host
        return any(_inside(address, network) for network in self._networks)


def _inside(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


def parse_host(host: str) -> IPv4Address | IPv6Address | None:
    """The address of a peer without its zone; None for what is no IP address. ``::ffff:192.0.2.1``
    is 192.0.2.1.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(4096)
def address_group(host: str) -> str:
    """What connections are counted by: an IPv4 address, or the /64 network of an IPv6 address."""
    address = parse_host(host)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address) if address is not None else host


@dataclass(slots=True)
class _Group:
    open: int = 0
    tokens: float = 0.0
    seen: float = 0.0


@dataclass(slots=True)
class Admission:
    """Who may connect now. The count of open connections by address, and a bucket of connections a
    minute that refills steadily.
    """

    limits: Limits
    exempt: Networks
    _groups: dict[str, _Group] = field(default_factory=dict)

    def enter(self, host: str, now: float) -> bool:
        """Counts a connection of ``host`` at the monotonic time ``now``; False when the address has
        too many or comes too often.
        """
        if host in self.exempt:
            return True
        capacity = float(self.limits.connections_per_minute)
        group = self._groups.setdefault(address_group(host), _Group(tokens=capacity, seen=now))
        group.tokens = min(capacity, group.tokens + (now - group.seen) * capacity / 60.0)
        group.seen = now
        if group.open >= self.limits.connections_per_address or group.tokens < 1.0:
            return False
        group.tokens -= 1.0
        group.open += 1
        return True

    def leave(self, host: str) -> None:
        """A connection that was let in has ended."""
        group = self._groups.get(address_group(host)) if host not in self.exempt else None
        if group is not None and group.open > 0:
            group.open -= 1

    def forget(self, now: float) -> None:
        """Drops addresses that have nothing open and were not seen for a minute: by then their
        bucket is full again.
        """
        for key in [
            key for key, group in self._groups.items() if not group.open and now - group.seen > 60.0
        ]:
            del self._groups[key]
