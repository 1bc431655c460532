"""The composition root: configuration in, a running daemon out, and the order in which it starts
and stops.

Start: database head, sockets, services, READY. Stop: no new connections, sessions end or are told
421, mail in hand is committed, intake finishes its batch, everything closes. A problem before READY
ends the process with a clear sentence and the exit code of its kind; afterwards the supervisor
decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from config.listen import parse_listen
from config.settings import Settings
from gateway import log
from gateway.agenda.worker import Agenda
from gateway.clock import Clock
from gateway.compose.user_mail import MailIdentity
from gateway.daemon.sending import open_outbox
from gateway.daemon.status import DaemonStatus
from gateway.daemon.supervisor import Service, Supervisor, SystemdNotifier
from gateway.errors import Unavailable, UsageError
from gateway.ingress.accept import Acceptor
from gateway.ingress.imap.account import accounts
from gateway.ingress.imap.sent_copies import SentCopies
from gateway.ingress.imap.watcher import Watcher
from gateway.ingress.limits import Limits
from gateway.ingress.smtp.lmtp import LmtpServer
from gateway.ingress.smtp.protocol import SmtpServer
from gateway.ingress.smtp.recipients import ChannelDirectory
from gateway.ingress.smtp.server import ListenerSettings
from gateway.ingress.smtp.tls import Certificate
from gateway.intake.attachments import files_of
from gateway.intake.batch import Rules
from gateway.intake.sandbox.pool import Sandbox
from gateway.intake.worker import Intake
from gateway.oauth.tokens import Tokens
from gateway.outbox.webhook import Webhooks
from gateway.store.engine import Database
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.queues.blobs import open_blobs, remove_leftovers
from gateway.store.queues.spool import Spool
from gateway.store.queues.wake import Wake
from gateway.store.sql import nodes
from gateway.web.health import Health

ROLES = frozenset({"ingress", "worker", "web"})
GRACE_SECONDS = 45.0  # for sessions that are sending; the supervisor's drain is longer
HINTS_SECONDS = 2.0  # between attempts to hear of other daemons' mail again
MOST_PROCESSES = 4
_log = log.logger("daemon")


def chosen(roles: Sequence[str]) -> frozenset[str]:
    """The roles of a command line; "all" is every one. UsageError for an unknown word."""
    wanted = {word for each in roles for word in each.split(",")}
    unknown = wanted - ROLES - {"all"}
    if unknown:
        raise UsageError(
            f"there is no role {min(unknown)!r}; the roles are all, {', '.join(sorted(ROLES))}"
        )
    return ROLES if "all" in wanted else frozenset(wanted)


async def serve(
    settings: Settings,
    roles: frozenset[str],
    environ: Mapping[str, str],
    announce: Callable[[list[str]], None],
) -> None:
    """Run until SIGTERM or SIGINT. ``announce`` gets the lines a person reads once everything
    accepts.
    """
    log.configure(
        level=settings.log.level,
        form=settings.log.format,
        addresses=settings.log.addresses,
        stream=sys.stderr,
    )
    notify = SystemdNotifier(environ)
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        daemon = await Daemon.open(settings, environ, stack)
        _on_signals(stop)
        services = await daemon.start(roles, stack)
        _spare_the_collector()
        announce(daemon.welcome())
        _log.info(
            "ready", roles=sorted(roles), database=daemon.database.dialect, listen=daemon.listening
        )
        notify.ready()
        await Supervisor(stop, notify).run(services)


def _spare_the_collector() -> None:
    """What was loaded so far lives as long as the process: the cyclic collector need not look at it
    again, and seldom at what follows.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _folder(path: Path) -> Path:
    """A private folder, made where it is missing; before anything is served, so that waiting for
    the disk holds nobody up.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)


@dataclass(slots=True)
class Daemon:
    """What the services of one process share."""

    settings: Settings
    clock: Clock
    database: Database
    spool: Spool
    wake: Wake
    listening: list[str]
    sandbox: Sandbox | None = None

    @classmethod
    async def open(
        cls, settings: Settings, environ: Mapping[str, str], stack: AsyncExitStack
    ) -> Daemon:
        """Database and blobs, checked. SchemaOutdated, NotDurable or StoreUnavailable end the
        start.
        """
        _folder(Path(settings.data.directory))
        database = await Database.open(settings.database.url, node=nodes.own())
        stack.push_async_callback(database.close)
        spool = Spool(database, open_blobs(settings.blobs.url))
        return cls(settings, Clock.from_environ(environ), database, spool, Wake(), [])

    async def start(self, roles: frozenset[str], stack: AsyncExitStack) -> list[Service]:
        """Open the sockets and build the services of these roles."""
        services: list[Service] = []
        if "worker" in roles:
            services += await self._worker(stack)
        if "ingress" in roles:
            services += await self._ingress()
        if self.settings.health.listen:
            place = parse_listen(self.settings.health.listen)
            seen = DaemonStatus(self.settings, self.clock, self.database, self.spool)
            health = Health(place.host, place.port, seen.check, seen.measure)
            await _bound(health.start(), self.settings.health.listen)
            services.append(health)
        if self.database.dialect == "postgresql":
            services.append(Listening(self.wake, self.database))
        return services

    async def _worker(self, stack: AsyncExitStack) -> list[Service]:
        count = self.settings.workers.processes or min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
        self.sandbox = Sandbox(count)
        stack.push_async_callback(self.sandbox.stop)
        await self.sandbox.start()
        rules = Rules(self.house.zone, frozenset(self.settings.auth_results.trusted))
        intake = Intake(
            self.database,
            self.spool,
            self.sandbox,
            rules,
            self.clock,
            filed=lambda: self.wake.notify("agenda"),
        )
        agenda = Agenda(
            self.database,
            self.clock,
            self.house,
            log_days=self.settings.data.action_log_days,
            woken=self._work_for_outside,
            files_of=partial(files_of, self.spool, self.sandbox),
        )
        outbox = open_outbox(self.settings, self.database, self.clock)
        webhooks = Webhooks(self.database, self.clock, self.settings.webhooks)
        loops: dict[str, Loop] = {
            "intake": intake,
            "agenda": agenda,
            "outbox": outbox,
            "webhooks": webhooks,
        }
        return [Working(loop, self.wake, name) for name, loop in loops.items()]

    def _work_for_outside(self) -> None:
        for topic in ("outbox", "webhook"):
            self.wake.notify(topic)

    @property
    def house(self) -> MailIdentity:
        """What the configuration says about our mail."""
        account, outbound = self.settings.account, self.settings.outbound
        return MailIdentity(
            ZoneInfo(account.time_zone),
            account.name,
            account.public_url,
            account.acknowledge_unverified,
            outbound.from_address,
        )

    async def _ingress(self) -> list[Service]:
        smtp, lmtp = self.settings.smtp, self.settings.lmtp
        figures = self.settings.limits
        limits = Limits(**{name: getattr(figures, name) for name in type(figures).model_fields})
        incoming = _folder(Path(self.settings.data.directory) / "incoming")
        left = remove_leftovers(self.settings.blobs.url)
        if left:
            _log.info("removed what a crash left unfinished", files=left)
        directory = ChannelDirectory(self.database)
        await directory.refresh()
        accept = Acceptor(self.spool, limits, incoming, wake=lambda: self.wake.notify("mail"))
        service = ListenerSettings(
            accept=accept,
            directory=directory,
            clock=self.clock,
            limits=limits,
            hostname=smtp.hostname,
            bare_newline=smtp.bare_newline,
            certificate=Certificate(Path(smtp.tls_certificate), Path(smtp.tls_key))
            if smtp.tls_certificate
            else None,
            proxy_from=smtp.proxy_from,
        )
        services: list[Service] = []
        if self.settings.imap:
            given = accounts(self.settings)
            for each in given:
                if await directory.lookup(each.channel) != "ours":
                    _log.warning(
                        "mailbox of no channel",
                        mailbox=each.log_name,
                        channel=log.address(each.channel),
                    )
            tokens = Tokens(self.database, self.clock)
            services.append(Watcher(given, accept, Mailboxes(self.database), tokens, self.clock))
            if any(each.sent_folder for each in given):
                services.append(SentCopies(given, self.database, tokens, self.clock))
        for name, listen, server in (
            ("smtp", smtp.listen, SmtpServer),
            ("lmtp", lmtp.listen, LmtpServer),
        ):
            if listen:
                listener = server(listen, service)
                await _bound(listener.start(), ", ".join(listen))
                self.listening += [f"{name} {address}" for address in listener.addresses]
                services.append(Listener(name, listener, accept))
        return services

    def welcome(self) -> list[str]:
        """What a newcomer reads (interfaces.md 1)."""
        lines = ["ticketgate is running.", *(f"  {each}" for each in self.listening)]
        if self.settings.smtp.listen:
            host, _, port = next(
                (each.removeprefix("smtp ") for each in self.listening if each.startswith("smtp ")),
                "",
            ).rpartition(":")
            lines += [
                "Send a first mail:      .venv/bin/ticketgate send-test",
                (
                    f"  or with swaks:        swaks --server {host}:{port} --to support@localhost "
                    "--from customer@example.com"
                ),
                "Then look at it:        .venv/bin/ticketgate ticket list",
            ]
        return [*lines, "Ctrl-C drains and stops."]


@dataclass(frozen=True, slots=True)
class Listener:
    """An SMTP or LMTP listener as a service."""

    name: str
    server: SmtpServer | LmtpServer
    accept: Acceptor

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop; then let sessions that are sending finish, and the commits that are
        under way.
        """
        if not self.server.addresses:
            await self.server.start()
        await stop.wait()
        await self.server.stop(GRACE_SECONDS)
        await self.accept.drain()


