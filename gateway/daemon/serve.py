"""Run the daemon: open the database, bind the sockets, start the services, stop them in order.

On SIGTERM or SIGINT listeners stop accepting, open sessions end or get reply 421, received mail is
committed, and each worker finishes its batch. A failure before the daemon is ready ends it with
one sentence and the exit code of the error's kind; the supervisor handles later failures.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.listen import parse_listen
from config.settings import Settings
from gateway import log
from gateway.daemon.assemble import (
    Installation,
    open_installation,
    private_folder,
    refuse_missing_blobs,
)
from gateway.daemon.services import (
    LateService,
    ListenerService,
    QueueWorker,
    SweepService,
    WakeService,
    WorkerService,
)
from gateway.daemon.status import DaemonStatus
from gateway.daemon.supervisor import Service, Supervisor, SystemdNotifier
from gateway.errors import Unavailable, UsageError
from gateway.ingress.accept import Acceptor
from gateway.ingress.imap.account import accounts
from gateway.ingress.imap.sent_copies import SentCopies
from gateway.ingress.imap.watcher import Watcher
from gateway.ingress.smtp.lmtp import LmtpServer
from gateway.ingress.smtp.protocol import SmtpServer
from gateway.ingress.smtp.recipients import ChannelDirectory
from gateway.ingress.smtp.server import ListenerSettings
from gateway.ingress.smtp.tls import Certificate
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.queues.blobs import remove_leftovers
from gateway.store.queues.wake import Wake
from gateway.web.health import Health

ROLES: Final = frozenset({"ingress", "worker", "web"})
_log = log.logger("daemon")


def chosen(roles: Sequence[str]) -> frozenset[str]:
    """Return the roles that a command line names; UsageError for an unknown role."""
    wanted = {word for each in roles for word in each.split(",")}
    if unknown := wanted - ROLES - {"all"}:
        known = ", ".join(sorted(ROLES))
        raise UsageError(f"unknown role {min(unknown)!r}: must be all, {known}")
    return ROLES if "all" in wanted else frozenset(wanted)


async def serve(
    settings: Settings,
    roles: frozenset[str],
    environ: Mapping[str, str],
    announce: Callable[[list[str]], None],
) -> None:
    """Run until SIGTERM or SIGINT; when listeners accept, call ``announce`` with welcome lines."""
    log.configure(
        level=settings.log.level,
        form=settings.log.format,
        addresses=settings.log.addresses,
        stream=sys.stderr,
    )
    notify = SystemdNotifier(environ)
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        private_folder(Path(settings.data.directory))
        daemon = Daemon(await stack.enter_async_context(open_installation(settings, environ)))
        # an unusable blob store is reported before anything starts
        await refuse_missing_blobs(await daemon.parts.spool())
        _on_signals(stop)
        services = await daemon.start(roles)
        if "worker" not in roles:
            freeze_startup_objects()
        announce(daemon.welcome())
        _log.info(
            "ready",
            roles=sorted(roles),
            database=daemon.parts.database.dialect,
            listen=daemon.listening,
        )
        notify.ready()
        await Supervisor(stop, notify).run(services)


def freeze_startup_objects() -> None:
    """Exempt the objects loaded so far from garbage collection, and collect others less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)


def _load_workers() -> None:
    """Import the modules of the slow workers, which takes a third of the time of a start."""
    for name in ("gateway.intake.worker", "gateway.agenda.worker"):
        importlib.import_module(name)


