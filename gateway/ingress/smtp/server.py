"""Listening sockets and the register of sessions: who is let in, who has waited too long, and how
everything ends.

What can go wrong: more clients than places. Then whoever has been idle for longest gives way, so
that a thousand silent sockets do not keep a good client from delivering. One timer a second looks
at all sessions, which is cheaper than a timer for each command.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from config.listen import parse_listen
from gateway import maillog
from gateway.ingress.limits import Admission, Networks
from gateway.ingress.smtp.fair_turns import FairTurns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.clock import Clock
    from gateway.ingress.accept import Acceptor
    from gateway.ingress.limits import Limits
    from gateway.ingress.smtp.addresses import Directory
    from gateway.ingress.smtp.tls import Certificate

_SWEEP_SECONDS = 1.0
_BACKLOG = 1024
_ABORT_SECONDS = 1.0  # for a session that was cut off to tidy up
_FULL = "421 4.3.2 Too many connections, try again later"
_EXCESS = "421 4.7.0 Too many connections from your address, try again later"
_STOPPING = "421 4.3.2 Service is stopping, try again later"
State = Literal["greeting", "command", "data", "commit", "parting"]


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """What every session of a listener needs. ``pause`` waits the seconds it is given before an
    error is answered.
    """

    accept: Acceptor
    directory: Directory
    clock: Clock
    limits: Limits
    hostname: str = ""
    bare_newline: Literal["reject", "normalize"] = "reject"
    certificate: Certificate | None = None
    proxy_from: tuple[str, ...] = ()
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    @cached_property
    def name(self) -> str:
        """What we call ourselves: the configured name, else that of the machine, without asking the
        DNS.
        """
        return self.hostname or socket.gethostname() or "localhost"

    @cached_property
    def exempt(self) -> Networks:
        """The networks that are trusted as our own infrastructure, and Unix sockets."""
        return Networks(self.limits.exempt, local=True)

    @cached_property
    def proxies(self) -> Networks:
        """The peers that begin with a PROXY header."""
        return Networks(self.proxy_from)


class OpenSession(Protocol):
    """What the register wants from a connection."""

    state: State
    since: float

    @property
    def in_transaction(self) -> bool:
        """Whether a mail has been begun."""
        ...

    def check(self, now: float, patience: float) -> None:
        """Ends the session when it has waited longer than ``patience`` seconds for a command, or
        too long for anything else.
        """
        ...

    def dismiss(self, reply: str) -> None:
        """Says a last reply and closes."""
        ...

    def abort(self) -> None:
        """Closes at once."""
        ...


@dataclass(slots=True, eq=False)
class SessionRegistry:
    """The open sessions of one listener, and who else may come in."""

    service: ListenerSettings
    source: str
    sessions: set[OpenSession] = field(default_factory=set)
    stopping: bool = False
    turns: FairTurns = field(default_factory=FairTurns)
    _admission: Admission = field(init=False)
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """The count by address belongs to this listener."""
        self._admission = Admission(self.service.limits, self.service.exempt)
        self._empty.set()

    def enter(self, session: OpenSession, now: float) -> str | None:
        """Takes a new session in; returns the reply to refuse it with where there is no place."""
        if self.stopping:
            return _STOPPING
        if len(self.sessions) >= self.service.limits.connections and not self._make_place(now):
            return _FULL
        self.sessions.add(session)
        self._empty.clear()
        return None

    def _make_place(self, now: float) -> bool:
        """Whoever has sent no command for longest gives way, those first who have begun no mail:
        beginning one must not reserve a place.
        """
        patience = self.service.limits.evict_idle_seconds
        idle = [session for session in self.sessions if session.state == "command"]
        silent = [
            session
            for session in idle
            if now - session.since >= patience * (2 if session.in_transaction else 1)
        ]
        oldest = min(
            silent, key=lambda session: (session.in_transaction, session.since), default=None
        )
        if oldest is None:
            return False
        oldest.dismiss(_FULL)
        self.sessions.discard(oldest)
        return True

    def admit(self, host: str, now: float) -> str | None:
        """Counts a session for the address it comes from; returns the reply to refuse it with where
        that has too many.
        """
        if self._admission.enter(host, now):
            return None
        maillog.refused(source=self.source, reason_code="connections_per_address", peer=host)
        return _EXCESS

    def leave(self, session: OpenSession, admitted: str | None) -> None:
        """A session has ended; ``admitted`` is the address it was counted for, None where it was
        not.
        """
        if admitted is not None:
            self._admission.leave(admitted)
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()

    def sweep(self, now: float) -> None:
        """Looks at each session as of the event loop's time ``now``."""
        limits = self.service.limits
        crowded = len(self.sessions) >= limits.connections * 9 // 10
        patience = limits.busy_command_seconds if crowded else limits.command_seconds
        for session in tuple(self.sessions):
            session.check(now, patience)
        self._admission.forget(now)

    async def drain(self, grace: float) -> None:
        """Sends idle clients away, lets those who are sending a mail finish it for ``grace``
        seconds, then cuts them off.
        """
        self.stopping = True
        for session in tuple(self.sessions):
            if session.state in ("command", "greeting") and not session.in_transaction:
                session.dismiss(_STOPPING)
        await self._ended(grace)
        for session in tuple(self.sessions):
            session.abort()
        await self._ended(_ABORT_SECONDS)

    async def _ended(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()


class SmtpListeners:
    """The listeners of one protocol. ``addresses`` is where they really listen, once started."""

    def __init__(
        self,
        listen: Sequence[str],
        register: SessionRegistry,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        """``listen`` holds ``host:port`` or ``unix:/path``; ``factory`` makes the protocol object
        of a connection.
        """
        self._listen = tuple(listen)
        self._register = register
        self._factory = factory
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self.addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        """Opens all listeners; OSError where one cannot be opened, and then none is."""
        loop = asyncio.get_running_loop()
        addresses: list[str] = []
        try:
            for text in self._listen:
                listen = parse_listen(text)
                if listen.path:
                    _forget_socket(text)  # left over from a process that is gone
                    server = await loop.create_unix_server(
                        self._factory, listen.path, backlog=_BACKLOG
                    )
                    _open_to_all(listen.path)
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
        return len(self._register.sessions)

    def sweep(self, now: float | None = None) -> None:
        """Ends sessions that have waited too long, as of the event loop's time ``now``; happens
        every second by itself.
        """
        self._register.sweep(asyncio.get_running_loop().time() if now is None else now)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._tick)
        self.sweep()

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for text in self._listen:
            _forget_socket(text)

    async def stop(self, grace: float) -> None:
        """Accepts no new connection, and returns when all sessions have ended, after ``grace``
        seconds at the latest.
        """
        self._close()
        await self._register.drain(grace)
        if self._timer is not None:
            self._timer.cancel()


def _forget_socket(listen: str) -> None:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


def _open_to_all(path: str) -> None:
    """The MTA runs as another user; who may deliver is a matter of the folder, as with a port of
    the loopback it is one of the machine.
    """
    Path(path).chmod(0o666)


def _shown(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
