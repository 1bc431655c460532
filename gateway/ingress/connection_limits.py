"""Limits of SMTP and LMTP clients: their values, exempt networks, and counts per address.

To add a limit: give :class:`Limits` a field; if operators may set it, add the same field to
``LimitSettings`` in ``config/settings.py`` (values are passed on by name) and to
``config/ticketgate.example.toml``. The limit is enforced where the session knows the value:
``smtp/policy.py`` at MAIL and RCPT, ``smtp/session.py`` for commands and time, ``smtp/data.py`` for
the mail, ``smtp/server.py`` for connections.

Many clients behind one NAT, or a mail hub of your own, may exceed the limits per address; list such
networks in ``exempt``.
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
    """The values of reliability.md 7, 8 and 27, in bytes, seconds and bytes per second."""

    message_bytes: int = 25 * MIB
    connections: int = 200
    connections_per_address: int = 20
    connections_per_minute: int = 60
    mails_per_session: int = 100
    recipients: int = 100
    errors: int = 10
    commands_without_mail: int = 20  # accepted recipients are not counted
    unknown_recipients: int = 5
    error_delay: float = 1.0
    command_seconds: float = 300.0
    busy_command_seconds: float = 30.0  # if nearly all connections are taken
    handshake_seconds: float = 30.0
    session_seconds: float = 900.0  # not counting the time in DATA
    data_rate: int = 500  # a slower client in DATA is disconnected
    data_window: float = 60.0  # seconds over which the rate is measured
    # if all connections are taken, one this long without an accepted mail is closed for a new one
    evict_seconds: float = 1.0
    evict_data_rate: int = 4096  # bytes of a mail that make up for a second of that time
    hops: int = 100  # Received fields in a mail, at most
    exempt: tuple[str, ...] = LOOPBACK

    @property
    def free_bytes(self) -> int:
        """The free disk space required to accept mail."""
        return max(512 * MIB, 3 * self.message_bytes)


class Networks:
    """A set of IP networks; with ``local`` it also contains every Unix socket."""

    def __init__(self, networks: Iterable[str], *, local: bool = False) -> None:
        """Take addresses or networks in CIDR form; ValueError for anything else."""
        self._networks = [ip_network(text, strict=False) for text in networks]
        self._local = local
        self._known = lru_cache(1024)(self._contains)

    def __contains__(self, host: str) -> bool:
        """Return whether a peer's address is in one of the networks; "" stands for a Unix socket.

        An IPv4 address written as IPv6 counts as IPv4.
        """
        return self._known(host)

    def _contains(self, host: str) -> bool:
        address = parse_host(host)
        if address is None:
            return self._local and not host
        return any(_inside(address, network) for network in self._networks)


def _inside(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


def parse_host(host: str) -> IPv4Address | IPv6Address | None:
    """Return a peer's IP address without its zone, or None; ``::ffff:192.0.2.1`` becomes IPv4."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


@lru_cache(4096)
def address_group(host: str) -> str:
    """Return the IPv4 address or IPv6 /64 network under which a peer's connections are counted."""
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
    """Counts open connections per address and limits connections per minute (token bucket)."""

    limits: Limits
    exempt: Networks
    _groups: dict[str, _Group] = field(default_factory=dict)

    def admit(self, host: str, now: float) -> bool:
        """Count a connection at monotonic ``now``; return False if the address has too many."""
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

    def release(self, host: str) -> None:
        """Count a connection of an address as ended."""
        group = self._groups.get(address_group(host)) if host not in self.exempt else None
        if group is not None and group.open > 0:
            group.open -= 1

    def expire(self, now: float) -> None:
        """Forget addresses that are not connected and did not try to connect for a minute."""
        for key in [
            key for key, group in self._groups.items() if not group.open and now - group.seen > 60.0
        ]:
            del self._groups[key]