class Loop(Protocol):
    """What works off a queue until it is told to stop."""

    async def serve(self, stop: asyncio.Event, wake: Wake) -> None:
        """Until ``stop``; what is in hand then is finished."""
        ...


@dataclass(frozen=True, slots=True)
class Working:
    """A loop as a service."""

    loop: Loop
    wake: Wake
    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stop."""
        await self.loop.serve(stop, self.wake)


@dataclass(frozen=True, slots=True)
class Listening:
    """Hints from other daemons on one PostgreSQL, as a service."""

    wake: Wake
    database: Database
    name: str = "hints"
    pause: float = HINTS_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Pass hints on until stop. Without them, while PostgreSQL is away, mail is found by
        polling; that is no reason to end the daemon.
        """
        while not stop.is_set():
            try:
                await self._listen(stop)
            except Unavailable as error:
                _log.warning("hints lost", reason=error.message)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self.pause)

    async def _listen(self, stop: asyncio.Event) -> None:
        hints = asyncio.create_task(self.wake.listen(self.database))
        ending = asyncio.create_task(stop.wait())
        await asyncio.wait({hints, ending}, return_when=asyncio.FIRST_COMPLETED)
        for task in (hints, ending):
            task.cancel()
        results = await asyncio.gather(hints, ending, return_exceptions=True)
        if isinstance(results[0], Exception) and not stop.is_set():
            raise results[0]


async def _bound(starting: object, where: str) -> None:
    """Await the opening of a socket; an address that is taken is told in one sentence."""
    try:
        await starting  # type: ignore[misc]  # a coroutine
    except OSError as error:
        raise Unavailable(f"cannot listen on {where}: {os.strerror(error.errno or 0)}") from None