@dataclass(slots=True)
class Daemon:
    """The services of one process; ``listening`` names the addresses that accept mail."""

    parts: Installation
    wake: Wake = field(default_factory=Wake)
    listening: list[str] = field(default_factory=list)
    accept: Acceptor | None = None  # where this process takes in mail
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _has_loaded: bool = field(default=False, init=False)

    async def start(self, roles: frozenset[str]) -> list[Service]:
        """Open the sockets and return the services of these roles."""
        services: list[Service] = []
        if "worker" in roles:
            services += await self._workers()
        if "ingress" in roles:
            services += await self._ingress()
        if self.parts.settings.health.listen:
            services.append(await self._health(self.parts.settings.health.listen))
        if self.parts.database.dialect == "postgresql":
            services.append(WakeService(self.wake, self.parts.database))
        return services

    async def _workers(self) -> list[Service]:
        """Return the workers; those that are slow to load are loaded once mail is accepted."""
        await self.parts.sandbox()  # starts meanwhile, too
        ready: dict[str, QueueWorker] = {
            "outbox": self.parts.outbox(),
            "webhooks": self.parts.webhooks(),
        }
        late = {"intake": self._intake, "agenda": self._agenda}
        return [
            *(LateService(make, self.wake, name) for name, make in late.items()),
            *(WorkerService(worker, self.wake, name) for name, worker in ready.items()),
        ]

    async def _intake(self) -> QueueWorker:
        await self._loaded()
        return await self.parts.intake(filed=lambda: self.wake.notify("agenda"))

    async def _agenda(self) -> QueueWorker:
        await self._loaded()
        return self.parts.agenda(woken=self._wake_senders)

    async def _loaded(self) -> None:
        """Import the slow workers once, in a thread, since the listeners answer meanwhile."""
        async with self._loading:
            if not self._has_loaded:
                await asyncio.to_thread(_load_workers)
                freeze_startup_objects()
                self._has_loaded = True

    def _wake_senders(self) -> None:
        for topic in ("outbox", "webhook"):
            self.wake.notify(topic)

    async def _health(self, address: str) -> Health:
        parts, place = self.parts, parse_listen(address)
        status = DaemonStatus(
            parts.settings,
            parts.clock,
            parts.database,
            await parts.spool(),
            parts.tokens,
            self.accept,
        )
        health = Health(place.host, place.port, status.check, status.measure)
        await _bound(health.start(), address)
        return health

    async def _ingress(self) -> list[Service]:
        if left := remove_leftovers(self.parts.settings.blobs.url):
            _log.info("removed leftovers of a crash", files=left)
        directory = ChannelDirectory(self.parts.database)
        await directory.refresh()
        self.accept = accept = await self.parts.acceptor(wake=lambda: self.wake.notify("mail"))
        sweep = SweepService(self.parts.database, (await self.parts.spool()).blobs)
        mailboxes = await self._mailboxes(directory, accept)
        return [sweep, *mailboxes, *await self._listeners(directory, accept)]

    async def _mailboxes(self, directory: ChannelDirectory, accept: Acceptor) -> list[Service]:
        """Return the services that read mailboxes or save copies of sent mail in them."""
        given = accounts(self.parts.settings)
        if not given:
            return []
        for each in given:
            if await directory.lookup(each.channel) != "ours":
                channel = log.address(each.channel)
                _log.warning(
                    "mailbox belongs to no channel", mailbox=each.log_name, channel=channel
                )
        database, clock, tokens = self.parts.database, self.parts.clock, self.parts.tokens
        services: list[Service] = [Watcher(given, accept, Mailboxes(database), tokens, clock)]
        if any(each.sent_folder for each in given):
            services.append(SentCopies(given, database, tokens, clock))
        return services

    async def _listeners(self, directory: ChannelDirectory, accept: Acceptor) -> list[Service]:
        """Bind the SMTP and LMTP listeners and return them as services."""
        smtp, lmtp = self.parts.settings.smtp, self.parts.settings.lmtp
        certificate = (
            Certificate(Path(smtp.tls_certificate), Path(smtp.tls_key))
            if smtp.tls_certificate
            else None
        )
        settings = ListenerSettings(
            accept=accept,
            directory=directory,
            clock=self.parts.clock,
            limits=self.parts.limits,
            hostname=smtp.hostname,
            bare_newline=smtp.bare_newline,
            certificate=certificate,
            proxy_from=smtp.proxy_from,
            results_from=self.parts.settings.auth_results.peers,
        )
        services: list[Service] = []
        for name, listen, server in (
            ("smtp", smtp.listen, SmtpServer),
            ("lmtp", lmtp.listen, LmtpServer),
        ):
            if listen:
                listener = server(listen, settings)
                await _bound(listener.start(), ", ".join(listen))
                self.listening += [f"{name} {address}" for address in listener.addresses]
                services.append(ListenerService(name, listener, accept))
        return services

    def welcome(self) -> list[str]:
        """Return the lines that show a newcomer the first commands to try (interfaces.md 1)."""
        lines = ["ticketgate is running.", *(f"  {each}" for each in self.listening)]
        if self.parts.settings.smtp.listen:
            smtp = next((each for each in self.listening if each.startswith("smtp ")), "")
            host, _, port = smtp.removeprefix("smtp ").rpartition(":")
            lines += [
                "Send a first mail:      .venv/bin/ticketgate send-test",
                (
                    f"  or with swaks:        swaks --server {host}:{port} --to support@localhost "
                    "--from customer@example.com"
                ),
                "Then look at it:        .venv/bin/ticketgate ticket list",
            ]
        return [*lines, "Ctrl-C drains and stops."]


async def _bound(starting: Awaitable[None], where: str) -> None:
    """Wait until a socket is open; raise Unavailable if its address cannot be bound."""
    try:
        await starting
    except OSError as error:
        raise Unavailable(f"cannot listen on {where}: {os.strerror(error.errno or 0)}") from None
