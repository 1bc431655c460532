"""Listening sockets and the registry of sessions: who may connect, time limits, shutdown.

If the largest allowed number of sessions is open, a new client gets the place of the session that
has gone longest without an accepted mail. That session is closed even if it sends commands, so that
nobody keeps others out by holding connections. One timer per second checks all sessions; a timer
per command would cost more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from config.listen import parse_listen
from gateway import maillog
from gateway.ingress.connection_limits import Admission, Networks, address_group
from gateway.ingress.smtp.loop_throttle import LoopThrottle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.clock import Clock
    from gateway.ingress.accept import Acceptor
    from gateway.ingress.connection_limits import Limits
    from gateway.ingress.smtp.addresses import Directory
    from gateway.ingress.smtp.tls import Certificate

_SWEEP_SECONDS = 1.0
_BACKLOG = 1024
_ABORT_SECONDS = 1.0  # for an aborted session to clean up
_FULL = "421 4.3.2 Too many connections, try again later"
_EXCESS = "421 4.7.0 Too many connections from your address, try again later"
_STOPPING = "421 4.3.2 Service is stopping, try again later"
State = Literal["greeting", "command", "data", "commit", "parting"]


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """The settings and services that all sessions of a listener share.

    ``pause`` sleeps before the reply to an error.
    """

    accept: Acceptor
    directory: Directory
    clock: Clock
    limits: Limits
    hostname: str = ""
    bare_newline: Literal["reject", "normalize"] = "reject"
    certificate: Certificate | None = None
    proxy_from: tuple[str, ...] = ()
    results_from: tuple[str, ...] = ()
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    @cached_property
    def name(self) -> str:
        """Our host name: the configured one, else the machine's, without asking the DNS."""
        return self.hostname or socket.gethostname() or "localhost"

    @cached_property
    def exempt(self) -> Networks:
        """The trusted clients, which have no limits per address: exempt networks, Unix sockets."""
        return Networks(self.limits.exempt, local=True)

    @cached_property
    def proxies(self) -> Networks:
        """The trusted proxies, whose connections begin with a PROXY header."""
        return Networks(self.proxy_from)

    @cached_property
    def listed(self) -> Networks:
        """The mail servers in front of us, whose Authentication-Results count (behaviour.md 5)."""
        return Networks(self.results_from)


class OpenSession(Protocol):
    """What the registry needs of a session."""

    state: State
    host: str

    @property
    def in_transaction(self) -> bool:
        """Whether the client has begun a mail."""
        ...

    @property
    def last_mail_at(self) -> float:
        """The event loop's time when a mail was last accepted, or else when the session began."""
        ...

    @property
    def mail_bytes(self) -> int:
        """The bytes received so far of a mail in DATA."""
        ...

    def check(self, now: float, idle_limit: float) -> None:
        """End the session if it was idle for more than ``idle_limit`` or is too slow."""
        ...

    def close_with(self, reply: str) -> None:
        """Send a last reply and close."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


@dataclass(slots=True, eq=False)
class SessionRegistry:
    """Knows the open sessions of one listener, and decides who else may connect."""

    service: ListenerSettings
    source: str
    sessions: set[OpenSession] = field(default_factory=set)
    stopping: bool = False
    throttle: LoopThrottle = field(default_factory=LoopThrottle)
    _admission: Admission = field(init=False)
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Create the object that counts this listener's connections per address."""
        self._admission = Admission(self.service.limits, self.service.exempt)
        self._empty.set()

    def add(self, session: OpenSession, now: float) -> str | None:
        """Add a session, or return the reply that refuses it (too many are open, or we stop)."""
        if self.stopping:
            return _STOPPING
        is_full = len(self.sessions) >= self.service.limits.connections
        if is_full and not self._make_room(session.host, now):
            return _FULL
        self.sessions.add(session)
        self._empty.clear()
        return None

    def _make_room(self, host: str, now: float) -> bool:
        """Close one session to make room for a client at ``host``; return whether one was closed.

        A session may be closed if it has long had no mail accepted, or if its address has at least
        two sessions more than ``host``. Of these, the one that has gone longest without an accepted
        mail is closed. A session that is storing a mail is never closed.
        """
        limits, ended = self.service.limits, [s for s in self.sessions if s.state == "parting"]
        if ended:  # it only waits for its client to read the last reply
            self._drop(ended[0])
            return True
        places = Counter(address_group(each.host) for each in self.sessions)
        fair = places[address_group(host)] + 1
        closable = [
            session
            for session in self.sessions
            if session.state != "commit"
            and (
                now - session.last_mail_at >= limits.evict_seconds
                or places[address_group(session.host)] > fair
            )
        ]
        # a mail that comes in quickly counts as progress
        oldest = min(
            closable,
            key=lambda each: each.last_mail_at + each.mail_bytes / limits.evict_data_rate,
            default=None,
        )
        if oldest is None:
            return False
        self._drop(oldest)
        return True

    def _drop(self, session: OpenSession) -> None:
        """Close a session to make room for another; it no longer counts as open."""
        if session.state == "parting":
            session.abort()
        else:
            maillog.refused(source=self.source, reason_code="no_progress", peer=session.host)
            session.close_with(_FULL)
        self.sessions.discard(session)

    def count_address(self, host: str, now: float) -> str | None:
        """Count a session for its address; return a reply to refuse it if there are too many."""
        if self._admission.admit(host, now):
            return None
        maillog.refused(source=self.source, reason_code="connections_per_address", peer=host)
        return _EXCESS

    def remove(self, session: OpenSession, counted_address: str | None) -> None:
        """Remove a session; ``counted_address`` is the address it was counted for, or None."""
        if counted_address is not None:
            self._admission.release(counted_address)
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()

    def sweep(self, now: float) -> None:
        """Check the time limits of each session; ``now`` is the event loop's time."""
        limits = self.service.limits
        crowded = len(self.sessions) >= limits.connections * 9 // 10
        idle_limit = limits.busy_command_seconds if crowded else limits.command_seconds
        for session in tuple(self.sessions):
            session.check(now, idle_limit)
        self._admission.expire(now)

    async def drain(self, grace: float) -> None:
        """Close idle sessions, give others ``grace`` seconds to finish, abort the rest."""
        self.stopping = True
        for session in tuple(self.sessions):
            if session.state in ("command", "greeting") and not session.in_transaction:
                session.close_with(_STOPPING)
        await self._wait_until_empty(grace)
        for session in tuple(self.sessions):
            session.abort()
        await self._wait_until_empty(_ABORT_SECONDS)

    async def _wait_until_empty(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()


class SmtpListeners:
    """The listeners of one protocol; after start, ``addresses`` have the real port numbers."""

    def __init__(
        self,
        listen: Sequence[str],
        registry: SessionRegistry,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        """Take ``host:port`` or ``unix:/path`` texts and a factory of protocol objects."""
        self._listen = tuple(listen)
        self._registry = registry
        self._factory = factory
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self.addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        """Open all listeners; if one cannot be opened, close the others and raise OSError."""
        loop = asyncio.get_running_loop()
        addresses: list[str] = []
        try:
            for text in self._listen:
                listen = parse_listen(text)
                if listen.path:
                    _remove_socket(text)  # left by a process that died
                    server = await loop.create_unix_server(
                        self._factory, listen.path, backlog=_BACKLOG
                    )
                    _allow_everybody(listen.path)
                    addresses.append(text)
                else:
                    server = await loop.create_server(
                        self._factory, listen.host, listen.port, backlog=_BACKLOG
                    )
                    addresses.extend(_shown(opened) for opened in server.sockets)
                self._servers.append(server)
        except OSError:
            self._close()
            raise
        self.addresses = tuple(addresses)
        self._timer = loop.call_later(_SWEEP_SECONDS, self._tick)

    @property
    def sessions(self) -> int:
        """The number of open sessions."""
        return len(self._registry.sessions)

    def sweep(self, now: float | None = None) -> None:
        """End sessions beyond their time limits; after start, a timer calls this every second."""
        self._registry.sweep(asyncio.get_running_loop().time() if now is None else now)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._tick)
        self.sweep()

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for text in self._listen:
            _remove_socket(text)

    async def stop(self, grace: float) -> None:
        """Accept no new connections, and return when all sessions ended or were aborted."""
        self._close()
        await self._registry.drain(grace)
        if self._timer is not None:
            self._timer.cancel()


def _remove_socket(listen: str) -> None:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


def _allow_everybody(path: str) -> None:
    """Let the MTA's user write to the socket; access is controlled by its folder."""
    Path(path).chmod(0o666)


def _shown(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
